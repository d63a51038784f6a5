"""Noise ceiling from repeats: the accuracy that measurement noise allows at most.

All estimators split the variance of responses over images into signal, which every repeat shares,
and noise, which none does. They differ in how they estimate the share; none knows which part of the
signal a model could ever explain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from imgtofmri.exceptions import DataError, OptionError, ShapeError, choice_message
from imgtofmri.stats.checks import Array, all_finite
from imgtofmri.stats.permutation import check_count

CeilingMethod = Literal["signal-power", "explainable-variance", "split-half"]
LEAST_R_MAX = 0.1
"""Nothing is divided by a ceiling below this: divided by almost nothing, noise looks large."""

METHODS: tuple[CeilingMethod, ...] = ("signal-power", "explainable-variance", "split-half")


@dataclass(frozen=True)
class NoiseCeiling:
    """How reliable each voxel's responses are, and what that allows a model at most.

    Attributes
    ----------
    method : str
        The estimator, as named in `noise_ceiling`.
    n_repeats : int
        How many repeats it was estimated from.
    explainable : array of shape (n_voxels,)
        Share of *one* repeat's variance over images that is signal. The estimate is unbiased, so
        it is below 0 in some voxels of pure noise; NaN in voxels without variation.
    """

    method: CeilingMethod
    n_repeats: int
    explainable: Array

    def reliability(self, n_averaged: int | None = None) -> Array:
        """Share of variance that is signal in the mean over repeats, between 0 and 1.

        Parameters
        ----------
        n_averaged : int, optional
            How many repeats the responses to be predicted are the mean of; all by default.

        Returns
        -------
        array of shape (n_voxels,)
            ``n s / (1 + (n - 1) s)`` for a share ``s`` in one repeat (Spearman and Brown).
        """
        n = self.n_repeats if n_averaged is None else n_averaged
        check_count("n_averaged", n)
        share = np.clip(self.explainable, 0.0, 1.0)
        return np.asarray(n * share / (1 + (n - 1) * share))

    def r_max(self, n_averaged: int | None = None) -> Array:
        """Largest correlation that a perfect model reaches with the mean over repeats."""
        return np.sqrt(self.reliability(n_averaged))


def noise_ceiling(
    repeats: ArrayLike,
    method: CeilingMethod = "signal-power",
    n_splits: int = 100,
    seed: int | None = 0,
) -> NoiseCeiling:
    """Estimate each voxel's noise ceiling from repeated presentations of the same images.

    Parameters
    ----------
    repeats : array of shape (n_repeats, n_images, n_voxels)
        Responses to the same images, at least two repeats.
    method : {"signal-power", "explainable-variance", "split-half"}
        "signal-power": the variance of the sum over repeats beyond what independent noise gives
        it, as a share of one repeat's variance (Sahani and Linden 2002; Schoppe et al. 2016, whose
        CC_max is `NoiseCeiling.r_max`).
        "explainable-variance": one minus the variance of the residuals from the mean over repeats,
        corrected for the mean's being fitted to the same repeats (Hsu et al. 2004; used for fMRI by
        Lescroart and Gallant 2019). Each repeat is z-scored over images first.
        "split-half": the correlation of the means of two halves of the repeats, averaged over
        random splits through Fisher's z, stepped down to one repeat by Spearman's and Brown's
        formula. With an odd number of repeats one is left out of each split.
    n_splits : int
        Random splits, for "split-half".
    seed : int or None
        Of the splits; the same seed gives the same result.

    Returns
    -------
    NoiseCeiling
        The share of signal, and from it reliability and highest correlation.

    Raises
    ------
    ShapeError
        If ``repeats`` is not (n_repeats, n_images, n_voxels).
    DataError
        If there are fewer than two repeats or images, or a value is not finite.
    OptionError
        If the method is unknown.

    References
    ----------
    Schoppe O et al. (2016), doi:10.3389/fncom.2016.00010.
    Hsu A, Borst A, Theunissen FE (2004), doi:10.1088/0954-898X_15_2_002.
    Lescroart MD, Gallant JL (2019), doi:10.1016/j.neuron.2018.11.004.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> signal = rng.standard_normal((2000, 1))
    >>> repeats = signal + rng.standard_normal((4, 2000, 1))
    >>> noise_ceiling(repeats).explainable.round(1).tolist()
    [0.5]
    """
    if method not in METHODS:
        raise OptionError(choice_message("", "method", method, METHODS))
    responses = np.asarray(repeats, dtype=np.float64)
    if responses.ndim != 3:
        message = (
            "repeats must have shape (n_repeats, n_images, n_voxels); got "
            f"{responses.shape}. Stack the repeats along the first axis."
        )
        raise ShapeError(message)
    if min(responses.shape[:2]) < 2:
        message = (
            "needs two repeats and two images at least; got "
            f"{responses.shape[0]} repeats of {responses.shape[1]} images. Without repeats noise "
            "cannot be told from signal."
        )
        raise DataError(message)
    if not all_finite(responses):
        repeat, image, voxel = (int(at) for at in np.argwhere(~np.isfinite(responses))[0])
        message = (
            f"repeats must be finite; got {responses[repeat, image, voxel]} in "
            f"repeat {repeat}, image {image}, voxel {voxel}. Leave the voxel or the image out."
        )
        raise DataError(message)
    if method == "signal-power":
        share = _signal_power(responses)
    elif method == "explainable-variance":
        share = _explainable_variance(responses)
    else:
        check_count("n_splits", n_splits)
        share = _split_half(responses, n_splits, seed)
    return NoiseCeiling(method, responses.shape[0], share)


def _signal_power(responses: Array) -> Array:
    n = responses.shape[0]
    each = responses.var(axis=1)
    of_the_sum = responses.sum(axis=0).var(axis=0)
    signal = (of_the_sum - each.sum(axis=0)) / (n * (n - 1))
    return _share(signal, each.mean(axis=0), responses)


def _explainable_variance(responses: Array) -> Array:
    n = responses.shape[0]
    centred = responses - responses.mean(axis=1, keepdims=True)
    spread = centred.std(axis=1, keepdims=True)
    scaled = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)
    # The mean over repeats takes 1/n of the noise along with it.
    residual = np.sum((scaled - scaled.mean(axis=0)) ** 2, axis=(0, 1)) / (n - 1)
    total = np.sum(scaled**2, axis=(0, 1)) / n
    return _share(total - residual, total, responses)


def _share(signal: Array, total: Array, responses: Array) -> Array:
    """Divide, with NaN where what varies is rounding."""
    size = np.mean(responses**2, axis=(0, 1))
    varies = total > np.where(size > 0, 1e-24 * size, 0.0)
    return np.divide(signal, total, out=np.full_like(total, np.nan), where=varies)


def _split_half(responses: Array, n_splits: int, seed: int | None) -> Array:
    n = responses.shape[0]
    half = n // 2
    centred = responses - responses.mean(axis=1, keepdims=True)
    rng = np.random.default_rng(seed)
    # Two repeats can be split in one way only.
    orders = np.array([rng.permutation(n) for _ in range(n_splits if n > 2 else 1)])
    fisher = np.zeros(responses.shape[2])
    for order in orders:
        first = centred[order[:half]].sum(axis=0)
        second = centred[order[half : 2 * half]].sum(axis=0)
        product = np.einsum("ij,ij->j", first, second)
        lengths = np.sqrt(np.sum(first**2, axis=0) * np.sum(second**2, axis=0))
        varies = lengths > 1e-24 * np.sum(responses**2, axis=(0, 1))
        r = np.divide(product, lengths, out=np.full_like(product, np.nan), where=varies)
        fisher += np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))
    r_half = np.tanh(fisher / len(orders))
    # Spearman and Brown backwards: from the mean of `half` repeats to one repeat.
    return np.asarray(r_half / (half - (half - 1) * r_half))


def ceiling_normalised(
    r: ArrayLike, ceiling: NoiseCeiling, n_averaged: int | None = None, least: float = LEAST_R_MAX
) -> Array:
    """Divide correlations by the highest that noise allows.

    Parameters
    ----------
    r : array of shape (n_voxels,)
        Correlations with the mean over ``n_averaged`` repeats.
    ceiling : NoiseCeiling
        Of the same voxels.
    n_averaged : int, optional
        How many repeats the measured responses are the mean of; all by default.
    least : float
        Voxels with ``r_max`` below this become NaN: divided by almost nothing, noise looks large.

    Returns
    -------
    r_normalised : array of shape (n_voxels,)
        1 for a model that explains all of the signal. Above 1 by chance only: both are estimates.

    Raises
    ------
    ShapeError
        If the ceiling is of other voxels.
    """
    correlations = np.asarray(r, dtype=np.float64)
    highest = ceiling.r_max(n_averaged)
    if correlations.shape != highest.shape:
        message = (
            f"r must have the ceiling's shape {highest.shape}; got "
            f"{correlations.shape}. Estimate the ceiling in the same voxels."
        )
        raise ShapeError(message)
    usable = highest >= least
    return np.divide(correlations, highest, out=np.full_like(highest, np.nan), where=usable)
