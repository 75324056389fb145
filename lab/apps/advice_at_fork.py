"""A web application of the standard library alone: it tells which handlers of ``os.register_at_fork`` have run.

Other versions of Python import it under a uWSGI of their own, so that it needs nothing that is installed here.
"""

import json
import os

ran = []
os.register_at_fork(after_in_child=lambda: ran.append("after_in_child"))


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"pid": os.getpid(), "ran": ran}).encode()]
