"""Measured data from the files that laboratories keep them in.

- Arrays of any format: `read_array`, `read_arrays`, `volume_rows`
- Images: `Mask`, `read_mask`, `read_region`, `read_image_rows`
- Tables that name stimuli: `read_stimulus_rows`, `list_images`, `read_pattern_files`,
  `read_categories`
- Patterns of responses to images: `Patterns`, `read_patterns`, `mean_patterns`, `pair`
- Responses to single presentations, out of fMRIPrep's results: `find_runs`, `estimate_responses`
- Responses to a movie: `MeasuredMovie`, `read_runs`, `save_measured`, `read_measured`
- Dissimilarity matrices: `load_rdms`, in `imgtofmri.measured.rdms`
"""

from __future__ import annotations

from imgtofmri.measured.arrays import read_array, read_arrays, volume_rows
from imgtofmri.measured.derivatives import BoldRun, design_run, estimate_responses, find_runs
from imgtofmri.measured.images import Mask, read_image_rows, read_mask, read_region
from imgtofmri.measured.movie import MeasuredMovie, read_measured, save_measured
from imgtofmri.measured.patterns import Patterns, mean_patterns, pair
from imgtofmri.measured.runs import read_runs
from imgtofmri.measured.sources import read_patterns
from imgtofmri.measured.tables import (
    PatternFile,
    StimulusRows,
    list_images,
    read_categories,
    read_pattern_files,
    read_stimulus_rows,
)

__all__ = [
    "BoldRun",
    "Mask",
    "MeasuredMovie",
    "PatternFile",
    "Patterns",
    "StimulusRows",
    "design_run",
    "estimate_responses",
    "find_runs",
    "list_images",
    "mean_patterns",
    "pair",
    "read_array",
    "read_arrays",
    "read_categories",
    "read_image_rows",
    "read_mask",
    "read_measured",
    "read_pattern_files",
    "read_patterns",
    "read_region",
    "read_runs",
    "read_stimulus_rows",
    "save_measured",
    "volume_rows",
]
