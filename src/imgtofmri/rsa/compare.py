"""How alike two dissimilarity matrices are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError, choice_message
from imgtofmri.stats.scaling import centred, unit_length

#: What `compare_rdms` can compute.
COMPARISONS = ("spearman", "kendall", "pearson", "cosine")
"""How two dissimilarity matrices can be compared."""

MOST_SIGNS = 200
"""Up to so many entries, those of 20 conditions, Kendall's signs are multiplied: SciPy takes a
millisecond for any two rows, of which a bootstrap has many thousands."""

TIE_TOLERANCE = 1e-13
"""Dissimilarities that lie this near, as a share of the largest one, are ties: rounding leaves
less than a hundredth of it."""


def compare_rdms(
    first: ArrayLike,
    second: ArrayLike,
    method: str = "spearman",
    first_names: Sequence[str] | None = None,
    second_names: Sequence[str] | None = None,
) -> NDArray[np.float64]:
    """Compare each dissimilarity matrix of one stack with each of another.

    Parameters
    ----------
    first : array of shape (n_first, n_pairs) or (n_pairs,)
    second : array of shape (n_second, n_pairs) or (n_pairs,)
        Upper triangles over the same conditions in the same order.
    method : {"spearman", "kendall", "pearson", "cosine"}
        "spearman": assumes only that dissimilarities rise together; ties get their mean rank.
        "kendall": tau-a, the choice where a model predicts ties (categories). "pearson": assumes a
        linear relation. "cosine": assumes a ratio scale, meant for cross-validated distances whose
        0 means something.
    first_names, second_names : sequence of str, optional
        Names for error messages.

    Returns
    -------
    similarity : array of shape (n_first, n_second), float64

    Raises
    ------
    OptionError
        If ``method`` is unknown.
    ShapeError
        If the numbers of pairs differ or there are fewer than 3 (3 conditions).
    DataError
        If a matrix has NaN, or is constant where a correlation is asked for.

    References
    ----------
    Nili H et al. (2014), doi:10.1371/journal.pcbi.1003553.

    Examples
    --------
    >>> compare_rdms([1.0, 2.0, 3.0], [[2.0, 4.0, 9.0], [3.0, 2.0, 1.0]]).round(6)
    array([[ 1., -1.]])
    """
    x, y = checked_pair(first, second, method, first_names, second_names)
    if method == "kendall":
        return tau_a(dense_ranks(x), dense_ranks(y))
    return np.clip(unit_vectors(x, method) @ unit_vectors(y, method).T, -1.0, 1.0)


def unit_vectors(values: NDArray[np.float64], method: str) -> NDArray[np.float64]:
    """Bring rows to a form in which the comparison ``method`` is their inner product."""
    if method == "spearman":
        values = mean_ranks(values)
    return unit_length(values if method == "cosine" else centred(values))


def dense_ranks(values: NDArray[np.float64]) -> NDArray[np.unsignedinteger[Any]]:
    """Replace each row's entries by their rank among the row's distinct values, from 0.

    Values that differ by rounding alone are one: the distances within a category are computed from
    other images each, and are ties all the same. Ranks come in the smallest words that hold them,
    which are the fastest to sort.
    """
    ranks = np.empty(values.shape, dtype=np.min_scalar_type(values.shape[-1]))
    for row, own in zip(values, ranks, strict=True):
        levels, place = np.unique(row, return_inverse=True)
        apart = np.diff(levels) > TIE_TOLERANCE * np.abs(levels[[0, -1]]).max()
        own[:] = np.concatenate([[0], np.cumsum(apart)])[place]
    return ranks


def mean_ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank each row's entries from 1; ties, as `dense_ranks` has them, get their mean rank."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(dense_ranks(values), axis=-1), dtype=np.float64)


def tau_a(
    first: NDArray[np.unsignedinteger[Any]], second: NDArray[np.unsignedinteger[Any]]
) -> NDArray[np.float64]:
    """Correlate rows of dense ranks by Kendall's tau-a; shape (n_first, n_second).

    Tau-a is the number of concordant minus discordant pairs of entries over the number of all
    pairs. Ties count as neither, so that, unlike tau-b, it does not favour models that predict
    ties. SciPy gives tau-b, the same number over the geometric mean of the pairs untied in either.
    """
    n_pairs = first.shape[-1] * (first.shape[-1] - 1) // 2
    if first.shape[-1] <= MOST_SIGNS:
        # Whole numbers that single precision holds; each pair is there twice.
        twice = (_signs(first) @ _signs(second).T).astype(np.float64)
        return np.asarray(twice / (2 * n_pairs))

    from scipy.stats import kendalltau

    counts = [[np.bincount(row) for row in rows] for rows in (first, second)]
    untied = [np.array([n_pairs - (n * (n - 1) // 2).sum() for n in rows]) for rows in counts]
    tau_b = []
    for row in first:
        # SciPy sorts both by one of them first: once for all halves the time.
        order = np.argsort(row, kind="stable")
        x = row[order]
        tau_b.append([kendalltau(y[order], x).statistic for y in second])
    # Concordant minus discordant pairs is a whole number, so rounding makes it exact.
    difference = np.rint(np.array(tau_b) * np.outer(np.sqrt(untied[0]), np.sqrt(untied[1])))
    return np.asarray(difference / n_pairs)


def _signs(ranks: NDArray[np.unsignedinteger[Any]]) -> NDArray[np.float32]:
    """Return the order of each two entries of a row: 1, 0 or -1, shape (n_rows, n_entries**2)."""
    above = (ranks[:, :, None] > ranks[:, None, :]).view(np.int8)
    return (above - above.swapaxes(1, 2)).reshape(len(ranks), -1).astype(np.float32)


def checked_pair(
    first: ArrayLike,
    second: ArrayLike,
    method: str,
    first_names: Sequence[str] | None = None,
    second_names: Sequence[str] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return both stacks as two-dimensional float64, refusing what cannot be compared."""
    if method not in COMPARISONS:
        raise OptionError(choice_message("", "method", method, COMPARISONS))
    x = checked_stack(first, method, first_names)
    y = checked_stack(second, method, second_names)
    if x.shape[1] != y.shape[1]:
        message = (
            f"both stacks must hold the same pairs of conditions; got {x.shape[1]} and "
            f"{y.shape[1]} pairs. Select the conditions that both have."
        )
        raise ShapeError(message)
    return x, y


def checked_stack(
    rdms: ArrayLike, method: str, names: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """Return a stack as (n_rdms, n_pairs) float64, refusing NaN, constant and tiny matrices."""
    values = np.atleast_2d(np.asarray(rdms, dtype=np.float64))
    if values.ndim != 2 or values.shape[0] < 1 or values.shape[1] < 3:
        message = (
            f"dissimilarities must have shape (n_rdms, n_pairs) with at least 3 pairs "
            f"(3 conditions); got {values.shape}. Give upper triangles of the matrices."
        )
        raise ShapeError(message)

    def label(row: int) -> str:
        return repr(names[row]) if names is not None else f"number {row}"

    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if bad.size:
        message = (
            f"dissimilarities must be finite; matrix {label(bad[0])} has NaN or infinite "
            "entries. Leave those conditions out of all matrices."
        )
        raise DataError(message)
    low, high = values.min(axis=1), values.max(axis=1)
    if method == "cosine":
        flat = (low == 0) & (high == 0)
    else:
        flat = high - low <= 1e-12 * np.maximum(np.abs(high), np.abs(low))
    constant = np.flatnonzero(flat)
    if constant.size:
        message = (
            f"dissimilarities must differ between pairs; matrix {label(constant[0])} is "
            "constant. Leave it out: nothing can correlate with it."
        )
        raise DataError(message)
    return values
