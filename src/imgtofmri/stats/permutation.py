"""Permutations in bulk, and p values from them.

Permutations are drawn in one stream, so the same seed gives the same ones whatever the chunk size
and whatever the number of threads.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import OptionError, ShapeError
from imgtofmri.stats.multiple import Tail, oriented, tie_threshold

#: Permutations made at once; bounds the memory of a chunk, never changes a result.
CHUNK_SIZE = 2048

MOST = 1_000_000_000
"""The most draws of anything that can be asked for: what is beyond is a slip of the hand."""


def permutation_p(
    observed: ArrayLike, null: ArrayLike, tail: Tail = "greater"
) -> NDArray[np.float64]:
    """Give the p value of each statistic among its own relabellings.

    Parameters
    ----------
    observed : array of any shape
        The statistics of the data. NaN gives NaN.
    null : array of shape (n_permutations, ...)
        The same statistics under relabellings.
    tail : {"greater", "less", "two-sided"}
        What counts as extreme; "two-sided" compares absolute values.

    Returns
    -------
    p : array of the shape of ``observed``
        ``(count + 1) / (n_permutations + 1)``: the data are one of the relabellings, so p is never
        0 and the test is exact.

    Raises
    ------
    ShapeError
        If ``null`` is not one row or more of observed's shape.
    OptionError
        If ``tail`` is unknown.

    References
    ----------
    Phipson B, Smyth GK (2010), doi:10.2202/1544-6115.1585.

    Examples
    --------
    >>> permutation_p([2.0, 0.0], [[1.0, 1.0], [0.0, -1.0], [2.5, 1.0]]).tolist()
    [0.5, 0.75]
    """
    observed_array = np.asarray(observed, dtype=np.float64)
    null_array = np.asarray(null, dtype=np.float64)
    if null_array.ndim != observed_array.ndim + 1 or null_array.shape[1:] != observed_array.shape:
        message = (
            "null must have shape (n_permutations, *observed.shape); got null "
            f"{null_array.shape} and observed {observed_array.shape}. Put the relabellings first."
        )
        raise ShapeError(message)
    check_count("the number of permutations", null_array.shape[0])
    extremes = oriented(observed_array, tail)
    reached = np.count_nonzero(oriented(null_array, tail) >= tie_threshold(extremes), axis=0)
    p = (reached + 1) / (null_array.shape[0] + 1)
    return np.where(np.isnan(observed_array), np.nan, p)


def check_count(name: str, value: int) -> None:
    """Refuse a count below 1, and one that no array can have."""
    if value < 1:
        message = f"{name} must be at least 1; got {value}. Ask for more."
        raise OptionError(message)
    if value > MOST:
        message = f"{name} must be at most {MOST:,}; got {value:,}. Ask for fewer."
        raise OptionError(message)


def permutations(
    n_items: int,
    n_permutations: int,
    seed: int | None = 0,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    chunk_size: int = CHUNK_SIZE,
) -> Iterator[NDArray[np.unsignedinteger[Any]]]:
    """Draw uniform random permutations, in chunks.

    Parameters
    ----------
    n_items : int
        How many items are permuted.
    n_permutations : int
        How many permutations to draw, independently (a permutation may come twice, and the
        identity may come).
    seed : int or None
        The same seed gives the same permutations; None draws fresh ones.
    groups : sequence of length n_items, optional
        Labels. Items are exchanged only with items of the same label, independently between labels.
    chunk_size : int
        Permutations made at once. It bounds memory and does not change what is drawn.

    Yields
    ------
    chunk : array of shape (up to chunk_size, n_items), unsigned integers
        Each row holds 0 ... n_items - 1 in a new order.

    Raises
    ------
    OptionError
        If a count is below 1, or above 1,000,000,000.
    ShapeError
        If there is not one label for each item.

    Examples
    --------
    >>> chunk = next(permutations(4, 3, seed=1))
    >>> chunk.shape, sorted(chunk[0].tolist())
    ((3, 4), [0, 1, 2, 3])
    """
    check_count("n_items", n_items)
    check_count("n_permutations", n_permutations)
    check_count("chunk_size", chunk_size)
    if groups is not None and len(groups) != n_items:
        message = (
            f"groups must hold one label for each of the {n_items} items; got "
            f"{len(groups)}. Label every item."
        )
        raise ShapeError(message)
    # The smallest integers that fit: shuffling bytes is twice as fast as shuffling words.
    dtype = np.min_scalar_type(max(n_items - 1, 1))
    if groups is None:
        members = [np.arange(n_items)]
    else:
        labels = np.unique(np.asarray(groups), return_inverse=True)[1].ravel()
        members = [np.flatnonzero(labels == label) for label in range(labels.max() + 1)]
    # One stream for each group, so that where chunks end cannot change what a group receives.
    streams = [
        np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(len(members))
    ]
    for start in range(0, n_permutations, chunk_size):
        n_rows = min(chunk_size, n_permutations - start)
        chunk = np.empty((n_rows, n_items), dtype=dtype)
        for stream, items in zip(streams, members, strict=True):
            rows = np.broadcast_to(items.astype(dtype), (n_rows, items.size))
            chunk[:, items] = stream.permuted(rows, axis=1)
        yield chunk


def least_p(n_items: int, groups: Sequence[Any] | NDArray[Any] | None = None) -> float:
    """Return the smallest p that exchanging items can give: one over the number of their orders.

    Parameters
    ----------
    n_items, groups
        As for `permutations`.

    Returns
    -------
    float

    Examples
    --------
    >>> 1 / least_p(5), 1 / least_p(5, ["a", "a", "b", "b", "b"])
    (120.0, 12.0)
    """
    sizes = [n_items] if groups is None else Counter(groups).values()
    return 1 / math.prod(math.factorial(size) for size in sizes)


def sign_flips(n_items: int, n_permutations: int, seed: int | None = 0) -> NDArray[np.int8]:
    """Draw random signs, for one-sample tests of symmetric differences.

    Parameters
    ----------
    n_items : int
        How many items (subjects, images) have a sign.
    n_permutations : int
        How many sets of signs to draw.
    seed : int or None
        The same seed gives the same signs.

    Returns
    -------
    signs : array of shape (n_permutations, n_items), int8
        -1 or 1 with equal chance.

    Examples
    --------
    >>> sorted(set(sign_flips(5, 100, seed=0).ravel().tolist()))
    [-1, 1]
    """
    check_count("n_items", n_items)
    check_count("n_permutations", n_permutations)
    draws = np.random.default_rng(seed).integers(0, 2, (n_permutations, n_items), dtype=np.int8)
    return (2 * draws - 1).astype(np.int8)


class NullSummary:
    """Reduce null statistics chunk by chunk to counts, so that memory does not grow with them.

    Meant for maps: a hundred thousand voxels under ten thousand relabellings would be 8 GB as an
    array. Feed chunks to `update`, then read `p`, `p_max`, `mean` and
    `sd`.

    Parameters
    ----------
    observed : array of shape (n_tests,)
        The statistics of the data. NaN marks a test that could not be made.
    tail : {"greater", "less", "two-sided"}
        What counts as extreme.
    n_kept : int
        How many of each test's most extreme null statistics to keep, for `extremes`.

    Examples
    --------
    >>> summary = NullSummary(np.array([2.0, 0.0]))
    >>> summary.update(np.array([[1.0, 1.0], [0.0, -1.0]]))
    >>> summary.update(np.array([[2.5, 1.0]]))
    >>> summary.p.tolist(), summary.p_max.tolist()
    ([0.5, 0.75], [0.5, 1.0])
    """

    def __init__(self, observed: ArrayLike, tail: Tail = "greater", n_kept: int = 0) -> None:
        self._observed = np.asarray(observed, dtype=np.float64)
        self._tail: Tail = tail
        extremes = oriented(self._observed, tail)
        self._tested = ~np.isnan(extremes)
        self._threshold = tie_threshold(extremes)
        self._reached = np.zeros(extremes.shape, dtype=np.int64)
        self._sum = np.zeros(extremes.shape)
        self._sum_of_squares = np.zeros(extremes.shape)
        self._largest: list[NDArray[np.float64]] = []
        #: The most extreme null statistics of each test, shape (up to n_kept, n_tests), unordered.
        self.extremes = np.empty((0, *extremes.shape))
        self._n_kept = n_kept
        self.n_permutations = 0

    def update(self, null: NDArray[np.float64]) -> None:
        """Add the statistics of some more relabellings, shape (n_relabellings, n_tests)."""
        if null.ndim != 2 or null.shape[1:] != self._observed.shape:
            message = (
                "null must have shape (n_relabellings, "
                f"{self._observed.size}); got {null.shape}. Give one row for each relabelling."
            )
            raise ShapeError(message)
        extremes = oriented(null, self._tail)
        self._reached += np.count_nonzero(extremes >= self._threshold, axis=0)
        # Around the observed value, where float64 sums of near-equal numbers would lose digits.
        offset = null - self._observed
        self._sum += offset.sum(axis=0)
        self._sum_of_squares += np.einsum("ij,ij->j", offset, offset)
        if self._tested.any():
            self._largest.append(extremes[:, self._tested].max(axis=1))
        if self._n_kept:
            together = np.concatenate([self.extremes, extremes])
            n_over = max(len(together) - self._n_kept, 0)
            self.extremes = np.partition(together, n_over, axis=0)[n_over:] if n_over else together
        self.n_permutations += null.shape[0]

    @property
    def p(self) -> NDArray[np.float64]:
        """P value of each test, shape (n_tests,): ``(count + 1) / (n_permutations + 1)``."""
        p = (self._reached + 1) / (self.n_permutations + 1)
        return np.where(self._tested, p, np.nan)

    @property
    def p_max(self) -> NDArray[np.float64]:
        """P value corrected over the tests by the maximum statistic, shape (n_tests,)."""
        p_max = np.full(self._observed.shape, np.nan)
        if self._largest:
            largest = np.sort(np.concatenate(self._largest))
            reached = largest.size - np.searchsorted(largest, self._threshold[self._tested])
            p_max[self._tested] = (reached + 1) / (largest.size + 1)
        return p_max

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean of the null statistics, shape (n_tests,)."""
        return self._observed + self._sum / max(self.n_permutations, 1)

    @property
    def sd(self) -> NDArray[np.float64]:
        """Standard deviation of the null statistics (population), shape (n_tests,)."""
        n = max(self.n_permutations, 1)
        variance = self._sum_of_squares / n - (self._sum / n) ** 2
        return np.sqrt(np.maximum(variance, 0.0))
