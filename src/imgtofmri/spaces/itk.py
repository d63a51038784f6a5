"""Transforms as ITK and ANTs write them, and as fMRIPrep therefore keeps them.

ITK's transforms map points of the space that is resampled *to* into the space that is resampled
*from*, in LPS millimetres. A composite applies its last transform first. Displacements between the
field's grid points are interpolated linearly and are 0 outside the field, as in ITK itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import DataError, MissingDependencyError
from imgtofmri.spaces.images import read_image

FloatArray = npt.NDArray[np.float64]

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""Turns LPS millimetres into RAS, and back."""


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """A linear transform of points.

    Attributes
    ----------
    matrix : array of shape (4, 4)
        RAS millimetres to RAS millimetres.
    """

    matrix: FloatArray

    def apply(self, points: FloatArray) -> FloatArray:
        """Move points, shape (n, 3)."""
        moved: FloatArray = points @ self.matrix[:3, :3].T + self.matrix[:3, 3]
        return moved


@dataclass(frozen=True, slots=True, eq=False)
class DisplacementField:
    """A transform that adds to each point a displacement read from a grid.

    Attributes
    ----------
    displacements : array of shape (X, Y, Z, 3), float32
        RAS millimetres.
    affine : array of shape (4, 4)
        Voxel indices of the grid to RAS millimetres.
    """

    displacements: npt.NDArray[np.float32]
    affine: FloatArray

    def apply(self, points: FloatArray) -> FloatArray:
        """Move points, shape (n, 3)."""
        from scipy.ndimage import map_coordinates

        to_voxels = np.linalg.inv(self.affine)
        voxels = (points @ to_voxels[:3, :3].T + to_voxels[:3, 3]).T
        # Rounding noise must not push points on the field's edge out of it.
        snapped = np.round(voxels, 6)
        moved = points.copy()
        for axis in range(3):
            moved[:, axis] += map_coordinates(
                self.displacements[..., axis], snapped, order=1, mode="constant", cval=0.0
            )
        return moved


Transform = Affine | DisplacementField


def read_itk(paths: Sequence[Path]) -> list[Transform]:
    """Read transforms in the order in which points go through them.

    Parameters
    ----------
    paths : sequence of Path
        ``.h5`` composites, ``.nii``/``.nii.gz`` displacement fields, ``.txt``/``.tfm``/``.mat``
        affines. The first one is applied to the points first.

    Returns
    -------
    list of Affine or DisplacementField
        Composites taken apart.

    Raises
    ------
    DataError
        If a file is not such a transform.
    MissingDependencyError
        If h5py or nitransforms is needed and not installed.
    """
    transforms: list[Transform] = []
    for path in paths:
        name = path.name.lower()
        if name.endswith(".h5"):
            transforms += _read_composite(path)
        elif name.endswith((".nii", ".nii.gz")):
            transforms.append(_read_field(path))
        elif name.endswith((".txt", ".tfm", ".mat")):
            transforms.append(_read_affine(path))
        else:
            message = (
                f"{path}: expected an ITK transform (.h5, .nii.gz, .txt, .tfm or .mat); got "
                f"{path.suffix!r}. Give the file that antsApplyTransforms takes with -t."
            )
            raise DataError(message)
    return transforms


def apply_all(transforms: Sequence[Transform], points: FloatArray) -> FloatArray:
    """Move points through transforms, the first one first.

    Parameters
    ----------
    transforms : sequence of Affine or DisplacementField
        As `read_itk` returns them.
    points : array of shape (n, 3)
        RAS millimetres.

    Returns
    -------
    array of shape (n, 3)
        RAS millimetres.
    """
    for transform in transforms:
        points = transform.apply(points)
    return points


def _read_composite(path: Path) -> list[Transform]:
    """Read an HDF5 composite; ITK numbers its transforms and applies the last one first."""
    try:
        import h5py
    except ImportError as error:
        message = f"{path}: reading it needs h5py. Install it with pip install 'imgtofmri[train]'."
        raise MissingDependencyError(message) from error
    try:
        with h5py.File(path, "r") as file:
            group = file["TransformGroup"]
            parts = [group[number] for number in sorted(group, key=int)]
            found = [_read_part(path, part) for part in parts]
    except (OSError, KeyError, ValueError, IndexError) as error:
        message = (
            f"{path}: expected an ITK composite transform; it cannot be read as one ({error}). "
            "Give the .h5 file that ANTs or fMRIPrep wrote."
        )
        raise DataError(message) from error
    return [transform for transform in reversed(found) if transform is not None]


def _read_part(path: Path, part: Any) -> Transform | None:
    kind = part["TransformType"][0].decode()
    if kind.startswith("Composite"):
        return None
    # ITK 4 misspells the names, ITK 5 does not.
    spelled = "Transform" if "TransformParameters" in part else "Tranform"
    parameters = part[f"{spelled}Parameters"]
    fixed = np.asarray(part[f"{spelled}FixedParameters"], dtype=float)
    if kind.startswith(("AffineTransform", "MatrixOffsetTransformBase")):
        values = np.asarray(parameters, dtype=float)
        return Affine(_affine_of(values[:9].reshape(3, 3), values[9:12], fixed))
    if kind.startswith("DisplacementFieldTransform"):
        shape = tuple(int(size) for size in fixed[:3])
        grid = np.eye(4)
        grid[:3, :3] = fixed[9:18].reshape(3, 3) * fixed[6:9]
        grid[:3, 3] = fixed[3:6]
        # The vector's component varies fastest, then x, y, z.
        field = np.asarray(parameters, dtype=np.float32).reshape(*shape[::-1], 3)
        return DisplacementField(_to_ras(field.transpose(2, 1, 0, 3)), LPS @ grid)
    message = (
        f"{path}: transforms of type {kind} are not supported; expected affine transforms and "
        "displacement fields. Convert it with ANTs' CompositeTransformUtil."
    )
    raise DataError(message)


def _affine_of(matrix: FloatArray, translation: FloatArray, centre: FloatArray) -> FloatArray:
    """Return the RAS matrix of ITK's: x -> matrix (x - centre) + centre + translation."""
    lps = np.eye(4)
    lps[:3, :3] = matrix
    lps[:3, 3] = translation + centre - matrix @ centre
    ras: FloatArray = LPS @ lps @ LPS
    return ras


def _read_field(path: Path) -> DisplacementField:
    values, grid = read_image(path, dtype=np.float32)
    shape = values.shape
    if len(shape) != 5 or shape[3:] != (1, 3):
        message = (
            f"{path}: an ITK displacement field has shape (X, Y, Z, 1, 3); got {shape}. "
            "Give the warp that ANTs wrote (…1Warp.nii.gz)."
        )
        raise DataError(message)
    vectors = values[..., 0, :]
    return DisplacementField(_to_ras(vectors), grid.affine)


def _to_ras(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    turned: npt.NDArray[np.float32] = vectors * LPS.diagonal()[:3].astype(np.float32)
    return turned


def _read_affine(path: Path) -> Affine:
    try:
        from nitransforms.io.itk import ITKLinearTransform
    except ImportError as error:
        message = (
            f"{path}: reading it needs nitransforms. Install it with "
            "pip install 'imgtofmri[train]'."
        )
        raise MissingDependencyError(message) from error
    try:
        return Affine(np.asarray(ITKLinearTransform.from_filename(path).to_ras(), dtype=float))
    except Exception as error:  # nitransforms raises many kinds for a file that is another thing
        message = (
            f"{path}: expected one ITK affine transform; it cannot be read as one ({error}). "
            "Give a file that ANTs wrote, such as 0GenericAffine.mat."
        )
        raise DataError(message) from error
