"""How long work takes, by the clock and of processors; what the other scripts here measure with."""

from __future__ import annotations

import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

KEPT = "IMGTOFMRI_BENCH_FOLDER"
"""The variable that names a folder in which all scratch folders stay."""


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


@contextmanager
def scratch_folder(folder: Path | None = None) -> Iterator[Path]:
    """Yield a new folder, which is removed in the end; with `KEPT` that is left to who set it.

    Where many files were just removed, ext4 goes through their places for each new one: for some
    minutes a file took .4 to .9 ms instead of .05.

    Parameters
    ----------
    folder : Path, optional
        Where to make it (default: where `KEPT` says, or with other temporary files).
    """
    kept = os.environ.get(KEPT)
    if kept and folder is None:
        yield Path(tempfile.mkdtemp(dir=kept))
        return
    with tempfile.TemporaryDirectory(dir=folder) as made:
        yield Path(made)


def _cpu_s() -> float:
    found = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in found)
