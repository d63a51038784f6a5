"""Bootstrap over people and images at once: what other people and other images would have given.

Resampling people alone holds the images fixed: two models that have nothing to do with the brain
differ on any fixed set of images, and people who share a geometry agree on that difference. Only
where images are resampled, too, does a conclusion extend to other images.

References
----------
Schütt HH, Kipnis AD, Diedrichsen J, Kriegeskorte N (2023), doi:10.7554/eLife.82566.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.rsa.compare import checked_pair, dense_ranks, tau_a
from imgtofmri.rsa.rdm import n_conditions_of, to_square
from imgtofmri.stats import bootstrap_counts

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

LEAST_IMAGES = 3
"""Resamples with fewer different images have no geometry to compare, and are passed over."""

RANKED = ("spearman", "kendall")


@dataclass(frozen=True)
class Draws:
    """Statistics of the data and of its resamples, and what the resamples say of other data.

    Attributes
    ----------
    estimate : array of shape (n_statistics,)
        Of the data.
    values : array of shape (3, n_bootstraps, n_statistics)
        In resamples of people and images, of people alone, and of images alone; NaN where a
        resample has too few different images or people for the statistic.
    n_people, n_images : int
        How many there are to draw from.
    """

    estimate: Array
    values: Array
    n_people: int
    n_images: int

    def beside(self, other: Draws) -> Draws:
        """Join with other statistics in the same resamples."""
        estimate = np.concatenate([self.estimate, other.estimate])
        values = np.concatenate([self.values, other.values], axis=-1)
        return replace(self, estimate=estimate, values=values)

    def combined(self, weights: ArrayLike) -> Draws:
        """Return weighted sums of the statistics; weights have shape (n_sums, n_statistics)."""
        matrix = np.asarray(weights, dtype=np.float64)
        values = np.einsum("kbs,ws->kbw", self.values, matrix)
        return replace(self, estimate=matrix @ self.estimate, values=values)

    @property
    def dof(self) -> int:
        """Degrees of freedom: one less than people or images, whichever are fewer."""
        return min(n for n in (self.n_people, self.n_images) if n > 1) - 1

    @property
    def standard_error(self) -> Array:
        """Of each statistic over other people and images; with one person, over images alone."""
        valid = np.isfinite(self.values)
        n_valid = valid.sum(axis=1)
        values = np.where(valid, self.values, 0.0)
        means = values.sum(axis=1) / np.maximum(n_valid, 1)
        squares = (np.where(valid, values - means[:, None], 0.0) ** 2).sum(axis=1)
        variances = np.where(n_valid > 1, squares / np.maximum(n_valid - 1, 1), np.nan)
        return np.sqrt(two_factor_variance(variances, self.n_people, self.n_images))

    def interval(self, confidence: float = 0.95) -> tuple[Array, Array]:
        """Return the bounds of Student's interval around each estimate."""
        from scipy import stats

        half = stats.t.ppf((1 + confidence) / 2, self.dof) * self.standard_error
        return self.estimate - half, self.estimate + half

    def p(self, *, two_sided: bool) -> Array:
        """Return Student's p of each estimate: different from 0, or greater.

        With one person it is NaN: of other people there is nothing to say.
        """
        from scipy import stats

        if self.n_people < 2:
            return np.full(self.estimate.shape, np.nan)
        # A model beside itself differs by rounding errors alone, in every resample.
        estimate = np.where(np.abs(self.estimate) > 1e-12, self.estimate, 0.0)
        error = np.maximum(self.standard_error, 1e-12)
        if two_sided:
            return np.asarray(2 * stats.t.sf(np.abs(estimate) / error, self.dof))
        return np.asarray(stats.t.sf(estimate / error, self.dof))


def two_factor_variance(variances: ArrayLike, n_people: int, n_images: int) -> Array:
    """Combine the variances of three bootstraps into that over other people and other images.

    The bootstrap of both factors counts the noise of single measurements threefold, so that its
    variance is too large; those of one factor are too small. The combination is unbiased for a sum
    of effects of people, of images and of both together.

    Parameters
    ----------
    variances : array of shape (3, ...)
        Of bootstraps that resample people and images, people, and images.
    n_people, n_images : int
        With one person the variance is that over images.

    Returns
    -------
    array of shape (...)
        Not below either factor's own, nor above that of the bootstrap of both.

    References
    ----------
    Schütt HH et al. (2023), doi:10.7554/eLife.82566, with the correction for small samples.

    Examples
    --------
    >>> two_factor_variance([0.05, 0.02, 0.01], 11, 21).round(6).tolist()
    0.022
    """
    both, people, images = np.asarray(variances, dtype=np.float64)
    of_images = n_images / (n_images - 1) * images
    if n_people < 2:
        return np.asarray(of_images)
    of_people = n_people / (n_people - 1) * people
    shared = n_people * n_images / ((n_people - 1) * (n_images - 1)) * (both - people - images)
    combined = of_people + of_images - shared
    return np.asarray(np.minimum(np.maximum(np.maximum(combined, of_people), of_images), both))


class TwoFactorBootstrap:
    """Resamples of the people and the images of some measured matrices.

    Models that are compared in the same resamples can be subtracted from each other, resample by
    resample. Pairs of an image with itself, which come of drawing it twice, are left out. Of three
    images nothing can be said of others: standard errors, intervals and p are NaN.

    Parameters
    ----------
    subjects : array of shape (n_people, n_pairs)
        Measured dissimilarities.
    n_bootstraps : int
    method : {"spearman", "kendall", "pearson", "cosine"}
        The comparison.
    seed : int or None
        The same seed gives the same resamples; None draws fresh ones.

    Raises
    ------
    OptionError, ShapeError, DataError
        As `compare_rdms`.

    Examples
    --------
    >>> bootstrap = TwoFactorBootstrap(np.random.default_rng(0).random((4, 28)), 50)
    >>> bootstrap.scores(np.arange(28.0)).standard_error.shape
    (1,)
    """

    def __init__(
        self,
        subjects: ArrayLike,
        n_bootstraps: int = 1000,
        method: str = "spearman",
        seed: int | None = 0,
    ) -> None:
        self.subjects, _ = checked_pair(subjects, subjects, method)
        self.method = method
        self.n_people = len(self.subjects)
        self.n_images = n_conditions_of(self.subjects.shape[1])
        seeds: Sequence[Any] = (None, None) if seed is None else ([seed, 0], [seed, 1])
        self.people = bootstrap_counts(self.n_people, n_bootstraps, seeds[0])
        self.images = bootstrap_counts(self.n_images, n_bootstraps, seeds[1])
        self._rows = _Rows(self.subjects, method)
        self._ceilings: dict[bool, Draws] = {}
        self._place = to_square(np.arange(self.subjects.shape[1])).astype(np.intp)
        n_different = np.count_nonzero(self.images, axis=1)
        # Of three images each resample that is left is the whole, which tells nothing of others.
        self._usable = (n_different >= LEAST_IMAGES) & (self.n_images > LEAST_IMAGES)

    def scores(self, models: ArrayLike, above_chance: bool = False) -> Draws:
        """Return models' mean similarity to the people.

        Parameters
        ----------
        models : array of shape (n_models, n_pairs)
        above_chance : bool
            Less what relabelled images give on average. It is 0 for correlations; the cosine of
            two matrices of positive entries is well above 0 whatever their images.
        """
        x, _ = checked_pair(models, self.subjects, self.method)
        rows = _Rows(x, self.method)
        whole = self._sample(np.ones(self.n_images))
        found = np.full((3, len(self.images), len(x)), np.nan)
        fixed = _similarity(rows.at(whole), self._rows.at(whole), above_chance)
        found[1] = np.einsum("bs,ms->bm", self.people, fixed) / self.n_people
        for number, (people, images) in enumerate(zip(self.people, self.images, strict=True)):
            if not self._usable[number]:
                continue
            sample = self._sample(images)
            similarity = _similarity(rows.at(sample), self._rows.at(sample), above_chance)
            found[2, number] = similarity.mean(axis=1)
            # Who is not in the resample does not count, be it as NaN.
            drawn = np.flatnonzero(people)
            found[0, number] = (similarity[:, drawn] * people[drawn]).sum(axis=1) / self.n_people
        return Draws(fixed.mean(axis=1), found, self.n_people, self.n_images)

    def ceiling(self, above_chance: bool = False) -> Draws:
        """Return the lower noise ceiling, one statistic: that of `rdm_ceiling`.

        Each person is compared with the others' pooled matrix; all copies of one who was drawn
        several times are left out together.
        """
        if above_chance not in self._ceilings:
            self._ceilings[above_chance] = self._ceiling(above_chance)
        return self._ceilings[above_chance]

    def _ceiling(self, above_chance: bool) -> Draws:
        found = np.full((3, len(self.images), 1), np.nan)
        everybody = np.ones(self.n_people)
        whole = self._rows.at(self._sample(np.ones(self.n_images)))
        for number, (people, images) in enumerate(zip(self.people, self.images, strict=True)):
            found[1, number] = whole.ceiling(people, above_chance)
            if self._usable[number]:
                view = self._rows.at(self._sample(images))
                found[0, number] = view.ceiling(people, above_chance)
                found[2, number] = view.ceiling(everybody, above_chance)
        estimate = np.array([whole.ceiling(everybody, above_chance)])
        return Draws(estimate, found, self.n_people, self.n_images)

    def _sample(self, counts: Array) -> _Sample:
        drawn = np.flatnonzero(counts)
        rows, columns = np.triu_indices(drawn.size, 1)
        first, second = drawn[rows], drawn[columns]
        return _Sample(self._place[first, second], counts[first] * counts[second])


@dataclass(frozen=True)
class _Sample:
    """The pairs of different images of a resample, and how often each is in it."""

    pairs: NDArray[np.intp]
    weights: Array


class _Rows:
    """Matrices in the form in which resamples of them are compared fastest."""

    def __init__(self, values: Array, method: str) -> None:
        self.method = method
        self.values = dense_ranks(values).astype(np.int64) if method in RANKED else values

    def at(self, sample: _Sample) -> _View:
        return _View(self.values.take(sample.pairs, axis=1), sample.weights, self.method)


class _View:
    """Matrices as a resample of images has them."""

    def __init__(self, values: NDArray[Any], weights: Array, method: str) -> None:
        self.values, self.weights, self.method = values, weights, method

    @cached_property
    def vectors(self) -> Array:
        """Rows whose inner products are similarities; one without variation is NaN."""
        values = self.values
        if self.method in RANKED:
            values = weighted_ranks(values, self.weights)
        return _vectors(values, self.weights, self.method)

    @cached_property
    def poolable(self) -> NDArray[Any]:
        """Rows whose sum over people is the pooled matrix."""
        if self.method in RANKED:
            return weighted_ranks(self.values, self.weights)
        return self.vectors

    def expanded(self) -> NDArray[Any]:
        """Rows with each pair as often as it was drawn, for tau, which has no vectors."""
        repeats = self.weights.astype(np.intp)
        return np.repeat(dense_ranks(self.values.astype(np.float64)), repeats, axis=1)

    def ceiling(self, people: Array, above_chance: bool) -> float:
        """Compare each person with the others' pooled matrix; NaN where there is nobody else."""
        drawn = np.flatnonzero(people)
        if drawn.size < 2:
            return float("nan")
        rows = self.poolable[drawn]
        counts = people[drawn].astype(rows.dtype)
        own = rows * counts[:, None]
        others = own.sum(axis=0) - own
        if self.method == "kendall":
            left, right = _View(others, self.weights, self.method).expanded(), self.expanded()
            return float(
                np.mean([tau_a(left[k : k + 1], right[s : s + 1]) for k, s in enumerate(drawn)])
            )
        if self.method == "spearman":
            others = weighted_ranks(others, self.weights)
        # Sums of vectors have the root of the weights in them already.
        weights = self.weights if self.method == "spearman" else np.ones(self.weights.size)
        pooled = _vectors(others, weights, "cosine" if self.method == "pearson" else self.method)
        similarity = np.einsum("sp,sp->s", pooled, self.vectors[drawn])
        if above_chance and self.method == "cosine":
            root = np.sqrt(self.weights)
            similarity -= (pooled @ root) * (self.vectors[drawn] @ root) / self.weights.sum()
        return float(similarity.mean())


def _similarity(models: _View, subjects: _View, above_chance: bool) -> Array:
    """Compare each model with each person, shape (n_models, n_people)."""
    if models.method == "kendall":
        return tau_a(models.expanded(), subjects.expanded())
    # Not a product of BLAS, whose last bits change with the number of threads.
    similarity = np.einsum("mp,sp->ms", models.vectors, subjects.vectors)
    if above_chance and models.method == "cosine":
        # Over all relabellings a vector averages to its mean.
        root = np.sqrt(models.weights)
        sums = [np.einsum("mp,p->m", view.vectors, root) for view in (models, subjects)]
        similarity -= np.outer(*sums) / models.weights.sum()
    return np.asarray(similarity)


def _vectors(values: NDArray[Any], weights: Array, method: str) -> Array:
    """Bring rows to vectors, the root of the weights in them, whose products are similarities."""
    found = values.astype(np.float64)
    size = np.abs(found).max(axis=1, keepdims=True)
    if method != "cosine":
        found = found - (found * weights).sum(axis=1, keepdims=True) / weights.sum()
    found = found * np.sqrt(weights)
    lengths = np.sqrt((found**2).sum(axis=1, keepdims=True))
    lengths[lengths <= 1e-12 * size * np.sqrt(weights.sum())] = np.nan
    return np.asarray(found / lengths)


def weighted_ranks(codes: Codes, weights: Array) -> Codes:
    """Rank the entries of rows that count several times; ties get their mean rank.

    Parameters
    ----------
    codes : array of shape (n_rows, n_entries), int64
        Values of 0 and more.
    weights : array of shape (n_entries,)
        How often each entry counts, whole numbers.

    Returns
    -------
    ranks : array of shape (n_rows, n_entries), int64
        Twice the ranks that the entries would have if each were there as often as it counts: whole
        numbers, whose sums are exact.

    Examples
    --------
    >>> weighted_ranks(np.array([[5, 9, 5]]), np.array([1.0, 2.0, 1.0])).tolist()
    [[3, 7, 3]]
    """
    n_rows, n_entries = codes.shape
    # One number of value and place sorts several times faster than an index does.
    bits = n_entries.bit_length()
    keys = np.sort(codes << bits | np.arange(n_entries), axis=1)
    values, order = keys >> bits, keys & ((1 << bits) - 1)
    counted = weights.astype(np.int64)[order]
    ends = np.cumsum(counted, axis=1)
    new = np.ones((n_rows, n_entries), dtype=bool)
    np.not_equal(values[:, 1:], values[:, :-1], out=new[:, 1:])
    first = np.flatnonzero(new)
    lengths = np.diff(first, append=new.size)
    # Of each run of ties: what comes before it, and what has come at its end.
    before = ends.ravel()[first] - counted.ravel()[first]
    of_runs = before + ends.ravel()[first + lengths - 1] + 1
    order += np.arange(n_rows)[:, None] * n_entries
    ranks = np.empty(codes.shape, np.int64)
    ranks.ravel()[order.ravel()] = np.repeat(of_runs, lengths)
    return ranks
