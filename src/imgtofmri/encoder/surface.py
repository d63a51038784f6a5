"""Predictions on cortical surfaces: fsaverage5, fsaverage, or meshes of one's own in MNI152."""

from __future__ import annotations

import contextlib
import gzip
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from imgtofmri import assets
from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.spaces.surface import fsaverage5_places, sample, sampling_matrix

if TYPE_CHECKING:
    from nilearn.surface import PolyMesh, SurfaceImage

SPACE = "MNI152NLin6Asym"
"""The space in which registration fusion says where vertices lie."""

_GZIP = b"\x1f\x8b"

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
        for part in (mesh.parts if isinstance(mesh, PolyMesh) else mesh).values():
            _check_coordinates(getattr(part, "file_path", part))
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


def _check_coordinates(part: Any) -> None:
    """Refuse a GIFTI file whose coordinates are FreeSurfer's, from the centre of its own volume.

    Of FreeSurfer's own files nilearn adds that centre; of GIFTI it reads the coordinates alone.

    Raises
    ------
    DataError
    """
    if not (isinstance(part, str | Path) and str(part).lower().endswith((".gii", ".gii.gz"))):
        return
    from nibabel.gifti.gifti import GiftiImage

    centre: list[float] = []
    with contextlib.suppress(Exception):  # nilearn says what is wrong with a file that is none.
        raw = Path(part).read_bytes()
        image = GiftiImage.from_bytes(gzip.decompress(raw) if raw[:2] == _GZIP else raw)
        (points,) = image.get_arrays_from_intent("NIFTI_INTENT_POINTSET")
        if not points.coordsys.dataspace:
            centre = [float(points.meta.get(f"VolGeomC_{axis}", 0)) for axis in "RAS"]
    if any(centre):
        message = (
            f"{part}: mesh must have coordinates in millimetres of the prediction's space; got "
            f"FreeSurfer's, counted from ({', '.join(f'{mm:g}' for mm in centre)}) mm unless "
            "mris_convert --to-scanner wrote them. Give FreeSurfer's own file, or, where they are "
            "in the space, remove VolGeomC_R, _A and _S from the file."
        )
        raise DataError(message)


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

    with assets.by_nilearn(f"mesh {mesh}", mesh, ", or use fsaverage5, which comes with nilearn"):
        return load_fsaverage(mesh)["pial"]
