"""A private nginx in front of application servers, and a load on it."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lab import components, evidence, keeper
from lab.databases import free_port
from lab.process import Kept, LabError, environment, folder, kept, unprivileged

# Everything that nginx writes lies in its folder; what its package compiled in is not for a private one.
_CONFIG = """
daemon off;
worker_processes 1;
pid {home}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    keepalive_requests 10000000;
    server {{
        listen 127.0.0.1:{port};
        {locations}
    }}
}}
"""
# What a WSGI application must be told, as in the file `uwsgi_params` that nginx comes with.
_UWSGI_PARAMS = {
    "QUERY_STRING": "$query_string",
    "REQUEST_METHOD": "$request_method",
    "CONTENT_TYPE": "$content_type",
    "CONTENT_LENGTH": "$content_length",
    "REQUEST_URI": "$request_uri",
    "PATH_INFO": "$document_uri",
    "DOCUMENT_ROOT": "$document_root",
    "SERVER_PROTOCOL": "$server_protocol",
    "REQUEST_SCHEME": "$scheme",
    "REMOTE_ADDR": "$remote_addr",
    "REMOTE_PORT": "$remote_port",
    "SERVER_PORT": "$server_port",
    "SERVER_NAME": "$server_name",
}


@dataclass(frozen=True)
class Nginx:
    """A running nginx that listens on ``port``."""

    process: Kept
    port: int

    def pids(self) -> list[int]:
        """Its master and its workers."""
        return keeper.descendants(self.process.keeper.pid)


@dataclass(frozen=True)
class Load:
    """What wrk did: ``requests`` in ``seconds``, and how many of them went wrong."""

    requests: int
    seconds: float
    failed: int


@contextlib.contextmanager
def nginx(locations: Mapping[str, str], *, tries: int = 5) -> Iterator[Nginx]:
    """An nginx that passes each of *locations* on: path to ``uwsgi://ADDRESS`` or ``http://ADDRESS``.

    It speaks to the servers behind it as it does by default: HTTP/1.0 for ``http://``, a new connection per request.

    Raises:
        components.Missing: nginx is not installed.
        LabError: it does not start.
    """
    binary = components.need("nginx")
    user = unprivileged()
    blocks = "\n".join(f"location {path} {{ {_pass(target)} }}" for path, target in locations.items())
    with folder(user) as home, contextlib.ExitStack() as stack:
        for attempt in range(tries):
            port = free_port()
            config = home / "nginx.conf"
            config.write_text(_CONFIG.format(home=home, port=port, locations=blocks))
            config.chmod(0o644)
            command = [binary, "-p", home, "-c", config]
            process = stack.enter_context(kept(command, home, name="nginx", user=user, log=home / f"{attempt}.log"))
            try:
                process.wait_for(lambda: _answers(port), "start")  # noqa: B023 - called within the iteration
                break
            except LabError:
                if "Address already in use" not in process.text() or attempt == tries - 1:
                    raise
        evidence.saw("nginx", re.search(r"nginx/(\S+)", components.version("nginx"))[1])
        yield Nginx(process, port)


def wrk(url: str, *, seconds: int, connections: int = 8) -> Load:
    """Load *url* for so many seconds over *connections* connections that are kept alive.

    Raises:
        components.Missing: wrk is not installed.
        LabError: it failed.
    """
    command = [components.need("wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", url]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=seconds + 30)
    found = re.search(r"(\d+) requests in ([\d.]+)(ms|s|m)", done.stdout)
    if done.returncode or not found:
        raise LabError(f"wrk failed: {(done.stderr or done.stdout).strip()[:200]}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", done.stdout)
    failed = sum(int(number) for match in (refused, broken) if match for number in match.groups())
    return Load(int(found[1]), float(found[2]) * {"ms": 0.001, "s": 1, "m": 60}[found[3]], failed)


def _pass(target: str) -> str:
    if target.startswith("http://"):
        return f"proxy_pass {target};"
    params = " ".join(f"uwsgi_param {name} {value};" for name, value in _UWSGI_PARAMS.items())
    return f"{params} uwsgi_pass {target.removeprefix('uwsgi://')};"


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
