"""What every function on time courses asks of its data."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, ShapeError

MIN_TIMEPOINTS = 3


def check_time_courses(data: ArrayLike, where: str) -> NDArray[np.float64]:
    """Return a time course as float64, or say what is wrong with it.

    Parameters
    ----------
    data : array of shape (n_timepoints, n_voxels)
        One run.
    where : str
        The function that asks, for messages.

    Returns
    -------
    array of shape (n_timepoints, n_voxels), float64

    Raises
    ------
    ShapeError
        If the data have not two axes, or no voxel.
    DataError
        If there are fewer than 3 volumes, or values that are not finite.
    """
    array = np.asarray(data, dtype=np.float64)
    if array.ndim != 2 or array.shape[1] == 0:
        message = (
            f"{where}: data must have shape (n_timepoints, n_voxels) with at least one voxel; "
            f"got {array.shape}. Put time on the first axis and voxels on the second."
        )
        raise ShapeError(message)
    if len(array) < MIN_TIMEPOINTS:
        message = (
            f"{where}: data must have at least {MIN_TIMEPOINTS} time points; got {len(array)}. "
            "Use a longer run, or trim less of it."
        )
        raise DataError(message)
    if not np.isfinite(array).all():
        bad = ~np.isfinite(array)
        first = tuple(int(i) for i in np.argwhere(bad)[0])
        message = (
            f"{where}: data must be finite; got {int(bad.sum())} values that are NaN or infinite, "
            f"the first at (time point, voxel) {first}. Leave out those voxels, or mend the data."
        )
        raise DataError(message)
    return array
