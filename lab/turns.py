"""Ways of doing one thing take turns, and this process's CPU time is counted for each."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping

# Does it so many times.
Do = Callable[[int], object]


def take_turns(doing: Mapping[str, Do], rounds: int, times: int) -> list[dict[str, float]]:
    """The CPU time of each way, user and system, in microseconds per time, for each round.

    Args:
        doing: the ways, each warmed up.
        rounds: how often they take turns.
        times: how often each does it in its turn.
    """
    gc.collect()
    # Whose garbage is collected during whose turn is chance.
    gc.disable()
    rows = []
    for turn in range(rounds):
        # A rotation would leave everybody with one neighbour.
        ways = random.Random(turn).sample(list(doing), len(doing))
        rows.append({way: _cpu(doing[way], times) / times * 1e6 for way in ways})
        gc.collect()
    return rows


def _cpu(do: Do, times: int) -> float:
    before = time.process_time()
    do(times)
    return time.process_time() - before
