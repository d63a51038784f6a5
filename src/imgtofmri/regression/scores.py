"""Scores of many penalties on held-out folds, from sums over rows alone.

Arrays are those of the design's engine; indices, penalties and what is returned to be compared are
NumPy's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.regression.design import Axes, Design, FloatArray
from imgtofmri.regression.engine import Array, Engine

Mask = npt.NDArray[np.bool_]

# Voxels whose products stay in the processor's cache while penalties are gone through.
_CHUNK = 512

# A fold's variation below this share of its raw sum of squares is rounding noise.
_CONSTANT = 1e-12

# That of predictions, below this share of what the axes give each: it grows with their number, by
# 1e-12 for some hundreds.
_FLAT = 1e-9


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
    sums, variation : arrays of shape (n_folds, n_voxels)
        Sums of the centred responses, and of their squared distances from the fold's own mean.
    mean : array of shape (n_voxels,)
        What was subtracted: the mean over all rows, but for rounding.
    """

    crosses: Array
    total: Array
    sums: Array
    variation: Array
    mean: Array

    def take(self, columns: Mask) -> Batch:
        """Return the batch of some of the voxels."""
        if columns.all():
            return self
        return Batch(
            self.crosses[:, :, columns],
            self.total[:, columns],
            self.sums[:, columns],
            self.variation[:, columns],
            self.mean[columns],
        )


def sum_batch(design: Design, responses: npt.NDArray[Any], columns: npt.NDArray[np.intp]) -> Batch:
    """Form the sums of one batch of voxels, a fold's rows at a time."""
    engine, xp = design.engine, design.engine.xp
    dtype = design.blocks[0].dtype
    precision = "float32" if dtype == xp.float32 else "float64"
    n_rows = sum(len(rows) for rows in design.rows)
    mean = engine.zeros((len(columns),))
    for rows in design.rows:
        part = engine.put(_select(responses, rows, columns), precision)
        mean += _column_sums(xp, part) / n_rows
    crosses = engine.zeros((design.n_folds, design.n_axes, len(columns)), dtype)
    sums = engine.zeros((design.n_folds, len(columns)))
    variation = xp.zeros_like(sums)
    shift = xp.asarray(mean, dtype=dtype)
    for fold, (block, rows) in enumerate(zip(design.blocks, design.rows, strict=True)):
        centred = engine.put(_select(responses, rows, columns), precision) - shift
        xp.matmul(block.T, centred, out=crosses[fold])
        own = _column_sums(xp, centred) / len(rows)
        # About the fold's own mean in two passes: squares about another mean, less that mean's,
        # are rounding where a fold does not vary, which single precision takes for variation.
        centred -= own
        left = xp.asarray(_column_sums(xp, centred), dtype=xp.float64) / len(rows)
        variation[fold] = engine.dot(centred, centred, axis=0)
        variation[fold] -= len(rows) * left**2
        sums[fold] = len(rows) * (left + own)
    return Batch(crosses, crosses.sum(axis=0), sums, variation, mean)


def _select(
    responses: npt.NDArray[Any], rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]
) -> npt.NDArray[Any]:
    """Return some rows and columns; consecutive ones, the usual case, without a copy."""
    chosen = [as_slice(rows), as_slice(columns)]
    if all(isinstance(part, slice) for part in chosen):
        return responses[chosen[0], chosen[1]]
    return responses[np.ix_(rows, columns)]


def _column_sums(xp: Any, values: Array) -> Array:
    """Sum over rows by a matrix product, several times faster than NumPy's ``sum(axis=0)``."""
    return xp.ones_like(values[:, 0]) @ values


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

    train: Array
    held_out: Array | None
    mean: Array

    def take(self, columns: Mask) -> Rotated:
        """Return the cross-products of some of the voxels."""
        if columns.all():
            return self
        held_out = None if self.held_out is None else self.held_out[:, columns]
        return Rotated(self.train[:, columns], held_out, self.mean[columns])


def rotate_train(design: Design, batch: Batch, axes: Axes, left_out: frozenset[int]) -> Rotated:
    """Return the cross-products of all folds but those left out, on the training set's axes."""
    xp = design.engine.xp
    train = design.train_folds(left_out)
    mean = batch.sums[train].sum(axis=0) / axes.n_rows
    crosses = batch.total
    for fold in left_out:
        # The first subtraction makes the copy that the others may change.
        crosses = xp.subtract(
            crosses, batch.crosses[fold], out=None if crosses is batch.total else crosses
        )
    if not left_out:
        crosses = xp.asarray(crosses, copy=True)
    _subtract_outer(xp, crosses, axes.mean * axes.n_rows, mean)
    return Rotated(xp.asarray(axes.vectors.T, dtype=crosses.dtype) @ crosses, None, mean)


def rotate_held_out(
    design: Design, batch: Batch, axes: Axes, rotated: Rotated, fold: int
) -> Rotated:
    """Add the cross-products of a held-out fold on the training set's axes."""
    xp = design.engine.xp
    offset = design.sums[fold] - len(design.blocks[fold]) * axes.mean
    crosses = xp.asarray(batch.crosses[fold], copy=True)
    _subtract_outer(xp, crosses, offset, rotated.mean)
    _subtract_outer(xp, crosses, axes.mean, batch.sums[fold])
    held_out = xp.asarray(axes.vectors.T, dtype=crosses.dtype) @ crosses
    return Rotated(rotated.train, held_out, rotated.mean)


def _subtract_outer(xp: Any, matrix: Array, rows: Array, columns: Array) -> None:
    """Subtract an outer product in place, a few rows at a time while they are in the cache."""
    left = xp.asarray(rows, dtype=matrix.dtype)
    right = xp.asarray(columns, dtype=matrix.dtype)
    for start in range(0, len(matrix), 32):
        part = slice(start, start + 32)
        matrix[part] -= xp.outer(left[part], right)


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
    xp = design.engine.xp
    n_rows = len(design.blocks[fold])
    gram = axes.vectors.T @ design.block_gram(fold, axes.mean) @ axes.vectors
    offset = batch.sums[fold] / n_rows - rotated.mean
    squares = batch.variation[fold] + n_rows * offset**2
    inverse = _inverse_variation(xp, batch, fold, n_rows)
    shrink = 1.0 / (axes.values + design.engine.put(alphas)[:, None])
    if starts is None:
        scores = _score_voxels(design.engine, rotated, gram, squares, inverse, shrink)
    else:
        scores = _score_units(design.engine, rotated, gram, squares, inverse, shrink, starts)
    return design.engine.host(scores)


def _score_units(
    engine: Engine,
    rotated: Rotated,
    gram: Array,
    squares: Array,
    inverse: Array,
    shrink: Array,
    starts: npt.NDArray[np.intp],
) -> Array:
    """Sum R2 over the voxels of each unit; a penalty costs no pass over voxels."""
    assert rotated.held_out is not None
    xp = engine.xp
    train, held_out = rotated.train, rotated.held_out
    weight = xp.asarray(inverse, dtype=train.dtype)
    scores = []
    for start, stop in zip(starts, [*starts[1:], len(squares)], strict=True):
        part = slice(start, stop)
        weighted = train[:, part] * xp.sqrt(weight[part])
        linear = engine.dot(train[:, part] * weight[part], held_out[:, part], axis=1)
        quadratic = gram * (weighted @ weighted.T)
        error = squares[part] @ inverse[part]
        error = error - 2.0 * shrink @ xp.asarray(linear, dtype=shrink.dtype)
        error = error + ((shrink @ quadratic) * shrink).sum(axis=1)
        scores.append(xp.count_nonzero(inverse[part]) - error)
    return xp.stack(scores, 1)


def _score_voxels(
    engine: Engine, rotated: Rotated, gram: Array, squares: Array, inverse: Array, shrink: Array
) -> Array:
    """Return R2 of each voxel under each penalty."""
    assert rotated.held_out is not None
    xp = engine.xp
    train, held_out = rotated.train, rotated.held_out
    gram, factors = xp.asarray(gram, dtype=train.dtype), xp.asarray(shrink, dtype=train.dtype)
    error = engine.zeros((len(shrink), len(squares)))
    for start in range(0, len(squares), _CHUNK):
        part = slice(start, start + _CHUNK)
        chunk = train[:, part]
        linear = xp.asarray(chunk * held_out[:, part], dtype=shrink.dtype)
        error[:, part] = squares[part] - 2.0 * shrink @ linear
        for row, factor in zip(error, factors, strict=True):
            weights = factor[:, None] * chunk
            row[part] += engine.dot(weights, gram @ weights, axis=0)
    return xp.where(inverse > 0, 1.0 - error * inverse, 0.0)


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How well one held-out fold was predicted: NumPy arrays of shape (n_voxels,)."""

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
    engine, xp = design.engine, design.engine.xp
    n_rows = len(design.blocks[fold])
    mean = design.sums[fold] / n_rows
    response_mean = batch.sums[fold] / n_rows
    weights = shrink_axes(engine, axes, rotated, alpha)
    dtype = weights.dtype
    gram = axes.vectors.T @ design.block_gram(fold, mean) @ axes.vectors
    # The held-out products are about the training set's means; the correlation wants the fold's.
    turned = n_rows * axes.vectors.T @ (mean - axes.mean)
    from_train = xp.asarray(turned, dtype=dtype) @ weights
    covariance = engine.dot(weights, rotated.held_out, axis=0)
    covariance = covariance - from_train * (response_mean - rotated.mean)
    predicted = engine.dot(weights, xp.asarray(gram, dtype=dtype) @ weights, axis=0)
    predicted = xp.asarray(xp.clip(predicted, 0.0, None), dtype=xp.float64)
    inverse = _inverse_variation(xp, batch, fold, n_rows)
    variation = _divide(xp, 1.0, inverse, inverse > 0)
    shift = response_mean - rotated.mean - from_train / n_rows
    error = xp.clip(variation - 2.0 * covariance + predicted + n_rows * shift**2, 0.0, None)
    # Of predictions that are one value throughout the fold rounding alone would correlate. It is
    # measured against what each axis gives by itself, as in their sum that may cancel.
    squares = xp.asarray(gram.diagonal() + turned**2 / n_rows, dtype=dtype)
    of_axes = engine.dot(weights * squares[:, None], weights, axis=0)
    scale = xp.sqrt(predicted * variation * (predicted > _FLAT * of_axes))
    return Accuracy(
        r=engine.host(_divide(xp, covariance, scale, scale > 0)),
        r2=engine.host(xp.where(inverse > 0, 1.0 - error * inverse, 0.0)),
        squared_error=engine.host(error),
    )


def shrink_axes(engine: Engine, axes: Axes, rotated: Rotated, alpha: FloatArray) -> Array:
    """Return weights on a training set's axes, one penalty for each voxel."""
    xp, dtype = engine.xp, rotated.train.dtype
    penalties = xp.asarray(engine.put(alpha), dtype=dtype)
    return rotated.train / (xp.asarray(axes.values, dtype=dtype)[:, None] + penalties)


def _inverse_variation(xp: Any, batch: Batch, fold: int, n_rows: int) -> Array:
    """Return 1 / (sum of squares about the fold's own mean), 0 where the fold does not vary."""
    variation = batch.variation[fold]
    squares = variation + batch.sums[fold] ** 2 / n_rows
    return _divide(xp, 1.0, variation, variation > _CONSTANT * squares)


def _divide(xp: Any, numerator: Any, denominator: Array, where: Array) -> Array:
    """Divide where asked for; 0 elsewhere."""
    return xp.where(where, numerator / xp.where(where, denominator, 1.0), 0.0)
