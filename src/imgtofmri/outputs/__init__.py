"""Results to files: volumes, sidecars and datasets, each written whole or not at all."""

from __future__ import annotations

from imgtofmri.outputs.layouts import FORMATS, BidsLayout, FormatName, Layout, NiftiLayout
from imgtofmri.outputs.record import RECORD_NAME, RunRecord, check_folder
from imgtofmri.outputs.series import SeriesWriter
from imgtofmri.outputs.volumes import VolumeWriter, to_img

__all__ = [
    "FORMATS",
    "RECORD_NAME",
    "BidsLayout",
    "FormatName",
    "Layout",
    "NiftiLayout",
    "RunRecord",
    "SeriesWriter",
    "VolumeWriter",
    "check_folder",
    "to_img",
]
