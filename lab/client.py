"""An HTTP client that can be rude: it sends one request and reads to the end, or goes away in the middle."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse


@dataclass(frozen=True)
class Reply:
    """``error`` is what the client noticed; "" if the response was, for all that it could tell, complete."""

    status: int = 0
    body: bytes = b""
    error: str = ""


def request(port: int, path: str, method: str = "GET", *, seconds: float = 20.0) -> Reply:
    """Send one request and read the response to its end, within *seconds* for each step."""
    with socket.create_connection(("127.0.0.1", port), seconds) as connection:
        connection.sendall(_head(path, method))
        response = HTTPResponse(connection, method=method)
        status = 0
        try:
            response.begin()
            status = response.status
            body = response.read()
            # To HEAD there is none, and who hung up at once would be gone before the server is done.
            while method == "HEAD" and connection.recv(4096):
                pass
            return Reply(status, body)
        except (HTTPException, OSError) as problem:
            return Reply(status, getattr(problem, "partial", b""), f"{type(problem).__name__}: {problem}")
        finally:
            response.close()


def leave(port: int, path: str, *, seconds: float = 20.0) -> None:
    """Send a request, wait for the first bytes of the response, and reset the connection."""
    with socket.socket() as connection:
        connection.settimeout(seconds)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.sendall(_head(path, "GET"))
        connection.recv(1024)
        # With a linger time of zero, close() sends RST.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _head(path: str, method: str) -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
