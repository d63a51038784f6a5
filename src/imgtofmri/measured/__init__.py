"""Measured responses, masks and tables from the files that laboratories keep them in."""

from __future__ import annotations

from imgtofmri.measured.arrays import read_array, read_arrays
from imgtofmri.measured.derivatives import BoldRun, estimate_responses, find_runs
from imgtofmri.measured.images import read_image_rows, read_mask
from imgtofmri.measured.tables import StimulusRows, list_images, read_stimulus_rows

__all__ = [
    "BoldRun",
    "StimulusRows",
    "estimate_responses",
    "find_runs",
    "list_images",
    "read_array",
    "read_arrays",
    "read_image_rows",
    "read_mask",
    "read_stimulus_rows",
]
