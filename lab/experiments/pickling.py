"""What a parent can hand to a child that is spawned instead of forked (F5)."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence

from lab.drivers import load
from lab.evidence import Effort, arm, experiment
from lab.experiments.moment import databases
from lab.process import folder, play
from lab.shapes import Arm, Check, Outcome, Role, Setup, Tally, Trial

USES = ["lab/scenes/pickling.py"]
METHODS = {
    "spawn": "multiprocessing, spawn",
    "forkserver": "multiprocessing, forkserver",
    "executor": "ProcessPoolExecutor, spawn",
}

BOUND = ("an Engine", "a Connection", "a Session", "a sessionmaker", "a scoped_session")
TEXT, HIDDEN = "render_as_string(hide_password=False)", "str(engine.url)"
PLAIN = ("engine.url", TEXT, "the URL and a primary key", "a loaded object")


@experiment("fork-engine-does-not-pickle", seeds=["F5"], uses=USES)
def pickles(effort: Effort) -> Iterator[Arm]:
    with folder() as home:
        url = f"sqlite:///{home / 'db'}"
        refused = [Check("error", "==", 1), Check("pickle", "==", True)]
        cases: list[tuple[str, Role, list[Check]]] = [(thing, "hazard", refused) for thing in BOUND]
        cases += [(thing, "remedy", [Check("right", "==", 1)]) for thing in PLAIN]
        yield from _arms(effort, Setup("sqlite", "sqlite"), lambda: url, cases)


@experiment("fork-str-url-hides-password", seeds=["F5"], uses=[*USES, "lab/experiments/moment.py"])
def password(effort: Effort) -> Iterator[Arm]:
    with databases() as database:

        def url() -> str:
            load("PyMySQL")
            server = database("mariadb")
            server.ask("create user keeper@'127.0.0.1' identified by 'secret'")
            server.ask("grant all on lab.* to keeper@'127.0.0.1'")
            return f"mysql+pymysql://keeper:secret@127.0.0.1:{server.port}/lab"

        refused = [Check("error", "==", 1), Check("pickle", "==", False)]
        cases: list[tuple[str, Role, list[Check]]] = [(HIDDEN, "hazard", refused)]
        cases += [(thing, "remedy", [Check("right", "==", 1)]) for thing in ("engine.url", TEXT)]
        yield from _arms(effort, Setup("mariadb", "PyMySQL"), url, cases)


def _arms(effort: Effort, base: Setup, url, cases: Sequence[tuple[str, Role, list[Check]]]) -> Iterator[Arm]:
    methods = tuple(METHODS)[: effort.pick(len(METHODS), 1)]

    @functools.cache
    def told() -> dict:
        return play("lab.scenes.pickling", url=url(), things=[thing for thing, *_ in cases], methods=methods)

    for method in methods:
        for thing, role, checks in cases:
            it = Setup(base.database, base.driver, server=METHODS[method], workers=1, child=f"is handed {thing}")

            def run(thing: str = thing, method: str = method) -> Iterator[Trial]:
                got = told()[thing][method]
                message = got.get("message", "")
                # Of what pickle refuses the child hears nothing.
                facts = {"message": message, "pickle": "pickle" in message}
                yield Trial(Tally.of([Outcome(got["kind"], message)]), facts=facts)

            yield arm(f"{thing}, {METHODS[method]}", role, it, checks, run)
