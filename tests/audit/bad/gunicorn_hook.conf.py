from mysqlclient_hook import engine

preload_app = True
workers = 4
wsgi_app = "mysqlclient_hook:application"


def post_fork(server, worker):
    # finds: forkers-hook-dispose
    engine.dispose(close=False)
