"""The smallest application: one fixed answer, so that what is measured is the way to it; for ``/work`` it takes
two milliseconds to make, as an application might."""

import time

BODY = b"Hello, world\n"
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]
WORK = 0.002


def application(environ, start_response):
    if environ["PATH_INFO"].endswith("/work"):
        done = time.process_time() + WORK
        while time.process_time() < done:
            pass
    start_response("200 OK", HEADERS)
    return [BODY]
