"""Sparse matrices that move responses from a native grid to a template: affine, FNIRT, points.

A matrix that moves values has one row for each voxel of the grid it moves to.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import scipy.sparse

from imgtofmri.exceptions import DataError, ShapeError
from imgtofmri.spaces.grids import (
    FloatArray,
    Grid,
    IntArray,
    VoxelMap,
    nearest_voxels,
    transform,
    voxel_coordinates,
)

if TYPE_CHECKING:
    import nibabel as nib

# NIfTI's code of intent that FNIRT gives to coefficients of cubic splines.
_CUBIC_SPLINES = 2007


def affine_map(native: Grid, template: Grid, native_to_template_mm: FloatArray) -> VoxelMap:
    """Map a native grid to the template by nearest neighbour through an affine.

    Parameters
    ----------
    native, template : Grid
    native_to_template_mm : array of shape (4, 4)
        Native to template millimetres. The identity where both are in the same space.

    Returns
    -------
    VoxelMap
    """
    if np.shape(native_to_template_mm) != (4, 4) or not np.linalg.det(native_to_template_mm):
        message = (
            "native_to_template_mm must be an invertible matrix of shape (4, 4); got "
            f"shape {np.shape(native_to_template_mm)}. Give it as native to template millimetres."
        )
        raise ShapeError(message)
    to_native = (
        np.linalg.inv(native.affine) @ np.linalg.inv(native_to_template_mm) @ template.affine
    )
    return nearest_map(transform(to_native, voxel_coordinates(template)), native)


def fnirt_map(
    native: Grid, anatomical: Grid, field: Path, cropped_from_full: FloatArray, template: Grid
) -> VoxelMap:
    """Map a native grid to the template as 3dresample and applywarp do, by nearest neighbour.

    The native image goes to the anatomical grid first, and from there through FNIRT's field to the
    template; each step takes the nearest voxel, and the two roundings are not one.

    Parameters
    ----------
    native, anatomical, template : Grid
        The functional grid, the full T1's and the template's.
    field : Path
        FNIRT's coefficient file, template to cropped T1.
    cropped_from_full : array of shape (4, 4)
        FLIRT's matrix, full to cropped T1 (``T1_nonroi2roi.mat``).
    template : Grid

    Returns
    -------
    VoxelMap

    References
    ----------
    Andersson, Jenkinson, Smith (2007). Non-linear registration, aka spatial normalisation. FMRIB
    technical report TR07JA2.
    """
    cropped_fsl = _fnirt_coordinates(field, template)
    full_fsl = transform(np.linalg.inv(cropped_from_full), cropped_fsl)
    full_voxels = nearest_voxels(
        transform(np.linalg.inv(_fsl_affine(anatomical)), full_fsl), anatomical
    )
    reached = full_voxels >= 0
    anatomical_voxels = np.stack(
        np.unravel_index(np.where(reached, full_voxels, 0), anatomical.shape), axis=1
    )
    to_native = np.linalg.inv(native.affine) @ anatomical.affine
    native_points = transform(to_native, anatomical_voxels.astype(float))
    native_points[~reached] = -np.inf
    return nearest_map(native_points, native)


def nearest_map(native_points: FloatArray, native: Grid) -> VoxelMap:
    """Return the nearest-neighbour map, given where each template voxel lies in the native grid.

    Parameters
    ----------
    native_points : array of shape (n_template_voxels, 3)
        Native voxel coordinates, not rounded, of every template voxel in C order.
    """
    native_points = np.where(np.isfinite(native_points), native_points, -1e6)
    voxels = nearest_voxels(native_points, native)
    template = np.flatnonzero(voxels >= 0)
    return VoxelMap(
        template.astype(np.int32),
        voxels[template].astype(np.int32),
        np.ones(len(template), dtype=np.float32),
    )


def _fsl_affine(grid: Grid) -> npt.NDArray[np.float64]:
    """Return voxel indices to FSL's coordinates: scaled, the first axis flipped if det > 0."""
    scaling = np.diag([*grid.voxel_mm, 1.0])
    if np.linalg.det(grid.affine) > 0:
        scaling[0, 0] *= -1
        scaling[0, 3] = (grid.shape[0] - 1) * grid.voxel_mm[0]
    return scaling


def _fnirt_coordinates(field: Path, template: Grid) -> npt.NDArray[np.float64]:
    """Return each template voxel's FSL coordinate in the image that FNIRT registered."""
    import nibabel as nib
    from fsl.data.image import Image
    from fsl.transform import fnirt

    reference = Image(nib.Nifti1Image(np.zeros(template.shape, np.uint8), template.affine))
    # fslpy asks for the registered image too, but FSL coordinates do not depend on it.
    source = Image(nib.Nifti1Image(np.zeros((1, 1, 1), np.uint8), np.eye(4)))
    spline = fnirt.readFnirt(str(field), source, reference)
    _check_fnirt(field, spline.header, template)
    # fslpy evaluates the spline voxel by voxel; on a whole grid it is a product of one small
    # matrix for each axis, hundreds of times cheaper.
    bases = [
        _cubic_spline_basis(n_voxels, n_knots, spacing)
        for n_voxels, n_knots, spacing in zip(
            template.shape, spline.shape[:3], np.diag(spline.fieldToRefMat)[:3], strict=True
        )
    ]
    displacements = np.einsum(
        "ia,jb,kc,abcd->ijkd", *bases, np.asarray(spline.data, dtype=float), optimize=True
    )
    fsl = transform(_fsl_affine(template), voxel_coordinates(template))
    moved: npt.NDArray[np.float64] = transform(spline.refToSrcMat, fsl)
    moved += displacements.reshape(-1, 3)
    return moved


def _check_fnirt(path: Path, header: nib.Nifti1Header, template: Grid) -> None:
    """Refuse what are no cubic splines, and a field whose reference has another extent.

    FSL's coordinates count from the grid's corner, and the file does not say where that lies.
    """
    if header["intent_code"] != _CUBIC_SPLINES:
        message = (
            f"{path}: expected cubic splines, FNIRT's default (intent code {_CUBIC_SPLINES}); got "
            f"code {int(header['intent_code'])}. Give what fnirt wrote with --cout and "
            "--splineorder=3."
        )
        raise DataError(message)
    # FNIRT keeps the reference's shape where qform has its offsets.
    shape = np.array([round(float(header[f"qoffset_{axis}"])) for axis in "xyz"])
    voxel_mm = np.array([float(header[f"intent_p{axis}"]) for axis in (1, 2, 3)])
    differ = np.abs(shape * voxel_mm - template.shape * template.voxel_mm)
    if (differ > np.maximum(voxel_mm, template.voxel_mm)).any():
        message = (
            f"{path}: expected a field of the template's extent; got one of a reference of "
            f"{' x '.join(map(str, shape))} voxels of {voxel_mm[0]:g} mm, and a template of "
            f"{' x '.join(map(str, template.shape))} of {template.voxel_mm[0]:g} mm. FNIRT counts "
            "from the reference's corner: give a template on the reference's grid, in any "
            "resolution."
        )
        raise DataError(message)


def _cubic_spline_basis(n_voxels: int, n_knots: int, spacing: float) -> npt.NDArray[np.float64]:
    """Return the cubic B-spline weights of the knots along one axis, (n_voxels, n_knots).

    FNIRT's first knot lies one spacing before the first voxel, so that voxel ``x`` depends on the
    knots ``floor(x / spacing)`` to ``floor(x / spacing) + 3``.
    """
    position = np.arange(n_voxels) / spacing
    first = np.floor(position).astype(int)
    u = position - first
    weights = [
        (1 - u) ** 3 / 6,
        (3 * u**3 - 6 * u**2 + 4) / 6,
        (-3 * u**3 + 3 * u**2 + 3 * u + 1) / 6,
        u**3 / 6,
    ]
    basis = np.zeros((n_voxels, n_knots + 4))
    for offset, weight in enumerate(weights):
        basis[np.arange(n_voxels), np.minimum(first + offset, n_knots)] += weight
    return basis[:, :n_knots]


def merge_matrix(voxel_sets: Iterable[IntArray]) -> tuple[IntArray, scipy.sparse.csr_array]:
    """Return the matrix that writes the outputs of several models into one native image.

    Models are written in turn. Where a voxel already holds a value, it becomes the mean of that
    value and the new one, as the published model does it; so with three models in one voxel the
    last weighs half and the first two a quarter each.

    Parameters
    ----------
    voxel_sets : iterable of arrays of shape (n_voxels_i,)
        The flat indices that each model writes to.

    Returns
    -------
    voxels : array of shape (n_distinct,)
        The distinct flat indices, ascending.
    matrix : sparse array of shape (n_distinct, sum of n_voxels_i), float64
        Its columns are the models' outputs one after another. Each row sums to 1.
    """
    sets = [np.asarray(voxels) for voxels in voxel_sets]
    flat = np.concatenate(sets)
    share = np.ones(len(flat))
    start = 0
    for voxels in sets:
        stop = start + len(voxels)
        share[:start][np.isin(flat[:start], voxels)] *= 0.5
        share[start:stop][np.isin(voxels, flat[:start])] = 0.5
        start = stop
    distinct, rows = np.unique(flat, return_inverse=True)
    matrix = scipy.sparse.csr_array(
        (share, (rows, np.arange(len(flat)))), shape=(len(distinct), len(flat))
    )
    return distinct, matrix


def map_matrix(
    voxel_map: VoxelMap, native_voxels: IntArray
) -> tuple[IntArray, scipy.sparse.csr_array]:
    """Return the template voxels that some native voxels reach, and the matrix that fills them.

    Parameters
    ----------
    voxel_map : VoxelMap
    native_voxels : array of shape (n_native,)
        Distinct flat indices, ascending.

    Returns
    -------
    template_voxels : array of shape (n_reached,)
        Flat indices, ascending.
    matrix : sparse array of shape (n_reached, n_native), float64
    """
    kept = voxel_map.restrict(native_voxels)
    reached, rows = np.unique(kept.template, return_inverse=True)
    columns = np.searchsorted(native_voxels, kept.native)
    matrix = scipy.sparse.csr_array(
        (kept.weight.astype(float), (rows, columns)), shape=(len(reached), len(native_voxels))
    )
    return reached, matrix
