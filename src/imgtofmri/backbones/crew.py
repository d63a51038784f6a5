"""Threads that take the images of a call through a network, each some of its own."""

from __future__ import annotations

import os
from collections.abc import Callable
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
        self.n_threads = n_threads or n_processors()
        self._hire()

    def _hire(self) -> None:
        self._threads = ThreadPoolExecutor(self.n_threads, "imgtofmri-network")
        self._process = os.getpid()

    def share(self, work: Callable[[slice], None], n_items: int, part_size: int) -> None:
        """Do the work for all items, in parts of ``part_size``; a single part in this thread.

        The first error is raised.
        """
        starts = range(0, n_items, part_size)
        parts = [slice(start, min(start + part_size, n_items)) for start in starts]
        if len(parts) == 1:
            work(parts[0])
            return
        if self._process != os.getpid():
            self._hire()  # A forked process has none of its parent's threads.
        for _ in self._threads.map(work, parts):
            pass
