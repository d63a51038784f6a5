"""Predicted and measured patterns compared: matched patterns, encoding accuracy, controls."""

from __future__ import annotations

from imgtofmri.analyses.validate.accuracy import EncodingAccuracy, encoding_accuracy
from imgtofmri.analyses.validate.comparison import Study, read_study, twinset_study
from imgtofmri.analyses.validate.features import control_accuracy, feature_control
from imgtofmri.analyses.validate.matched import MatchedPatterns, matched_patterns
from imgtofmri.measured.images import Mask, read_mask, read_region
from imgtofmri.measured.patterns import Patterns, mean_patterns, pair
from imgtofmri.measured.sources import read_patterns
from imgtofmri.measured.tables import read_categories, read_pattern_files

__all__ = [
    "EncodingAccuracy",
    "Mask",
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
    "read_mask",
    "read_pattern_files",
    "read_patterns",
    "read_region",
    "read_study",
    "twinset_study",
]
