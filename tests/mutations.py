"""What becomes of a log on its way to its reader: prefixes, colours, wrapping, quoting, other processes' lines."""

import html
import json
import textwrap
from itertools import cycle, zip_longest

NOISE = [
    '10.0.0.7 - - [25/Nov/2026:10:00:00 +0000] "GET /health HTTP/1.1" 200 2',
    "2026-11-25 10:00:00,123 INFO app.views page 42 rendered in 12 ms",
    "",
    "DEBUG cache: hit for key 'front-page'",
]


def as_it_is(log):
    return log


def prefixed_by_compose(log):
    return "\n".join(f"web_1  | {line}" for line in log.split("\n"))


def prefixed_by_syslog(log):
    return "\n".join(f"Nov 25 10:00:00 web-7f9c app[312]: {line}" for line in log.split("\n"))


def coloured(log):
    return "\n".join(f"\x1b[1;31m{line}\x1b[0m" for line in log.split("\n"))


def coloured_within_words(log):
    """As a highlighter does that colours names: `sqlalchemy.exc.` apart from what follows."""
    return log.replace("Error", "\x1b[31mErr\x1b[39mor").replace("exc.", "\x1b[2mexc.\x1b[22m")


def one_line_of_json(log):
    return json.dumps({"ts": 1764064800, "level": "error", "message": log})


def json_for_each_line(log):
    return "\n".join(json.dumps({"log": line + "\n", "stream": "stderr"}) for line in log.split("\n"))


def escaped_for_html(log):
    return html.escape(log)


def quoted_in_a_mail(log):
    return "\n".join(f"> {line}" for line in log.split("\n"))


def wrapped_hard(log):
    """As a terminal of 72 columns does, in the middle of words."""
    lines = (line[start : start + 72] for line in log.split("\n") for start in range(0, max(len(line), 1), 72))
    return "\n".join(lines)


def wrapped_at_words(log):
    return "\n".join(piece for line in log.split("\n") for piece in textwrap.wrap(line, 60) or [""])


def windows_line_ends(log):
    return log.replace("\n", "\r\n")


def interleaved(log):
    """Between any two lines one of somebody else's."""
    lines = log.split("\n")
    pairs = zip_longest(lines, (noise for noise, _ in zip(cycle(NOISE), lines, strict=False)))
    return "\n".join(line for pair in pairs for line in pair)


def cut_off_at_the_right(log):
    return "\n".join(line[:400] for line in log.split("\n"))


ALL = [
    as_it_is,
    prefixed_by_compose,
    prefixed_by_syslog,
    coloured,
    coloured_within_words,
    one_line_of_json,
    json_for_each_line,
    escaped_for_html,
    quoted_in_a_mail,
    wrapped_hard,
    wrapped_at_words,
    windows_line_ends,
    interleaved,
    cut_off_at_the_right,
]
