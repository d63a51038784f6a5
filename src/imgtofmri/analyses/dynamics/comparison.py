"""Models and measured brains compared volume by volume, with a bootstrap over subjects.

Each model and the group of subjects give a matrix of how alike each two volumes' patterns are; the
agreement of a model with the measurement is, volume by volume, the correlation of the two matrices'
rows. Patterns are never compared across voxels of different brains or grids.

A bootstrap sample holds about 63 % of the subjects, some of them several times, so its mean is
noisier than that of all subjects and agrees with a model a little less. Limits and p values are of
the samples, and so is the line that figures draw; tables also give the agreement of all subjects.

A sample's similarity is that of the mean of its subjects' time courses: a subject drawn twice
weighs twice. Centring patterns over voxels is linear, so it is done once; the means of many samples
are one matrix product of weights with time courses, and each sample's similarity is one more
product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.analyses.dynamics.scan import check_least
from imgtofmri.events import (
    BoundaryAverage,
    average_around_boundaries,
    bootstrap_p,
    limits_of_samples,
    mean_of_samples,
)
from imgtofmri.exceptions import DataError, OptionError, ShapeError, check_choice
from imgtofmri.stats import bootstrap_counts
from imgtofmri.timeseries import row_agreement, similarity_matrix
from imgtofmri.timeseries.checks import time_courses

Array = NDArray[np.float64]

MEASURED = "measured"
"""The name of the brains among the similarity matrices."""

GROUPINGS = ("data", "similarity")

# Working memory of one batch of samples.
_BATCH_BYTES = 128 * 2**20


@dataclass(frozen=True, eq=False)
class RegionDynamics:
    """How models agree with the measured dynamics of one region.

    Attributes
    ----------
    roi : str
        The region's name.
    models : tuple of str
        Names of the models; the first is the one of interest, the others baselines.
    similarity : dict of str to array of shape (n_timepoints, n_timepoints)
        Of each model and, under "measured", of the mean over subjects.
    agreement : array of shape (n_models, n_timepoints)
        Correlation of each row with the measured one; NaN where a row is constant.
    brains : array of shape (n_models, n_brains, n_timepoints)
        The same for each bootstrap sample of subjects.
    band : int or None
        Volumes around the diagonal that were compared; None is the full row.
    n_subjects, n_voxels : int
        Measured subjects, and measured voxels of the region.
    """

    roi: str
    models: tuple[str, ...]
    similarity: Mapping[str, Array]
    agreement: Array
    brains: Array
    band: int | None
    n_subjects: int
    n_voxels: int

    @property
    def n_timepoints(self) -> int:
        """Number of volumes."""
        return int(self.agreement.shape[-1])

    @property
    def mean_agreement(self) -> Array:
        """Mean over volumes, shape (n_models,)."""
        return np.asarray(np.nanmean(self.agreement, axis=-1))

    @property
    def mean_brains(self) -> Array:
        """Mean over volumes of each bootstrap sample, shape (n_models, n_brains)."""
        return np.asarray(np.nanmean(self.brains, axis=-1))

    @property
    def bootstrap_mean(self) -> Array:
        """Mean over the bootstrap's samples, as ``agreement``."""
        return mean_of_samples(self.brains)

    def limits(self, interval: float = 0.95) -> tuple[Array, Array]:
        """Return the bootstrap's lower and upper limit of agreement, each as ``agreement``."""
        return limits_of_samples(self.brains, interval)

    def mean_limits(self, interval: float = 0.95) -> tuple[Array, Array]:
        """Return the bootstrap's limits of the mean over volumes, each of shape (n_models,)."""
        low, high = limits_of_samples(self.mean_brains[..., None], interval)
        return low[..., 0], high[..., 0]

    @property
    def mean_p(self) -> Array:
        """One-sided bootstrap p of the mean over volumes, shape (n_models,)."""
        return bootstrap_p(self.mean_brains[..., None])[..., 0]


@dataclass(frozen=True, eq=False)
class BoundaryEffects:
    """Agreement around event boundaries in one region.

    Attributes
    ----------
    roi : str
        The region's name.
    boundaries : array of int, shape (n_boundaries,)
        Volumes at which events begin.
    names : tuple of str
        The models, then "MODEL - BASELINE" for the first model and each baseline.
    average : BoundaryAverage
        One row for each name.
    """

    roi: str
    boundaries: NDArray[np.intp]
    names: tuple[str, ...]
    average: BoundaryAverage


def compare_dynamics(
    models: Mapping[str, ArrayLike],
    measured: ArrayLike,
    *,
    roi: str = "all",
    band: int | None = None,
    n_brains: int = 100,
    grouping: str = "data",
    seed: int = 0,
) -> RegionDynamics:
    """Compare models' dynamics with measured ones in one region.

    Parameters
    ----------
    models : dict of str to array of shape (n_timepoints, n_features)
        Filtered and trimmed like the measurement; the first is the one of interest. The numbers of
        features may differ.
    measured : array of shape (n_subjects, n_timepoints, n_voxels)
        Filtered and trimmed time courses.
    roi : str, default "all"
        The region's name.
    band : int, optional
        Compare each volume only with those at most this many volumes away.
    n_brains : int, default 100
        Bootstrap samples of subjects.
    grouping : {"data", "similarity"}, default "data"
        "data": the group's similarity is that of the mean time courses, "similarity": the mean of
        the subjects' similarities, which needs no common voxels but is noisier.
    seed : int
        Of the draws; the same for every region, so that regions can be compared.

    Returns
    -------
    RegionDynamics

    Raises
    ------
    ShapeError
        If models and measurement differ in length.
    DataError
        If values are not finite, there are fewer than 4 volumes or 2 subjects, or a pattern is
        constant.
    OptionError
        If an option is out of range.
    """
    data = time_courses(measured, name="measured", axes=(3,), min_voxels=1)
    data = data.astype(np.float32, copy=False)
    check_n_subjects(len(data))
    if not models:
        message = "models must name one model or more; got none. Give one."
        raise OptionError(message)
    if MEASURED in models:
        message = (
            f"a model must not be named {MEASURED!r}, which names the brains; got one. Give it "
            "another name."
        )
        raise OptionError(message)
    n_timepoints = data.shape[1]
    lengths = {name: len(np.asarray(values)) for name, values in models.items()}
    different = {name: length for name, length in lengths.items() if length != n_timepoints}
    if different:
        got = ", ".join(f"{length} of {name}" for name, length in different.items())
        message = (
            f"models must have the {n_timepoints} volumes that were measured; got {got}. Check TR "
            "and movie, cut both to the same volumes with `n_volumes`, and skip the same at the "
            "start."
        )
        raise ShapeError(message)
    check_least("n_brains", n_brains, 1)
    similarity = {name: similarity_matrix(np.asarray(values)) for name, values in models.items()}
    stacked = np.stack(list(similarity.values()))[:, None]
    group = next(iter(bootstrap_similarity(data, np.ones((1, len(data))), grouping=grouping)))
    agreement = row_agreement(stacked, group, band=band)[:, 0]
    counts = bootstrap_counts(len(data), n_brains, seed=[seed, 0])
    brains = np.concatenate(
        [
            row_agreement(stacked, batch, band=band)
            for batch in bootstrap_similarity(data, counts, grouping=grouping)
        ],
        axis=1,
    )
    similarity[MEASURED] = group[0]
    return RegionDynamics(
        roi=roi,
        models=tuple(models),
        similarity=similarity,
        agreement=agreement,
        brains=brains,
        band=band,
        n_subjects=len(data),
        n_voxels=int(data.shape[2]),
    )


def check_n_subjects(n_subjects: int) -> None:
    """Refuse a single subject."""
    if n_subjects < 2:
        message = (
            f"measured responses must be of 2 subjects or more; got {n_subjects}. Limits and p "
            "values come from drawing subjects anew, which one subject does not allow."
        )
        raise DataError(message)


def boundary_effects(
    region: RegionDynamics,
    boundaries: ArrayLike,
    *,
    window: tuple[int, int] = (-5, 10),
    exclusion: int = 2,
    n_resamples: int = 10,
    seed: int = 0,
) -> BoundaryEffects:
    """Average models' agreement around event boundaries, and what the first adds to the others.

    Parameters
    ----------
    region : RegionDynamics
        From `compare_dynamics`; its bootstrap samples of subjects are used.
    boundaries : array of int, shape (n_boundaries,)
        Volumes at which events begin, counted after trimming.
    window, exclusion, n_resamples
        As in `imgtofmri.events.average_around_boundaries`.
    seed : int
        Of the draws of boundaries, the same for all models.

    Returns
    -------
    BoundaryEffects

    Raises
    ------
    DataError, ShapeError
        If boundaries are out of range, out of order or repeated.
    OptionError
        If an option is out of range.
    """
    first, *others = region.models
    names = (*region.models, *(f"{first} - {other}" for other in others))
    values = np.concatenate([region.agreement, region.agreement[:1] - region.agreement[1:]])
    brains = np.concatenate([region.brains, region.brains[:1] - region.brains[1:]])
    average = average_around_boundaries(
        values,
        boundaries,
        brains=brains,
        window=window,
        exclusion=exclusion,
        n_resamples=n_resamples,
        seed=[seed, 1],
    )
    return BoundaryEffects(region.roi, np.asarray(boundaries, dtype=np.intp), names, average)


def bootstrap_similarity(
    measured: ArrayLike, counts: ArrayLike, *, grouping: str = "data"
) -> Iterator[Array]:
    """Compute the similarity matrices of samples of subjects, in batches of bounded size.

    Parameters
    ----------
    measured : array of shape (n_subjects, n_timepoints, n_voxels)
        Time courses.
    counts : array of shape (n_samples, n_subjects)
        How often each subject was drawn, as `imgtofmri.stats.bootstrap_counts` gives it.
    grouping : {"data", "similarity"}
        As in `compare_dynamics`.

    Yields
    ------
    array of shape (n_batch, n_timepoints, n_timepoints), float64
        In the order of ``counts``.

    Raises
    ------
    ShapeError, DataError
        If the data are not as `compare_dynamics` asks.
    OptionError
        If ``grouping`` is not known.
    """
    check_choice("grouping", grouping, GROUPINGS)
    data = time_courses(measured, name="measured", axes=(3,), min_voxels=1)
    data = data.astype(np.float32, copy=False)
    weights = np.asarray(counts, dtype=np.float32)
    weights = weights / weights.sum(axis=1, keepdims=True)
    n_subjects, n_timepoints, n_voxels = data.shape
    if grouping == "similarity":
        each = np.stack([similarity_matrix(run) for run in data])
        each = each.reshape(n_subjects, -1)
        bytes_each = 16 * n_timepoints**2
    else:
        centred = data - data.mean(axis=2, keepdims=True)
        flat = centred.reshape(n_subjects, -1)
        bytes_each = 4 * n_timepoints * n_voxels + 24 * n_timepoints**2
    n_batch = max(1, _BATCH_BYTES // bytes_each)
    for start in range(0, len(weights), n_batch):
        part = weights[start : start + n_batch]
        if grouping == "similarity":
            yield (part.astype(np.float64) @ each).reshape(-1, n_timepoints, n_timepoints)
        else:
            means = (part @ flat).reshape(-1, n_timepoints, n_voxels)
            yield _correlate(means)


def _correlate(rows: NDArray[np.float32]) -> Array:
    """Correlate all pairs of rows, centred already, in each of a stack of matrices."""
    products: Array = np.matmul(rows, rows.swapaxes(1, 2)).astype(np.float64)
    norm = np.sqrt(np.diagonal(products, axis1=1, axis2=2))
    flat = norm == 0
    if flat.any():
        message = (
            "each measured volume must vary over voxels; got volume "
            f"{int(np.argwhere(flat)[0, 1])} with one value throughout. Remove the mean over time "
            "first, or trim that volume."
        )
        raise DataError(message)
    products /= norm[:, :, None]
    products /= norm[:, None, :]
    return products
