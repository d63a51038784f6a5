"""P values below one over the number of permutations, from a tail fitted to the largest of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgtofmri.stats.checks import Array

#: A p value is counted where this many permutations reach the statistic, else it is fitted.
LEAST_REACHED = 10

#: With fewer permutations than this no tail is fitted.
LEAST_PERMUTATIONS = 200

#: Exceedances that the tail is fitted to, at most; a tenth of the permutations if that is less.
LARGEST = 100


def n_exceedances(n_permutations: int) -> int:
    """Return how many of the largest null statistics a tail is fitted to; 0 where it is not."""
    return min(n_permutations // 10, LARGEST) if n_permutations >= LEAST_PERMUTATIONS else 0


def exponential_tail_p(
    observed: Array, largest: Array, n_permutations: int, counted: Array, least: float = 0.0
) -> Array:
    """Replace the p values that few permutations reach by those of a fitted tail.

    Parameters
    ----------
    observed : array of shape (n_tests,)
        Statistics on a scale on which their null is not bounded, such as Fisher's z.
    largest : array of shape (n_kept, n_tests)
        The largest null statistics of each test, one more than `n_exceedances` says.
    n_permutations : int
        Out of how many.
    counted : array of shape (n_tests,)
        P values by counting.
    least : float
        The smallest p that all permutations there are would give; see
        `imgtofmri.stats.permutation.least_p`.

    Returns
    -------
    p : array of shape (n_tests,)
        ``counted`` where 10 or more permutations reach the statistic. Else
        ``k / n exp(-(observed - threshold) / m)``: the k largest null statistics lie above the
        threshold, on average by m. Never 0 nor below ``least``, and no larger than 10 permutations
        would give.

    Notes
    -----
    The generalised Pareto distribution of shape 0, with its scale by maximum likelihood
    (Knijnenburg et al. 2009; Winkler et al. 2016). The null of Fisher's z has a lighter tail, so p
    is too large rather than too small, the more the smaller it is; a shape below 0, which would fit
    better, gives p values of 0. Nothing is normal here, as it must be for Student's t of r: where
    predicted and measured responses are both log-normal, that finds p < .0001 some 20 times too
    often.

    References
    ----------
    Knijnenburg TA et al. (2009), doi:10.1093/bioinformatics/btp211.
    Winkler AM et al. (2016), doi:10.1016/j.neuroimage.2016.05.068.
    """
    k = len(largest) - 1
    ordered = np.sort(largest, axis=0)
    threshold = ordered[0]
    excess = ordered[1:].mean(axis=0) - threshold
    steps = np.divide(observed - threshold, excess, out=np.zeros_like(threshold), where=excess > 0)
    most = LEAST_REACHED / (n_permutations + 1)
    fitted = np.minimum(k / n_permutations * np.exp(-np.maximum(steps, 0.0)), most)
    use: NDArray[np.bool_] = (counted <= most) & (excess > 0)
    return np.where(use, np.maximum(fitted, max(least, np.finfo(np.float64).tiny)), counted)
