"""Whether the geometry of predicted patterns, image by image, is that of the brain.

- All of it: `compare_geometry` of a prediction, its controls and measured matrices; `save_geometry`
- Further models: `layer_models`
- Its steps: `model_rdms`, `read_matrices`, `match_conditions`, `compare_models`, `control_pairs`
"""

from __future__ import annotations

from imgtofmri.analyses.rsa.analysis import GeometryComparison, check_measures, compare_geometry
from imgtofmri.analyses.rsa.comparison import (
    ModelComparison,
    best_controls,
    compare_models,
    control_pairs,
)
from imgtofmri.analyses.rsa.files import save_geometry
from imgtofmri.analyses.rsa.layers import LayerModel, check_layers, layer_models
from imgtofmri.analyses.rsa.matrices import match_conditions, model_rdms, read_matrices

__all__ = [
    "GeometryComparison",
    "LayerModel",
    "ModelComparison",
    "best_controls",
    "check_layers",
    "check_measures",
    "compare_geometry",
    "compare_models",
    "control_pairs",
    "layer_models",
    "match_conditions",
    "model_rdms",
    "read_matrices",
    "save_geometry",
]
