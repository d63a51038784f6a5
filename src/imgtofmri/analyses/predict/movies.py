"""Predict movies into a folder: a 4-D volume, a table of ROI means and a sidecar for each."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from itertools import chain

from imgtofmri.analyses.predict.earlier import source_digest
from imgtofmri.analyses.predict.images import RunSummary
from imgtofmri.encoder import Prediction, Predictor
from imgtofmri.encoder.movie_files import MovieFile, MovieFiles
from imgtofmri.exceptions import OutputError, StimulusError
from imgtofmri.files import check_room
from imgtofmri.outputs import Layout, OutputFolder
from imgtofmri.outputs.series import MAX_VOLUMES
from imgtofmri.outputs.volumes import least_bytes
from imgtofmri.processors import n_processors
from imgtofmri.progress import track
from imgtofmri.stimuli import Failure, Movie, Source

_MOST_AHEAD = 4
"""How many movies may be begun before their turn: each holds a few frames and a decoder."""

_Begun = tuple[Movie, Iterator[Prediction]]


def predict_movies(
    predictor: Predictor,
    sources: Sequence[Source],
    folder: OutputFolder,
    layout: Layout,
    *,
    rate_hz: float = 2.0,
    subjects: bool = False,
    interval: float | None = None,
    surface: str = "",
    progress: bool = True,
) -> RunSummary:
    """Predict movies frame by frame and write each one's results, in memory that stays constant.

    For each movie: a 4-D volume of the group map, with the time step in its header; a table of the
    mean of each ROI, hemisphere and subject at each onset; a sidecar with the onsets and settings.
    They appear together when the movie is through, or not at all.

    Parameters
    ----------
    predictor : Predictor
        An encoder with its settings.
    sources : sequence of Source
        Movie files.
    folder : OutputFolder
        Begun. What it holds and can verify is not predicted again.
    layout : Layout
        Names the files.
    rate_hz : float
        Frames a second.
    subjects : bool
        Whether to write each subject's 4-D volume, too.
    interval : float, optional
        The level of a prediction interval whose bounds are written as 4-D volumes, too.
    surface : str
        A mesh on which time series are written, too; they are held in memory.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    RunSummary
        A movie that cannot be read, or ends before its header says, is a failure.

    Raises
    ------
    OptionError
        If a setting is not valid.
    OutputError
        If a file cannot be written.
    """
    summary = RunSummary()

    def pending() -> Iterator[Source]:
        for source in sources:
            if folder.knows(source.name) and folder.is_done(source.name, source_digest(source)):
                summary.kept.append(source.name)
            else:
                yield source

    def begin(source: Source) -> _Begun:
        movie = Movie(source)
        # What is no movie, or too long a one, is refused before anything is loaded for it.
        movie.check_length(rate_hz, MAX_VOLUMES, "NIfTI-1 files hold no more volumes.")
        stream = predictor.stream_movie(movie, rate_hz)
        return movie, chain([next(stream)], stream)

    for source, begun in _begun_ahead(pending(), begin):
        name = source.name
        try:
            movie, stream = begun.result()
            chosen = (rate_hz, subjects, interval, surface, progress)
            _write(movie, stream, folder, layout, *chosen)
        except StimulusError as error:
            folder.fail(name, str(error))
            summary.failures.append(Failure(name, error))
        except OutputError:
            raise
        except OSError as error:
            message = (
                f"cannot write the results of {name} to {folder.path}: {error.strerror}. "
                "Make room or choose another folder."
            )
            raise OutputError(message) from error
        else:
            summary.done.append(name)
    return summary


def _begun_ahead(
    sources: Iterable[Source], begin: Callable[[Source], _Begun]
) -> Iterator[tuple[Source, Future[_Begun]]]:
    """Begin movies while earlier ones are written: of a short one, that is most of the work."""
    n_ahead = max(1, min(_MOST_AHEAD, n_processors() // 2))
    waiting: deque[tuple[Source, Future[_Begun]]] = deque()
    pool = ThreadPoolExecutor(n_ahead, "imgtofmri-movie")
    try:
        for source in sources:
            waiting.append((source, pool.submit(begin, source)))
            if len(waiting) > n_ahead:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _write(
    movie: Movie,
    stream: Iterator[Prediction],
    folder: OutputFolder,
    layout: Layout,
    rate_hz: float,
    subjects: bool,
    interval: float | None,
    surface: str,
    progress: bool,
) -> None:
    """Predict a movie and write its files; all appear at the end or none."""
    n_frames = movie.expected_frames(rate_hz)
    with track(f"Predicting {movie.name}", n_frames, "frames", enabled=progress) as advance:
        first = next(stream)
        n_maps = len(first.maps(subjects=subjects, interval=interval)) * (n_frames or 0)
        check_room(folder.record, least_bytes(n_maps, int(first.mask.sum())))
        film = MovieFile(movie.name, movie.path, first.sha256[0], asdict(movie.info))
        with MovieFiles(folder, layout, first, film, rate_hz, surface=surface) as files:
            for part in chain([first], stream):
                assert part.onsets_s is not None
                maps = part.maps(subjects=subjects, interval=interval)
                files.add(part.onsets_s, part.roi_means(), maps)
                advance(len(part))
