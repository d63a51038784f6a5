"""Show how far long work has come: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from imgtofmri.text import visible

LINE_INTERVAL_S = 10.0


@contextmanager
def track(
    description: str, total: float | None = None, unit: str = "", enabled: bool = True
) -> Iterator[Callable[[float], None]]:
    """Report progress on standard error while the block runs.

    Parameters
    ----------
    description : str
        What is being done, as a present participle: ``"Predicting"``.
    total : float, optional
        How much there is to do, in ``unit``. Unknown when None.
    unit : str
        ``"B"`` for bytes, else a plural noun such as ``"images"``.
    enabled : bool
        False reports nothing.

    Yields
    ------
    advance : callable
        Call it with how much was done since the last call.
    """
    description = visible(description)
    if not enabled or sys.stderr is None:
        yield lambda _: None
    elif sys.stderr.isatty():
        with _bar(description, total, unit) as advance:
            yield advance
    else:
        lines = _Lines(description, total, unit)
        lines.start()
        yield lines.advance
        lines.finish()


@contextmanager
def _bar(description: str, total: float | None, unit: str) -> Iterator[Callable[[float], None]]:
    from rich import progress
    from rich.console import Console

    amount = (
        progress.DownloadColumn()
        if unit == "B"
        else progress.TextColumn("{task.completed:.0f}/{task.total} " + unit)
    )
    columns = (
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        *((amount,) if unit and total is not None else ()),
        progress.TimeElapsedColumn(),
        *((progress.TimeRemainingColumn(),) if total is not None else ()),
    )
    with progress.Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task(description, total=total)
        yield lambda amount: bar.update(task, advance=amount)
        if total is None:
            bar.update(task, total=1, completed=1)


class _Lines:
    """Progress as lines of text for logs: at the start, every few seconds, at the end."""

    def __init__(self, description: str, total: float | None, unit: str) -> None:
        self._description = description
        self._total = total
        self._unit = unit
        self._done = 0.0
        self._started = self._last = time.monotonic()

    def start(self) -> None:
        amount = "" if self._total is None else f" ({self._amount(self._total)})"
        self._write(f"{self._description}{amount} ...")

    def advance(self, amount: float) -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._last >= LINE_INTERVAL_S:
            self._last = now
            total = "" if self._total is None else f" (of {self._amount(self._total)})"
            self._write(f"{self._description}: {self._amount(self._done)}{total}")

    def finish(self) -> None:
        self._write(f"{self._description}: done in {time.monotonic() - self._started:.1f} s")

    def _amount(self, value: float) -> str:
        return f"{value / 1e6:.1f} MB" if self._unit == "B" else f"{value:.0f} {self._unit}".strip()

    @staticmethod
    def _write(line: str) -> None:
        with suppress(OSError):  # Work does not stop because nobody is there to read of it.
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
