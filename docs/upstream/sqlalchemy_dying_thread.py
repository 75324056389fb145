"""Threads that end without remove() keep their connections until the garbage collector runs: python FILE URL"""

import gc
import sys
import threading

from sqlalchemy import create_engine, text
from sqlalchemy.exc import TimeoutError
from sqlalchemy.orm import scoped_session, sessionmaker

engine = create_engine(sys.argv[1], pool_timeout=1)
Session = scoped_session(sessionmaker(engine))
answered = []


def ask():
    try:
        answered.append(Session.scalar(text("select 1")))
    except TimeoutError as problem:
        print(str(problem).partition(" (")[0])


# When it would run is a matter of what else the program allocates.
gc.disable()
while len(answered) < 20:
    before = len(answered)
    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    if len(answered) == before:
        break
print(len(answered), "threads have asked, one at a time;", engine.pool.checkedout(), "connections are checked out")
