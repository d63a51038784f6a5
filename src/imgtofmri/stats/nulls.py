"""Statistics with their null distributions, and the columns of a table that tell of both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from imgtofmri.stats.checks import Array
from imgtofmri.stats.multiple import fdr, max_statistic_p
from imgtofmri.stats.permutation import permutation_p


@dataclass(frozen=True)
class PermutationTest:
    """A family of statistics with their null distributions; larger is more extreme.

    Attributes
    ----------
    statistic : array of shape (n_tests,)
        Of the data.
    null : array of shape (n_permutations, n_tests)
        The statistics under permutation; a row is one permutation for all tests.
    standardise : bool
        Whether ``p_max`` brings each test to mean 0 and standard deviation 1 first, as
        `max_statistic_p` does if asked.
    """

    statistic: Array
    null: Array
    standardise: bool = True

    @property
    def p(self) -> Array:
        """P value of each test, one-sided (greater): ``(count + 1) / (n_permutations + 1)``."""
        return permutation_p(self.statistic, self.null)

    @property
    def p_max(self) -> Array:
        """P value corrected over the tests by the maximum statistic."""
        return max_statistic_p(self.statistic, self.null, standardise=self.standardise)

    @property
    def null_mean(self) -> Array:
        """Mean of each null distribution."""
        return np.asarray(self.null.mean(axis=0))

    @property
    def null_sd(self) -> Array:
        """Standard deviation (population) of each null distribution."""
        return np.asarray(self.null.std(axis=0))

    @property
    def z(self) -> Array:
        """Statistic from its null's mean, in its null's standard deviations; NaN without any."""
        spread = np.where(self.null_sd > 0, self.null_sd, np.nan)
        return np.asarray((self.statistic - self.null_mean) / spread)

    def columns(self) -> dict[str, Array]:
        """Give null_mean, null_sd, z, p, p_fdr (adjusted over the tests) and p_max."""
        return {
            "null_mean": self.null_mean,
            "null_sd": self.null_sd,
            "z": self.z,
            "p": self.p,
            "p_fdr": fdr(self.p),
            "p_max": self.p_max,
        }
