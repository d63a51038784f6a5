"""`Experiment`: what is shown and how it is scanned, read and checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from imgtofmri.analyses.simulate.bold import Scan, check_run
from imgtofmri.analyses.simulate.runs import Run, run_of_table
from imgtofmri.analyses.simulate.tables import find_stimuli, read_events
from imgtofmri.exceptions import OptionError
from imgtofmri.files import sha256_of
from imgtofmri.outputs.series import MAX_VOLUMES
from imgtofmri.stimuli import Movie, check_rate, suffix_kind


class Input(NamedTuple):
    """A file that a simulation is made of.

    Attributes
    ----------
    name : str
        As events files name it.
    path : Path
    sha256 : str or None
    """

    name: str
    path: Path
    sha256: str | None


@dataclass(frozen=True, eq=False)
class Experiment:
    """What is shown, and how it is scanned; `read_experiment` makes it.

    Attributes
    ----------
    scan : Scan
        How responses become BOLD.
    stimuli : tuple of (str, Path)
        The files that are shown, with the names that events have for them: a row of the responses
        each, in this order.
    tables : tuple of Input
        The events files.
    runs : tuple of Run
        One for each table.
    movie : Movie or None
        The movie that is shown instead.
    n_volumes : int or None
        Length of its run.
    rate_hz : float
        Frames a second that are taken of it.
    """

    scan: Scan
    stimuli: tuple[tuple[str, Path], ...]
    tables: tuple[Input, ...] = ()
    runs: tuple[Run, ...] = ()
    movie: Movie | None = None
    n_volumes: int | None = None
    rate_hz: float = 2.0


def read_experiment(
    inputs: str | Path | Sequence[str | Path],
    scan: Scan,
    stimuli: str | Path | None = None,
    *,
    n_volumes: int | None = None,
    rate_hz: float = 2.0,
) -> Experiment:
    """Read and check events files, or a movie.

    Parameters
    ----------
    inputs : path or sequence of paths
        Events files in BIDS form, each of which is a run; or one movie.
    scan : Scan
    stimuli : str or Path, optional
        The folder from which the ``stim_file`` of events files start.
    n_volumes : int, optional
        Length of each run; by default up to 16 s after its last event.
    rate_hz : float
        Frames a second that are taken of a movie.

    Raises
    ------
    OptionError
        If the inputs are neither, events lie outside their run, or a run is too long for a file.
    DataError
        If an events file cannot be read: the message names the line.
    StimulusError
        If stimuli are missing (all are named), or a movie cannot be read.
    """
    check_rate(rate_hz)
    paths = [Path(path) for path in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    movies = [path for path in paths if suffix_kind(path) == "movie"]
    if movies:
        if len(paths) > 1 or stimuli is not None:
            message = (
                "expected events files and `stimuli`, or one movie alone; got the movie "
                f"{movies[0]} and more. Simulate them one at a time."
            )
            raise OptionError(message)
        movie = Movie(movies[0])
        _ = movie.info  # Refuses what is no movie.
        shown = ((movie.path.name, movie.path),)
        return Experiment(scan, shown, movie=movie, n_volumes=n_volumes, rate_hz=rate_hz)
    if stimuli is None:
        message = (
            "stimuli must be the folder from which the stim_file of events files start; got none. "
            "Name the folder of the images."
        )
        raise OptionError(message, "stimuli")
    tables = [read_events(path) for path in paths]
    files = find_stimuli(tables, stimuli)
    index = {name: row for row, name in enumerate(files)}
    runs = tuple(run_of_table(table, index, scan.tr_s, n_volumes) for table in tables)
    for table, run in zip(tables, runs, strict=True):
        name = f"events file {table.path}"
        check_length(run, name)
        check_run(run.events, scan, run.n_volumes, name=name, lines=table.shown_lines)
    read = tuple(Input(str(path), path, sha256_of(path)) for path in paths)
    return Experiment(scan, tuple(files.items()), read, runs)


def check_length(run: Run, name: str = "run") -> None:
    """Refuse a run of more volumes than a NIfTI-1 file holds.

    Raises
    ------
    OptionError
    """
    if run.n_volumes > MAX_VOLUMES:
        message = (
            f"{name}: a run must have at most {MAX_VOLUMES} volumes, the most that a NIfTI-1 file "
            f"holds; got {run.n_volumes}, with the last event ending at {run.events.end_s:g} s. "
            "Check the onsets and durations, which are in seconds, or ask for fewer volumes."
        )
        raise OptionError(message)
