"""Where the measured response of one more person is expected: how wide an interval must be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

LEAST_FREEDOM = 1e-6
"""Below this share of a voxel's coverage people's differences are rounding: one covers it."""


def half_widths(
    subjects: npt.NDArray[np.floating[Any]],
    coverage: npt.NDArray[np.floating[Any]],
    residual_variance: npt.NDArray[np.float64],
    level: float,
) -> npt.NDArray[np.float64]:
    """Return half the width of a prediction interval about the mean over people.

    Parameters
    ----------
    subjects : array of shape (n_subjects, n_stimuli, n_voxels)
        Each person's maps.
    coverage : array of shape (n_subjects, n_voxels)
        The share of each person's map that the person's own voxels make; elsewhere a map is 0,
        which is no response. A person counts at a voxel by this weight, and not where it is 0.
    residual_variance : array of shape (n_voxels,)
        Of a measured response about its person's prediction.
    level : float
        The share of measurements to be covered, between 0 and 1.

    Returns
    -------
    array of shape (n_stimuli, n_voxels)
        NaN where one person alone covers a voxel, as nothing is known of how people differ there;
        of an encoder of one person, the half width for that person.

    Notes
    -----
    With people of equal weight the variance is ``s2 (1 + 1 / n)``, where ``s2`` is that of ``n``
    people about their mean, plus the residual variance. With weights ``w``, whose sums of powers
    are ``W1``, ``W2`` and ``W3``, ``s2`` is the sum of ``w (x - mean)^2`` over ``W1 - W2 / W1``,
    ``1 / n`` becomes ``W2 / W1^2``, and the degrees of freedom ``n - 1`` of ``s2`` become
    ``f = (W1 - W2 / W1)^2 / (W2 - 2 W3 / W1 + (W2 / W1)^2)``.

    Residual variances are of hundreds of stimuli and people's differences of ``f`` degrees of
    freedom, so that the sum has more: Satterthwaite's are ``f / share^2``, where ``share`` is what
    differences between people make of the variance. They hold for the true share. It is estimated
    from the same few people, and too small exactly when ``s2`` is; with three people, intervals of
    95 % then cover 92 %. ``f / share`` are used instead, between ``f`` and Satterthwaite's: with
    normal responses and three people they cover 94 to 96 % whatever the true share is, with eight
    95 to 96 %, with two 91 to 96 % (``benchmarks/intervals.py``).

    References
    ----------
    Satterthwaite FE (1946), doi:10.2307/3002019.
    """
    quantile = (1 + level) / 2
    if len(subjects) == 1:
        half = stdtrit(np.inf, quantile) * np.sqrt(residual_variance)
        return np.tile(np.where(coverage[0] > 0, half, np.nan), (subjects.shape[1], 1))
    weights = coverage.astype(np.float64)
    total, squares, cubes = (np.sum(weights**power, axis=0) for power in (1, 2, 3))
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = total - squares / total
        known = freedom > LEAST_FREEDOM * total
        f = freedom**2 / (squares - 2 * cubes / total + (squares / total) ** 2)
        mean = subjects.sum(axis=0, dtype=np.float64) / total
        spread = np.zeros_like(mean)
        for maps, weight in zip(subjects, weights, strict=True):
            # A map is its person's responses times the weight, so that this is w (x - mean)^2.
            off = maps - weight * mean
            spread += np.divide(off**2, weight, out=np.zeros_like(off), where=weight > 0)
        between = spread / freedom * (1 + squares / total**2)
        variance = between + residual_variance
        half = stdtrit(f * variance / between, quantile) * np.sqrt(variance)
    # People who agree to the last bit leave 0 / 0 degrees of freedom, and a normal's quantile.
    half = np.where(between > 0, half, stdtrit(np.inf, quantile) * np.sqrt(variance))
    return np.where(known, half, np.nan)


def measurement(card: Mapping[str, Any]) -> str:
    """Say what one measured response is, about which an encoder's residual variances are.

    Parameters
    ----------
    card : mapping
        Of the encoder.

    Returns
    -------
    str
        Empty where the card does not say.
    """
    said = card.get("fit", {})
    try:
        counts = [(data["n_rows"], data["n_stimuli"]) for data in said["data"].values()]
        averaged = said["settings"]["repeats"] == "average"
    except (AttributeError, LookupError, TypeError):
        return ""  # Made by other software, which may keep other things under this key.
    if averaged and any(n_rows > n_stimuli for n_rows, n_stimuli in counts):
        return "the mean over a stimulus' presentations, of which the encoder was fitted on " + (
            " and ".join(dict.fromkeys(f"{rows / stimuli:.3g}" for rows, stimuli in counts))
            + " on average"
        )
    return "a single presentation"
