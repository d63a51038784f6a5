"""Predicted and measured patterns compared: matched patterns, encoding accuracy, controls."""

from __future__ import annotations

from imgtofmri.validation.accuracy import EncodingAccuracy, encoding_accuracy
from imgtofmri.validation.controls import control_accuracy, feature_control
from imgtofmri.validation.matched import MatchedPatterns, matched_patterns
from imgtofmri.validation.patterns import Patterns, mean_patterns, pair
from imgtofmri.validation.reading import Grid, read_grid, read_patterns, read_region
from imgtofmri.validation.study import Study, read_study, twinset_study
from imgtofmri.validation.tables import read_categories, read_table

__all__ = [
    "EncodingAccuracy",
    "Grid",
    "MatchedPatterns",
    "Patterns",
    "Study",
    "control_accuracy",
    "encoding_accuracy",
    "feature_control",
    "matched_patterns",
    "mean_patterns",
    "pair",
    "read_categories",
    "read_grid",
    "read_patterns",
    "read_region",
    "read_study",
    "read_table",
    "twinset_study",
]
