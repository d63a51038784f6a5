"""Show how far long work has come: a bar on a terminal, plain lines elsewhere, or to a listener."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace

from imgtofmri.text import visible

LINE_INTERVAL_S = 10.0


@dataclass(frozen=True, slots=True)
class Step:
    """How far one piece of long work has come.

    Attributes
    ----------
    description : str
        What is being done, as a present participle.
    done : float
    total : float or None
        None where it is not known.
    unit : str
        ``"B"`` for bytes, else a plural noun.
    """

    description: str
    done: float
    total: float | None
    unit: str


Listener = Callable[[Step], None]

_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """Tell a listener, and nobody else, of all work that is tracked in the block.

    Parameters
    ----------
    listener : callable
        Called with each `Step`, also of work that reports no progress. What it raises ends the
        work.
    """
    before = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(before)


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
    listener = _LISTENER.get()
    if listener is not None:
        yield _Heard(listener, description, total, unit).advance
    elif not enabled or sys.stderr is None:
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


class _Heard:
    """Progress as steps for a listener: at the start and at each advance."""

    def __init__(
        self, listener: Listener, description: str, total: float | None, unit: str
    ) -> None:
        self._listener = listener
        self._step = Step(description, 0.0, total, unit)
        listener(self._step)

    def advance(self, amount: float) -> None:
        self._step = replace(self._step, done=self._step.done + amount)
        self._listener(self._step)


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
        if self._unit == "B":
            return f"{value / 1e6:.1f} MB"
        unit = self._unit.removesuffix("s") if round(value) == 1 else self._unit
        return f"{value:.0f} {unit}".strip()

    @staticmethod
    def _write(line: str) -> None:
        with suppress(OSError):  # Work does not stop because nobody is there to read of it.
            sys.stderr.write(f"{line}\n")
            sys.stderr.flush()
