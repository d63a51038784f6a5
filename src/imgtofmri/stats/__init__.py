"""Inference on arrays: permutation, bootstrap, noise ceiling, many tests at once."""

from __future__ import annotations

from imgtofmri.stats.multiple import fdr, max_statistic_p
from imgtofmri.stats.permutation import NullSummary, permutation_p, permutations, sign_flips

__all__ = [
    "NullSummary",
    "fdr",
    "max_statistic_p",
    "permutation_p",
    "permutations",
    "sign_flips",
]
