"""How well people agree, voxel by voxel, gathered stimulus by stimulus in constant memory."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt

from imgtofmri.exceptions import OptionError

LEAST_STIMULI = 20
"""From fewer stimuli a correlation over them says little: its standard error is above .23."""

OWN_SHARE = 0.5
"""The share of a voxel's map that a person's own voxels must make for the person to count there."""

ROUNDING = 1e-12
"""A variance below this share of the mean square is a constant's, and what rounding left of it."""


class Agreement:
    """The correlation over stimuli of people's maps.

    Sums are taken one stimulus after another, so that the result does not depend on how stimuli
    were cut into parts.

    Parameters
    ----------
    coverage : array of shape (n_subjects, n_voxels)
        As `Prediction.coverage`.
    """

    def __init__(self, coverage: npt.NDArray[np.float32]) -> None:
        n_subjects, n_voxels = coverage.shape
        self._counts = coverage >= OWN_SHARE
        self._pairs = list(combinations(range(n_subjects), 2))
        self._sums = np.zeros((n_subjects, n_voxels))
        self._squares = np.zeros((n_subjects, n_voxels))
        self._products = np.zeros((len(self._pairs), n_voxels))
        self.n_stimuli = 0

    @classmethod
    def of(cls, subjects: npt.NDArray[np.float32], coverage: npt.NDArray[np.float32]) -> Agreement:
        """Return what maps of shape (n_subjects, n_stimuli, n_voxels) come to."""
        gathered = cls(coverage)
        gathered.add(subjects)
        return gathered

    def add(self, subjects: npt.NDArray[np.float32]) -> None:
        """Take in the maps of more stimuli, shape (n_subjects, n_stimuli, n_voxels)."""
        for index in range(subjects.shape[1]):
            maps = subjects[:, index].astype(np.float64)
            self._sums += maps
            self._squares += maps * maps
            for pair, (one, other) in enumerate(self._pairs):
                self._products[pair] += maps[one] * maps[other]
            self.n_stimuli += 1

    def values(self) -> npt.NDArray[np.float32]:
        """Return the mean correlation over pairs at each voxel, NaN where there is no pair.

        Raises
        ------
        OptionError
            If there were fewer than `LEAST_STIMULI`.
        """
        n = self.n_stimuli
        if n < LEAST_STIMULI:
            message = (
                f"agreement needs at least {LEAST_STIMULI} stimuli, as it is a correlation over "
                f"them; got {n}. Predict more."
            )
            raise OptionError(message)
        variances = self._squares - self._sums**2 / n
        variances[variances < ROUNDING * self._squares] = 0
        total, number = np.zeros(variances.shape[1]), np.zeros(variances.shape[1])
        for pair, (one, other) in enumerate(self._pairs):
            scale = np.sqrt(variances[one] * variances[other])
            known = self._counts[one] & self._counts[other] & (scale > 0)
            covariance = self._products[pair] - self._sums[one] * self._sums[other] / n
            total[known] += covariance[known] / scale[known]
            number[known] += 1
        mean = np.divide(total, number, out=np.full_like(total, np.nan), where=number > 0)
        return mean.astype(np.float32)
