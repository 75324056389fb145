"""A private nginx that caches what an application answers, and a client that shows the headers."""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lab import components, evidence
from lab.process import folder, kept, unprivileged

# A socket in its folder, not a port: nobody can take it first. The rest is what guides to nginx's cache show.
_CONFIG = """
daemon off;
worker_processes 1;
pid {home}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    proxy_cache_path {home}/cache keys_zone=pages:1m;
    server {{
        listen unix:{home}/http;
        location / {{
            proxy_pass http://127.0.0.1:{port};
            proxy_cache pages;
            proxy_cache_valid 200 10m;
            add_header X-Cache-Status $upstream_cache_status;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Answer:
    """The body of a response, and its headers by lower-case name."""

    body: str
    headers: Mapping[str, str]


@contextlib.contextmanager
def http_cache(port: int) -> Iterator[Path]:
    """An nginx that keeps what the server on *port* answers for ten minutes, unless its headers forbid it.

    The block gets the path of the socket on which it listens.

    Raises:
        components.Missing: nginx is not installed.
        LabError: it does not start.
    """
    binary = components.need("nginx")
    user = unprivileged()
    with folder(user) as home:
        config, place = home / "nginx.conf", home / "http"
        config.write_text(_CONFIG.format(home=home, port=port))
        config.chmod(0o644)
        with kept([binary, "-p", home, "-c", config], home, name="nginx", user=user) as process:
            process.wait_for(lambda: _listens(place), "start")
            evidence.saw("nginx", re.search(r"nginx/(\S+)", components.version("nginx"))[1])
            yield place


def ask(where: int | Path, path: str = "/", *, method: str = "GET", headers: Mapping[str, str] = {}) -> Answer:
    """Ask the server on a loopback port, or on a socket in the file system.

    Raises:
        OSError: it does not answer within ten seconds.
    """
    connection = http.client.HTTPConnection("127.0.0.1", where if isinstance(where, int) else None, timeout=10)
    with contextlib.closing(connection):
        if isinstance(where, Path):
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(10)
            connection.sock.connect(str(where))
        connection.request(method, path, headers=dict(headers))
        response = connection.getresponse()
        return Answer(response.read().decode(), {name.lower(): value for name, value in response.getheaders()})


def _listens(place: Path) -> bool:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(place))
        return True
    return False
