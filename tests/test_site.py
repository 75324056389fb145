"""The built site, read by a parser and used in a browser."""

import contextlib
import gzip
import http.server
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from functools import cached_property, partial
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import pytest
from playwright.sync_api import sync_playwright

from lab.components import Missing, need

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    ROOT / "index.md",
    *sorted(path for path in ROOT.glob("docs/**/*.md") if "/_" not in path.as_posix()),
    *sorted(ROOT.glob("notebooks/*.ipynb")),
]
PAGES = [
    "/",
    *(f"/{path.relative_to(ROOT).with_suffix('').as_posix()}/" for path in SOURCES[1:]),
]
ARTICLE = "/docs/uwsgi-lockups/"
SEARCH = "/search/"

CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

every_page = pytest.mark.parametrize("path", [*PAGES, SEARCH])


# ---- The site as files ----


class Html(HTMLParser):
    """What the tests ask of a page: its elements in order, and the text of its title."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.title, self.inside = [], "", []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "title" and "svg" in self.inside:
            [svg for name, svg in self.elements if name == "svg"][-1]["has title"] = True
        self.elements.append((tag, attrs))
        if tag in ("svg", "title"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and tag == self.inside[-1]:
            self.inside.pop()

    def handle_data(self, data):
        if self.inside == ["title"]:
            self.title += data

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]

    @cached_property
    def ids(self):
        return {attrs["id"] for _, attrs in self.elements if "id" in attrs}

    @property
    def links(self):
        return [attrs[name] for _, attrs in self.elements for name in ("href", "src") if attrs.get(name)]


@dataclass
class Site:
    build: subprocess.CompletedProcess
    folder: Path
    url: str = ""

    def html(self, path):
        return self.pages[path]

    @cached_property
    def pages(self):
        return {
            "/" + file.relative_to(self.folder).as_posix().removesuffix("index.html"): Html(file.read_text())
            for file in self.folder.rglob("*.html")
            if "_static" not in file.parts
        }


class Gzipping(http.server.SimpleHTTPRequestHandler):
    """A server as a public one would be set up: what is text goes out compressed."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        file = Path(self.translate_path(self.path))
        file = file / "index.html" if file.is_dir() else file
        if not file.is_file():
            return self.send_error(404)
        body = file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(file))
        if file.suffix in {".css", ".html", ".ipynb", ".js", ".json", ".svg", ".txt"}:
            body = gzip.compress(body)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        # A browser that leaves a page hangs up on what it had asked for.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body)

    def log_message(self, *args):
        pass


# Of the module, not of the session: other tests fork, and no thread of this one's may be alive then.
@pytest.fixture(scope="module")
def site():
    """Build the site as it is published, and serve it."""
    folder = ROOT / "_build" / "html"
    build = subprocess.run(
        [sys.executable, "-m", "sphinx", "-n", "-W", "--keep-going", "-j4", "-b", "dirhtml", ".", folder],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    if not (folder / "index.html").exists():
        pytest.fail(build.stderr)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Gzipping, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Site(build, folder, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()


def test_build_is_clean(site):
    """Sphinx warns of nothing, references included, and no notebook fails."""
    assert (0, "") == (site.build.returncode, site.build.stderr if site.build.returncode else "")


def test_every_source_is_a_page(site):
    """The pages are the sources at the same addresses, and the search."""
    assert {*PAGES, SEARCH} == set(site.pages)


@every_page
def test_page_says_what_it_is(site, path):
    """A page has one first-level heading, a language and a title."""
    html = site.html(path)

    assert 1 == len(html.all("h1"))
    assert ["en-GB"] == [attrs.get("lang") for attrs in html.all("html")]
    assert html.title.strip()


@every_page
def test_pictures_have_words(site, path):
    """A picture says in words what it shows, or that it is decoration."""
    html = site.html(path)
    drawings = [svg for svg in html.all("svg") if svg.get("aria-hidden") != "true"]

    assert [] == [image for image in html.all("img") if "alt" not in image]
    assert [] == [
        svg
        for svg in drawings
        if svg.get("role") != "img" or not svg.keys() & {"aria-label", "aria-labelledby", "has title"}
    ]


@every_page
def test_links_lead_somewhere(site, path):
    """Every link within the site leads to a file and, with a fragment, to an element of it."""
    broken = []
    for link in site.html(path).links:
        target = urlsplit(urljoin(site.url + path, link))
        if not target.geturl().startswith(site.url):
            continue
        page = site.pages.get(target.path)
        if target.fragment:
            found = page and unquote(target.fragment) in page.ids
        else:
            found = page or (site.folder / unquote(target.path).lstrip("/")).is_file()
        if not found:
            broken.append(link)

    assert [] == broken


# ---- The site in a browser ----


class Visit:
    """A page in a window, what it asked for and what it complained of."""

    def __init__(self, page):
        self.page, self.requests, self.complaints = page, [], []
        page.set_default_timeout(10_000)
        page.on("request", lambda request: self.requests.append(request))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self.hear)

    def settle(self):
        self.page.wait_for_load_state("networkidle")
        return self

    def hear(self, message):
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def colours(self, selector):
        """Give the colour of an element's text and of what is painted behind it."""
        return self.page.evaluate(
            """(selector) => {
              const element = document.querySelector(selector);
              let behind = element, paint;
              do paint = getComputedStyle(behind).backgroundColor;
              while (/, 0\\)$/.test(paint) && (behind = behind.parentElement));
              return [getComputedStyle(element).color, paint];
            }""",
            selector,
        )

    def contrast(self, selector):
        return contrast(*self.colours(selector))


def contrast(*colours):
    """Compute the contrast ratio of WCAG 2."""

    def luminance(colour):
        channels = [int(channel) / 255 for channel in re.findall(r"\d+", colour)[:3]]
        red, green, blue = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    dark, light = sorted(map(luminance, colours))
    return (light + 0.05) / (dark + 0.05)


@pytest.fixture(scope="module")
def browser():
    try:
        chromium = need("chromium")
    except Missing as missing:
        pytest.skip(str(missing))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser, site):
    """Open a page of the site as somebody who has never been here."""
    contexts = []

    def visit(path, width=1400, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        visit = Visit(contexts[-1].new_page())
        visit.page.goto(site.url + path)
        return visit

    yield visit
    for context in contexts:
        context.close()


@every_page
def test_asks_nobody_else(site, visit, path):
    """A page is made of this site's files only."""
    asked = [request.url for request in visit(path).settle().requests]

    assert [] == [url for url in asked if not url.startswith((site.url, "data:"))]


@every_page
def test_complains_of_nothing(visit, path):
    """A page writes no error or warning to the console."""
    assert [] == visit(path).settle().complaints


@pytest.mark.parametrize("path", PAGES)
def test_first_visit_is_light(visit, path):
    """The first page that somebody opens takes fewer than 20 requests, less than 150 kB and no font."""
    requests = visit(path).settle().requests

    assert 20 > len(requests)
    assert 150_000 > sum(request.sizes()["responseBodySize"] for request in requests)
    assert [] == [request.url for request in requests if request.resource_type == "font"]


@pytest.mark.parametrize("width", [320, 390, 1400])
@every_page
def test_fits_the_screen(visit, path, width):
    """A page never scrolls sideways; tables, code and figures do so inside their box."""
    assert width >= visit(path, width).page.evaluate("document.documentElement.scrollWidth")


@pytest.mark.parametrize("opened", [False, True])
def test_evidence_stands_in_the_margin(visit, opened):
    """On a wide screen closed evidence lies beside the article, opened evidence in it, and none on other evidence."""
    boxes = visit(ARTICLE).page.evaluate(
        """(opened) => {
          document.querySelectorAll(".evidence details").forEach((details) => (details.open = opened));
          const right = document.querySelector(".bd-article > section > p").getBoundingClientRect().right;
          return [...document.querySelectorAll(".claim > .evidence")].map((element) => {
            const box = element.getBoundingClientRect();
            return [right, box.left, box.right, box.top, box.bottom];
          });
        }""",
        opened,
    )

    assert boxes
    assert all((text < left) is not opened and right <= 1400 for text, left, right, _, _ in boxes)
    assert all(above[4] <= below[3] for above, below in pairwise(boxes))


def test_menu_opens_at_a_tap(visit):
    """On a phone the menu button shows the navigation, whose links lead to their pages."""
    page = visit("/", 390, has_touch=True).page
    link = page.locator("nav[aria-label=Site] a", has_text="Recipes")

    assert not link.is_visible()

    page.tap(".primary-toggle")
    link.tap()
    page.wait_for_url("**/docs/recipes/")

    assert not page.locator("nav[aria-label=Site]").is_visible()


def test_menu_gives_way_to_its_target(visit):
    """On a phone a link to a section closes the menu that it stands in."""
    page = visit("/", 390, has_touch=True).page
    page.tap(".primary-toggle")
    page.locator("#pst-page-toc-nav a").first.tap()
    page.locator("#pst-page-toc-nav").wait_for(state="hidden")

    assert "#" in page.url


def test_sidebar_folds(visit):
    """On a wide screen the menu button folds the sidebar away, and brings it back."""
    page = visit(ARTICLE).page
    sidebar = page.locator("nav[aria-label=Site]")

    assert sidebar.is_visible()

    page.click(".primary-toggle")

    assert not sidebar.is_visible()

    page.click(".primary-toggle")

    assert sidebar.is_visible()


def test_keyboard_skips_to_the_text(visit):
    """The first thing that the Tab key reaches is a link to the text, which is seen then."""
    page = visit(ARTICLE).page
    page.keyboard.press("Tab")

    assert "#main-content" == page.evaluate("document.activeElement.getAttribute('href')")

    page.wait_for_function("document.activeElement.getBoundingClientRect().top >= 0")


def test_keyboard_shows_where_it_is(visit):
    """Whatever the Tab key reaches has a ring around it."""
    page = visit(ARTICLE).page
    stops = []
    for _ in range(200):
        page.keyboard.press("Tab")
        stop, ring = page.evaluate(
            """() => {
              const at = document.activeElement;
              const seen = at.matches("input[type=radio]") ? at.labels[0] : at;
              const { outlineStyle, boxShadow } = getComputedStyle(seen);
              return [at === document.body ? "" : at.outerHTML, outlineStyle !== "none" || boxShadow !== "none"];
            }"""
        )
        if not stop:
            break
        stops.append((stop, ring))

    assert 10 < len(stops)
    assert [] == [stop for stop, ring in stops if not ring]


def test_keyboard_opens_the_menu(visit):
    """On a phone's screen Enter on the menu button opens the menu, and Escape closes it and goes back to the button."""
    page = visit(ARTICLE, 390).page
    page.focus(".primary-toggle")
    page.keyboard.press("Enter")
    page.locator("nav[aria-label=Site]").wait_for(state="visible")
    page.keyboard.press("Escape")
    page.locator("nav[aria-label=Site]").wait_for(state="hidden")

    assert page.evaluate("document.activeElement.matches('.primary-toggle')")


def test_mode_follows_the_system_and_the_button(visit):
    """A first visit is as light or dark as the system; the button changes it, and the next page remembers."""
    page = visit("/", color_scheme="dark").page
    mode = "document.documentElement.dataset.theme"

    assert "dark" == page.evaluate(mode)

    page.click(".theme-change-button")
    page.reload()

    assert "light" == page.evaluate(mode)

    page.click(".theme-change-button")

    assert ["dark", "auto"] == page.evaluate(f"[{mode}, localStorage.mode]")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_read(visit, scheme):
    """Text, links, verdicts, cells of a grid and labels of a swim lane stand out 4.5 to 1, its lines 3 to 1."""
    classes = {
        **{f"verdict verdict-{verdict}": "p" for verdict in ("reproduced", "refuted", "depends", "not-run")},
        **{f"cell-{outcome}": "td" for outcome in ("right", "wrong", "error", "hung", "not-run")},
    }
    lanes = [f"--lane-{name}" for name in ("ink", "muted", "a", "b", "c", "d", "server", "bad", "line")]
    visited = visit("/", color_scheme=scheme)
    visited.page.evaluate(
        """([classes, lanes]) => {
          const samples = Object.entries(classes).map(([names, tag]) =>
            tag === "td" ? `<td class="${names}">0</td>` : `<td><span class="${names}">0</span></td>`);
          samples.push(...lanes.map((lane) => `<td class="${lane}" style="color: var(${lane})">0</td>`));
          const rows = samples.map((cell) => `<tr>${cell}</tr>`).join("");
          document.querySelector(".bd-article section").insertAdjacentHTML(
            "beforeend", `<table class="table evidence-grid"><tbody>${rows}</tbody></table>`);
        }""",
        [classes, lanes],
    )
    selectors = ["h1", ".bd-article p", ".bd-article p a", "nav[aria-label=Site] li a", "footer p"]
    selectors += ["." + names.replace(" ", ".") for names in classes]
    ratios = {selector: visited.contrast(selector) for selector in selectors}
    _, background = visited.colours(".bd-article p")
    ratios |= {lane: contrast(visited.colours("." + lane)[0], background) for lane in lanes}

    assert {} == {what: ratio for what, ratio in ratios.items() if ratio < (3 if what == "--lane-line" else 4.5)}


def test_mode_changes_the_background(visit):
    """The button changes what is painted, not only what is remembered."""
    visited = visit("/", color_scheme="light")
    _, light = visited.colours(".bd-article p")
    visited.page.click(".theme-change-button")
    _, dark = visited.colours(".bd-article p")

    assert contrast(light, dark) > 10


def test_search_finds_the_article(visit):
    """A word of the article, typed into the search, leads to it."""
    page = visit("/").page
    page.keyboard.press("Control+k")
    page.keyboard.type("lockups")
    page.keyboard.press("Enter")
    with page.expect_response(f"**{ARTICLE}*") as response:
        page.locator(f"#search-results a[href*='{ARTICLE.strip('/')}']").first.click()
    page.wait_for_url(f"**{ARTICLE}*")

    assert 200 == response.value.status


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (390, "dark")])
@every_page
def test_axe_finds_nothing(visit, path, width, scheme):
    """The rules of axe-core, which know more of accessibility than the tests above, find no fault."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    violations = axe.run(visit(path, width, color_scheme=scheme).page).response["violations"]

    assert [] == [(rule["id"], [node["target"] for node in rule["nodes"]]) for rule in violations]
