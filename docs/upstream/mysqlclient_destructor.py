"""A forked child lets go of its parent's connection, which ends it: python FILE HOST PORT USER DATABASE"""

import gc
import os
import sys

import MySQLdb

host, port, user, database = sys.argv[1:]
connection = MySQLdb.connect(host=host, port=int(port), user=user, database=database)

if not (child := os.fork()):
    del connection
    gc.collect()
    os._exit(0)
os.waitpid(child, 0)

cursor = connection.cursor()
cursor.execute("select 'the parent goes on'")
print(cursor.fetchone()[0])
