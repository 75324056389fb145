"""The load client: every request carries a nonce, every answer is right, wrong, an error or hung."""

from __future__ import annotations

import itertools
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlencode

from lab.shapes import Outcome, Tally

_counter = itertools.count(1)


@dataclass(frozen=True)
class Answer:
    """What came back: who answered (``pid``) and over which connection (``backend``), where it said so."""

    outcome: Outcome
    pid: int = 0
    backend: int = 0


def request(port: int, path: str = "/", *, deadline: float = 3.0) -> Answer:
    """Send one request and sort its answer; no answer within *deadline* seconds is ``hung``."""
    nonce = f"n{next(_counter):06d}"
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}{path}?{urlencode({'nonce': nonce})}", timeout=deadline
        ) as r:
            body = json.load(r)
    except urllib.error.HTTPError as problem:
        return _failure(problem.read().decode(errors="replace"))
    except TimeoutError:
        return Answer(Outcome("hung"))
    except OSError as problem:
        if isinstance(getattr(problem, "reason", None), TimeoutError):
            return Answer(Outcome("hung"))
        return Answer(Outcome("error", f"{type(problem).__name__}: {problem}"))
    kind = "right" if body["nonce"] == nonce else "wrong"
    return Answer(Outcome(kind), body["pid"], body["backend"])


def fire(port: int, requests: int, *, concurrency: int, deadline: float = 3.0) -> list[Answer]:
    """Send *requests* requests, *concurrency* at a time, and return the answers in the order in which they came.

    A server that hangs altogether is not asked to the end: after ``2 * concurrency`` hung requests in a row the load
    stops, and the answers so far are returned.
    """
    answers: list[Answer] = []
    numbers = iter(range(requests))
    lock = threading.Lock()

    def hopeless() -> bool:
        tail = answers[-2 * concurrency :]
        return len(tail) == 2 * concurrency and all(answer.outcome.kind == "hung" for answer in tail)

    def client() -> None:
        while True:
            with lock:
                if hopeless() or next(numbers, None) is None:
                    return
            answer = request(port, deadline=deadline)
            with lock:
                answers.append(answer)

    _at_once(client, concurrency)
    return answers


def roll_call(port: int, workers: int, *, path: str = "/roll", deadline: float = 15.0) -> list[Answer]:
    """Have each of *workers* workers answer exactly once, one after the other.

    The application holds every request to *path* until all workers have one, then lets them ask the database in
    turn; so no two of them ever speak at once, and whatever fails is not due to a race.
    """
    answers: list[Answer] = []
    _at_once(lambda: answers.append(request(port, path, deadline=deadline)), workers)
    return answers


def tally(answers: Iterable[Answer]) -> Tally:
    return Tally.of(answer.outcome for answer in answers)


def sharing(answers: Iterable[Answer]) -> int:
    """The largest number of processes that answered over one and the same connection."""
    users: dict[int, set[int]] = {}
    for answer in answers:
        if answer.backend:
            users.setdefault(answer.backend, set()).add(answer.pid)
    return max((len(pids) for pids in users.values()), default=0)


def _at_once(job, count: int) -> None:
    threads = [threading.Thread(target=job, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _failure(text: str) -> Answer:
    try:
        body = json.loads(text)
    except ValueError:
        return Answer(Outcome("error", text.strip()[:200] or "empty response"))
    return Answer(Outcome("error", body["error"]), body["pid"])
