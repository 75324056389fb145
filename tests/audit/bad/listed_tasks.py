from flask import Flask
from flask_sqlalchemy import SQLAlchemy

# finds: forkers-share-the-connection
db = SQLAlchemy(Flask("shop"))
