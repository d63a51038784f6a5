"""Images and movies predicted into a folder: volumes, tables, and a record of the run."""

from __future__ import annotations

from imgtofmri.analyses.predict.images import RunSummary, predict_images
from imgtofmri.analyses.predict.movies import predict_movies
from imgtofmri.analyses.predict.plan import Plan, plan_prediction
from imgtofmri.analyses.predict.run import check_targets, predict_into
from imgtofmri.analyses.predict.shards import merge_shards

__all__ = [
    "Plan",
    "RunSummary",
    "check_targets",
    "merge_shards",
    "plan_prediction",
    "predict_images",
    "predict_into",
    "predict_movies",
]
