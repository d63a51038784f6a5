"""`Experiment`: what is shown and how it is scanned, read and checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from imgtofmri.exceptions import OptionError
from imgtofmri.experiments.events import Frames, movie_events
from imgtofmri.experiments.runs import Run, run_of_movie, run_of_table
from imgtofmri.experiments.scan import Scan, check_run
from imgtofmri.experiments.tables import EventsTable, find_stimuli, read_events
from imgtofmri.files import sha256_of
from imgtofmri.outputs.series import MAX_VOLUMES
from imgtofmri.stimuli import Movie, check_rate, suffix_kind
from imgtofmri.timeseries import check_shown


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
        The files that are shown, with the names that events have for them.
    events : tuple of EventsTable
        One for each run; none where one movie is shown alone.
    tables : tuple of Input
        The events files.
    movies : mapping of str to Movie
        Those of the stimuli that are movies.
    n_volumes : int or None
        Length of each run.
    rate_hz : float
        Frames a second that are taken of movies.
    layout : mapping
        What the runs were laid out from, where they were: no file says it.
    """

    scan: Scan
    stimuli: tuple[tuple[str, Path], ...]
    events: tuple[EventsTable, ...] = ()
    tables: tuple[Input, ...] = ()
    movies: Mapping[str, Movie] = field(default_factory=dict)
    n_volumes: int | None = None
    rate_hz: float = 2.0
    layout: Mapping[str, Any] = field(default_factory=dict)

    @property
    def movie_rate_hz(self) -> float | None:
        """Frames a second that are taken of movies; None where none is shown."""
        return self.rate_hz if self.movies else None

    def runs(self, index: Mapping[str, int | Frames]) -> tuple[Run, ...]:
        """Return the runs.

        Parameters
        ----------
        index : mapping of str to int or Frames
            Which rows of the responses belong to each stimulus, as `encode_stimuli` says.
        """
        tr_s = self.scan.tr_s
        if not self.events:
            ((name, _),) = self.stimuli
            frames = index[name]
            assert isinstance(frames, Frames)
            shown = movie_events(frames.onsets_s, end_s=frames.end_s)
            return (run_of_movie(shown, name, tr_s, self.n_volumes),)
        return tuple(run_of_table(table, index, tr_s, self.n_volumes) for table in self.events)


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
        The folder from which the ``stim_file`` of events files start: images, and movies, which
        are shown from the event's onset for its duration.
    n_volumes : int, optional
        Length of each run; by default up to 16 s after its last event.
    rate_hz : float
        Frames a second that are taken of movies.

    Raises
    ------
    OptionError
        If the inputs are neither, events lie outside their run, or a run is too long for a file.
    DataError
        If an events file cannot be read, or shows a movie for longer than it lasts: the message
        names the line.
    StimulusError
        If stimuli are missing (all are named), or a movie cannot be read.
    """
    rate = check_rate(rate_hz)
    if hasattr(inputs, "columns"):
        message = (
            "inputs must be events files or a movie, by their paths; got a "
            f"{type(inputs).__name__}. Save a table with to_csv(path, sep='\\t', index=False)."
        )
        raise OptionError(message)
    paths = [Path(path) for path in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    alone = [path for path in paths if suffix_kind(path) == "movie"]
    if alone:
        if len(paths) > 1 or stimuli is not None:
            message = (
                "expected events files and `stimuli`, or one movie alone; got the movie "
                f"{alone[0]} and more. Name it in an events file, or simulate it alone."
            )
            raise OptionError(message)
        movie = Movie(alone[0])
        _ = movie.info  # Refuses what is no movie.
        name = movie.path.name
        shown = ((name, movie.path),)
        return Experiment(scan, shown, movies={name: movie}, n_volumes=n_volumes, rate_hz=rate_hz)
    if stimuli is None:
        message = (
            "stimuli must be the folder from which the stim_file of events files start; got none. "
            "Name the folder of the images and movies."
        )
        raise OptionError(message, "stimuli")
    events = tuple(read_events(path) for path in paths)
    files = find_stimuli(events, stimuli)
    movies = {name: Movie(path) for name, path in files.items() if suffix_kind(path) == "movie"}
    told = {name: (movie.info, movie.n_frames(rate_hz))[1] for name, movie in movies.items()}
    lengths_s = {name: float(n / rate) for name, n in told.items() if n is not None}
    for table in events:
        table.check_movies(lengths_s)
    check_tables(events, scan, n_volumes)
    read = tuple(Input(str(path), path, sha256_of(path)) for path in paths)
    return Experiment(scan, tuple(files.items()), events, read, movies, n_volumes, rate_hz)


def check_tables(events: Sequence[EventsTable], scan: Scan, n_volumes: int | None = None) -> None:
    """Refuse tables whose runs cannot be scanned as asked.

    Raises
    ------
    OptionError
        If events lie outside their run, or a run is too long for a file or too short for its drift.
    DataError
        If most events outlast several of those after them, as durations in milliseconds do.
    """
    for table in events:
        # A movie counts as one event here: how many frames it has does not matter to a run.
        index = {name: row for row, name in enumerate(table.stim_files)}
        run = run_of_table(table, index, scan.tr_s, n_volumes)
        name = f"events file {table.path}"
        check_shown(run.events.onsets_s, run.events.durations_s, name)
        check_length(run, name)
        check_run(run.events, scan, run.n_volumes, name=name, lines=table.shown_lines)


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
