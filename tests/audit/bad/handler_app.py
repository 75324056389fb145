import os

from sqlalchemy import create_engine

engine = create_engine("postgresql+psycopg://shop@localhost/shop")
# finds: uwsgi-register-at-fork-needs-an-option
os.register_at_fork(after_in_child=lambda: engine.dispose(close=False))
