"""The encoder: stimuli through a network, native responses, and the group's map on the template."""

from __future__ import annotations

from imgtofmri.encoder.atlas import Atlas
from imgtofmri.encoder.attribution import Attribution, Attributor
from imgtofmri.encoder.controls import Control, Controls
from imgtofmri.encoder.encoder import Encoder, load_encoder
from imgtofmri.encoder.prediction import Prediction, concatenate
from imgtofmri.encoder.predictor import Predictor
from imgtofmri.encoder.provenance import Provenance
from imgtofmri.encoder.settings import Settings
from imgtofmri.encoder.stored import StoredPrediction

__all__ = [
    "Atlas",
    "Attribution",
    "Attributor",
    "Control",
    "Controls",
    "Encoder",
    "Prediction",
    "Predictor",
    "Provenance",
    "Settings",
    "StoredPrediction",
    "concatenate",
    "load_encoder",
]
