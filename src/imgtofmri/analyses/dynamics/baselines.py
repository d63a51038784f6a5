"""What a movie's frames alone predict: luma and motion."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, OptionError, ShapeError

__all__ = ["luma", "motion_energy"]


def luma(pixels: ArrayLike) -> NDArray[np.float32]:
    """Return the luma of each pixel, ``0.2126 R + 0.7152 G + 0.0722 B``.

    Of the values as they are stored, encoded for a screen, as in the published work, which calls it
    luminance. `imgtofmri.stimuli.luminance` is that of linear light, as a photometer measures it.

    Parameters
    ----------
    pixels : array of shape (..., height, width, 3), uint8
        RGB frames as the network gets them, resized.

    Returns
    -------
    array of shape (..., height, width), float32
        From 0, black, to 1, white.

    Raises
    ------
    ShapeError
        If the last axis is not red, green and blue.

    References
    ----------
    ITU-R BT.709 for the weights.

    Examples
    --------
    >>> float(luma(np.full((1, 1, 3), 255, np.uint8))[0, 0])
    1.0
    """
    frames = np.asarray(pixels)
    if frames.ndim < 3 or frames.shape[-1] != 3:
        message = (
            f"luma: pixels must have shape (..., height, width, 3); got {frames.shape}. "
            "Give RGB frames."
        )
        raise ShapeError(message)
    weights = np.array([0.2126, 0.7152, 0.0722]) / 255.0
    return (frames.astype(np.float32) @ weights.astype(np.float32)).astype(np.float32)


def motion_energy(frames: ArrayLike, *, pool: int = 8) -> NDArray[np.float32]:
    """Return the energy of change from each frame to the next, averaged over squares of pixels.

    Squares rather than pixels, so that a scene that moves by a few pixels keeps its pattern.

    Parameters
    ----------
    frames : array of shape (n_frames, height, width)
        Luma. The first frame follows nothing and has no energy.
    pool : int, default 8
        Side of a square in pixels; what is left over at the right and lower edge is not used.

    Returns
    -------
    array of shape (n_frames, height // pool, width // pool), float32
        Mean squared difference from the frame before.

    Raises
    ------
    ShapeError
        If frames have not three axes.
    OptionError
        If ``pool`` does not fit into a frame.

    Examples
    --------
    >>> motion_energy(np.arange(3.0)[:, None, None] * np.ones((1, 8, 8))).ravel().tolist()
    [0.0, 1.0, 1.0]
    """
    values = np.asarray(frames, dtype=np.float32)
    if values.ndim != 3:
        message = (
            f"motion_energy: frames must have shape (n_frames, height, width); got {values.shape}. "
            "Give luma."
        )
        raise ShapeError(message)
    n_frames, height, width = values.shape
    if not 1 <= pool <= min(height, width):
        message = (
            f"motion_energy: pool must be between 1 and {min(height, width)} pixels; got {pool}. "
            "Use 8 for frames of 224 pixels."
        )
        raise OptionError(message)
    rows, columns = height // pool, width // pool
    cut = values[:, : rows * pool, : columns * pool]
    energy = np.zeros((n_frames, rows, columns), np.float32)
    for now in range(1, n_frames):
        squares = (cut[now] - cut[now - 1]) ** 2
        energy[now] = squares.reshape(rows, pool, columns, pool).mean(axis=(1, 3))
    return energy


def check_changes(name: str, features: NDArray[np.float32]) -> None:
    """Refuse features that are the same in every frame, as nothing can agree with them."""
    if not np.ptp(features, axis=0).any():
        message = (
            f"movie_models: the baseline {name} must change over the movie; got the same in all "
            f"{len(features)} frames. Leave it out."
        )
        raise DataError(message)
