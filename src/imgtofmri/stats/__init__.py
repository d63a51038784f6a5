"""Inference on arrays: permutation, bootstrap, noise ceiling, many tests at once."""

from __future__ import annotations

from imgtofmri.stats.accuracy import VoxelTest, pearson_r, permutation_pearson, r_squared
from imgtofmri.stats.bootstrap import (
    bootstrap_counts,
    bootstrap_diagonal,
    bootstrap_interval,
)
from imgtofmri.stats.ceiling import NoiseCeiling, ceiling_normalised, noise_ceiling
from imgtofmri.stats.effective import n_effective, shrunk_z
from imgtofmri.stats.explained import ExplainedVariance, explained_variance
from imgtofmri.stats.jackknife import fisher_z, jackknife_interval, pearson_interval, t_quantile
from imgtofmri.stats.matching import (
    correlation_matrix,
    diagonal_statistic,
    diagonal_test,
)
from imgtofmri.stats.multiple import fdr, max_statistic_p
from imgtofmri.stats.nulls import PermutationTest
from imgtofmri.stats.permutation import NullSummary, permutation_p, permutations, sign_flips
from imgtofmri.stats.repeats import average_repeats, noise_ceiling_r, repeat_variances

__all__ = [
    "ExplainedVariance",
    "NoiseCeiling",
    "NullSummary",
    "PermutationTest",
    "VoxelTest",
    "average_repeats",
    "bootstrap_counts",
    "bootstrap_diagonal",
    "bootstrap_interval",
    "ceiling_normalised",
    "correlation_matrix",
    "diagonal_statistic",
    "diagonal_test",
    "explained_variance",
    "fdr",
    "fisher_z",
    "jackknife_interval",
    "max_statistic_p",
    "n_effective",
    "noise_ceiling",
    "noise_ceiling_r",
    "pearson_interval",
    "pearson_r",
    "permutation_p",
    "permutation_pearson",
    "permutations",
    "r_squared",
    "repeat_variances",
    "shrunk_z",
    "sign_flips",
    "t_quantile",
]
