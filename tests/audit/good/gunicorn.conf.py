from gunicorn_postfork import post_fork  # noqa: F401

preload_app = True
workers = 4
max_requests = 1000
