"""Vectors without their mean and at length 1, whose inner products are correlations."""

from __future__ import annotations

import numpy as np

from imgtofmri.stats.checks import Array


def centred(values: Array, axis: int = -1) -> Array:
    """Remove the mean along an axis."""
    return np.asarray(values - values.mean(axis=axis, keepdims=True))


def unit_length(values: Array, axis: int = -1) -> Array:
    """Bring vectors along an axis to length 1; one of zeros stays."""
    lengths = np.linalg.norm(values, axis=axis, keepdims=True)
    return np.asarray(np.divide(values, lengths, out=np.zeros_like(values), where=lengths > 0))


def correlatable(values: Array, axis: int = -1) -> Array:
    """Centre vectors along an axis and bring them to length 1; one without variation is NaN."""
    vectors = centred(values, axis)
    lengths = np.linalg.norm(vectors, axis=axis, keepdims=True)
    # A vector without variation leaves rounding errors of the size of its values.
    lengths[lengths <= 1e-12 * np.linalg.norm(values, axis=axis, keepdims=True)] = np.nan
    return np.asarray(vectors / lengths)
