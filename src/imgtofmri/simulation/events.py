"""What is shown when: events tables in BIDS form, and movies as events."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError, StimulusError

FloatArray: TypeAlias = NDArray[np.float64]

REQUIRED_COLUMNS = ("onset", "duration", "stim_file")
# BIDS names none; "modulation" is what nilearn reads.
AMPLITUDE_COLUMNS = ("amplitude", "modulation")
MISSING = "n/a"


@dataclass(frozen=True, init=False, eq=False)
class Events:
    """Stimuli on the time line of a run; events may overlap, their responses add.

    Parameters
    ----------
    onsets_s : array of shape (n_events,)
        Seconds from the start of the first volume.
    durations_s : array of shape (n_events,)
        Seconds, 0 or more. An event of 0 s is an impulse of unit area: it moves the response as
        much as one second of stimulation does, all at once.
    stimuli : array of shape (n_events,), int
        Which stimulus each event shows: a row of the responses.
    amplitudes : array of shape (n_events,), optional
        Factors on the responses; 1 by default.

    Raises
    ------
    ShapeError
        If the arrays differ in length.
    DataError
        If a number is not finite, a duration or a stimulus is negative, or there are no events.

    Examples
    --------
    >>> Events([0.0, 4.0], [2.0, 2.0], [0, 1]).end_s
    6.0
    """

    onsets_s: FloatArray
    durations_s: FloatArray
    stimuli: NDArray[np.int64]
    amplitudes: FloatArray

    def __init__(
        self,
        onsets_s: ArrayLike,
        durations_s: ArrayLike,
        stimuli: ArrayLike,
        amplitudes: ArrayLike | None = None,
    ) -> None:
        onsets = np.array(onsets_s, dtype=np.float64)
        durations = np.array(durations_s, dtype=np.float64)
        indices = np.array(stimuli, dtype=np.int64)
        factors = np.ones(onsets.shape) if amplitudes is None else np.array(amplitudes, np.float64)
        arrays = (onsets, durations, indices, factors)
        if onsets.ndim != 1 or len({array.shape for array in arrays}) != 1:
            shapes = ", ".join(str(array.shape) for array in arrays)
            message = (
                "Events: onsets_s, durations_s, stimuli and amplitudes must have one shape "
                f"(n_events,); got {shapes}. Give one of each for every event."
            )
            raise ShapeError(message)
        finite = all(np.isfinite(array).all() for array in arrays)
        if not (onsets.size and finite and (durations >= 0).all() and (indices >= 0).all()):
            message = (
                "Events: there must be an event, all numbers finite, durations_s and stimuli 0 or "
                f"more; got {onsets.size} events"
                f"{'' if finite else ', some not finite'}"
                f"{', some duration negative' if (durations < 0).any() else ''}"
                f"{', some stimulus negative' if (indices < 0).any() else ''}. Correct the events."
            )
            raise DataError(message)
        for name, array in zip(
            ("onsets_s", "durations_s", "stimuli", "amplitudes"), arrays, strict=True
        ):
            object.__setattr__(self, name, array)

    @property
    def end_s(self) -> float:
        """When the last event ends, in seconds."""
        return float((self.onsets_s + self.durations_s).max())


@dataclass(frozen=True)
class EventsTable:
    """An events file: its columns as they were, and what the simulation reads of them.

    Parameters
    ----------
    path : Path
        The file.
    columns : tuple of str
        Column names, in the file's order.
    rows : tuple of tuple of str
        Cells, as they stand in the file.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def amplitude_column(self) -> str | None:
        """The column of amplitudes, if there is one."""
        return next((name for name in AMPLITUDE_COLUMNS if name in self.columns), None)

    @property
    def stim_files(self) -> tuple[str, ...]:
        """The stimuli, each once, in the order of their first event."""
        column = self.columns.index("stim_file")
        return tuple(dict.fromkeys(row[column] for row in self.rows if row[column] != MISSING))

    def events(self, index: Mapping[str, int]) -> Events:
        """Return the events of the rows that show a stimulus.

        Parameters
        ----------
        index : mapping of str to int
            The row of the responses that belongs to each ``stim_file``.
        """
        cells = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        shown = [row for row in cells if row["stim_file"] != MISSING]
        name = self.amplitude_column
        return Events(
            [float(row["onset"]) for row in shown],
            [float(row["duration"]) for row in shown],
            [index[row["stim_file"]] for row in shown],
            None if name is None else [float(row[name]) for row in shown],
        )


def read_events(path: str | Path) -> EventsTable:
    """Read and check an events file in BIDS form.

    Parameters
    ----------
    path : str or Path
        A tab-separated table with the columns ``onset``, ``duration`` (seconds) and
        ``stim_file``; ``amplitude`` or ``modulation``, if there, scales the response. A row whose
        ``stim_file`` is n/a (a fixation, a key press) shows nothing and is kept as it is.

    Returns
    -------
    EventsTable
        The table; every row that shows a stimulus has valid numbers.

    Raises
    ------
    DataError
        If the file cannot be read as such a table: the message names the line.
    """
    path = Path(path)
    where = f"events file {path.name}"
    lines = _read_lines(path, where)
    columns, rows = tuple(lines[0]), [tuple(line) for line in lines[1:]]
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    if missing:
        message = (
            f"{where}: columns {', '.join(REQUIRED_COLUMNS)} are needed; {', '.join(missing)} "
            f"not among {', '.join(columns)}. Separate columns by tabs and name them in line 1."
        )
        raise DataError(message)
    for name in set(columns):
        if columns.count(name) > 1:
            message = f"{where}: a column may occur once; {name!r} occurs twice. Drop one of them."
            raise DataError(message)
    if all(name in columns for name in AMPLITUDE_COLUMNS):
        message = (
            f"{where}: one column may scale the response; got both amplitude and modulation. "
            "Drop one of them."
        )
        raise DataError(message)
    for number, row in enumerate(rows, start=2):
        if len(row) != len(columns):
            message = (
                f"{where}, line {number}: {len(columns)} cells are needed; got {len(row)}. "
                "Write n/a where a value is missing."
            )
            raise DataError(message)
    table = EventsTable(path, columns, tuple(rows))
    _check_numbers(table, where)
    if not table.stim_files:
        message = (
            f"{where}: some row must name a stimulus in stim_file; got {len(rows)} rows without "
            "one. Give the image that each event shows."
        )
        raise DataError(message)
    return table


def find_stimuli(tables: Sequence[EventsTable], folder: str | Path) -> dict[str, Path]:
    """Find every stimulus that events name.

    Parameters
    ----------
    tables : sequence of EventsTable
        One for each run.
    folder : str or Path
        Where ``stim_file`` starts from.

    Returns
    -------
    dict of str to Path
        The file of each ``stim_file``, in the order of its first event.

    Raises
    ------
    StimulusError
        If files are missing (all are named), or a name leads out of the folder.
    """
    folder = Path(folder)
    names = dict.fromkeys(name for table in tables for name in table.stim_files)
    outside = [name for name in names if _leads_outside(name)]
    if outside:
        message = (
            f"stimuli: each stim_file must lie below {folder}; got {', '.join(outside)}. "
            "Write paths relative to the stimulus folder, without '..'."
        )
        raise StimulusError(message)
    found = {name: folder / name for name in names}
    missing = [name for name, path in found.items() if not path.is_file()]
    if missing:
        message = (
            f"stimuli: all {len(names)} files that the events name must be in {folder}; "
            f"{len(missing)} missing: {', '.join(missing)}. Check the folder or the names."
        )
        raise StimulusError(message)
    return found


def movie_events(onsets_s: ArrayLike, *, end_s: float | None = None) -> Events:
    """Return a movie's frames as events, each lasting until the next.

    Parameters
    ----------
    onsets_s : array of shape (n_frames,)
        When each frame is shown, rising; row k of the responses belongs to frame k.
    end_s : float, optional
        When the movie ends; by default the last frame lasts as long as the one before.

    Returns
    -------
    Events
        One event a frame.

    Raises
    ------
    DataError
        If there are fewer than 2 frames, or times do not rise to ``end_s``.

    Examples
    --------
    >>> movie_events([0.0, 0.5, 1.0]).durations_s.tolist()
    [0.5, 0.5, 0.5]
    """
    onsets = np.asarray(onsets_s, dtype=np.float64)
    if onsets.ndim != 1 or len(onsets) < 2:
        message = (
            "movie_events: onsets_s must hold 2 frames or more; got an array of shape "
            f"{onsets.shape}. Use a longer movie or a higher rate."
        )
        raise DataError(message)
    end = 2 * onsets[-1] - onsets[-2] if end_s is None else end_s
    durations = np.diff(onsets, append=end)
    if not (np.isfinite(durations).all() and (durations > 0).all()):
        message = (
            "movie_events: frames must follow each other and end before end_s; got times that do "
            f"not rise up to {end:g} s. Sort the frames and check the movie's end."
        )
        raise DataError(message)
    return Events(onsets, durations, np.arange(len(onsets)))


def check_within_run(events: Events, run_s: float, *, name: str = "events") -> None:
    """Refuse events that a run does not hold, even in part.

    Parameters
    ----------
    events : Events
        What is shown.
    run_s : float
        Length of the run, in seconds.
    name : str
        What to call them in the message.

    Raises
    ------
    OptionError
        If an event begins when the run is over, or is over when it begins.
    """
    ends_s = events.onsets_s + events.durations_s
    late = np.flatnonzero(events.onsets_s >= run_s)
    early = np.flatnonzero((ends_s <= 0) & (events.onsets_s < 0))
    if late.size or early.size:
        worst = float(events.onsets_s[late].max() if late.size else events.onsets_s[early].min())
        message = (
            f"{name}: every event must lie within the run, 0 to {run_s:g} s; {late.size} begin "
            f"after it and {early.size} end before it, such as one at {worst:g} s. "
            "Ask for more volumes or correct the onsets."
        )
        raise OptionError(message)


def _read_lines(path: Path, where: str) -> list[list[str]]:
    """Return the cells of every line that is not empty."""
    try:
        # A spreadsheet's byte order mark is no part of the first column's name.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        message = (
            f"{where}: a tab-separated text file is needed; {path} cannot be read: {reason}. "
            "Check the path."
        )
        raise DataError(message) from error
    reader = csv.reader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
    lines = [[cell.strip() for cell in line] for line in reader if any(map(str.strip, line))]
    if len(lines) < 2:
        message = (
            f"{where}: a line of column names and a line for each event are needed; "
            f"got {len(lines)} lines. Write one event a line."
        )
        raise DataError(message)
    return lines


def _check_numbers(table: EventsTable, where: str) -> None:
    """Refuse cells that are not numbers in rows that show a stimulus."""
    names = ["onset", "duration"]
    if table.amplitude_column is not None:
        names.append(table.amplitude_column)
    for number, row in enumerate(table.rows, start=2):
        cells = dict(zip(table.columns, row, strict=True))
        if not cells["stim_file"]:
            message = (
                f"{where}, line {number}: stim_file must name a file or be n/a; got an empty cell. "
                "Write n/a where nothing is shown."
            )
            raise DataError(message)
        if cells["stim_file"] == MISSING:
            continue
        for name in names:
            try:
                value = float(cells[name])
            except ValueError:
                value = math.nan
            negative = name == "duration" and value < 0
            if not math.isfinite(value) or negative:
                message = (
                    f"{where}, line {number}: {name} must be a number"
                    f"{' of seconds, 0 or more' if name == 'duration' else ''}; "
                    f"got {cells[name]!r}. Correct it, or write n/a as its stim_file if nothing "
                    "is shown."
                )
                raise DataError(message)


def _leads_outside(name: str) -> bool:
    """Return whether a path is absolute or climbs, by the rules of either kind of system."""
    paths = (PurePosixPath(name), PureWindowsPath(name))
    return any(path.anchor or ".." in path.parts for path in paths)
