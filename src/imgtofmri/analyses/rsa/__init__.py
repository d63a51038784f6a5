"""Predicted and measured representational geometry compared."""

from __future__ import annotations

from imgtofmri.analyses.rsa.geometry import (
    GeometryComparison,
    compare_geometry,
    control_pairs,
    match_conditions,
    model_rdms,
)

__all__ = [
    "GeometryComparison",
    "compare_geometry",
    "control_pairs",
    "match_conditions",
    "model_rdms",
]
