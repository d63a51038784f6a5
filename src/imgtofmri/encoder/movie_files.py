"""The files of one movie: 4-D volumes, surfaces, a table of ROI means and a sidecar."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

import numpy as np
import numpy.typing as npt

from imgtofmri import __version__
from imgtofmri.encoder.regions import GROUP, MODEL_UNIT, RoiMeans
from imgtofmri.encoder.saving import on_mesh
from imgtofmri.files import atomic_path, sha256_of
from imgtofmri.outputs import Layout, OutputFolder, SeriesWriter
from imgtofmri.outputs.surfaces import surface_bytes, surface_file
from imgtofmri.tables import MISSING, tsv

if TYPE_CHECKING:
    from imgtofmri.encoder.prediction import Prediction
    from imgtofmri.encoder.stored import StoredPrediction

Maps = Mapping[tuple[str | None, str], npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class MovieFile:
    """A movie that is predicted.

    Attributes
    ----------
    name : str
    path : Path or None
    sha256 : str or None
        The file's digest.
    info : mapping
        What its header says, as plain data of `imgtofmri.stimuli.MovieInfo`.
    """

    name: str
    path: Path | None
    sha256: str | None
    info: Mapping[str, Any]


class MovieFiles:
    """Writes a movie's files part by part, in memory that stays constant but for surfaces.

    Use it in a ``with`` block: all files appear when it ends well, and none if not.

    Parameters
    ----------
    folder : OutputFolder
        Begun.
    layout : Layout
        Names the files.
    of : Prediction or StoredPrediction
        The voxels, and what made the values.
    movie : MovieFile
    rate_hz : float
        Frames a second.
    volumes : bool
        Whether to write volumes, and the sidecar.
    table : bool
        Whether to write the table of ROI means.
    surface : str
        A mesh on which time series are written, too; they are held in memory.
    """

    def __init__(
        self,
        folder: OutputFolder,
        layout: Layout,
        of: Prediction | StoredPrediction,
        movie: MovieFile,
        rate_hz: float,
        *,
        volumes: bool = True,
        table: bool = True,
        surface: str = "",
    ) -> None:
        self._folder, self._layout, self._of = folder, layout, of
        self._movie, self._name, self._rate_hz = movie, movie.name, rate_hz
        self._volumes, self._table, self._surface = volumes, table, surface
        self._open = ExitStack()
        self._writers: dict[tuple[str | None, str], SeriesWriter] = {}
        self._series: dict[tuple[str, str], list[npt.NDArray[np.float32]]] = {}
        self._files: list[str] = []
        self._onsets_s: list[float] = []
        self._rows: TextIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # The stack's exits see what ends the block, a failure to write the last files included.
        with ExitStack() as files:
            files.push(self._open)
            if error is not None:
                raise error
            self._finish()
        outputs = {file: sha256_of(self._folder.path / file) for file in self._files}
        n_volumes = len(self._onsets_s)
        movie = self._movie
        self._folder.add(movie.name, movie.sha256, outputs, movie.path, n_volumes=n_volumes)

    def add(self, onsets_s: npt.NDArray[np.float64], means: RoiMeans, maps: Maps) -> None:
        """Write further frames.

        Parameters
        ----------
        onsets_s : array of shape (n_frames,)
        means : RoiMeans
            Of these frames.
        maps : mapping of (subject or None, bound) to array
            Their maps, as `Prediction.maps` has them.
        """
        if not self._onsets_s:
            self._begin(means, maps)
        self._onsets_s += onsets_s.tolist()
        for owner, values in maps.items():
            if self._volumes:
                self._writers[owner].append(values)
            volume = self._layout.volume(self._name, *owner, movie=True)
            for hemi, vertices in on_mesh(self._of, values, self._surface).items():
                self._series.setdefault((volume, hemi), []).append(vertices)
        if self._rows is not None:
            self._rows.writelines(mean_rows(onsets_s, means))

    def _begin(self, means: RoiMeans, maps: Maps) -> None:
        """Open the files, of which the first frames say what they are."""
        for owner in maps if self._volumes else ():
            target = self._target(self._layout.volume(self._name, *owner, movie=True))
            writer = SeriesWriter(target, self._of.mask, self._of.affine, 1 / self._rate_hz)
            self._writers[owner] = self._open.enter_context(writer)
        if self._table:
            target = self._target(self._layout.timeseries(self._name))
            self._rows = self._open.enter_context(target.open("w", encoding="utf-8"))
            self._rows.write(tsv(["onset", *mean_columns(means)]))

    def _finish(self) -> None:
        """Write what is known at the end."""
        for (volume, hemi), parts in self._series.items():
            path = self._target(surface_file(volume, hemi, self._surface))
            path.write_bytes(surface_bytes(np.concatenate(parts), hemi, 1 / self._rate_hz))
        if self._volumes:
            sidecar = self._target(self._layout.sidecar(self._name))
            sidecar.write_text(json.dumps(self._describe(), indent=1) + "\n", encoding="utf-8")

    def _target(self, file: str) -> Path:
        """Return the temporary path that becomes a file of the output folder."""
        self._files.append(file)
        return self._open.enter_context(atomic_path(self._folder.path / file))

    def _describe(self) -> dict[str, Any]:
        made = self._of.provenance
        return {
            "GeneratedBy": [{"Name": "imgtofmri", "Version": __version__}],
            "Stimulus": self._name,
            "StimulusSha256": self._movie.sha256,
            "Movie": dict(self._movie.info),
            "RateHz": self._rate_hz,
            "RepetitionTime": 1 / self._rate_hz,
            "NumberOfVolumes": len(self._onsets_s),
            "OnsetsSeconds": self._onsets_s,
            "Units": made.units,
            "Space": self._of.space,
            "Settings": made.to_dict(),
            "Timeseries": {
                "File": Path(self._layout.timeseries(self._name)).name,
                "Columns": "onset in seconds; then OWNER_ROI_HEMI, in the models' own units: OWNER "
                "is a subject (the mean over the voxels of that subject's own ROI, in native "
                "space, not smoothed) or group (the mean over subjects), HEMI is L, R or both",
                "Units": MODEL_UNIT,
            },
        }


def mean_columns(means: RoiMeans) -> dict[str, npt.NDArray[np.float64]]:
    """Return the means of each person's own ROIs as columns, the group's first.

    They are ``group_LOC_L``, ``group_LOC_R``, ``group_LOC_both``, ... ``CSI1_LOC_L``, ...
    """
    people = dict(zip(means.subjects, means.values.swapaxes(0, 1), strict=True))
    return {
        f"{owner}_{roi}_{hemi}": values
        for owner, rows in {GROUP: means.group, **people}.items()
        for (roi, hemi), values in zip(means.places, rows, strict=True)
    }


def mean_rows(onsets_s: npt.NDArray[np.float64], means: RoiMeans) -> Iterator[str]:
    """Yield each frame's row of a movie's table: its onset, then its means as `mean_columns`."""
    for onset_s, *row in zip(onsets_s, *mean_columns(means).values(), strict=True):
        yield tsv([f"{onset_s:.10g}", *map(_number, row)])


def _number(value: float) -> str:
    return f"{value:.7g}" if math.isfinite(value) else MISSING
