"""What p is worth where the null statistics are not independent of each other.

A film can be shifted against a measurement by any number of frames, but shifts by a few frames give
almost the same statistic: a film of three minutes has a dozen that tell of different things. The
mean and the spread of the null are then known as well as those of a dozen numbers are, and p, which
takes them for known, is too small. As in Student's test, t in place of z allows for that: the
statistic is brought nearer to its null, and then counted.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from imgtofmri.stats.checks import Array

#: Fewer tell nothing of their spread.
LEAST_EFFECTIVE = 2.0


def n_effective(series: ArrayLike) -> Array:
    """Return how many independent values have a variance as uncertain as that of a series.

    Parameters
    ----------
    series : array of shape (n, ...)
        Null statistics in the order of even steps around a circle, the last being next to the
        first. NaN gives NaN.

    Returns
    -------
    array of the shape of one row
        ``n / sum(r ** 2)`` over the circular autocorrelations r at all n lags; `LEAST_EFFECTIVE` or
        more. As r is estimated, it is rather too small: one half of n for independent values.

    References
    ----------
    Bayley GV, Hammersley JM (1946). The "effective" number of independent observations in an
    autocorrelated time series. Supplement to the Journal of the Royal Statistical Society 8,
    184-197. doi:10.2307/2983560

    Examples
    --------
    >>> n_effective([1.0, 1.0, -1.0, -1.0]).item()
    2.0
    """
    values = np.asarray(series, dtype=np.float64)
    power = np.abs(np.fft.rfft(values - values.mean(axis=0), axis=0)) ** 2
    correlations = np.fft.irfft(power, n=len(values), axis=0)
    # Nothing varies where a film that is shifted agrees as well at every shift.
    largest = np.where(correlations[0] > 0, correlations[0], np.nan)
    found = len(values) / np.sum((correlations / largest) ** 2, axis=0)
    still = np.isfinite(values).all(axis=0) & np.isnan(largest)
    return np.asarray(np.where(still, LEAST_EFFECTIVE, np.maximum(found, LEAST_EFFECTIVE)))


def shrunk_z(z: ArrayLike, n: ArrayLike) -> Array:
    """Return z scores by a null of which only so many independent values are known.

    Parameters
    ----------
    z : array of any shape
        Statistics, from their null's mean in its standard deviations.
    n : array of a shape that broadcasts with z's
        Independent values of the null, as `n_effective` has them.

    Returns
    -------
    array of the shape of z and n together
        ``z / sqrt(1 + 1 / n)``, a quantile of Student's t with n - 1 degrees of freedom, as the
        normal quantile of the same probability: it is as rare as z if mean and spread of a normal
        null had been estimated. Nearer to 0 than z.

    Examples
    --------
    >>> shrunk_z(3.0, [5.0, 20.0, 1e6]).round(2).tolist()
    [1.94, 2.63, 3.0]
    """
    from scipy import stats

    values, known = np.asarray(z, dtype=np.float64), np.asarray(n, dtype=np.float64)
    # The upper tail is the one that keeps its digits.
    tails = stats.t.sf(np.abs(values) / np.sqrt(1 + 1 / known), known - 1)
    return np.asarray(np.sign(values) * stats.norm.isf(tails))
