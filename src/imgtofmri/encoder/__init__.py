"""The encoder: stimuli through a network, native responses, and the group's map on the template."""

from __future__ import annotations

from imgtofmri.encoder.encoder import Encoder, load_encoder
from imgtofmri.encoder.prediction import Prediction

__all__ = ["Encoder", "Prediction", "load_encoder"]
