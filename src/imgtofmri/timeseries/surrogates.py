"""Surrogates of many voxels' time courses with other phases, seen through what follows them.

A surrogate has the power of the original at each frequency, and other phases. All voxels get the
same ones, which is a rotation of the time axis: the covariance of voxels stays as it is, and with
it the smoothness in space and in time; when things happen does not. Phases drawn at random make any
series one of Gaussian noise. Phases that are proportional to frequency shift it, the end going on
at the beginning: what holds still and changes at once goes on doing so.

What follows, haemodynamics, sampling and filtering, is a matrix and comes after the phases are
drawn, so that a surrogate begins from rest and is filtered as the original is. Similarities of
volumes need inner products over voxels alone: the voxels are replaced, once, by as few coordinates
as have the same inner products at the frequencies that pass.

References
----------
Theiler J. et al. (1992). Testing for nonlinearity in time series: the method of surrogate data.
Physica D 58, 77-94. doi:10.1016/0167-2789(92)90102-S
Prichard D., Theiler J. (1994). Generating surrogate data for time series with several
simultaneously measured variables. Physical Review Letters 73, 951. doi:10.1103/PhysRevLett.73.951
Lancaster G. et al. (2018). Surrogate data for hypothesis testing of physical systems. Physics
Reports 748, 1-60. doi:10.1016/j.physrep.2018.06.001
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import DataError, ShapeError, check_choice
from imgtofmri.timeseries.checks import MIN_TIMES, blocks, time_courses

Array = NDArray[np.float64]
SurrogateKind: TypeAlias = Literal["phases", "shifts"]
"""What is drawn anew in a surrogate."""

SURROGATE_KINDS: tuple[SurrogateKind, ...] = get_args(SurrogateKind)
"""The kinds of surrogates: with other phases, or shifted in time as a whole."""

# Frequencies, then coordinates, are dropped that together hold less than this share of the power
# that passes the matrix.
_DROPPED_SHARE = 1e-5
# Working memory of one batch of surrogates.
_BATCH_BYTES = 64 * 2**20


class Surrogates:
    """Surrogates of a series, and the similarity matrices of the volumes that come of them.

    Parameters
    ----------
    series : array of shape (n_time, n_voxels)
        Evenly sampled time courses, before ``operator``. Those of a film that goes on after its
        last frame as it began, as the Fourier transform has it.
    operator : array of shape (n_volumes, n_time), optional
        What turns a voxel's course into its volumes. Default: nothing is done.

    Raises
    ------
    ShapeError
        If the two do not fit.
    DataError
        If there are fewer than 3 time points, values are not finite, or nothing varies over voxels.

    Notes
    -----
    The mean over time stays: only what varies is turned.
    """

    def __init__(self, series: ArrayLike, operator: ArrayLike | None = None) -> None:
        values = time_courses(series, name="series", axes=(2,), min_times=MIN_TIMES, min_voxels=2)
        n_time = len(values)
        matrix = np.eye(n_time) if operator is None else np.asarray(operator, dtype=np.float64)
        if matrix.ndim != 2 or matrix.shape[1] != n_time:
            message = (
                f"operator must have a column for each of the {n_time} time points of series; got "
                f"shape {matrix.shape}. Apply what follows to the identity to make it."
            )
            raise ShapeError(message)
        self.n_volumes = len(matrix)
        self._n_time = n_time
        self._n_frequencies = n_time // 2 + 1
        angles = 2 * np.pi / n_time * np.outer(np.arange(n_time), np.arange(self._n_frequencies))
        passed = np.stack([matrix @ np.cos(angles), -(matrix @ np.sin(angles))])
        means = values.mean(axis=1, dtype=np.float64, keepdims=True)
        kept = self._kept(values, means, passed, n_time)
        self._frequencies = kept
        # Each frequency in units of what passes of it, so that small means unimportant.
        gains = np.sqrt(np.sum(passed[:, :, kept] ** 2, axis=(0, 1)))
        self._passed = (passed[:, :, kept] / gains).astype(np.float32)
        self._coordinates = _reduced(values, means, kept, gains).astype(np.float32)

    def similarities(
        self,
        n_surrogates: int,
        seed: int | Sequence[int] = 0,
        kind: SurrogateKind = "phases",
        itself: ArrayLike | None = None,
    ) -> Iterator[NDArray[np.float64]]:
        """Make surrogates and correlate their volumes, in batches of bounded size.

        Parameters
        ----------
        n_surrogates : int
        seed : int or sequence of int
            The same seed gives the same phases to every series of the same length.
        kind : {"phases", "shifts"}
            "phases" draws the phase of each frequency. "shifts" moves the series back by so many
            time points, from 0, which is the series itself, in even steps around the whole.
        itself : array of shape (n_volumes, n_volumes), optional
            The matrix of the series itself, to the last digit, for shifts by 0; they must count as
            equal to it, and what is computed here is rounded.

        Raises
        ------
        OptionError
            If there is no such kind.

        Yields
        ------
        array of shape (n_batch, n_volumes, n_volumes), float64
            As `similarity_matrix` of each surrogate.
        """
        check_choice("kind", kind, SURROGATE_KINDS)
        rng = np.random.default_rng(seed)
        steps = np.empty((0, 1), dtype=np.intp)
        phases: Array
        cos, sin = self._passed
        n_volumes, n_kept = cos.shape
        bytes_each = 4 * n_volumes * (5 * n_volumes + 6 * n_kept + self._coordinates.shape[1])
        n_batch = max(1, _BATCH_BYTES // bytes_each)
        for start in range(0, n_surrogates, n_batch):
            n_rows = min(n_batch, n_surrogates - start)
            if kind == "phases":
                drawn = rng.uniform(0.0, 2 * np.pi, (n_rows, self._n_frequencies))
                phases = drawn[:, self._frequencies]
                # Neither a constant nor, of an even number, the fastest change has a phase.
                phases[:, self._is_real] = 0.0
            else:
                numbers = np.arange(start, start + n_rows)[:, None]
                steps = numbers * self._n_time // n_surrogates
                turns = steps * self._frequencies / self._n_time
                phases = np.asarray(2 * np.pi * turns)
            c = np.cos(phases).astype(np.float32)[:, None]
            s = np.sin(phases).astype(np.float32)[:, None]
            turned = np.concatenate([cos * c + sin * s, sin * c - cos * s], axis=2)
            volumes = turned @ self._coordinates
            products = np.matmul(volumes, volumes.swapaxes(1, 2)).astype(np.float64)
            norms = np.sqrt(np.diagonal(products, axis1=1, axis2=2))
            products /= norms[:, :, None]
            products /= norms[:, None, :]
            if kind == "shifts" and itself is not None:
                products[steps[:, 0] == 0] = itself
            yield products

    def _kept(
        self, values: NDArray[np.floating], means: Array, passed: Array, n_time: int
    ) -> NDArray[np.intp]:
        """Return the frequencies that reach the volumes."""
        power = np.zeros(self._n_frequencies)
        for voxels in blocks(values.shape[1], n_time):
            spectrum = _spectrum(values[:, voxels] - means)
            power += np.sum(spectrum.real**2 + spectrum.imag**2, axis=1)
        power *= np.sum(passed**2, axis=(0, 1))
        total = power.sum()
        if not total > 0:
            message = (
                "series must vary over voxels in a way that reaches the volumes; got one that does "
                "not. Leave it out."
            )
            raise DataError(message)
        order = np.argsort(power)
        n_dropped = int(np.searchsorted(np.cumsum(power[order]), _DROPPED_SHARE * total))
        kept = np.sort(order[n_dropped:])
        self._is_real = (kept == 0) | ((kept == n_time // 2) & (n_time % 2 == 0))
        return kept


def _reduced(
    values: NDArray[np.floating], means: Array, kept: NDArray[np.intp], gains: Array
) -> Array:
    """Return few coordinates with the inner products of spectra times gains.

    Of shape (2 n_kept, n_dimensions); the real parts come first.
    """
    products = np.zeros((2 * len(kept), 2 * len(kept)))
    for voxels in blocks(values.shape[1], len(values)):
        spectrum = _spectrum(values[:, voxels] - means)[kept] * gains[:, None]
        both = np.concatenate([spectrum.real, spectrum.imag])
        products += both @ both.T
    sizes, directions = np.linalg.eigh(products)
    sizes = np.maximum(sizes, 0.0)
    large = np.cumsum(sizes) > _DROPPED_SHARE * sizes.sum()
    return np.asarray(directions[:, large] * np.sqrt(sizes[large]))


def _spectrum(columns: NDArray[np.floating]) -> NDArray[np.complex128]:
    """Return the part of each frequency in columns, so that their sum over frequencies is whole."""
    n_time = len(columns)
    spectrum = np.fft.rfft(columns.astype(np.float64), axis=0) / n_time
    spectrum[1 : (n_time + 1) // 2] *= 2
    return np.asarray(spectrum)
