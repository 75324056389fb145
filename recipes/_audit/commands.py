# SPDX-License-Identifier: 0BSD
"""Read a configuration, of a file or of a command line, into :class:`Settings`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from .code import facts, settings_of
from .follow import follow
from .shapes import CannotRead, Code, Cure, Note, Option, Place, Settings
from .uwsgi import WORD, Read, split_section, text_of

COMMAND = "command line"
FLAGS = {
    "uwsgi": "lazy lazy-apps master enable-threads close-on-exec close-on-exec2 py-call-osafterfork "
    "py-call-uwsgi-fork-hooks need-app strict vacuum die-on-term single-interpreter disable-logging thunder-lock "
    "no-orphans harakiri-verbose memory-report gevent-monkey-patch M T L i m",
    "gunicorn": "preload reload spew check-config print-config reuse-port daemon initgroups capture-output log-syslog "
    "no-sendfile enable-stdio-inheritance no-control-socket disable-redirect-access-to-syslog D R",
    "celery": "detach task-events events purge discard without-gossip without-mingle without-heartbeat beat "
    "disable-prefetch skip-checks no-color quiet D E B C q",
}
GUNICORN = {"w": "workers", "k": "worker_class", "c": "config", "preload": "preload_app"}
CELERY = {"c": "worker_concurrency", "concurrency": "worker_concurrency", "P": "worker_pool", "pool": "worker_pool"}
CELERY |= {"max-tasks-per-child": "worker_max_tasks_per_child", "autoscale": "worker_autoscale", "A": "app"}
CELERY |= {"pool-start-method": "worker_pool_start_method"}
OLD_CELERY = {"CELERYD_POOL": "worker_pool", "CELERYD_CONCURRENCY": "worker_concurrency"}
OLD_CELERY |= {"CELERYD_MAX_TASKS_PER_CHILD": "worker_max_tasks_per_child", "BROKER_URL": "broker_url"}
GUNICORN_NAMES = {"worker_class", "preload_app", "wsgi_app"}
SPAWNED = "/docs/who-forks/#claim-spawn-and-forkserver-share-nothing"
NOT_JUDGED = {
    "uvicorn": f"by its source it spawns its workers, and children of spawn inherit no connection ({SPAWNED}), but its "
    "own workers were not run for a claim",
    "granian": "what its workers inherit was not run for a claim",
    "mod_wsgi-express": "what its processes inherit was not run for a claim",
}


def from_file(name: str) -> Settings:
    """Read a file, of which its name and its text say whose it is.

    Raises:
        CannotRead: it cannot be read or understood, or is of no kind that is known.
    """
    path, section = split_section(name) if not Path(name).exists() else (Path(name), "uwsgi")
    if path.suffix in (".ini", ".yaml", ".yml"):
        read = Read()
        read.read(path, section)
        return _uwsgi(read, name)
    text = text_of(Path(name))
    if path.suffix != ".py":
        raise CannotRead(f"{name}: of no kind that is known; known are uwsgi .ini and .yaml, gunicorn and Celery .py")
    options = settings_of(path)
    names = {option.name for option in options}
    hook = re.search(r"^def post_fork\b|^from .*\bimport .*\bpost_fork\b", text, re.MULTILINE)
    if re.search(r"gunicorn|\.conf\.py$", path.name) or hook or names & GUNICORN_NAMES:
        return _gunicorn(path, [], name)
    celery = re.search(r"celery", path.name) or re.search(r"^\s*(from|import) celery\b", text, re.MULTILINE)
    if celery or names & OLD_CELERY.keys() or any(re.match("broker_url|worker_", name) for name in names):
        return _celery(options, follow([str(path.resolve())], [path.parent]), name, _words(path, text))
    raise CannotRead(f"{name}: sets nothing that gunicorn or Celery knows; give its command line after -- instead")


def from_command(words: Sequence[str]) -> Settings:
    """Read a command line, and the files that it names.

    Raises:
        CannotRead: the program is not known, or an option lacks its value, or a file cannot be read.
    """
    if len(words) == 1:
        try:
            words = shlex.split(words[0])
        except ValueError as problem:
            raise CannotRead(f"{COMMAND}: {problem}; close the quotation") from None
    start = 0
    while start < len(words) and re.match(r"(env|exec)$|\w+=", words[start]):
        start += 1
    if re.search(r"(^|/)python[\d.]* -m$", " ".join(words[start : start + 2])):
        start += 2
    program = Path(words[start]).name if start < len(words) else "nothing"
    if program in NOT_JUDGED:
        advice = "to see what an import leaves open, use --import alone"
        raise CannotRead(f"{COMMAND}: {program} is not known to this audit: {NOT_JUDGED[program]}; {advice}")
    if program not in FLAGS:
        raise CannotRead(f"{COMMAND}: {program}: no program that is known here; known are {', '.join(FLAGS)}")
    options, rest = _split(words, start + 1, set(FLAGS[program].split()), program == "uwsgi")
    return {"uwsgi": _uwsgi_command, "gunicorn": _gunicorn_command, "celery": _celery_command}[program](options, rest)


def _split(words: Sequence[str], start: int, flags: set[str], files_end_values: bool):
    """The options of a command line, long and short, and what is left."""
    options: list[Option] = []
    rest: list[Option] = []
    number = start

    def value_after(name: str, where: Place) -> str:
        nonlocal number
        if number >= len(words):
            # Of an option that is not known here, nothing is needed.
            return "true" if len(name) > 1 else _lacks(name, where)
        taken = words[number]
        is_file = files_end_values and re.search(r"\.(ini|ya?ml|xml|json)(:\w*)?$", taken)
        if re.match("-.", taken) or (is_file and name not in ("ini", "yaml", "yml", "include", "y")):
            return "true"
        number += 1
        return taken

    while number < len(words):
        word, where = words[number], Place(COMMAND, number + 1)
        number += 1
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            if not equals:
                value = "true" if name in flags else value_after(name, where)
            options.append(Option(name, value, where))
        elif word.startswith("-") and len(word) > 1:
            letters = word[1:]
            while letters and letters[0] in flags:
                options.append(Option(letters[0], "true", where))
                letters = letters[1:]
            if letters:
                # uWSGI alone takes the = of -p=4 for a part of the value.
                value = letters[1:] if files_end_values else letters[1:].removeprefix("=")
                options.append(Option(letters[0], value or value_after(letters[0], where), where))
        else:
            rest.append(Option("", word, where))
    return options, rest


def _lacks(name: str, where: Place) -> str:
    raise CannotRead(f"{where}: -{name} lacks its value")


def _uwsgi_command(options: list[Option], rest: list[Option]) -> Settings:
    read = Read()
    for option in sorted([*options, *rest], key=lambda o: o.where.line):
        if option.name:
            read.add(option.name, option.value, option.where)
        elif re.search(r"\.(ini|ya?ml)(:\w*)?$", option.value):
            read.include(option.value, option.where)
        elif option.value.endswith((".xml", ".json")):
            raise CannotRead(f"{option.where}: {option.value}: XML and JSON are not read here; write it as INI")
        elif option.value.endswith((".py", ".wsgi")):
            read.add("wsgi-file", option.value, option.where)
    return _uwsgi(read, COMMAND)


def _uwsgi(read: Read, source: str) -> Settings:
    settings = Settings("uwsgi", source, tuple(read.options), words=tuple(read.words))
    value = lambda *names: [o.value for o in settings.all(*names) if o.value]  # noqa: E731
    modules = [v.partition(":")[0] for v in value("module", "import", "shared-import")]
    modules += [v.partition("=")[2].partition(":")[0] for v in value("mount")] + value("wsgi-file", "pymodule")
    files = [Path(key.rpartition(":")[0]).parent for key in read.files]
    roots = [Path(v) for v in value("chdir", "pythonpath")] + files + [Path()]
    return _with_code(settings, modules, [base / r for r in roots for base in (*files, Path())], Code())


def _with_code(settings: Settings, modules: list[str], roots: list[Path], own: Code) -> Settings:
    modules = [module for module in modules if module]
    code = follow(modules, roots)
    notes = []
    if modules and not code.files:
        where = next(option.where for option in settings.options if modules[0] in str(option.value))
        notes.append(Note(where, f"{modules[0]} was not found from here, so what it does after a fork was not read"))
    return replace(settings, code=own + code, notes=settings.notes + tuple(notes))


def _gunicorn_command(options: list[Option], rest: list[Option]) -> Settings:
    given = [replace(o, name=GUNICORN.get(o.name, o.name.replace("-", "_"))) for o in options]
    given += [replace(option, name="wsgi_app") for option in rest]
    named = next((o for o in reversed(given) if o.name == "config"), None)
    path = Path(named.value.removeprefix("file:")) if named else Path("gunicorn.conf.py")
    if named and named.value.startswith("python:"):
        raise CannotRead(f"{named.where}: {named.value}: give the module's file instead: -c FILE")
    return _gunicorn(path if named or path.exists() else None, given, COMMAND)


def _gunicorn(path: Path | None, given: list[Option], source: str) -> Settings:
    own, words, options = Code(), (), given
    if path:
        own, words = facts(path, hooks=["post_fork"]), _words(path, text_of(path))
        # What the command line says counts more than the file.
        options = settings_of(path) + given
    settings = Settings("gunicorn", source, tuple(options), words=words)
    literal = lambda name: str(o.value) if (o := settings.last(name)) and o.value else ""  # noqa: E731
    app = literal("wsgi_app").partition(":")[0]
    roots = [Path(literal("chdir") or "."), *(Path(p) for p in literal("pythonpath").split(",") if p)]
    return _with_code(settings, [app] if app else [], roots + ([path.parent] if path else []), own)


def _celery_command(options: list[Option], rest: list[Option]) -> Settings:
    if not rest or rest[0].value != "worker":
        said = rest[0].value if rest else "nothing"
        raise CannotRead(f"{COMMAND}: celery {said}: only celery … worker is known here")
    given = [replace(o, name=CELERY.get(o.name, o.name.replace("-", "_"))) for o in options]
    value = lambda name: next((str(o.value) for o in reversed(given) if o.name == name), "")  # noqa: E731
    app, root = value("app").partition(":")[0], Path(value("workdir") or ".")
    # Celery looks for the application in proj.celery, too, and takes proj.tasks.app for what proj.tasks:app is.
    code = follow([name for name in (f"{app}.celery", app, app.rpartition(".")[0]) if app and name], [root])
    if not code.files:
        said = f"{app} was not found from here" if app else "no -A names the application"
        raise CannotRead(f"{COMMAND}: {said}; run the audit where the worker is started, or give --workdir")
    in_code = [o for file in code.files for o in settings_of(Path(file))]
    settings = _celery(in_code + given, code, COMMAND, ())
    words = tuple(word for file in code.files for word in _words(Path(file), text_of(Path(file))))
    return replace(settings, words=words)


def _celery(options: list[Option], code: Code, source: str, words: tuple[Cure, ...]) -> Settings:
    named = tuple(replace(option, name=OLD_CELERY.get(option.name, option.name)) for option in options)
    return Settings("celery", source, named, code, words)


def _words(path: Path, text: str) -> tuple[Cure, ...]:
    lines = enumerate(text.splitlines(), 1)
    return tuple(Cure(found[1] or found[2], Place(str(path), n)) for n, line in lines if (found := WORD.match(line)))
