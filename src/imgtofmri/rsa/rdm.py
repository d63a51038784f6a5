"""Representational dissimilarity matrices: how different each pair of response patterns is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError, choice_message
from imgtofmri.text import Brief

#: What `calculate_rdm` can measure.
DISSIMILARITIES = ("correlation", "euclidean")
"""How dissimilar two patterns can be said to be."""

#: A pattern whose spread is this small beside its size is constant but for rounding.
CONSTANT_TOLERANCE = 1e-12


@dataclass(frozen=True, eq=False, repr=False)
class RDMs(Brief):
    """A stack of dissimilarity matrices over the same conditions.

    Parameters
    ----------
    dissimilarities : array of shape (n_rdms, n_pairs), float64
        Upper triangles, row by row.
    conditions : tuple of str, length n_conditions
        What the rows and columns are; ``n_pairs = n_conditions * (n_conditions - 1) / 2``.
    names : tuple of str, length n_rdms
        What each matrix belongs to: a subject, a ROI, a model.
    measure : str
        How the dissimilarities were measured, for captions and sidecars.
    source : Path or None
        The file that they were read from.
    named : bool
        Whether conditions are names. Otherwise they are the rows' numbers, which say nothing of
        what was shown.

    Raises
    ------
    ShapeError
        If the numbers of pairs, conditions and names do not belong together.
    DataError
        If a dissimilarity is NaN or infinite, or a condition or a name comes twice.
    """

    dissimilarities: NDArray[np.float64]
    conditions: tuple[str, ...]
    names: tuple[str, ...]
    measure: str = "unknown"
    source: Path | None = None
    named: bool = True

    def __post_init__(self) -> None:
        values = np.atleast_2d(np.asarray(self.dissimilarities, dtype=np.float64))
        object.__setattr__(self, "dissimilarities", values)
        object.__setattr__(self, "conditions", tuple(str(item) for item in self.conditions))
        object.__setattr__(self, "names", tuple(str(item) for item in self.names))
        n_conditions = len(self.conditions)
        expected = (len(self.names), n_conditions * (n_conditions - 1) // 2)
        if values.shape != expected:
            message = (
                f"dissimilarities must have shape {expected} for {len(self.names)} names and "
                f"{n_conditions} conditions; got {values.shape}. Give upper triangles, row by row."
            )
            raise ShapeError(message)
        for kind, labels in (("condition", self.conditions), ("name", self.names)):
            if len(set(labels)) != len(labels):
                twice = next(label for label in labels if labels.count(label) > 1)
                message = (
                    f"each {kind} must come once; got {twice!r} {labels.count(twice)} times. "
                    "Rename or average what has the same name."
                )
                raise DataError(message)
        bad = np.argwhere(~np.isfinite(values))
        if bad.size:
            row, pair = bad[0]
            first, second = (index[pair] for index in np.triu_indices(n_conditions, 1))
            message = (
                f"dissimilarities must be finite; {self.names[row]!r} has "
                f"{values[row, pair]} between {self.conditions[first]!r} and "
                f"{self.conditions[second]!r}. Leave those conditions out."
            )
            raise DataError(message)

    @property
    def squares(self) -> NDArray[np.float64]:
        """The matrices in full, shape (n_rdms, n_conditions, n_conditions)."""
        return to_square(self.dissimilarities)

    def select(self, conditions: Sequence[str]) -> RDMs:
        """Return the same matrices over some of the conditions, in the order given.

        Raises
        ------
        DataError
            If a condition is not there.
        """
        position = {name: index for index, name in enumerate(self.conditions)}
        for name in conditions:
            if name not in position:
                raise DataError(choice_message("", "conditions", name, self.conditions[:20]))
        index = np.array([position[name] for name in conditions], dtype=np.intp)
        chosen = self.squares[:, index[:, None], index]
        return replace(self, dissimilarities=to_vector(chosen), conditions=tuple(conditions))


def n_conditions_of(n_pairs: int) -> int:
    """Return how many conditions have ``n_pairs`` pairs, or 0 if no number has.

    Examples
    --------
    >>> n_conditions_of(6), n_conditions_of(7)
    (4, 0)
    """
    n_conditions = (1 + math.isqrt(1 + 8 * n_pairs)) // 2
    return n_conditions if n_conditions * (n_conditions - 1) // 2 == n_pairs else 0


def to_square(vectors: ArrayLike) -> NDArray[np.float64]:
    """Turn upper triangles, shape (..., n_pairs), into full symmetric matrices.

    Raises
    ------
    ShapeError
        If no number of conditions has that many pairs.

    Examples
    --------
    >>> to_square([1.0, 2.0, 3.0]).tolist()
    [[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]]
    """
    values = np.asarray(vectors, dtype=np.float64)
    n_conditions = n_conditions_of(values.shape[-1])
    if n_conditions < 2:
        message = (
            "the last axis must hold n * (n - 1) / 2 pairs (1, 3, 6, 10, ...); got "
            f"{values.shape[-1]}. Give upper triangles without the diagonal."
        )
        raise ShapeError(message)
    rows, columns = np.triu_indices(n_conditions, 1)
    squares = np.zeros((*values.shape[:-1], n_conditions, n_conditions))
    squares[..., rows, columns] = values
    squares[..., columns, rows] = values
    return squares


def to_vector(squares: ArrayLike) -> NDArray[np.float64]:
    """Take the upper triangles, shape (..., n_pairs), of symmetric matrices.

    Raises
    ------
    ShapeError
        If the last two axes are not square.
    DataError
        If a matrix is not symmetric.

    Examples
    --------
    >>> to_vector([[0, 1, 2], [1, 0, 3], [2, 3, 0]]).tolist()
    [1.0, 2.0, 3.0]
    """
    values = np.asarray(squares, dtype=np.float64)
    if values.ndim < 2 or values.shape[-1] != values.shape[-2] or values.shape[-1] < 2:
        message = (
            "a dissimilarity matrix must be square with at least 2 conditions; got "
            f"shape {values.shape}. Put the conditions on the last two axes."
        )
        raise ShapeError(message)
    mirrored = np.swapaxes(values, -1, -2)
    if not np.allclose(values, mirrored, rtol=1e-6, atol=1e-9, equal_nan=True):
        worst = float(np.nanmax(np.abs(values - mirrored)))
        message = (
            "a dissimilarity matrix must be symmetric; got entries that differ from "
            f"their mirror image by {worst:g}. Average the matrix with its transpose if that is "
            "meant."
        )
        raise DataError(message)
    rows, columns = np.triu_indices(values.shape[-1], 1)
    return np.asarray(values[..., rows, columns])


def calculate_rdm(
    patterns: ArrayLike,
    method: str = "correlation",
    remove_voxel_mean: bool = True,
    conditions: Sequence[str] | None = None,
) -> NDArray[np.float64]:
    """Measure how different each pair of response patterns is.

    Parameters
    ----------
    patterns : array of shape (..., n_conditions, n_voxels)
        One pattern for each condition; leading axes (subjects, ROIs of one size) are kept.
    method : {"correlation", "euclidean"}
        "correlation": 1 - Pearson's r over voxels. "euclidean": the squared Euclidean distance
        divided by the number of voxels, rsatoolbox's convention; both are estimates that noise
        biases upwards, unlike `calculate_crossnobis`.
    remove_voxel_mean : bool
        Subtract from each voxel its mean over conditions first, so that what all conditions share
        (in vision most of the pattern) does not push every correlation towards 1. It matters for
        "correlation" only.
    conditions : sequence of str, optional
        Names for error messages.

    Returns
    -------
    dissimilarities : array of shape (..., n_pairs), float64

    Raises
    ------
    OptionError
        If ``method`` is unknown.
    ShapeError
        If there are fewer than 2 conditions, or 2 voxels for "correlation".
    DataError
        If a pattern has NaN, or is constant where a correlation is asked for.

    References
    ----------
    Walther A et al. (2016), doi:10.1016/j.neuroimage.2015.12.012.

    Examples
    --------
    >>> calculate_rdm([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], "euclidean").round(6).tolist()
    [1.0, 0.5, 0.5]
    """
    if method not in DISSIMILARITIES:
        raise OptionError(choice_message("", "method", method, DISSIMILARITIES))
    values = _checked_patterns(patterns, conditions)
    n_voxels = values.shape[-1]
    if method == "euclidean":
        # Distances do not change with the origin, and small numbers lose fewer digits.
        values = values - values.mean(axis=-2, keepdims=True)
        return _distances_from_gram(values @ np.swapaxes(values, -1, -2) / n_voxels)
    if n_voxels < 2:
        message = (
            f"a correlation needs at least 2 voxels; got {n_voxels}. Choose a "
            "larger ROI or method='euclidean'."
        )
        raise ShapeError(message)
    size = np.abs(values).max(axis=-1)
    if remove_voxel_mean:
        values = values - values.mean(axis=-2, keepdims=True)
    values = values - values.mean(axis=-1, keepdims=True)
    norms = np.linalg.norm(values, axis=-1)
    _refuse_constant(norms <= CONSTANT_TOLERANCE * size, conditions)
    values = values / norms[..., None]
    rows, columns = np.triu_indices(values.shape[-2], 1)
    correlations = values @ np.swapaxes(values, -1, -2)
    return np.asarray(1.0 - correlations[..., rows, columns])


def calculate_crossnobis(
    patterns: ArrayLike,
    noise_precision: ArrayLike | None = None,
    conditions: Sequence[str] | None = None,
) -> NDArray[np.float64]:
    """Measure squared distances between patterns without the bias of noise.

    The difference of two conditions in one repeat is multiplied with the same difference in
    another repeat, so independent noise averages to 0: a true distance of 0 is estimated as 0 on
    average (and sometimes below it).

    Parameters
    ----------
    patterns : array of shape (..., n_repeats, n_conditions, n_voxels)
        One pattern for each condition in each independent repeat (run, session).
    noise_precision : array of shape (n_voxels,) or (n_voxels, n_voxels), optional
        Inverse of the noise variance of each voxel, or of the noise covariance; with it this is
        the cross-validated Mahalanobis ("crossnobis") distance, without it the cross-validated
        Euclidean one.
    conditions : sequence of str, optional
        Names for error messages.

    Returns
    -------
    dissimilarities : array of shape (..., n_pairs), float64
        Mean over all pairs of different repeats, divided by the number of voxels.

    Raises
    ------
    ShapeError
        If there are fewer than 2 repeats or conditions, or the precision does not fit.
    DataError
        If a pattern has NaN.

    Notes
    -----
    With ``S`` the sum over ``m`` repeats ``X_r``, the cross-validated second moment is
    ``(S P S' - sum_r X_r P X_r') / (m (m - 1))``: all pairs of repeats for the price of two
    products.

    References
    ----------
    Walther A et al. (2016), doi:10.1016/j.neuroimage.2015.12.012.

    Examples
    --------
    >>> repeats = [[[0.0, 1.0], [1.0, 0.0]], [[0.0, 3.0], [1.0, 0.0]]]
    >>> calculate_crossnobis(repeats).tolist()
    [2.0]
    """
    values = np.asarray(patterns, dtype=np.float64)
    if values.ndim < 3 or values.shape[-3] < 2:
        message = (
            "patterns must have shape (n_repeats, n_conditions, n_voxels) "
            f"with at least 2 repeats; got {values.shape}. Without repeats use calculate_rdm."
        )
        raise ShapeError(message)
    values = _checked_patterns(values, conditions)
    n_repeats, n_voxels = values.shape[-3], values.shape[-1]
    values = values - values.mean(axis=-2, keepdims=True)
    weighted = _times_precision(values, noise_precision)
    total, total_weighted = values.sum(axis=-3), weighted.sum(axis=-3)
    # One flat product over repeats and voxels sums the repeats' own second moments.
    flat = np.moveaxis(values, -3, -2).reshape(*total.shape[:-1], -1)
    flat_weighted = np.moveaxis(weighted, -3, -2).reshape(*total.shape[:-1], -1)
    across = total_weighted @ np.swapaxes(total, -1, -2)
    within = flat_weighted @ np.swapaxes(flat, -1, -2)
    return _distances_from_gram((across - within) / (n_repeats * (n_repeats - 1) * n_voxels))


def _times_precision(
    values: NDArray[np.float64], noise_precision: ArrayLike | None
) -> NDArray[np.float64]:
    """Multiply patterns with the noise precision from the right."""
    if noise_precision is None:
        return values
    precision = np.asarray(noise_precision, dtype=np.float64)
    n_voxels = values.shape[-1]
    if precision.shape == (n_voxels,):
        return values * precision
    if precision.shape == (n_voxels, n_voxels):
        return np.asarray(values @ precision)
    message = (
        f"noise_precision must have shape ({n_voxels},) or "
        f"({n_voxels}, {n_voxels}), as the patterns have {n_voxels} voxels; got {precision.shape}. "
        "Estimate it on the same voxels."
    )
    raise ShapeError(message)


def _distances_from_gram(gram: NDArray[np.float64]) -> NDArray[np.float64]:
    """Turn inner products (..., n, n) into squared distances (..., n_pairs)."""
    rows, columns = np.triu_indices(gram.shape[-1], 1)
    diagonal = np.diagonal(gram, axis1=-2, axis2=-1)
    return np.asarray(
        diagonal[..., rows]
        + diagonal[..., columns]
        - gram[..., rows, columns]
        - gram[..., columns, rows]
    )


def _checked_patterns(patterns: ArrayLike, conditions: Sequence[str] | None) -> NDArray[np.float64]:
    """Return patterns as float64, refusing what no distance can be taken of."""
    values = np.asarray(patterns, dtype=np.float64)
    if values.ndim < 2 or values.shape[-2] < 2 or values.shape[-1] < 1:
        message = (
            f"patterns must have shape (..., n_conditions, n_voxels) with at least 2 "
            f"conditions; got {values.shape}. A single condition has no distances."
        )
        raise ShapeError(message)
    if conditions is not None and len(conditions) != values.shape[-2]:
        message = (
            f"conditions must name the {values.shape[-2]} patterns; got "
            f"{len(conditions)} names. Give one for each."
        )
        raise ShapeError(message)
    bad = np.argwhere(~np.isfinite(values).all(axis=-1))
    if bad.size:
        message = (
            f"patterns must be finite; condition {_label(bad[0], conditions)} has NaN or "
            "infinite voxels. Mask those voxels or leave the condition out."
        )
        raise DataError(message)
    return values


def _refuse_constant(constant: NDArray[np.bool_], conditions: Sequence[str] | None) -> None:
    """Refuse patterns that are the same in every voxel."""
    bad = np.argwhere(constant)
    if bad.size:
        message = (
            f"a correlation needs patterns that vary over voxels; condition "
            f"{_label(bad[0], conditions)} is constant (after removing the voxels' means, if "
            "asked). Leave it out or use method='euclidean'."
        )
        raise DataError(message)


def _label(index: NDArray[np.intp], conditions: Sequence[str] | None) -> str:
    """Name a condition by its label, or by its position where it has none."""
    condition = int(index[-1])
    return repr(conditions[condition]) if conditions is not None else f"number {condition}"
