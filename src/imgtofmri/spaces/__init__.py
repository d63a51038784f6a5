"""Grids, the maps between them, smoothing, and transforms out of files."""

from __future__ import annotations

from imgtofmri.spaces.grids import (
    MNI152_2MM,
    BoolArray,
    FloatArray,
    Grid,
    IntArray,
    VoxelMap,
    nearest_voxels,
    transform,
    voxel_coordinates,
)
from imgtofmri.spaces.maps import affine_map, fnirt_map, map_matrix, merge_matrix, nearest_map
from imgtofmri.spaces.smoothing import gaussian_kernel, roi_overlap, smoothed_mask, smoothing_matrix

__all__ = [
    "MNI152_2MM",
    "BoolArray",
    "FloatArray",
    "Grid",
    "IntArray",
    "VoxelMap",
    "affine_map",
    "fnirt_map",
    "gaussian_kernel",
    "map_matrix",
    "merge_matrix",
    "nearest_map",
    "nearest_voxels",
    "roi_overlap",
    "smoothed_mask",
    "smoothing_matrix",
    "transform",
    "voxel_coordinates",
]
