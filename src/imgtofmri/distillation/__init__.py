"""Distil a head: a student network learns to estimate a teacher's features."""

from __future__ import annotations

from imgtofmri.distillation.agreement import correlate_maps, summarise_agreement
from imgtofmri.distillation.emulate import distil_head
from imgtofmri.distillation.heads import fit_head, observe
from imgtofmri.distillation.views import random_views

__all__ = [
    "correlate_maps",
    "distil_head",
    "fit_head",
    "observe",
    "random_views",
    "summarise_agreement",
]
