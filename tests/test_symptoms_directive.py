"""The directives ``{symptoms}`` and ``{traceback}``, in small sites: what they show, and what fails a build."""

import json

import pytest
from small_sites import import_all, small_site

from lab.shapes import Arm, Check, Setup, Tally, Trial

# A build in a fork starts in no time, and changes nothing here. Nothing else uses this process meanwhile.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
MESSAGE = "OperationalError: it went wrong with 7"
ROWS = """
[signals]
here = ["somewhere"]

[pages]
there = ["Errors"]

[translations]
"it went wrong" = ["es ging schief"]
{rows}
"""
ROW = """
[[symptom]]
id = "{id}"
title = "{title}"
group = "Errors"
says = ["it went wrong with … <b>"]
means = "It *broke*, see [S02](#s02)."
remedies = [["uWSGI", "Mend `it`."]]
twin = "An ordinary failure."
test = "Look twice."
question = "Twice?"
yes = "S02."
no = "Neither."
claims = ["{claim}"]
threads = ["celery/celery#1564", "a-b/c.d#2 (PR)", "o/r@0123456789ab", "https://www.example.org/page"]
[[symptom.match]]
say = ["it went wrong"]
weight = 50
"""
PAGE = "# Page\n\n```{traceback} index\n```\n\n```{symptoms} there\n```\n\n:::{claim} breaks\nIt breaks.\n:::\n"


@pytest.fixture(scope="module", autouse=True)
def imported():
    import_all()


@pytest.fixture
def site(tmp_path, monkeypatch):
    made = small_site(tmp_path, monkeypatch)
    made.write("conf.py", (tmp_path / "conf.py").read_text() + 'symptoms_rows = "rows.toml"\n')
    made.claim("breaks", arm("hazard"), arm("remedy"))
    return made


def arm(role):
    bad = role == "hazard"
    check = Check("bad", ">=" if bad else "==", int(bad))
    tally = Tally(right=int(not bad), error=int(bad), messages={MESSAGE: 1} if bad else {})
    return Arm(role, role, Setup(), (check,), (Trial(tally),))


def row(id="S01", title="It went wrong", claim="breaks"):
    return ROW.format(id=id, title=title, claim=claim)


def built(site, *rows):
    site.write("rows.toml", ROWS.format(rows="".join(rows)))
    site.write("index.md", PAGE)
    return site.build()


def test_a_symptom(site):
    """A row is a section with two anchors, its texts as they are, its remedies, and links to claims and threads."""
    build = built(site, row(), row("S02", "Something else"))
    page, text = build.page(), build.text()

    assert [] == build.warnings
    assert all(f'id="{name}"' in page for name in ("s01", "S01", "s02", "errors"))
    assert "<code>it went wrong with … &lt;b&gt;</code>" in page
    assert "uWSGI Mend it . Its twin. An ordinary failure. Tell them apart. Look twice." in text
    assert 'href="#claim-breaks"' in page
    assert all(
        f'href="{address}"' in page
        for address in (
            "https://github.com/celery/celery/issues/1564",
            "https://github.com/a-b/c.d/pull/2",
            "https://github.com/o/r/commit/0123456789ab",
            "https://www.example.org/page",
        )
    )
    assert "Met in celery/celery#1564 , a-b/c.d#2 , o/r@012345678 , example.org ." in text


def test_the_box_has_the_patterns(site):
    """The box holds phrases as they are looked for, translations too, and leads to the page that it is given."""
    build = built(site, row())
    data = build.page().split('<script type="application/json">')[1].split("</script>")[0]

    assert ["itwentwrong", "esgingschief"] == json.loads(data)["symptoms"][0]["rules"][0]["say"]
    assert 'data-page=""' in build.page() or 'data-page="."' in build.page()
    assert "diagnose.js" in build.page()


def test_the_list(site):
    """Without a page the directive lists all symptoms, each with its anchors and a link to where it stands whole."""
    site.write("rows.toml", ROWS.format(rows=row()))
    site.write("index.md", "# Page\n\n```{symptoms}\n```\n\n:::{claim} breaks\nIt breaks.\n:::\n")
    page = site.build().page()

    assert 'href="docs/there/#s01"' in page
    assert all(f'id="{name}"' in page for name in ("s01", "S01", "errors"))
    assert "Its twin" not in page


def test_a_page_that_is_not_there(site):
    """A page that the rows do not know is an error with one line that says so."""
    site.write("rows.toml", ROWS.format(rows=row()))
    site.write("index.md", "# Page\n\n```{symptoms} elsewhere\n```\n")

    assert "rows.toml has no page 'elsewhere'" in site.build().log


def test_the_export(site):
    """Beside the pages stand the rows as JSON, without the patterns."""
    build = built(site, row())
    (exported,) = json.loads((build.output / "symptoms.json").read_text())

    assert ("S01", ["breaks"], "Twice?") == (exported["id"], exported["claims"], exported["question"])
    assert "match" not in exported


@pytest.mark.parametrize(
    ("rows", "warning"),
    [
        ([row(claim="nothing")], "S01 rests on the claim 'nothing', which no page states"),
        ([row(), row(title="Another")], "S01 says 'S01', which is there twice"),
        ([row(), row("S02")], "S02 says 'It went wrong', which is there twice"),
    ],
)
def test_what_fails_a_build(site, rows, warning):
    """A claim that no page states, and an id or a title that is there twice, are warnings."""
    found = built(site, *rows).warnings

    assert ("claims.symptoms", warning) in [(kind, text) for _, kind, text in found]
