"""The application of :mod:`lab.apps.forked` as a task of Celery."""

from __future__ import annotations

import multiprocessing

from celery import Celery
from celery.signals import worker_process_init

from lab.apps import forked
from lab.brokers import celery_settings

if forked.settings["start_method"]:
    multiprocessing.set_start_method(forked.settings["start_method"])
app = Celery("forked")
app.conf.update(celery_settings(forked.home))
app.task(forked.job, name="job")


@worker_process_init.connect
def start_process(**_):
    forked.hook("worker_process_init")
