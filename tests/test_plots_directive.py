"""The directives ``{plot}`` and ``{percentiles}``, in small sites: what they draw, and what fails a build."""

import pytest
from small_sites import import_all, small_site

from lab.shapes import Arm, Check, Setup, Tally, Trial

# A build in a fork starts in no time, and changes nothing here. Nothing else uses this process meanwhile.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
FACTS = {"times_lock": 2, "of_limit": 0.9, "cpu_us": 700, "server_us": None, "longest": 99.5, "overtaken": 3}


@pytest.fixture(scope="module", autouse=True)
def imported():
    import_all()


@pytest.fixture
def site(tmp_path, monkeypatch):
    made = small_site(tmp_path, monkeypatch)
    pools = [arm(f"pool of {width}", width * 40, pool=str(width)) for width in (1, 10)]
    others = [arm("4 processes", 700, pool="5", workers=4), arm("elsewhere", 1, database="mariadb")]
    made.claim("fast", arm("one lock", 40, role="hazard", pool="1"), *pools, *others)
    return made


def arm(scope, rps, role="remedy", database="postgresql", **setup):
    trials = [Trial(Tally(), facts={**FACTS, "rps": rps + n, "p50": 20, "p90": 30, "p99": 40}) for n in range(3)]
    check = Check("rps", "<" if role == "hazard" else ">=", 100 if role == "hazard" else 1)
    return Arm(f"{scope}, {database}", role, Setup(database, scope=scope, **setup), (check,), tuple(trials))


def built(site, text):
    site.write("index.md", f"# Page\n\n{text}\n")
    return site.build("-W", "--keep-going")


def plot(content="threads = pool of *\nprocesses = 4 proc*; none", where="database=postgresql"):
    return f":::{{plot}} fast\n:where: {where}\n:level: one lock\n:seconds: 0.02\n:caption: How *fast*\n{content}\n:::"


def test_a_plot(site):
    """Medians are drawn and told, processes times pool is the number of connections, and a table says the same."""
    build = built(site, plot())
    page, text = build.page(), build.text()

    assert (0, "") == (build.returncode, build.log)
    assert "threads: 41 at 1, 401 at 10. processes: 701 at 20. one lock: 41.</desc>" in page
    assert "connections ÷ 20 ms" in text
    assert "pool of 10 401 (400–402) 2 0.9 700 none" in text
    assert "elsewhere" not in text


def test_percentiles(site):
    """Each chosen arm has a row of the picture and one of the table."""
    build = built(site, ":::{percentiles} fast\n:where: database=postgresql\n:caption: How long\n:::")

    assert (0, "") == (build.returncode, build.log)
    assert "pool of 10: p50 20, p90 30, p99 40." in build.page()
    assert "4 processes 20 30 40 99.5 3" in build.text()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (plot("threads = nobody*"), "no arm has a scope like 'nobody*'"),
        (plot(where="nothing=1"), "where: there is no 'nothing'"),
        (plot("all = *", where="database=mariadb"), "no connections are known of 'elsewhere, mariadb'"),
        (":::{percentiles} fast\n:where: database=sqlite\n:::", "nothing to draw: there is no point"),
    ],
)
def test_what_evidence_does_not_hold_fails_the_build(site, text, complaint):
    """A picture of nothing is a warning that names what is missing."""
    build = built(site, text)

    assert build.returncode
    assert complaint in build.log
