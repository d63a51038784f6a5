"""Runs: what is shown, for how long, and what the events file of each says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from imgtofmri.experiments.events import Events, Frames
from imgtofmri.experiments.tables import AMPLITUDE_COLUMNS, EventsTable
from imgtofmri.tables import MISSING

# After the last event the response still runs; by then little of it is left.
TAIL_S = 16.0
# The condition of a movie that is shown alone.
MOVIE = "movie"
# BIDS wants these first.
_FIRST_COLUMNS = {"onset": 0, "duration": 1}


@dataclass(frozen=True, eq=False)
class Run:
    """A run: what is shown, for how long, and what its events file says.

    Parameters
    ----------
    events : Events
        What is shown when.
    n_volumes : int
        Length of the run.
    columns : tuple of str
        Columns of the events file.
    rows : tuple of tuple of str
        Its rows.
    """

    events: Events
    n_volumes: int
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def cells(self) -> list[dict[str, str]]:
        """The rows of its events file, by column."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def run_of_table(
    table: EventsTable,
    index: Mapping[str, int | Frames],
    tr_s: float,
    n_volumes: int | None = None,
) -> Run:
    """Return the run of an events table.

    Parameters
    ----------
    table : EventsTable
        The table; its columns are kept, and ``amplitude`` is added where none was given.
    index : mapping of str to int or Frames
        As in `EventsTable.events`.
    tr_s : float
        Repetition time, in seconds.
    n_volumes : int, optional
        Length of the run; by default up to 16 s after the last event.
    """
    columns, rows = table.columns, table.rows
    if table.amplitude_column is None:
        shown = columns.index("stim_file")
        columns = (*columns, AMPLITUDE_COLUMNS[0])
        rows = tuple((*row, MISSING if row[shown] == MISSING else "1") for row in rows)
    order = sorted(range(len(columns)), key=lambda k: _FIRST_COLUMNS.get(columns[k], 2))
    events = table.events(index)
    return Run(
        events,
        n_volumes_of(events, tr_s) if n_volumes is None else n_volumes,
        tuple(columns[k] for k in order),
        tuple(tuple(row[k] for k in order) for row in rows),
    )


def run_of_movie(events: Events, name: str, tr_s: float, n_volumes: int | None = None) -> Run:
    """Return the run of a movie, whose events file has one row.

    Parameters
    ----------
    events : Events
        The movie's frames.
    name : str
        The movie's file name.
    tr_s, n_volumes
        As in `run_of_table`.
    """
    start_s = float(events.onsets_s.min())
    cells = (f"{start_s:.10g}", f"{events.end_s - start_s:.10g}", MOVIE, name)
    n_run = n_volumes_of(events, tr_s) if n_volumes is None else n_volumes
    return Run(events, n_run, ("onset", "duration", "trial_type", "stim_file"), (cells,))


def n_volumes_of(events: Events, tr_s: float) -> int:
    """Return how many volumes hold the events and most of the response to the last.

    Parameters
    ----------
    events : Events
        What is shown.
    tr_s : float
        Repetition time, in seconds.
    """
    return max(1, math.ceil((events.end_s + TAIL_S) / tr_s - 1e-9))
