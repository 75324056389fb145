"""A worker of RQ that has imported the application, as RQ's documentation advises for speed.

Run as ``python -m lab.apps.forked_rq CLASS``.
"""

from __future__ import annotations

import sys

import rq
from redis import Redis

from lab.apps import forked


def main() -> None:
    connection = Redis(unix_socket_path=str(forked.home / "redis"))
    getattr(rq.worker, sys.argv[1])(["jobs"], connection=connection).work(logging_level="INFO")


if __name__ == "__main__":
    main()
