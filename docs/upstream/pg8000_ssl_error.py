"""A record that does not decrypt raises ssl.SSLError instead of InterfaceError: python FILE HOST PORT USER DATABASE"""

import os
import sys

import pg8000.dbapi

host, port, user, database = sys.argv[1:]
connection = pg8000.dbapi.connect(user, host=host, port=int(port), database=database, ssl_context=True)
cursor = connection.cursor()
cursor.execute("select 1")

# Two processes on one connection is a fault of the caller's, and an easy way to have such a record.
if not (child := os.fork()):
    cursor.execute("select 1")
    os._exit(0)
os.waitpid(child, 0)

try:
    cursor.execute("select 'the parent goes on'")
except pg8000.dbapi.Error as problem:
    print(f"caught {type(problem).__name__}")
