"""Refuse arrays that a statistic cannot be computed from, naming the item at fault."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError

Array = NDArray[np.float64]


def item_name(names: Sequence[str] | None, index: int) -> str:
    """Name an image: by its own name if there are names, else by its row."""
    return f"image {names[index]!r}" if names is not None else f"image in row {index}"


def paired(
    predicted: ArrayLike,
    measured: ArrayLike,
    names: Sequence[str] | None = None,
    least: int = 2,
) -> tuple[Array, Array]:
    """Check that two arrays (n_images, n_voxels) belong together and hold numbers.

    Parameters
    ----------
    predicted, measured : array of shape (n_images, n_voxels)
        What to check.
    names : sequence of str, optional
        The images' names, for the message.
    least : int
        Fewest images that will do.

    Returns
    -------
    predicted, measured : array of shape (n_images, n_voxels), float64
        The same numbers.

    Raises
    ------
    ShapeError
        If the arrays are not both (n_images, n_voxels) with the same sizes.
    DataError
        If there are too few images, or a value is NaN or infinite.
    """
    first = np.asarray(predicted, dtype=np.float64)
    second = np.asarray(measured, dtype=np.float64)
    if first.ndim != 2 or first.shape != second.shape:
        message = (
            f"predicted and measured must both have shape (n_images, n_voxels), with the "
            f"same images and voxels in the same order; got {first.shape} and {second.shape}. "
            "Pair the images by name and use one mask for both."
        )
        raise ShapeError(message)
    check_names(names, first.shape[0])
    if first.shape[0] < least:
        message = (
            f"needs at least {least} images; got {first.shape[0]}. "
            "One image can be compared with nothing else."
        )
        raise DataError(message)
    check_finite("predicted", first, names)
    check_finite("measured", second, names)
    return first, second


def check_names(names: Sequence[str] | None, n_images: int, what: str = "name") -> None:
    """Refuse a list of names that is not as long as the images are many."""
    if names is not None and len(names) != n_images:
        message = (
            f"{what}s must hold one {what} for each of the {n_images} images; got "
            f"{len(names)}. Give one of every image."
        )
        raise ShapeError(message)


def whole_mask(mask: ArrayLike, what: str) -> NDArray[np.bool_]:
    """Return a mask as booleans: numbers of 0 and 1 would index the first two voxels instead.

    Parameters
    ----------
    mask : array of any shape
        Of nothing but 0 and 1.
    what : str
        What a message begins with.

    Raises
    ------
    DataError
        If it holds other values.
    """
    values = np.asarray(mask)
    if values.dtype == bool:
        return values
    odd = values[~np.isin(values, (0, 1))]
    if odd.size:
        message = (
            f"{what} must hold 0 and 1; got {odd.size} voxels of other values, such as "
            f"{odd[0]:g}. Say which are inside, as in mask > 0.5."
        )
        raise DataError(message)
    return values.astype(bool)


def check_regions(regions: NDArray[np.bool_], n_voxels: int) -> None:
    """Refuse masks of regions that are not over the voxels, and what are no masks."""
    if regions.ndim != 2 or regions.shape[1] != n_voxels:
        message = (
            f"regions must have shape (n_regions, {n_voxels}); got {regions.shape}. Give one mask "
            "over the voxels for each region."
        )
        raise ShapeError(message)
    whole_mask(regions, "regions")


def check_level(level: float) -> None:
    """Refuse an interval's coverage that is none."""
    if not 0 < level < 1:
        message = f"level must lie between 0 and 1; got {level}. Give 0.95 for 95 percent."
        raise OptionError(message)


def all_finite(values: Array) -> bool:
    """Tell whether all values are finite; a sum is, when all of its terms are, without a mask."""
    with np.errstate(invalid="ignore", over="ignore"):
        return bool(np.isfinite(values.sum())) or bool(np.isfinite(values).all())


def check_finite(what: str, values: Array, names: Sequence[str] | None = None) -> None:
    """Refuse NaN and infinity in an array (n_images, n_voxels), naming the image and the voxel."""
    if all_finite(values):
        return
    bad = ~np.isfinite(values)
    image, voxel = (int(index) for index in np.argwhere(bad)[0])
    message = (
        f"{what} must be finite; {item_name(names, image)} holds {values[image, voxel]} "
        f"at voxel {voxel}, and {np.count_nonzero(bad)} of {bad.size} values are not finite. "
        "Leave those voxels out of the mask, or the image out of the analysis."
    )
    raise DataError(message)
