"""The recipes for what forks: what they have in common, and the ways of use that their docstrings name.

Each on its real forker, beside the hazard and with the parent's survival, is the claim ``forkers-recipes-cure``.
"""

import ast
import json
import os
import subprocess
import sys
import urllib.request

import pytest
from celery.signals import worker_process_init
from sqlalchemy import QueuePool, create_engine

from lab import databases
from lab.drivers import arguments
from lab.process import ROOT, environment
from lab.servers import gunicorn
from recipes import celery_postfork

POSTFORK = ("gunicorn_postfork", "celery_postfork", "multiprocessing_postfork", "rq_postfork")
SQLALCHEMY = {"newest": "", "oldest": str(ROOT / ".venv" / "oldest")}


def test_the_recipes_for_forkers_are_alike():
    """What empties the pools is the same code in all of them, and what arranges for it takes the same arguments."""
    trees = [ast.parse((ROOT / "recipes" / f"{name}.py").read_text()) for name in POSTFORK]
    functions = [{node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)} for tree in trees]

    assert 1 == len({ast.unparse(found["start_empty"]) for found in functions})
    assert 1 == len({ast.unparse(found["install"].args) for found in functions})


ASYNC = """
import asyncio, os
from sqlalchemy.ext.asyncio import create_async_engine
from recipes.rq_postfork import start_empty

async def ask(engine):
    async with engine.connect() as connection:
        await connection.exec_driver_sql("select 1")

engines = [create_async_engine({url!r}, connect_args={connect_args!r}) for _ in range(2)]
for engine in engines:
    asyncio.run(ask(engine))
if not (child := os.fork()):
    start_empty(engines[0], engines[1].sync_engine)
    before = [engine.pool.checkedin() for engine in engines]
    for engine in engines:
        asyncio.run(ask(engine))
    os._exit(before != [0, 0])
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print([engine.pool.checkedin() for engine in engines], flush=True)
os._exit(0)
"""


def test_an_async_engine_starts_empty_in_the_child():
    """The async engine or the one inside it may be given; the child asks on a connection of its own."""
    with databases.start("postgresql") as running:
        assert "[1, 1]" == _python("-c", ASYNC.format(**arguments("asyncpg", running)))


def test_celerys_solo_pool_keeps_its_connections():
    """The solo pool sends the signal in the only process that there is, whose connections are its own."""
    engine = create_engine("sqlite://", poolclass=QueuePool)
    before = set(map(id, worker_process_init.receivers or ()))
    celery_postfork.install(engine)
    try:
        engine.connect().close()
        worker_process_init.send(sender=None)
        assert 1 == engine.pool.checkedin()
    finally:
        worker_process_init.receivers = [r for r in worker_process_init.receivers if id(r) in before]
        engine.dispose()


MULTIPROCESSING = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from sqlalchemy import QueuePool, create_engine
from recipes import multiprocessing_postfork as recipe

def inherited(): return shared.pool.checkedin()
def opened(): return str(recipe.engine.url), recipe.engine.connect().exec_driver_sql("select 1").scalar()

if __name__ == "__main__":
    shared = create_engine("sqlite://", poolclass=QueuePool)
    shared.connect().close()
    fork, spawn = get_context("fork"), get_context("spawn")
    for initializer, initargs in ((None, ()), (recipe.start_empty, (shared,))):
        with ProcessPoolExecutor(1, fork, initializer, initargs) as pool:
            print(pool.submit(inherited).result())
    with ProcessPoolExecutor(1, spawn, recipe.open_engine, ("sqlite://",)) as pool:
        print(*pool.submit(opened).result())
    recipe.install(shared)
    with fork.Pool(1, maxtasksperchild=1) as pool:
        print(pool.apply(inherited), pool.apply(inherited), shared.pool.checkedin())
"""


def test_a_pools_initializer_serves_fork_and_spawn(tmp_path):
    """start_empty as initializer, beside none; open_engine under spawn; install, for replaced processes, too."""
    script = tmp_path / "script.py"
    script.write_text(MULTIPROCESSING)

    assert ["1", "0", "sqlite:// 1", "0 0 1"] == _python(script).splitlines()


SHOP = """
import json, os
from sqlalchemy import QueuePool, create_engine
from recipes.gunicorn_postfork import install

engine = create_engine("sqlite://", poolclass=QueuePool)
engine.connect().close()
install(engine)

def application(environ, start_response):
    start_response("200 OK", [])
    return [str(engine.pool.checkedin()).encode()]
"""


@pytest.mark.parametrize(
    ("conf", "inherited"), [("from recipes.gunicorn_postfork import post_fork", 0), ("# without the recipe", 1)]
)
def test_gunicorn_takes_the_hook_from_its_configuration(conf, inherited, tmp_path):
    """The line of the docstring in gunicorn.conf.py is enough, for workers that replace others, too."""
    (tmp_path / "gunicorn.conf.py").write_text(conf)
    (tmp_path / "shop.py").write_text(SHOP)
    options = {"preload": True, "chdir": tmp_path, "config": tmp_path / "gunicorn.conf.py"}
    with gunicorn("shop", workers=1, options=options) as server:
        found = []
        for _ in range(2):
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=30) as answer:
                found.append(int(answer.read()))
            server.wait_for_workers(1)
            server.respawn()

    assert [inherited] * 2 == found


# crossing_guard

WITHOUT_HANDLERS = """
import ctypes, os, sys
from sqlalchemy import QueuePool, create_engine, text
from sqlalchemy.orm import Session
from recipes.crossing_guard import log, watch

said = []
log.addFilter(lambda record: said.append(record.getMessage()))
engine = watch(create_engine(sys.argv[1], poolclass=QueuePool), strict=True)
first, held, session = engine.raw_connection(), engine.connect(), Session(engine)
held.execute(text("select 1"))
session.execute(text("select 1"))
pooled = id(first.dbapi_connection)
first.close()

def go_on():
    session.rollback()
    return session.scalar(text("select 1"))

for step in (
    lambda: id(engine.raw_connection().dbapi_connection) != pooled,
    lambda: held.execute(text("select 1")),
    session.commit,
    go_on,
):
    # Not os.fork(): as a server does that runs no handlers of Python's.
    if not (child := ctypes.PyDLL(None).fork()):
        try:
            print(step(), len(said), flush=True)
        except Exception as problem:
            print(type(problem).__name__, len(said), flush=True)
        os._exit(0)
    os.waitpid(child, 0)
held.execute(text("select 1"))
session.commit()
print("parent", len(said))
"""


def test_strict_refuses_where_no_handlers_run(tmp_path):
    """Without at-fork handlers the pool's connection is replaced, and the first use of one that is held is refused."""
    said = _python("-c", WITHOUT_HANDLERS, f"sqlite:///{tmp_path / 'app.db'}").splitlines()

    assert ["True 1", "CrossedFork 1", "CrossedFork 1", "1 1", "parent 0"] == said


CASES = ["pooled checkout", "held Connection", "closed Session", "collected Session", "dispose()", "no use"]
SCENE = (
    "import json, sys; from lab.scenes.guard import main; print(json.dumps(main(**json.loads(sys.argv[1]))['rows']))"
)


@pytest.mark.parametrize("sqlalchemy", SQLALCHEMY)
@pytest.mark.parametrize("guard", ["off", "on", "strict"])
def test_oldest_and_newest_sqlalchemy_are_guarded_alike(guard, sqlalchemy, tmp_path):
    """One line for each crossing where the guard is on, none where it is off or nothing crosses."""
    url = f"sqlite:///{tmp_path / 'app.db'}"
    _python("-c", "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('create table kept (n int)')", url[10:])
    scene = {"engine": {"url": url}, "database": "sqlite", "loop": False, "guard": guard, "cases": CASES}
    rows = json.loads(_python("-c", SCENE, json.dumps(scene), sqlalchemy=sqlalchemy))

    crossings = [1, 1, 1, 1, 1, 0] if guard == "on" else [0] * 6
    assert crossings == [len(rows[case]["lines"]) for case in CASES]
    assert [2, 2] == [
        rows[case]["after"]["value"] for case in ("closed Session", "collected Session")
    ] or guard != "strict"
    assert (guard == "strict") == ("PendingRollbackError" in rows["held Connection"]["outcome"]["message"])


def _python(*command, sqlalchemy="newest"):
    """Run Python with warnings as errors and the project importable; what it prints."""
    path = os.pathsep.join([place for place in (SQLALCHEMY[sqlalchemy], str(ROOT)) if place])
    env = environment({"PYTHONPATH": path})
    done = subprocess.run(
        [sys.executable, "-W", "error", *map(str, command)], env=env, capture_output=True, text=True, timeout=120
    )
    assert (0, "") == (done.returncode, done.stderr), done.stderr
    return done.stdout.strip()
