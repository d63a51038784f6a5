"""Noise of a scanner and a body: white, AR(1) and slow drift, in streams of their own."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import OptionError
from imgtofmri.experiments.smoothness import SmoothField
from imgtofmri.processors import one_blas_thread
from imgtofmri.timeseries import cosine_basis

Float32Array: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Noise:
    """What a scanner and a body add to the signal: white noise, AR(1) noise and slow drift.

    The three are independent and each normally distributed.

    Parameters
    ----------
    tsnr : float
        Temporal signal-to-noise ratio: mean over standard deviation of a run without signal.
    ar1 : float
        Lag-1 autocorrelation of the AR(1) part, between -1 and 1, both excluded.
    ar1_share, drift_share : float
        Shares of the noise variance, from 0 to 1 together; white noise is the rest.
    drift_cutoff_s : float
        Shortest period of the drift, in seconds: a sum of discrete cosines whose standard
        deviation falls as 1/k with their order k.
    fwhm_mm : float
        Smoothness in space: full width at half maximum of the Gaussian with which noise is
        smoothed, in millimetres (see `SmoothField`). 0 leaves voxels independent.

    Raises
    ------
    OptionError
        If a number is outside what is valid.
    """

    tsnr: float = 50.0
    ar1: float = 0.4
    ar1_share: float = 0.5
    drift_share: float = 0.1
    drift_cutoff_s: float = 128.0
    fwhm_mm: float = 0.0

    def __post_init__(self) -> None:
        for name in ("tsnr", "drift_cutoff_s"):
            check_positive(name, getattr(self, name))
        if not -1.0 < self.ar1 < 1.0:
            message = (
                f"ar1 must lie between -1 and 1, both excluded; got {self.ar1}. "
                "Values from 0.2 to 0.5 are usual at a TR of 2 s."
            )
            raise OptionError(message, "ar1")
        shares = (self.ar1_share, self.drift_share)
        if not (min(shares) >= 0.0 and sum(shares) <= 1.0):
            message = (
                "`ar1_share` and `drift_share` must be 0 or more and at most 1 together; "
                f"got {shares[0]} and {shares[1]}. White noise takes the rest."
            )
            raise OptionError(message)
        if not (math.isfinite(self.fwhm_mm) and self.fwhm_mm >= 0.0):
            message = (
                f"fwhm_mm must be 0 or more millimetres; got {self.fwhm_mm}. "
                "Two to three voxels are usual; 0 leaves voxels independent."
            )
            raise OptionError(message, "fwhm_mm")


def stream(seed: int, *key: int) -> np.random.Generator:
    """Return a source of random numbers that shares nothing with those of other keys.

    It is the generator of the child that `numpy.random.SeedSequence.spawn`, called once for each
    level of the key, would give, and depends on the seed and the key alone.

    Parameters
    ----------
    seed : int
        0 or more.
    *key : int
        Which stream: for a run, the subject's number, the run's and the part's.

    Raises
    ------
    OptionError
        If the seed is negative.
    """
    check_seed(seed)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def check_seed(seed: object) -> None:
    """Refuse a seed that is no whole number, or below 0.

    Raises
    ------
    OptionError
    """
    if not isinstance(seed, int | np.integer) or seed < 0:
        message = (
            f"seed must be a whole number, 0 or more; got {seed!r}. "
            "Any such number will do; write it down."
        )
        raise OptionError(message, "seed")


def noise_blocks(
    noise: Noise,
    *,
    baseline: float,
    tr_s: float,
    n_volumes: int,
    n_voxels: int,
    n_block: int,
    seed: int,
    key: tuple[int, ...] = (),
    field: SmoothField | None = None,
) -> Iterator[Float32Array]:
    """Yield a baseline with noise, a block of volumes at a time.

    Each part draws from a stream of its own, one volume after another, so that neither the size of
    the blocks nor the other parts change it.

    Parameters
    ----------
    noise : Noise
        What to add.
    baseline : float
        Mean of each voxel.
    tr_s : float
        Repetition time, in seconds: the drift depends on it.
    n_volumes, n_voxels : int
        Size of the run.
    n_block : int
        Volumes in a block.
    seed : int
        Seed of the noise.
    key : tuple of int
        Which run it is, as for `stream`.
    field : SmoothField, optional
        Of the voxels; needed for noise that is smooth in space.

    Yields
    ------
    block : array of shape (n_block, n_voxels), float32
        The next volumes; the last block may be shorter.

    Raises
    ------
    OptionError
        If the run is too short for a drift, the seed negative, or the field missing.
    """
    if noise.fwhm_mm > 0 and field is None:
        message = (
            "noise with fwhm_mm needs to know where voxels are; got no mask and affine. "
            "Give those of the prediction."
        )
        raise OptionError(message)
    n_draws = n_voxels if field is None else field.n_draws
    sd = baseline / noise.tsnr
    slow, white, autoregressive = (stream(seed, *key, part) for part in range(3))
    white_sd = np.float32(sd * math.sqrt(max(0.0, 1.0 - noise.ar1_share - noise.drift_share)))
    ar1_sd = np.float32(sd * math.sqrt(noise.ar1_share))
    memory = np.float32(noise.ar1)
    innovation = np.float32(math.sqrt(1.0 - noise.ar1**2))
    drift = _drift(noise, tr_s, n_volumes, n_draws, sd, slow, field)
    state: Float32Array | None = None
    for start in range(0, n_volumes, n_block):
        shape = (min(n_block, n_volumes - start), n_draws)
        block = white.standard_normal(shape, dtype=np.float32)
        block *= white_sd
        if noise.ar1_share > 0:
            for volume in block:
                fresh = autoregressive.standard_normal(n_draws, dtype=np.float32)
                # The first volume has the stationary variance: there is no run-in.
                state = fresh if state is None else memory * state + innovation * fresh
                volume += ar1_sd * state
        if field is not None:
            block = field(block)
        block += np.float32(baseline)
        if drift is not None:
            basis, weights = drift
            # The same seed gives the same bytes, however many threads a product would take.
            with one_blas_thread():
                block += basis[start : start + len(block)] @ weights
        yield block


def _drift(
    noise: Noise,
    tr_s: float,
    n_volumes: int,
    n_draws: int,
    sd: float,
    generator: np.random.Generator,
    field: SmoothField | None,
) -> tuple[Float32Array, Float32Array] | None:
    """Return a basis of slow cosines and weights that give each voxel its share of drift."""
    if noise.drift_share == 0:
        return None
    basis = drift_basis(noise, tr_s, n_volumes)
    n_cosines = basis.shape[1]
    weights = generator.standard_normal((n_cosines, n_draws))
    if field is not None:
        weights = field(weights.astype(np.float32)).astype(np.float64)
    weights /= np.arange(1, n_cosines + 1)[:, None]
    # Orthonormal columns of mean 0: the variance over time is the weights' sum of squares / n.
    weights *= sd * math.sqrt(noise.drift_share * n_volumes) / np.linalg.norm(weights, axis=0)
    return basis.astype(np.float32), weights.astype(np.float32)


def drift_basis(noise: Noise, tr_s: float, n_volumes: int) -> NDArray[np.float64]:
    """Return the cosines of a drift, shape (n_volumes, n_cosines).

    Raises
    ------
    OptionError
        If the run is too short to hold one.
    """
    empty = np.empty((n_volumes, 0))
    long_enough = n_volumes >= 3
    basis = cosine_basis(n_volumes, tr_s, cutoff_s=noise.drift_cutoff_s) if long_enough else empty
    if basis.shape[1] == 0:
        message = (
            "a run with drift must be at least half of `drift_cutoff_s` long "
            f"({noise.drift_cutoff_s / 2:g} s) and 3 volumes; got {n_volumes * tr_s:g} s and "
            f"{n_volumes}. Ask for more (`n_volumes`), a shorter cutoff, or `drift_share` 0."
        )
        raise OptionError(message)
    return basis


def check_positive(name: str, value: float) -> None:
    """Refuse a number that is not positive and finite."""
    if not (math.isfinite(value) and value > 0):
        message = (
            f"{name} must be a positive number; got {value}. Give one above 0, in the unit "
            "that its name says."
        )
        raise OptionError(message, name)
