"""Threads that take the images of a batch through a network, each some of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from imgtofmri.processors import n_processors


class Crew:
    """Threads that share a network's work, each with images of its own.

    Threads inside an operation, which ONNX Runtime offers, wait for each other at every layer;
    where decoding and writing go on beside them, all of them then wait for the one that was
    interrupted.

    Parameters
    ----------
    n_threads : int, optional
        Default: the CPUs that this process may use.
    """

    def __init__(self, n_threads: int | None = None) -> None:
        self._threads = ThreadPoolExecutor(n_threads or n_processors(), "imgtofmri-network")

    def each(self, work: Callable[[slice], None], todo: Sequence[slice]) -> None:
        """Do the work for each part; the first error is raised."""
        if len(todo) == 1:
            work(todo[0])
            return
        for _ in self._threads.map(work, todo):
            pass


def parts(n_items: int, size: int) -> list[slice]:
    """Return slices of at most ``size`` that cover ``n_items`` in order."""
    return [slice(start, min(start + size, n_items)) for start in range(0, n_items, size)]
