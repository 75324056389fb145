"""Threads that take their steps when they are told to, and places where one stops in the middle of a call."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from lab.drivers import spoken

T = TypeVar("T")
OK = "OK"
# Far above what any step takes: who is not there by then never comes.
PATIENCE = 30.0


class Lane:
    """A thread that takes one step after another. Nobody waits for it in the end, so that it may hang.

    Attributes:
        name: what a picture calls it.
        thread: the system's id of it, as strace tells it.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._steps: queue.SimpleQueue[tuple[Callable[[], Any], Future]] = queue.SimpleQueue()
        threading.Thread(target=self._run, name=name, daemon=True).start()
        self.thread = self.do(threading.get_native_id)

    def begin(self, step: Callable[[], T]) -> Future[T]:
        """Let it take *step*, and do not wait."""
        future: Future[T] = Future()
        self._steps.put((step, future))
        return future

    def do(self, step: Callable[[], T]) -> T:
        """Let it take *step*, and wait for the result or the exception.

        Raises:
            TimeoutError: it is not done within ``PATIENCE``.
        """
        return self.begin(step).result(PATIENCE)

    def told(self, step: Callable[[], object]) -> str:
        """What it is told when it takes *step*, as :func:`told` has it."""
        return told(self.begin(step))

    def _run(self) -> None:
        while True:
            step, future = self._steps.get()
            try:
                future.set_result(step())
            except BaseException as problem:
                future.set_exception(problem)


class Halt:
    """A listener of any event that stops the thread which meets it first, until it is let go."""

    def __init__(self) -> None:
        self._met, self._go, self._first = threading.Event(), threading.Event(), threading.Lock()

    def __call__(self, *_: object, **__: object) -> None:
        if self._first.acquire(blocking=False):
            self._met.set()
            self._go.wait(PATIENCE)

    def await_thread(self) -> None:
        """Wait until a thread stands there.

        Raises:
            TimeoutError: none came.
        """
        if not self._met.wait(PATIENCE):
            raise TimeoutError("no thread came to the halt")

    def let_go(self) -> None:
        self._go.set()


def told(future: Future) -> str:
    """What whoever takes the step is told: what the step says in words, or ``OK``; the message of the error; "hung"."""
    try:
        said = future.result(PATIENCE)
    except TimeoutError:
        return "hung"
    except Exception as problem:
        return spoken(problem)
    return said if isinstance(said, str) else OK
