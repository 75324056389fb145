"""Plots: the same numbers give the same picture, its marks lie on the canvas, and it says in words what it shows."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from lab.plot import Point, Series, curves, percentiles

SVG = "{http://www.w3.org/2000/svg}"
POOLS = Series("threads & pools", (Point(1, (44, 46, 45)), Point(10, (400, 440)), Point(50, (700, 830))))
WORKERS = Series("workers", (Point(10, (410,)),))
LOCK = Series("one lock", (Point(0, (43, 47)),))
ROWS = {
    "pool of <5>": {"p50": [220, 230], "p90": [300], "p99": [400]},
    "5 workers": {"p50": [230], "p90": [240], "p99": [250]},
}


def drawn_curves(series=(POOLS, WORKERS), **options):
    axes = {"title": "Throughput", "x_title": "connections", "y_title": "requests per second"}
    return curves(series, **axes, **options)


def drawn_percentiles(rows=ROWS):
    return percentiles(rows, title="Latency", x_title="ms")


PICTURES = {"curves": drawn_curves(level=LOCK, law=("the limit", 50)), "percentiles": drawn_percentiles()}


def parsed(picture):
    return ElementTree.fromstring(picture)


def labels(svg):
    return [text.text for text in svg.iter(f"{SVG}text")]


def test_the_same_numbers_give_the_same_picture():
    """A picture can be committed and compared: nothing in it is random or dated."""
    assert PICTURES["curves"] == drawn_curves(level=LOCK, law=("the limit", 50))
    assert PICTURES["percentiles"] == drawn_percentiles()


def test_other_numbers_have_other_ids():
    """Two pictures on one page do not share ids, so neither is styled or named by the other."""
    assert parsed(drawn_curves()).get("id") != parsed(drawn_curves([POOLS])).get("id")


@pytest.mark.parametrize("name", PICTURES)
def test_marks_lie_on_the_canvas(name):
    """Every coordinate of a line, a mark or a text is within the view box."""
    svg = parsed(PICTURES[name])
    width, height = map(float, svg.get("viewBox").split()[2:])
    paths = [path.get("d") for path in svg.iter(f"{SVG}path") if not path.get("transform")]
    moved = [node.get("transform") for node in svg.iter() if node.get("transform")]
    pairs = [re.findall(r"(-?[\d.]+) (-?[\d.]+)", text) for text in (*paths, *moved)]
    texts = [(text.get("x"), text.get("y")) for text in svg.iter(f"{SVG}text")]
    places = [tuple(map(float, place)) for place in [*texts, *(place for found in pairs for place in found)]]

    assert len(places) > 20
    assert [] == [(x, y) for x, y in places if not (0 <= x <= width and -10 <= y <= height)]


def test_larger_is_higher_and_further_right():
    """A point of more connections and more throughput lies to the right of and above one of fewer."""
    svg = parsed(drawn_curves([POOLS]))
    marks = [path.get("transform") for path in svg.iter(f"{SVG}path") if path.get("transform")]
    places = [tuple(map(float, re.findall(r"[\d.]+", mark))) for mark in marks[:3]]

    assert sorted(places) == places
    assert sorted((y for _, y in places), reverse=True) == [y for _, y in places]


def test_the_limit_is_drawn_where_it_is():
    """The law's line goes through what it says: at one connection as high as a point of that value."""
    svg = parsed(drawn_curves([Series("at the limit", (Point(1, (50,)), Point(10, (500,))))], law=("the limit", 50)))
    (law,) = [path.get("d") for path in svg.iter(f"{SVG}path") if path.get("class") == "law"][:1]
    marks = [path.get("transform") for path in svg.iter(f"{SVG}path") if path.get("transform")]
    ends = [re.findall(r"[\d.]+", text) for text in (law.replace("M", "").replace("L", " "), *marks[:2])]

    assert ends[0] == [*ends[1], *ends[2]]


@pytest.mark.parametrize("name", PICTURES)
def test_named_and_described_for_a_screen_reader(name):
    """The picture is one image with a name, and its medians as its description."""
    svg = parsed(PICTURES[name])
    title, desc = (svg.find(f"{SVG}{part}") for part in ("title", "desc"))
    expected = {
        "curves": "threads & pools: 45 at 1, 420 at 10, 765 at 50. workers: 410 at 10. one lock: 45.",
        "percentiles": "pool of <5>: p50 225, p90 300, p99 400. 5 workers: p50 230, p90 240, p99 250.",
    }

    assert "img" == svg.get("role")
    assert [title.get("id"), desc.get("id")] == svg.get("aria-labelledby").split()
    assert expected[name] == desc.text


def test_texts_are_escaped():
    """What has a meaning in markup is shown as it is, in the picture and in its legend."""
    assert "threads & pools" in labels(parsed(PICTURES["curves"]))
    assert "pool of <5>" in labels(parsed(PICTURES["percentiles"]))


def test_axes_have_units_and_the_legend_all_names():
    """Whoever sees the picture alone can read it."""
    found = labels(parsed(PICTURES["curves"]))

    assert {"connections", "requests per second", "workers", "the limit", "one lock", "10", "500"} <= set(found)
    assert {"ms", "p50", "p90", "p99", "5 workers"} <= set(labels(parsed(PICTURES["percentiles"])))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: drawn_curves([]), "nothing to draw: there is no point"),
        (lambda: drawn_percentiles({}), "nothing to draw: there is no point"),
        (lambda: drawn_curves([Series("none", (Point(1, (0,)),))]), "0 has no place on a logarithmic axis"),
        (lambda: drawn_curves([Series("none", (Point(1, ()),))]), "nothing to draw: there is no point"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draw, message):
    """Numbers that give no picture give a clear error, and no empty picture."""
    with pytest.raises(ValueError, match=re.escape(message)):
        draw()


def test_one_point_is_drawn():
    """A single measurement has a place as well."""
    assert "10" in labels(parsed(drawn_curves([Series("one", (Point(10, (100,)),))])))
