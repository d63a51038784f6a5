"""Plans of scans: the expected t and the power of a contrast, over runs and people.

`plan_scan` works a plan out of an experiment, an encoder and one absolute scale; `save_plan` writes
all that ``imgtofmri power`` does. `lay_out_experiment` makes an experiment of kinds of images and
numbers of trials. The arithmetic is `expect_run`, `combine_runs` and `mean_noise_share`.
"""

from __future__ import annotations

from imgtofmri.analyses.power.analysis import Plan, PowerSettings, plan_scan
from imgtofmri.analyses.power.files import save_plan
from imgtofmri.analyses.power.glm import (
    Expected,
    RunDesign,
    combine_runs,
    expect_run,
    mean_noise_share,
    noise_covariance,
    run_design,
)
from imgtofmri.analyses.power.layout import lay_out_experiment, parse_trials

__all__ = [
    "Expected",
    "Plan",
    "PowerSettings",
    "RunDesign",
    "combine_runs",
    "expect_run",
    "lay_out_experiment",
    "mean_noise_share",
    "noise_covariance",
    "parse_trials",
    "plan_scan",
    "run_design",
    "save_plan",
]
