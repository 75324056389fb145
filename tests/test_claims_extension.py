"""The Sphinx extension for claims, in small sites of its own: what it shows, and when it makes a build fail."""

import html
import re
from dataclasses import replace

import pytest
from small_sites import bare, import_all, small_site

from lab import swimlane
from lab.shapes import Arm, Check, Setup, Survival, Tally, Trial

# A build in a fork starts in no time, and changes nothing here. Nothing else uses this process meanwhile.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

SOURCES = """
[[document]]
id = "U"
title = "A post"
where = "somewhere, 2013"
url = "https://example.org/post"

[[document.claim]]
id = "U1"
says = "It `locks` up."
answer = "It does, with *every* driver."

[[document.claim]]
id = "U2"
says = "It takes 1 to 10 requests."

[[document.claim]]
id = "U3"
says = "A cure is a cure."
"""

MESSAGE = 'lost synchronization with server: got message type "<"'
EVENTS = [
    {"t": 0, "who": "worker A", "op": "writes", "owner": "A", "text": "select 'A'", "bytes": 23, "socket": "s"},
    {"t": 0.1, "who": "worker B", "op": "reads", "owner": "A", "text": "row 'A'", "bytes": 66, "socket": "s"},
]
BROKEN = (
    Trial(Tally(6, 1, 2, 1, 2, {MESSAGE: 2}), facts={"events": EVENTS, "stuck": 3}),
    Trial(Tally(8, 0, 2, 0, 5, {"gone": 2}), facts={"events": EVENTS, "stuck": 4}),
)
CLEAN = (Trial(Tally(10), facts={"stuck": 0}), Trial(Tally(10), facts={"stuck": 0}))


def arm(name, role, trials, *, driver="psycopg", remedy="none", not_run=""):
    check = Check("bad", ">" if role == "hazard" else "==", 0)
    return Arm(name, role, Setup(driver=driver, remedy=remedy, server="uwsgi"), (check,), trials, not_run)


PREFORK = arm("prefork", "hazard", BROKEN)
LAZY = arm("lazy", "remedy", CLEAN, remedy="lazy")
GUESS = arm("guess", "remedy", BROKEN, remedy="guess")
ABSENT = arm("lazy, MySQLdb", "remedy", (), driver="MySQLdb", remedy="lazy", not_run="MySQLdb is missing: apt it")


@pytest.fixture(scope="module", autouse=True)
def imported():
    import_all()


@pytest.fixture
def site(tmp_path, monkeypatch):
    site = small_site(tmp_path, monkeypatch)
    site.write("sources.toml", SOURCES)
    return site


# ---- What fails a build


def test_a_claim_that_its_evidence_bears_out(site):
    """A good claim builds without a warning."""
    site.claim("breaks", PREFORK, LAZY)
    site.state("breaks")
    build = site.build("-W")

    assert (0, "") == (build.returncode, build.log)


def test_missing(site):
    """A claim without evidence fails the build, where it is stated."""
    site.claim("breaks")
    site.state("breaks")
    build = site.build("-W")

    text = "there is no evidence for the claim 'breaks': run make evidence CLAIM=breaks"
    assert (1, [("index.md:3", "claims.missing", text)]) == (build.returncode, build.warnings)


def test_failed(site):
    """Evidence that does not bear out the claim fails the build, and the warning says which arms do not."""
    site.claim("cures", PREFORK, LAZY, GUESS)
    site.state("cures")
    build = site.build("-W")

    text = (
        "the claim 'cures' is stated as reproduced, and its evidence says depends:"
        " guess (bad answers: 0 in every trial: 0 of 2)"
    )
    assert (1, [("index.md:3", "claims.failed", text)]) == (build.returncode, build.warnings)


def test_failed_unexpectedly_well(site):
    """A claim that is stated as refuted fails the build when its evidence bears it out."""
    site.claim("cures", PREFORK, LAZY)
    site.state("cures", options=":expect: refuted\n")
    build = site.build("-W")

    text = "the claim 'cures' is stated as refuted, and its evidence says reproduced: all arms hold"
    assert (1, [("index.md:3", "claims.failed", text)]) == (build.returncode, build.warnings)


def test_failed_for_lack_of_a_run(site):
    """A claim whose remedy was not run is not reproduced."""
    site.claim("cures", PREFORK, ABSENT)
    site.state("cures")
    build = site.build("-W")

    text = (
        "the claim 'cures' is stated as reproduced, and its evidence says not run:"
        " lazy, MySQLdb was not run (MySQLdb is missing: apt it)"
    )
    assert (1, [("index.md:3", "claims.failed", text)]) == (build.returncode, build.warnings)


def test_failed_because_it_cannot_be_judged(site):
    """Evidence that checks what was never recorded fails the build, even where the verdict needs no more."""
    odd = replace(LAZY, checks=(Check("odd", "==", 1),))
    site.claim("cures", replace(PREFORK, trials=CLEAN), odd)
    site.state("cures")
    build = site.build("-W")

    text = """the evidence for the claim 'cures' cannot be judged: KeyError("the trial recorded no 'odd'")"""
    assert (1, [("index.md:3", "claims.failed", text)]) == (build.returncode, build.warnings)


def test_outdated(site):
    """Evidence that is older than what its experiment now does fails the build."""
    site.claim("breaks", PREFORK, LAZY)
    site.state("breaks")
    site.write("experiment.py", "answer = 43\n")
    build = site.build("-W")

    text = "the evidence for the claim 'breaks' is outdated: run make evidence CLAIM=breaks"
    assert (1, [("index.md:3", "claims.outdated", text)]) == (build.returncode, build.warnings)


def test_a_comment_does_not_outdate(site):
    """Evidence stands when its experiment was merely explained."""
    site.claim("breaks", PREFORK, LAZY)
    site.state("breaks")
    site.write("experiment.py", '"""Why."""\n\nanswer = 42  # what else\n')

    assert 0 == site.build("-W").returncode


def test_unknown(site):
    """A claim that no experiment decides fails the build."""
    site.state("hearsay")
    build = site.build("-W")

    text = "no experiment is registered for the claim 'hearsay'"
    assert (1, [("index.md:3", "claims.unknown", text)]) == (build.returncode, build.warnings)


def test_duplicate(site):
    """A claim that is stated twice fails the build, even on two pages."""
    site.claim("breaks", PREFORK, LAZY)
    site.state("breaks", page="a.md")
    site.state("breaks", page="index.md")
    site.write("index.md", (site.folder / "index.md").read_text() + "\n```{toctree}\na\n```\n")
    build = site.build("-W")

    text = "the claim 'breaks' is stated twice"
    assert (1, [("index.md:3", "claims.duplicate", text)]) == (build.returncode, build.warnings)


def test_a_failure_stays(site):
    """A build that failed fails again, though no page has changed since."""
    site.claim("cures", PREFORK, GUESS)
    site.state("cures")
    first, second = site.build("-W"), site.build("-W")

    assert (1, 1) == (first.returncode, second.returncode)
    assert first.warnings == second.warnings != []


# ---- What a claim shows


def test_what_a_claim_shows(site):
    """A claim is a paragraph with a mark, and on demand all that was seen."""
    site.claim("breaks", PREFORK, LAZY)
    site.state("breaks", "It `breaks`. And how.")
    build = site.build("-W")
    page, text = build.page(), build.text()

    assert '<div class="claim" id="claim-breaks">' in page
    assert 'aria-label="claim breaks: reproduced"' in page
    assert '<aside class="margin evidence">' in page
    assert "reproduced · 4 of 4 trials · 2026-11-21" in text
    assert "In all arms: uwsgi, psycopg." in text
    assert "prefork hazard, none : 14 right, 1 wrong, 4 errors, 1 hung of 20" in text
    assert "✓ bad answers: more than 0 in every trial (2 of 2)" in text
    assert f"{MESSAGE} × 2" in text
    assert "Python 3.99 · 2 cores, kernel 6.1, Debian · 2026-11-21" in text


def test_the_files_behind_a_claim(site):
    """The raw evidence and the source of its experiment are part of the site, and linked."""
    site.claim("breaks", PREFORK, LAZY)
    site.state("breaks", page="deep.md")
    site.write("index.md", "# Start\n\n```{toctree}\ndeep\n```\n")
    build = site.build("-W")

    for path in ("evidence/breaks.json", "evidence/source/experiment.py"):
        assert f'href="../{path}"' in build.page("deep")
    assert (site.folder / "evidence" / "breaks.json").read_bytes() == (
        build.output / "evidence" / "breaks.json"
    ).read_bytes()
    assert "answer = 42\n" == (build.output / "evidence" / "source" / "experiment.py").read_text()


def test_what_was_not_run_is_never_green(site):
    """An arm that was not run is marked beside the verdict, and says what was missing."""
    site.claim("breaks", PREFORK, LAZY, ABSENT)
    site.state("breaks")
    text = site.build("-W").text()

    assert "reproduced · 4 of 4 trials · 2026-11-21 1 arm not run" in text
    assert "lazy, MySQLdb remedy : not run MySQLdb is missing: apt it" in text


def test_what_only_some_trial_must_do_is_not_counted(site):
    """Where one trial in many is enough, the line beside the verdict does not claim them all."""
    some = Arm("prefork", "hazard", Setup(), (Check("hung", ">", 0, "some"),), BROKEN)
    site.claim("hangs", some, LAZY)
    site.state("hangs")
    text = site.build("-W").text()

    assert "reproduced · 4 trials · 2026-11-21" in text
    assert "✓ hung requests: more than 0 in some trial (1 of 2)" in text


def test_expected_verdicts(site):
    """Advice that is stated as refuted, or as depending on something, is shown so and builds."""
    site.claim("cures", PREFORK, GUESS)
    site.claim("helps", PREFORK, LAZY, GUESS)
    site.state("cures", options=":expect: refuted\n")
    site.state("helps", options=":expect: depends\n")
    build = site.build("-W")

    assert (0, "") == (build.returncode, build.log)
    assert 'aria-label="claim cures: refuted"' in build.page()
    assert 'aria-label="claim helps: depends"' in build.page()


def test_links(site):
    """A claim can be linked to from another page, and links to its notebook."""
    site.claim("breaks", PREFORK, LAZY)
    site.state("breaks", options=":notebook: /index\n", page="a.md")
    site.write("index.md", "# Start\n\nSee [why](#claim-breaks).\n\n```{toctree}\na\n```\n")
    build = site.build("-W")

    assert (0, "") == (build.returncode, build.log)
    assert 'href="a/#claim-breaks"' in build.page()
    assert re.search(r'<a class="reference internal" href="../"><span[^>]*>notebook</span>', build.page("a"))


# ---- The ledger, and the sources


LEDGER = "# Ledger\n\n```{ledger}\n```\n\n```{sources} U\n```\n"


def with_ledger(site, *, pages=1):
    site.write("ledger.md", LEDGER)
    names = [f"page{n}" for n in range(pages)]
    for n, name in enumerate(names):
        site.claim(f"breaks{n}", PREFORK, LAZY, seeds=["U1"] if n == 0 else [])
        site.state(f"breaks{n}", f"It [breaks](index.md) with `-p {n}`. More prose.", page=f"{name}.md")
    site.write("index.md", "# Start\n\n```{toctree}\nledger\n" + "\n".join(names) + "\n```\n")


def test_the_ledger(site):
    """The ledger has the first sentence of every claim, its verdict, and links."""
    with_ledger(site)
    build = site.build("-W")
    page, text = build.page("ledger"), build.text("ledger")

    assert (0, "") == (build.returncode, build.log)
    assert "1 claim: 1 reproduced." in text
    assert "It breaks with -p 0 . breaks0 reproduced 4 of 4 trials 2026-11-21 U1 Python 3.99" in text
    assert "More prose" not in text
    assert 'href="../page0/#claim-breaks0"' in page
    assert 'href="#source-U1"' in page


def test_the_sources(site):
    """A claim of a source is answered by a sentence and by claims of the site."""
    with_ledger(site)
    build = site.build("-W")

    assert 'href="https://example.org/post"' in build.page("ledger")
    assert (
        "U1 It locks up. reproduced It does, with every driver. By breaks0 reproduced"
        " U2 It takes 1 to 10 requests. not covered yet U3" in build.text("ledger")
    )


def test_an_answer_that_no_claim_supports(site):
    """A source's claim is not shown as answered because a sentence says so, and the build fails."""
    site.write("index.md", LEDGER)
    build = site.build("-W")

    assert [("sources.toml:9", "claims.unsupported", "U1 is answered, but by no claim of the site")] == build.warnings
    assert 1 == build.returncode
    assert "It does, with every driver." not in build.text()


def test_a_claim_that_answers_what_nobody_said(site):
    """A seed that no source has is a slip, and fails the build."""
    with_ledger(site)
    site.claim("more", PREFORK, LAZY, seeds=["U99"])
    site.state("more", page="page0.md")
    build = site.build("-W")

    text = "the claim 'more' answers U99, which no source says"
    assert (1, [("page0.md:7", "claims.unknown", text)]) == (build.returncode, build.warnings)


def test_edited_evidence_renders_page_and_ledger_again(site):
    """When evidence changes, the next build shows it wherever the old was shown, and judges it."""
    with_ledger(site)
    site.build("-W")
    site.claim("breaks0", PREFORK, LAZY, ABSENT, seeds=["U1"])
    build = site.build("-W")

    assert (0, "") == (build.returncode, build.log)
    assert "1 arm not run" in build.text("page0")
    assert "1 arm not run" in build.text("ledger")

    site.claim("breaks0", PREFORK, GUESS, seeds=["U1"])
    build = site.build("-W")

    assert (1, ["claims.failed"]) == (build.returncode, [kind for _, kind, _ in build.warnings])
    assert "refuted" in build.text("page0")
    assert "1 claim: 1 refuted." in build.text("ledger")


def test_a_claim_taken_back_leaves_the_ledger(site):
    """When a page no longer states a claim, the next build's ledger does not list it."""
    with_ledger(site, pages=2)
    site.build("-W")
    site.write("page1.md", "# Nothing\n")
    build = site.build("-W")

    assert "breaks0" in build.text("ledger")
    assert "breaks1" not in build.text("ledger")


def test_parallel_builds(site):
    """Workers that read and write in parallel make the same ledger and find the same faults."""
    with_ledger(site, pages=8)
    alone = site.build("-W")
    together = site.build("-W", "-E", "-a", "-j2")

    assert (0, "") == (together.returncode, together.log)
    assert "8 claims: 8 reproduced." in together.text("ledger")
    assert alone.page("ledger") == together.page("ledger")

    site.state("breaks0", page="page7.md")
    site.claim("breaks3", PREFORK, GUESS)
    found = {(where, kind) for where, kind, _ in site.build("-W", "-E", "-j2").warnings}

    assert {("page7.md:7", "claims.duplicate"), ("page3.md:3", "claims.failed")} == found


# ---- Figures


FACTS = {
    "prefork/stuck": "3.5",
    "prefork/stuck | .2f": "3.50",
    "prefork/first_bad": "3.5",
    "lazy/stuck": "0",
    "lazy/pool": "QueuePool",
    "prefork/sum:error": "4",
    "prefork/max:stuck": "4",
    "prefork/min:stuck": "3",
    "prefork/median:wrong": "0.5",
    "prefork/count:": "2",
    "prefork/count:wrong": "1",
    "*/sum:total | ,": "4,020",
    "*/count:": "4",
}


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    """One build of a page with all of them."""
    with pytest.MonkeyPatch.context() as patch:
        site = small_site(tmp_path_factory.mktemp("facts"), patch)
        site.write("sources.toml", SOURCES)
        busy = Trial(Tally(1990), facts={"stuck": 0, "pool": "QueuePool"})
        site.claim("breaks", PREFORK, replace(LAZY, trials=(busy, replace(busy, tally=Tally(2010)))), ABSENT)
    site.write("index.md", "# Facts\n\n" + "\n".join(f"- {{fact}}`breaks/{path}`" for path in FACTS) + "\n")
    build = site.build("-W")
    assert (0, "") == (build.returncode, build.log)
    shown = re.findall(r'<span class="fact" title="[^"]*">(.*?)</span>', build.page())
    return dict(zip(FACTS, shown, strict=True))


@pytest.mark.parametrize("path", FACTS)
def test_facts(facts, path):
    """Prose takes its numbers from evidence: the median over the trials of an arm, or another aggregate."""
    assert FACTS[path] == facts[path]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("prefork/stukc", "a trial of 'prefork' recorded no 'stukc'"),
        ("lazy/first_bad", "no trial of 'lazy' has a 'first_bad'"),
        ("azy/stuck", "'breaks' has no arm 'azy', only prefork, lazy, lazy, MySQLdb"),
        ("lazy, MySQLdb/stuck", "the arm 'lazy, MySQLdb' was not run: MySQLdb is missing: apt it"),
        ("prefork/mode:stuck", "there is no 'mode', only sum, max, min, median, count"),
        ("prefork/stuck | q", "Unknown format code 'q' for object of type 'float'"),
    ],
)
def test_a_fact_that_is_not_there(site, path, text):
    """A number that evidence does not hold fails the build, and the next one too."""
    site.claim("breaks", PREFORK, LAZY, ABSENT)
    site.write("index.md", f"# Facts\n\nIt is {{fact}}`breaks/{path}`.\n")
    builds = site.build("-W"), site.build("-W")

    warning = ("index.md:3", "claims.unknown", f"breaks/{path.partition(' |')[0]}: {text}")
    assert [(1, [warning])] * 2 == [(build.returncode, build.warnings) for build in builds]


def test_a_fact_of_outdated_evidence(site):
    """A page that merely quotes evidence fails the build when the evidence is outdated."""
    site.claim("breaks", PREFORK, LAZY, digest="0123")
    site.write("index.md", "# Facts\n\n{fact}`breaks/lazy/stuck` and {fact}`breaks/prefork/stuck`\n")
    build = site.build("-W")

    assert [("index.md:3", "claims.outdated")] == [warning[:2] for warning in build.warnings]


def grid(site, options, claims="breaks"):
    site.write("index.md", f"# Grid\n\n:::{{evidence-grid}} {claims}\n{options}\n:::\n")
    return site.build("-W")


def cells(build):
    """Class, title and text of each cell, row by row."""
    rows = re.findall(r"<tr.*?</tr>", build.page(), re.DOTALL)
    found = [re.findall(r"<t[hd]([^>]*)>(.*?)</t[hd]>", row, re.DOTALL) for row in rows]
    return [[f"{named(attributes)}{bare(text)}" for attributes, text in row] for row in found]


def named(attributes):
    kind = re.search(r'class="([^"]*)"', attributes)
    return f"{kind[1]}: " if kind else ""


def test_a_grid(site):
    """A grid has a cell for each setup, in the order of the arms, and colour only where there is text."""
    site.claim("breaks", PREFORK, LAZY, ABSENT, arm("pg8000", "hazard", BROKEN[1:], driver="pg8000"))
    build = grid(site, ":rows: remedy\n:columns: driver\n:caption: Bad answers by `remedy`")

    assert (0, "") == (build.returncode, build.log)
    assert [
        ["remedy", "psycopg", "MySQLdb", "pg8000"],
        ["none", "cell-wrong: 6 / 20, 1 w, 4 e, 1 h", "–", "cell-error: 2 / 10, 2 e"],
        ["lazy", "cell-right: 0 / 20", "cell-not-run: not run", "–"],
    ] == cells(build)
    assert f'title="{html.escape(MESSAGE)}"' in build.page()
    assert 'title="MySQLdb is missing: apt it"' in build.page()
    assert "Bad answers by remedy In each cell: bad answers / requests (w wrong, e error, h hung)." in build.text()


def test_a_grid_of_several_things(site):
    """Without columns of its own, a grid has one for each thing that is asked for."""
    dead = tuple(replace(trial, survival=Survival("dead", "closed")) for trial in BROKEN)
    alive = tuple(replace(trial, survival=Survival("alive")) for trial in CLEAN)
    site.claim("breaks", replace(PREFORK, trials=dead), replace(LAZY, trials=alive))
    build = grid(site, ":rows: arm\n:cell: parent, first_bad, stuck")

    assert [
        ["arm", "the parent's connection afterwards", "first bad request, median (range)", "stuck"],
        ["prefork", "cell-error: dead", "3.5 (2–5)", "3.5 (3–4)"],
        ["lazy", "cell-right: alive", "never", "0"],
    ] == cells(build)


def test_a_grid_of_several_things_by_column(site):
    """With columns, a cell has a line for each thing that is asked for."""
    site.claim("breaks", PREFORK, LAZY)
    build = grid(site, ":rows: remedy\n:columns: driver\n:cell: tally, first_bad")

    assert [
        ["remedy", "psycopg"],
        ["none", "cell-wrong: 6 / 20, 1 w, 4 e, 1 h first bad request: 3.5 (2–5)"],
        ["lazy", "cell-right: 0 / 20 first bad request: never"],
    ] == cells(build)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ((1, 3), "2 (1–3)"),
        ((0.5, 0.5), "0.5"),
        ((True, True), "yes"),
        (("a", "b", "a"), "a 2 of 3, b 1 of 3"),
        (([3, 1], [3, 1]), "3, 1"),
        (({"FATAL": 2}, {"FATAL": 1, "LOG": 1}), "FATAL × 3; LOG × 1"),
        ((None, None), "none"),
    ],
)
def test_how_facts_are_summed_up(site, facts, expected):
    """Whatever trials record is summed up in a few words."""
    trials = tuple(Trial(facts={"seen": fact}) for fact in facts)
    site.claim("breaks", replace(PREFORK, trials=trials, checks=(Check("seen", "==", facts[0]),)), LAZY)

    assert expected == cells(grid(site, ":roles: hazard\n:cell: seen"))[1][1]


def test_a_grid_of_words(site):
    """A word that says how something ended has its colour in a grid too, the worst where the trials differ."""
    hangs, split = (
        tuple(replace(trial, facts={"state": word}) for trial, word in zip(CLEAN, words, strict=True))
        for words in (("hangs", "hangs"), ("right", "error"))
    )
    site.claim("breaks", replace(PREFORK, trials=hangs), replace(LAZY, trials=split))
    build = grid(site, ":rows: remedy\n:cell: state")

    assert [["none", "cell-hung: hangs"], ["lazy", "cell-error: right 1 of 2, error 1 of 2"]] == cells(build)[1:]


def test_a_grid_of_several_claims(site):
    """The arms of several claims are merged; runs that they share count once."""
    site.claim("breaks", PREFORK, LAZY)
    site.claim("cures", PREFORK, GUESS)
    build = grid(site, ":rows: remedy", "breaks cures")

    assert [["none", "6 / 20"], ["lazy", "0 / 20"], ["guess", "6 / 20"]] == [
        [name, text.partition(": ")[2].partition(",")[0]] for name, text in cells(build)[1:]
    ]
    assert "Evidence: breaks , cures ." in build.text()


def test_a_grid_of_some_roles(site):
    """The arms of a grid may be chosen by their role."""
    site.claim("breaks", PREFORK, LAZY, GUESS)

    assert ["lazy", "guess"] == [row[0] for row in cells(grid(site, ":rows: remedy\n:roles: remedy control"))[1:]]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (":rows: colour", "rows: there is no 'colour', only database, driver, "),
        (":roles: villain", "roles: there is no 'villain', only hazard, control, remedy"),
        (":cell: taste", "a trial of 'prefork' recorded no 'taste'"),
    ],
)
def test_a_grid_of_what_is_not_there(site, options, text):
    """A grid that asks for what evidence does not hold fails the build, and the next one too."""
    site.claim("breaks", PREFORK, LAZY)
    builds = grid(site, options), site.build("-W")

    for build in builds:
        ((where, kind, warning),) = build.warnings
        assert (1, "index.md:3", "claims.unknown") == (build.returncode, where, kind)
        assert warning.startswith(text)


def test_a_swim_lane(site):
    """A trace is drawn, captioned and told in words, alike in every build."""
    site.claim("breaks", PREFORK, LAZY)
    site.write("index.md", "# Lane\n\n:::{swimlane} breaks\n:arm: prefork\n:trial: 1\n:caption: B *reads* it.\n:::\n")
    build = site.build("-W")
    page = build.page()

    assert (0, "") == (build.returncode, build.log)
    assert swimlane.render(EVENTS) in page
    assert '<figure class="swimlane">' in page
    assert "B reads it." in build.text()
    assert "The same in words 0.0 ms: worker A writes select 'A' (23 bytes)." in build.text()
    site.build("-W", "-E", "-a")
    assert page == build.page()


def test_the_swim_lane_of_a_claim(site):
    """Without an arm the first one that recorded a trace is drawn."""
    site.claim("breaks", LAZY, PREFORK)
    site.write("index.md", "# Lane\n\n:::{swimlane} breaks\n:::\n")

    assert swimlane.render(EVENTS) in site.build("-W").page()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (":arm: azy", "'breaks' has no arm 'azy', only prefork, lazy"),
        (":arm: lazy", "a trial of 'lazy' recorded no 'events'"),
        (":arm: prefork\n:trial: 2", "'prefork' of 'breaks' has no trial 2"),
    ],
)
def test_a_swim_lane_of_what_is_not_there(site, options, text):
    """A picture is drawn from a trace or not at all."""
    site.claim("breaks", PREFORK, LAZY)
    site.write("index.md", f"# Lane\n\n:::{{swimlane}} breaks\n{options}\n:::\n")
    build = site.build("-W")

    assert (1, [("index.md:3", "claims.unknown", text)]) == (build.returncode, build.warnings)


# ---- What becomes of a parent, as a grid


def survivor(driver, act, *states, tls=False, journal="", role="hazard", **facts):
    """An arm whose trials ended in *states*; "hangs" counts a hung request."""
    database = f"sqlite, journal_mode={journal}" if journal else "postgresql"
    setup = Setup(database, driver, tls, "os.fork", moment="checked in", child=act)
    known = {"child": "not asked", "own": False, "says": "", "steps": f"{act}, os._exit", **facts}
    trials = tuple(
        Trial(Tally(hung=1), Survival("dead", "asleep"), known)
        if state == "hangs"
        else Trial(Tally(right=2), Survival(state, "it is gone" if state == "dead" else ""), known)
        for state in states
    )
    name = f"{driver} {journal}{'TLS' if tls else 'plain'}: {act}"
    check = Check(
        "parent", "==" if role == "hazard" else "!=", states[0] if states and states[0] != "hangs" else "dead"
    )
    return Arm(name, role, setup, (check,), trials, "" if states else "psycopg is missing: apt it")


SURVIVORS = [
    survivor("psycopg", "dispose()", "dead", "dead", tls=True),
    survivor("psycopg", "dispose()", "dead", "dead"),
    survivor("asyncpg", "dispose()", "hangs"),
    survivor("psycopg", "one query", "alive", "alive", child="right"),
    survivor("psycopg", "one query", "dead", "alive", child="right", tls=True),
    survivor("asyncpg", "one query", "alive", child="error", says="attached to a different loop"),
    survivor("sqlite", "one query", "transaction lost", journal="WAL"),
    survivor("PyMySQL", "one query"),
]


def survivals(site, content, claims="breaks", moment="checked in"):
    site.write(
        "index.md",
        f"# Grid\n\n:::{{survival-grid}} {claims}\n:moment: {moment}\n:caption: What *became*\n{content}\n:::\n",
    )
    return site.build("-W")


def test_a_grid_of_survivals(site):
    """Each cell has a mark and a word, one line where plain and TLS agree, and a run to lead to."""
    site.claim("breaks", *SURVIVORS)
    build = survivals(site, "one query\ndispose()")
    grid, _, runs = build.page().partition("</figure>")

    assert (0, "") == (build.returncode, build.log)
    rows = [re.findall(r"<t[hd]([^>]*)>(.*?)</t[hd]>", row, re.DOTALL) for row in grid.split("<tr")[2:]]
    assert ["the child …", "psycopg", "asyncpg", "sqlite WAL", "PyMySQL"] == re.findall(
        r'<th scope="col">(.*?)</th>', grid
    )
    assert [
        [
            "one query",
            "cell-error: plain ✓ alive TLS ✗ dead 1 of 2",
            "cell-half: ◐ child fails",
            "cell-wrong: ✗ lost",
            "cell-not-run: – not run",
        ],
        ["dispose()", "cell-error: ✗ dead", "cell-hung: ∞ hangs", "–", "–"],
    ] == [[f"{named(attributes)}{bare(text)}" for attributes, text in row] for row in rows]
    assert 'title="plain: it is gone · TLS: it is gone"' in html.unescape(grid)
    targets = re.findall(r'href="#(run-[^"]*)"', grid)
    assert 6 == len(targets) == len(set(targets))
    assert [] == [target for target in targets if f'id="{target}"' not in runs]
    assert "dispose() → os._exit" in bare(runs)
    assert 'href="evidence/breaks.json"' in runs


def test_a_grid_of_survivals_is_complete(site):
    """A row that the evidence has and the page does not, or the other way round, fails the build."""
    site.claim("breaks", *SURVIVORS)
    build = survivals(site, "one query\nsomething else")

    text = "rows: 'dispose()', 'something else' in the evidence or in the content, not in both"
    assert (1, [("index.md:3", "claims.unknown", text)]) == (build.returncode, build.warnings)


def test_a_grid_of_survivals_of_several_claims(site):
    """An arm that several claims rest on is shown once, with the run of the first."""
    site.claim("breaks", *SURVIVORS[:3])
    site.claim("again", *SURVIVORS[:3])
    build = survivals(site, "dispose()", "again breaks")

    assert (0, "") == (build.returncode, build.log)
    assert 'href="evidence/again.json"' in build.page() and 'href="evidence/breaks.json"' not in build.page()
