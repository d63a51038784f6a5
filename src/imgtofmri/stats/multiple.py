"""Many tests at once: false discovery rate and the maximum statistic.

Use the false discovery rate to list findings of which a known share may be false, and the maximum
statistic where not one false finding is wanted and the tests come from the same permutations.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError, choice_message

Tail = Literal["greater", "less", "two-sided"]
FdrMethod = Literal["bh", "by"]

#: Statistics closer than this (relative) are ties: the same sum, added in another order.
TIE_TOLERANCE = 1e-9


def fdr(p_values: ArrayLike, method: FdrMethod = "bh") -> NDArray[np.float64]:
    """Adjust p values so that ``adjusted <= q`` controls the false discovery rate at ``q``.

    Parameters
    ----------
    p_values : array of any shape
        One family of tests. NaN marks a test that could not be made: it stays NaN and does not
        count as a member of the family.
    method : {"bh", "by"}
        "bh": Benjamini and Hochberg, for independent or positively dependent tests.
        "by": Benjamini and Yekutieli, for any dependence; larger by the harmonic sum of the
        family's size.

    Returns
    -------
    adjusted : array of the same shape
        Smallest rate at which each test would be a finding, at most 1.

    Raises
    ------
    DataError
        If a p value lies outside [0, 1].
    OptionError
        If ``method`` is unknown.

    References
    ----------
    Benjamini Y, Hochberg Y (1995), doi:10.1111/j.2517-6161.1995.tb02031.x.
    Benjamini Y, Yekutieli D (2001), doi:10.1214/aos/1013699998.

    Examples
    --------
    >>> fdr([0.01, 0.02, 0.03, 0.5]).round(6).tolist()
    [0.04, 0.04, 0.04, 0.5]
    """
    from scipy.stats import false_discovery_control

    if method not in ("bh", "by"):
        raise OptionError(choice_message("", "method", method, ("bh", "by")))
    p_array = np.asarray(p_values, dtype=np.float64)
    outside = np.flatnonzero((p_array < 0) | (p_array > 1))
    if outside.size:
        message = (
            f"p_values must lie between 0 and 1; got {p_array.flat[outside[0]]:g} at position "
            f"{outside[0]}. Pass p values, not statistics."
        )
        raise DataError(message)
    tested = ~np.isnan(p_array)
    adjusted = np.full(p_array.shape, np.nan)
    adjusted[tested] = false_discovery_control(p_array[tested], method=method)
    return adjusted


def oriented(values: NDArray[np.float64], tail: Tail) -> NDArray[np.float64]:
    """Turn statistics so that larger is always more extreme in the sense of ``tail``."""
    if tail == "greater":
        return values
    if tail == "less":
        return -values
    if tail == "two-sided":
        return np.abs(values)
    raise OptionError(choice_message("", "tail", tail, ("greater", "less", "two-sided")))


def tie_threshold(extremes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the value from which a null statistic counts as being as extreme as ``extremes``.

    A relabelling that changes nothing has the observed statistic but for rounding, and must count.
    """
    return np.asarray(extremes - TIE_TOLERANCE * np.maximum(1.0, np.abs(extremes)))


def max_statistic_p(
    observed: ArrayLike,
    null: ArrayLike,
    tail: Tail = "greater",
    standardise: bool = False,
) -> NDArray[np.float64]:
    """Give p values corrected over a family by the distribution of its largest statistic.

    Parameters
    ----------
    observed : array of shape (n_tests,)
        The statistics of the data. NaN marks a test that could not be made; it stays NaN.
    null : array of shape (n_permutations, n_tests)
        The same statistics under relabellings. Row ``k`` must hold every test under the *same*
        relabelling: that is what carries the tests' dependence into the correction.
    tail : {"greater", "less", "two-sided"}
        What counts as extreme.
    standardise : bool
        Bring each test to mean 0 and standard deviation 1 first, so that a test whose null is
        wide (few images, few voxels) does not set the threshold of all. Observed and null
        statistics are pooled for it, which keeps the test exact.

    Returns
    -------
    p_max : array of shape (n_tests,)
        ``(count + 1) / (n_permutations + 1)``, where ``count`` is the number of relabellings whose
        largest statistic reaches the observed one. Controls the family-wise error.

    Raises
    ------
    ShapeError
        If the shapes do not belong together.
    OptionError
        If ``tail`` is unknown.

    References
    ----------
    Westfall PH, Young SS (1993), Resampling-Based Multiple Testing, Wiley.
    Nichols TE, Holmes AP (2002), doi:10.1002/hbm.1058.

    Examples
    --------
    >>> max_statistic_p([3.0, 0.5], [[0.1, 0.2], [1.0, 0.0], [0.3, 2.0]]).tolist()
    [0.25, 0.75]
    """
    observed_array = np.asarray(observed, dtype=np.float64)
    null_array = np.asarray(null, dtype=np.float64)
    if observed_array.ndim != 1 or null_array.shape[1:] != observed_array.shape:
        message = (
            "null must have shape (n_permutations, n_tests) for observed of shape "
            f"(n_tests,); got null {null_array.shape} and observed {observed_array.shape}. "
            "Give one row for each relabelling."
        )
        raise ShapeError(message)
    if standardise:
        observed_array, null_array = on_one_scale(observed_array, null_array)
    extremes = oriented(observed_array, tail)
    tested = np.flatnonzero(~np.isnan(extremes))
    p_max = np.full(extremes.shape, np.nan)
    if tested.size == 0:
        return p_max
    largest = np.sort(oriented(null_array[:, tested], tail).max(axis=1))
    reached = largest.size - np.searchsorted(largest, tie_threshold(extremes[tested]))
    p_max[tested] = (reached + 1) / (largest.size + 1)
    return p_max


def on_one_scale(
    observed: NDArray[np.float64], null: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bring each test to mean 0 and standard deviation 1 over the data and its relabellings.

    Parameters
    ----------
    observed : array of shape (n_tests,)
    null : array of shape (n_permutations, n_tests)

    Returns
    -------
    observed, null : arrays of the same shapes
        A test that never varies is 0 throughout.
    """
    pooled = np.vstack([observed[None], null])
    spread = pooled.std(axis=0)
    spread[spread == 0] = 1.0
    pooled = (pooled - pooled.mean(axis=0)) / spread
    return pooled[0], pooled[1:]
