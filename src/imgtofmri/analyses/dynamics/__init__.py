"""A movie's predicted dynamics, and compared with measured ones.

- All of it, from a movie and measured files: `compare_movie`, `save_dynamics`; without measured
  files: `predict_dynamics`
- Its parts: `movie_models`, `RunSettings`, `analyse_movie`, `predicted_dynamics`, `find_boundaries`
- The steps: `luma`, `motion_energy`, `to_volumes`, `volume_operator`, `filter_measured`,
  `ModelSeries`, `Agreement`, `compare_dynamics`, `boundary_effects`, `bootstrap_similarity`
"""

from __future__ import annotations

from imgtofmri.analyses.dynamics.analysis import DynamicsAnalysis, analyse_movie
from imgtofmri.analyses.dynamics.boundaries import find_boundaries
from imgtofmri.analyses.dynamics.comparison import (
    Agreement,
    BoundaryEffects,
    ModelSeries,
    RegionDynamics,
    bootstrap_similarity,
    boundary_effects,
    compare_dynamics,
)
from imgtofmri.analyses.dynamics.files import save_dynamics
from imgtofmri.analyses.dynamics.models import (
    BASELINES,
    MovieModels,
    luma,
    motion_energy,
    movie_models,
)
from imgtofmri.analyses.dynamics.movie import compare_movie, predict_dynamics
from imgtofmri.analyses.dynamics.predicted import PredictedDynamics, predicted_dynamics
from imgtofmri.analyses.dynamics.scan import (
    RunSettings,
    filter_measured,
    to_volumes,
    volume_operator,
)

__all__ = [
    "BASELINES",
    "Agreement",
    "BoundaryEffects",
    "DynamicsAnalysis",
    "ModelSeries",
    "MovieModels",
    "PredictedDynamics",
    "RegionDynamics",
    "RunSettings",
    "analyse_movie",
    "bootstrap_similarity",
    "boundary_effects",
    "compare_dynamics",
    "compare_movie",
    "filter_measured",
    "find_boundaries",
    "luma",
    "motion_energy",
    "movie_models",
    "predict_dynamics",
    "predicted_dynamics",
    "save_dynamics",
    "to_volumes",
    "volume_operator",
]
