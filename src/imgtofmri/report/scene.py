"""What pages show maps on: a template brain on the maps' grid, and inflated cortical surfaces.

It depends on the grid alone, takes seconds, and is therefore kept in the user's cache.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri import assets
from imgtofmri.documents import parse_json, read_text
from imgtofmri.exceptions import OutputError
from imgtofmri.files import write_whole
from imgtofmri.outputs.volumes import fortran_places, to_img
from imgtofmri.report.packing import packed, packed_bytes, unpacked_bytes
from imgtofmri.spaces.surface import fsaverage5_places, sampling_matrix

SPACE = "MNI152NLin6Asym"
"""The space in which it is known where the surfaces' vertices lie."""

TEMPLATE_SAID = (
    "the T1 template MNI152NLin2009aSym that comes with nilearn, resampled to the maps' grid; it "
    "is shown for orientation, and differs from MNI152NLin6Asym by a millimetre or two"
)

VERSION = 1
"""Of what is kept in the cache."""

HEMIS = {"L": "left", "R": "right"}
GAP_MM = 4.0
BRIGHTEST = 99.8


def build_scene(
    mask: npt.NDArray[np.bool_], affine: npt.NDArray[np.float64], space: str
) -> dict[str, Any]:
    """Return what the maps of a mask are shown on, as a page holds it.

    Parameters
    ----------
    mask : array of shape (X, Y, Z), bool
    affine : array of shape (4, 4)
    space : str
        The template space; surfaces are known in `SPACE` alone.

    Returns
    -------
    dict
        ``background`` and ``overlay`` (NIfTI), ``places`` (where the mask's voxels lie in them),
        ``dims``, ``affine``, ``axes`` (which of the grid's runs left to right, back to front and
        up, and 1, or -1 if the other way), ``template``, and ``surfaces`` by hemisphere, or None.
    """
    return _scene(mask.tobytes(), mask.shape, tuple(affine.ravel().tolist()), space)


@lru_cache(maxsize=2)
def _scene(
    voxels: bytes, shape: tuple[int, ...], numbers: tuple[float, ...], space: str
) -> dict[str, Any]:
    from nibabel.orientations import io_orientation

    mask = np.frombuffer(voxels, np.bool_).reshape(shape)
    affine = np.reshape(numbers, (4, 4))
    fixed = _kept(shape, affine)
    towards, way = io_orientation(affine).T
    empty = to_img(np.zeros((1, int(mask.sum())), np.float32), mask, affine)
    surfaces = None
    if space == SPACE:
        surfaces = {}
        for hemi, points in fsaverage5_places().items():
            matrix = sampling_matrix(points, mask, affine)
            weights = np.rint(matrix.data * 65535).astype(np.uint16)
            surfaces[hemi] = fixed["surfaces"][hemi] | {
                "starts": packed(matrix.indptr.astype(np.uint32)),
                "voxels": packed(matrix.indices.astype(np.uint32)),
                "weights": packed(weights),
            }
    return {
        "dims": list(mask.shape),
        "affine": affine.ravel().tolist(),
        "axes": [[int(axis), int(way[axis])] for axis in np.argsort(towards)],
        "template": TEMPLATE_SAID,
        "background": fixed["background"],
        "overlay": packed_bytes(empty.to_bytes()),
        "places": packed(fortran_places(mask).astype(np.uint32)),
        "surfaces": surfaces,
    }


def background(shape: tuple[int, ...], affine: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Return the template brain on a grid, its brightest tissue at 255."""
    from nilearn.datasets import load_mni152_template
    from nilearn.image import resample_img

    image = resample_img(
        load_mni152_template(resolution=1),
        target_affine=affine,
        target_shape=shape,
        interpolation="linear",
        force_resample=True,
        copy_header=True,
    )
    data = np.nan_to_num(np.asarray(image.dataobj, dtype=np.float64))
    inside = data[data > 0]
    brightest = np.percentile(inside, BRIGHTEST) if inside.size else 1.0
    return np.clip(data / brightest * 255, 0, 255).astype(np.uint8)


def template_of(shape: tuple[int, ...], affine: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Return `background`, from the cache if it is there."""
    import nibabel as nib

    data = unpacked_bytes(_kept(shape, affine)["background"])
    return np.asarray(nib.Nifti1Image.from_bytes(data).dataobj)


def _kept(shape: tuple[int, ...], affine: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Return what depends on the grid alone, from the cache if it is there."""
    return _read_or_made(tuple(shape), tuple(affine.ravel().tolist()))


@lru_cache(maxsize=2)
def _read_or_made(shape: tuple[int, ...], numbers: tuple[float, ...]) -> dict[str, Any]:
    affine = np.reshape(numbers, (4, 4))
    key = json.dumps([VERSION, version("nilearn"), list(shape), affine.ravel().tolist()])
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    path = assets.cache_dir() / "report" / f"scene-{digest}.json"
    with suppress(OSError, ValueError):
        found = parse_json(read_text(path))
        if found.get("key") == key and {"background", "surfaces"} <= found.keys():
            return dict(found)
    made = {"key": key, "background": _background(shape, affine), "surfaces": _surfaces()}
    with suppress(OutputError):  # A cache that cannot be written to costs time, and no more.
        write_whole(path, json.dumps(made).encode())
    return made


def _background(shape: tuple[int, ...], affine: npt.NDArray[np.float64]) -> str:
    import nibabel as nib

    image = nib.Nifti1Image(background(shape, affine), affine)
    return packed_bytes(image.to_bytes())


def _surfaces() -> dict[str, dict[str, str]]:
    """Return fsaverage5's inflated hemispheres side by side, with their sulci."""
    from nilearn.datasets import load_fsaverage, load_fsaverage_data

    meshes = load_fsaverage("fsaverage5")["inflated"].parts
    depths = load_fsaverage_data(mesh="fsaverage5", data_type="sulcal").data.parts
    found = {}
    for hemi, side in HEMIS.items():
        points = np.array(meshes[side].coordinates, dtype=np.float64)
        if hemi == "L":
            points[:, 0] -= points[:, 0].max() + GAP_MM / 2
        else:
            points[:, 0] -= points[:, 0].min() - GAP_MM / 2
        depth = np.asarray(depths[side], dtype=np.float64)
        low, high = np.percentile(depth, (2, 98))
        found[hemi] = {
            "points": packed(np.rint(points * 100).astype(np.int16)),
            "triangles": packed(np.asarray(meshes[side].faces).astype(np.uint16)),
            "sulci": packed(np.clip((depth - low) / (high - low) * 255, 0, 255).astype(np.uint8)),
        }
    return found
