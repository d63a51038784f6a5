"""Feature extractors: frozen networks that turn images into features.

`load_backbone` gives a network with its weights, on ONNX Runtime or, after a trial, on another
engine. Weights are verified, and nothing in a weights file is executed.
"""

from __future__ import annotations

from imgtofmri.backbones.base import (
    Backbone,
    BackboneSpec,
    LayerInfo,
    MeanOverPlaces,
    Preprocessing,
    mean_grid,
)
from imgtofmri.backbones.cache import CachedBackbone, cached_backbone, features_folder
from imgtofmri.backbones.engines import Engine, Trial
from imgtofmri.backbones.extractor import FeatureExtractor
from imgtofmri.backbones.head import DistilledBackbone, Head, read_head, write_head
from imgtofmri.backbones.load import list_layers, load_backbone
from imgtofmri.backbones.names import NetworkName, Untrained, Weights
from imgtofmri.backbones.stream import BATCH_SIZE, FeatureBatch, stream_features
from imgtofmri.backbones.trial import EngineWarning, Judge, admitted
from imgtofmri.backbones.weights import UnverifiedWeightsWarning, fetch_weights

__all__ = [
    "BATCH_SIZE",
    "Backbone",
    "BackboneSpec",
    "CachedBackbone",
    "DistilledBackbone",
    "Engine",
    "EngineWarning",
    "FeatureBatch",
    "FeatureExtractor",
    "Head",
    "Judge",
    "LayerInfo",
    "MeanOverPlaces",
    "NetworkName",
    "Preprocessing",
    "Trial",
    "Untrained",
    "UnverifiedWeightsWarning",
    "Weights",
    "admitted",
    "cached_backbone",
    "features_folder",
    "fetch_weights",
    "list_layers",
    "load_backbone",
    "mean_grid",
    "read_head",
    "stream_features",
    "write_head",
]
