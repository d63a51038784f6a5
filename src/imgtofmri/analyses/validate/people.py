"""Correlations of several people: their mean, and the interval that other people would give."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from imgtofmri.stats import fisher_z, t_quantile

LEAST_PEOPLE = 3
"""The interval of two people's mean is six times as wide as they are apart."""


def over_people(r: NDArray[np.float64], level: float) -> dict[str, NDArray[np.float64]]:
    """Average people's correlations through Fisher's z, with Student's interval over people.

    Parameters
    ----------
    r : array of shape (n_people, n_rows)
        A row of a table of each person.
    level : float
        Coverage.

    Returns
    -------
    dict of str to array of shape (n_rows,)
        The columns r_people, lower_people and upper_people; these are NaN with two people or fewer.
    """
    z = fisher_z(r)
    middle, half = z.mean(axis=0), np.full(z.shape[1], np.nan)
    if len(z) >= LEAST_PEOPLE:
        half = t_quantile(len(z), level) * z.std(axis=0, ddof=1) / np.sqrt(len(z))
    return {
        "r_people": np.tanh(middle),
        "lower_people": np.tanh(middle - half),
        "upper_people": np.tanh(middle + half),
    }
