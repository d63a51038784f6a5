"""How many processors there are to use, and how many a matrix product takes."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import TYPE_CHECKING

from imgtofmri.exceptions import OptionError

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


THREADS = "IMGTOFMRI_THREADS"
"""The environment variable that says how many processors to use at most."""


def n_processors() -> int:
    """Return how many processors this process may use.

    The operating system says so, where a cluster or a container gave it some of them only; the
    environment variable ``IMGTOFMRI_THREADS`` may say fewer.

    Raises
    ------
    OptionError
        If that variable is no whole number above 0.
    """
    if hasattr(os, "sched_getaffinity"):
        there = len(os.sched_getaffinity(0))
    else:
        there = os.cpu_count() or 1
    said = os.environ.get(THREADS, "").strip()
    if not said:
        return there
    if not re.fullmatch("0*[1-9][0-9]{0,17}", said):
        message = f"{THREADS} must be a whole number above 0; got {said!r}. Unset it to use all."
        raise OptionError(message)
    return min(there, int(said))


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Let matrix products take one thread.

    BLAS's threads go on spinning for a while after a product. The products here are small, and
    that spinning would take the processors from the network and the decoders: it made a run of
    movie frames cost half as much processor time again.

    The number is one of the whole process. Contexts may overlap in several threads: the first to
    begin sets it, and the last to end puts it back.
    """
    _limit.begin()
    try:
        yield
    finally:
        _limit.end()


class _Limit:
    """What all contexts share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_contexts = 0
        self._in_force = ExitStack()

    def begin(self) -> None:
        with self._lock:
            if not self._n_contexts:
                self._in_force.enter_context(_blas().limit(limits=1, user_api="blas"))
            self._n_contexts += 1

    def end(self) -> None:
        with self._lock:
            self._n_contexts -= 1
            if not self._n_contexts:
                self._in_force.close()


_limit = _Limit()


@cache
def _blas() -> ThreadpoolController:
    """Look up the BLAS libraries in the process, once."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
