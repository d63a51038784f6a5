"""Time courses: haemodynamics, sampling to volumes, drift, similarity over time.

Arrays in, arrays out; time runs along the first axis: ``(n_time, n_voxels)``.

- Haemodynamics: `hrf`, `held_hrf`, `convolve`
- Sampling: `volume_times`, `sample_to_volumes`, `trim`
- Drift and confounds: `remove_mean`, `cosine_basis`, `cosines`, `remove_drift`, `regress_out`
- Responses to single presentations: `trial_regressors`, `estimator_weights`, `check_shown`
- Similarity over time: `similarity_matrix`, `remove_lag_means`, `row_agreement`
- What chance gives: `Surrogates`
"""

from __future__ import annotations

from imgtofmri.timeseries.drift import cosine_basis, cosines, regress_out, remove_drift, remove_mean
from imgtofmri.timeseries.haemodynamics import (
    DEFAULT_HRF,
    HRF_NAMES,
    HrfLike,
    convolve,
    held_hrf,
    hrf,
)
from imgtofmri.timeseries.sampling import (
    RESAMPLINGS,
    Resampling,
    sample_to_volumes,
    trim,
    volume_times,
)
from imgtofmri.timeseries.similarity import remove_lag_means, row_agreement, similarity_matrix
from imgtofmri.timeseries.surrogates import SURROGATE_KINDS, SurrogateKind, Surrogates
from imgtofmri.timeseries.trials import (
    ESTIMATORS,
    HRFS,
    check_shown,
    estimator_weights,
    trial_regressors,
)

__all__ = [
    "DEFAULT_HRF",
    "ESTIMATORS",
    "HRFS",
    "HRF_NAMES",
    "RESAMPLINGS",
    "SURROGATE_KINDS",
    "HrfLike",
    "Resampling",
    "SurrogateKind",
    "Surrogates",
    "check_shown",
    "convolve",
    "cosine_basis",
    "cosines",
    "estimator_weights",
    "held_hrf",
    "hrf",
    "regress_out",
    "remove_drift",
    "remove_lag_means",
    "remove_mean",
    "row_agreement",
    "sample_to_volumes",
    "similarity_matrix",
    "trial_regressors",
    "trim",
    "volume_times",
]
