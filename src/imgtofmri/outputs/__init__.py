"""Results to files: volumes, sidecars and datasets, each written whole or not at all."""

from __future__ import annotations

from imgtofmri.outputs.images import RunSummary, check_targets, predict_images, run_settings
from imgtofmri.outputs.layouts import FORMATS, BidsLayout, FormatName, Layout, NiftiLayout
from imgtofmri.outputs.movies import RoiMeans, predict_movies
from imgtofmri.outputs.record import RECORD_NAME, RunRecord, check_folder
from imgtofmri.outputs.series import SeriesWriter
from imgtofmri.outputs.volumes import VolumeWriter

__all__ = [
    "FORMATS",
    "RECORD_NAME",
    "BidsLayout",
    "FormatName",
    "Layout",
    "NiftiLayout",
    "RoiMeans",
    "RunRecord",
    "RunSummary",
    "SeriesWriter",
    "VolumeWriter",
    "check_folder",
    "check_targets",
    "predict_images",
    "predict_movies",
    "run_settings",
]
