"""The directive ``{matrix}``, in small sites of its own: what its cells say, and when it makes a build fail."""

import html
import re

import pytest
from small_sites import bare, import_all, small_site

from lab.shapes import Arm, Check, Setup, Tally, Trial

# A build in a fork starts in no time, and changes nothing here. Nothing else uses this process meanwhile.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def imported():
    import_all()


@pytest.fixture
def site(tmp_path, monkeypatch):
    return small_site(tmp_path, monkeypatch)


def column(framework, remedy, *trials, role="hazard", not_run=""):
    check = Check("plain", "!=" if role == "hazard" else "==", "right")
    setup = Setup(framework=framework, remedy=remedy)
    return Arm(f"{framework} {remedy}".strip(), role, setup, (check,), trials, not_run)


def trial(plain, lazy, **facts):
    return Trial(Tally(), facts={"plain": plain, "lazy stream": lazy, **facts})


ARMS = (
    column("WSGI", "none", trial("leaked", "hung"), trial("leaked", "truncated", says={"lazy stream": "cut <off>"})),
    column("WSGI", "close", trial("right", "right", sql={"plain": ["SELECT 1", "SELECT 2"]}), role="remedy"),
    column("Flask", "none", trial("odd word", "–")),
    column("FastAPI", "none", not_run="FastAPI is missing: pip it"),
)


def matrix(site, content="plain\nlazy stream", claims="breaks", options=""):
    head = f":columns: framework remedy\n:caption: What *became*\n{options}"
    site.write("index.md", f"# Grid\n\n:::{{matrix}} {claims}\n{head}{content}\n:::\n")
    return site.build("-W")


def grid(build):
    """Titles, and each row's cells with their colours."""
    table = build.page().partition("</figure>")[0]
    rows = [re.findall(r"<t[hd]([^>]*)>(.*?)</t[hd]>", row, re.DOTALL) for row in table.split("<tr")[2:]]
    cells = [[(re.search(r"cell-[\w-]+", attributes), bare(text)) for attributes, text in row] for row in rows]
    titles = re.findall(r'<th scope="col">(.*?)</th>', table)
    return titles, [[f"{colour[0]}: {text}" if colour else text for colour, text in row] for row in cells]


def test_a_matrix(site):
    """Each cell has a mark, a word and a colour, counts where trials differ, and a run to lead to."""
    site.claim("breaks", *ARMS)
    build = matrix(site)
    titles, rows = grid(build)
    table, _, runs = build.page().partition("</figure>")

    assert (0, "") == (build.returncode, build.log)
    assert ["WSGI, none", "WSGI, close", "Flask, none", "FastAPI, none"] == titles
    assert [
        ["plain", "cell-half: ◐ leaked", "cell-right: ✓ right", "cell-plain: odd word", "cell-not-run: – not run"],
        [
            "lazy stream",
            "cell-wrong: ∞ hung 1 of 2 ✗ truncated 1 of 2",
            "cell-right: ✓ right",
            "–",
            "cell-not-run: – not run",
        ],
    ] == rows
    targets = re.findall(r'href="#(run-[^"]*)"', table)
    assert 7 == len(targets) == len(set(targets))
    assert [] == [target for target in targets if f'id="{target}"' not in runs]
    assert 'title="cut <off>"' in html.unescape(table)
    assert "<code>SELECT 1</code>" in runs and "<code>cut &lt;off&gt;</code>" in runs
    assert "FastAPI is missing: pip it" in bare(runs)
    assert 'href="evidence/breaks.json"' in runs


def test_a_matrix_of_some_arms(site):
    """Arms are chosen by what their setup says; what several claims rest on is shown once."""
    site.claim("breaks", *ARMS)
    site.claim("again", *ARMS)
    build = matrix(site, claims="again breaks", options=":where: framework=WSGI | FastAPI, remedy=none\n")

    assert (0, "") == (build.returncode, build.log)
    assert ["WSGI, none", "FastAPI, none"] == grid(build)[0]
    assert 'href="evidence/again.json"' in build.page() and 'href="evidence/breaks.json"' not in build.page()


def test_claims_share_a_column(site):
    """Runs of one setup that differ are counted together, and each stands in the list."""
    site.claim("breaks", *ARMS)
    site.claim("again", column("WSGI", "none", trial("right", "truncated")), ARMS[1])
    build = matrix(site, claims="breaks again", options=":where: framework=WSGI\n")

    assert (0, "") == (build.returncode, build.log)
    assert "cell-half: ◐ leaked 2 of 3 ✓ right 1 of 3" == grid(build)[1][0][1]
    assert 'href="evidence/again.json"' in build.page() and 'href="evidence/breaks.json"' in build.page()


@pytest.mark.parametrize(
    ("content", "options", "text"),
    [
        ("plain", "", "rows: the trials recorded 'lazy stream' too, and there is no row for it"),
        ("plain\nlazy stream\nHEAD", "", "rows: no trial has recorded 'HEAD'"),
        ("plain\nlazy stream", ":where: remedy=magic\n", "where: no arm is left"),
        ("plain\nlazy stream", ":where: cure=close\n", "where: there is no 'cure', only"),
    ],
)
def test_a_matrix_is_complete(site, content, options, text):
    """A row without a fact, a state without a row, and a choice that leaves nothing fail the build."""
    site.claim("breaks", *ARMS)
    build = matrix(site, content, options=options)
    ((where, kind, said),) = build.warnings

    assert (1, "index.md:3", "claims.unknown") == (build.returncode, where, kind)
    assert said.startswith(text)


def test_a_row_may_be_left_out(site):
    """What a trial recorded for other purposes is named, and has no row."""
    site.claim("breaks", *ARMS)
    build = matrix(site, "plain", options=":without: lazy stream, others\n")

    assert (0, "") == (build.returncode, build.log)
    assert ["plain"] == [row[0] for row in grid(build)[1]]


def test_the_aside_of_many_checks_and_arms(site):
    """Fields of which the same is demanded share a line, and each of many arms opens on demand."""
    facts = {"HEAD": "right", "stream": "right", "abort": "right", "raise": "odd"}
    checks = tuple(Check(name, "==", word) for name, word in facts.items())
    arms = [Arm(f"arm {n}", "control", Setup(), checks, (Trial(facts=facts),)) for n in range(9)]
    site.claim("breaks", *ARMS[:1], *arms)
    site.write("index.md", "# Claims\n\n:::{claim} breaks\nIt breaks.\n:::\n")
    build = site.build("-W")

    assert (0, "") == (build.returncode, build.log)
    assert "✓ arm 8 control HEAD · abort · stream: right; raise: odd" in build.text()
    assert "✓ HEAD · stream · abort: right in every trial (1 of 1) ✓ raise: odd in every trial" in build.text()
    assert 11 == build.page().count("<details")


def test_the_aside_of_few_arms(site):
    """Few arms stand open."""
    site.claim("breaks", *ARMS[:2])
    site.write("index.md", "# Claims\n\n:::{claim} breaks\nIt breaks.\n:::\n")

    assert 1 == site.build("-W").page().count("<details")
