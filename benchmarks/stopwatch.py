"""How long work takes, by the clock and of processors; what the other scripts here measure with."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Times:
    """How long something took, by the clock and of processors."""

    wall_s: float
    cpu_s: float

    def __str__(self) -> str:
        return f"{self.wall_s:8.1f} s, {self.cpu_s:8.2f} s"


def timed(work: Callable[[], object]) -> Times:
    """Return how long something takes, with the processes that it starts and waits for."""
    start_s, start_cpu_s = time.perf_counter(), _cpu_s()
    work()
    return Times(time.perf_counter() - start_s, _cpu_s() - start_cpu_s)


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes, by the clock."""
    return timed(work).wall_s


def _cpu_s() -> float:
    found = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in found)
