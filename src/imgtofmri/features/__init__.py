"""Stimuli through a backbone: in order, in batches, once.

- `stream_features`, `FeatureBatch`: frames to features while later ones are being decoded.
- `cached_backbone`, `features_folder`: features kept on disk, each picture computed once.
"""

from __future__ import annotations

from imgtofmri.features.cache import CachedBackbone, cached_backbone, features_folder
from imgtofmri.features.stream import BATCH_SIZE, FeatureBatch, FrameBackbone, stream_features

__all__ = [
    "BATCH_SIZE",
    "CachedBackbone",
    "FeatureBatch",
    "FrameBackbone",
    "cached_backbone",
    "features_folder",
    "stream_features",
]
