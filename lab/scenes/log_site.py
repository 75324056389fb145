"""A site in Flask with Flask-SQLAlchemy, whose threads know nothing of the application."""

from __future__ import annotations

import logging
import threading

from flask import Flask, jsonify
from flask_sqlalchemy import SQLAlchemy

from lab.scenes.log_models import Base, Item, settings

application = Flask(__name__)
application.config["SQLALCHEMY_DATABASE_URI"] = settings["engine"]["url"]
application.config["SQLALCHEMY_ENGINE_OPTIONS"] = {"connect_args": settings["engine"].get("connect_args", {})}
application.logger.setLevel(logging.INFO)
db = SQLAlchemy(application, model_class=Base)


def mail(number):
    application.logger.info("mail about %s", db.session.get(Item, number).name)


@application.get("/buy/<int:number>")
def buy(number):
    threading.Thread(name="mailer", target=mail, args=[number]).start()
    return jsonify("thank you")
