"""Predictions to files: what `Prediction.save` and ``imgtofmri predict`` write alike."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgtofmri.encoder.agreement import LEAST_STIMULI, Agreement
from imgtofmri.exceptions import OptionError
from imgtofmri.files import write_all
from imgtofmri.outputs import (
    FormatName,
    Layout,
    OutputFolder,
    Statistic,
    VolumeWriter,
    check_distinct,
    find_layout,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from imgtofmri.encoder.prediction import Prediction
    from imgtofmri.encoder.spatial import SpatialModel

COVERAGE, AGREEMENT = EVIDENCE = ("coverage", "agreement")

MOST_STIMULI = 1000
"""From how many images of a run agreement is found, the first ones: more hardly change it, and an
interrupted run must predict them again."""

COMMAND, RECORD, TABLE = "predict", "predictions.json", "rois.tsv"


def save_prediction(
    prediction: Prediction,
    folder: OutputFolder | str | Path,
    format: FormatName = "nifti",
    *,
    subjects: bool = False,
    interval: float | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write a prediction; see `Prediction.save`."""
    from imgtofmri.tables import write_table

    layout = find_layout(format, prediction.space, interval is not None)
    _check_names(prediction)
    names = prediction.subject_names if subjects else ()
    check_distinct(layout, prediction.names, names, interval is not None)
    output = OutputFolder.of(folder, COMMAND, RECORD, overwrite=overwrite)
    settings = output_settings(format, names, interval)
    with output.begin(settings, prediction.provenance.to_dict()):
        writer = MapWriter(output, layout, subjects=subjects, interval=interval)
        writer.write(prediction)
        evidence = EvidenceWriter(output, layout, prediction, prediction.affine)
        evidence.agreement.add(prediction.subjects[:, :MOST_STIMULI])
        evidence.write()
        output.wrote(write_table(prediction.roi_table(), output.path / TABLE))
        output.wrote(*layout.describe(output.path, prediction.names, (RECORD, TABLE)))
    return output.files


def output_settings(
    format: str,
    subjects: tuple[str, ...] = (),
    interval: float | None = None,
    rate_hz: float | None = None,
) -> dict[str, Any]:
    """Return what a record says of how predictions were written."""
    return {
        "format": format,
        "subjects": list(subjects),
        "rate_hz": rate_hz,
        "interval": interval,
    }


class MapWriter:
    """Writes a volume for each stimulus and map, and says so in the folder's record.

    Parameters
    ----------
    folder : OutputFolder
        Begun.
    layout : Layout
        Names the files.
    subjects, interval
        As for `Prediction.maps`.
    """

    def __init__(
        self,
        folder: OutputFolder,
        layout: Layout,
        *,
        subjects: bool = False,
        interval: float | None = None,
    ) -> None:
        self._folder, self._layout = folder, layout
        self._subjects, self._interval = subjects, interval
        self._writer: VolumeWriter | None = None

    def write(self, part: Prediction, names: Collection[str] | None = None) -> None:
        """Write the maps of some stimuli; all parts must be of one mask.

        Parameters
        ----------
        part : Prediction
        names : collection of str, optional
            Those to write; all by default.

        Raises
        ------
        OutputError
            If a volume cannot be written.
        """
        self._writer = self._writer or VolumeWriter(
            part.mask, part.affine, as_series=self._layout.as_series
        )
        maps = part.maps(subjects=self._subjects, interval=self._interval)
        files = {
            name: {
                self._layout.volume(name, subject, bound): self._writer.encode(values[index])
                for (subject, bound), values in maps.items()
            }
            for index, name in enumerate(part.names)
            if names is None or name in names
        }
        write_all(
            {
                self._folder.path / file: data
                for each in files.values()
                for file, data in each.items()
            }
        )
        for index, name in enumerate(part.names):
            if name in files:
                digests = {f: hashlib.sha256(data).hexdigest() for f, data in files[name].items()}
                self._folder.add(name, part.sha256[index], digests, part.sources[index])


class EvidenceWriter:
    """Writes how far a run's maps can be trusted: `coverage`, and people's `agreement`.

    Parameters
    ----------
    folder : OutputFolder
        Begun.
    layout : Layout
        Names the files.
    of : Prediction or SpatialModel
        The voxels, and what people stand behind.
    affine : array of shape (4, 4)
    """

    def __init__(
        self,
        folder: OutputFolder,
        layout: Layout,
        of: Prediction | SpatialModel,
        affine: npt.NDArray[np.float64],
    ) -> None:
        self._folder, self._layout = folder, layout
        self._coverage = of.coverage
        self._writer = VolumeWriter(of.mask, affine)
        self.agreement = Agreement(of.coverage)

    def keep(self, n_stimuli: int) -> bool:
        """Keep the maps of an earlier run of so many, if they are there and are what it wrote."""
        maps = EVIDENCE if n_stimuli >= LEAST_STIMULI else [COVERAGE]
        return self._folder.keep(*map(self._layout.evidence, maps))

    def write(self) -> None:
        """Write the maps; agreement where there were stimuli enough for it."""
        n_people, n_stimuli = len(self._coverage), self.agreement.n_stimuli
        said = f"how many of {n_people} people stand behind each voxel"
        statistic = Statistic("estimate", said, limits=(0.0, float(n_people)))
        maps = {COVERAGE: (self._coverage.sum(axis=0), statistic)}
        if n_stimuli >= LEAST_STIMULI:
            said = f"r of people's predictions over {n_stimuli} stimuli, mean over pairs"
            statistic = Statistic("correlation", said, (n_stimuli - 2.0,), limits=(-1.0, 1.0))
            maps[AGREEMENT] = (self.agreement.values(), statistic)
        for what, (values, statistic) in maps.items():
            path = self._folder.path / self._layout.evidence(what)
            self._writer.write(path, values, statistic)
            self._folder.wrote(path)


def _check_names(prediction: Prediction) -> None:
    """Refuse names that files cannot have, or that would be one file's."""
    counts = Counter(name.casefold() for name in prediction.names)
    for name in prediction.names:
        is_plain = name not in ("", "..") and name == Path(name).name and name.isprintable()
        if not is_plain or counts[name.casefold()] > 1:
            message = (
                "expected stimuli with names of their own, each of which can be a file's; got "
                f"{name!r}{' more than once' if is_plain else ''}. Give names as predict_features "
                "takes them, or files whose names differ."
            )
            raise OptionError(message)
