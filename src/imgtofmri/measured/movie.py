"""Measured responses of several subjects to one movie, as arrays and as one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.files import atomic_path
from imgtofmri.numpy_files import load_npz
from imgtofmri.stats.checks import whole_mask
from imgtofmri.text import Brief

__all__ = ["MeasuredMovie", "read_measured", "save_measured"]

BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, repr=False)
class MeasuredMovie(Brief):
    """Responses of several subjects to one movie.

    Attributes
    ----------
    data : array of shape (n_subjects, n_timepoints, n_voxels), float32
        Cleaned time courses; voxels in C order of ``mask``.
    subject_names : tuple of str
        One for each subject.
    tr_s : float
        Repetition time in seconds.
    mask : array of shape (X, Y, Z), bool
        The voxels on the measured grid: those of any ROI.
    affine : array of shape (4, 4)
        Voxel indices of ``mask`` to millimetres, RAS+.
    rois : dict of str to array of shape (n_voxels,), bool
        Which voxels belong to which ROI, both hemispheres together.
    sources : tuple of Path
        The files that it was read from: runs, then confounds.
    slice_time_ref : float or None
        When within a volume its values are of, as a share of ``tr_s``; None if it is not known.
    """

    data: NDArray[np.float32]
    subject_names: tuple[str, ...]
    tr_s: float
    mask: BoolArray
    affine: NDArray[np.float64]
    rois: Mapping[str, BoolArray]
    sources: tuple[Path, ...] = ()
    slice_time_ref: float | None = None

    def __post_init__(self) -> None:
        """Check that the parts belong together."""
        object.__setattr__(self, "mask", whole_mask(self.mask, "mask"))
        n_voxels = int(self.mask.sum())
        expected = (len(self.subject_names), n_voxels)
        if self.data.ndim != 3 or (self.data.shape[0], self.data.shape[2]) != expected:
            message = (
                f"data must have shape (n_subjects, n_timepoints, n_voxels) with "
                f"{expected[0]} subjects and the mask's {n_voxels} voxels; got {self.data.shape}. "
                "Give one name for each subject and one column for each voxel of the mask."
            )
            raise ShapeError(message)
        for roi, voxels in self.rois.items():
            if voxels.shape != (n_voxels,) or voxels.dtype != np.bool_:
                message = (
                    f"ROI {roi} must be a bool array of the mask's {n_voxels} "
                    f"voxels; got {voxels.dtype} of shape {voxels.shape}. Index the ROI's volume "
                    "with the mask."
                )
                raise ShapeError(message)
        if not 0.05 <= self.tr_s <= 30:
            message = (
                "tr_s must be between 0.05 and 30 seconds; got "
                f"{self.tr_s:g}. Give the repetition time in seconds."
            )
            raise OptionError(message, "tr_s")
        bad = ~np.isfinite(self.data).all(axis=(1, 2))
        if bad.any():
            names = [self.subject_names[i] for i in np.flatnonzero(bad)]
            message = (
                "data must be finite; got values that are NaN or infinite in "
                f"{', '.join(names)}. Leave out those subjects or voxels, or mend the data."
            )
            raise DataError(message)

    @property
    def n_subjects(self) -> int:
        """Number of subjects."""
        return int(self.data.shape[0])

    @property
    def n_timepoints(self) -> int:
        """Number of volumes."""
        return int(self.data.shape[1])


def save_measured(measured: MeasuredMovie, path: str | Path) -> Path:
    """Write measured responses to one ``.npz`` file, whole or not at all.

    Parameters
    ----------
    measured : MeasuredMovie
        What to write.
    path : path
        The file.

    Returns
    -------
    Path
        The file.
    """
    target = Path(path)
    rois = {f"roi_{roi}": voxels for roi, voxels in measured.rois.items()}
    with atomic_path(target) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            data=measured.data,
            subject_names=np.array(measured.subject_names),
            tr_s=np.float64(measured.tr_s),
            mask=measured.mask,
            affine=measured.affine,
            slice_time_ref=np.float64(
                np.nan if measured.slice_time_ref is None else measured.slice_time_ref
            ),
            **rois,  # type: ignore[arg-type]
        )
    return target


def read_measured(path: str | Path) -> MeasuredMovie:
    """Read what `save_measured` wrote.

    Parameters
    ----------
    path : path
        The ``.npz`` file.

    Returns
    -------
    MeasuredMovie

    Raises
    ------
    DataError
        If the file cannot be read, or lacks an array.
    """
    try:
        arrays = load_npz(Path(path))
    except DataError:
        raise
    except Exception as error:  # damaged files raise nearly anything
        message = (
            f"{path} must be an .npz file of arrays; got one that cannot be read "
            f"({error}). Write it with save_measured."
        )
        raise DataError(message) from error
    missing = {"data", "subject_names", "tr_s", "mask", "affine"} - set(arrays)
    if missing:
        message = (
            f"{path} must hold data, subject_names, tr_s, mask and affine; got none "
            f"of the name {', '.join(sorted(missing))}. Write it with save_measured."
        )
        raise DataError(message)
    wrong = [
        name
        for name, shape in (("data", None), ("tr_s", ()), ("affine", (4, 4)), ("mask", None))
        if arrays[name].dtype.kind not in "fiub" or shape not in (None, arrays[name].shape)
    ]
    if wrong:
        found = arrays[wrong[0]]
        message = (
            f"{path} must hold data and mask as arrays of numbers, tr_s as one and "
            f"affine as 4 x 4; got {wrong[0]} as {found.dtype} of shape {found.shape}. Write it "
            "with save_measured."
        )
        raise DataError(message)
    if not np.isin(arrays["mask"], (0, 1)).all():
        odd = arrays["mask"][~np.isin(arrays["mask"], (0, 1))].flat[0]
        message = (
            f"{path} must hold a mask of 0 and 1; got {odd}, too. Write it with save_measured."
        )
        raise DataError(message)
    reference = float(arrays.get("slice_time_ref", np.nan))
    return MeasuredMovie(
        data=arrays["data"].astype(np.float32),
        subject_names=tuple(str(name) for name in arrays["subject_names"]),
        tr_s=float(arrays["tr_s"]),
        mask=arrays["mask"].astype(bool),
        affine=arrays["affine"].astype(np.float64),
        rois={name[4:]: value for name, value in arrays.items() if name.startswith("roi_")},
        sources=(Path(path),),
        slice_time_ref=None if np.isnan(reference) else reference,
    )
