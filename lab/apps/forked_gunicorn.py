"""What is in ``gunicorn.conf.py``: the hook that gunicorn calls in a new worker."""

from __future__ import annotations

import json
import multiprocessing
import os

settings = json.loads(os.environ["LAB_APP"])
if settings["start_method"]:
    multiprocessing.set_start_method(settings["start_method"])

if settings["remedy"] == "recipe gunicorn_postfork":
    from recipes.gunicorn_postfork import post_fork
else:

    def post_fork(server, worker):
        # Not at the top: without --preload the master does not import the application, and must not do so here.
        from lab.apps import forked

        forked.hook("post_fork")
