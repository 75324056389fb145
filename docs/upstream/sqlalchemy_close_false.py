"""A forked child calls ``dispose(close=False)``, and its parent's connection is gone: python FILE URL"""

import gc
import os
import sys

from sqlalchemy import create_engine, text

engine = create_engine(sys.argv[1])
with engine.connect() as connection:
    connection.execute(text("select 1"))

if not (child := os.fork()):
    engine.dispose(close=False)
    gc.collect()
    os._exit(0)
os.waitpid(child, 0)

with engine.connect() as connection:
    print(connection.scalar(text("select 'the parent goes on'")))
