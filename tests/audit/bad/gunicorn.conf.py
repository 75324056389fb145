import multiprocessing

workers = multiprocessing.cpu_count() * 2 + 1
# finds: gunicorn-preload-breaks
preload_app = True
# finds: forkers-respawn-inherits
max_requests = 1000


def post_fork(server, worker):
    server.log.info("worker %s", worker.pid)
