from gunicorn_postfork import start_empty
from shop import engine

preload_app = True
workers = 4


def post_fork(server, worker):
    start_empty(engine)
