"""What ways of doing one thing cost more than others: bytes to the server, and the client's CPU time."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import statistics
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from lab.databases import Database, start
from lab.drivers import arguments, driver
from lab.evidence import Effort, arm
from lab.process import play
from lab.relay import Relay
from lab.shapes import Arm, Check, Role, Setup, Trial

# The files that decide what these functions measure, for the digests of the experiments.
SOURCES = ("lab/costs.py", "lab/turns.py", "lab/relay.py")


class Counting(Relay):
    """A relay that counts what clients send."""

    sent = 0

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if writer.get_extra_info("peername")[1] == self._target:
            write = writer.write

            def counted(data: bytes) -> None:
                self.sent += len(data)
                write(data)

            writer.write = counted
        await super()._pump(reader, writer)


@dataclasses.dataclass(frozen=True)
class Cost:
    """Ways to do one thing, and what each is compared with.

    Attributes:
        scene: plays them. Its ``main`` takes ``engines``, arguments of ``create_engine`` for each way; ``setup``, those
            for what is done before; ``rounds`` and ``requests``, how many in each round and way. It returns ``rounds``.
        ways: their names.
        beside: for each that is judged, the way that does without it.
        dear: those that send more, and are there to show that more would be seen.
        warm_up: how many requests each way does before the first round.
    """

    scene: str
    ways: Sequence[str]
    beside: Mapping[str, str]
    dear: Collection[str]
    warm_up: int

    def arms(self, effort: Effort, drivers: Sequence[str]) -> Iterator[Arm]:
        """Facts: ``more_bytes``, what is sent to the server per request beyond what the way beside it sends. From the
        record of one quiet machine also ``cpu_us``, the client's CPU time per request in microseconds, and ``more_us``,
        how much more that is; medians over rounds in which the ways take turns.
        """
        measured = functools.cache(functools.partial(self._measured, effort))
        for name in drivers:
            for way, beside in self.beside.items():
                role: Role = "hazard" if way in self.dear else "remedy"
                it = Setup(driver(name).database, name, remedy=way, child=f"beside {beside}")
                checks = [Check("more_bytes", ">" if role == "hazard" else "==", 0)]

                def trials(name: str = name, way: str = way) -> list[Trial]:
                    return [Trial(facts=measured(name)[way])]

                yield arm(f"{name}, {way}", role, it, checks, trials)

    def _measured(self, effort: Effort, name: str) -> dict[str, dict[str, Any]]:
        with start(driver(name).database) as database:
            sent = self.bytes_sent(name, database, 20)
            facts: dict[str, dict[str, Any]] = {
                way: {"more_bytes": round(sent[way] - sent[beside], 1)} for way, beside in self.beside.items()
            }
            if effort.name == "record":
                rounds = self.cpu(name, database, 31, 40)
                for way, beside in self.beside.items():
                    facts[way]["cpu_us"] = round(statistics.median(row[way] for row in rounds), 1)
                    facts[way]["more_us"] = round(statistics.median(row[way] - row[beside] for row in rounds), 1)
        return facts

    def bytes_sent(self, name: str, database: Database, requests: int) -> dict[str, float]:
        """What each way sends to the server per request, in bytes; those of the warm-up are counted as well."""
        with contextlib.ExitStack() as stack:
            relays = {}
            for way in self.ways:
                relays[way] = Counting(database.port)
                stack.callback(relays[way].stop)
            engines = {
                way: arguments(name, dataclasses.replace(database, port=relay.port)) for way, relay in relays.items()
            }
            play(self.scene, engines=engines, setup=arguments(name, database), rounds=1, requests=requests)
            return {way: relay.sent / (self.warm_up + requests) for way, relay in relays.items()}

    def cpu(self, name: str, database: Database, rounds: int, requests: int) -> list[dict[str, float]]:
        """The client's CPU time per request in microseconds, for each round and way."""
        settings = arguments(name, database)
        engines = dict.fromkeys(self.ways, settings)
        how = {"rounds": rounds, "requests": requests, "patience": 240}
        return play(self.scene, engines=engines, setup=settings, **how)["rounds"]
