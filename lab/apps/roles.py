"""An application that does work outside of requests: in a mule, in the spooler, by a timer and by a cron job.

Each is started by a request of its own, so that no two of them ever speak at once, and notes which process it ran in
and which backend answered it. The hazard is that of :mod:`lab.apps.prefork`: one question while it is imported.
"""

from __future__ import annotations

import json
import os
from urllib.parse import parse_qs

import uwsgi

if uwsgi.i_am_the_spooler():
    # A new spooler may be without descriptor 0, and puts /dev/null there after it has loaded its modules. A connection
    # that was opened in between would be lost (https://github.com/unbit/uwsgi/issues/2409), so let a file have it.
    os.open(os.devnull, os.O_RDONLY)

from lab.apps.prefork import application as ask_application
from lab.apps.prefork import ask, note

TIMER, CRON = 1, 2
START = {
    "/mule": lambda: uwsgi.mule_msg(b"tell"),
    "/spooler": lambda: uwsgi.spool({b"do": b"tell"}),
    "/timer": lambda: uwsgi.add_rb_timer(TIMER, 1, 1),
    "/cron": lambda: uwsgi.add_cron(CRON, -1, -1, -1, -1, -1),
}


def tell(event: str) -> int:
    note(event, process=process(), **ask(event))
    return uwsgi.SPOOL_OK


def process() -> str:
    if uwsgi.mule_id():
        return "mule"
    if uwsgi.i_am_the_spooler():
        return "spooler"
    return "worker" if uwsgi.worker_id() else "master"


def application(environ, start_response):
    start = START.get(environ["PATH_INFO"])
    if not start:
        return ask_application(environ, start_response)
    start()
    start_response("200 OK", [("Content-Type", "application/json")])
    nonce = parse_qs(environ["QUERY_STRING"])["nonce"][0]
    return [json.dumps({"nonce": nonce, "pid": os.getpid(), "backend": 0}).encode()]


uwsgi.mule_msg_hook = lambda message: tell("mule")
uwsgi.spooler = lambda task: tell("spooler")
if not uwsgi.mule_id() and not uwsgi.i_am_the_spooler():
    uwsgi.register_signal(TIMER, "", lambda number: tell("timer"))
    uwsgi.register_signal(CRON, "", lambda number: tell("cron"))

if __name__ == "__main__":
    # `--mule=roles.py` runs this file, and would run it again if it ended.
    while uwsgi.mule_get_msg():
        tell("mule")
