"""Maps on surfaces as GIFTI files, one for each hemisphere."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_STRUCTURES = {"L": "CortexLeft", "R": "CortexRight"}


def surface_file(volume: str, hemi: str, mesh: str) -> str:
    """Return the name of a surface file beside a volume's.

    Examples
    --------
    >>> surface_file("horse.jpg.nii.gz", "L", "fsaverage5")
    'horse.jpg_hemi-L_space-fsaverage5.func.gii'
    """
    return f"{volume.removesuffix('.nii.gz')}_hemi-{hemi}_space-{mesh}.func.gii"


def surface_bytes(maps: npt.NDArray[np.float32], hemi: str, step_s: float | None = None) -> bytes:
    """Return the content of a GIFTI file of maps on one hemisphere.

    Parameters
    ----------
    maps : array of shape (n_maps, n_vertices)
        NaN where nothing is known.
    hemi : {"L", "R"}
    step_s : float, optional
        Seconds between maps that are a movie's frames.
    """
    from nibabel.gifti.gifti import GiftiDataArray, GiftiImage, GiftiMetaData

    intent = "NIFTI_INTENT_NONE" if step_s is None else "NIFTI_INTENT_TIME_SERIES"
    meta = {} if step_s is None else {"TimeStep": f"{1000 * step_s:g}"}  # In milliseconds.
    image = GiftiImage(meta=GiftiMetaData({"AnatomicalStructurePrimary": _STRUCTURES[hemi]}))
    for values in np.ascontiguousarray(maps, dtype=np.float32):
        array = GiftiDataArray(
            values, intent=intent, datatype="NIFTI_TYPE_FLOAT32", meta=GiftiMetaData(meta)
        )
        image.add_gifti_data_array(array)
    content: bytes = image.to_bytes()
    return content
