"""From a study, its stimuli and measured responses, to an encoder that predicts."""

from __future__ import annotations

from imgtofmri.training.check import FileReport, check_files
from imgtofmri.training.downloads import fetch_downloads
from imgtofmri.training.files import save_layers
from imgtofmri.training.fit import fit_models, fit_study
from imgtofmri.training.layers import layer_search
from imgtofmri.training.subjects import RoiData, SubjectData, load_subject

__all__ = [
    "FileReport",
    "RoiData",
    "SubjectData",
    "check_files",
    "fetch_downloads",
    "fit_models",
    "fit_study",
    "layer_search",
    "load_subject",
    "save_layers",
]
