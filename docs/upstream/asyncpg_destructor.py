"""A child lets go of an inherited connection, and its parent waits for ever: python FILE HOST PORT USER DATABASE"""

import asyncio
import gc
import os
import sys

import asyncpg

host, port, user, database = sys.argv[1:]
address = {"host": host, "port": int(port), "user": user, "database": database, "ssl": False}
loop = asyncio.new_event_loop()
connection = loop.run_until_complete(asyncpg.connect(**address))

if not (child := os.fork()):
    del connection
    gc.collect()
    os._exit(0)
os.waitpid(child, 0)

answer = connection.fetchval("select 'the parent goes on'")
print(loop.run_until_complete(asyncio.wait_for(answer, timeout=5)))
