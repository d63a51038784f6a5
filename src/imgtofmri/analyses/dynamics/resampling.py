"""The similarity over time of bootstrap samples of subjects.

A sample's similarity is that of the mean of its subjects' time courses: a subject drawn twice
weighs twice. Centring patterns over voxels is linear, so it is done once; the means of many
samples are one matrix product of weights with time courses, and each sample's similarity is one
more product.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, choice_message
from imgtofmri.timeseries import similarity_matrix
from imgtofmri.timeseries.checks import time_courses

__all__ = ["bootstrap_similarity"]

Array = NDArray[np.float64]

GROUPINGS = ("data", "similarity")

# Working memory of one batch of samples.
_BATCH_BYTES = 128 * 2**20


def bootstrap_similarity(
    measured: ArrayLike, counts: ArrayLike, *, grouping: str = "data"
) -> Iterator[Array]:
    """Compute the similarity matrices of samples of subjects, in batches of bounded size.

    Parameters
    ----------
    measured : array of shape (n_subjects, n_timepoints, n_voxels)
        Time courses.
    counts : array of shape (n_samples, n_subjects)
        How often each subject was drawn, as `imgtofmri.stats.bootstrap_counts` gives it.
    grouping : {"data", "similarity"}
        As in `compare_dynamics`.

    Yields
    ------
    array of shape (n_batch, n_timepoints, n_timepoints), float64
        In the order of ``counts``.

    Raises
    ------
    ShapeError, DataError
        If the data are not as `compare_dynamics` asks.
    OptionError
        If ``grouping`` is not known.
    """
    if grouping not in GROUPINGS:
        message = choice_message("bootstrap_similarity", "grouping", grouping, GROUPINGS)
        raise OptionError(message)
    data = time_courses("bootstrap_similarity", measured, name="measured", axes=(3,), min_voxels=1)
    data = data.astype(np.float32, copy=False)
    weights = np.asarray(counts, dtype=np.float32)
    weights = weights / weights.sum(axis=1, keepdims=True)
    n_subjects, n_timepoints, n_voxels = data.shape
    if grouping == "similarity":
        each = np.stack([similarity_matrix(run) for run in data])
        each = each.reshape(n_subjects, -1)
        bytes_each = 16 * n_timepoints**2
    else:
        centred = data - data.mean(axis=2, keepdims=True)
        flat = centred.reshape(n_subjects, -1)
        bytes_each = 4 * n_timepoints * n_voxels + 24 * n_timepoints**2
    n_batch = max(1, _BATCH_BYTES // bytes_each)
    for start in range(0, len(weights), n_batch):
        part = weights[start : start + n_batch]
        if grouping == "similarity":
            yield (part.astype(np.float64) @ each).reshape(-1, n_timepoints, n_timepoints)
        else:
            means = (part @ flat).reshape(-1, n_timepoints, n_voxels)
            yield _correlate(means)


def _correlate(rows: NDArray[np.float32]) -> Array:
    """Correlate all pairs of rows, centred already, in each of a stack of matrices."""
    products: Array = np.matmul(rows, rows.swapaxes(1, 2)).astype(np.float64)
    norm = np.sqrt(np.diagonal(products, axis1=1, axis2=2))
    flat = norm == 0
    if flat.any():
        message = (
            "compare_dynamics: each measured volume must vary over voxels; got volume "
            f"{int(np.argwhere(flat)[0, 1])} with one value throughout. Remove the mean over time "
            "first, or trim that volume."
        )
        raise DataError(message)
    products /= norm[:, :, None]
    products /= norm[:, None, :]
    return products
