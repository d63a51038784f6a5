"""Ridge regression from features to voxels, with cross-validation that shares its work.

- `fit_ridge`: weights, penalties and cross-validated accuracy for any number of voxels.
- `sample_band_scales`: candidates for banded ridge, one penalty per layer.
- `grouped_folds`, `check_folds`, `merge_duplicates`: folds that no repeated stimulus straddles.
- `plan_memory`: what a fit will need, before it starts.
- `open_engine`, `engine_problem`: NumPy, or PyTorch on one of its devices.
"""

from __future__ import annotations

from imgtofmri.regression.checks import check_responses, invalid_voxels
from imgtofmri.regression.design import MemoryPlan, plan_memory
from imgtofmri.regression.engine import ENGINES, engine_problem, open_engine
from imgtofmri.regression.folds import check_folds, grouped_folds, merge_duplicates
from imgtofmri.regression.ridge import RidgeFit, fit_ridge, sample_band_scales

__all__ = [
    "ENGINES",
    "MemoryPlan",
    "RidgeFit",
    "check_folds",
    "check_responses",
    "engine_problem",
    "fit_ridge",
    "grouped_folds",
    "invalid_voxels",
    "merge_duplicates",
    "open_engine",
    "plan_memory",
    "sample_band_scales",
]
