import os

from sqlalchemy import create_engine

engine = create_engine("postgresql+psycopg://shop@localhost/shop")


def forget():
    engine.dispose(close=False)


os.register_at_fork(after_in_child=forget)
