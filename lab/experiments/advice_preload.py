"""What an import has to do before a master forks to leave a connection for all children (C11)."""

from __future__ import annotations

from collections.abc import Iterator

from lab.databases import Database, start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm, experiment
from lab.process import play
from lab.shapes import Arm, Check, Outcome, Role, Setup, Tally, Trial

SCENE = "lab.scenes.advice_preload"
DRIVERS = ("psycopg2", "PyMySQL", "psycopg", "mysqlclient")
CHILDREN = 2

MOMENTS: dict[Role, tuple[str, ...]] = {
    "hazard": (
        "connect() without a statement",
        "one SELECT for the configuration",
        "the migration's version",
        "create_all",
        "reflection",
        "has_table",
        "a health check in create_app",
    ),
    "control": ("models, configure_mappers, a scoped_session", "a Session opened and closed without a query"),
    "remedy": ("one SELECT, then dispose()", "one SELECT on an engine of its own with NullPool"),
}
SHARED = [Check("pooled", "==", 1), Check("inherited", "==", CHILDREN), Check("right", "==", CHILDREN)]
OWN = [Check("pooled", "==", 0), Check("inherited", "==", 0), Check("right", "==", CHILDREN)]


@experiment("preload-what-connects", uses=["lab/scenes/advice_preload.py"])
def what_connects(effort: Effort) -> Iterator[Arm]:
    for name in DRIVERS[: effort.pick(4, 2)]:
        trials: dict[str, Trial] = {}
        with start(driver(name).database) as database:
            for role, moments in MOMENTS.items():
                for moment in moments:
                    it = Setup(driver(name).database, name, server="os.fork", workers=CHILDREN, moment=moment)
                    checks = SHARED if role == "hazard" else OWN
                    yield arm(
                        f"{name}, {moment}",
                        role,
                        it,
                        checks,
                        lambda it=it, trials=trials: [_trial(it, database, trials)],
                    )


def _trial(it: Setup, database: Database, trials: dict[str, Trial]) -> Trial:
    """Facts: ``pooled``, the connections in the pool at the fork; ``inherited``, the children that spoke over the
    master's. All moments of a driver are played at once."""
    if not trials:
        moments = [moment for group in MOMENTS.values() for moment in group]
        rows = play(SCENE, engine=arguments(it.driver, database), database=it.database, moments=moments)["rows"]
        for moment, row in zip(moments, rows, strict=True):
            tally = Tally.of(Outcome(**child["outcome"]) for child in row["children"])
            inherited = sum(child["inherited"] for child in row["children"])
            trials[moment] = Trial(tally, facts={"pooled": row["pooled"], "inherited": inherited})
    return trials[it.moment]
