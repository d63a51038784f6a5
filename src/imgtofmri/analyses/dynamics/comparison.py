"""Models and measured brains compared volume by volume, with what chance gives beside it.

Each model and the group of people give a matrix of how alike each two volumes' patterns are. The
mean over pairs that are equally far apart is taken out of both, since near volumes are alike in
whatever is as slow as haemodynamics. The agreement of a model with the measurement is, volume by
volume, the correlation of the two matrices' rows. Patterns are never compared across voxels of
different brains or grids.

**Chance** is a model with the same spectra, in time and over voxels, whose moments lie elsewhere:
surrogates of its series (`imgtofmri.timeseries.Surrogates`), phase-randomised ones and shifted
ones, and p is the larger of the two that they give. Phase-randomised surrogates are too smooth for
films made of events, whose agreement with brains that hold still as long varies more. Shifted ones
keep events, but few of them are far apart: how many are independent is read off their
autocorrelation, and the model is brought nearer to them, as Student's t has it, before p is counted
(`imgtofmri.stats.shrunk_z`). All models are turned by the same phases, so that a difference of two
is compared with differences of surrogates that resemble each other as the two do.

**The interval** is about people: the agreement with other people who watch the same film. They are
drawn with replacement; a person drawn twice weighs twice. It is no test.

A sample's similarity is that of the mean of its people's time courses. Centring patterns over
voxels is linear, so it is done once; the means of many samples are one matrix product of weights
with time courses, and each sample's similarity is one more product.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.analyses.dynamics.scan import check_least, standardised
from imgtofmri.events import (
    BoundaryAverage,
    average_around_boundaries,
    limits_of_samples,
    mean_around_boundaries,
)
from imgtofmri.exceptions import DataError, OptionError, ShapeError, check_choice
from imgtofmri.stats import bootstrap_counts, n_effective, shrunk_z
from imgtofmri.stats.multiple import on_one_scale
from imgtofmri.stats.nulls import PermutationTest
from imgtofmri.timeseries import (
    SURROGATE_KINDS,
    Surrogates,
    remove_lag_means,
    row_agreement,
    similarity_matrix,
)
from imgtofmri.timeseries.checks import blocks, time_courses
from imgtofmri.timeseries.similarity import check_lags

Array = NDArray[np.float64]

MEASURED = "measured"
"""The name of the brains among the similarity matrices."""

GROUPINGS = ("data", "similarity")

LEAST_SUBJECTS = 3
"""One or two people say too little of any other."""

LEAST_FOR_INTERVAL = 8
"""Of fewer people than this, resampling gives intervals that are much too narrow."""

# Working memory of one batch of samples.
_BATCH_BYTES = 128 * 2**20


@dataclass(frozen=True, eq=False)
class ModelSeries:
    """One model's series, and what brings it to the volumes.

    Attributes
    ----------
    frames : array of shape (n_frames, n_features)
        The series as it is before haemodynamics.
    operator : array of shape (n_volumes, n_frames), or None
        What follows, as one matrix; None if the series is of volumes already.
    """

    frames: NDArray[np.floating]
    operator: Array | None = None

    @classmethod
    def of(cls, given: ModelSeries | ArrayLike) -> ModelSeries:
        """Return a series; an array is one of volumes."""
        return given if isinstance(given, ModelSeries) else cls(np.asarray(given))

    @property
    def n_volumes(self) -> int:
        """Number of volumes."""
        return len(self.frames if self.operator is None else self.operator)

    @cached_property
    def volumes(self) -> NDArray[np.floating]:
        """The volumes, shape (n_volumes, n_features), in the frames' own precision."""
        if self.operator is None:
            return self.frames
        found = np.empty((self.n_volumes, self.frames.shape[1]), self.frames.dtype)
        for columns in blocks(self.frames.shape[1], len(self.frames)):
            found[:, columns] = self.operator @ self.frames[:, columns].astype(np.float64)
        return found

    @cached_property
    def similarity(self) -> Array:
        """How alike each two volumes are, shape (n_volumes, n_volumes)."""
        return similarity_matrix(self.volumes)


@dataclass(frozen=True)
class Agreement:
    """How two similarity matrices are compared.

    Attributes
    ----------
    band : int or None
        Compare a volume only with those at most this far away.
    min_lag : int
        Leave out those nearer than this, in volumes.
    keep_lag_means : bool
        Leave in what is common to all pairs equally far apart, as published analyses do. Two series
        that have nothing in common agree then, and by how much is not tested.
    """

    band: int | None = None
    min_lag: int = 1
    keep_lag_means: bool = False

    def of(self, model: ArrayLike, measured: ArrayLike) -> Array:
        """Return the agreement at each volume; leading axes broadcast."""
        return self.rows(self.prepared(model), self.prepared(measured))

    def prepared(self, similarity: ArrayLike) -> Array:
        """Return matrices without what lags share, unless that is kept."""
        matrices = np.asarray(similarity, dtype=np.float64)
        return matrices if self.keep_lag_means else remove_lag_means(matrices)

    def rows(self, model: Array, measured: Array) -> Array:
        """Return the agreement of matrices that are `prepared`."""
        return row_agreement(model, measured, band=self.band, min_lag=self.min_lag)


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
    null : array of shape (n_kinds, n_models, n_surrogates, n_timepoints)
        The same for surrogates of each model, which all models are turned alike for: of kinds
        `imgtofmri.timeseries.SURROGATE_KINDS`; without any where agreement is not tested.
    brains : array of shape (n_models, n_brains, n_timepoints)
        The same for each bootstrap sample of subjects; without any of fewer than
        `LEAST_FOR_INTERVAL`.
    compared : Agreement
        How.
    n_subjects, n_voxels : int
        Measured subjects, and measured voxels of the region.
    """

    roi: str
    models: tuple[str, ...]
    similarity: Mapping[str, Array]
    agreement: Array
    null: Array
    brains: Array
    compared: Agreement
    n_subjects: int
    n_voxels: int

    @property
    def n_timepoints(self) -> int:
        """Number of volumes."""
        return int(self.agreement.shape[-1])

    @property
    def names(self) -> tuple[str, ...]:
        """The models, then "MODEL - BASELINE" for the first model and each other."""
        first, *others = self.models
        return (*self.models, *(f"{first} - {other}" for other in others))

    @property
    def mean_agreement(self) -> Array:
        """Mean over volumes, shape (n_names,)."""
        return np.asarray(np.nanmean(with_differences(self.agreement), axis=-1))

    def limits(self, interval: float = 0.95) -> tuple[Array, Array]:
        """Return the interval of agreement at each volume, each of shape (n_models, n_timepoints).

        NaN without samples of subjects.
        """
        return limits_of_samples(self.brains, interval, around=self.agreement)

    def mean_limits(self, interval: float = 0.95) -> tuple[Array, Array]:
        """Return the interval of the mean over volumes, each of shape (n_names,)."""
        samples = np.nanmean(with_differences(self.brains), axis=-1, keepdims=True)
        low, high = limits_of_samples(samples, interval, around=self.mean_agreement[:, None])
        return low[:, 0], high[:, 0]

    @property
    def is_tested(self) -> bool:
        """Whether there are surrogates."""
        return bool(self.null.shape[2])

    @cached_property
    def mean_null(self) -> Array:
        """Mean over volumes of each surrogate, shape (n_kinds, n_names, n_surrogates)."""
        return np.asarray([np.nanmean(with_differences(kind), axis=-1) for kind in self.null])

    @property
    def mean_p(self) -> Array:
        """P of the mean over volumes, one-sided, shape (n_names,); NaN where it is not tested.

        The larger of those that the kinds of surrogates give; of shifts with allowance for how few
        are independent (`imgtofmri.stats.shrunk_z`).
        """
        return _p_of(self.mean_agreement, self.mean_null.swapaxes(1, 2))[0]


def p_over_regions(regions: Sequence[RegionDynamics]) -> Array:
    """Return each region's p corrected over regions by the largest statistic.

    Returns
    -------
    array of shape (n_regions, n_names)
        NaN where agreement is not tested.
    """
    observed = np.stack([region.mean_agreement for region in regions])
    null = np.stack([region.mean_null for region in regions], axis=-1)
    columns = [_p_of(observed[:, k], null[:, k])[1] for k in range(observed.shape[1])]
    return np.stack(columns, axis=1)


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
        One row for each name; without limits where there are no samples of subjects.
    p : array of shape (n_names, n_lags)
        Share of surrogates that reach the average at each lag, the larger of both kinds'; NaN
        where it is not tested.
    p_max : array of shape (n_names, n_lags)
        The same, corrected over lags by the largest statistic.
    """

    roi: str
    boundaries: NDArray[np.intp]
    names: tuple[str, ...]
    average: BoundaryAverage
    p: Array
    p_max: Array


def with_differences(values: Array) -> Array:
    """Append the first row less each other one, on the first axis."""
    return np.concatenate([values, values[:1] - values[1:]])


def _p_of(observed: Array, null: Array) -> tuple[Array, Array]:
    """Return p and p corrected by the largest statistic; null (n_kinds, n_surrogates, n_tests)."""
    if not null.shape[1]:
        return np.full(observed.shape, np.nan), np.full(observed.shape, np.nan)
    tests = []
    for kind, drawn in zip(SURROGATE_KINDS, null, strict=True):
        z, others = on_one_scale(observed, drawn)
        if kind == "shifts":
            z = shrunk_z(z, n_effective(drawn))
        tests.append(PermutationTest(z, others, standardise=False))
    p, p_max = (np.stack(each) for each in zip(*((t.p, t.p_max) for t in tests), strict=True))
    return p.max(axis=0), p_max.max(axis=0)


def compare_dynamics(
    models: Mapping[str, ModelSeries | ArrayLike],
    measured: ArrayLike,
    *,
    roi: str = "all",
    compared: Agreement | None = None,
    n_surrogates: int = 1000,
    n_brains: int = 100,
    grouping: str = "data",
    skip: int | None = None,
    seed: int = 0,
) -> RegionDynamics:
    """Compare models' dynamics with measured ones in one region.

    Parameters
    ----------
    models : dict of str to ModelSeries or array of shape (n_timepoints, n_features)
        Filtered and trimmed like the measurement; the first is the one of interest. The numbers of
        features may differ. Of arrays of volumes, surrogates are made of the volumes; series of
        frames are better, since a surrogate then begins from rest and is filtered as the model is.
    measured : array of shape (n_subjects, n_timepoints, n_voxels)
        Filtered and trimmed time courses.
    roi : str, default "all"
        The region's name.
    compared : Agreement, optional
        Which pairs of volumes count, and whether the mean at each lag does.
    n_surrogates : int, default 1000
        Of each model and kind. p is at least ``1 / (n_surrogates + 1)``.
    n_brains : int, default 100
        Bootstrap samples of subjects, if there are `LEAST_FOR_INTERVAL` or more.
    grouping : {"data", "similarity"}, default "data"
        "data": the group's similarity is that of the mean time courses, "similarity": the mean of
        the subjects' similarities, which needs no common voxels but is noisier.
    skip : int, optional
        As in `bootstrap_similarity`.
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
        If values are not finite, there are fewer than 4 volumes or 3 subjects, a subject's region
        holds still, or a pattern is constant.
    OptionError
        If an option is out of range.

    References
    ----------
    Theiler J. et al. (1992), doi:10.1016/0167-2789(92)90102-S; Lancaster G. et al. (2018),
    doi:10.1016/j.physrep.2018.06.001; Westfall and Young (1993) for the largest statistic.
    """
    if not models:
        message = "models must name one model or more; got none. Give one."
        raise OptionError(message)
    first, *others = models
    return compare_regions(
        {roi: models[first]},
        {name: models[name] for name in others},
        {roi: measured},
        first=first,
        compared=compared,
        n_surrogates=n_surrogates,
        n_brains=n_brains,
        grouping=grouping,
        skip=skip,
        seed=seed,
    )[0]


def compare_regions(
    predicted: Mapping[str, ModelSeries | ArrayLike],
    others: Mapping[str, ModelSeries | ArrayLike],
    measured: Mapping[str, ArrayLike],
    *,
    first: str = "predicted",
    compared: Agreement | None = None,
    n_surrogates: int = 1000,
    n_brains: int = 100,
    grouping: str = "data",
    skip: int | None = None,
    seed: int = 0,
) -> tuple[RegionDynamics, ...]:
    """Compare as `compare_dynamics`, in several regions at once.

    Parameters
    ----------
    predicted : dict of str to ModelSeries or array
        The model of interest in each region.
    others : dict of str to ModelSeries or array
        Models that are the same for all regions; their surrogates are made once.
    measured : dict of str to array of shape (n_subjects, n_timepoints, n_voxels)
        Of the same regions.
    first : str
        What the model of interest is called.
    compared, n_surrogates, n_brains, grouping, skip, seed
        As in `compare_dynamics`.

    Returns
    -------
    tuple of RegionDynamics
    """
    compared = Agreement() if compared is None else compared
    check_least("n_surrogates", n_surrogates, 19)
    check_least("n_brains", n_brains, 1)
    names = (first, *others)
    if MEASURED in names:
        message = (
            f"a model must not be named {MEASURED!r}, which names the brains; got one. Give it "
            "another name."
        )
        raise OptionError(message)
    series = {name: ModelSeries.of(given) for name, given in others.items()}
    own = {roi: ModelSeries.of(given) for roi, given in predicted.items()}
    data = {roi: _checked(values) for roi, values in measured.items()}
    groups: dict[str, Array] = {}
    for roi, values in data.items():
        ones = np.ones((1, len(values)))
        drawn = bootstrap_similarity(values, ones, grouping=grouping, skip=skip)
        groups[roi] = next(iter(drawn))[0]
        _check_lengths({first: own[roi], **series}, len(groups[roi]))
    check_lags(len(next(iter(groups.values()))), compared.band, compared.min_lag)
    tested = 0 if compared.keep_lag_means else n_surrogates
    together = np.stack(list(groups.values()))
    null = {
        name: _null(model, together, compared, tested, [seed, 2]) for name, model in series.items()
    }
    found = []
    for number, (roi, values) in enumerate(data.items()):
        models = {first: own[roi], **series}
        stacked = np.stack([model.similarity for model in models.values()])
        mine = _null(own[roi], groups[roi][None], compared, tested, [seed, 2])[0]
        # Freed: of the predicted voxels of one region at a time.
        own[roi].__dict__.pop("volumes", None)
        found.append(
            RegionDynamics(
                roi=roi,
                models=names,
                similarity={
                    **dict(zip(names, stacked, strict=True)),
                    MEASURED: groups[roi],
                },
                agreement=compared.of(stacked, groups[roi]),
                null=np.stack([mine, *(null[name][number] for name in series)], axis=1),
                brains=_brains(values, stacked, compared, n_brains, grouping, skip, seed),
                compared=compared,
                n_subjects=len(values),
                n_voxels=int(values.shape[2]),
            )
        )
    return tuple(found)


def _null(
    model: ModelSeries,
    measured: Array,
    compared: Agreement,
    n_surrogates: int,
    seed: Sequence[int],
) -> Array:
    """Return the agreement of a model's surrogates with each of some measured matrices.

    Of shape (n_measured, n_kinds, n_surrogates, n_timepoints).
    """
    n_measured, n_timepoints, _ = measured.shape
    null = np.empty((n_measured, len(SURROGATE_KINDS), n_surrogates, n_timepoints))
    if not n_surrogates:
        return null
    brains = compared.prepared(measured)
    surrogates = Surrogates(model.frames, model.operator)
    for row, kind in enumerate(SURROGATE_KINDS):
        done = 0
        for batch in surrogates.similarities(n_surrogates, seed, kind, model.similarity):
            drawn = compared.prepared(batch)
            for number, matrix in enumerate(brains):
                null[number, row, done : done + len(batch)] = compared.rows(drawn, matrix)
            done += len(batch)
    return null


def _brains(
    data: NDArray[np.float32],
    models: Array,
    compared: Agreement,
    n_brains: int,
    grouping: str,
    skip: int | None,
    seed: int,
) -> Array:
    """Return models' agreement with samples of subjects, (n_models, n_samples, n_timepoints)."""
    if len(data) < LEAST_FOR_INTERVAL:
        return np.empty((len(models), 0, models.shape[-1]))
    counts = bootstrap_counts(len(data), n_brains, seed=[seed, 0])
    drawn = bootstrap_similarity(data, counts, grouping=grouping, skip=skip)
    return np.concatenate([compared.of(models[:, None], batch) for batch in drawn], axis=1)


def _checked(measured: ArrayLike) -> NDArray[np.float32]:
    """Return a region's measured time courses, or say what is wrong with them."""
    data = time_courses(measured, name="measured", axes=(3,), min_voxels=1)
    check_n_subjects(len(data))
    return data.astype(np.float32, copy=False)


def _check_lengths(models: Mapping[str, ModelSeries], n_timepoints: int) -> None:
    """Refuse models of other lengths than the measurement."""
    different = {
        name: model.n_volumes for name, model in models.items() if model.n_volumes != n_timepoints
    }
    if different:
        got = ", ".join(f"{length} of {name}" for name, length in different.items())
        message = (
            f"models must have the {n_timepoints} volumes that were measured; got {got}. Check TR "
            "and movie, cut both to the same volumes with `n_volumes`, and skip the same at the "
            "start."
        )
        raise ShapeError(message)


def check_n_subjects(n_subjects: int) -> None:
    """Refuse one or two subjects."""
    if n_subjects < LEAST_SUBJECTS:
        message = (
            f"measured responses must be of {LEAST_SUBJECTS} subjects or more; got {n_subjects}. "
            f"They stand for people in general, and an interval over people needs "
            f"{LEAST_FOR_INTERVAL}. Add subjects, or leave the measured responses out to see what "
            "is predicted."
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
        From `compare_dynamics`; its surrogates and its bootstrap samples of subjects are used.
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
    has_samples = region.brains.shape[1] > 0
    average = average_around_boundaries(
        with_differences(region.agreement),
        boundaries,
        brains=with_differences(region.brains) if has_samples else None,
        window=window,
        exclusion=exclusion,
        n_resamples=n_resamples,
        seed=[seed, 1],
    )
    if not has_samples:
        nothing = np.full(average.mean.shape, np.nan)
        average = replace(average, lower=nothing, upper=nothing, samples=average.samples[:, :0])
    null = mean_around_boundaries(
        np.stack([with_differences(kind) for kind in region.null]),
        boundaries,
        window=window,
        exclusion=exclusion,
    )
    tests = [_p_of(mean, null[:, row]) for row, mean in enumerate(average.mean)]
    p, p_max = (np.stack(kind) for kind in zip(*tests, strict=True))
    starts = np.asarray(boundaries, dtype=np.intp)
    return BoundaryEffects(region.roi, starts, region.names, average, p, p_max)


def bootstrap_similarity(
    measured: ArrayLike, counts: ArrayLike, *, grouping: str = "data", skip: int | None = None
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
    skip : int, optional
        Z-score each voxel of a sample's mean over time, then drop so many volumes from its start,
        as the published analysis did. By default neither is done.

    Yields
    ------
    array of shape (n_batch, n_timepoints, n_timepoints), float64
        In the order of ``counts``; without the volumes that were dropped.

    Raises
    ------
    ShapeError, DataError
        If the data are not as `compare_dynamics` asks.
    OptionError
        If ``grouping`` is not known, or not "data" with ``skip``.
    """
    check_choice("grouping", grouping, GROUPINGS if skip is None else GROUPINGS[:1])
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
        flat = (data if skip is not None else _over_voxels(data)).reshape(n_subjects, -1)
        bytes_each = 4 * n_timepoints * n_voxels + 24 * n_timepoints**2
    n_batch = max(1, _BATCH_BYTES // bytes_each)
    for start in range(0, len(weights), n_batch):
        part = weights[start : start + n_batch]
        if grouping == "similarity":
            yield (part.astype(np.float64) @ each).reshape(-1, n_timepoints, n_timepoints)
            continue
        means = (part @ flat).reshape(-1, n_timepoints, n_voxels)
        if skip is not None:
            means = _over_voxels(standardised(means)[:, skip:])
        yield _correlate(means)


def _over_voxels(volumes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Take each volume's mean over voxels out."""
    centred: NDArray[np.float32] = volumes - volumes.mean(axis=-1, keepdims=True)
    return centred


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
