"""All that a validation compares, read from files or taken from a prediction."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgtofmri.datasets.twinset import Twinset
from imgtofmri.documents import read_text
from imgtofmri.encoder.controls import check_made
from imgtofmri.encoder.copies import tell_of_copies
from imgtofmri.encoder.prediction import Prediction
from imgtofmri.encoder.spatial import group_maps
from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.measured.images import Mask, check_same_grid, read_mask, read_region
from imgtofmri.measured.patterns import Missing, Patterns, mean_patterns, usable_voxels
from imgtofmri.measured.sources import check_files, has_names, read_patterns
from imgtofmri.measured.tables import PatternFile, read_categories, read_pattern_files
from imgtofmri.progress import track
from imgtofmri.spaces import is_image
from imgtofmri.spaces.names import check_space
from imgtofmri.stats.checks import whole_mask
from imgtofmri.text import Brief

if TYPE_CHECKING:
    import pandas as pd

    from imgtofmri.encoder import Control

Source = str | Path | Sequence[Path]
"""What `read_patterns` takes: a folder, an image, a table, an array, or several images."""

TABLES = (".tsv", ".csv")

# Beyond what single precision leaves of a mean of 0, and far below what chance gives.
_ZSCORED = 1e-4


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Brief):
    """Predictions and measurements in the same voxels, and what is known of the images.

    Attributes
    ----------
    predicted : Patterns
        One predicted pattern for each image.
    measured : Patterns or None
        The group's measured patterns; None for the mean of the participants', or of the repeats.
    participants : mapping of str to Patterns
        Each participant's measured patterns.
    repeats : tuple of Patterns
        Repeated measurements, for the noise ceiling.
    rois : mapping of str to array of shape (n_voxels,), bool
        Each ROI's voxels.
    categories : mapping of str to str, or None
        Each image's category.
    leave_out : tuple of str
        Names of images that take no part, such as those the encoder was trained on.
    prediction : Prediction or None
        What `predicted` was taken from; None where it was read from files.
    predicted_files, measured_files : tuple of Path
        The files that were read, ROIs, mask and tables among the measured ones.
    resampled : bool
        Whether what lay on another grid was to be resampled.
    """

    predicted: Patterns
    measured: Patterns | None = None
    participants: Mapping[str, Patterns] = field(default_factory=dict)
    repeats: tuple[Patterns, ...] = ()
    rois: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    categories: Mapping[str, str] | None = None
    leave_out: tuple[str, ...] = ()
    prediction: Prediction | None = None
    predicted_files: tuple[Path, ...] = ()
    measured_files: tuple[Path, ...] = ()
    resampled: bool = False

    def __post_init__(self) -> None:
        rois = {name: whole_mask(region, f"the ROI {name}") for name, region in self.rois.items()}
        object.__setattr__(self, "rois", rois)
        for name, region in rois.items():
            if region.shape != (self.predicted.n_voxels,):
                message = (
                    f"the ROI {name} must be a mask over the {self.predicted.n_voxels} voxels; got "
                    f"shape {region.shape}. Read it with the same grid."
                )
                raise ShapeError(message)

    @cached_property
    def group(self) -> Patterns:
        """The group's measured patterns: those given, else the participants' or repeats' mean."""
        if self.measured is not None:
            return self.measured
        return mean_patterns(
            list(self.participants.values()) or self.repeats, "the measured patterns"
        )

    @cached_property
    def covered(self) -> NDArray[np.bool_]:
        """The voxels that are predicted, shape (n_voxels,).

        A group map that keeps amplitude is NaN where too little of any person's models lies.
        """
        if self.prediction is None:
            return np.ones(self.predicted.n_voxels, dtype=bool)
        covered: NDArray[np.bool_] = np.isfinite(self.predicted.values).all(axis=0)
        return covered

    def usable(self, sets: Mapping[str, Patterns], missing: Missing) -> NDArray[np.bool_]:
        """Find the voxels that are predicted and have data in every set, shape (n_voxels,).

        Raises
        ------
        DataError
            As `usable_voxels`, where a voxel that is predicted has no data.
        """
        inside = {name: patterns.within(self.covered) for name, patterns in sets.items()}
        usable = self.covered.copy()
        usable[self.covered] = usable_voxels(inside, missing)
        return usable

    @cached_property
    def amplitudes(self) -> Comparison:
        """The same with predictions that keep amplitude, for whatever compares images.

        Z-scoring each map over voxels, as the published model does, takes out much of how a voxel's
        or an ROI's response differs between images. Predictions read from files stay as they are.
        Voxels that no person's models cover well enough are NaN.

        Warns
        -----
        UserWarning
            If predictions read from files were z-scored over voxels.
        """
        if self.prediction is None and _is_zscored(self.predicted.values):
            message = (
                "the predictions that were read are z-scored over voxels, image by image: "
                "what is compared over images, amplitude, is no longer in them. Predict with the "
                'average "mean" for r of ROI means and voxels.'
            )
            warnings.warn(message, stacklevel=3)
        if self.prediction is None or self.prediction.average == "mean":
            return self
        prediction = _with_amplitude(self.prediction)
        return replace(self, predicted=self.patterns_of(prediction), prediction=prediction)

    def amplitude_controls(self, controls: Iterable[Control]) -> tuple[Control, ...]:
        """Return controls with predictions averaged as those of `amplitudes` are."""
        check_made(controls)
        if self.prediction is None:
            return tuple(controls)
        return tuple(
            control
            if control.prediction is None
            else replace(control, prediction=_with_amplitude(control.prediction))
            for control in controls
        )

    def patterns_of(self, prediction: Prediction) -> Patterns:
        """Return another model's patterns of the same images, in the voxels that are compared.

        Raises
        ------
        ShapeError
            If the prediction lies on another grid.
        """
        patterns = Patterns.from_prediction(prediction)
        mask, affine = self.predicted.mask, self.predicted.affine
        if mask is None:
            return patterns
        where = "the control, against the predictions"
        check_same_grid(where, prediction.mask.shape, prediction.affine, mask.shape, affine)
        return patterns.within(mask[prediction.mask])

    def beside_controls(
        self,
        table: pd.DataFrame,
        controls: Iterable[Control],
        of_patterns: Callable[[Patterns, str], pd.DataFrame],
        of_luminance: Callable[[Control], pd.DataFrame],
    ) -> pd.DataFrame:
        """Put below the encoder's table what the same analysis makes of each control.

        ``of_patterns`` takes a network's patterns and its name; ``of_luminance`` what has none.
        """
        import pandas as pd

        check_made(controls)
        tables = [table]
        for control in controls:
            if control.prediction is None:
                tables.append(of_luminance(control))
            else:
                tables.append(of_patterns(self.patterns_of(control.prediction), control.name))
        return pd.concat(tables, ignore_index=True)


def read_comparison(
    predicted: Source | Prediction,
    measured: Source | None = None,
    participants: Mapping[str, Source] | None = None,
    repeats: Sequence[Source] = (),
    rois: Mapping[str, str | Path] | None = None,
    categories: str | Path | Mapping[str, str] | None = None,
    leave_out: Sequence[str] = (),
    *,
    mask: str | Path | None = None,
    names: Sequence[str] | None = None,
    resample: bool = False,
    progress: bool = True,
) -> Comparison:
    """Read from files what predictions are compared with, and predictions if they are there, too.

    Parameters
    ----------
    predicted : Prediction, or source
        A prediction, or whatever `read_patterns` takes.
    measured : source, optional
        The group's patterns, or a table with a column ``participant``, whose rows of the
        participant "group" (or "") are the group's; a column ``category`` is read too.
    participants : mapping of str to source, optional
        Each participant's patterns.
    repeats : sequence of source
        Repeated measurements.
    rois : mapping of str to path, optional
        Mask images. By default the ROIs of a prediction.
    categories : path or mapping of str to str, optional
        A table with columns ``name`` and ``category``, or each image's category.
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
    Comparison

    Raises
    ------
    DataError, ShapeError
        If a source cannot be read or lies elsewhere; the message names it.
    """
    grid = None if mask is None else read_mask(mask)
    regions: dict[str, NDArray[np.bool_]] = {}
    prediction: Prediction | None = None
    predicted_files: tuple[Path, ...] = ()
    if isinstance(predicted, Prediction):
        prediction = predicted
        tell_of_copies(prediction)
        own, regions = _taken(predicted, grid)
    else:
        own = read_patterns(predicted, grid, _names_for(predicted, names), resample)
        predicted_files = _files(predicted)
    grid = None if own.mask is None or own.affine is None else Mask(own.mask, own.affine)
    if not hasattr(participants or {}, "items"):
        message = (
            "participants must be each participant's patterns by name; got a "
            f"{type(participants).__name__}. Give a dict of names to files."
        )
        raise DataError(message)
    sources: dict[str, Source] = dict(participants or {})
    repeats = [repeats] if isinstance(repeats, str | Path) else repeats
    of_table: dict[str, list[str]] = {}
    files = [Path(path) for path in (mask, *(rois or {}).values()) if path is not None]
    if isinstance(categories, str | Path):
        files.append(Path(categories))
        categories = read_categories(categories)
    if isinstance(measured, str | Path) and Path(measured).suffix.lower() in TABLES:
        files.append(Path(measured))
        rows = read_pattern_files(measured)
        if categories is None:
            categories = _categories_of(rows, measured)
        for who in dict.fromkeys(row.participant or "group" for row in rows):
            if who in sources:
                message = (
                    f"participant {who} must come from one source; got {sources[who]} and "
                    f"{measured}. Leave one out."
                )
                raise DataError(message)
            found = [row for row in rows if (row.participant or "group") == who]
            sources[who] = [row.file for row in found]
            of_table[who] = [row.name for row in found]
        measured = sources.pop("group", None)
    total = len(sources) + len(repeats) + (measured is not None)
    if not total:
        message = (
            "expected measured patterns to compare predictions with; got none. Give the group's, "
            "participants' or repeats."
        )
        raise DataError(message)
    with track("Reading measured patterns", total, "sources", enabled=progress) as advance:

        def read(source: Source, who: str = "") -> Patterns:
            given = of_table.get(who) or _names_for(source, names)
            patterns = read_patterns(source, grid, given, resample)
            files.extend(_files(source))
            advance(1)
            return patterns

        group = None if measured is None else read(measured, "group")
        people = {who: read(source, who) for who, source in sources.items()}
        again = tuple(read(source) for source in repeats)
    if rois:
        if grid is None:
            message = (
                "ROI images need a mask that says where the voxels lie; the predicted patterns "
                "came without one. Give a mask image."
            )
            raise DataError(message)
        regions = {name: read_region(path, grid, resample) for name, path in rois.items()}
    images = [file for file in (*predicted_files, *files) if is_image(file)]
    check_space(images, None if prediction is None else prediction.space)
    return Comparison(
        predicted=own,
        measured=group,
        participants=people,
        repeats=again,
        rois=regions,
        categories=categories,
        leave_out=tuple(leave_out),
        prediction=prediction,
        predicted_files=predicted_files,
        measured_files=tuple(dict.fromkeys(files)),
        resampled=resample,
    )


def twinset_comparison(
    twinset: Twinset,
    prediction: Prediction,
    leave_out: Sequence[str] = (),
    *,
    resample: bool = False,
    progress: bool = True,
) -> Comparison:
    """Compare a prediction for the twinset's photographs with the published measurements.

    Images that the published model was trained on are left out.

    Parameters
    ----------
    twinset : Twinset
        From `imgtofmri.datasets.twinset.load_analysis_archive`.
    prediction : Prediction
        For ``twinset.stimuli``.
    leave_out : sequence of str
        Names of more images to leave out.
    resample : bool
        Whether to resample responses on another grid than the prediction's.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    Comparison

    Raises
    ------
    DataError, ShapeError
        If a response cannot be read or lies on another grid.
    """
    return read_comparison(
        prediction,
        twinset.group,
        twinset.participants,
        categories=twinset.categories,
        leave_out=(*twinset.duplicates, *leave_out),
        names=twinset.names,
        resample=resample,
        progress=progress,
    )


def _categories_of(rows: Sequence[PatternFile], where: str | Path) -> dict[str, str] | None:
    """Return the one category of each image that has any; None where none has."""
    found: dict[str, str] = {}
    for row in rows:
        if row.category and found.setdefault(row.name, row.category) != row.category:
            message = (
                f"{where}: expected one category for each image; got {found[row.name]!r} and "
                f"{row.category!r} for {row.name!r}. Correct the table."
            )
            raise DataError(message)
    return found or None


def _is_zscored(maps: NDArray[np.floating]) -> bool:
    """Return whether each map's values have a mean of 0 and a standard deviation of 1."""
    means = maps.mean(axis=1, dtype=np.float64)
    spreads = maps.std(axis=1, dtype=np.float64)
    near = np.allclose(means, 0.0, atol=_ZSCORED) and np.allclose(spreads, 1.0, atol=_ZSCORED)
    return bool(near)


def _with_amplitude(prediction: Prediction) -> Prediction:
    """Average subjects' maps again, so that the group's keeps amplitude."""
    prediction.check_whole(subjects=True)
    provenance = prediction.provenance
    settings = replace(provenance.settings, average="mean")
    return replace(
        prediction,
        group=group_maps(prediction.subjects, "mean", prediction.coverage),
        provenance=replace(provenance, settings=settings),
    )


def read_names(path: Path) -> list[str]:
    """Read the images' names from a text file, one a line, for sources without names.

    Raises
    ------
    OptionError
        If the file is no text.
    """
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        message = f"names must be a text file in UTF-8; got {path}: {error}. Check it."
        raise OptionError(message, "names") from error
    return [line.strip() for line in lines if line.strip()]


def _names_for(source: Source, names: Sequence[str] | None) -> Sequence[str] | None:
    """Return the names given, unless a source brings its images' names: they are for others."""
    if not isinstance(source, str | Path):
        return names
    path, suffix = Path(source), Path(source).suffix.lower()
    brings = path.is_dir() or suffix in TABLES or (suffix == ".npz" and has_names(path))
    return None if brings else names


def _files(source: Source) -> tuple[Path, ...]:
    """Return the files that a source consists of."""
    check_files(source)
    if not isinstance(source, str | Path):
        return tuple(map(Path, source))
    path = Path(source)
    if path.is_dir():
        found = (one for one in path.iterdir() if one.name.lower().endswith((".nii", ".nii.gz")))
        return tuple(sorted(one for one in found if not one.name.startswith(".")))
    if path.suffix.lower() in TABLES:
        return (path, *(row.file for row in read_pattern_files(path)))
    return (path,)


def _taken(
    prediction: Prediction, grid: Mask | None
) -> tuple[Patterns, dict[str, NDArray[np.bool_]]]:
    """Take a prediction's patterns and ROIs, within a mask if there is one."""
    patterns = Patterns.from_prediction(prediction)
    regions = {roi: prediction.roi_mask(roi) for roi in prediction.rois}
    if grid is None:
        return patterns, regions
    where = "the mask, against the prediction"
    shape, affine = prediction.mask.shape, prediction.affine
    check_same_grid(where, grid.inside.shape, grid.affine, shape, affine)
    kept = grid.inside[prediction.mask]
    if not kept.any():
        message = (
            "the mask must share voxels with the prediction; it shares none. Look whether both are "
            "in the same space."
        )
        raise DataError(message)
    regions = {roi: region[kept] for roi, region in regions.items() if region[kept].any()}
    return patterns.within(kept), regions
