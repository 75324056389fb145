workers = 4
worker_class = "gthread"
threads = 8


def post_fork(server, worker):
    from shop import engine

    engine.dispose()
