"""Transforms as ITK and ANTs write them, and as fMRIPrep therefore keeps them.

ITK's transforms map points of the space that is resampled *to* into the space that is resampled
*from*, in LPS millimetres. A composite applies its last transform first. Displacements between the
field's grid points are interpolated linearly and are 0 outside the field, whose outermost voxels
end half a voxel beyond their centres, as in ITK itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.apart import read_apart
from imgtofmri.documents import read_text
from imgtofmri.exceptions import DataError, ImgToFmriError
from imgtofmri.files import is_file
from imgtofmri.hdf5 import item, open_hdf5, values
from imgtofmri.spaces.grids import Grid
from imgtofmri.spaces.images import open_image, read_image
from imgtofmri.spaces.itk_linear import linear_matrix

FloatArray = npt.NDArray[np.float64]

FLIRT_REMEDY = (
    "FLIRT's matrices count from a corner of each image. Turn it into an ITK transform "
    "(c3d_affine_tool -ref TEMPLATE -src NATIVE FILE -fsl2ras -oitk FILE.txt) and say "
    'kind = "itk".'
)
# What a matrix in text is made of, and how much of a file tells.
_NUMBERS, _N_BEGIN = b"0123456789+-.eE \t\r\n", 64

# What other programs write into the headers of fields of the same shape, and what these hold.
_FOREIGN_FIELDS = (
    ("intent_name", b"NREG_TRANS", "a transform of NiftyReg's, whose vectors are RAS"),
    ("intent_name", b"Mapping", "places, in millimetres, as in SPM's y_*.nii"),
    ("descrip", b"Flow Field", "velocities in voxels, as in DARTEL's u_*.nii"),
    ("descrip", b"Velocity", "velocities in voxels, as in SPM's v_*.nii"),
)

# How many voxels of an axis tell places from displacements, and how much either grows along it.
_N_PLACES, _STEEP = 20, 0.5

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
        # ITK's voxels reach half a voxel around their centres, and there is one value beyond these.
        size = np.array(self.displacements.shape[:3])[:, None]
        within = (snapped >= -0.5) & (snapped < size - 0.5)
        snapped = np.where(within, np.clip(snapped, 0, size - 1), snapped)
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
        ``.nii``/``.nii.gz`` displacement fields, and ``.h5``, ``.txt``, ``.tfm`` and ``.mat`` files
        of one transform, or of a composite. The first file is applied to the points first.

    Returns
    -------
    list of Affine or DisplacementField
        Composites taken apart.

    Raises
    ------
    DataError
        If a file is not such a transform.
    MissingDependencyError
        If h5py is needed and not installed.
    """
    transforms: list[Transform] = []
    for path in paths:
        name = path.name.lower()
        if name.endswith((".nii", ".nii.gz")):
            transforms.append(_read_field(path))
        elif path.suffix.lower() in _READERS:
            transforms += _read_parts(path)
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


@dataclass(frozen=True, slots=True)
class _Part:
    """One transform as a file holds it: ITK's name of the kind, and its numbers."""

    kind: str
    parameters: npt.NDArray[Any]
    fixed: FloatArray


def _read_parts(path: Path) -> list[Transform]:
    """Read a file of one transform or of a composite, whose last transform is applied first."""
    _refuse_text(path)
    try:
        parts = _READERS[path.suffix.lower()](path)
        composite = bool(parts) and parts[0].kind.startswith("Composite")
        single = parts[1:] if composite else parts
        found = [_transform(path, part) for part in single]
    except ImgToFmriError:
        raise
    except Exception as error:  # each reader has errors of its own for a file that is another thing
        message = (
            f"{path}: expected an ITK transform; it cannot be read as one ({error}). Give a file "
            "that ITK, ANTs or fMRIPrep wrote."
        )
        raise DataError(message) from error
    if not found:
        what = "a composite without its parts" if composite else "no transform"
        message = (
            f"{path}: expected an ITK transform; got {what}. Give the parts, in the order in which "
            "antsApplyTransforms takes them, or a composite in .h5."
        )
        raise DataError(message)
    if len(found) > 1 and not composite:
        message = (
            f"{path}: expected one ITK transform, or a composite; got a list of {len(found)}, of "
            "which ITK's own programs take the first alone. Give a file for each that is meant."
        )
        raise DataError(message)
    return found[::-1]


def _refuse_text(path: Path) -> None:
    """Refuse a .mat file of FLIRT's, which are text, and not MATLAB's."""
    if path.suffix.lower() != ".mat" or not is_file(path):
        return
    with path.open("rb") as file:
        begins = file.read(_N_BEGIN)
    if begins and not begins.strip(_NUMBERS):
        message = (
            f"{path}: expected an ITK transform; got a matrix in text, as FLIRT writes it. "
            f"{FLIRT_REMEDY}"
        )
        raise DataError(message)


def _read_hdf5(path: Path) -> dict[str, npt.NDArray[Any]]:
    parts = []
    with open_hdf5(path) as file:
        group = item(file, "TransformGroup")
        for number in sorted(group, key=int):
            held = item(group, number)
            # ITK 4 misspells the names, ITK 5 does not.
            spelled = "Transform" if "TransformParameters" in held else "Tranform"
            parameters, fixed = (
                values(held, name) if name in held else np.empty(0)
                for name in (f"{spelled}Parameters", f"{spelled}FixedParameters")
            )
            kind = values(held, "TransformType")[0].decode()
            parts.append(_Part(kind, parameters, fixed.astype(float)))
    return _packed(parts)


def _read_text(path: Path) -> list[_Part]:
    kinds: list[str] = []
    numbers: list[dict[str, FloatArray]] = []
    for line in read_text(path).splitlines():
        name, colon, said = line.partition(":")
        if line.startswith("#") or not line.strip():
            continue
        if not colon or name not in ("Transform", "Parameters", "FixedParameters"):
            message = f"the line {line[:60]!r}"
            raise ValueError(message)
        if name == "Transform":
            kinds.append(said.strip())
            numbers.append({})
        else:
            numbers[-1][name] = np.array(said.split(), dtype=float)
    empty: FloatArray = np.empty(0)
    return [
        _Part(kind, held.get("Parameters", empty), held.get("FixedParameters", empty))
        for kind, held in zip(kinds, numbers, strict=True)
    ]


def _read_matlab(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read MATLAB's version 4: a variable named after the kind, and one called fixed."""
    from scipy.io import loadmat

    arrays = {
        name: np.asarray(array, dtype=float).ravel()
        for name, array in loadmat(path).items()
        if not name.startswith("__")
    }
    fixed = arrays.pop("fixed", np.empty(0))
    if len(arrays) != 1:
        message = f"the variables {', '.join(arrays) or 'none'}"
        raise ValueError(message)
    ((kind, parameters),) = arrays.items()
    if kind.startswith("Composite"):
        parameters = fixed = np.empty(0)
    return _packed([_Part(kind, parameters, fixed)])


def _packed(parts: Sequence[_Part]) -> dict[str, npt.NDArray[Any]]:
    """Return parts as arrays by name, in which another process can hand them over."""
    return {
        f"{number}/{field}": np.asarray(getattr(part, field))
        for number, part in enumerate(parts)
        for field in _Part.__slots__
    }


def _apart(reader: Callable[[Path], dict[str, npt.NDArray[Any]]], path: Path) -> list[_Part]:
    """Read what a C library reads, in another process."""
    found = iter(read_apart(reader, path, kind="an ITK transform").values())
    return [
        _Part(str(kind), parameters, fixed)
        for kind, parameters, fixed in zip(found, found, found, strict=True)
    ]


_READERS: dict[str, Callable[[Path], list[_Part]]] = {
    ".h5": partial(_apart, _read_hdf5),
    ".hdf5": partial(_apart, _read_hdf5),
    ".txt": _read_text,
    ".tfm": _read_text,
    ".mat": partial(_apart, _read_matlab),
}


def _transform(path: Path, part: _Part) -> Transform:
    kind, _, dimensions = part.kind.partition("_")
    if dimensions and not re.fullmatch(r"(double|float)_3_3", dimensions):
        message = (
            f"{path}: expected a transform of three dimensions; got {part.kind}. Give another."
        )
        raise DataError(message)
    if "DisplacementFieldTransform" in kind:
        fixed = part.fixed
        shape = int(fixed[0]), int(fixed[1]), int(fixed[2])
        affine = np.eye(4)
        affine[:3, :3] = fixed[9:18].reshape(3, 3) * fixed[6:9]
        affine[:3, 3] = fixed[3:6]
        grid = Grid(shape, LPS @ affine)
        if grid.fault:
            message = (
                f"{path}: expected the affine of a displacement field's grid to {grid.fault}; got "
                f"{grid.affine.tolist()}. Write the transform again, or give another."
            )
            raise DataError(message)
        # The vector's component varies fastest, then x, y, z.
        field = part.parameters.astype(np.float32).reshape(*shape[::-1], 3)
        _check_displacements(path, field)
        return DisplacementField(_to_ras(field.transpose(2, 1, 0, 3)), grid.affine)
    lps = linear_matrix(kind, part.parameters.astype(float), part.fixed)
    if lps is None:
        message = (
            f"{path}: transforms of type {part.kind} are not supported; expected linear transforms "
            "and displacement fields. Write it as a displacement field, as antsApplyTransforms "
            "does with -o [FILE.nii.gz,1]."
        )
        raise DataError(message)
    return Affine(LPS @ lps @ LPS)


def _read_field(path: Path) -> DisplacementField:
    values, grid = read_image(path, dtype=np.float32, vectors=True)
    shape = values.shape
    if len(shape) != 5 or shape[3:] != (1, 3):
        message = (
            f"{path}: an ITK displacement field has shape (X, Y, Z, 1, 3); got {shape}. "
            "Give the warp that ANTs wrote (…1Warp.nii.gz)."
        )
        raise DataError(message)
    vectors = values[..., 0, :]
    _check_displacements(path, vectors)
    header = open_image(path, vectors=True).header
    said = (what for key, text, what in _FOREIGN_FIELDS if bytes(header[key]).startswith(text))
    foreign = next(said, "")
    if not foreign and _are_places(vectors, grid.affine):
        foreign = "places, in millimetres, as in SPM's y_*.nii"
    if foreign:
        message = (
            f"{path}: expected displacements, as ANTs and ITK write them; got {foreign}. Write how "
            "far each voxel's point moves, in LPS millimetres."
        )
        raise DataError(message)
    return DisplacementField(_to_ras(vectors), grid.affine)


def _check_displacements(path: Path, vectors: npt.NDArray[np.float32]) -> None:
    n_bad = int(np.count_nonzero(~np.isfinite(vectors).all(axis=-1)))
    if n_bad:
        message = (
            f"{path}: displacements must be finite; got {n_bad} voxels of NaN or infinity. Write 0 "
            "where the field says nothing."
        )
        raise DataError(message)


def _are_places(vectors: npt.NDArray[np.float32], affine: FloatArray) -> bool:
    """Tell whether a field says where points come from, not by how much they move.

    Places grow along each axis as the grid's own do, in RAS or LPS millimetres; displacements that
    did would at least double distances.
    """
    indices = [np.linspace(0, size - 1, min(size, _N_PLACES)) for size in vectors.shape[:3]]
    whole = [np.unique(np.round(index).astype(int)) for index in indices]
    if min(len(index) for index in whole) < 2:
        return False
    some = np.stack(np.meshgrid(*whole, indexing="ij"), axis=-1)
    own = some @ affine[:3, :3].T + affine[:3, 3]
    own -= own.mean(axis=(0, 1, 2))
    found = vectors[np.ix_(*whole)].astype(np.float64)
    found -= found.mean(axis=(0, 1, 2))
    slopes = (own * found).sum(axis=(0, 1, 2)) / (own * own).sum(axis=(0, 1, 2))
    return bool((np.abs(slopes) > _STEEP).all())


def _to_ras(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    turned: npt.NDArray[np.float32] = vectors * LPS.diagonal()[:3].astype(np.float32)
    return turned
