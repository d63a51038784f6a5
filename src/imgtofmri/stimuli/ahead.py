"""Let an iterator run ahead of its consumer in a thread, by a bounded number of items."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.1


class _End:
    """The last thing in the queue: that the items ended, and with which error."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def run_ahead(items: Generator[T, None, None], ahead: int) -> Iterator[T]:
    """Yield what a generator yields, while it works on in a thread of its own.

    The thread starts with the first item asked for. It stops, and the generator is closed, when the
    consumer closes this iterator or the items end; errors come out at their place.

    Parameters
    ----------
    items : generator
        Used by the thread alone from now on.
    ahead : int
        How many items may wait: the bound on memory.

    Yields
    ------
    T
        The items, in order.

    Examples
    --------
    >>> list(run_ahead((n * n for n in range(4)), ahead=2))
    [0, 1, 4, 9]
    """
    waiting: queue.Queue[T | _End] = queue.Queue(maxsize=ahead)
    stopped = threading.Event()

    def put(item: T | _End) -> None:
        while not stopped.is_set():
            try:
                waiting.put(item, timeout=_POLL_S)
            except queue.Full:
                continue
            return

    def work() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                put(item)
                if stopped.is_set():
                    break
        except BaseException as caught:  # Whatever it is belongs to the consumer.
            error = caught
        finally:
            items.close()
        put(_End(error))

    thread = threading.Thread(target=work, name="imgtofmri-ahead", daemon=True)
    thread.start()
    try:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stopped.set()
        thread.join()
