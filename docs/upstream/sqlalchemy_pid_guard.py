"""A forked child uses the guard of the documentation, and its parent's connection is gone: python FILE URL"""

import gc
import os
import sys

from sqlalchemy import create_engine, event, exc, text

engine = create_engine(sys.argv[1])


@event.listens_for(engine, "connect")
def connect(dbapi_connection, connection_record):
    connection_record.info["pid"] = os.getpid()


@event.listens_for(engine, "checkout")
def checkout(dbapi_connection, connection_record, connection_proxy):
    pid = os.getpid()
    if connection_record.info["pid"] != pid:
        connection_record.dbapi_connection = connection_proxy.dbapi_connection = None
        raise exc.DisconnectionError(f"Connection belongs to pid {connection_record.info['pid']}, not to pid {pid}")


with engine.connect() as connection:
    connection.execute(text("select 1"))

if not (child := os.fork()):
    with engine.connect() as connection:
        connection.execute(text("select 1"))
    gc.collect()
    os._exit(0)
os.waitpid(child, 0)

with engine.connect() as connection:
    print(connection.scalar(text("select 'the parent goes on'")))
