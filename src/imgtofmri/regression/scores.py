"""Scores of many penalties on held-out folds, from sums over rows alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.regression.design import Axes, Design, FloatArray

RealArray = npt.NDArray[np.floating[Any]]

# Voxels whose products stay in the processor's cache while penalties are gone through.
_CHUNK = 512

# A fold's sum of squares below this share of its raw sum of squares is rounding noise.
_CONSTANT = 1e-12


@dataclass(frozen=True, slots=True)
class Batch:
    """Sums over the rows of each fold for one batch of voxels.

    Attributes
    ----------
    crosses : array of shape (n_folds, n_axes, n_voxels)
        ``block.T @ responses`` of each fold, responses centred on their mean over all rows; in the
        precision of the design's blocks.
    total : array of shape (n_axes, n_voxels)
        Their sum.
    sums, squares : arrays of shape (n_folds, n_voxels)
        Sums of the centred responses and of their squares.
    mean : array of shape (n_voxels,)
        What was subtracted: the mean over all rows, but for rounding.
    """

    crosses: RealArray
    total: RealArray
    sums: FloatArray
    squares: FloatArray
    mean: FloatArray

    def take(self, columns: npt.NDArray[np.bool_]) -> Batch:
        """Return the batch of some of the voxels."""
        if columns.all():
            return self
        return Batch(
            self.crosses[:, :, columns],
            self.total[:, columns],
            self.sums[:, columns],
            self.squares[:, columns],
            self.mean[columns],
        )


def sum_batch(design: Design, responses: npt.NDArray[Any], columns: npt.NDArray[np.intp]) -> Batch:
    """Form the sums of one batch of voxels, a fold's rows at a time."""
    dtype = design.blocks[0].dtype
    n_rows = sum(len(rows) for rows in design.rows)
    mean = np.zeros(len(columns))
    for rows in design.rows:
        part = _select(responses, rows, columns)
        mean += _column_sums(part.astype(dtype, copy=False)) / n_rows
    crosses = np.empty((design.n_folds, design.n_axes, len(columns)), dtype=dtype)
    sums = np.empty((design.n_folds, len(columns)))
    squares = np.empty_like(sums)
    for fold, (block, rows) in enumerate(zip(design.blocks, design.rows, strict=True)):
        part = _select(responses, rows, columns)
        centred = np.subtract(part, mean.astype(dtype), dtype=dtype)
        np.matmul(block.T, centred, out=crosses[fold])
        sums[fold] = _column_sums(centred)
        squares[fold] = np.einsum("ij,ij->j", centred, centred)
    return Batch(crosses, crosses.sum(axis=0), sums, squares, mean)


def _select(
    responses: npt.NDArray[Any], rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
) -> npt.NDArray[Any]:
    """Return some rows and columns; consecutive ones, the usual case, without a copy."""
    chosen = [as_slice(rows), as_slice(columns)]
    if all(isinstance(part, slice) for part in chosen):
        return responses[chosen[0], chosen[1]]
    return responses[np.ix_(rows, columns)]


def _column_sums(values: RealArray) -> RealArray:
    """Sum over rows by a matrix product, several times faster than ``sum(axis=0)``."""
    sums: RealArray = np.ones(len(values), values.dtype) @ values
    return sums


def as_slice(index: npt.NDArray[np.intp]) -> slice | npt.NDArray[np.intp]:
    """Return consecutive indices as a slice, which selects without a copy; others unchanged."""
    consecutive = index[-1] - index[0] == len(index) - 1 and bool((np.diff(index) == 1).all())
    return slice(int(index[0]), int(index[-1]) + 1) if consecutive else index


@dataclass(frozen=True, slots=True)
class Rotated:
    """Cross-products on the axes of a training set, and that set's mean response.

    Attributes
    ----------
    train : array of shape (n_axes, n_voxels)
        Of the training set, about its own means.
    held_out : array of shape (n_axes, n_voxels) or None
        Of a held-out fold, about the training set's means.
    mean : array of shape (n_voxels,)
        The training set's mean response.
    """

    train: RealArray
    held_out: RealArray | None
    mean: FloatArray

    def take(self, columns: npt.NDArray[np.bool_]) -> Rotated:
        """Return the cross-products of some of the voxels."""
        if columns.all():
            return self
        held_out = None if self.held_out is None else self.held_out[:, columns]
        return Rotated(self.train[:, columns], held_out, self.mean[columns])


def rotate_train(design: Design, batch: Batch, axes: Axes, left_out: frozenset[int]) -> Rotated:
    """Return the cross-products of all folds but those left out, on the training set's axes."""
    train = design.train_folds(left_out)
    mean = batch.sums[train].sum(axis=0) / axes.n_rows
    crosses = batch.total
    for fold in left_out:
        # The first subtraction makes the copy that the others may change.
        crosses = np.subtract(
            crosses, batch.crosses[fold], out=None if crosses is batch.total else crosses
        )
    if not left_out:
        crosses = crosses.copy()
    _subtract_outer(crosses, axes.mean * axes.n_rows, mean)
    return Rotated(axes.vectors.T.astype(crosses.dtype) @ crosses, None, mean)


def rotate_held_out(
    design: Design, batch: Batch, axes: Axes, rotated: Rotated, fold: int
) -> Rotated:
    """Add the cross-products of a held-out fold on the training set's axes."""
    offset = design.sums[fold] - len(design.blocks[fold]) * axes.mean
    crosses = batch.crosses[fold].copy()
    _subtract_outer(crosses, offset, rotated.mean)
    _subtract_outer(crosses, axes.mean, batch.sums[fold])
    held_out = axes.vectors.T.astype(crosses.dtype) @ crosses
    return Rotated(rotated.train, held_out, rotated.mean)


def _subtract_outer(matrix: RealArray, rows: FloatArray, columns: FloatArray) -> None:
    """Subtract an outer product in place, a few rows at a time while they are in the cache."""
    left, right = rows.astype(matrix.dtype), columns.astype(matrix.dtype)
    for start in range(0, len(matrix), 32):
        part = slice(start, start + 32)
        matrix[part] -= np.multiply.outer(left[part], right)


def score_penalties(
    design: Design,
    batch: Batch,
    axes: Axes,
    rotated: Rotated,
    fold: int,
    alphas: FloatArray,
    starts: npt.NDArray[np.intp] | None,
) -> FloatArray:
    """Return R2 on one held-out fold for every penalty, summed over the voxels of each unit.

    Parameters
    ----------
    design, batch, axes, rotated
        The data and a training set without the fold.
    fold : int
        The fold to predict.
    alphas : array of shape (n_alphas,)
        Penalties.
    starts : array of shape (n_units,), int, or None
        Where in the batch the voxels of each unit start. None: every voxel is a unit.

    Returns
    -------
    array of shape (n_alphas, n_units)
        A voxel that does not vary within the fold counts 0, as in scikit-learn's ``r2_score``.
    """
    assert rotated.held_out is not None
    n_rows = len(design.blocks[fold])
    gram = axes.vectors.T @ design.block_gram(fold, axes.mean) @ axes.vectors
    squares = batch.squares[fold] + rotated.mean * (n_rows * rotated.mean - 2.0 * batch.sums[fold])
    inverse = _inverse_variation(batch, fold, n_rows)
    shrink = 1.0 / (axes.values + alphas[:, None])
    if starts is None:
        return _score_voxels(rotated, gram, squares, inverse, shrink)
    return _score_units(rotated, gram, squares, inverse, shrink, starts)


def _score_units(
    rotated: Rotated,
    gram: FloatArray,
    squares: FloatArray,
    inverse: FloatArray,
    shrink: FloatArray,
    starts: npt.NDArray[np.intp],
) -> FloatArray:
    """Sum R2 over the voxels of each unit; a penalty costs no pass over voxels."""
    assert rotated.held_out is not None
    train, held_out = rotated.train, rotated.held_out
    weight = inverse.astype(train.dtype)
    scores = np.empty((len(shrink), len(starts)))
    for unit, (start, stop) in enumerate(zip(starts, [*starts[1:], len(squares)], strict=True)):
        part = slice(start, stop)
        weighted = train[:, part] * np.sqrt(weight[part])
        linear = np.einsum("kv,kv->k", train[:, part] * weight[part], held_out[:, part])
        quadratic = gram * (weighted @ weighted.T)
        error = squares[part] @ inverse[part] - 2.0 * shrink @ linear
        error = error + ((shrink @ quadratic) * shrink).sum(axis=1)
        scores[:, unit] = np.count_nonzero(inverse[part]) - error
    return scores


def _score_voxels(
    rotated: Rotated,
    gram: FloatArray,
    squares: FloatArray,
    inverse: FloatArray,
    shrink: FloatArray,
) -> FloatArray:
    """Return R2 of each voxel under each penalty."""
    assert rotated.held_out is not None
    train, held_out = rotated.train, rotated.held_out
    gram, factors = gram.astype(train.dtype), shrink.astype(train.dtype)
    error = np.empty((len(shrink), len(squares)))
    for start in range(0, len(squares), _CHUNK):
        part = slice(start, start + _CHUNK)
        chunk = train[:, part]
        error[:, part] = squares[part] - 2.0 * shrink @ (chunk * held_out[:, part])
        for row, factor in zip(error, factors, strict=True):
            weights = factor[:, None] * chunk
            row[part] += np.einsum("kv,kv->v", weights, gram @ weights)
    return np.asarray(np.where(inverse > 0, 1.0 - error * inverse, 0.0))


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How well one held-out fold was predicted: arrays of shape (n_voxels,)."""

    r: FloatArray
    r2: FloatArray
    squared_error: FloatArray


def measure_accuracy(
    design: Design, batch: Batch, axes: Axes, rotated: Rotated, fold: int, alpha: FloatArray
) -> Accuracy:
    """Return correlation, R2 and summed squared error on a fold, one penalty for each voxel.

    The correlation is taken within the fold. Predictions of different folds are never pooled: a
    held-out fold's mean moves against its training set's, so that pooled predictions of pure noise
    correlate below 0.
    """
    assert rotated.held_out is not None
    n_rows = len(design.blocks[fold])
    mean = design.sums[fold] / n_rows
    response_mean = batch.sums[fold] / n_rows
    dtype = rotated.train.dtype
    weights = rotated.train / np.add.outer(axes.values.astype(dtype), alpha.astype(dtype))
    gram = axes.vectors.T @ design.block_gram(fold, mean) @ axes.vectors
    # The held-out products are about the training set's means; the correlation wants the fold's.
    from_train = (n_rows * axes.vectors.T @ (mean - axes.mean)).astype(dtype) @ weights
    covariance = np.einsum("kv,kv->v", weights, rotated.held_out)
    covariance = covariance - from_train * (response_mean - rotated.mean)
    predicted = np.einsum("kv,kv->v", weights, gram.astype(dtype) @ weights)
    predicted = np.maximum(predicted, 0.0).astype(np.float64)
    inverse = _inverse_variation(batch, fold, n_rows)
    variation = np.divide(1.0, inverse, out=np.zeros_like(inverse), where=inverse > 0)
    shift = response_mean - rotated.mean - from_train / n_rows
    error = np.maximum(variation - 2.0 * covariance + predicted + n_rows * shift**2, 0.0)
    scale = np.sqrt(predicted * variation)
    return Accuracy(
        r=np.divide(covariance, scale, out=np.zeros_like(scale), where=scale > 0),
        r2=np.where(inverse > 0, 1.0 - error * inverse, 0.0),
        squared_error=error,
    )


def _inverse_variation(batch: Batch, fold: int, n_rows: int) -> FloatArray:
    """Return 1 / (sum of squares about the fold's own mean), 0 where the fold does not vary."""
    squares = batch.squares[fold]
    variation = squares - batch.sums[fold] ** 2 / n_rows
    varies = variation > _CONSTANT * squares
    inverse: FloatArray = np.divide(1.0, variation, out=np.zeros_like(variation), where=varies)
    return inverse
