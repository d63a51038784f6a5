"""The description of a study: one readable file, checked whole before anything is loaded."""

from __future__ import annotations

from imgtofmri.training.study.document import CACHE_PREFIX, cached_file, is_awaited
from imgtofmri.training.study.parse import read_study
from imgtofmri.training.study.settings import (
    ArraySource,
    BackboneSettings,
    DerivativesSettings,
    Download,
    FitSettings,
    MaskSource,
    RoiSettings,
    StimuliSettings,
    Study,
    SubjectSettings,
    TemplateSettings,
    TransformSettings,
)

__all__ = [
    "CACHE_PREFIX",
    "ArraySource",
    "BackboneSettings",
    "DerivativesSettings",
    "Download",
    "FitSettings",
    "MaskSource",
    "RoiSettings",
    "StimuliSettings",
    "Study",
    "SubjectSettings",
    "TemplateSettings",
    "TransformSettings",
    "cached_file",
    "is_awaited",
    "read_study",
]
