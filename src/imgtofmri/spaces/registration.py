"""The way from a subject's grid to the template's, out of the files of any registration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgtofmri.documents import read_text
from imgtofmri.exceptions import DataError
from imgtofmri.spaces import itk
from imgtofmri.spaces.grids import Grid, VoxelMap, transform, voxel_coordinates
from imgtofmri.spaces.images import open_image, read_grid
from imgtofmri.spaces.maps import affine_map, fnirt_map, nearest_map

# Template points that go through a transform together: bounds the memory of fine templates.
_CHUNK = 500_000
# The lower corner and the size of the two usual templates, in millimetres, voxels' edges included.
_BOXES = {
    "MNI152NLin6Asym": ((-91.0, -127.0, -73.0), (182.0, 218.0, 182.0)),
    "MNI152NLin2009cAsym": ((-96.5, -132.5, -78.5), (193.0, 229.0, 193.0)),
}


def other_space(grid: Grid, space: str) -> str | None:
    """Return the usual template space, other than the one it is said to be in, that a grid fills.

    Parameters
    ----------
    grid : Grid
        A template's grid.
    space : str
        What it is said to be in.

    Returns
    -------
    str or None
        A name that size and place speak for, where ``space`` is another of the usual ones.
    """
    if space not in _BOXES:
        return None
    ends = np.array([[-0.5] * 3, np.subtract(grid.shape, 0.5)], dtype=float)
    corners = transform(grid.affine, ends)
    # Grids of some resolutions end up to a voxel beyond the box.
    margin = float(grid.voxel_mm.max())
    for name, (low_mm, size_mm) in _BOXES.items():
        fits = np.abs(corners.min(axis=0) - low_mm).max() <= margin
        fits &= bool(np.abs(np.ptp(corners, axis=0) - size_mm).max() <= margin)
        if fits and name != space:
            return name
    return None


def map_to_template(
    kind: str,
    files: Sequence[Path],
    native: Grid,
    template: Grid,
    *,
    anatomical: Path | None = None,
    cropped: Path | None = None,
    where: str = "files",
) -> VoxelMap:
    """Return which native voxel each template voxel takes its value from.

    Parameters
    ----------
    kind : {"same", "affine", "fnirt", "itk"}
        What the files are; "same" where both grids are in one space.
    files : sequence of Path
        "affine": a 4 x 4 text file, native to template millimetres. "fnirt": the coefficient
        field. "itk": transforms in the order in which they are applied to the template's points.
    native, template : Grid
        From and to.
    anatomical : Path, optional
        "fnirt": the full anatomical image.
    cropped : Path, optional
        "fnirt": FLIRT's matrix from the full to the cropped anatomical image. Default: not cropped.
    where : str
        What a message begins with.

    Returns
    -------
    VoxelMap
        By nearest neighbour.

    Raises
    ------
    DataError
        If a file is not such a transform, or the template misses the native grid altogether.
    """
    if kind == "same":
        found = affine_map(native, template, np.eye(4))
    elif kind == "affine":
        _refuse_flirt(files[0])
        found = affine_map(native, template, _read_matrix(files[0]))
    elif kind == "fnirt":
        assert anatomical is not None
        full = read_grid(anatomical, where)
        matrix = np.eye(4) if cropped is None else _read_matrix(cropped)
        open_image(files[0], where)  # A header that says more than the file can hold ends here.
        try:
            found = fnirt_map(native, full, files[0], matrix, template)
        except DataError as error:
            message = f"{where}: {error}"
            raise DataError(message) from error
        except Exception as error:  # fslpy raises many kinds for a file that is another thing
            message = (
                f"{where}: {files[0]} must hold FNIRT's coefficients; it cannot be read "
                f"as these ({error}). Give what fnirt wrote with --cout."
            )
            raise DataError(message) from error
    else:
        found = _itk_map(itk.read_itk(files), native, template)
    if not len(found.template):
        message = (
            f"{where}: the transform must bring the native grid onto the template; no template "
            "voxel falls inside it. Check its direction: resampling to the template needs the one "
            "that antsApplyTransforms or applywarp takes for that."
        )
        raise DataError(message)
    return found


def map_through(way: VoxelMap, move: VoxelMap, template: Grid, other: Grid) -> VoxelMap:
    """Return the way from a native grid to another template, over the template between.

    Parameters
    ----------
    way : VoxelMap
        From native to template.
    move : VoxelMap
        From template to the other: its ``native`` are the template's voxels.
    template, other : Grid

    Returns
    -------
    VoxelMap
        The product of both, by voxels of the other template.
    """
    from scipy.sparse import coo_array

    n_native = int(way.native.max(initial=-1)) + 1
    first = coo_array((way.weight, (way.template, way.native)), (template.n_voxels, n_native))
    second = coo_array(
        (move.weight, (move.template, move.native)), (other.n_voxels, template.n_voxels)
    )
    both = (second.tocsr() @ first.tocsr()).tocoo()
    return VoxelMap(
        both.row.astype(np.int32), both.col.astype(np.int32), both.data.astype(np.float32)
    )


def _itk_map(transforms: list[itk.Transform], native: Grid, template: Grid) -> VoxelMap:
    to_native = np.linalg.inv(native.affine)
    coordinates = voxel_coordinates(template)
    for start in range(0, len(coordinates), _CHUNK):
        points = transform(template.affine, coordinates[start : start + _CHUNK])
        moved = itk.apply_all(transforms, points)
        coordinates[start : start + _CHUNK] = transform(to_native, moved)
    return nearest_map(coordinates, native)


_MATRIX_REMEDY = (
    "Give four lines of four numbers, from native to template millimetres; transforms of ITK and "
    'ANTs, whatever they hold, are of kind = "itk"'
)


def _refuse_flirt(path: Path) -> None:
    """Refuse a matrix that FLIRT's name says to be in its own coordinates."""
    if path.suffix.lower() == ".mat":
        message = (
            f"{path}: expected a matrix from native to template millimetres; got a .mat file, as "
            f"FLIRT's are called. {itk.FLIRT_REMEDY} A matrix of millimetres may be called .txt."
        )
        raise DataError(message)


def _read_matrix(path: Path) -> npt.NDArray[np.float64]:
    try:
        lines = [line.partition("#")[0].strip() for line in read_text(path).splitlines()]
        matrix = np.loadtxt([line for line in lines if line]) if any(lines) else np.empty(0)
    except (OSError, ValueError) as error:
        remedy = "Correct the path" if isinstance(error, OSError) else _MATRIX_REMEDY
        message = f"{path}: expected a text file of 4 x 4 numbers ({error}). {remedy}."
        raise DataError(message) from error
    if matrix.shape != (4, 4):
        message = f"{path}: expected 4 x 4 numbers; got {matrix.shape}. {_MATRIX_REMEDY}."
        raise DataError(message)
    usual = np.isfinite(matrix).all() and matrix[3].tolist() == [0, 0, 0, 1]
    if not usual or not abs(np.linalg.det(matrix)) > 1e-9:
        message = (
            f"{path}: expected an affine that can be inverted and whose last row is 0 0 0 1; got "
            f"{matrix.tolist()}. Give the matrix from native to template millimetres."
        )
        raise DataError(message)
    return matrix
