"""The shards of a store, done by several processes here or on a cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from imgtofmri import __version__
from imgtofmri.analyses.predict.recipe import Recipe
from imgtofmri.analyses.predict.stores import Advance, StoreRun
from imgtofmri.encoder import Predictor
from imgtofmri.exceptions import OptionError
from imgtofmri.outputs.differences import differences
from imgtofmri.outputs.store import Store
from imgtofmri.stimuli import Source
from imgtofmri.workers import do_here, do_on_cluster

PART_ROWS = 2048
"""Rows that a process is given at a time: enough that beginning and ending cost little."""


@dataclass(frozen=True)
class Part:
    """Shards that one process does, with all that it needs to know of their stimuli.

    Attributes
    ----------
    shards : range
    stimuli : tuple of (Source, range)
        Who has some of their rows, and all the rows that each has.
    """

    shards: range
    stimuli: tuple[tuple[Source, range], ...] = field(compare=False)

    def spans(self, rows: range) -> Iterator[tuple[Source, range]]:
        """Yield who has some of these rows, and all the rows that each has."""
        for source, span in self.stimuli:
            if span.start < rows.stop and span.stop > rows.start:
                yield source, span

    def __str__(self) -> str:
        first, last = self.shards.start, self.shards.stop - 1
        return f"shard {first}" if first == last else f"shards {first} to {last}"


@dataclass(frozen=True)
class ShardWork:
    """What a process does: the encoder is loaded once, then parts are done.

    Attributes
    ----------
    recipe : Recipe
    store : str
        The store's folder, from the root on.
    here : str
        The folder at which relative paths of stimuli begin.
    n_earlier : int or None
        How many rows the store had before this run; None where there was none.
    interval, rate_hz
        As for `StoreRun`.
    version : str
        Of imgtofmri.
    """

    recipe: Recipe
    store: str
    here: str
    n_earlier: int | None
    interval: float | None
    rate_hz: float
    version: str = __version__

    def open(self) -> Callable[[Part], list[str]]:
        """Load the encoder and its network, and return what does a part.

        Raises
        ------
        OptionError
            If this process has another release of imgtofmri, or would predict something else.
        """
        if self.version != __version__:
            message = (
                f"expected workers with imgtofmri {self.version}; got {__version__}. Install the "
                "same release on all machines."
            )
            raise OptionError(message)
        _, predictor = self.recipe.load(progress=False)
        store = Store.open(self.store)
        different = differences(
            {"prediction": store.settings["prediction"]},
            {"prediction": predictor.provenance.to_stored()},
        )
        if different:
            message = (
                f"{self.store}: expected workers that predict as the store says, but "
                f"{'; '.join(different)}. Use the same weights and encoder on all machines."
            )
            raise OptionError(message)
        return partial(self._do, predictor, store)

    def _do(self, predictor: Predictor, store: Store, part: Part) -> list[str]:
        """Do a part; return whose rows were predicted."""
        earlier = None if self.n_earlier is None else store.with_rows(self.n_earlier)
        run = StoreRun(
            predictor,
            store,
            part,
            interval=self.interval,
            rate_hz=self.rate_hz,
            earlier=earlier,
            here=self.here,
        )
        run.work(part.shards)
        return sorted(run.predicted)


def spread(
    run: StoreRun,
    recipe: Recipe,
    *,
    workers: int = 1,
    client: Any = None,
    advance: Advance = lambda _: None,
) -> None:
    """Do all shards of a run by several processes.

    Parameters
    ----------
    run : StoreRun
        It is told whose rows were predicted.
    recipe : Recipe
        Of its predictor.
    workers : int
        Processes on this machine.
    client : distributed.Client, optional
        Of a Dask cluster, whose workers do them instead.
    advance : callable
        Called with how many rows are done, whenever there are some more.

    Raises
    ------
    OptionError
        If the network cannot be sent to other processes.
    OutputError
        If something cannot be written, or processes end again and again.
    """
    store = run.store
    work = ShardWork(
        recipe.elsewhere(),
        os.path.abspath(store.path),  # noqa: PTH100
        os.getcwd(),  # noqa: PTH109
        run.n_earlier,
        run.interval,
        run.rate_hz,
    )

    def done(part: Part, predicted: list[str]) -> None:
        run.predicted.update(predicted)
        advance(len(run.rows_of(part.shards)))

    n_workers = workers if client is None else max(1, len(client.nthreads()))
    parts = list(_parts(run, run.in_order(range(store.plan.n_shards)), 4 * n_workers))
    if client is None:
        do_here(work, parts, workers, done)
    else:
        do_on_cluster(work, parts, client, done)


def _parts(run: StoreRun, pieces: Iterable[range], n_least: int) -> Iterator[Part]:
    """Cut shards into parts, of which there are enough for all processes to have some."""
    plan = run.store.plan
    most = max(1, min(PART_ROWS // plan.shard_rows, plan.n_shards // n_least))
    for shards in pieces:
        for first in range(shards.start, shards.stop, most):
            some = range(first, min(first + most, shards.stop))
            yield Part(some, tuple(run.rows.spans(run.rows_of(some))))
