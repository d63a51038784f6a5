"""From voxels of MNI152 to the vertices of a cortical surface.

fsaverage lies in MNI305, some two millimetres from where the same cortex is in MNI152. Its vertices
are therefore not looked up where its meshes say, but where registration fusion found them in
MNI152: the mean over 1,490 people of where each vertex comes to lie (Wu et al. 2018, "Accurate
nonlinear mapping between MNI volumetric and FreeSurfer surface coordinate systems", Human Brain
Mapping 39, doi:10.1002/hbm.24213; RF-ANTs).
"""

from __future__ import annotations

from importlib import resources

import numpy as np
import numpy.typing as npt
import scipy.sparse

from imgtofmri.spaces.grids import BoolArray, FloatArray, transform

FSAVERAGE5_VERTICES = 10242
"""Of a hemisphere; the first of fsaverage's 163,842."""

SCALE = 100
"""The table is kept in hundredths of a millimetre."""

LEAST_WEIGHT = 0.5
"""How much of a vertex' weight must lie on known voxels: with less, the vertex has no value."""


def fsaverage5_places() -> dict[str, npt.NDArray[np.float64]]:
    """Return where fsaverage5's vertices lie in MNI152.

    Returns
    -------
    dict of hemi ("L", "R") to array of shape (10242, 3)
        Millimetres of MNI152NLin6Asym, RAS+.
    """
    with (resources.files(__package__) / "data" / "fsaverage5.npz").open("rb") as file:
        table = np.load(file, allow_pickle=False)
        return {hemi: table[hemi] / SCALE for hemi in ("L", "R")}


def sampling_matrix(
    places_mm: FloatArray, known: BoolArray, affine: FloatArray
) -> scipy.sparse.csr_array:
    """Return the matrix from known voxels to values at points, by trilinear interpolation.

    The weights of a point's eight neighbours are kept where these are known, and made to sum to 1
    again, so that the edge of what is known is not mixed with zeros from outside.

    Parameters
    ----------
    places_mm : array of shape (n_points, 3)
    known : array of shape (X, Y, Z), bool
        The voxels that have values.
    affine : array of shape (4, 4)
        Voxel indices to millimetres.

    Returns
    -------
    sparse array of shape (n_points, n_known), float32
        A point whose known neighbours have less than `LEAST_WEIGHT` has an empty row.
    """
    index = transform(np.linalg.inv(affine), places_mm)
    low = np.floor(index).astype(np.int64)
    share = index - low
    column_of = np.full(known.shape, -1)
    column_of[known] = np.arange(known.sum())
    rows, columns, weights = [], [], []
    for corner in np.ndindex(2, 2, 2):
        voxel = low + corner
        weight = np.where(corner, share, 1 - share).prod(axis=1)
        inside = ((voxel >= 0) & (voxel < known.shape)).all(axis=1)
        column = np.full(len(voxel), -1)
        column[inside] = column_of[tuple(voxel[inside].T)]
        taken = np.flatnonzero((column >= 0) & (weight > 0))
        rows.append(taken)
        columns.append(column[taken])
        weights.append(weight[taken])
    row, column, weight = map(np.concatenate, (rows, columns, weights))
    total = np.bincount(row, weight, minlength=len(index))
    kept = total[row] >= LEAST_WEIGHT
    entries = ((weight / total[row])[kept].astype(np.float32), (row[kept], column[kept]))
    return scipy.sparse.coo_array(entries, shape=(len(index), int(known.sum()))).tocsr()


def sample(
    matrix: scipy.sparse.csr_array, maps: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return values at points, NaN where nothing is known.

    Parameters
    ----------
    matrix : sparse array of shape (n_points, n_known)
        Of `sampling_matrix`.
    maps : array of shape (n_maps, n_known)

    Returns
    -------
    array of shape (n_maps, n_points), float32
    """
    values = np.array((matrix @ np.ascontiguousarray(maps.T)).T, dtype=np.float32)
    values[:, np.diff(matrix.indptr) == 0] = np.nan
    return values
