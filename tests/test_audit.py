"""``python -m recipes audit``: what it finds in examples, how it reads them, and what it says of what it cannot read.

That its word agrees with what servers do is in ``test_audit_proof.py``.
"""

import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lab.evidence import load
from lab.judge import judge
from lab.process import ROOT, environment
from lab.servers import uwsgi_binary
from recipes.__main__ import main
from recipes._audit import RULES, findings
from recipes._audit.commands import from_command, from_file
from recipes._audit.uwsgi import ALIASES, Read

EXAMPLES = ROOT / "tests" / "audit"
PATTERNS = ("*.ini", "*.yaml", "*.yml", "*.conf.py", "celery*.py")
BAD, GOOD = ([p for pattern in PATTERNS for p in sorted((EXAMPLES / k).glob(pattern))] for k in ("bad", "good"))
GOOD += [ROOT / "recipes" / "uwsgi-prefork.ini", ROOT / "recipes" / "uwsgi-lazy-apps.ini"]


def audit(capsys, *words):
    """The exit code, what is printed, and what is printed on stderr."""
    try:
        code = main(["audit", *map(str, words)])
    except SystemExit as ended:
        code = ended.code
    return code, *capsys.readouterr()


def claims_found(settings):
    return sorted(found.claim.rpartition("#claim-")[2] for found in findings(settings))


def expected(path):
    """What the comments ``finds: CLAIM`` of a file announce, each for the next line that is no such comment."""
    lines = list(enumerate(path.read_text().splitlines(), 1))
    code = [number for number, line in lines if "finds: " not in line]
    return [
        (path.name, next(n for n in code if n > number), said[1])
        for number, line in lines
        if (said := re.search(r"finds: (\S+)", line))
    ]


# What it finds


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.name)
def test_a_bad_example_has_what_its_comments_announce(path):
    """Every finding stands where the example says, in the configuration or in the application, and no other."""
    settings = from_file(str(path))
    read = {path, *map(Path, settings.code.files)}
    found = [(Path(f.file).name, f.line, f.claim.rpartition("#claim-")[2]) for f in findings(settings)]

    assert sorted(line for file in read for line in expected(file)) == sorted(found)
    assert found


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.name)
def test_a_good_example_has_no_finding(path, capsys):
    """Configurations with a cure in place, those of the recipes among them, pass."""
    code, out, err = audit(capsys, path)

    assert (0, f"no finding in {path}", "") == (code, out.splitlines()[-1], err)


def test_examples_meet_every_rule(tmp_path):
    """No rule is there that no example or test of this module breaks."""
    met = {rule.title for path in BAD for rule in RULES if list(rule.find(from_file(str(path))))}

    assert {"--import", "--max-connections"} == {
        re.search(r"--[\w-]+", rule.title)[0] for rule in RULES if rule.title not in met
    }


@pytest.mark.parametrize("address", sorted({rule.address for rule in RULES}))
def test_a_rule_rests_on_a_claim_that_stands(address):
    """The page of the address states the claim, and its record supports it as far as the page says."""
    page, claim = re.fullmatch(r"/docs/([\w-]+)/#claim-([\w-]+)", address).groups()
    stated = re.search(rf"^:::+\{{claim\}} {claim}\n((?::\w+:.*\n)*)", (ROOT / "docs" / f"{page}.md").read_text(), re.M)
    verdict = re.search(r":expect: (\w+)", stated[1])

    assert (verdict[1] if verdict else "reproduced") == judge(load(claim)).kind


def test_the_header_of_a_recipe_is_not_believed_against_the_application(tmp_path):
    """Where the module is read, has an engine and calls no recipe, a copied header is no cure; one's own remark is."""
    (tmp_path / "shop.py").write_text("from sqlalchemy import create_engine\nengine = create_engine('sqlite://')\n")
    text = (ROOT / "recipes" / "uwsgi-prefork.ini").read_text().replace("shop.wsgi:", "shop:")
    copied, remarked = tmp_path / "copied.ini", tmp_path / "remarked.ini"
    copied.write_text(text)
    remarked.write_text(f"; audit: fork_safe_engine\n{text}")

    assert ["uwsgi-prefork-breaks", "uwsgi-respawn-inherits"] == claims_found(from_file(str(copied)))
    assert [] == claims_found(from_file(str(remarked)))


@pytest.mark.parametrize(("call", "claims"), [("install(engine)", []), ("", ["forkers-share-the-connection"])])
def test_a_recipe_that_nobody_calls_is_no_cure(call, claims, tmp_path):
    """What lies beside the application and is imported does nothing; its call does."""
    shutil.copy(ROOT / "recipes" / "celery_postfork.py", tmp_path)
    module = tmp_path / "celery_app.py"
    lines = ["from celery_postfork import install", "from sqlalchemy import create_engine"]
    module.write_text("\n".join([*lines, "engine = create_engine('mysql+mysqldb://shop@localhost/shop')", call]))

    assert claims == claims_found(from_file(str(module)))


@pytest.mark.parametrize(("limit", "found"), [(59, 1), (60, 0)])
def test_pools_are_counted_against_a_limit(limit, found, tmp_path, capsys):
    """4 processes with 5 + 10 connections each are too many for 59, and not for 60."""
    (tmp_path / "shop.py").write_text("from sqlalchemy import create_engine\nengine = create_engine('sqlite://')\n")
    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text("workers = 4\nwsgi_app = 'shop:app'\n")
    code, out, _ = audit(capsys, conf, "--max-connections", limit)

    assert (found, found) == (code, out.count("4 processes x (5 + 10) = 60, of 59"))


# Command lines


@pytest.mark.parametrize(
    ("line", "claims"),
    [
        ("uwsgi --http :8080 --master -p 4 --module app", ["uwsgi-prefork-breaks"]),
        ("uwsgi --http=:8080 -Mp4 --module=app", ["uwsgi-prefork-breaks"]),
        ("uwsgi --http :8080 --lazy-apps --workers 4 -w app", []),
        ("uwsgi --http :8080 -w app", []),
        ("env A=1 /usr/bin/uwsgi -p 4 --lazy tests/audit/good/lazy-apps.ini", ["uwsgi-lazy-reload"]),
        ("uwsgi --die-on-term tests/audit/bad/lazy.ini --lazy-apps", ["uwsgi-lazy-reload"]),
        ("gunicorn --preload -w 4 app:app", ["gunicorn-preload-breaks"]),
        ("gunicorn --preload app:app --workers=1", []),
        ("python -m gunicorn -w4 app:app", []),
        ("gunicorn --preload -w=1 app:app", []),
        ("celery -A celery_lists --workdir tests/audit/bad worker", ["forkers-share-the-connection"]),
        ("gunicorn -c tests/audit/good/gunicorn.conf.py app:app", []),
        ("gunicorn -c tests/audit/good/gunicorn_plain.conf.py --preload shop:app", ["forkers-hook-dispose"]),
        ("gunicorn --config=tests/audit/bad/gunicorn.conf.py -w 1 app:app", []),
        ("celery -A celery_app --workdir tests/audit/good worker -c 4 --max-tasks-per-child 100", []),
        ("celery --app=celery_app --workdir=tests/audit/bad worker -P threads", []),
        (
            "celery -A celery_app.app --workdir tests/audit/bad worker --pool prefork -c 4 --max-tasks-per-child 100",
            ["forkers-respawn-inherits", "forkers-share-the-connection"],
        ),
    ],
)
def test_a_command_line_is_read_as_its_program_reads_it(line, claims, monkeypatch):
    """Short and long options, values after = or a space, files that it names; as words, or as one."""
    monkeypatch.chdir(ROOT)

    assert [claims] * 2 == [claims_found(from_command(words)) for words in (line.split(), [line])]


# How it reads

DIALECT = """\
# comment
; comment
[other]
x = 1
processes = 9
[uwsgi]
  n = 3
processes = %(n)
lazy-apps
lazy_apps = true
master = true ; no comment
vacuum=no
spooler-import = %n.%s.%d.%c.%p.%x.%%
env = A=1
env=B=2
\tmule=jobs.py\t
include = %d/more.ini
ini = :other
ini = here.ini:third
p = 4
[third]
R = 5
"""


def test_ini_is_read_as_uwsgi_reads_it(tmp_path):
    """The options of a file with all of the dialect are those that uWSGI itself shows."""
    (tmp_path / "here.ini").write_text(DIALECT)
    (tmp_path / "more.ini").write_text("[uwsgi]\nharakiri = 5\n[other]\nthreads = 2")
    read = Read()
    read.read(tmp_path / "here.ini")
    theirs = [(ALIASES.get(n, n), v) for n, v in shown(tmp_path, "--ini", "here.ini") if n not in ("ini", "include")]

    # Of an option that uWSGI does not know it keeps what it says, as a placeholder.
    assert theirs == [(option.name, option.value) for option in read.options]
    assert 14 == len(theirs)


def test_yaml_is_read_as_uwsgi_reads_it(tmp_path):
    """So it is with YAML, as far as uWSGI's smallest reader goes."""
    (tmp_path / "here.yaml").write_text(
        "# top\nuwsgi:\n  n: 3\n  processes: 4\n  env: A=1\n  env: B=2\nother:\n  x: 1\n"
    )
    read = Read()
    read.read(tmp_path / "here.yaml")

    theirs = [(n, v) for n, v in shown(tmp_path, "--yaml", "here.yaml") if n != "yaml"]
    assert theirs == [(option.name, option.value) for option in read.options]
    assert 4 == len(theirs)


@pytest.mark.parametrize(
    "line",
    ["-Mp4 --lazy-apps --module app", "--processes=4 --lazy-apps -w app -M", "-T -L -t 30 -p 2 --harakiri-verbose"],
)
def test_a_command_line_is_read_as_uwsgi_reads_it(line, tmp_path):
    """So it is with a command line, bundled letters included."""
    theirs = [(ALIASES.get(n, n), v) for n, v in shown(tmp_path, *line.split())]
    ours = [(o.name, o.value) for o in from_command(["uwsgi", *line.split()]).options]

    # What has no value is "true" there.
    letters = {"L": "disable-logging"}
    assert theirs == [(letters.get(name, name), value) for name, value in ours]


def shown(folder, *options):
    command = [uwsgi_binary(), "--show-config", "--no-server", *options]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=60)
    section = (done.stdout + done.stderr).partition("[uwsgi]\n")[2].partition(";end of configuration")[0]
    pairs = [line.partition(" = ")[::2] for line in section.splitlines()]
    return [(name, value) for name, value in pairs if name not in ("show-config", "no-server")]


@pytest.mark.parametrize("seed", range(20))
def test_neither_order_nor_space_nor_remarks_change_the_findings(seed):
    """The options of a bad example in any order, with blanks and remarks between, are found as unsafe as before."""
    chance = random.Random(seed)
    options = [line for line in (EXAMPLES / "bad" / "prefork.ini").read_text().splitlines()[1:] if "=" in line]
    chance.shuffle(options)
    lines = ["[uwsgi]"]
    for option in options:
        lines += chance.choices(["", "   ", "; lazy-apps = true", "# lazy", "\t;audit"], k=chance.randrange(3))
        name, _, value = option.partition("=")
        lines.append(
            chance.choice(["", " ", "\t"]) + name.strip() + chance.choice(["=", " = ", "\t=  "]) + value.strip()
        )

    assert claims_found(from_file(str(EXAMPLES / "bad" / "prefork.ini"))) == claims_found(_ini("\n".join(lines)))


@pytest.mark.parametrize("seed", range(10))
def test_the_order_of_a_command_line_does_not_matter(seed):
    """Nor does the order of options on a command line."""
    options = ["--master", "-p 4", "--module app", "--close-on-exec", "--max-requests=9", "--mule=jobs.py", "-L"]
    random.Random(seed).shuffle(options)

    found = ["uwsgi-mules-spooler-cron", "uwsgi-non-cures", "uwsgi-prefork-breaks", "uwsgi-respawn-inherits"]
    assert found == claims_found(from_command(f"uwsgi {' '.join(options)}".split()))


@pytest.mark.parametrize(
    ("lines", "claims"),
    [
        ("processes = 1\nprocesses = 4", ["uwsgi-prefork-breaks"]),
        ("processes = 4\nprocesses = 1", []),
        ("p = 4\nlazy-apps = true\nlazy-apps = off", ["uwsgi-prefork-breaks"]),
        ("p = 4\nlazy-apps = no\nlazy-apps", []),
        ("p = 4\nlazy-apps = 0", ["uwsgi-prefork-breaks"]),
        ("p = 4\nlazy-apps = yes", []),
        ("n = 4\np = %(n)", ["uwsgi-prefork-breaks"]),
        ("p = $(N)", ["uwsgi-prefork-breaks"]),
        ("p = 4\nlazy-apps = $(LAZY)", []),
        ("p = 4\nif-env = LAZY\nlazy-apps = true\nendif =", []),
        ("p = 4\nlazy-apps = true\nif-env = EAGER\nlazy-apps = false\nendif =\nharakiri = 9", []),
        ("p = 4\nif-env = EAGER\nharakiri = 9\nendif =\nlazy-apps = false", ["uwsgi-prefork-breaks"]),
    ],
)
def test_the_last_of_repeated_options_counts(lines, claims):
    """The last one counts, as for uWSGI; what is not known is never taken for safe or unsafe by itself."""
    assert claims == claims_found(_ini(f"[uwsgi]\n{lines}"))


def _ini(text):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "uwsgi.ini")
        path.write_text(text)
        return from_file(str(path))


def test_what_is_not_known_is_said(capsys, tmp_path):
    """An option that decides and is no literal is named in a note."""
    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text("import os\nif os.environ.get('BIG'):\n    preload_app = True\nworkers = os.cpu_count()\n")
    code, out, _ = audit(capsys, conf)

    assert 0 == code
    assert f"{conf}:3: note: preload_app is not known here: it is set only at times" == out.splitlines()[0]
    assert f"{conf}:4: note: workers is not known here: not a literal" == out.splitlines()[1]


def test_an_underscore_is_pointed_out(capsys, tmp_path):
    """uWSGI takes lazy_apps for a placeholder of that name, and loads the application before it forks."""
    (tmp_path / "uwsgi.ini").write_text("[uwsgi]\np = 4\nlazy_apps = true\n")
    code, out, _ = audit(capsys, tmp_path / "uwsgi.ini")

    assert (1, f"{tmp_path}/uwsgi.ini:3: note: uWSGI has no option lazy_apps; it is lazy-apps") == (
        code,
        out.splitlines()[0],
    )


def test_python_is_not_run(tmp_path, capsys):
    """A configuration that would end the process is read all the same."""
    conf = tmp_path / "gunicorn.conf.py"
    conf.write_text("import os\npreload_app = True\nos._exit(3)\n")

    assert 1 == audit(capsys, conf)[0]


# What it says

BLOCK = re.compile(r"```console\n\$ python -m recipes audit (.+)\n([^`]*)```")


@pytest.mark.parametrize("number", range(2))
def test_the_page_shows_real_output(number, tmp_path, monkeypatch, capsys):
    """What the page shows of the command is what the command prints."""
    page = (ROOT / "docs" / "audit.md").read_text()
    words, shown = BLOCK.findall(page)[number]
    for name, text in re.findall(r"```(?:ini|python)\n[;#] (\S+)\n(.*?)```", page, re.DOTALL):
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    code, out, err = audit(capsys, *words.split())

    assert (1, shown, "") == (code, out.replace(f"{tmp_path}/", ""), err)


def test_the_page_has_a_row_for_each_rule():
    """The table of the page and the rules are in step."""
    rows = [f"| {rule.title} | [{rule.why}](#claim-{rule.claim.partition('/')[2]}) |" for rule in RULES]
    table = [
        line for line in (ROOT / "docs" / "audit.md").read_text().splitlines() if "](#claim-" in line and "|" in line
    ]

    assert rows == table


def test_json_has_the_same_findings(capsys):
    """With --json, stdout is an array of objects and nothing else."""
    path = EXAMPLES / "bad" / "recycling.ini"
    code, out, _ = audit(capsys, "--json", path)
    rows = json.loads(out)

    assert (1, 4) == (code, len(rows))
    assert {"file", "line", "what", "why", "remedy", "claim"} == {key for row in rows for key in row}
    assert [vars(found) for found in findings(from_file(str(path)))] == rows


def test_without_arguments_it_looks_in_the_folder(tmp_path, monkeypatch, capsys):
    """All files of the usual names that are here are audited together."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(EXAMPLES / "bad" / "lazy.ini", "uwsgi.ini")
    shutil.copy(EXAMPLES / "bad" / "gunicorn.conf.py", "gunicorn.conf.py")
    code, out, _ = audit(capsys)

    assert (1, "3 findings in uwsgi.ini, gunicorn.conf.py") == (code, out.splitlines()[-1])


def test_a_copy_of_the_recipes_alone_can_audit(tmp_path):
    """The command needs nothing but the folder of the recipes: without site-packages it audits, too."""
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "uwsgi.ini").write_text("[uwsgi]\np = 4\n")
    command = [sys.executable, "-S", "-W", "error", "-m", "recipes", "audit"]
    done = subprocess.run(command, cwd=tmp_path, env=environment({"PYTHONPATH": ""}), capture_output=True, text=True)

    assert (1, "", "1 finding in uwsgi.ini") == (done.returncode, done.stderr, done.stdout.splitlines()[-1])


# What it cannot read

FILES = {
    "no-section.ini": "processes = 4\n",
    "other.ini": "[app:main]\nuse = egg:shop\n",
    "open.ini": "[uwsgi\np = 4\n",
    "missing.ini": "[uwsgi]\nini = nowhere.ini\n",
    "itself.ini": "[uwsgi]\ninclude = itself.ini\n",
    "from-env.ini": "[uwsgi]\nini = $(MORE)\n",
    "xml.ini": "[uwsgi]\nxml = uwsgi.xml\n",
    "empty.ini": "",
    "binary.ini": "[uwsgi]\0",
    "nested.yaml": "uwsgi:\n  module: app\n  env:\n    A: 1\n",
    "flow.yaml": "uwsgi:\n  mule: [a, b]\n",
    "anchor.yaml": "uwsgi:\n  module: &a app\n",
    "quoted.yaml": "uwsgi:\n  module: 'app\n",
    "tab.yaml": "uwsgi:\n\tmodule: app\n",
    "deep.yaml": "uwsgi:\n  module: app\n    p: 4\n",
    "list.yaml": "- uwsgi\n",
    "other.yaml": "services:\n  web: x\n",
    "broken.conf.py": "workers = = 4\n",
    "shop.py": "x = 1\n",
    "uwsgi.xml": "<uwsgi/>",
}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["no-section.ini"], "no-section.ini:1: no [section] before this line; uWSGI's begins with [uwsgi]"),
        (["other.ini"], "other.ini: no option of a section [uwsgi]; is it a configuration of uWSGI?"),
        (["open.ini"], "open.ini:1: no ] at the end of the section's name"),
        (["missing.ini"], "missing.ini:2: nowhere.ini: no such file; run the audit where the server is started"),
        (["itself.ini"], "itself.ini: includes itself; take one of the two lines out"),
        (["from-env.ini"], "from-env.ini:2: ini: the name of the file is not known; replace what stands for it"),
        (["xml.ini"], "xml.ini:2: uWSGI's xml is not read here; write it as INI, or give the command line"),
        (["empty.ini"], "empty.ini: no option of a section [uwsgi]; is it a configuration of uWSGI?"),
        (["binary.ini"], "binary.ini: not a text file; give the file that configures the server"),
        (["nested.yaml"], "nested.yaml:4: a mapping within env, which is not read here; uWSGI has none"),
        (["flow.yaml"], 'flow.yaml:2: not read here: "[a, b]"; write plain values, lists one item a line'),
        (["anchor.yaml"], 'anchor.yaml:2: not read here: "&a app"; write plain values, lists one item a line'),
        (["quoted.yaml"], "quoted.yaml:2: the quotation does not end with the line"),
        (["tab.yaml"], 'tab.yaml:2: not read here: "module: app"; write one "name: value" a line'),
        (["deep.yaml"], "deep.yaml:3: indented by 4 where 2 is expected"),
        (["list.yaml"], "list.yaml: no option of a section [uwsgi]; is it a configuration of uWSGI?"),
        (["other.yaml"], "other.yaml: no option of a section [uwsgi]; is it a configuration of uWSGI?"),
        (["broken.conf.py"], "broken.conf.py:1: not valid Python: invalid syntax; correct it first"),
        (["shop.py"], "shop.py: sets nothing that gunicorn or Celery knows; give its command line after -- instead"),
        (["uwsgi.xml"], "uwsgi.xml: of no kind that is known; known are uwsgi .ini and .yaml, gunicorn and Celery .py"),
        (["nowhere.ini"], "nowhere.ini: No such file or directory; give the file that configures the server"),
        (["folder"], "folder: a folder; give the file that configures the server"),
        (
            ["--", "docker", "run"],
            "command line: docker: no program that is known here; known are uwsgi, gunicorn, celery",
        ),
        (["--", "celery", "-A", "nowhere", "worker"], "command line: nowhere was not found from here; run the audit"),
        (["--", "celery", "-A", "shop", "beat"], "command line: celery beat: only celery … worker is known here"),
        (["--", "uwsgi --ini 'a"], "command line: No closing quotation; close the quotation"),
        (["--", "uwsgi", "-p"], "command line:2: -p lacks its value"),
        (["--", "uvicorn", "shop:app"], "command line: uvicorn is not known to this audit: by its source it spawns"),
        (["--", "granian", "shop:app"], "command line: granian is not known to this audit: what its workers inherit"),
        (
            ["--", "mod_wsgi-express", "a"],
            "command line: mod_wsgi-express is not known to this audit: what its processes",
        ),
        (["--", "gunicorn", "-c", "nowhere.py", "a"], "nowhere.py: No such file or directory; give the file"),
        (["--import", "nowhere"], "cannot import nowhere: ModuleNotFoundError: No module named 'nowhere'"),
        (["--import", "broken.conf"], "cannot import broken.conf: ModuleNotFoundError: No module named 'broken'"),
        (["--import", "shop.py:"], "cannot import shop.py:: ModuleNotFoundError"),
        (["--import", "shop:app"], "cannot import shop:app: AttributeError: module 'shop' has no attribute 'app'"),
        (["--import", "shop", "--chdir", "nowhere"], "nowhere: no such folder; give the application's with --chdir"),
        ([], "nothing to audit: none of uwsgi.ini, uwsgi.yaml, uwsgi.yml, gunicorn.conf.py, celeryconfig.py is here;"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_what_cannot_be_read_is_one_line(words, said, tmp_path, monkeypatch, capsys):
    """Exit code 2, nothing on stdout, and one line on stderr with file, line, what is wrong and what to do."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    for name, text in FILES.items():
        Path(name).write_text(text)
    code, out, err = audit(capsys, *words)

    assert (2, "", 1) == (code, out, len(err.splitlines()))
    assert err.startswith(said)
    assert str(os.path.sep) + "recipes" not in err


# With --import

IMPORTED = {
    "connects": "with engine.connect() as connection:\n    connection.exec_driver_sql('select 1')\n",
    "only_makes": "",
    "closes": "engine.connect().close()\nengine.dispose()\n",
    "holds": "connection = engine.connect()\n",
    "session": "session = Session(engine)\nsession.connection()\n",
    "thread": "engine.connect().close()\nThread(target=Event().wait, daemon=True, name='pinger').start()\n",
}
FOUND = {
    "connects": [("connects.py", 7, "preload-lazy-pool")],
    "only_makes": [],
    "closes": [],
    "holds": [("holds.py", 7, "fork-checked-out-escapes-dispose"), ("holds.py", 7, "preload-lazy-pool")],
    "session": [("session.py", 8, "fork-checked-out-escapes-dispose"), ("session.py", 8, "preload-lazy-pool")],
    "thread": [("thread", 1, "fork-thread-holds-connection"), ("thread.py", 7, "preload-lazy-pool")],
}


@pytest.fixture
def shop(tmp_path):
    """A folder with an application for each thing that an import may leave behind."""
    head = "from threading import Event, Thread\nfrom sqlalchemy import QueuePool, create_engine\n"
    head += "from sqlalchemy.orm import Session\n\n\nengine = create_engine('sqlite://', poolclass=QueuePool)\n"
    for name, text in IMPORTED.items():
        (tmp_path / f"{name}.py").write_text(head + text)
    return tmp_path


@pytest.mark.parametrize("name", IMPORTED)
def test_an_import_is_audited(name, shop, capsys):
    """What an import leaves behind is found where it is opened; what it closes again, and an idle engine, are none."""
    code, out, err = audit(capsys, "--import", name, "--chdir", shop, "--json")
    found = sorted((Path(r["file"]).name, r["line"], r["claim"].rpartition("#claim-")[2]) for r in json.loads(out))

    assert (int(bool(FOUND[name])), FOUND[name], "") == (code, found, err)


@pytest.mark.parametrize(
    ("line", "name", "claims"),
    [
        ("gunicorn --preload -w 4 {}:engine", "connects", ["gunicorn-preload-breaks", "preload-lazy-pool"]),
        ("gunicorn --preload -w 4 {}:engine", "only_makes", []),
        ("gunicorn -w 4 {}:engine", "connects", []),
        ("uwsgi -p 4 -w {}:engine --lazy-apps", "holds", []),
        ("uwsgi -p 4 -w {}:engine", "closes", []),
        ("uwsgi -p 4 -w {}:engine", "connects", ["preload-lazy-pool", "uwsgi-prefork-breaks"]),
        ("uwsgi -p 4 -w {}:engine --hook-post-fork rpc:forget", "connects", []),
        ("uwsgi -p 4 -w {}:engine --hook-post-fork rpc:forget", "thread", []),
        ("uwsgi -p 4 -w {}:engine --hook-post-fork rpc:forget", "holds", ["fork-checked-out-escapes-dispose"]),
    ],
)
def test_import_and_configuration_are_judged_together(line, name, claims, shop, capsys):
    """An import that connects before the fork without a hook is unsafe; one that does not is safe there."""
    _, out, _ = audit(capsys, "--json", "--import", f"{name}:engine", "--chdir", shop, "--", line.format(name))

    assert claims == sorted(row["claim"].rpartition("#claim-")[2] for row in json.loads(out))


def test_a_quoted_command_line_needs_no_dashes(capsys):
    """One argument with spaces that is no file is a command line, as if it stood after ``--``."""
    line = "gunicorn --preload -w 4 nowhere:app"

    assert audit(capsys, "--", line) == audit(capsys, line)
    assert 1 == audit(capsys, line)[0]
