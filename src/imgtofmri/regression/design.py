"""The side of a regression that does not depend on the responses: blocks, Gram matrices, axes.

Cross-validation fits the same features again and again on overlapping sets of rows. Gram matrices
add up over rows, so those of each fold are computed once and every training set's is a sum; its
eigenvectors serve all penalties and all voxels. Arrays are those of the design's engine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.regression.engine import NUMPY, Array, Engine

FloatArray = npt.NDArray[np.float64]

# Eigenvalues below this share of the largest are rounding noise of the Gram matrix.
_RANK_TOLERANCE = 1e-13

# What rounding makes of a number, as a share of it.
_EPSILON = 2.2e-16


@dataclass(frozen=True, slots=True)
class Axes:
    """Principal axes of one training set, on which ridge shrinks each coordinate by itself.

    Those along which its rows vary: ``n_axes`` is not above that of the design.
    """

    values: Array
    vectors: Array
    mean: Array
    n_rows: int


@dataclass(frozen=True, slots=True)
class Design:
    """Features ready for cross-validated ridge.

    Attributes
    ----------
    engine : Engine
        What the arrays belong to.
    blocks : tuple of arrays of shape (n_rows of the fold, n_axes)
        Features of each fold, centred on the mean over all rows; float32 if asked for, while
        everything else is float64.
    rows : tuple of NumPy arrays of int
        Which rows of the input each block holds.
    grams : array of shape (n_folds, n_axes, n_axes)
        ``block.T @ block`` of each fold.
    sums : array of shape (n_folds, n_axes)
        Column sums of each block.
    feature_mean : NumPy array of shape (n_features,)
        What was subtracted.
    basis : array of shape (n_features, n_axes) or None
        Turns weights on the axes into weights on the features; None where they are the same.
    """

    engine: Engine
    blocks: tuple[Array, ...]
    rows: tuple[npt.NDArray[np.intp], ...]
    grams: Array
    sums: Array
    feature_mean: FloatArray
    basis: Array | None
    _axes: dict[frozenset[int], Axes] = field(default_factory=dict, repr=False, compare=False)

    @property
    def n_folds(self) -> int:
        """How many folds there are."""
        return len(self.blocks)

    @property
    def n_axes(self) -> int:
        """How many columns the blocks have."""
        return int(self.grams.shape[1])

    def train_folds(self, left_out: frozenset[int]) -> list[int]:
        """Return the folds that are not left out."""
        return [fold for fold in range(self.n_folds) if fold not in left_out]

    def axes(self, left_out: frozenset[int], keep: bool = True) -> Axes:
        """Return the principal axes of all folds but those left out, kept for the next call."""
        if left_out not in self._axes:
            xp = self.engine.xp
            train = self.train_folds(left_out)
            n_rows = sum(len(self.blocks[fold]) for fold in train)
            total = self.sums[train].sum(axis=0)
            gram = self.grams[train].sum(axis=0)
            rounding = float(xp.linalg.norm(gram)) * _EPSILON
            values, vectors = xp.linalg.eigh(gram - xp.outer(total, total) / n_rows)
            # Along others the rows do not vary: what single precision leaves of their products
            # with responses would be divided by the penalty alone.
            kept = values > rounding
            kept[: max(len(values) - n_rows + 1, 0)] = False
            axes = Axes(values[kept], vectors[:, kept], total / n_rows, n_rows)
            if not keep:
                return axes
            self._axes[left_out] = axes
        return self._axes[left_out]

    def block_gram(self, fold: int, origin: Array) -> Array:
        """Return the Gram matrix of a fold's features taken relative to ``origin``."""
        xp = self.engine.xp
        cross = xp.outer(self.sums[fold], origin)
        n_rows = len(self.blocks[fold])
        return self.grams[fold] - cross - cross.T + n_rows * xp.outer(origin, origin)


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What a fit will allocate, in bytes, and the batch of voxels that keeps it there.

    Attributes
    ----------
    n_voxels_batch : int
        How many voxels are worked on at a time.
    fixed_bytes, batch_bytes, result_bytes : int
        For the features, for one batch, and for the weights and scores.
    keep_axes : bool
        Whether the axes of all training sets are kept, or computed again for each batch.
    keep_rotations : bool
        Whether the products of one pass over the voxels are kept for the next.
    """

    n_voxels_batch: int
    fixed_bytes: int
    batch_bytes: int
    result_bytes: int
    keep_axes: bool
    keep_rotations: bool

    @property
    def peak_bytes(self) -> int:
        """The most that is held at once, beyond the caller's features and responses."""
        return self.fixed_bytes + self.batch_bytes + self.result_bytes


def plan_memory(
    n_rows: int,
    n_features: int,
    n_voxels: int,
    *,
    n_alphas: int = 10,
    n_folds: int = 5,
    nested: bool = True,
    max_bytes: int = 1_500_000_000,
) -> MemoryPlan:
    """Choose the batch of voxels with which a fit stays below a limit.

    Parameters
    ----------
    n_rows, n_features, n_voxels : int
        The sizes of the data.
    n_alphas : int
        How many penalties there are to choose from.
    n_folds : int
        Folds of the cross-validation.
    nested : bool
        Whether penalties are chosen anew for each held-out fold.
    max_bytes : int
        The most to hold at once, beyond the features and responses themselves.

    Returns
    -------
    MemoryPlan
        The batch and the bytes.

    Raises
    ------
    OptionError
        If a batch of 64 voxels does not fit.

    Examples
    --------
    >>> plan_memory(4916, 512, 7059).n_voxels_batch
    7059
    """
    n_axes = min(n_rows - 1, n_features)
    square = 8 * n_axes * n_axes
    largest_fold = -(-n_rows // n_folds)
    fixed = 8 * n_rows * n_axes + square * (n_folds + 6)
    if n_axes < n_features:
        fixed += 8 * n_features * n_axes
    n_choices = 1 + n_folds * nested
    result = 4 * n_voxels * (n_features + 16) + 8 * n_voxels * n_alphas * (3 * n_choices + 3)
    n_axes_sets = 1 + n_folds + (n_folds * (n_folds - 1) // 2 if nested else 0)
    keep = fixed + result + square * n_axes_sets <= max_bytes // 2
    fixed += square * (n_axes_sets if keep else 1)
    # The sums of each fold, and what one step works on; then the rotations of each fold.
    per_voxel = 8 * ((n_folds + 6) * n_axes + 2 * largest_fold + 2 * n_features)
    rotations = 16 * n_folds * n_axes
    room = max_bytes - fixed - result
    keep_rotations = n_voxels * (per_voxel + rotations) <= room
    batch = min(n_voxels, room // per_voxel)
    if batch < min(64, n_voxels):
        needed = fixed + result + 64 * per_voxel
        message = (
            f"the fit needs at least {needed / 1e6:,.1f} MB for {n_rows} stimuli x "
            f"{n_features} features x {n_voxels} voxels; the limit is {max_bytes / 1e6:,.1f} MB. "
            "Raise max_bytes (fit.max_memory_gb in a study), or fit fewer features or voxels at a "
            "time."
        )
        raise OptionError(message)
    per_voxel += rotations * keep_rotations
    return MemoryPlan(batch, fixed, batch * per_voxel, result, keep, keep_rotations)


def prepare_design(
    features: npt.NDArray[Any],
    folds: npt.NDArray[np.intp],
    scales: FloatArray | None = None,
    dtype: str = "float64",
    engine: Engine = NUMPY,
) -> Design:
    """Centre features, split them into folds and form the Gram matrices.

    Where there are more features than rows the features are expressed on an orthonormal basis of
    the rows' span. Ridge does not see the difference (it is invariant to rotation), and everything
    after works on ``n_rows`` columns: the dual form.

    Parameters
    ----------
    features : array of shape (n_rows, n_features)
        One row per response.
    folds : array of shape (n_rows,), int
        Fold of each row, numbered from 0.
    scales : array of shape (n_features,), optional
        Multiplies each feature, as banded ridge does.
    dtype : {"float32", "float64"}
        Precision of the blocks, and with it of products with responses.
    engine : Engine
        What to work with.

    Returns
    -------
    Design
        Everything that does not depend on responses or penalties.

    Raises
    ------
    ShapeError
        If the shapes do not match.
    DataError
        If a feature is not finite, or a fold has fewer than 2 rows.
    """
    values = np.asarray(features)
    if values.ndim != 2 or len(values) != len(folds):
        message = (
            f"features must have shape (n_stimuli, n_features) with one row for each of "
            f"the {len(folds)} fold labels; got {values.shape}. "
            "Give features and folds in the same order."
        )
        raise ShapeError(message)
    sizes = np.bincount(folds)
    if len(sizes) < 2 or sizes.min() < 2:
        message = (
            f"at least 2 folds of 2 rows each are needed; got folds of {sizes.tolist()} "
            "rows. Use fewer folds or more stimuli."
        )
        raise DataError(message)
    mean = values.mean(axis=0, dtype=np.float64)
    if not np.isfinite(mean).all():
        row, column = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
        message = (
            f"features must be finite; row {row}, feature {column} is "
            f"{values[row, column]}. Check the images and the backbone, or leave the row out."
        )
        raise DataError(message)
    rows = tuple(np.flatnonzero(folds == fold) for fold in range(len(sizes)))
    centred = values.astype(np.float64)
    centred -= mean
    if scales is not None:
        centred *= scales
    xp = engine.xp
    whole, basis = engine.put(centred), None
    del centred
    if whole.shape[0] <= whole.shape[1]:
        whole, basis = _rotate_into_span(xp, whole)
    if scales is not None:
        factors = engine.put(scales)
        basis = xp.diag(factors) if basis is None else factors[:, None] * basis
    blocks = [whole[index] for index in rows]
    grams = xp.stack([block.T @ block for block in blocks])
    sums = xp.stack([block.sum(axis=0) for block in blocks])
    kind = getattr(xp, dtype)
    return Design(
        engine,
        tuple(xp.asarray(block, dtype=kind) for block in blocks),
        rows,
        grams,
        sums,
        mean,
        basis,
    )


def _rotate_into_span(xp: Any, centred: Array) -> tuple[Array, Array]:
    """Return coordinates (n_rows, rank) and basis (n_features, rank) whose product is the input."""
    values, vectors = xp.linalg.eigh(centred @ centred.T)
    kept = values > max(float(values[-1]), 1.0e-300) * _RANK_TOLERANCE * len(values)
    if int(kept.sum()) >= len(values) - 1:
        singular, vectors = xp.sqrt(values[kept]), vectors[:, kept]
        return vectors * singular, centred.T @ (vectors / singular)
    # More than the mean is missing: rows that are equal, or features that a much larger one hides
    # in products, but not from this, which takes longer.
    vectors, singular, basis = xp.linalg.svd(centred, full_matrices=False)
    kept = singular > max(float(singular[0]), 1.0e-150) * _EPSILON * len(singular)
    return vectors[:, kept] * singular[kept], basis[kept].T
