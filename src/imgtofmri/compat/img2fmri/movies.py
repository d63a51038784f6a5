"""The published analyses of Partly Cloudy: luminance, agreement with people, event boundaries.

Measured runs are those that the published preprocessing left in
``data/partly_cloudy/subjects_preprocessed/subj123.nii.gz`` ... ``subj155.nii.gz``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.analyses.dynamics import bootstrap_similarity, luma
from imgtofmri.analyses.dynamics.scan import ORIGINAL_SKIP, ORIGINAL_TRIM, standardised
from imgtofmri.compat.img2fmri.model import THREE_ROIS, published_encoder
from imgtofmri.compat.img2fmri.utils import conv_hrf_and_downsample, get_subj_overlap
from imgtofmri.datasets.partly_cloudy import (
    PARTLY_CLOUDY_EVENT_STARTS,
    PARTLY_CLOUDY_N_SUBJECTS,
)
from imgtofmri.events import average_around_boundaries
from imgtofmri.exceptions import DataError, ShapeError
from imgtofmri.measured import read_image_rows
from imgtofmri.progress import track
from imgtofmri.stats import bootstrap_counts
from imgtofmri.stimuli import Failure, find_images, read_images
from imgtofmri.timeseries import row_agreement, trim

Array = NDArray[np.float64]

PC_EVENT_BOUNDS = PARTLY_CLOUDY_EVENT_STARTS
"""The first volume of each event of the trimmed run."""

FIRST_ADULT = 123
"""The number of the first adult of ds000228; the others follow."""

LAGS = (-10, 10)
EXCLUSION = 2


def get_luminance(input_dir: str | Path, TRs: int = 168, center_crop: bool = False) -> Array:
    """Return the luminance of a movie's frames, brought to volumes as responses are.

    Parameters
    ----------
    input_dir : path
        A folder of frames, as `extract_frames` writes it; in natural order, two of each second.
    TRs : int
        How many volumes the film is stretched over.
    center_crop : bool
        Crop the centre of each frame, instead of squeezing it.

    Returns
    -------
    luminance : array of shape (TRs - 10, 224 * 224), float64
        From 0 to 255 over all volumes; the first 2 and the last 8 are dropped.

    Raises
    ------
    StimulusError, OptionError
        If a frame cannot be used, or there is none.
    DataError
        If luminance is the same everywhere.

    Notes
    -----
    ``0.2126 R + 0.7152 G + 0.0722 B`` of values as the network gets them. Convolution and sampling
    are linear: they are of the weighted sum, and the same as of each colour.
    """
    sources, failures = find_images([input_dir])
    rows = []
    for frame in chain(failures, read_images(sources, center_crop=center_crop)):
        if isinstance(frame, Failure):
            raise frame.error
        rows.append(luma(frame.pixels, as_published=True).ravel())
    n_start, n_end = ORIGINAL_TRIM
    volumes = conv_hrf_and_downsample(np.array(rows).T, TRs).T
    kept = trim(volumes, n_start=n_start, n_end=n_end)
    low, high = kept.min(), kept.max()
    if not high > low:
        message = (
            f"frames must differ in luminance; got one value in all of '{input_dir}'. Give the "
            "frames of a movie."
        )
        raise DataError(message)
    return np.asarray((kept - low) / (high - low) * 255)


def average_pc_subjects(
    subject_list: Sequence[int],
    roi_list: Sequence[str] = THREE_ROIS,
    *,
    data_dir: str | Path = "data",
) -> Array:
    """Return the mean run of some people: their sum, z-scored over time.

    Parameters
    ----------
    subject_list : sequence of int
        Numbers of people; one that comes twice counts twice.
    roi_list : sequence of str
        In whose group mask.
    data_dir : path
        The folder that holds ``partly_cloudy``.

    Returns
    -------
    run : array of shape (91, 109, 91, n_volumes), float64
        0 outside the mask, and in voxels that hold still. What is NaN in a person counts as 0.

    Raises
    ------
    DataError
        If a run is missing or lies on another grid.
    ShapeError
        If runs differ in length, or there is none.
    """
    mask = get_subj_overlap(roi_list)
    counts = {number: list(subject_list).count(number) for number in dict.fromkeys(subject_list)}
    runs = _read_runs(list(counts), mask, Path(data_dir))
    total = np.tensordot(np.array([*counts.values()], np.float64), runs, axes=1)
    mean = np.zeros((*mask.shape, len(total)))
    mean[mask] = standardised(total).T
    return mean


def generate_bootstrapped_correlations(
    pred: ArrayLike,
    real: ArrayLike,
    lum: ArrayLike,
    TR_band: int | None = None,
    num_bootstraps: int = 100,
    force_resample: bool = False,
    roi_list: Sequence[str] = THREE_ROIS,
    *,
    data_dir: str | Path = "data",
    seed: int = 0,
) -> Array:
    """Correlate models' matrices with those of samples of people, row by row.

    Parameters
    ----------
    pred, lum : array of shape (n_volumes, n_volumes)
        How alike each two volumes are: of the prediction, and of luminance.
    real : array of the same shape
        The measured one; samples are drawn in its place, and only its shape counts.
    TR_band : int, optional
        Compare a volume only with those at most this many volumes away.
    num_bootstraps : int
        Samples of the 33 adults with replacement.
    force_resample : bool
        Draw other samples than before. Otherwise they are the same each time.
    roi_list : sequence of str
        In whose group mask.
    data_dir : path
        The folder that holds ``partly_cloudy``. No sample is kept there, and none is read.
    seed : int
        Of the draws.

    Returns
    -------
    correlations : array of shape (num_bootstraps, 2, n_volumes), float64
        Of the prediction, then of luminance.

    Raises
    ------
    ShapeError, DataError, OptionError
        If matrices or runs cannot be compared.
    """
    models = [np.asarray(matrix, dtype=np.float64) for matrix in (pred, lum, real)]
    if len({matrix.shape for matrix in models}) > 1:
        shapes = ", ".join(str(matrix.shape) for matrix in models)
        message = (
            f"pred, lum and real must have one shape, (n_volumes, n_volumes); got {shapes}. Trim "
            "them alike."
        )
        raise ShapeError(message)
    adults = [FIRST_ADULT + number for number in range(PARTLY_CLOUDY_N_SUBJECTS)]
    runs = _read_runs(adults, get_subj_overlap(roi_list), Path(data_dir))
    counts = bootstrap_counts(len(adults), num_bootstraps, None if force_resample else seed)
    stacked = np.stack(models[:2])
    return np.concatenate(
        [
            row_agreement(stacked, batch[:, None], band=TR_band)
            for batch in bootstrap_similarity(runs, counts, skip=ORIGINAL_SKIP)
        ]
    )


def generate_boundary_triggered_averages(
    corr: ArrayLike,
    num_boundary_bootstraps: int = 10,
    skip_other_boundaries: bool = True,
    *,
    seed: int = 0,
) -> Array:
    """Average models' agreement around the film's event boundaries, in samples of these.

    Parameters
    ----------
    corr : array of shape (num_bootstraps, 2, n_volumes)
        Of `generate_bootstrapped_correlations`.
    num_boundary_bootstraps : int
        Samples of the 13 boundaries with replacement for each sample of people.
    skip_other_boundaries : bool
        Leave out volumes within 2 of another boundary, drawn or not.
    seed : int
        Of the draws.

    Returns
    -------
    averages : array of shape (2, 21, num_bootstraps * num_boundary_bootstraps), float64
        At lags -10 to 10; sample ``s`` is of people ``s % num_bootstraps``. NaN where it has no
        valid volume. Volumes outside the run are left out at both ends.

    Raises
    ------
    ShapeError
        If ``corr`` has other axes.
    DataError
        If the run ends before the last boundary.
    """
    values = np.asarray(corr, dtype=np.float64)
    if values.ndim != 3 or values.shape[1] != 2:
        message = (
            f"corr must have shape (num_bootstraps, 2, n_volumes); got {values.shape}. Give what "
            "generate_bootstrapped_correlations returns."
        )
        raise ShapeError(message)
    brains = values.swapaxes(0, 1)
    averages = average_around_boundaries(
        brains.mean(axis=1),
        PC_EVENT_BOUNDS[1:],
        brains=brains,
        window=LAGS,
        exclusion=EXCLUSION if skip_other_boundaries else -1,
        n_resamples=num_boundary_bootstraps,
        seed=seed,
    )
    return averages.samples.swapaxes(1, 2)


def _read_runs(
    subjects: Sequence[int], mask: NDArray[np.bool_], folder: Path
) -> NDArray[np.float32]:
    """Return people's runs inside a mask, shape (n_subjects, n_volumes, n_voxels)."""
    grid, voxels = published_encoder().bundle.template, np.flatnonzero(mask)
    runs: list[NDArray[np.float32]] = []
    with track("Reading measured runs", len(subjects), "runs") as advance:
        for number in subjects:
            path = folder / "partly_cloudy" / "subjects_preprocessed" / f"subj{number}.nii.gz"
            runs.append(np.nan_to_num(read_image_rows(path, voxels, grid)))
            advance(1)
    if len({len(run) for run in runs}) != 1:
        message = (
            f"runs must be one or more, all of one length; got {[len(run) for run in runs]} "
            "volumes. Leave out those that differ."
        )
        raise ShapeError(message)
    return np.stack(runs)
