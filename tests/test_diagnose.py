"""The matcher: which symptoms a log shows, in which order, and none where it shows none."""

import gettext
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import mutations
import pytest

from lab import messages
from recipes import _diagnose
from recipes._diagnose import diagnose

HERE = Path(__file__).parent
LOGS = HERE / "logs"
EXPECTED = tomllib.loads((LOGS / "expected.toml").read_text())["log"]
ROWS = _diagnose.read_rows()["symptom"]
MESSAGES = tomllib.loads((HERE / "recorded_messages.toml").read_text())
MARIADB = {
    "Too many connections",
    "Got an error reading communication packets",
    "Deadlock found when trying to get lock",
    "Record has changed since last read in table",
    "Lock wait timeout exceeded",
    "SAVEPOINT sa_savepoint_ … does not exist",
}
# The release that the translations are from. 15.20 says all Chinese ones in other words than 15.18; both are there.
CATALOGUES = [*Path("/usr/share/locale").glob("*/LC_MESSAGES/libpq5-15.mo")]
CATALOGUES += Path("/usr/share/locale").glob("*/LC_MESSAGES/postgres-15.mo")

STORIES = tomllib.loads((HERE / "told_logs.toml").read_text())["log"]

every_story = pytest.mark.parametrize("story", STORIES, ids=lambda story: story["about"])
every_log = pytest.mark.parametrize("log", EXPECTED, ids=lambda log: log["file"])


def ids(text):
    return [finding.symptom.id for finding in diagnose(text)]


def command(*arguments, given=b""):
    return subprocess.run([sys.executable, "-m", "recipes", "diagnose", *arguments], input=given, capture_output=True)


# ---- Logs ----


@every_log
def test_log_names_its_symptom(log):
    """What a recorded log shows comes first, whatever became of it on its way, and nothing that it does not show."""
    text = (LOGS / log["file"]).read_text()
    wrong = {}
    for mutate in mutations.ALL:
        found = ids(mutate(text))
        if found[:1] != ([log["first"]] if log["first"] else []) or set(found[1:]) - set(log["also"]):
            wrong[mutate.__name__] = found

    assert {} == wrong


@every_story
def test_story_names_its_symptom(story):
    """What a told log shows as a whole comes first, whatever its lines would say each by itself."""
    found = ids(story["text"])

    assert ([story["first"]] if story["first"] else []) == found[:1]
    assert set() == set(found[1:]) - set(story["also"])


@pytest.mark.parametrize(
    "row", [row for row in ROWS if any("with" not in rule for rule in row.get("match", ()))], ids=lambda row: row["id"]
)
def test_own_text_names_the_symptom(row):
    """The texts that a row quotes name it, unless it takes the rest of a log to know it."""
    assert row["id"] in ids("\n".join(row["says"]))


def test_recorded_messages_match_their_symptom():
    """Every message that the experiments recorded matches the symptom that it stands for, if it stands for one."""
    unknown, wrong = [], []
    for message in messages.recorded():
        means = next((symptom for text, symptom in MESSAGES.items() if text in message), None)
        if means is None:
            unknown.append(message)
        elif ids(message)[:1] != ([means] if means.startswith("S") else []):
            wrong.append((means, ids(message), message))

    assert [] == unknown
    assert [] == wrong


def test_oracle_of_messages_is_used():
    """Each text of the oracle is in some recorded message, before another one takes it."""
    used = {next((text for text in MESSAGES if text in message), None) for message in messages.recorded()}

    assert [] == [text for text in MESSAGES if text not in used]


def test_cause_comes_before_its_consequence():
    """Of a chain of failures, the first cause is named first, whichever stands in the last line."""
    cause = (
        "sqlalchemy.exc.OperationalError: (psycopg2.OperationalError) SSL error: decryption failed or bad record mac"
    )
    consequence = "sqlalchemy.exc.PendingRollbackError: Can't reconnect until invalid transaction is rolled back."

    assert ["S01", "S52"] == ids(f"{cause}\n{consequence}")
    assert ["S01", "S52"] == ids(f"{consequence}\n{cause}")
    assert ["S52"] == ids(consequence)


def test_lines_are_those_of_the_log():
    """A finding holds the lines of the log that say so, without colours, each once, and of a wrapped line all parts."""
    log = "before\nx | \x1b[31mCommands out\n of sync; you can't\nCommand Out of Sync\nCommand Out of Sync\nafter"
    (finding,) = diagnose(log)

    assert ("x | Commands out", "of sync; you can't", "Command Out of Sync") == finding.lines


def test_long_log_is_read_whole():
    """A line in the middle of a long log is found."""
    noise = "2026-11-25 INFO sqlalchemy.engine.Engine SELECT 1\n" * 20_000

    assert ["S18"] == ids(f"{noise}Packet sequence number wrong - got 3 expected 1\n{noise}")


@pytest.mark.parametrize("text", ["", "\n\n", "\x00\x01", "…", "-" * 10_000])
def test_no_log_names_nothing(text):
    """What is no log names no symptom."""
    assert [] == ids(text)


# ---- Rows ----


def catalogue():
    """All that the installed catalogues of PostgreSQL say."""
    for path in CATALOGUES:
        with path.open("rb") as file:
            yield from filter(lambda text: isinstance(text, str), gettext.GNUTranslations(file)._catalog.values())


def test_every_symptom_has_a_row():
    """The rows go from S01 on in order; S11 has never been given."""
    numbers = [int(row["id"][1:]) for row in ROWS]

    assert [number for number in range(1, numbers[-1] + 1) if number != 11] == numbers
    assert numbers[-1] >= 89


def test_rules_are_well_formed():
    """A rule's signals and causes exist, and each part of a phrase is long enough to be looked up."""
    known = _diagnose.known()
    names = {symptom.id for symptom in known.symptoms} | {"*"}
    phrases = [phrase for said in known.signals.values() for phrase in said]
    for symptom in known.symptoms:
        phrases += [phrase for rule in symptom.rules for phrase in rule.say]
        for rule in symptom.rules:
            assert {name for either in rule.having for name in either} | {*rule.lacking} <= set(known.signals)
        assert set(symptom.after) <= names

    assert [] == [phrase for phrase in phrases if any(len(part) < 4 for part in phrase.split("…"))]


def test_twins_are_asked_about():
    """A row asks one question, and says what either answer means; a rule that decides by itself says by what."""
    for row in ROWS:
        assert bool(row["question"]) == bool(row["yes"]) == bool(row["no"]), row["id"]
        assert all(rule.get("with") for rule in row.get("match", ()) if rule.get("sure")), row["id"]


def test_translations_are_postgresqls():
    """What stands as a translation is what the installed PostgreSQL says, but for what a release has changed."""
    if {"libpq5-15.mo", "postgres-15.mo"} != {file.name for file in CATALOGUES}:
        pytest.skip("no catalogues of PostgreSQL 15: apt-get install postgresql-15; translations are not compared")
    together = "\n".join(map(_diagnose.squeeze, catalogue()))
    parts = {
        phrase: [part for translation in translations for part in re.split("…|SAVEPOINT", translation)]
        for phrase, translations in _diagnose.read_rows()["translations"].items()
        if phrase not in MARIADB
    }
    known = {
        phrase: sum(_diagnose.squeeze(part) in together for part in some) / len(some) for phrase, some in parts.items()
    }

    assert {} == {phrase: share for phrase, share in known.items() if share < 0.8}


# ---- The command ----


def test_json_is_an_array(tmp_path):
    """``--json`` prints an array of objects with id, title, url and lines, most likely first."""
    file = tmp_path / "app.log"
    file.write_text("InternalError: Packet sequence number wrong - got 1 expected 2\nPendingRollbackError: x\n")
    ran = command(str(file), "--json")
    found = json.loads(ran.stdout)

    assert (0, b"") == (ran.returncode, ran.stderr)
    assert ["S18", "S52"] == [each["id"] for each in found]
    assert [{"id", "title", "url", "lines"}] * 2 == [set(each) for each in found]
    assert ["InternalError: Packet sequence number wrong - got 1 expected 2"] == found[0]["lines"]
    assert "/docs/symptoms-forks/#s18" == found[0]["url"]


def test_nothing_known_is_an_empty_array():
    """A log that shows nothing known is an empty array, and a plain line."""
    assert b"[]\n" == command("--json", given=b"KeyError: 'x'\n").stdout
    assert b"no line matches" in command(given=b"KeyError: 'x'\n").stdout


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_standard_input_in_any_encoding(encoding):
    """A log comes from standard input as well, in the encodings of PowerShell and of old servers too."""
    text = "café\nCommands out of sync; you can't run this command now\n"

    assert ["S17"] == [each["id"] for each in json.loads(command("--json", given=text.encode(encoding)).stdout)]


@pytest.mark.parametrize("name", ["nowhere.log", "."])
def test_file_that_cannot_be_read(name, tmp_path):
    """A file that is not there, or a folder, is one line that says so, and exit code 2."""
    ran = command(str(tmp_path / name))

    assert (2, b"") == (ran.returncode, ran.stdout)
    assert 1 == len(ran.stderr.splitlines())


def test_reader_that_has_enough(tmp_path):
    """A reader that closes the pipe, such as ``head``, is no error."""
    file = tmp_path / "app.log"
    file.write_text("".join(f"Packet sequence number wrong - got {n} expected 1\n" for n in range(20)))
    line = f"{sys.executable} -m recipes diagnose {file} | true"
    ran = subprocess.run(["bash", "-o", "pipefail", "-c", line], capture_output=True)

    assert (0, b"") == (ran.returncode, ran.stderr)


def test_command_asks_about_twins():
    """Where two causes look alike the command prints the question that tells them apart, and both answers."""
    told = command(given=b"psycopg2.OperationalError: SSL SYSCALL error: EOF detected\n").stdout.decode()
    (row,) = [row for row in ROWS if row["id"] == "S02"]

    assert all(text in told for text in (row["question"], row["yes"], row["no"]))
