"""A network taught to stand in for another: heads, and how well their group maps agree."""

from __future__ import annotations

from imgtofmri.distillation.heads import (
    altered_views,
    distill,
    fit_head,
    fit_ridge,
    map_agreement,
    observe,
    random_views,
    reduce_rank,
    summarise_agreement,
)

__all__ = [
    "altered_views",
    "distill",
    "fit_head",
    "fit_ridge",
    "map_agreement",
    "observe",
    "random_views",
    "reduce_rank",
    "summarise_agreement",
]
