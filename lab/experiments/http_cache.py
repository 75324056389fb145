"""A cache in front of the application: the Session is right, and the visitor sees the old page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from lab.databases import Database, start
from lab.drivers import arguments
from lab.evidence import Effort, arm, experiment
from lab.http_cache import ask, http_cache
from lab.servers import gunicorn
from lab.shapes import Arm, Check, Role, Setup, Trial

APP = "lab.apps.cached_pages"
USES = ["lab/apps/cached_pages.py", "lab/http_cache.py"]
OLD = {"through the proxy": "old", "X-Cache-Status": "HIT", "a forced reload": "old"}
NEW = {"through the proxy": "new", "X-Cache-Status": "MISS", "a forced reload": "new"}
ASIDE = {"an address not asked for before": "new", "the application itself": "new", "the database": "new"}


@experiment("http-cache-stale", uses=USES)
def http_cache_stale(effort: Effort) -> Iterator[Arm]:
    for role, says in (
        ("hazard", ""),
        ("hazard", "public, max-age=60"),
        ("remedy", "no-store"),
        ("remedy", "no-cache"),
        ("remedy", "private"),
    ):
        yield _arm(role, says, effort.pick(5, 1))


def _arm(role: Role, says: str, times: int) -> Arm:
    name = f"Cache-Control: {says}" if says else "no Cache-Control"
    expected = (OLD if role == "hazard" else NEW) | ASIDE
    checks = [Check(fact, "==", value) for fact, value in expected.items()]
    setup = Setup("sqlite", "sqlite", server="gunicorn + nginx", remedy=name, workers=1)
    return arm(name, role, setup, checks, _trials(says, times))


def _trials(says: str, times: int) -> Callable[[], Iterator[Trial]]:
    def run() -> Iterator[Trial]:
        with start("sqlite") as database:
            database.ask("create table page (id integer primary key, title text)")
            database.ask("insert into page values (1, 'old')")
            settings = {"engine": arguments("sqlite", database), "cache_control": says}
            with gunicorn(APP, workers=1, settings=settings) as server:
                for _ in range(times):
                    # A cache of its own for each: what one has kept is not given to the next.
                    with http_cache(server.port) as proxy:
                        yield _visit(proxy, server.port, database)

    return run


def _visit(proxy: Path, application: int, database: Database) -> Trial:
    ask(proxy, "/?title=old", method="POST")
    ask(proxy)
    ask(proxy, "/?title=new", method="POST")
    answer = ask(proxy)
    facts = {
        "through the proxy": answer.body,
        "X-Cache-Status": answer.headers["x-cache-status"],
        "Age": answer.headers.get("age", "none"),
        "a forced reload": ask(proxy, headers={"Cache-Control": "no-cache", "Pragma": "no-cache"}).body,
        "an address not asked for before": ask(proxy, "/?nobody-asked").body,
        "the application itself": ask(application).body,
        "the database": database.ask("select title from page")[0][0],
    }
    return Trial(facts=facts)
