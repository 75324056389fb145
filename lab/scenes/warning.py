"""A script, not a module: a process forks, and tells what warnings that gave. Only the standard library.

Its arguments: ``thread`` for a second thread that waits and holds nothing; ``socket`` for an open connection, on which
the child speaks and then the parent.
"""

import json
import os
import socket
import sys
import threading
import warnings


def main(thread: bool, connected: bool) -> dict:
    end = threading.Event()
    if thread:
        threading.Thread(target=end.wait).start()
    client, server = socket.socketpair() if connected else (None, None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pid = os.fork()
        if not pid:
            if client:
                client.sendall(b"child ")
            os._exit(0)
    os.waitpid(pid, 0)
    if client:
        client.sendall(b"parent")
        client.close()
    heard = b"".join(iter(lambda: server.recv(100), b"")).decode() if server else ""
    end.set()
    said = [f"{warning.category.__name__}: {warning.message}".replace(str(os.getpid()), "N") for warning in caught]
    return {"said": said, "heard": heard}


if __name__ == "__main__":
    print(json.dumps(main("thread" in sys.argv, "socket" in sys.argv)))
