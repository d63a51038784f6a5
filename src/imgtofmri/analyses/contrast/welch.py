"""Welch's t for any contrast of condition means, and its distribution under permuted labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr, stdtrit

from imgtofmri.exceptions import DataError, ShapeError
from imgtofmri.stats import NullSummary, fdr, permutations

#: Null statistics held at once; bounds memory, never changes a result.
CHUNK_ENTRIES = 1 << 20

#: A variance this small beside the squared size of the values is rounding.
VARIANCE_TOLERANCE = 1e-20

#: Permuted and observed t are cut here: larger ones are a quotient by rounding in sums of squares,
#: so that a relabelling that changes nothing would not be seen to give the same t.
LARGEST_T = 1e3


@dataclass(frozen=True)
class WelchTest:
    """One contrast tested at many places (voxels, ROIs).

    Parameters
    ----------
    difference : array of shape (n_tests,)
        Weighted sum of condition means, in the units of the responses.
    standard_error : array of shape (n_tests,)
    t : array of shape (n_tests,)
        NaN where nothing varies, so that nothing can be tested.
    dof : array of shape (n_tests,)
        Welch and Satterthwaite's degrees of freedom.
    p : array of shape (n_tests,)
        Two-sided.
    """

    difference: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    t: NDArray[np.float64]
    dof: NDArray[np.float64]
    p: NDArray[np.float64]

    def columns(self, null: NullSummary) -> dict[str, NDArray[np.float64]]:
        """Give a table's columns of these tests: one family, with its null distribution.

        difference, ci_low, ci_high (95 %), t, dof, p, p_fdr and p_max.
        """
        margin = stdtrit(self.dof, 0.975) * self.standard_error
        return {
            "difference": self.difference,
            "ci_low": self.difference - margin,
            "ci_high": self.difference + margin,
            "t": self.t,
            "dof": self.dof,
            "p": self.p,
            "p_fdr": fdr(self.p),
            "p_max": null.p_max,
        }


def welch_test(responses: ArrayLike, labels: ArrayLike, weights: ArrayLike) -> WelchTest:
    """Test a weighted sum of condition means against 0, stimuli being the random factor.

    Variances may differ between conditions. Conditions of weight 0 play no part.

    Parameters
    ----------
    responses : array of shape (n_stimuli, n_tests)
    labels : array of shape (n_stimuli,), integers
        Which condition each stimulus belongs to.
    weights : array of shape (n_conditions,)
        One weight for each condition; they should sum to 0.

    Returns
    -------
    WelchTest

    Raises
    ------
    ShapeError
        If the shapes do not belong together.
    DataError
        If a condition with a weight has fewer than 2 stimuli.

    References
    ----------
    Welch BL (1947), doi:10.1093/biomet/34.1-2.28.
    Satterthwaite FE (1946), doi:10.2307/3002019.

    Examples
    --------
    >>> test = welch_test([[1.0], [2.0], [4.0], [6.0]], [0, 0, 1, 1], [-1.0, 1.0])
    >>> test.difference.tolist(), test.t.round(3).tolist()
    ([3.5], [3.13])
    """
    values, codes, factors = _checked(responses, labels, weights)
    n_tests = values.shape[1]
    difference, variance, denominator = (np.zeros(n_tests) for _ in range(3))
    for code in np.flatnonzero(factors):
        members = values[codes == code]
        n_members = len(members)
        difference += factors[code] * members.mean(axis=0)
        share = factors[code] ** 2 * members.var(axis=0, ddof=1) / n_members
        variance += share
        denominator += share**2 / (n_members - 1)
    size = np.abs(values).max(axis=0, initial=0.0)
    tested = variance > VARIANCE_TOLERANCE * size**2
    t, dof, p = (np.full(n_tests, np.nan) for _ in range(3))
    t[tested] = difference[tested] / np.sqrt(variance[tested])
    dof[tested] = variance[tested] ** 2 / denominator[tested]
    p[tested] = 2 * stdtr(dof[tested], -np.abs(t[tested]))
    return WelchTest(difference, np.sqrt(variance), t, dof, p)


def permute_welch_t(
    responses: ArrayLike, labels: ArrayLike, weights: ArrayLike, orders: ArrayLike
) -> Iterator[NDArray[np.float64]]:
    """Give the t of `welch_test` after exchanging stimuli between conditions.

    Under the null hypothesis the stimuli of all conditions that have a weight come from one
    distribution of responses, so that their labels can be exchanged; all tests see the same
    exchange. Because t is divided by its own standard error, the test stays valid in large samples
    where only the means are equal (Chung and Romano 2013).

    Parameters
    ----------
    responses : array of shape (n_stimuli, n_tests)
    labels : array of shape (n_stimuli,), integers
    weights : array of shape (n_conditions,)
        As for `welch_test`; every stimulus must belong to a condition with a weight.
    orders : array of shape (n_permutations, n_stimuli), integers
        Each row says from which stimulus each stimulus takes its label.

    Yields
    ------
    t : array of shape (up to n_permutations, n_tests), float64
        Chunk by chunk, in the order of ``orders``; 0 where nothing varies, and 1,000 at most.

    Raises
    ------
    ShapeError, DataError
        As `welch_test`.

    Notes
    -----
    Sums and sums of squares of every condition under every relabelling are two matrix products of
    the relabelled indicators with the responses; the last condition's follow from the totals.

    References
    ----------
    Janssen A (1997), doi:10.1016/S0167-7152(97)00043-6.
    Chung E, Romano JP (2013), doi:10.1214/13-AOS1090.
    """
    values, codes, factors = _checked(responses, labels, weights)
    used = np.flatnonzero(factors)
    # t does not change with a shift or a factor; without them float64 sums of squares suffice.
    values = values - values.mean(axis=0)
    scale = values.std(axis=0)
    values = values / np.where(scale > 0, scale, 1.0)
    squares = values**2
    # Centred columns sum to 0, and standardised ones have a sum of squares of n, or of 0.
    total_squares = squares.sum(axis=0)
    counts = np.array([np.count_nonzero(codes == code) for code in used])
    relabelled = codes[np.asarray(orders, dtype=np.intp)]
    step = max(1, CHUNK_ENTRIES // (values.shape[1] * len(used)))
    for start in range(0, len(relabelled), step):
        part = relabelled[start : start + step]
        difference = np.zeros((len(part), values.shape[1]))
        variance = np.zeros_like(difference)
        rest, rest_squares = np.zeros_like(difference), np.tile(total_squares, (len(part), 1))
        for code, count in zip(used, counts, strict=True):
            if code == used[-1]:
                sums, sums_of_squares = rest, rest_squares
            else:
                indicator = (part == code).astype(np.float64)
                sums, sums_of_squares = indicator @ values, indicator @ squares
                rest -= sums
                rest_squares -= sums_of_squares
            difference += (factors[code] / count) * sums
            spread = np.maximum(sums_of_squares - sums**2 / count, 0.0)
            variance += (factors[code] ** 2 / (count * (count - 1))) * spread
        # Where a difference is rounding, so is its variance: call that t 0.
        error = np.sqrt(np.maximum(variance, np.finfo(np.float64).tiny))
        t = np.divide(difference, error, out=np.zeros_like(error), where=np.abs(difference) > 1e-14)
        yield _cut(t)


def _cut(t: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(t, -LARGEST_T, LARGEST_T)


def permuted_tests(
    parts: Sequence[NDArray[np.float64]],
    labels: NDArray[np.intp],
    weights: NDArray[np.float64],
    n_permutations: int,
    seed: int | None,
    watch: Callable[[list[NDArray[np.float64]]], None] | None = None,
) -> list[tuple[WelchTest, NullSummary]]:
    """Test families of responses to the same stimuli, all under the same exchanges.

    Parameters
    ----------
    parts : sequence of arrays of shape (n_stimuli, n_tests)
    labels, weights
        As for `permute_welch_t`.
    n_permutations : int
    seed : int or None
    watch : callable, optional
        Is given the null t of each of ``parts``, shape (n_exchanges, n_tests), chunk by chunk.

    Returns
    -------
    list of (WelchTest, NullSummary)
        One for each of ``parts``, two-sided.
    """
    tests = [welch_test(values, labels, weights) for values in parts]
    nulls = [NullSummary(_cut(test.t), tail="two-sided") for test in tests]
    together = np.concatenate(parts, axis=1)
    ends = np.cumsum([values.shape[1] for values in parts])
    for orders in permutations(len(labels), n_permutations, seed):
        for t in permute_welch_t(together, labels, weights, orders):
            split = np.split(t, ends[:-1], axis=1)
            for null, part in zip(nulls, split, strict=True):
                null.update(part)
            if watch is not None:
                watch(split)
    return list(zip(tests, nulls, strict=True))


def permuted_together(
    parts: Sequence[NDArray[np.float64]],
    designs: Sequence[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]],
    n_permutations: int,
    seed: int | None,
) -> list[NDArray[np.float64]]:
    """Correct several contrasts of the same stimuli together, by their largest absolute t.

    Each contrast exchanges the stimuli of its own conditions only, so that its null distribution is
    its own whatever the other conditions are. What contrasts share is carried over: a stimulus has
    one random number, and in each contrast those with the smallest have its first condition. So
    correlated contrasts stay correlated under the null, and cost less than independent ones.

    Parameters
    ----------
    parts : sequence of arrays of shape (n_stimuli, n_tests)
        Families: each is corrected over its tests and all contrasts.
    designs : sequence of (chosen, labels, weights)
        Of each contrast: the stimuli that take part, by their numbers, and as `welch_test` has them
        the label of each of these and the weights of conditions.
    n_permutations : int
    seed : int or None

    Returns
    -------
    list of array of shape (n_contrasts, n_tests)
        For each family p, corrected over its tests and over contrasts; NaN where untested.

    References
    ----------
    Westfall PH, Young SS (1993), Resampling-Based Multiple Testing, Wiley.
    """
    together = np.concatenate(parts, axis=1)
    ends = np.cumsum([values.shape[1] for values in parts])[:-1]

    def families(of_contrasts: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
        """Bring (..., all tests) of each contrast to (..., contrasts x tests) of each family."""
        split = [np.split(t, ends, axis=-1) for t in of_contrasts]
        return [np.concatenate(family, axis=-1) for family in zip(*split, strict=True)]

    observed = [
        _cut(welch_test(together[chosen], labels, weights).t) for chosen, labels, weights in designs
    ]
    nulls = [NullSummary(t, tail="two-sided") for t in families(observed)]
    for numbers in permutations(len(together), n_permutations, seed):
        found = []
        for chosen, labels, weights in designs:
            ranks = numbers[:, chosen].argsort(axis=1).argsort(axis=1)
            orders = np.argsort(labels, kind="stable")[ranks]
            null = permute_welch_t(together[chosen], labels, weights, orders)
            found.append(np.concatenate(list(null)))
        for null_of_family, t in zip(nulls, families(found), strict=True):
            null_of_family.update(t)
    return [null.p_max.reshape(len(designs), -1) for null in nulls]


def _checked(
    responses: ArrayLike, labels: ArrayLike, weights: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.intp], NDArray[np.float64]]:
    """Return the arrays in their types, refusing shapes and conditions that cannot be tested."""
    values = np.asarray(responses, dtype=np.float64)
    codes = np.asarray(labels, dtype=np.intp)
    factors = np.asarray(weights, dtype=np.float64)
    if values.ndim != 2 or codes.shape != (values.shape[0],) or factors.ndim != 1:
        message = (
            "responses must have shape (n_stimuli, n_tests), labels (n_stimuli,) and "
            f"weights (n_conditions,); got {values.shape}, {codes.shape} and {factors.shape}. "
            "Give one label for each stimulus."
        )
        raise ShapeError(message)
    for code in np.flatnonzero(factors):
        count = int(np.count_nonzero(codes == code))
        if count < 2:
            message = (
                f"each condition needs at least 2 stimuli; number {code} has {count}. "
                "Add stimuli or leave the condition out."
            )
            raise DataError(message)
    return values, codes, factors
