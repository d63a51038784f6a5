"""What measured runs must be before they are compared with anything."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, ShapeError

__all__ = ["check_measured"]


def check_measured(measured: ArrayLike, where: str) -> NDArray[np.floating[Any]]:
    """Return measured data as an array, or say what is wrong with them.

    Parameters
    ----------
    measured : array of shape (n_subjects, n_timepoints, n_voxels)
    where : str
        The function, for the message.

    Raises
    ------
    ShapeError
        If there are not three axes, or one is empty.
    DataError
        If a value is not finite.
    """
    data = np.asarray(measured)
    if data.ndim != 3 or 0 in data.shape:
        message = (
            f"{where}: measured must have shape (n_subjects, n_timepoints, n_voxels); got "
            f"{data.shape}. Stack one array of each subject."
        )
        raise ShapeError(message)
    bad = ~np.isfinite(data).all(axis=(1, 2))
    if bad.any():
        message = (
            f"{where}: measured must be finite; got values that are NaN or infinite in "
            f"subjects {np.flatnonzero(bad).tolist()} (counted from 0). Leave out those subjects "
            "or voxels, or mend the data."
        )
        raise DataError(message)
    return data
