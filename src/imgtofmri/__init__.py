"""Predict the group-level fMRI response of human visual cortex to images and movies.

Start with `load_encoder`; the command line is ``imgtofmri``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

# What type checkers see; `_HOMES` is what is imported. Both name the same.
if TYPE_CHECKING:
    from imgtofmri.analyses.contrast import compute_contrast as compute_contrast
    from imgtofmri.analyses.contrast import save_contrast as save_contrast
    from imgtofmri.analyses.dynamics import compare_movie as compare_movie
    from imgtofmri.analyses.dynamics import save_dynamics as save_dynamics
    from imgtofmri.analyses.explain import plot_attribution as plot_attribution
    from imgtofmri.analyses.explain import save_attribution as save_attribution
    from imgtofmri.analyses.power import plan_scan as plan_scan
    from imgtofmri.analyses.power import save_plan as save_plan
    from imgtofmri.analyses.rsa import compare_geometry as compare_geometry
    from imgtofmri.analyses.rsa import model_rdms as model_rdms
    from imgtofmri.analyses.rsa import save_geometry as save_geometry
    from imgtofmri.analyses.select import save_selection as save_selection
    from imgtofmri.analyses.select import select_stimuli as select_stimuli
    from imgtofmri.analyses.simulate import save_simulation as save_simulation
    from imgtofmri.analyses.simulate import simulate_bold as simulate_bold
    from imgtofmri.analyses.simulate import simulate_experiment as simulate_experiment
    from imgtofmri.analyses.validate import encoding_accuracy as encoding_accuracy
    from imgtofmri.analyses.validate import matched_patterns as matched_patterns
    from imgtofmri.analyses.validate import read_comparison as read_comparison
    from imgtofmri.analyses.validate import save_validation as save_validation
    from imgtofmri.backbones import FeatureExtractor as FeatureExtractor
    from imgtofmri.backbones import load_backbone as load_backbone
    from imgtofmri.bundle import Bundle as Bundle
    from imgtofmri.bundle import read_bundle as read_bundle
    from imgtofmri.bundle import write_bundle as write_bundle
    from imgtofmri.distillation import distil_head as distil_head
    from imgtofmri.encoder import Encoder as Encoder
    from imgtofmri.encoder import Prediction as Prediction
    from imgtofmri.encoder import Settings as Settings
    from imgtofmri.encoder import StoredPrediction as StoredPrediction
    from imgtofmri.encoder import load_encoder as load_encoder
    from imgtofmri.encoder.exporting import export_store as export_store
    from imgtofmri.encoder.saving import save_prediction as save_prediction
    from imgtofmri.exceptions import ImgToFmriError as ImgToFmriError
    from imgtofmri.measured.movie import read_measured as read_measured
    from imgtofmri.training import fit_study as fit_study
    from imgtofmri.training import layer_search as layer_search
    from imgtofmri.training import save_layers as save_layers

__version__ = "1.0.0"

_HOMES = {
    "Bundle": "bundle",
    "Encoder": "encoder",
    "FeatureExtractor": "backbones",
    "ImgToFmriError": "exceptions",
    "Prediction": "encoder",
    "Settings": "encoder",
    "StoredPrediction": "encoder",
    "compare_geometry": "analyses.rsa",
    "compare_movie": "analyses.dynamics",
    "compute_contrast": "analyses.contrast",
    "distil_head": "distillation",
    "encoding_accuracy": "analyses.validate",
    "export_store": "encoder.exporting",
    "fit_study": "training",
    "layer_search": "training",
    "load_backbone": "backbones",
    "load_encoder": "encoder",
    "matched_patterns": "analyses.validate",
    "model_rdms": "analyses.rsa",
    "plan_scan": "analyses.power",
    "plot_attribution": "analyses.explain",
    "read_bundle": "bundle",
    "read_comparison": "analyses.validate",
    "read_measured": "measured.movie",
    "save_attribution": "analyses.explain",
    "save_contrast": "analyses.contrast",
    "save_dynamics": "analyses.dynamics",
    "save_geometry": "analyses.rsa",
    "save_layers": "training",
    "save_plan": "analyses.power",
    "save_prediction": "encoder.saving",
    "save_selection": "analyses.select",
    "save_simulation": "analyses.simulate",
    "save_validation": "analyses.validate",
    "select_stimuli": "analyses.select",
    "simulate_bold": "analyses.simulate",
    "simulate_experiment": "analyses.simulate",
    "write_bundle": "bundle",
}
"""Each public name, and the part of the package that it is imported from when it is first used."""

__all__ = sorted(["__version__", *_HOMES])


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import imgtofmri`` costs nothing."""
    if name not in _HOMES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return list(__all__)
