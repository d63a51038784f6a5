"""Grids, masks on them, the maps between them, smoothing; images and transforms out of files."""

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
from imgtofmri.spaces.images import (
    grid_of,
    image_volumes,
    is_image,
    open_image,
    open_series,
    place,
    read_grid,
    read_image,
    reading_values,
)
from imgtofmri.spaces.maps import affine_map, fnirt_map, map_matrix, merge_matrix, nearest_map
from imgtofmri.spaces.masks import brain_mask, resample_mask
from imgtofmri.spaces.registration import map_through, map_to_template, other_space
from imgtofmri.spaces.smoothing import gaussian_kernel, roi_overlap, smoothed_mask, smoothing_matrix

__all__ = [
    "MNI152_2MM",
    "BoolArray",
    "FloatArray",
    "Grid",
    "IntArray",
    "VoxelMap",
    "affine_map",
    "brain_mask",
    "fnirt_map",
    "gaussian_kernel",
    "grid_of",
    "image_volumes",
    "is_image",
    "map_matrix",
    "map_through",
    "map_to_template",
    "merge_matrix",
    "nearest_map",
    "nearest_voxels",
    "open_image",
    "open_series",
    "other_space",
    "place",
    "read_grid",
    "read_image",
    "reading_values",
    "resample_mask",
    "roi_overlap",
    "smoothed_mask",
    "smoothing_matrix",
    "transform",
    "voxel_coordinates",
]
