"""A site that starts its scheduler of jobs while it is imported: once in each worker."""

from __future__ import annotations

import logging

from apscheduler.schedulers.background import BackgroundScheduler
from flask import Flask
from sqlalchemy import select
from sqlalchemy.orm import Session

from lab.scenes.log_models import Customer, make_engine

logging.basicConfig(format="%(asctime)s [%(process)d] %(levelname)s %(name)s: %(message)s", level=logging.INFO)
log = logging.getLogger("shop.invoices")
engine = make_engine()
application = Flask(__name__)


def send_invoices():
    with Session(engine) as session:
        for customer in session.scalars(select(Customer).order_by(Customer.id)):
            log.info("invoice to %s", customer.email)


scheduler = BackgroundScheduler()
scheduler.add_job(send_invoices, "interval", seconds=2, id="send_invoices")
scheduler.start()


@application.get("/")
def index():
    return "shop"
