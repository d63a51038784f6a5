"""What each column of a layer search's table means; the reference of tables is made of it."""

from __future__ import annotations

LAYERS = {
    "subject": "the person",
    "roi": "the region",
    "layer": "the layer, with its pooling",
    "n_features": "features of the layer",
    "n_voxels": "voxels of the region",
    "median_r": "median over voxels of the correlation with held-out responses",
    "mean_r": "mean over voxels of the same",
    "r_25": "its lower quartile over voxels",
    "r_75": "its upper quartile over voxels",
    "noise_ceiling_r": "the voxels' median noise ceiling; n/a without repeats",
}
