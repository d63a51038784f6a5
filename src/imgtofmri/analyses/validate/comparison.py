"""All that a validation compares, read from files or taken from a prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgtofmri.datasets.twinset import Twinset
from imgtofmri.exceptions import DataError
from imgtofmri.measured.images import Mask, check_same_grid, read_mask, read_region
from imgtofmri.measured.patterns import Patterns, mean_patterns
from imgtofmri.measured.sources import read_patterns
from imgtofmri.measured.tables import read_categories, read_pattern_files
from imgtofmri.progress import track

if TYPE_CHECKING:
    from imgtofmri.encoder.prediction import Prediction


@dataclass(frozen=True, eq=False)
class Study:
    """Predictions and measurements in the same voxels, and what is known of the images.

    Attributes
    ----------
    predicted : Patterns
        One predicted pattern for each image.
    measured : Patterns or None
        The group's measured patterns; None for the mean of the participants'.
    participants : mapping of str to Patterns
        Each participant's measured patterns.
    repeats : tuple of Patterns
        Repeated measurements, for the noise ceiling.
    rois : mapping of str to array of shape (n_voxels,), bool
        Each ROI's voxels.
    categories : mapping of str to str, or None
        Each image's category.
    leave_out : tuple of str
        Names of images that take no part.
    """

    predicted: Patterns
    measured: Patterns | None
    participants: Mapping[str, Patterns] = field(default_factory=dict)
    repeats: tuple[Patterns, ...] = ()
    rois: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    categories: Mapping[str, str] | None = None
    leave_out: tuple[str, ...] = ()

    @property
    def group(self) -> Patterns:
        """The group's measured patterns: those given, else the participants' or repeats' mean."""
        if self.measured is not None:
            return self.measured
        return mean_patterns(list(self.participants.values()) or self.repeats, "Study.group")


def read_study(
    predicted: str | Path | Prediction,
    measured: str | Path | None = None,
    participants: Mapping[str, Path] | None = None,
    repeats: Sequence[Path] = (),
    rois: Mapping[str, Path] | None = None,
    categories: str | Path | None = None,
    leave_out: Sequence[str] = (),
    *,
    mask: str | Path | None = None,
    names: Sequence[str] | None = None,
    resample: bool = False,
    progress: bool = True,
) -> Study:
    """Read a study from files.

    Parameters
    ----------
    predicted : path or Prediction
        A prediction, or any source that :func:`read_patterns` takes.
    measured : path, optional
        The group's patterns, or a table with a column ``participant``, whose rows of the
        participant "group" (or "") are the group's; a column ``category`` is read too.
    participants : mapping of str to path, optional
        Sources of each participant's patterns.
    repeats : sequence of path
        Sources of repeated measurements.
    rois : mapping of str to path, optional
        Mask images. By default the ROIs of a prediction.
    categories : path, optional
        A table with columns ``name`` and ``category``.
    leave_out : sequence of str
        Names of images that take no part.
    mask : path, optional
        The voxels to compare. By default a prediction's mask, or where predictions have data.
    names : sequence of str, optional
        The images' names, for sources that have none of their own.
    resample : bool
        Whether to resample what lies on another grid than the mask.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    Study

    Raises
    ------
    DataError, ShapeError
        If a source cannot be read or lies elsewhere; the message names it.
    """
    grid = None if mask is None else read_mask(mask)
    own, regions = _predicted(predicted, grid, names, resample)
    if own.mask is None or own.affine is None:
        grid = None
    else:
        grid = Mask(own.mask, own.affine)
    people_sources: dict[str, Path | list[Path]] = dict(participants or {})
    table_names: dict[str, list[str]] = {}
    group_source: str | Path | list[Path] | None = measured
    known = None if categories is None else read_categories(categories)
    if measured is not None and Path(measured).suffix.lower() in (".tsv", ".csv"):
        for row in read_pattern_files(measured):
            if row.category and categories is None:
                known = (known or {}) | {row.name: row.category}
            who = row.participant or "group"
            files = people_sources.setdefault(who, [])
            if not isinstance(files, list):
                message = (
                    f"read_study: participant {who} must come from one source; got {files} and "
                    f"{measured}. Leave one out."
                )
                raise DataError(message)
            files.append(row.file)
            table_names.setdefault(who, []).append(row.name)
        group_source = people_sources.pop("group", None)
    total = len(people_sources) + len(repeats) + (group_source is not None)
    with track("Reading measured patterns", total, "sources", enabled=progress) as advance:

        def read(source: str | Path | list[Path], of_table: list[str] | None = None) -> Patterns:
            given = of_table or (None if _names_itself(source) else names)
            patterns = read_patterns(source, grid, given, resample)
            advance(1)
            return patterns

        group = None if group_source is None else read(group_source, table_names.pop("group", None))
        people = {who: read(files, table_names.get(who)) for who, files in people_sources.items()}
        again = tuple(read(source) for source in repeats)
    if group is None and not people and not again:
        message = (
            "read_study: needs measured patterns to compare with; got none. Give the group's, "
            "participants' or repeats."
        )
        raise DataError(message)
    if rois:
        if grid is None:
            message = (
                "read_study: ROI images need a mask that says where the voxels lie; the predicted "
                "patterns came without one. Give a mask image."
            )
            raise DataError(message)
        regions = {name: read_region(path, grid, resample) for name, path in rois.items()}
    return Study(own, group, people, again, regions, known, tuple(leave_out))


def _names_itself(source: str | Path | list[Path]) -> bool:
    """Tell whether a source brings its images' names, so that names given are for others."""
    if isinstance(source, list):
        return True
    path = Path(source)
    return path.is_dir() or path.suffix.lower() in (".tsv", ".csv", ".npz")


def _predicted(
    predicted: str | Path | Prediction,
    grid: Mask | None,
    names: Sequence[str] | None,
    resample: bool,
) -> tuple[Patterns, dict[str, NDArray[np.bool_]]]:
    if isinstance(predicted, str | Path):
        given = None if _names_itself(predicted) else names
        return read_patterns(predicted, grid, given, resample), {}
    patterns = Patterns.from_prediction(predicted)
    regions = {roi: predicted.roi_mask(roi) for roi in predicted.rois}
    if grid is None:
        return patterns, regions
    check_same_grid(
        "read_study: the mask, against the prediction",
        grid.inside.shape,
        grid.affine,
        predicted.mask.shape,
        predicted.affine,
    )
    kept = grid.inside[predicted.mask]
    if not kept.any():
        message = (
            "read_study: the mask must share voxels with the prediction; it shares none. "
            "Look whether both are in the same space."
        )
        raise DataError(message)
    regions = {roi: region[kept] for roi, region in regions.items() if region[kept].any()}
    return patterns.within(kept), regions


def twinset_study(
    twinset: Twinset, prediction: Prediction, resample: bool = False, progress: bool = True
) -> Study:
    """Compare a prediction for the twinset's photographs with the published measurements.

    Images that the published model was trained on are left out.

    Parameters
    ----------
    twinset : Twinset
        From :func:`imgtofmri.datasets.twinset.load_analysis_archive`.
    prediction : Prediction
        For ``twinset.stimuli``.
    resample : bool
        Whether to resample responses on another grid than the prediction's.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    Study

    Raises
    ------
    DataError, ShapeError
        If a response cannot be read or lies on another grid.
    """
    grid = Mask(prediction.mask, prediction.affine)
    predicted, rois = _predicted(prediction, None, None, resample)
    people = {}
    total = 1 + len(twinset.participants)
    with track("Reading measured patterns", total, "sources", enabled=progress) as advance:
        group = read_patterns(twinset.group, grid, twinset.names, resample)
        advance(1)
        for name, files in twinset.participants.items():
            people[name] = read_patterns(files, grid, twinset.names, resample)
            advance(1)
    return Study(
        predicted,
        group,
        people,
        rois=rois,
        categories=twinset.categories,
        leave_out=twinset.duplicates,
    )
