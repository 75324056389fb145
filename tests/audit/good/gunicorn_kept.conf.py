import ctypes

from sqlalchemy import create_engine

engine = create_engine("mysql+mysqldb://shop@localhost/shop")
preload_app = True
workers = 4


def post_fork(server, worker):
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(engine.pool))
    engine.dispose(close=False)
