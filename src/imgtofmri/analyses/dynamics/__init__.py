"""A movie's predicted and measured dynamics compared.

- From frames to volumes: `ScanSettings`, `movie_models`, `to_volumes`, `filter_measured`,
  `check_movie_length`
- Baselines: `luma`, `motion_energy`
- All of it for a movie and its measurement: `analyse_movie`, `find_boundaries`
- Comparison: `compare_dynamics`, `boundary_effects`, `bootstrap_similarity`
- Tables: `summary_table`, `agreement_table`, `boundary_table`, `similarity_table`
"""

from __future__ import annotations

from imgtofmri.analyses.dynamics.analysis import DynamicsAnalysis, analyse_movie, find_boundaries
from imgtofmri.analyses.dynamics.baselines import (
    luma,
    motion_energy,
)
from imgtofmri.analyses.dynamics.comparison import (
    BoundaryEffects,
    RegionDynamics,
    boundary_effects,
    compare_dynamics,
)
from imgtofmri.analyses.dynamics.models import BASELINES, MovieModels, movie_models
from imgtofmri.analyses.dynamics.resampling import bootstrap_similarity
from imgtofmri.analyses.dynamics.scanner import (
    ScanSettings,
    check_movie_length,
    filter_measured,
    to_volumes,
)
from imgtofmri.analyses.dynamics.tables import (
    agreement_table,
    boundary_table,
    similarity_table,
    summary_table,
)

__all__ = [
    "BASELINES",
    "BoundaryEffects",
    "DynamicsAnalysis",
    "MovieModels",
    "RegionDynamics",
    "ScanSettings",
    "agreement_table",
    "analyse_movie",
    "bootstrap_similarity",
    "boundary_effects",
    "boundary_table",
    "check_movie_length",
    "compare_dynamics",
    "filter_measured",
    "find_boundaries",
    "luma",
    "motion_energy",
    "movie_models",
    "similarity_table",
    "summary_table",
    "to_volumes",
]
