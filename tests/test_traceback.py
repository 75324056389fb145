"""The box into which one pastes a traceback, in a real browser."""

import json
from pathlib import Path
from urllib.parse import unquote

import mutations
import pytest
from axe_playwright_python.sync_playwright import Axe
from test_diagnose import EXPECTED, LOGS
from test_site import browser, site, visit  # noqa: F401

from recipes import _diagnose
from recipes._diagnose import diagnose

pytestmark = pytest.mark.filterwarnings("default::ResourceWarning")

PAGES = ["/", "/docs/symptoms/"]
TWO = "OperationalError: SSL error: decryption failed or bad record mac\nPendingRollbackError: Can't reconnect\n"
TWIN = "psycopg2.OperationalError: SSL SYSCALL error: EOF detected\n"

both_pages = pytest.mark.parametrize("path", PAGES)


def named(page):
    return [item.get_attribute("data-symptom") for item in page.locator(".traceback-results li[data-symptom]").all()]


def note(page):
    return page.locator(".traceback-note").inner_text()


@both_pages
def test_names_symptoms_in_order(visit, path):  # noqa: F811
    """What is pasted is named, the cause first, with its lines, and each name leads to its symptom."""
    page = visit(path).page
    page.fill("#traceback-input", TWO)

    assert ["S01", "S52"] == named(page)
    assert "bad record mac" in page.locator("li[data-symptom=S01] mark").inner_text()

    page.click("li[data-symptom=S01] .traceback-symptom a")
    page.wait_for_url("**/docs/symptoms-forks/#s01")

    assert page.locator("section.symptom#s01").is_visible()


def test_works_offline_and_sends_nothing(visit):  # noqa: F811
    """With the network gone, and without a request, the box still answers."""
    opened = visit("/").settle()
    opened.page.context.set_offline(True)
    before = len(opened.requests)
    opened.page.fill("#traceback-input", TWO)

    assert ["S01", "S52"] == named(opened.page)
    assert before == len(opened.requests)
    assert [] == opened.page.evaluate(
        "[localStorage, sessionStorage].flatMap((s) => Object.values(s)).filter((v) => v.includes('mac'))"
    )


def test_works_from_a_folder(browser, site):  # noqa: F811
    """The site as files, opened without a server, answers too."""
    context = browser.new_context()
    page = context.new_page()
    page.goto((site.folder / "index.html").as_uri())
    page.fill("#traceback-input", TWO)

    assert ["S01", "S52"] == named(page)

    context.close()


@both_pages
def test_says_when_it_knows_nothing(visit, path):  # noqa: F811
    """Of a log that is none of the site's business it names nothing, and says so; an empty box says nothing of it."""
    page = visit(path).page
    page.fill("#traceback-input", "KeyError: 'name'")

    assert [] == named(page)
    assert "Nothing here that this site knows" in note(page)

    page.click("text=Clear")

    assert "" == page.input_value("#traceback-input")
    assert "Nothing here" not in note(page)


def test_asks_the_twin_question(visit):  # noqa: F811
    """Where one text has two causes it asks, and either answer says what it means, by mouse and by keyboard."""
    page = visit("/").page
    page.fill("#traceback-input", TWIN)
    asked = page.locator("li[data-symptom=S02] .traceback-question")
    reply = asked.locator(".traceback-reply")

    assert "?" in asked.locator("p").first.inner_text()
    assert "" == reply.inner_text()

    asked.get_by_role("button", name="Yes").click()
    yes = reply.inner_text()
    asked.get_by_role("button", name="No").focus()
    page.keyboard.press("Enter")

    assert yes and reply.inner_text() not in ("", yes)
    assert "true" == asked.get_by_role("button", name="No").get_attribute("aria-pressed")


def test_answer_can_be_shared(visit):  # noqa: F811
    """A link to an answer shows the same symptoms to somebody else, and holds nothing of the log."""
    page = visit("/").page
    page.fill("#traceback-input", TWO)
    page.click("text=A link to this answer")
    page.wait_for_url("**/docs/symptoms/#found=*")

    assert "found=S01,S52" in unquote(page.url)
    assert ["S01", "S52"] == named(page)
    assert "mac" not in unquote(page.url)


@pytest.mark.parametrize("found", ["S99999", "", "<img src=x>", "S01,,nonsense"])
def test_link_of_nonsense_is_borne(visit, found):  # noqa: F811
    """A link that names what does not exist shows what does, and complains of nothing."""
    opened = visit(f"/docs/symptoms/#found={found}")

    assert [name for name in found.split(",") if name == "S01"] == named(opened.page)
    assert [] == opened.complaints


def test_long_paste_is_read_whole(visit):  # noqa: F811
    """Of a paste of megabytes all is read and the beginning shown."""
    page = visit("/").page
    noise = "2026-11-25 INFO all is well with request 12345\n" * 30_000
    page.evaluate(
        """(text) => {
          const data = new DataTransfer();
          data.setData("text", text);
          const event = new ClipboardEvent("paste", { clipboardData: data, cancelable: true });
          document.querySelector("#traceback-input").dispatchEvent(event);
        }""",
        f"{noise}{TWO}{noise}",
    )

    assert ["S01", "S52"] == named(page)
    assert "60,003 lines read" in note(page)
    assert 200_000 > len(page.input_value("#traceback-input"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_opens_a_file(visit, tmp_path, encoding):  # noqa: F811
    """A log can be opened as a file, in the encoding of PowerShell too."""
    file = tmp_path / "app.log"
    file.write_text(TWO, encoding=encoding)
    page = visit("/").page
    page.set_input_files("#traceback-file", file)
    page.wait_for_selector("li[data-symptom]")

    assert ["S01", "S52"] == named(page)


def test_markup_in_a_log_is_text(visit):  # noqa: F811
    """What looks like HTML in a log is shown as it stands."""
    opened = visit("/")
    opened.page.fill("#traceback-input", f"<img src=x onerror=alert(1)>\n{TWO}")

    assert "<img src=x onerror=alert(1)>" in opened.page.locator(".traceback-lines").first.inner_text()
    assert [] == opened.complaints


@pytest.mark.parametrize("width", [320, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_answers_are_accessible(visit, width, scheme):  # noqa: F811
    """An answer fits the screen, and axe finds nothing wrong with it, in both modes."""
    page = visit("/", width, color_scheme=scheme).page
    page.fill("#traceback-input", f"{TWO}{TWIN}")
    violations = Axe().run(page).response["violations"]

    assert width >= page.evaluate("document.documentElement.scrollWidth")
    assert [] == [(each["id"], [node["html"] for node in each["nodes"]]) for each in violations]


def test_browser_and_command_agree(visit):  # noqa: F811
    """Over all recorded logs, mutated ones too, the browser names what the command names, by the same lines."""
    logs = [mutate((LOGS / log["file"]).read_text()) for log in EXPECTED for mutate in mutations.ALL]
    answers = visit("/").page.evaluate(
        """(logs) => {
          const diagnose = makeDiagnose(JSON.parse(document.querySelector(".traceback script").textContent));
          return logs.map((log) => diagnose(log).map(({ id, lines }) => [id, lines.map(({ text }) => text)]));
        }""",
        logs,
    )

    assert [[[f.symptom.id, list(f.lines)] for f in diagnose(log)] for log in logs] == answers


def test_export_holds_the_rows(site):  # noqa: F811
    """The JSON beside the pages has every symptom, with its texts, its claims and its threads."""
    rows = json.loads(Path(site.folder, "symptoms.json").read_text())

    assert 88 <= len(rows)
    assert [] == [row["id"] for row in rows if not (row["says"] and row["means"] and row["remedies"])]
    assert {f"S{number:02}" for number in range(1, 90) if number != 11} <= {row["id"] for row in rows}


def test_every_symptom_has_its_anchor(site):  # noqa: F811
    """Each symptom is reached by its id, in small letters and in capitals: in the list, and where it stands whole."""
    known = {symptom.id: f"/docs/{symptom.page}/" for symptom in _diagnose.known().symptoms}
    missing = [
        (path, name)
        for symptom, page in known.items()
        for path in ("/docs/symptoms/", page)
        for name in (symptom, symptom.lower())
        if name not in site.html(path).ids
    ]

    assert [] == missing
