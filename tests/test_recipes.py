"""The recipes: what is promised of every one, and what each does, with the hazard as the control."""

import ast
import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from lab import load, trials
from lab.drivers import QUESTION, arguments
from lab.process import ROOT, LabError, environment, folder, play, wait_until
from lab.procfs import state
from lab.servers import uwsgi
from recipes import import_audit
from recipes.__main__ import main as recipes_command
from recipes.__main__ import recipes

RECIPES = list(recipes().values())
MODULES = [recipe for recipe in RECIPES if recipe.path.suffix == ".py"]
FRAMEWORKS = {"sqlalchemy", "uwsgidecorators", "celery", "flask", "fastapi", "starlette"}
SQLALCHEMY = {"newest": "", "oldest": str(ROOT / ".venv" / "oldest")}

named = functools.partial(pytest.mark.parametrize, ids=lambda it: getattr(it, "name", None))


@named("recipe", RECIPES)
def test_a_recipe_says_what_it_is(recipe):
    """A copy carries its licence, its name and version, and where to read about it."""
    licence, header = recipe.text.splitlines()[:2]
    anchor = recipe.name.replace("_", "-")

    assert "SPDX-License-Identifier: 0BSD" == licence[2:]
    assert f"Recipe: {recipe.path.stem}, version {recipe.version} " in header
    assert header.endswith(f"(Forks, Threads and Sessions, /docs/recipes/#{anchor})")


@named("recipe", RECIPES)
def test_a_recipe_says_when_to_use_it(recipe):
    """A copy says when to use it, when not, and with which versions it was tested."""
    for promise in ("Use it when: ", "Not when: ", "Tested with "):
        assert 1 == recipe.text.count(promise)


@named("recipe", MODULES)
def test_a_recipe_imports_nothing_of_the_project(recipe):
    """Copying one file is enough."""
    nodes = list(ast.walk(ast.parse(recipe.text)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "." for node in nodes if isinstance(node, ast.ImportFrom)]

    assert set() == {name.split(".")[0] for name in names} - sys.stdlib_module_names - FRAMEWORKS


@named("recipe", MODULES)
def test_a_recipe_is_short(recipe):
    """What has to be read before it is trusted is little."""
    assert len(recipe.text.partition('\n"""\n')[2].splitlines()) < 130


@pytest.mark.parametrize("sqlalchemy", SQLALCHEMY)
@named("recipe", MODULES)
def test_a_recipes_examples_run(recipe, sqlalchemy, tmp_path):
    """The doctest of a lone copy passes, warnings being errors, with the oldest and the newest SQLAlchemy."""
    copy = shutil.copy(recipe.path, tmp_path)
    done = _python("-m", "doctest", "-v", copy, sqlalchemy=sqlalchemy, TMPDIR=tmp_path)

    assert (0, "") == (done.returncode, done.stderr), done.stdout
    assert [recipe.text.count("\n>>> ")] == [int(n) for n in re.findall(r"^(\d+) passed", done.stdout, re.M)]


def test_the_oldest_sqlalchemy_is_another_one():
    """What is called the oldest is in fact a release of SQLAlchemy 2.0, and the newest is not."""
    said = [_python("-c", "import sqlalchemy; print(sqlalchemy.__version__)", sqlalchemy=name) for name in SQLALCHEMY]

    assert ["2.1", "2.0"] == [done.stdout[:3] for done in said]


# fork_safe_engine

CHILDREN = [
    ["query", "sys.exit"],
    ["query", "os._exit"],
    ["query", "gc.collect", "query", "sys.exit"],
    ["gc.collect", "sys.exit"],
    ["dispose", "query", "sys.exit"],
    ["query", ["query", "sys.exit"], "query", "sys.exit"],
]
DRIVERS = trials.NETWORK_DRIVERS
# With these, the last reference says goodbye.
SAY_GOODBYE = ("mysqlclient", "mysql-connector")


@pytest.mark.parametrize("name", DRIVERS)
def test_a_protected_child_has_a_connection_of_its_own(name, database):
    """Whatever a child does, it asks over its own connection, ends well, and the parent goes on with the same one."""
    rows = _inherit(name, database, protected=True, children=CHILDREN)["rows"]

    (parents,) = {row[when]["backend"] for row in rows for when in ("before", "after")}
    childrens = [backend for row in rows for backend in _backends(row["child"])]
    assert [0] * len(rows) == [row["child"]["exit"] for row in rows]
    assert 6 == len(childrens) == len({*childrens, parents}) - 1


@pytest.mark.parametrize("name", DRIVERS)
def test_an_unprotected_child_ends_its_parents_connection(name, database):
    """The control: dispose() in the child always does; without close, letting go does with two of the drivers."""
    children = [["dispose", "os._exit"], ["dispose(close=False)", "gc.collect", "os._exit"], ["query", "os._exit"]]
    dispose, let_go, query = _inherit(name, database, protected=False, children=children)["rows"]

    assert "error" in dispose["after"]
    assert (name in SAY_GOODBYE) == ("error" in let_go["after"])
    assert [query["before"]["backend"]] == _backends(query["child"])


@pytest.mark.parametrize("sqlalchemy", SQLALCHEMY)
@pytest.mark.parametrize("protected", [True, False])
def test_oldest_and_newest_sqlalchemy_fork_alike(protected, sqlalchemy, tmp_path):
    """On SQLite, too, a child inherits its parent's connection object unless it is protected."""
    url = f"sqlite:///{tmp_path / 'app.db'}"
    scene = {"engine": {"url": url}, "question": QUESTION["sqlite"], "protected": protected, "children": CHILDREN[:3]}
    script = "import json, sys; from lab.scenes.inherit import main; print(json.dumps(main(**json.loads(sys.argv[1]))))"
    done = _python("-c", script, json.dumps(scene), sqlalchemy=sqlalchemy, path=ROOT)

    rows = json.loads(done.stdout or done.stderr)["rows"]
    asked = [(row["before"], step) for row in rows for step in row["child"]["told"] if isinstance(step, dict)]
    assert [not protected] * 4 == [before["object"] == step["object"] for before, step in asked]
    assert 1 == len({row[when]["object"] for row in rows for when in ("before", "after")})


def _inherit(name, database, **scene):
    running = database(name)
    engine = arguments(name, running)
    return play("lab.scenes.inherit", engine=engine, question=QUESTION[running.kind], **scene)


def _backends(child):
    """The backends that answered a child and its own children, each process's once; all answers have to be right."""
    asked = [step for step in child["told"] if isinstance(step, dict) and "told" not in step]
    assert [True] * len(asked) == [answer.get("right", answer) for answer in asked]
    children = [step for step in child["told"] if isinstance(step, dict) and "told" in step]
    return [*{answer["backend"] for answer in asked}, *(backend for one in children for backend in _backends(one))]


# uwsgi-prefork.ini and uwsgi-lazy-apps.ini


@pytest.mark.parametrize(
    ("ini", "remedy", "masters"),
    [
        ("uwsgi-prefork", "recipe uwsgi_postfork", "alive"),
        ("uwsgi-prefork", "recipe fork_safe_engine", "alive"),
        ("uwsgi-lazy-apps", "none", None),
    ],
)
def test_workers_of_an_ini_file_share_no_connection(ini, remedy, masters, database):
    """With a recipe, or by lazy-apps alone, each worker has its own, a respawned one too, and the master keeps its."""
    with _served(ini, trials.APP, _settings(remedy, running := database("mysqlclient"))) as (server, _):
        first = trials.roll_call(server)
        server.respawn(signal.SIGHUP)
        second = trials.roll_call(server)
        survival = trials.masters_connection(server, running)

    assert [trials.WORKERS] * 2 == [load.tally(first).right, load.tally(second).right]
    assert [1, 1] == [load.sharing(first), load.sharing(second)]
    assert masters == (survival and survival.state)


def test_workers_of_the_prefork_file_share_a_connection_without_a_recipe(database):
    """The control: nothing in the prefork file itself helps, and the first worker to exit ends the connection."""
    with _served("uwsgi-prefork", trials.APP, _settings("none", running := database("mysqlclient"))) as (server, _):
        first = trials.roll_call(server)
        server.respawn(signal.SIGHUP)

        assert trials.WORKERS == load.sharing(first)
        assert "dead" == trials.masters_connection(server, running).state


def _settings(remedy, running):
    return {"engine": arguments("mysqlclient", running), "database": running.kind, "remedy": remedy}


@pytest.mark.parametrize("ini", ["uwsgi-prefork", "uwsgi-lazy-apps"])
def test_sigterm_ends_the_server_of_an_ini_file(ini, tmp_path):
    """A service manager's stop is a stop, and the socket's file goes with it."""
    (tmp_path / "shop.py").write_text("def application(environ, start_response): ...\n")
    with _served(ini, "shop", {}, pythonpath=tmp_path) as (server, home):
        assert (home / "uwsgi.sock").exists()
        os.kill(server.master, signal.SIGTERM)
        wait_until(lambda: not server.process.running, "uWSGI ends on SIGTERM")

        assert 0 == server.process.keeper.returncode
        assert not (home / "uwsgi.sock").exists()


@pytest.mark.parametrize("ini", ["uwsgi-prefork", "uwsgi-lazy-apps"])
def test_an_ini_file_forgives_no_misspelling(ini):
    """An option that uWSGI does not know ends the start."""
    with pytest.raises(LabError, match="harakri"), _served(ini, "shop", {}, misspelt="harakri"):
        pass


@contextlib.contextmanager
def _served(ini, app, settings, *, misspelt="harakiri", **options):
    with folder() as home:
        copy = home / "app.ini"
        text = (ROOT / "recipes" / f"{ini}.ini").read_text().replace("/run/shop", str(home))
        copy.write_text(text.replace("\nharakiri = ", f"\n{misspelt} = "))
        # What comes later wins: the file over the lab's own options, and the application and its address over the file.
        options = {"ini": copy, "module": app, "http-socket": "127.0.0.1:0", **options}
        with uwsgi(app, workers=trials.WORKERS, settings=settings, options=options) as server:
            yield server, home


# import_audit

SHOP = """
from sqlalchemy import NullPool, create_engine, text
engine = create_engine({arguments})
with engine.connect() as connection:
    connection.execute(text("select 'at import'"))
{more}
def application(environ, start_response): ...
"""
FILE = "'sqlite:///shop.db'"


@pytest.fixture
def shop(tmp_path):
    """A function that writes the module ``shop`` and says where it is."""

    def write(more="", arguments=FILE, text=SHOP):
        (tmp_path / "shop.py").write_text(text.replace("{more}", more).replace("{arguments}", arguments))
        return {"cwd": tmp_path}

    return write


OPEN = {
    "pooled": ({}, ["line 4"]),
    "held": ({"more": "kept = engine.connect()"}, ["line 4"]),
    "detached": ({"more": "kept = engine.connect(); kept.detach(); engine.dispose()"}, ["line 4"]),
    "two": ({"more": "other = create_engine('sqlite://')\nother.connect().close()"}, ["line 4", "line 7"]),
    "engine gone, connection held": ({"more": "engine.dispose(); kept = engine.connect(); del engine"}, ["line 6"]),
}
CLOSED = {
    "disposed": {"more": "engine.dispose()"},
    "NullPool": {"arguments": f"{FILE}, poolclass=NullPool"},
    "dropped": {"more": "del engine, connection; import gc; gc.collect()"},
    "detached and closed": {"more": "kept = engine.connect(); kept.detach(); kept.close()"},
}


@pytest.mark.parametrize("case", OPEN)
def test_a_connection_left_open_is_found(case, shop):
    """The failure shows the line of the application that opened each connection, and nothing of SQLAlchemy."""
    code, lines = OPEN[case]
    with pytest.raises(AssertionError, match="that every worker would inherit") as raised:
        import_audit.assert_no_open_connections("shop:application", **shop(**code))

    assert lines == re.findall(r"shop\.py\", (line \d+)", str(raised.value))
    assert "sqlalchemy/" not in str(raised.value)


@pytest.mark.parametrize("case", CLOSED)
def test_a_connection_that_is_gone_is_none(case, shop):
    """In whatever way a connection was closed, it counts as closed."""
    found = import_audit.audit("shop:application", **shop(**CLOSED[case]))

    assert found
    assert not any(finding.still_open for finding in found)


def test_a_closed_connection_fails_only_where_none_may_be_opened(shop):
    """Opening a connection and closing it again is no failure, unless it is asked to be one."""
    where = shop(more="engine.dispose()")
    import_audit.assert_no_open_connections("shop:application", **where)

    with pytest.raises(AssertionError, match=r"opened 1 connection\nsqlite3\.Connection, closed again:\n"):
        import_audit.assert_no_open_connections("shop:application", strict=True, **where)


def test_the_module_of_the_culprit_is_shown(tmp_path):
    """The stack leads from the application to the module that asked, deep in its packages."""
    (tmp_path / "shop" / "models").mkdir(parents=True)
    (tmp_path / "shop" / "wsgi.py").write_text("import shop.models\napplication = print\n")
    (tmp_path / "shop" / "models" / "__init__.py").write_text(SHOP.format(more="", arguments=FILE))
    (found,) = import_audit.audit("shop.wsgi", cwd=tmp_path)

    assert ["shop/wsgi.py", "shop/models/__init__.py"] == re.findall(r"shop/[a-z/_]+\.py", found.stack)
    assert ("sqlite3.Connection", True) == (found.connection, found.still_open)


FACTORY = """
from sqlalchemy import create_engine
def create():
    engine = create_engine({arguments})
    engine.connect().close()
    return engine.connect
"""


def test_a_factory_is_called(shop):
    """An application that gunicorn calls into being is audited with what its factory does."""
    where = shop(text=FACTORY)

    assert [] == import_audit.audit("shop:create", **where)
    assert [True] == [finding.still_open for finding in import_audit.audit("shop:create()", **where)]


ASYNC = """
import asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
engine = create_async_engine({arguments})
async def warm_up():
    async with engine.connect() as connection:
        await connection.execute(text("select 1"))
asyncio.run(warm_up())
application = print
"""


def test_an_async_engine_is_seen_and_no_password_shown(shop, database):
    """What the event loop opened during the import is found as well; a URL's password is not in the failure."""
    url = f"postgresql+psycopg_async://lab:hunter2@127.0.0.1:{database('psycopg').port}/postgres"
    with pytest.raises(AssertionError, match="AsyncAdapt_psycopg_connection, still open") as raised:
        import_audit.assert_no_open_connections("shop:application", **shop(text=ASYNC, arguments=repr(url)))

    assert "line 7, in warm_up" in str(raised.value)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(("remedy", "still_open"), [("none", [True]), ("dispose() at the end of import", [False])])
def test_the_audit_agrees_with_the_lab(remedy, still_open, database, tmp_path):
    """The application whose workers share a connection fails the audit, and the one that is cured passes."""
    running = database("psycopg2")
    settings = {"engine": arguments("psycopg2", running), "database": running.kind, "remedy": remedy}
    env = {"LAB_APP": json.dumps({**settings, "home": str(tmp_path), "workers": 1})}
    found = import_audit.audit(f"{trials.APP}:application", cwd=ROOT, env=env)

    assert still_open == [finding.still_open for finding in found]


REFUSED = {
    "no module": ("", "warehouse:application", "ModuleNotFoundError: No module named 'warehouse'"),
    "no attribute": ("", "shop:app", "AttributeError: module 'shop' has no attribute 'app'"),
    "failing import": ("1 / 0", "shop", "ZeroDivisionError: division by zero (FOLDER/shop.py, line 1)"),
    "exit": ("import sys; sys.exit(3)", "shop", "SystemExit: 3 (FOLDER/shop.py, line 1)"),
    "sudden end": (
        "import os, sys; print('no licence', file=sys.stderr); os._exit(3)",
        "shop",
        "it ended with exit code 3, no licence",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_application_that_cannot_be_imported_is_one_line(case, shop, tmp_path):
    """Why there was nothing to audit is said in a line."""
    code, application, expected = REFUSED[case]
    with pytest.raises(import_audit.CannotAudit) as raised:
        import_audit.audit(application, **shop(text=code))

    assert f"cannot import {application}: {expected.replace('FOLDER', str(tmp_path))}" == str(raised.value)


def test_an_import_that_hangs_is_ended(shop):
    """An import without end is ended at the deadline, with what it started."""
    start = "import pathlib, subprocess, time; child = subprocess.Popen(['sleep', '600'])\n"
    where = shop(text=start + "pathlib.Path('pid').write_text(str(child.pid)); time.sleep(600)")
    with pytest.raises(import_audit.CannotAudit, match="importing shop takes longer than 5 s"):
        import_audit.audit("shop", timeout=5, **where)

    pid = int((where["cwd"] / "pid").read_text())
    wait_until(lambda: state(pid) in ("", "Z"), "the process that the import started is gone")


def test_what_the_import_prints_and_leaves_behind_is_no_hindrance(shop):
    """Output, threads and processes of the application neither spoil the report nor hold it up."""
    noise = "import subprocess, threading, time; print('hello'); subprocess.Popen(['sleep', '600'])\n"
    thread = "threading.Thread(target=time.sleep, args=[600]).start()"

    assert [True] == [finding.still_open for finding in import_audit.audit("shop", **shop(more=noise + thread))]


@pytest.mark.parametrize(
    ("application", "more", "expected"), [("shop", "", 1), ("shop", "engine.dispose()", 0), ("warehouse", "", 2)]
)
def test_the_audits_command_line_tells_by_its_exit_code(application, more, expected, shop):
    """The exit code is 0 if nothing is open, 1 if something is, and 2 if there was nothing to audit."""
    done = _python(import_audit.__file__, application, cwd=shop(more=more)["cwd"])

    assert (expected, "") == (done.returncode, done.stdout)
    assert [0, 5, 1][expected] == len(done.stderr.splitlines())


# python -m recipes


def test_the_recipes_are_listed():
    """The bare command names every recipe, its version, and what it is for."""
    done = _python("-m", "recipes", cwd=ROOT)

    assert [(recipe.name, f"version {recipe.version}") for recipe in RECIPES] == [
        tuple(re.split(r"\s\s+", line)[:2]) for line in done.stdout.splitlines()
    ]
    assert all(re.search(r"  [A-Za-z][^.]+\.$", line) for line in done.stdout.splitlines())


@named("recipe", RECIPES)
def test_a_fresh_copy_is_current(recipe, tmp_path, capsys):
    """A copy is current whatever it is called, and whatever its lines end with."""
    copy = tmp_path / "copy.txt"
    copy.write_text(recipe.text, newline="\r\n")

    assert 0 == recipes_command(["check", str(copy)])
    assert f"{copy}: current\n" == capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("master", "first process"), "current version, edited locally"),
        (("version 1", "version 0"), "older: version 0, current is 1"),
        (("version 1", "version 9"), "newer: version 9, current is 1"),
    ],
)
def test_a_copy_that_differs_is_shown_what_changed(change, expected, tmp_path, capsys):
    """Edited, older or newer: the command says which, and its diff names what would make the copy ours."""
    ours = recipes()["uwsgi_postfork"].text
    copy = tmp_path / "copy.py"
    copy.write_text(ours.replace(*change))

    assert 1 == recipes_command(["check", str(copy)])
    said, *diff = capsys.readouterr().out.splitlines()
    assert f"{copy}: {expected}; what would make it ours:" == said
    assert [f"--- {copy}", "+++ recipes/uwsgi_postfork.py"] == diff[:2]
    assert set(ours.splitlines()) > {line[1:] for line in diff[3:] if line[0] == "+"} > set()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "No such file or directory"),
        (b"print('mine')\n", 'no line "# Recipe: NAME, version N", so it is no copy or has lost its header'),
        (b"# Recipe: soup, version 1\n", f"no recipe is called soup; known: {', '.join(recipes())}"),
        (b"\xff\xfe", "not a text file"),
    ],
)
def test_what_is_no_copy_is_one_line(content, expected, tmp_path, capsys):
    """A path that leads to no copy of a recipe gets one line and an exit code of its own."""
    path = tmp_path / "copy.py"
    if content is not None:
        path.write_bytes(content)

    assert 2 == recipes_command(["check", str(path)])
    assert ("", f"{path}: {expected}\n") == capsys.readouterr()


def _python(*arguments, sqlalchemy="newest", path="", cwd=None, **env):
    """Run Python with warnings as errors, and nothing of the project importable but what is at *path*."""
    places = [str(place) for place in (SQLALCHEMY[sqlalchemy], path) if place]
    env = environment({"PYTHONPATH": os.pathsep.join(places), **{name: str(value) for name, value in env.items()}})
    command = [sys.executable, "-W", "error", *map(str, arguments)]
    return subprocess.run(command, env=env, cwd=cwd, capture_output=True, text=True, timeout=60)
