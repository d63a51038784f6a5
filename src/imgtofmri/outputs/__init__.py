"""Results to files: volumes, sidecars and datasets, each written whole or not at all."""

from __future__ import annotations

from imgtofmri.outputs.folder import OutputFolder
from imgtofmri.outputs.layouts import (
    BOUNDS,
    FORMATS,
    BidsLayout,
    FormatName,
    Layout,
    NiftiLayout,
    check_distinct,
    find_layout,
)
from imgtofmri.outputs.series import SeriesWriter
from imgtofmri.outputs.volumes import Statistic, VolumeWriter, to_img

__all__ = [
    "BOUNDS",
    "FORMATS",
    "BidsLayout",
    "FormatName",
    "Layout",
    "NiftiLayout",
    "OutputFolder",
    "SeriesWriter",
    "Statistic",
    "VolumeWriter",
    "check_distinct",
    "find_layout",
    "to_img",
]
