worker_class = "gevent"
wsgi_app = "patient"
