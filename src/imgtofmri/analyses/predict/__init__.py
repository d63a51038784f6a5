"""Images and movies predicted into a folder: volumes, tables, and a record of the run."""

from __future__ import annotations

from imgtofmri.analyses.predict.images import (
    BOUNDS,
    RunSummary,
    check_targets,
    predict_images,
)
from imgtofmri.analyses.predict.movies import RoiMeans, predict_movies

__all__ = [
    "BOUNDS",
    "RoiMeans",
    "RunSummary",
    "check_targets",
    "predict_images",
    "predict_movies",
]
