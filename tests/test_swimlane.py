"""Swim lanes: the same trace gives the same picture, and the picture says what the sentences say."""

import re
import xml.etree.ElementTree as ElementTree

import pytest

from lab.swimlane import misread, render, sentences

SVG = "{http://www.w3.org/2000/svg}"


def event(who, op, owner="", text="", t=0.0, size=0, socket="socket:[7]"):
    return {"t": t, "who": who, "op": op, "owner": owner, "text": text, "bytes": size, "socket": socket}


TRACE = [
    event("worker A", "writes", "A", "select 'A'", 0.0, 23),
    event("worker B", "writes", "B", "select 'B'", 0.0004, 23),
    event("worker B", "reads", "A+B", "row 'A', row 'B'", 0.0011, 184),
    event("worker A", "sleeps", text="in recv", t=0.0012),
    event("worker B", "note", text="answers with <A>", t=0.2),
]


def drawn(events, **options):
    return ElementTree.fromstring(render(events, **options))


def labels(svg):
    return [text.text for text in svg.iter(f"{SVG}text")]


def elements(svg, kind):
    return [each for each in svg.iter() if kind in each.get("class", "").split()]


def test_the_same_events_give_the_same_picture():
    """A picture can be committed and compared: nothing in it is random or dated."""
    assert render(TRACE) == render([dict(reversed(each.items())) for each in TRACE])


def test_other_events_have_other_ids():
    """Two pictures on one page do not share ids, so neither is styled or named by the other."""
    one, two = (drawn(events).get("id") for events in (TRACE, TRACE[:2]))

    assert one != two


def test_told_in_words():
    """The sentences say all that the picture shows."""
    assert [
        "0.0 ms: worker A writes select 'A' (23 bytes).",
        "0.4 ms: worker B writes select 'B' (23 bytes).",
        "1.1 ms: worker B reads row 'A', row 'B' (184 bytes), in part meant for A.",
        "1.2 ms: worker A is asleep in recv, to the end.",
        "200.0 ms: worker B: answers with <A>.",
    ] == sentences(TRACE)


def test_named_and_described_for_a_screen_reader():
    """The picture is one image with a name, and the sentences as its description."""
    svg = drawn(TRACE)
    title, desc = (svg.find(f"{SVG}{name}") for name in ("title", "desc"))

    assert "img" == svg.get("role")
    assert [title.get("id"), desc.get("id")] == svg.get("aria-labelledby").split()
    assert "Swim lane: worker A, worker B and the database, one socket" == title.text
    assert " ".join(sentences(TRACE)) == desc.text


@pytest.mark.parametrize(
    ("who", "op", "owner", "expected"),
    [
        ("worker A", "reads", "A", ""),
        ("worker A", "reads", "B", "B"),
        ("worker B", "reads", "A+B", "A"),
        ("worker C", "reads", "A+B", "A and B"),
        ("worker A", "reads", "", ""),
        ("A", "reads", "A", ""),
        ("worker A", "writes", "B", ""),
        ("database", "reads", "A", ""),
    ],
)
def test_misread(who, op, owner, expected):
    """A read is wrong if the bytes, or some of them, are known to be for somebody else."""
    assert expected == misread(event(who, op, owner))


def test_a_wrong_read_is_marked_without_colour_too():
    """Whoever does not see the colour sees a cross, and reads whose answer it was."""
    svg = drawn(TRACE)

    assert 2 == len(elements(svg, "cross"))  # at the read, and in the legend
    assert "meant for A" in labels(svg)


def test_a_right_trace_has_no_cross():
    """Nothing is marked, not even in the legend, where every process reads its own answer."""
    svg = drawn([event("worker A", "writes", "A"), event("worker A", "reads", "A")])

    assert [] == elements(svg, "cross")


def test_owners_differ_in_more_than_colour():
    """Each owner has a dash pattern of its own, and its name on every arrow."""
    looks = {each.get("class") for each in drawn(TRACE).iter(f"{SVG}g") if each.get("class")}
    dashes = {line for line in render(TRACE).splitlines() if "--d:" in line}

    assert {"a0", "a1", "a-"} == looks
    assert len(dashes) == len({line.split("--d:")[1] for line in dashes})
    assert 3 == labels(drawn(TRACE)).count("A")  # at the lane, at the question and in the legend


def test_an_owner_looks_the_same_whoever_comes_first():
    """A is drawn alike in every picture with the same owners."""
    trace = [event("worker B", "writes", "B"), event("worker A", "writes", "A")]

    assert ["a1", "a0"] == [each.get("class") for each in drawn(trace).iter(f"{SVG}g") if each.get("class")][:2]


def test_owners_may_be_named_like_lanes():
    """An owner's chip has the last word of its name; the words below the picture have all of it."""
    svg = drawn([event("worker A", "writes", "worker A"), event("worker B", "reads", "worker A+worker B")])

    assert {"A", "A+B", "worker A's question or answer", "meant for worker A"} <= set(labels(svg))


def test_two_sockets_have_a_rail_each():
    """What is shared is seen at a glance: there are as many rails as sockets."""
    trace = [event("worker A", "writes", "A"), event("worker B", "writes", "B", socket="socket:[8]")]

    assert 1 == len(elements(drawn(TRACE), "rail"))
    assert 2 == len(elements(drawn(trace), "rail"))


def test_lanes_of_processes_that_did_nothing():
    """A process without an event has a lane if it is asked for, in the order that is asked for."""
    svg = drawn(TRACE, lanes=["master", "worker B", "worker A"])

    assert 4 == len(elements(svg, "lane")) - len(elements(svg, "asleep")) + len(elements(svg, "server"))
    assert ["master", "worker", "B"] == [text for text in labels(svg) if text != "ms"][:3]


@pytest.mark.parametrize(
    ("names", "expected"),
    [(("worker 2", "worker 1"), ["worker", "1", "worker", "2"]), (("parent", "child"), ["parent", "child"])],
)
def test_lanes_in_order(names, expected):
    """Workers stand in order, and a parent before its child."""
    assert expected == labels(drawn([event(name, "writes", name) for name in names]))[1 : len(expected) + 1]


def test_a_sleeper_stays_asleep():
    """The lane of a process that sleeps goes on, dotted, to the bottom."""
    svg = drawn(TRACE)
    (asleep,) = elements(svg, "asleep")
    (rail,) = elements(svg, "rail")

    assert int(rail.get("y")) + int(rail.get("height")) == int(asleep.get("d").split()[-1])


def test_text_is_escaped():
    """Bytes of a trace are text, whatever they look like."""
    assert "answers with <A>" in labels(drawn(TRACE))


def test_text_that_does_not_fit_is_cut():
    """A label ends within the picture."""
    svg = drawn([event("worker A", "writes", "A", "x" * 500, size=500)])
    (label,) = [text for text in labels(svg) if "xx" in text]

    assert label.endswith("…")
    assert len(label) * 7 < int(svg.get("viewBox").split()[2])


def test_small_enough_for_a_page():
    """Thirty events stay below twenty kilobytes."""
    ops = ("writes", "reads")
    trace = [event(f"worker {'ABCD'[n % 4]}", ops[n % 2], "ABC"[n % 3], f"select '{n}'", n, 23) for n in range(30)]

    assert len(render(trace).encode()) < 20_000


def test_every_colour_is_a_variable_with_a_fallback():
    """The page chooses the colours, and one that does not still shows a picture."""
    style = drawn(TRACE).find(f"{SVG}style").text

    assert [] == re.findall(r"var\(--lane-\w+\)", style)
    assert re.findall(r",#\w{6}", style) == re.findall(r".#\w{6}", style)
