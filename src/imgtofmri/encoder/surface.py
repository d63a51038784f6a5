"""Predictions on cortical surfaces: fsaverage5, fsaverage, or meshes of one's own in MNI152."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgtofmri import assets
from imgtofmri.exceptions import OptionError
from imgtofmri.spaces.surface import fsaverage5_places, sample, sampling_matrix

if TYPE_CHECKING:
    from nilearn.surface import PolyMesh, SurfaceImage

SPACE = "MNI152NLin6Asym"
"""The space in which registration fusion says where vertices lie."""

MESHES = ("fsaverage5", "fsaverage")
"""Published meshes."""

HEMIS = {"L": "left", "R": "right"}

WHEEL_PROJECT, WHEEL_VERSION = "regfusion", "0.1.0"
WHEEL_SHA256 = "869b2ce4ad033dd5d86c17787c73502a9b33ec3b17ddc27a059cfbdea7710fbd"
MEMBER = "regfusion/mappings/{}.avgMapping_allSub_RF_ANTs_MNI152_orig_to_fsaverage.txt"


def to_surface(
    maps: npt.NDArray[np.float32],
    mask: npt.NDArray[np.bool_],
    affine: npt.NDArray[np.float64],
    space: str,
    mesh: str | PolyMesh | Mapping[str, Any] = "fsaverage5",
) -> SurfaceImage:
    """Bring maps to a surface; see `Prediction.to_surface`."""
    from nilearn.surface import PolyMesh, SurfaceImage

    if isinstance(mesh, str):
        check_mesh(mesh, space)
        places = _published_places(mesh)
        shown = _published_mesh(mesh)
    else:
        shown = mesh if isinstance(mesh, PolyMesh) else PolyMesh(**mesh)
        places = {
            hemi: np.asarray(shown.parts[side].coordinates)
            for hemi, side in HEMIS.items()
            if side in shown.parts
        }
    known = np.isfinite(maps).all(axis=0)
    inside = mask.copy()
    inside[mask] = known
    data = {
        HEMIS[hemi]: sample(sampling_matrix(points, inside, affine), maps[:, known]).T
        for hemi, points in places.items()
    }
    if len(maps) == 1:
        data = {side: values[:, 0] for side, values in data.items()}
    return SurfaceImage(shown, data)


def check_mesh(mesh: str, space: str) -> None:
    """Refuse a published mesh that there is not, or that predictions cannot be brought to.

    Raises
    ------
    OptionError
    """
    if mesh not in MESHES:
        message = (
            f"mesh must be fsaverage5, fsaverage, or a mesh of your own; got {mesh!r}. For "
            'your own give {"left": file, "right": file}, whose coordinates are in the space '
            "of the prediction."
        )
        raise OptionError(message, "mesh")
    if space != SPACE:
        message = (
            f"mesh {mesh} needs predictions in {SPACE}, as registration fusion says where its "
            f"vertices lie there; these are in {space}. Give meshes whose coordinates are in "
            f"{space}."
        )
        raise OptionError(message, "mesh")
    if mesh == "fsaverage" and assets.is_offline():
        message = (
            f"mesh fsaverage is fetched by nilearn, and {assets.OFFLINE_VARIABLE} forbids the "
            "network. Use fsaverage5, which comes with nilearn, or unset it."
        )
        raise OptionError(message, "mesh")


def read_tables(wheel: Path) -> dict[str, npt.NDArray[np.float64]]:
    """Read where fsaverage's vertices lie in MNI152 out of regfusion's wheel.

    Returns
    -------
    dict of hemi ("L", "R") to array of shape (163842, 3)
    """
    with zipfile.ZipFile(wheel) as archive:
        return {
            hemi: np.loadtxt(io.BytesIO(archive.read(MEMBER.format(name)))).T
            for hemi, name in (("L", "lh"), ("R", "rh"))
        }


def _published_places(mesh: str) -> dict[str, npt.NDArray[np.float64]]:
    if mesh == "fsaverage5":
        return fsaverage5_places()
    return read_tables(assets.fetch_wheel(WHEEL_PROJECT, WHEEL_VERSION, sha256=WHEEL_SHA256))


def _published_mesh(mesh: str) -> PolyMesh:
    """Return the pial mesh, on which values are shown."""
    from nilearn.datasets import load_fsaverage

    return load_fsaverage(mesh)["pial"]
