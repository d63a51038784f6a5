"""Scores of many penalties on held-out folds, from sums over rows alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.regression.design import Axes, Design, FloatArray

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
        ``block.T @ responses`` of each fold, responses centred on their mean over all rows.
    total : array of shape (n_axes, n_voxels)
        Their sum.
    sums, squares : arrays of shape (n_folds, n_voxels)
        Sums of the centred responses and of their squares.
    mean : array of shape (n_voxels,)
        What was subtracted.
    """

    crosses: FloatArray
    total: FloatArray
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
    n_rows = sum(len(rows) for rows in design.rows)
    mean = np.zeros(len(columns))
    for rows in design.rows:
        mean += responses[np.ix_(rows, columns)].sum(axis=0, dtype=np.float64) / n_rows
    crosses = np.empty((design.n_folds, design.n_axes, len(columns)))
    sums = np.empty((design.n_folds, len(columns)))
    squares = np.empty_like(sums)
    for fold, (block, rows) in enumerate(zip(design.blocks, design.rows, strict=True)):
        centred = responses[np.ix_(rows, columns)] - mean
        np.matmul(block.T, centred, out=crosses[fold])
        sums[fold] = centred.sum(axis=0)
        squares[fold] = np.einsum("ij,ij->j", centred, centred)
    return Batch(crosses, crosses.sum(axis=0), sums, squares, mean)


@dataclass(frozen=True, slots=True)
class Rotated:
    """A training set's cross-products on its own axes, and its mean response."""

    crosses: FloatArray
    mean: FloatArray


def rotate(design: Design, batch: Batch, axes: Axes, left_out: frozenset[int]) -> Rotated:
    """Return the cross-products of all folds but those left out, on the training set's axes."""
    train = design.train_folds(left_out)
    mean = batch.sums[train].sum(axis=0) / axes.n_rows
    crosses = batch.total - np.outer(axes.mean * axes.n_rows, mean)
    for fold in left_out:
        crosses -= batch.crosses[fold]
    return Rotated(axes.vectors.T @ crosses, mean)


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
    n_rows = len(design.blocks[fold])
    offset = design.sums[fold] - n_rows * axes.mean
    held_out = batch.crosses[fold] - np.outer(offset, rotated.mean)
    held_out -= np.outer(axes.mean, batch.sums[fold])
    crosses = axes.vectors.T @ held_out
    gram = axes.vectors.T @ design.block_gram(fold, axes.mean) @ axes.vectors
    squares = batch.squares[fold] + rotated.mean * (n_rows * rotated.mean - 2.0 * batch.sums[fold])
    inverse = _inverse_variation(batch, fold, n_rows)
    shrink = 1.0 / (axes.values + alphas[:, None])
    if starts is None:
        return _score_voxels(rotated.crosses, crosses, gram, squares, inverse, shrink)
    return _score_units(rotated.crosses, crosses, gram, squares, inverse, shrink, starts)


def _score_units(
    train: FloatArray,
    held_out: FloatArray,
    gram: FloatArray,
    squares: FloatArray,
    inverse: FloatArray,
    shrink: FloatArray,
    starts: npt.NDArray[np.intp],
) -> FloatArray:
    """Sum R2 over the voxels of each unit; a penalty costs no pass over voxels."""
    scores = np.empty((len(shrink), len(starts)))
    for unit, (start, stop) in enumerate(zip(starts, [*starts[1:], len(squares)], strict=True)):
        part = slice(start, stop)
        weighted = train[:, part] * np.sqrt(inverse[part])
        linear = np.einsum("kv,kv->k", train[:, part] * inverse[part], held_out[:, part])
        quadratic = gram * (weighted @ weighted.T)
        error = squares[part] @ inverse[part] - 2.0 * shrink @ linear
        error = error + ((shrink @ quadratic) * shrink).sum(axis=1)
        scores[:, unit] = np.count_nonzero(inverse[part]) - error
    return scores


def _score_voxels(
    train: FloatArray,
    held_out: FloatArray,
    gram: FloatArray,
    squares: FloatArray,
    inverse: FloatArray,
    shrink: FloatArray,
) -> FloatArray:
    """Return R2 of each voxel under each penalty."""
    error = np.empty((len(shrink), len(squares)))
    for start in range(0, len(squares), _CHUNK):
        part = slice(start, start + _CHUNK)
        chunk = train[:, part]
        error[:, part] = squares[part] - 2.0 * shrink @ (chunk * held_out[:, part])
        for row, factor in zip(error, shrink, strict=True):
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
    n_rows = len(design.blocks[fold])
    mean = design.sums[fold] / n_rows
    response_mean = batch.sums[fold] / n_rows
    weights = rotated.crosses / (axes.values[:, None] + alpha)
    cross = axes.vectors.T @ (batch.crosses[fold] - np.outer(mean, batch.sums[fold]))
    gram = axes.vectors.T @ design.block_gram(fold, mean) @ axes.vectors
    covariance = np.einsum("kv,kv->v", weights, cross)
    predicted = np.maximum(np.einsum("kv,kv->v", weights, gram @ weights), 0.0)
    inverse = _inverse_variation(batch, fold, n_rows)
    variation = np.divide(1.0, inverse, out=np.zeros_like(inverse), where=inverse > 0)
    shift = response_mean - rotated.mean - (axes.vectors.T @ (mean - axes.mean)) @ weights
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
