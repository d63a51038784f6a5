"""Matched-pattern statistics: whether a prediction resembles its own image's measured pattern most.

For a matrix of correlations between predicted (rows) and measured (columns) patterns, the statistic
is the mean of the diagonal minus the mean off the diagonal. Permuting rows leaves the sum of all
entries as it is, so a permutation is known by the sum of its diagonal alone: all permutations of
all tests are one product of a sparse matrix (which entries lie on which diagonal) with the
correlations.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.stats.checks import Array, all_finite, check_names, item_name, paired
from imgtofmri.stats.nulls import PermutationTest
from imgtofmri.stats.permutation import check_count, permutations
from imgtofmri.stats.scaling import correlatable


def correlation_matrix(
    predicted: ArrayLike, measured: ArrayLike, names: Sequence[str] | None = None
) -> Array:
    """Correlate every predicted with every measured pattern over voxels, in one product.

    Parameters
    ----------
    predicted, measured : array of shape (n_images, n_voxels)
        Patterns of the same images in the same voxels. Any units: Pearson's r ignores them.
    names : sequence of str, optional
        The images' names, for messages.

    Returns
    -------
    correlations : array of shape (n_images, n_images), float64
        Entry (i, j): Pearson's r of predicted pattern i and measured pattern j.

    Raises
    ------
    ShapeError
        If the arrays do not belong together.
    DataError
        If there is one image only, a value is not finite, or a pattern is constant over voxels.

    Examples
    --------
    >>> patterns = np.array([[1.0, 2.0, 3.0], [3.0, 1.0, 2.0]])
    >>> correlation_matrix(patterns, patterns).round(2).tolist()
    [[1.0, -0.5], [-0.5, 1.0]]
    """
    first, second = paired(predicted, measured, names)
    rows = _unit_patterns(first, "predicted", names)
    columns = _unit_patterns(second, "measured", names)
    return rows @ columns.T


def _unit_patterns(patterns: Array, what: str, names: Sequence[str] | None) -> Array:
    """Centre each pattern and bring it to length 1, refusing one that does not vary."""
    units = correlatable(patterns)
    constant = np.flatnonzero(np.isnan(units).all(axis=1))
    if constant.size:
        message = (
            f"each {what} pattern must vary over voxels; {what} "
            f"{item_name(names, int(constant[0]))} is constant over all {patterns.shape[1]} "
            f"({constant.size} of {patterns.shape[0]} images are). Look whether the mask lies "
            "where the image has data, or leave the image out."
        )
        raise DataError(message)
    return units


def diagonal_statistic(correlations: ArrayLike, cells: NDArray[np.bool_] | None = None) -> Array:
    """Give the mean of the diagonal minus the mean off the diagonal.

    Parameters
    ----------
    correlations : array of shape (..., n_images, n_images)
        Predicted patterns along rows, measured ones along columns.
    cells : bool array of the same shape, optional
        The entries that take part; all by default.

    Returns
    -------
    statistic : array of shape (...)
        0 in expectation when predictions know nothing of the image.

    Raises
    ------
    ShapeError
        If the matrices are not square, or ``cells`` has another shape.
    DataError
        If a test has no entry on the diagonal or none off it.

    Examples
    --------
    >>> float(diagonal_statistic([[0.75, 0.25], [0.0, 0.25]]))
    0.375
    """
    matrices, used = _matrices_and_cells(correlations, cells)
    diagonal, total, n_diagonal, n_off = _sums(matrices, used)
    return np.asarray(diagonal / n_diagonal - (total - diagonal) / n_off)


def _matrices_and_cells(
    correlations: ArrayLike, cells: NDArray[np.bool_] | None
) -> tuple[Array, NDArray[np.bool_]]:
    matrices = np.asarray(correlations, dtype=np.float64)
    if matrices.ndim < 2 or matrices.shape[-1] != matrices.shape[-2]:
        message = (
            f"correlations must have shape (..., n_images, n_images); got "
            f"{matrices.shape}. Correlate the same images, predicted along rows and measured "
            "along columns."
        )
        raise ShapeError(message)
    used = np.ones(matrices.shape, dtype=bool) if cells is None else np.asarray(cells, dtype=bool)
    if used.shape != matrices.shape:
        message = (
            f"cells must have the shape of correlations, {matrices.shape}; got "
            f"{used.shape}. Give one mask for each matrix."
        )
        raise ShapeError(message)
    on = np.einsum("...ii->...i", used).sum(axis=-1)
    off = used.sum(axis=(-2, -1)) - on
    if np.any((on == 0) | (off == 0)):
        test = int(np.flatnonzero((on == 0) | (off == 0))[0])
        message = (
            f"every test needs entries on and off the diagonal; test {test} has "
            f"{np.ravel(on)[test]} on and {np.ravel(off)[test]} off it. "
            "Compare two images at least."
        )
        raise DataError(message)
    return matrices, used


def _sums(
    matrices: Array, used: NDArray[np.bool_]
) -> tuple[Array, Array, NDArray[np.intp], NDArray[np.intp]]:
    """Return the sums on the diagonal and in all, and the numbers of entries on and off it."""
    masked = np.where(used, matrices, 0.0)
    diagonal = np.einsum("...ii->...", masked)
    n_diagonal = np.einsum("...ii->...i", used).sum(axis=-1)
    return (
        diagonal,
        masked.sum(axis=(-2, -1)),
        n_diagonal,
        used.sum(axis=(-2, -1)) - n_diagonal,
    )


def diagonal_test(
    correlations: ArrayLike,
    n_permutations: int = 10_000,
    seed: int | None = 0,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    cells: NDArray[np.bool_] | None = None,
) -> PermutationTest:
    """Test matched-pattern statistics by permuting which prediction belongs to which image.

    Exchanged under the null: the rows, that is, the predicted patterns over images (with
    ``groups``, over images of the same label). The null hypothesis is that, among the exchanged
    images, the predictions are unrelated to which image was measured. Voxels are never exchanged,
    so their spatial correlation does not matter. Each permutation is applied to all matrices at
    once, which lets `PermutationTest.p_max` account for their dependence.

    Parameters
    ----------
    correlations : array of shape (n_images, n_images) or (n_tests, n_images, n_images)
        Predicted patterns along rows, measured ones along columns; the same images in all.
    n_permutations : int
        How many permutations to draw.
    seed : int or None
        The same seed gives the same result.
    groups : sequence of length n_images, optional
        Labels; images are exchanged only within a label.
    cells : bool array of the shape of ``correlations``, optional
        The entries that take part in each test. Where an image's diagonal entry takes part, so
        must the entries of its column that a permutation can bring there.

    Returns
    -------
    PermutationTest
        Statistics, null distributions and p values.

    Raises
    ------
    ShapeError
        If shapes do not belong together.
    DataError
        If a correlation is not finite, or a test has no entries on or off the diagonal.
    OptionError
        If a permutation could bring an entry to the diagonal that ``cells`` leaves out, or
        ``n_permutations`` is below 1 or above 1,000,000,000.

    Examples
    --------
    >>> result = diagonal_test(np.eye(6), n_permutations=999, seed=0)
    >>> result.statistic.tolist(), bool(result.p[0] < 0.01)
    ([1.0], True)
    """
    check_count("n_permutations", n_permutations)
    stack = np.asarray(correlations, dtype=np.float64)
    stack = stack[None] if stack.ndim == 2 else stack
    mask = (
        None
        if cells is None
        else np.asarray(cells, dtype=bool).reshape((-1, *np.shape(cells)[-2:]))
    )
    matrices, used = _matrices_and_cells(stack, mask)
    if matrices.ndim != 3:
        message = (
            "correlations must have shape (n_tests, n_images, n_images); got "
            f"{matrices.shape}. Flatten the leading axes."
        )
        raise ShapeError(message)
    if not all_finite(matrices[used]):
        test, row, column = (int(at) for at in np.argwhere(used & ~np.isfinite(matrices))[0])
        message = (
            f"correlations must be finite; test {test} holds "
            f"{matrices[test, row, column]} at ({row}, {column}). Leave that image out."
        )
        raise DataError(message)
    n_images = matrices.shape[-1]
    check_names(None if groups is None else list(groups), n_images, "group")
    on_diagonal = np.einsum("tii->ti", used)
    _check_closed(used, on_diagonal, groups)
    diagonal, total, n_diagonal, n_off = _sums(matrices, used)

    # Only columns whose own diagonal entry takes part can contribute to a permuted diagonal.
    reachable = np.where(used & on_diagonal[:, None, :], matrices, 0.0)
    entries = np.ascontiguousarray(reachable.reshape(len(matrices), -1).T)
    columns = np.arange(n_images, dtype=np.int32)
    sums = np.empty((n_permutations, len(matrices)))
    start = 0
    for chunk in permutations(n_images, n_permutations, seed, groups):
        flat = (chunk * np.int32(n_images) + columns).ravel()
        ends = np.arange(0, flat.size + 1, n_images, dtype=np.int32)
        on = sparse.csr_array(
            (np.ones(flat.size), flat, ends), shape=(len(chunk), n_images * n_images)
        )
        sums[start : start + len(chunk)] = on @ entries
        start += len(chunk)
    return PermutationTest(
        statistic=np.asarray(diagonal / n_diagonal - (total - diagonal) / n_off),
        null=sums / n_diagonal - (total - sums) / n_off,
    )


def _check_closed(
    used: NDArray[np.bool_],
    on_diagonal: NDArray[np.bool_],
    groups: Sequence[Any] | NDArray[Any] | None,
) -> None:
    """Refuse cells from which a permutation can leave: its sum would not be comparable."""
    n_images = used.shape[-1]
    labels = np.zeros(n_images) if groups is None else np.asarray(groups)
    exchanged = labels[:, None] == labels[None, :]
    left_out = np.argwhere(on_diagonal[:, None, :] & exchanged & ~used)
    if left_out.size:
        test, row, column = (int(at) for at in left_out[0])
        message = (
            f"cells of test {test} must hold entry ({row}, {column}), because a "
            f"permutation can bring it to the diagonal; it is left out. Use groups that keep "
            f"images {row} and {column} apart, or let the entry take part."
        )
        raise OptionError(message)
