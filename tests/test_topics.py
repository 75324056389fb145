"""The table of topics and what other sources say: what they rest on, and when a row makes a build fail."""

import re
import tomllib

import pytest
from small_sites import CONF, ROOT, import_all, small_site
from test_claims_extension import LAZY, PREFORK

from lab import evidence as lab_evidence
from lab.judge import judge

# A build in a fork starts in no time, and changes nothing here. Nothing else uses this process meanwhile.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")

DOCS = ROOT / "docs"
NUMBERS = list(range(1, 69))


def rows():
    return tomllib.loads((DOCS / "topics.toml").read_text())["topic"]


def others():
    return tomllib.loads((DOCS / "other-sources.toml").read_text())["topic"]


def said():
    return [row for topic in others() for row in topic["source"]]


def without_evidence(claims):
    """Those of *claims* that no run on file has decided."""
    return [claim for claim in claims if "not run" == judge(lab_evidence.load(claim)).kind]


# ---- What is on file


def test_the_numbers_are_complete():
    """Every topic is there once, in the order of its number."""
    assert NUMBERS == [row["number"] for row in rows()]


def test_each_topic_has_a_claim_with_evidence_or_a_reason():
    """Every topic rests on claims that runs have decided, or says why it has none."""
    reasons = {row["number"] for row in rows() if row.get("not_covered")}
    lacking = [row["number"] for row in rows() if not row.get("claims") and row["number"] not in reasons]
    undecided = {row["number"]: without_evidence(row.get("claims", ())) for row in rows()}

    assert [] == lacking
    assert [] == [claims for claims in undecided.values() if claims]


def test_the_page_shows_every_topic():
    """The page has a table for each heading that the file knows, in its order."""
    shown = re.findall(r"```\{topics\} (\w)\n", (DOCS / "topics.md").read_text())

    assert shown == list(dict.fromkeys(row["heading"] for row in rows()))


def test_the_page_shows_everything_that_others_say():
    """The page has a place for each topic of the file, in its order."""
    shown = re.findall(r"```\{others\} (\S+)\n", (DOCS / "other-sources.md").read_text())

    assert shown == [topic["id"] for topic in others()]


def test_what_others_say_is_answered_by_claims_with_evidence():
    """Whatever this site says of another source rests on runs."""
    undecided = [(row["who"], without_evidence(row["claims"])) for row in said()]

    assert [] == [row["who"] for row in said() if not row["claims"]]
    assert [] == [(who, claims) for who, claims in undecided if claims]


def test_nobody_is_answered_without_a_place_to_read_it():
    """Every source has an address, and none of them is a page of questions and answers."""
    addresses = [row["url"] for row in said()]

    assert [] == [url for url in addresses if not url.startswith("https://") or "stackoverflow" in url]


# ---- What fails a build


@pytest.fixture(scope="module", autouse=True)
def imported():
    import_all()


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A site with one claim, a page of topics, and a page of other sources."""
    site = small_site(tmp_path, monkeypatch)
    files = 'claims_topics, claims_others = "topics.toml", "others.toml"'
    site.write("conf.py", f'{CONF}extensions.append("topics")\nmyst_heading_anchors = 2\n{files}\n')
    site.claim("breaks", PREFORK, LAZY)
    site.write("index.md", "# Start\n\n## A section\n\n```{toctree}\ntopics\nothers\n```\n")
    site.state("breaks")
    site.write("topics.md", "# Topics\n\n```{topics}\n```\n\n```{topics} A\n```\n")
    site.write("others.md", "# Others\n\n```{others} forks\n```\n")
    topics(site)
    sources(site)
    return site


def topics(site, first=(), numbers=NUMBERS):
    """Write a file of topics with *numbers*, of which the *first* rests on a claim, or has other lines."""
    blocks = [
        "\n".join(["[[topic]]", f"number = {number}", 'heading = "A"', f'topic = "The `{number}`."', *lines])
        for number, lines in zip(numbers, [first or RESTS, *[REASON] * (len(numbers) - 1)], strict=True)
    ]
    site.write("topics.toml", "\n\n".join(blocks) + "\n")


def sources(site, *lines):
    """Write a file with one thing that somebody says."""
    head = ["[[topic]]", 'id = "forks"', "[[topic.source]]", 'who = "A `manual`"', 'url = "https://example.org/"']
    site.write("others.toml", "\n".join([*head, *(lines or (SAYS, ANSWER, STANCE, *RESTS[1:]))]) + "\n")


RESTS = ['page = "index.md#a-section"', 'claims = ["breaks"]']
REASON = ['not_covered = "Not *run*."']
SAYS, ANSWER, STANCE = 'says = "says `so`."', 'answer = "So it *is*."', 'stance = "confirms"'


def test_a_good_site(site):
    """Complete files build without a warning, and show numbers, places, claims with verdicts, and reasons."""
    build = site.build("-W")
    page, text = build.page("topics"), build.text("topics")

    assert (0, "") == (build.returncode, build.log)
    assert "Of 68 topics 1 rest on claims of this site, 0 of them with a part missing; 67 have no claim." in text
    assert "1 The 1 . Start : A section breaks reproduced 2 The 2 . Not run ." in text
    assert [f"topic-{number}" for number in NUMBERS] == re.findall(r'id="(topic-\d+)"', page)
    assert 'href="../#a-section"' in page and 'href="../#claim-breaks"' in page
    assert "A manual says so . This site confirms So it is . By breaks reproduced" in build.text("others")


def test_a_part_that_is_missing_is_counted(site):
    """A topic may rest on claims and lack something, and the page counts it."""
    topics(site, [*RESTS, *REASON])
    text = site.build("-W").text("topics")

    assert "Of 68 topics 1 rest on claims of this site, 1 of them with a part missing; 67 have no claim." in text


def warned(site):
    build = site.build("-W")
    return build.returncode, build.warnings


def test_a_number_is_missing(site):
    """A topic that is not there fails the build."""
    topics(site, numbers=NUMBERS[:-1])

    assert (1, [("topics.toml:1", "claims.missing", "there is no topic 68")]) == warned(site)


def test_a_number_is_there_twice(site):
    """A topic that is there twice fails the build at either place."""
    topics(site, numbers=[*NUMBERS, 68])
    twice = [("topics.toml", "claims.duplicate", "the topic 68 is there 2 times")] * 2

    assert (1, twice) == plain(*warned(site))


def plain(returncode, warnings):
    return returncode, [(place.partition(":")[0], kind, text) for place, kind, text in warnings]


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        ('page = "index.md"', "unsupported", "has neither claims nor not_covered, which says why"),
        ('claims = ["hearsay"]', "unknown", "rests on the claim 'hearsay', which no page states"),
        ('claims = ["breaks"]\nclaim = ""', "unknown", "has 'claim', which nothing reads"),
    ],
)
def test_a_topic_that_rests_on_nothing(site, line, kind, text):
    """A topic without claim or reason, on a claim that no page states, or with a misspelt field fails the build."""
    topics(site, [line])

    assert (1, [("topics.toml:1", f"claims.{kind}", f"the topic 1 {text}")]) == warned(site)


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("nowhere.md", "cross-reference target not found: 'nowhere.md'"),
        ("index.md#nowhere", "local id not found in doc 'index': 'nowhere'"),
    ],
)
def test_a_place_that_does_not_exist(site, page, text):
    """A topic on a page, or at an anchor, that does not exist fails the build."""
    topics(site, [f'page = "{page}"', RESTS[1]])
    returncode, warnings = warned(site)

    assert 1 == returncode
    assert [True] == [kind == "myst.xref_missing" and text in message for _, kind, message in warnings]


@pytest.mark.parametrize(
    ("lines", "kind", "text"),
    [
        ([SAYS, ANSWER, STANCE], "unsupported", "is answered by no claim"),
        ([SAYS, ANSWER, 'stance = "agrees"', RESTS[1]], "unknown", "has the stance 'agrees', which is none of "),
        ([SAYS, ANSWER, STANCE, 'claims = ["hearsay"]'], "unknown", "rests on the claim 'hearsay', which no page "),
    ],
)
def test_what_others_say_and_nothing_answers(site, lines, kind, text):
    """Other people's words without a claim, with an odd stance, or with a claim that no page states fail the build."""
    sources(site, *lines)
    returncode, [(place, kinds, message)] = warned(site)

    assert (1, "others.toml:3", f"claims.{kind}") == (returncode, place, kinds)
    assert message.startswith(f"what A `manual` says {text}")


@pytest.mark.parametrize("lines", [[ANSWER, STANCE, RESTS[1]], [SAYS, STANCE, RESTS[1]]])
def test_what_others_say_is_said(site, lines):
    """A source without words, or without an answer, fails the build with a line that names the file."""
    sources(site, *lines)
    build = site.build("-W")

    assert 1 == build.returncode
    assert re.search(r"others\.md:3: .*others\.toml: no '(says|answer)' in a row", build.log)


def test_a_file_that_is_not_toml(site):
    """A file that cannot be read fails the build with a line that names it."""
    site.write("topics.toml", "[[topic]\n")
    build = site.build("-W")

    assert 1 == build.returncode
    assert re.search(r"topics\.md:3: .*topics\.toml: Expected", build.log)


def test_a_heading_that_does_not_exist(site):
    """A page that asks for a heading, or a topic, that the file does not have fails the build."""
    site.write("topics.md", "# Topics\n\n```{topics} B\n```\n\n```{others} threads\n```\n")
    build = site.build("-W")

    assert 1 == build.returncode
    assert re.search(r"topics\.md:3: .*topics\.toml has no topic under the heading 'B'", build.log)
    assert re.search(r"topics\.md:6: .*others\.toml has no topic 'threads'", build.log)
