"""What people do about a prefork server: each remedy, and each that is none, is one row.

A row says what it changes in ``create_engine``, what it does before the engine is used and at the end of the import,
and which options it gives to uWSGI. The module is imported by the application that runs under the server.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine, NullPool, event, exc

from recipes import fork_safe_engine, uwsgi_postfork


@dataclass(frozen=True)
class Remedy:
    """One row.

    Attributes:
        engine: goes to ``create_engine``.
        prepare: runs before the engine is used.
        install: runs at the end of the import.
        options: go to uWSGI.
    """

    name: str
    engine: Mapping[str, Any] = field(default_factory=dict)
    prepare: Callable[[Engine], object] = lambda engine: None
    install: Callable[[Engine], object] = lambda engine: None
    options: Mapping[str, Any] = field(default_factory=dict)


def _postfork(action: Callable[[Engine], object]) -> Callable[[Engine], object]:
    def install(engine: Engine) -> None:
        from uwsgidecorators import postfork

        postfork(lambda: action(engine))

    return install


def _hook_post_fork(engine: Engine) -> None:
    import uwsgi

    def forget() -> bytes:
        engine.dispose(close=False)
        # uWSGI takes a hook that returns no bytes for a failure and ends the worker.
        return b"done"

    uwsgi.register_rpc("forget", forget)


def _register_at_fork(engine: Engine) -> None:
    os.register_at_fork(after_in_child=lambda: engine.dispose(close=False))


def documented_pid_guard(engine: Engine) -> None:
    """The guard of SQLAlchemy's documentation on pooling and ``os.fork()``: refuse a connection of another process.

    https://docs.sqlalchemy.org/en/21/core/pooling.html#using-connection-pools-with-multiprocessing-or-os-fork
    """

    @event.listens_for(engine, "connect")
    def remember(dbapi_connection, record):
        record.info["pid"] = os.getpid()

    @event.listens_for(engine, "checkout")
    def refuse(dbapi_connection, record, proxy):
        if record.info["pid"] != os.getpid():
            record.dbapi_connection = proxy.dbapi_connection = None
            raise exc.DisconnectionError("this connection belongs to another process")


REMEDIES = {
    remedy.name: remedy
    for remedy in (
        Remedy("none"),
        Remedy("lazy", options={"lazy": True}),
        Remedy("lazy-apps", options={"lazy-apps": True}),
        Remedy("@postfork, dispose(close=False)", install=_postfork(lambda engine: engine.dispose(close=False))),
        Remedy("@postfork, dispose()", install=_postfork(lambda engine: engine.dispose())),
        Remedy("hook-post-fork, rpc", install=_hook_post_fork, options={"hook-post-fork": "rpc:forget"}),
        Remedy("dispose() at the end of import", install=lambda engine: engine.dispose()),
        Remedy("NullPool", engine={"poolclass": NullPool}),
        Remedy("documented pid guard", prepare=documented_pid_guard),
        Remedy("os.register_at_fork", install=_register_at_fork),
        Remedy(
            "os.register_at_fork, py-call-osafterfork",
            install=_register_at_fork,
            options={"py-call-osafterfork": True},
        ),
        Remedy(
            "os.register_at_fork, py-call-uwsgi-fork-hooks",
            install=_register_at_fork,
            options={"py-call-uwsgi-fork-hooks": True},
        ),
        Remedy("recipe fork_safe_engine", prepare=fork_safe_engine.protect),
        Remedy("recipe uwsgi_postfork", install=uwsgi_postfork.install),
        Remedy("pool_pre_ping=True", engine={"pool_pre_ping": True}),
        Remedy("pool_recycle=3600", engine={"pool_recycle": 3600}),
        Remedy("pool_reset_on_return=None", engine={"pool_reset_on_return": None}),
        Remedy("isolation_level=AUTOCOMMIT", engine={"isolation_level": "AUTOCOMMIT"}),
        Remedy("close-on-exec", options={"close-on-exec": True, "close-on-exec2": True}),
    )
}
