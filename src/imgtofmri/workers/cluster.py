"""Units of work on a Dask cluster, whatever it runs on."""

from __future__ import annotations

import pickle
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from secrets import token_hex
from typing import Any, TypeVar

from imgtofmri.exceptions import MissingDependencyError, OptionError, OutputError
from imgtofmri.text import visible
from imgtofmri.workers.work import MOST_LOSSES, Warned, Work, noting, warn_again

CONNECT_S = 15

Unit = TypeVar("Unit")
Answer = TypeVar("Answer")

# One unit at a time in a process, which has all its processors.
_one_at_a_time = threading.Lock()


class WaitingWarning(UserWarning):
    """Nobody is there yet who could work."""


def do_on_cluster(
    work: Work[Unit, Answer],
    units: Iterable[Unit],
    client: Any,
    done: Callable[[Unit, Answer], object],
) -> None:
    """Do all units on the workers of a Dask scheduler, in any order.

    Parameters
    ----------
    work : Work
        It is pickled, as are units and answers. Each worker process opens it once.
    units : iterable
    client : distributed.Client
        As `connected` gives it.
    done : callable
        Told each unit that is done, with its answer, in this thread.

    Raises
    ------
    OutputError
        If the scheduler goes away, or a unit is lost with its worker again and again.
    Exception
        What the work raises; units that have not begun are then called off.

    Warns
    -----
    WaitingWarning
        If the scheduler has no workers yet.
    """
    left = list(units)
    if not left:
        return
    address = visible(client.scheduler.address)
    if not client.scheduler_info()["workers"]:
        message = f"the scheduler at {address} has no workers yet; waiting for some."
        warnings.warn(message, WaitingWarning, stacklevel=2)
    _do_all(client, pickle.dumps(work), left, address, done)


def _do_all(
    client: Any,
    work: bytes,
    units: list[Any],
    address: str,
    done: Callable[[Any, Any], object],
) -> None:
    from distributed import as_completed
    from distributed.scheduler import KilledWorker

    run = token_hex(8)
    n_losses: Counter[int] = Counter()
    asked: dict[Any, int] = {}

    def ask(number: int) -> Any:
        key = f"imgtofmri-{run}-{number}-{n_losses[number]}"
        future = client.submit(_do, work, units[number], key=key, pure=False)
        asked[future] = number
        return future

    finished = as_completed([ask(n) for n in range(len(units))], loop=client.loop)
    try:
        for future in finished:
            number = asked.pop(future)
            if future.status == "cancelled" or client.status != "running":
                message = (
                    f"expected the scheduler at {address} to stay; it is gone. What is "
                    "done stays: start it again, and run the same command."
                )
                raise OutputError(message)
            error = future.exception()
            if isinstance(error, KilledWorker):
                n_losses[number] += 1
                if n_losses[number] >= MOST_LOSSES:
                    message = (
                        f"expected workers that do their parts; part {units[number]} was lost with "
                        f"all that tried it ({error}). Memory may be too little."
                    )
                    raise OutputError(message)
                finished.add(ask(number))
                continue
            if error is not None:
                raise error
            answer, warned = future.result()
            warn_again(warned)
            done(units[number], answer)
            future.release()
    finally:
        with suppress(Exception):  # Where there is no scheduler, there is nothing to call off.
            client.cancel(list(asked))


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Yield a client of the Dask scheduler at an address, such as ``"tcp://10.0.0.1:8786"``.

    Raises
    ------
    MissingDependencyError
        If ``distributed`` is not installed.
    OptionError
        If there is no scheduler at that address.
    """
    try:
        from distributed import Client
    except ImportError as error:
        message = (
            "scheduler needs the package distributed, which is not installed. Install it here and "
            "on all workers: pip install 'imgtofmri[scale]'."
        )
        raise MissingDependencyError(message) from error
    try:
        client = Client(address, timeout=CONNECT_S, set_as_default=False, name="imgtofmri")
    except (OSError, ValueError) as error:
        message = (
            f"scheduler must be the address of a Dask scheduler that runs; got {address!r} "
            f"({type(error).__name__}: {error}). `dask scheduler` prints it when it starts, such "
            "as tcp://10.0.0.1:8786."
        )
        raise OptionError(message, "scheduler") from error
    try:
        yield client
    finally:
        # Nobody is waited for: the scheduler may be gone.
        client.close(timeout=2)


def _do(work: bytes, unit: Any) -> tuple[Any, Warned]:
    """Do a unit, in a worker."""
    with _one_at_a_time:
        return noting(lambda: _opened(work)(unit))


@lru_cache(maxsize=1)
def _opened(work: bytes) -> Callable[[Any], Any]:
    """Open what is done once for all units of a worker."""
    opened: Work[Any, Any] = pickle.loads(work)
    return opened.open()
