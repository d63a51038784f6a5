"""Files that say what is shown when: events tables in BIDS form; haemodynamic responses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
from numpy.typing import NDArray

from imgtofmri.documents import read_text
from imgtofmri.exceptions import DataError, StimulusError
from imgtofmri.experiments.events import Events, Frames
from imgtofmri.files import is_file
from imgtofmri.tables import MISSING, TextTable, is_missing, read_table

REQUIRED_COLUMNS = ("onset", "duration", "stim_file")
# BIDS names none; "modulation" is what nilearn reads.
AMPLITUDE_COLUMNS = ("amplitude", "modulation")

# A day has 86,400 s; what is beyond this is a mistake of unit or a slip.
_MAX_NUMBER = 1_000_000.0
# A response to a short stimulus is over in half a minute.
_MAX_RESPONSE_S = 600.0
# How many stimuli a message names.
_N_NAMED = 10


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
    lines : tuple of int
        The line of each row, counted from 1; empty lines count.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[int, ...]

    @property
    def amplitude_column(self) -> str | None:
        """The column of amplitudes, if there is one."""
        return next((name for name in AMPLITUDE_COLUMNS if name in self.columns), None)

    @property
    def stim_files(self) -> tuple[str, ...]:
        """The stimuli, each once, in the order of their first event."""
        column = self.columns.index("stim_file")
        return tuple(dict.fromkeys(row[column] for row in self.rows if row[column] != MISSING))

    @property
    def shown_lines(self) -> tuple[int, ...]:
        """The line of each row that shows a stimulus, in the order of its `events`."""
        column = self.columns.index("stim_file")
        pairs = zip(self.lines, self.rows, strict=True)
        return tuple(line for line, row in pairs if row[column] != MISSING)

    def place_of(self, stim_file: str) -> str:
        """Say where a stimulus is first named, for messages."""
        column = self.columns.index("stim_file")
        first = next(k for k, row in enumerate(self.rows) if row[column] == stim_file)
        return f"{self.path}, line {self.lines[first]}"

    def events(self, index: Mapping[str, int | Frames]) -> Events:
        """Return the events of the rows that show a stimulus; a movie is an event for each frame.

        Parameters
        ----------
        index : mapping of str to int or Frames
            The row of the responses that belongs to each ``stim_file``, or a movie's rows.
        """
        onsets_s, durations_s, rows, amplitudes = [], [], [], []
        for cells in self._shown:
            of = index[cells["stim_file"]]
            times_s = (float(cells["onset"]), float(cells["duration"]))
            if isinstance(of, Frames):
                begin, last, frames = of.shown(*times_s)
            else:
                begin, last, frames = (np.array([value]) for value in (*times_s, of))
            onsets_s.append(begin)
            durations_s.append(last)
            rows.append(frames)
            name = self.amplitude_column
            amplitudes.append(np.full(len(begin), 1.0 if name is None else float(cells[name])))
        return Events(*(np.concatenate(each) for each in (onsets_s, durations_s, rows, amplitudes)))

    def check_movies(self, lengths_s: Mapping[str, float]) -> None:
        """Refuse a movie that is to be shown for longer than it is, or for no time.

        Parameters
        ----------
        lengths_s : mapping of str to float
            How long each movie is, up to a frame.

        Raises
        ------
        DataError
        """
        for line, cells in zip(self.shown_lines, self._shown, strict=True):
            length_s, duration_s = lengths_s.get(cells["stim_file"]), float(cells["duration"])
            if length_s is not None and not 0.0 < duration_s <= length_s + 1e-6:
                message = (
                    f"events file {self.path}, line {line}: a movie's duration must be above 0 and "
                    f"at most the {length_s:g} s that {cells['stim_file']!r} lasts; got "
                    f"{duration_s:g}. Write for how long it is shown, in seconds."
                )
                raise DataError(message)

    @property
    def _shown(self) -> list[dict[str, str]]:
        """The rows that show a stimulus, by column."""
        cells = [dict(zip(self.columns, row, strict=True)) for row in self.rows]
        return [row for row in cells if row["stim_file"] != MISSING]


def read_events(path: str | Path) -> EventsTable:
    """Read and check an events file in BIDS form.

    Parameters
    ----------
    path : str or Path
        A tab-separated table with the columns ``onset``, ``duration`` (seconds) and
        ``stim_file``, an image or a movie; ``amplitude`` or ``modulation``, if there, scales the
        response. A row whose ``stim_file`` is n/a (a fixation, a key press) shows nothing and is
        kept as it is; other words for a missing value are names like any other.

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
    where = f"events file {path}"
    table = read_table(path, where, quotes=False, full=True)
    columns = table.columns
    missing = [name for name in REQUIRED_COLUMNS if name not in columns]
    if missing:
        message = (
            f"{where}: columns {', '.join(REQUIRED_COLUMNS)} are needed; {', '.join(missing)} "
            f"not among {', '.join(columns)}. Separate columns by tabs and name them in line 1."
        )
        raise DataError(message)
    for name in dict.fromkeys(columns):
        if not name:
            message = (
                f"{where}: each column must have a name in line 1; got "
                f"{columns.count(name)} without. Name it, or remove the tab that makes it."
            )
            raise DataError(message)
        if columns.count(name) > 1:
            message = (
                f"{where}: a column may occur once; {name!r} occurs {columns.count(name)} times. "
                "Keep one of them."
            )
            raise DataError(message)
    if all(name in columns for name in AMPLITUDE_COLUMNS):
        message = (
            f"{where}: one column may scale the response; got both amplitude and modulation. "
            "Drop one of them."
        )
        raise DataError(message)
    shown = [row for row, name in enumerate(table.column("stim_file")) if name != MISSING]
    _check(table, shown)
    if not shown:
        message = (
            f"{where}: some row must name a stimulus in stim_file; got {len(table)} rows without "
            "one. Give the image or movie that each event shows."
        )
        raise DataError(message)
    return EventsTable(path, columns, table.rows, table.lines)


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
    if not folder.is_dir():
        message = f"stimuli: a folder is needed; got {folder}, which is none. Check the path."
        raise StimulusError(message)
    places: dict[str, str] = {}
    for table in tables:
        for name in table.stim_files:
            places.setdefault(name, table.place_of(name))
    outside = [name for name in places if _leads_outside(name)]
    if outside:
        message = (
            f"stimuli: each stim_file must lie below {folder}; got {_some(outside, places)}. "
            "Write paths relative to the stimulus folder, without '..'."
        )
        raise StimulusError(message)
    found = {name: folder / name for name in places}
    missing = [name for name, path in found.items() if not is_file(path)]
    if missing:
        remedy = "Check the folder or the names."
        if any(map(is_missing, missing)):
            remedy = f"Write {MISSING} where nothing is shown."
        elif any("\\" in name for name in missing):
            remedy = "Write / between folders and names."
        message = (
            f"stimuli: all {len(places)} files that the events name must be in {folder}; "
            f"{len(missing)} missing: {_some(missing, places)}. {remedy}"
        )
        raise StimulusError(message)
    return found


def read_kernel(path: str | Path, step_s: float) -> NDArray[np.float64]:
    """Read a haemodynamic response and sample it evenly.

    Parameters
    ----------
    path : str or Path
        A text file with two numbers a line, separated by blanks, tabs or commas: seconds after the
        stimulus, rising from 0, and the response. Lines that begin with # are comments.
    step_s : float
        Sampling step, in seconds; between the given times the response is interpolated linearly.

    Returns
    -------
    kernel : array of shape (n_taps,), float64

    Raises
    ------
    DataError
        If the file does not hold such a table.
    """
    path = Path(path)
    where = f"haemodynamic response {path}"
    lines = [line for line in _read_text(path, where).splitlines() if line.strip()]
    lines = [line for line in lines if not line.lstrip().startswith("#")]
    try:
        table = np.array([line.replace(",", " ").split() for line in lines], dtype=np.float64)
    except ValueError:
        table = np.empty((0, 0))
    good = table.ndim == 2 and table.shape[0] >= 2 and table.shape[1] == 2
    good = good and bool(np.isfinite(table).all()) and table[0, 0] == 0
    if not (good and (np.diff(table[:, 0]) > 0).all()):
        message = (
            f"{where}: two columns of numbers are needed, seconds rising from 0 and the response, "
            f"on 2 lines or more; got {len(lines)} lines that are not that. Remove headings, or "
            "begin them with #."
        )
        raise DataError(message)
    if table[-1, 0] > _MAX_RESPONSE_S:
        message = (
            f"{where}: seconds up to {_MAX_RESPONSE_S:g} are needed; got {table[-1, 0]:g}. Give "
            "the first column in seconds, and leave out what is 0."
        )
        raise DataError(message)
    times_s = np.arange(math.floor(table[-1, 0] / step_s + 1e-9) + 1) * step_s
    return np.interp(times_s, table[:, 0], table[:, 1])


def _check(table: TextTable, shown: Sequence[int]) -> None:
    """Refuse cells that are not numbers in rows that show a stimulus."""
    names = table.column("stim_file")
    empty = [row for row in shown if not names[row]]
    if empty:
        message = (
            f"{table.place(empty[0])}: stim_file must name a file or be n/a; got an empty cell. "
            "Write n/a where nothing is shown."
        )
        raise DataError(message)
    remedy = "Correct it, or write n/a as its stim_file if nothing is shown."
    for name in ("onset", "duration", *AMPLITUDE_COLUMNS):
        if table.has(name):
            least = 0.0 if name == "duration" else -_MAX_NUMBER
            table.numbers(name, shown, least=least, most=_MAX_NUMBER, remedy=remedy)


def _some(names: Sequence[str], places: Mapping[str, str]) -> str:
    """Name stimuli and where they stand, the first ten of them."""
    named = ", ".join(f"{name!r} ({places[name]})" for name in names[:_N_NAMED])
    return f"{named} and {len(names) - _N_NAMED} more" if len(names) > _N_NAMED else named


def _leads_outside(name: str) -> bool:
    """Return whether a path is absolute or climbs, by the rules of either kind of system."""
    paths = (PurePosixPath(name), PureWindowsPath(name))
    return any(path.anchor or ".." in path.parts for path in paths)


def _read_text(path: Path, where: str) -> str:
    try:
        return read_text(path)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        message = (
            f"{where}: a text file is needed; {path} cannot be read: {reason}. Check the path."
        )
        raise DataError(message) from error
