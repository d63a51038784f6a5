"""Noise ceiling from rows in any order, each stimulus repeated as often as it was.

`imgtofmri.stats.ceiling` takes every stimulus equally often, in stacked repeats.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError

Labels = Iterable[Hashable]
FloatArray = npt.NDArray[np.float64]


def average_repeats(
    values: npt.NDArray[Any], groups: Labels
) -> tuple[FloatArray, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Average the rows of each group.

    Parameters
    ----------
    values : array of shape (n_rows, n_columns)
        One row per presentation.
    groups : sequence of length n_rows
        The stimulus of each row.

    Returns
    -------
    means : array of shape (n_groups, n_columns), float64
        In order of first appearance.
    first : array of shape (n_groups,), int
        The row in which each group first appears.
    counts : array of shape (n_groups,), int
        How often each group appears.
    """
    from scipy.sparse import csr_array

    code, n_groups = _codes(groups)
    counts = np.bincount(code, minlength=n_groups)
    first = np.unique(code, return_index=True)[1]
    average = csr_array(
        (1.0 / counts[code], (code, np.arange(len(code)))), shape=(n_groups, len(code))
    )
    return np.asarray(average @ np.asarray(values, dtype=np.float64)), first, counts


def repeat_variances(responses: npt.NDArray[Any], groups: Labels) -> tuple[FloatArray, FloatArray]:
    """Split each voxel's variance into that of the stimuli and that of the noise.

    The one-way random-effects analysis of variance for unequal numbers of repeats: noise variance
    is the mean square within stimuli; signal variance is what the mean square between stimuli
    exceeds it by, divided by the effective number of repeats.

    Parameters
    ----------
    responses : array of shape (n_rows, n_voxels)
        One row per presentation.
    groups : sequence of length n_rows
        The stimulus of each row.

    Returns
    -------
    signal_variance, noise_variance : arrays of shape (n_voxels,)
        Signal variance is never below 0.

    Raises
    ------
    DataError
        If no stimulus is repeated, or there is only one.

    Notes
    -----
    For equal numbers of repeats of equal mean this signal variance is the signal power of
    `imgtofmri.stats.noise_ceiling`, but for dividing the variance of the ``n`` stimuli's means by
    ``n - 1`` in place of ``n``. Signal power leaves out differences in mean between repeats, which
    here count as noise.

    References
    ----------
    Searle, Casella & McCulloch (1992). Variance Components, chapter 3. doi:10.1002/9780470316856
    Allen et al. (2022). A massive 7T fMRI dataset to bridge cognitive neuroscience and artificial
    intelligence. Nature Neuroscience. doi:10.1038/s41593-021-00962-x
    """
    means, _, counts = average_repeats(responses, groups)
    n_rows, n_groups = int(counts.sum()), len(counts)
    if n_groups < 2 or n_rows == n_groups:
        message = (
            "at least 2 stimuli, one of them repeated, are needed; "
            f"got {n_rows} rows of {n_groups} stimuli. Without repeats there is no noise ceiling."
        )
        raise DataError(message)
    code, _ = _codes(groups)
    within = np.square(np.asarray(responses, dtype=np.float64) - means[code]).sum(axis=0)
    grand = counts @ means / n_rows
    between = counts @ np.square(means - grand)
    noise = within / (n_rows - n_groups)
    effective = (n_rows - np.square(counts).sum() / n_rows) / (n_groups - 1)
    signal = (between / (n_groups - 1) - noise) / effective
    return np.maximum(signal, 0.0), noise


def noise_ceiling_r(
    signal_variance: npt.ArrayLike, noise_variance: npt.ArrayLike, mean_inverse_repeats: float = 1.0
) -> FloatArray:
    """Return the correlation that a perfect model of the signal would reach.

    Parameters
    ----------
    signal_variance, noise_variance : array-like of shape (n_voxels,)
        As `repeat_variances` returns them.
    mean_inverse_repeats : float
        The mean over stimuli of 1 / repeats where responses are averaged over repeats; 1 where a
        model is scored on single presentations.

    Returns
    -------
    array of shape (n_voxels,)
        Between 0 and 1: sqrt(signal / (signal + noise x mean_inverse_repeats)).

    Examples
    --------
    >>> noise_ceiling_r([1.0], [4.0], 0.25)
    array([0.70710678])
    """
    signal = np.asarray(signal_variance, dtype=np.float64)
    total = signal + np.asarray(noise_variance, dtype=np.float64) * mean_inverse_repeats
    return np.sqrt(np.divide(signal, total, out=np.zeros_like(total), where=total > 0))


def _codes(groups: Labels) -> tuple[npt.NDArray[np.intp], int]:
    """Return each row's group, numbered by first appearance, and how many groups there are."""
    seen: dict[Hashable, int] = {}
    code = np.array([seen.setdefault(group, len(seen)) for group in groups], dtype=np.intp)
    return code, len(seen)
