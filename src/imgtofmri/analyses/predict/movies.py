"""Predict movies into a folder: a 4-D volume, a table of ROI means and a sidecar for each."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri import __version__
from imgtofmri.analyses.predict.images import RunSummary, source_digest
from imgtofmri.encoder import Prediction, Predictor
from imgtofmri.encoder.prediction import GROUP, MODEL_UNIT
from imgtofmri.encoder.saving import on_mesh
from imgtofmri.exceptions import OutputError, StimulusError
from imgtofmri.files import atomic_path, sha256_of
from imgtofmri.outputs import Layout, OutputFolder, SeriesWriter
from imgtofmri.outputs.series import MAX_VOLUMES
from imgtofmri.outputs.surfaces import surface_bytes, surface_file
from imgtofmri.processors import n_processors
from imgtofmri.progress import track
from imgtofmri.stimuli import Failure, Movie, Source
from imgtofmri.tables import MISSING, tsv

_MOST_AHEAD = 4
"""How many movies may be begun before their turn: each holds a few frames and a decoder."""


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

    def begun(source: Source) -> _MovieRun:
        movie = Movie(source)
        # What is no movie, or too long a one, is refused before anything is loaded for it.
        movie.check_length(rate_hz, MAX_VOLUMES, "NIfTI-1 files hold no more volumes.")
        run = _MovieRun(predictor, movie, folder, layout, rate_hz, subjects, interval, surface)
        run.begin()
        return run

    for source, run in _begun_ahead(pending(), begun):
        name = source.name
        try:
            run.result().write(progress)
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
    sources: Iterable[Source], begin: Callable[[Source], _MovieRun]
) -> Iterator[tuple[Source, Future[_MovieRun]]]:
    """Begin movies while earlier ones are written: of a short one, that is most of the work."""
    n_ahead = max(1, min(_MOST_AHEAD, n_processors() // 2))
    waiting: deque[tuple[Source, Future[_MovieRun]]] = deque()
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


def mean_columns(part: Prediction) -> dict[str, npt.NDArray[np.float64]]:
    """Return the means of each person's own ROIs as columns, the group's first.

    They are ``group_LOC_L``, ``group_LOC_R``, ``group_LOC_both``, ... ``CSI1_LOC_L``, ...
    """
    means = part.roi_means()
    people = dict(zip(means.subjects, means.values.swapaxes(0, 1), strict=True))
    return {
        f"{owner}_{roi}_{hemi}": values
        for owner, rows in {GROUP: means.group, **people}.items()
        for (roi, hemi), values in zip(means.places, rows, strict=True)
    }


class _MovieRun:
    """The files of one movie, from its first frame to its last."""

    def __init__(
        self,
        predictor: Predictor,
        movie: Movie,
        folder: OutputFolder,
        layout: Layout,
        rate_hz: float,
        subjects: bool,
        interval: float | None,
        surface: str,
    ) -> None:
        self._subjects, self._interval, self._surface = subjects, interval, surface
        self._movie, self._folder, self._layout = movie, folder, layout
        self._rate_hz = rate_hz
        self._stream = predictor.stream_movie(movie, rate_hz)
        self._files: list[str] = []
        self._onsets_s: list[float] = []
        self._sha256: str | None = None
        self._first: Prediction | None = None

    def begin(self) -> None:
        """Predict the first frames; later ones are decoded meanwhile, as many as may wait.

        Raises
        ------
        StimulusError
            If it cannot be read.
        """
        self._first = next(self._stream)

    def write(self, progress: bool) -> None:
        """Predict the movie and write its files; all appear at the end or none."""
        name = self._movie.name
        n_frames = self._movie.expected_frames(self._rate_hz)
        with (
            track(f"Predicting {name}", n_frames, "frames", enabled=progress) as advance,
            ExitStack() as files,
        ):
            first, self._first = self._first, None
            assert first is not None, "begin() comes first"
            self._sha256 = first.sha256[0]
            volumes = self._open_volumes(first, files)
            table = files.enter_context(
                self._target(self._layout.timeseries(name), files).open("w", encoding="utf-8")
            )
            table.write(tsv(["onset", *mean_columns(first)]))
            sidecar = self._target(self._layout.sidecar(name), files)
            series: dict[tuple[str, str], list[npt.NDArray[np.float32]]] = {}
            part: Prediction | None = first
            while part is not None:
                onsets_s = np.asarray(part.onsets_s, dtype=np.float64)
                self._onsets_s += onsets_s.tolist()
                for owner, values in self._maps(part).items():
                    volumes[owner].append(values)
                    volume = self._layout.volume(name, *owner, movie=True)
                    for hemi, vertices in on_mesh(part, values, self._surface).items():
                        series.setdefault((volume, hemi), []).append(vertices)
                for onset_s, *row in zip(onsets_s, *mean_columns(part).values(), strict=True):
                    table.write(tsv([f"{onset_s:.10g}", *map(_number, row)]))
                advance(len(part))
                part = next(self._stream, None)
            for (volume, hemi), parts in series.items():
                path = self._target(surface_file(volume, hemi, self._surface), files)
                path.write_bytes(surface_bytes(np.concatenate(parts), hemi, 1 / self._rate_hz))
            sidecar.write_text(json.dumps(self._describe(first), indent=1) + "\n", encoding="utf-8")
        outputs = {file: sha256_of(self._folder.path / file) for file in self._files}
        path, n_volumes = self._movie.path, len(self._onsets_s)
        self._folder.add(name, self._sha256, outputs, path, n_volumes=n_volumes)

    def _maps(self, part: Prediction) -> dict[tuple[str | None, str], npt.NDArray[np.float32]]:
        return part.maps(subjects=self._subjects, interval=self._interval)

    def _open_volumes(
        self, first: Prediction, files: ExitStack
    ) -> dict[tuple[str | None, str], SeriesWriter]:
        return {
            owner: files.enter_context(
                SeriesWriter(
                    self._target(self._layout.volume(self._movie.name, *owner, movie=True), files),
                    first.mask,
                    first.affine,
                    1 / self._rate_hz,
                )
            )
            for owner in self._maps(first)
        }

    def _target(self, file: str, files: ExitStack) -> Path:
        """Return the temporary path that becomes a file of the output folder."""
        self._files.append(file)
        return files.enter_context(atomic_path(self._folder.path / file))

    def _describe(self, part: Prediction) -> dict[str, Any]:
        return {
            "GeneratedBy": [{"Name": "imgtofmri", "Version": __version__}],
            "Stimulus": self._movie.name,
            "StimulusSha256": self._sha256,
            "Movie": asdict(self._movie.info),
            "RateHz": self._rate_hz,
            "RepetitionTime": 1 / self._rate_hz,
            "NumberOfVolumes": len(self._onsets_s),
            "OnsetsSeconds": self._onsets_s,
            "Units": part.provenance.units,
            "Space": part.space,
            "Settings": part.provenance.to_dict(),
            "Timeseries": {
                "File": Path(self._layout.timeseries(self._movie.name)).name,
                "Columns": "onset in seconds; then OWNER_ROI_HEMI, in the models' own units: OWNER "
                "is a subject (the mean over the voxels of that subject's own ROI, in native "
                "space, not smoothed) or group (the mean over subjects), HEMI is L, R or both",
                "Units": MODEL_UNIT,
            },
        }


def _number(value: float) -> str:
    return f"{value:.7g}" if math.isfinite(value) else MISSING
