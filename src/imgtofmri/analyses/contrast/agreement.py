"""How many subjects agree in sign, and how often exchanged images have as many agree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


class SignAgreement:
    """Counts the subjects whose difference has the sign of the group's, and of each other's.

    Parameters
    ----------
    observed : sequence of array of shape (n_places,)
        The group's statistic, then each subject's; NaN where a subject has none.

    Attributes
    ----------
    n_agree : array of shape (1 + n_subjects, n_places), int
        Subjects with the sign of each row's own statistic.
    """

    def __init__(self, observed: Sequence[NDArray[np.float64]]) -> None:
        self.n_agree = _count(np.stack(observed)[:, None])[:, 0]
        self._reached = np.zeros(self.n_agree.shape, dtype=np.int64)
        self._n_permutations = 0

    def update(self, null: Sequence[NDArray[np.float64]]) -> None:
        """Add statistics of exchanged images, each of shape (n_permutations, n_places)."""
        counts = _count(np.stack(null))
        self._reached += np.count_nonzero(counts >= self.n_agree[:, None], axis=1)
        self._n_permutations += counts.shape[1]

    @property
    def p(self) -> NDArray[np.float64]:
        """How often as many agree by chance, shape as `n_agree`: ``(count + 1) / (n + 1)``."""
        return np.asarray((self._reached + 1) / (self._n_permutations + 1))


def _count(statistics: NDArray[np.float64]) -> NDArray[np.intp]:
    signs = np.nan_to_num(np.sign(statistics))
    alike = (signs[None, 1:] == signs[:, None]) & (signs[None, 1:] != 0)
    return np.asarray(alike.sum(axis=1))
