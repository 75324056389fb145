"""The messages that evidence holds: what a user would have seen in a log."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Set
from pathlib import Path
from typing import Any

from lab import evidence

_TELLING = re.compile(
    r"\b\w*(?:Error|Exception|Warning|Interrupt|Greenlet)\b.*[:(']|FATAL|DAMN|(?:WARNING|ERROR):|\(\d{4}, ", re.DOTALL
)


def recorded(folder: Path | None = None) -> Mapping[str, Set[str]]:
    """Read all evidence on file: each message, and the claims whose runs recorded it."""
    found: dict[str, set[str]] = defaultdict(set)
    for file in sorted((folder or evidence.FOLDER).glob("*.json")):
        for arm in json.loads(file.read_text())["arms"]:
            for trial in arm["trials"]:
                for message in _messages(trial):
                    found[message].add(file.stem)
    return found


def _messages(value: Any) -> Iterator[str]:
    """What is a message among the keys and values of *value*."""
    if isinstance(value, str):
        if _TELLING.search(value):
            yield value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _messages(key)
            yield from _messages(each)
    elif isinstance(value, list):
        for each in value:
            yield from _messages(each)
