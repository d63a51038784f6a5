"""Noise that neighbouring voxels share: white noise on a grid becomes a Gaussian random field."""

from __future__ import annotations

import math
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import ShapeError

Float32Array: TypeAlias = NDArray[np.float32]

_FWHM_PER_SD = 2.0 * math.sqrt(2.0 * math.log(2.0))


class SmoothField:
    """Smooths white noise on a grid and takes it in some voxels, with a variance of 1 in each.

    The smoothness of the field is that of the Gaussian with which it is smoothed, as random field
    theory has it (Worsley et al. 1992, doi 10.1038/jcbfm.1992.127): voxels a distance d apart
    correlate with ``exp(-d**2 / (4 * sd**2))``. Beyond the grid there is nothing, and voxels near
    its edges are scaled up for it.

    Parameters
    ----------
    mask : array of shape (X, Y, Z), bool
        The voxels.
    affine : array of shape (4, 4)
        Voxel indices to millimetres.
    fwhm_mm : float
        Full width at half maximum of the Gaussian, above 0.

    Attributes
    ----------
    n_draws : int
        Values of white noise that a map takes: the voxels of the grid.

    Raises
    ------
    ShapeError
        If mask or affine has another shape.
    """

    def __init__(self, mask: ArrayLike, affine: ArrayLike, fwhm_mm: float) -> None:
        from scipy.ndimage import gaussian_filter1d

        inside, to_mm = np.asarray(mask, dtype=bool), np.asarray(affine, dtype=np.float64)
        if inside.ndim != 3 or to_mm.shape != (4, 4):
            message = (
                "mask must have shape (X, Y, Z) and affine (4, 4); got "
                f"{inside.shape} and {to_mm.shape}. Give a prediction's mask and affine."
            )
            raise ShapeError(message)
        self.n_draws = inside.size
        self._shape = inside.shape
        self._places = np.flatnonzero(inside)
        sizes_mm = np.linalg.norm(to_mm[:3, :3], axis=0)
        self._sds = tuple(float(fwhm_mm / _FWHM_PER_SD / size_mm) for size_mm in sizes_mm)
        # The filter is a product over the axes, and so is the variance that it leaves.
        variances = [
            np.square(gaussian_filter1d(np.eye(n), sd, axis=0, mode="constant")).sum(axis=1)
            for n, sd in zip(self._shape, self._sds, strict=True)
        ]
        kept = np.einsum("i,j,k->ijk", *variances).ravel()[self._places]
        self._scale = (1.0 / np.sqrt(kept)).astype(np.float32)

    def __call__(self, draws: Float32Array) -> Float32Array:
        """Return maps of shape (n_maps, n_voxels) from white noise of shape (n_maps, n_draws)."""
        from scipy.ndimage import gaussian_filter

        maps = np.empty((len(draws), len(self._places)), dtype=np.float32)
        for values, drawn in zip(maps, draws, strict=True):
            smooth = gaussian_filter(drawn.reshape(self._shape), self._sds, mode="constant")
            np.multiply(smooth.ravel()[self._places], self._scale, out=values)
        return maps
