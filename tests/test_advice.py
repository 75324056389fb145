"""Advice, tested: that no piece is left out, that each verdict has its evidence, and what the build warns of."""

import re
import tomllib
from dataclasses import replace

import pytest
from small_sites import import_all, small_site

from lab.evidence import ROOT, load
from lab.judge import judge
from lab.shapes import Arm, Check, Setup, Tally, Trial

# A build in a fork starts in no time, and changes nothing here. Nothing else uses this process meanwhile.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

DOCS = ROOT / "docs"
SECTIONS = tomllib.loads((DOCS / "advice.toml").read_text())["section"]
ROWS = [row for section in SECTIONS for row in section["advice"]]
LINK = re.compile(r"\[[^\]]+\]\(([^)]*)\)")
URL = re.compile(r"https://[a-z0-9.-]+\.[a-z]+/[\w/.#@?=&-]*")


def stated():
    """The claims of all pages, and the verdict as which each is stated."""
    texts = [path.read_text() for path in DOCS.glob("*.md")]
    found = [each for text in texts for each in re.findall(r"^:{3,}\{claim\} (\S+)\n((?::\w+:.*\n)*)", text, re.M)]
    return {claim: (re.findall(r":expect: (\w+)", options) or ["reproduced"])[0] for claim, options in found}


# ---- The rows of the site


def test_all_fifty_are_there():
    """The rows are C01 to C50, each once and in order."""
    assert [f"C{number:02d}" for number in range(1, 51)] == [row["id"] for row in ROWS]


def test_each_section_is_on_the_page():
    """The page has the summary and each section once."""
    shown = re.findall(r"^```\{advice\} ?(\w*)$", (DOCS / "advice.md").read_text(), re.M)

    assert ["", *(section["id"] for section in SECTIONS)] == shown


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_a_verdict_has_its_evidence(row):
    """Each claim that settles a piece is judged as its page states it; without a claim nothing is settled."""
    pages = stated()
    claims = {claim: pages.get(claim) for claim in row.get("claims", ())}

    assert claims == {claim: judge(load(claim)).kind for claim in claims}
    assert (row["verdict"] == "not run") == (not claims)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["id"])
def test_links(row):
    """Whoever says it is linked, and every link leads to a page of this site, to a claim, or is a whole address."""
    targets = [target for value in row.values() if isinstance(value, str) for target in LINK.findall(value)]
    claims = stated()
    bad = [
        target
        for target in targets
        if not (
            URL.fullmatch(target)
            or target.removeprefix("#claim-") in claims
            or (DOCS / target.partition("#")[0]).is_file()
        )
    ]

    assert [] == bad
    assert LINK.search(row["by"])
    assert not any("stackoverflow" in target for target in targets)


# ---- What the directive shows, and warns of


def arm(name, role, trials, not_run=""):
    check = Check("bad", ">" if role == "hazard" else "==", 0)
    return Arm(name, role, Setup(driver="psycopg"), (check,), trials, not_run)


BROKEN = arm("prefork", "hazard", (Trial(Tally(6, error=4)), Trial(Tally(8, error=2))))
CURED = arm("lazy", "remedy", (Trial(Tally(10)), Trial(Tally(10))))
UNCURED = arm("guess", "remedy", (Trial(Tally(9, error=1)),))
ABSENT = arm("absent", "remedy", (), "it is missing: apt it")
PAGE = "# Advice\n\n```{advice}\n```\n\n## All\n\n```{advice} all\n```\n\n:::{claim} breaks\nIt breaks.\n:::\n"


def row(number, verdict="wrong", claims=("breaks",)):
    words = {
        "id": number,
        "title": f"`title` of {number}",
        "told": "Do *so*.",
        "by": "Said [here](https://a.example/1)",
    }
    words |= {"verdict": verdict, "found": "It breaks.", "instead": "Do not."}
    lines = [f'{name} = "{word}"' for name, word in words.items()]
    return "\n".join(["[[section.advice]]", *lines, f"claims = {list(claims)}"])


def rows(*each, section="all"):
    return "\n\n".join([f'[[section]]\nid = "{section}"', *each]) + "\n"


@pytest.fixture(scope="module", autouse=True)
def imported():
    import_all()


@pytest.fixture
def site(tmp_path, monkeypatch):
    site = small_site(tmp_path, monkeypatch)
    site.claim("breaks", BROKEN, CURED)
    site.write("index.md", PAGE)
    return site


def build(site, text, *options, count=2):
    path = site.folder / "advice.toml"
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return site.build("-W", "-D", "advice_file=advice.toml", "-D", f"advice_count={count}", *options)


def test_what_a_piece_shows(site):
    """A piece has its words, its verdict, what to do, and the claims with all that was counted."""
    built = build(site, rows(row("C01"), row("C02", "right")))
    page, text = built.page(), built.text()

    assert (0, "") == (built.returncode, built.log)
    assert '<div class="advice" id="c01"><span id="C01"></span>' in page
    assert '<span class="verdict verdict-refuted">wrong</span> <span>It breaks.' in page
    assert "C01 title of C01 Do so . Said here wrong It breaks. Instead: Do not. breaks reproduced" in text
    assert "4 of 4 trials: hazard 2 (14 right, 6 errors of 20), remedy 2 (20 right of 20)" in text
    assert 'href="#claim-breaks"' in page


def test_the_summary(site):
    """The summary counts the verdicts and leads to each piece."""
    built = build(site, rows(row("C01"), row("C02", "right"), row("C03")), count=3)

    assert "3 pieces of advice: 2 wrong, 1 right." in built.text()
    assert "wrong 2 C01 title of C01 C03 title of C03 right 1 C02 title of C02" in built.text()
    assert [1, 1, 1] == [built.page().count(f'<li><a href="#c0{number}">') for number in (1, 2, 3)]


def test_links_from_other_pages(site):
    """Another page reaches a piece by its id, in small letters and in capitals."""
    site.write("other.md", "# Other\n\n[a](#c01), [b](index.md#c02), [c](index.md#C02)\n")
    site.write("index.md", PAGE + "\n```{toctree}\nother\n```\n")
    built = build(site, rows(row("C01"), row("C02")))

    assert (0, "") == (built.returncode, built.log)
    assert ["../#c01", "../#c02", "../#C02"] == re.findall(r'href="(\.\./#[^"]*)"', built.page("other"))


UNSTATED = "rests on the claim 'cures', which no page states"
WARNINGS = {
    "a piece is missing": (rows(row("C01")), 13, "C02 is there 0 times, not once"),
    "a piece is there twice": (rows(row("C01"), row("C02"), row("C02")), 15, "C02 is there 2 times, not once"),
    "a piece too many": (rows(row("C01"), row("C02"), row("C03")), 25, "C03 is none of C01 to C02"),
    "another verdict": (
        rows(row("C01", "maybe"), row("C02")),
        5,
        "C01 has the verdict 'maybe', not one of wrong, depends, right, not run",
    ),
    "no claim": (rows(row("C01", claims=()), row("C02")), 5, "C01 is 'wrong', and no claim says so"),
    "no page": (rows(row("C01", claims=["cures"]), row("C02")), 5, f"C01 {UNSTATED}"),
    "run after all": (
        rows(row("C01", "not run"), row("C02")),
        5,
        "C01 is 'not run', and its claims were: breaks",
    ),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_a_row_that_is_not_right(site, name):
    """A piece that is left out, or a verdict that no claim bears out, fails the build."""
    text, line, warning = WARNINGS[name]
    site.claim("cures", BROKEN, CURED)
    built = build(site, text)

    found = [each for each in built.warnings if each[1] == "claims.advice"]
    assert 1 == built.returncode
    assert warning in [each[2] for each in found]
    assert f"advice.toml:{line}" in [each[0] for each in found if each[2] == warning]


def test_a_claim_without_evidence(site):
    """A verdict by a claim whose evidence is gone fails the build."""
    (site.folder / "evidence" / "breaks.json").unlink()
    built = build(site, rows(row("C01"), row("C02", "not run", ())))

    assert ["C01 rests on the claim 'breaks', which has no evidence"] == [
        text for _, kind, text in built.warnings if kind == "claims.advice"
    ]


def test_a_claim_that_was_not_run(site):
    """A verdict by a claim that was not run fails the build; a piece that was not run itself does not say so."""
    site.claim("breaks", BROKEN, ABSENT)
    built = build(site, rows(row("C01"), row("C02", "not run")))

    assert ["C01 is 'wrong', and the claim 'breaks' was not run"] == [
        text for _, kind, text in built.warnings if kind == "claims.advice"
    ]


def test_right_by_a_claim_that_depends(site):
    """Advice is right only if all claims that settle it are reproduced."""
    site.claim("breaks", BROKEN, CURED, UNCURED)
    site.write("index.md", PAGE.replace("{claim} breaks\n", "{claim} breaks\n:expect: depends\n"))
    built = build(site, rows(row("C01", "right"), row("C02", "depends")))

    assert ["C01 is 'right', and its claim 'breaks' is 'depends'"] == [text for _, _, text in built.warnings]
    assert 1 == built.returncode


def test_a_section_on_no_page(site):
    """A section that no page shows is left out, and fails the build."""
    built = build(site, rows(row("C01")) + rows(row("C02"), section="more"))

    assert [("claims.advice", "the section 'more' is on 0 pages, not one")] == [each[1:] for each in built.warnings]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (rows(row("C01"), row("C02")).replace('found = "It breaks."\n', "", 1), "cannot be read: C01 has no found"),
        ("[[section]\n", "advice.toml cannot be read:"),
        (rows(row("C01"), row("C02"), section="some"), "advice.toml has no section 'all', only some"),
    ],
)
def test_rows_that_cannot_be_read(site, text, said):
    """A row that lacks a word, a file that is no TOML and a section that is not there are told in a line."""
    built = build(site, text)

    assert 0 != built.returncode
    assert said in built.log


def test_edited_evidence(site):
    """When the evidence changes, the next build shows the new counts and judges the verdict anew."""
    text = rows(row("C01"), row("C02", "right"))
    build(site, text)
    site.claim("breaks", BROKEN, replace(CURED, trials=CURED.trials * 2))
    again = build(site, text)

    assert (0, "") == (again.returncode, again.log)
    assert "6 of 6 trials: hazard 2 (14 right, 6 errors of 20), remedy 4 (40 right of 40)" in again.text()

    site.claim("breaks", BROKEN, UNCURED)
    last = build(site, text)

    assert "C02 is 'right', and its claim 'breaks' is 'refuted'" in [text for _, _, text in last.warnings]


def test_a_claim_that_moves(site):
    """When a claim is stated on another page than before, the next build leads there, though no piece has changed."""
    page, claim = PAGE.split(":::{claim}")
    site.write("advice.md", page)
    site.write("index.md", "# Start\n\n```{toctree}\nadvice\nold\nnew\n```\n")
    site.write("old.md", f"# Old\n\n:::{{claim}}{claim}")
    site.write("new.md", "# New\n")
    build(site, text := rows(row("C01"), row("C02")))
    site.write("old.md", "# Old\n")
    site.write("new.md", f"# New\n\n:::{{claim}}{claim}")
    page = build(site, text).page("advice")

    assert (0, 2) == (page.count('href="../old/#claim-breaks"'), page.count('href="../new/#claim-breaks"'))


def test_parallel_builds(site):
    """Workers that read in parallel find the same faults and write the same page."""
    names = [f"page{number}" for number in range(8)]
    for name in names:
        site.write(f"{name}.md", f"# {name}\n")
    site.write("index.md", PAGE + "\n```{toctree}\n" + "\n".join(names) + "\n```\n")
    alone = build(site, rows(row("C01"), row("C02")), "-E")
    together = build(site, rows(row("C01"), row("C02")), "-E", "-a", "-j2")

    assert (0, "") == (together.returncode, together.log)
    assert alone.page() == together.page()
    assert "C02 is there 0 times, not once" in [each[2] for each in build(site, rows(row("C01")), "-E", "-j2").warnings]
