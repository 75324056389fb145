"""Serve a WSGI application with a server that has no program of its own: ``python -m lab.apps.serve SERVER MODULE``."""

from __future__ import annotations

import importlib
import sys
from importlib import metadata
from wsgiref import simple_server

import waitress
from werkzeug import serving

from lab.wsgi import Application


def _wsgiref(app: Application) -> tuple[int, object]:
    server = simple_server.make_server("127.0.0.1", 0, app)
    return server.server_port, server.serve_forever


def _werkzeug(app: Application) -> tuple[int, object]:
    server = serving.make_server("127.0.0.1", 0, app)
    return server.server_port, server.serve_forever


def _waitress(app: Application) -> tuple[int, object]:
    server = waitress.create_server(app, host="127.0.0.1", port=0, threads=1)
    return server.effective_port, server.run


SERVERS = {"wsgiref": _wsgiref, "Werkzeug": _werkzeug, "waitress": _waitress}


def main(name: str, module: str) -> None:
    port, serve = SERVERS[name](importlib.import_module(module).application)
    version = sys.version.split()[0] if name == "wsgiref" else metadata.version(name)
    print(f"{name} {version} serves port {port}", flush=True)
    serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
