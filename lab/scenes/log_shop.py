"""A shop in Flask, for uWSGI and gunicorn, that reads its items while it is imported if the settings say so."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

from flask import Flask, jsonify, request
from sqlalchemy import select, text
from sqlalchemy.orm import scoped_session, sessionmaker

from lab.scenes.log_models import Item, Order, make_engine, settings

home = Path(settings["home"])
engine = make_engine(**settings.get("options", {}))
Session = scoped_session(sessionmaker(engine))
application = Flask(__name__)

if settings.get("reads_at_import"):
    with engine.connect() as connection:
        connection.execute(text("select count(*) from item")).scalar_one()


@application.teardown_appcontext
def remove_session(problem):
    if settings.get("removes", True):
        Session.remove()


@application.get("/")
def index():
    return jsonify([item.name for item in Session.scalars(select(Item).order_by(Item.id))])


@application.get("/turn")
def turn():
    """Every worker has a request, and then they read one after the other."""
    call = home / f"roll-{request.args['lap']}"
    with call.open("a") as present:
        present.write(f"{os.getpid()}\n")
    deadline = time.monotonic() + 20
    while len(set(call.read_text().split())) < settings["workers"] and time.monotonic() < deadline:
        time.sleep(0.005)
    with (home / "turn").open("a") as turns:
        fcntl.flock(turns, fcntl.LOCK_EX)
        return index()


@application.get("/order/<int:number>")
def order(number):
    return jsonify(Session.get_one(Order, number).customer.email)


@application.get("/stock/<int:number>")
def stock(number):
    item = Session.get_one(Item, number)
    item.stock -= 1
    Session.flush()
    Session.refresh(item)
    Session.commit()
    return jsonify(item.stock)


@application.get("/add")
def add():
    Session.add(Item(id=int(request.args["id"]), name="new", stock=1))
    Session.commit()
    return jsonify("added")


@application.get("/settings")
def options():
    return jsonify(settings["currency"])


@application.get("/slow")
def slow():
    Session.scalars(select(Item)).first()
    time.sleep(float(request.args["seconds"]))
    return jsonify("done")


@application.get("/report")
def report():
    held = [sessionmaker(engine)() for _ in range(int(request.args["sessions"]))]
    return jsonify([session.scalars(select(Item)).first().name for session in held])


@application.get("/wait")
def wait():
    threading.Event().wait()
