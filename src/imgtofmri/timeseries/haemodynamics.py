"""Haemodynamic response functions and the convolution with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.exceptions import OptionError, choice_message
from imgtofmri.timeseries.checks import (
    FloatArray,
    blocks,
    check_kernel,
    check_positive,
    time_courses,
)

HrfLike: TypeAlias = str | ArrayLike | Callable[[NDArray[np.float64]], ArrayLike]
"""A response by its name, as a kernel sampled in time, or as a function of time in seconds."""

HrfScale: TypeAlias = Literal["native", "sum", "peak"]

HRF_NAMES = ("gam", "glover", "spm")
"""The haemodynamic responses that have names."""

DEFAULT_HRF = "glover"
"""The response that every command convolves with unless told otherwise: Glover's (1999)."""
HRF_SCALES: tuple[str, ...] = get_args(HrfScale)
GAM_P = 8.6
GAM_Q_S = 0.547

# Up to this many taps a product with a banded matrix beats the FFT; each is fastest on as many
# voxels at once as the caches hold (benchmarks/simulate.py).
_DIRECT_MAX_TAPS = 192
_DIRECT_VOXELS = 512
_FFT_VOXELS = 128
# Steps of the integral over the time that a frame is shown.
_FINE_STEP_S = 0.01
# nilearn's samples are late by a step, which matters of longer ones.
_LONGEST_STEP_S = 0.05


def hrf(
    model: HrfLike,
    dt_s: float,
    *,
    duration_s: float = 32.0,
    scale: HrfScale = "native",
) -> NDArray[np.float64]:
    """Sample a haemodynamic response function.

    Parameters
    ----------
    model : {"gam", "glover", "spm"}, array of shape (n_taps,) or callable
        ``"gam"`` is AFNI's gamma function ``(t / (p q))**p * exp(p - t / q)`` with p = 8.6 and
        q = 0.547 s, which peaks with height 1 at ``p q`` = 4.7 s. ``"glover"`` and ``"spm"`` are
        nilearn's. An array is a kernel of your own, sampled every ``dt_s``; a callable takes times
        in seconds, shape (n_taps,), and returns the response at them.
    dt_s : float
        Sampling step, in seconds.
    duration_s : float
        Length of the kernel, in seconds; an array keeps its own length.
    scale : {"native", "sum", "peak"}
        ``"native"`` leaves the numbers as they are: gam peaks at 1, nilearn's sum to 1. ``"sum"``
        divides by the sum, so that a response held at 1 settles at 1 whatever ``dt_s`` is.
        ``"peak"`` divides by the largest value.

    Returns
    -------
    kernel : array of shape (n_taps,), float64
        The response at 0, ``dt_s``, 2 ``dt_s``, ...

    Raises
    ------
    OptionError
        If a name is unknown, a time is not positive, or the kernel is empty, not finite, or
        cannot be scaled as asked.

    Notes
    -----
    nilearn's own samples begin a step late, and spread over the closed interval from 0 to
    ``duration_s``, so that its steps are longer by one part in their number. Up to 0.05 s that is
    kept, for equality with nilearn's models. Of a longer ``dt_s``, which would come late by as
    much, the response is sampled in steps of 0.01 s, and taken at the times that are wanted.

    References
    ----------
    Cohen, M. S. (1997). Parametric analysis of fMRI data using linear systems methods.
    NeuroImage, 6(2), 93-103. doi:10.1006/nimg.1997.0278
    Glover, G. H. (1999). Deconvolution of impulse response in event-related BOLD fMRI.
    NeuroImage, 9(4), 416-429. doi:10.1006/nimg.1998.0419

    Examples
    --------
    >>> kernel = hrf("gam", dt_s=0.5)
    >>> kernel.shape, 0.5 * int(kernel.argmax())
    ((64,), 4.5)
    """
    check_positive("dt_s", dt_s, "seconds")
    check_positive("duration_s", duration_s, "seconds")
    if scale not in HRF_SCALES:
        raise OptionError(choice_message("", "scale", scale, HRF_SCALES))
    n_taps = max(1, round(duration_s / dt_s))
    if isinstance(model, str):
        kernel = _named_hrf(model, dt_s, duration_s, n_taps)
    elif callable(model):
        times_s: NDArray[np.float64] = np.arange(n_taps, dtype=np.float64) * dt_s
        kernel = np.asarray(model(times_s), dtype=np.float64)
    else:
        kernel = np.array(model, dtype=np.float64)
    check_kernel(kernel)
    if scale == "native":
        return kernel
    divisor = float(kernel.sum() if scale == "sum" else kernel.max())
    # A kernel that sums to nothing but rounding has no scale; dividing would blow it up.
    if divisor <= 1e-9 * float(np.abs(kernel).sum()) or divisor == 0.0:
        message = (
            f"the kernel's {'sum' if scale == 'sum' else 'largest value'} must be positive "
            f"for scale={scale!r}; got {divisor:.3g}. Use scale='native'."
        )
        raise OptionError(message)
    return kernel / divisor


def held_hrf(model: HrfLike, step_s: float, *, duration_s: float = 32.0) -> NDArray[np.float64]:
    """Sample the response to a frame that is shown until the next one comes.

    A frame is no flash: what it evokes is the response's integral over the time that it is on, so
    the convolution with it is that of a film and does not run half a step ahead of it.

    Parameters
    ----------
    model
        As in `hrf`; an array is a kernel of your own and stays as it is.
    step_s : float
        Time from one frame to the next, in seconds.
    duration_s : float
        As in `hrf`.

    Returns
    -------
    kernel : array of shape (n_taps,), float64
        At 0, ``step_s``, ... after the frame appears; 0 at first. It sums to 1, so that a response
        held at 1 settles at 1; an array as it is.

    Raises
    ------
    OptionError
        As `hrf`.

    Examples
    --------
    >>> float(held_hrf("glover", 0.5).sum().round(9))
    1.0
    """
    if not (isinstance(model, str) or callable(model)):
        return hrf(model, step_s)
    check_positive("step_s", step_s, "seconds")
    n_fine = max(2, round(step_s / _FINE_STEP_S))
    fine = hrf(model, step_s / n_fine, duration_s=duration_s, scale="sum")
    n_taps = len(fine) // n_fine + 2
    # The trapezoidal rule over each step; beyond its end the response is 0.
    padded = np.concatenate([fine, np.zeros(n_taps * n_fine + 1 - len(fine))])
    sums = (padded[:-1] + padded[1:]).reshape(n_taps, n_fine).sum(axis=1) / 2
    return np.concatenate([[0.0], sums])


def convolve(responses: ArrayLike, kernel: ArrayLike) -> FloatArray:
    """Convolve every column with a kernel, causally, keeping the length.

    Each column equals ``np.convolve(column, kernel)[:n_time]``: what lies before the first time
    point counts as 0.

    Parameters
    ----------
    responses : array of shape (n_time, n_voxels) or (n_time,)
        Time courses sampled at the kernel's step.
    kernel : array of shape (n_taps,)
        The impulse response; what is longer than ``n_time`` has no effect.

    Returns
    -------
    convolved : array of the shape of ``responses``
        float32 for float32 responses, float64 otherwise; computed in float64.

    Raises
    ------
    ShapeError
        If ``responses`` has no time points or more than two axes.
    DataError
        If ``responses`` holds a value that is not finite.
    OptionError
        If the kernel is empty, not 1-D or not finite.

    Notes
    -----
    Short kernels are applied as products with a banded Toeplitz matrix, one block of time points
    after another, long ones by FFT; both go through the voxels in blocks, so that the working
    memory does not grow with them.

    Examples
    --------
    >>> convolve([1.0, 0.0, 0.0, 2.0], [0.0, 1.0, 0.5]).tolist()
    [0.0, 1.0, 0.5, 0.0]
    """
    taps = np.asarray(kernel, dtype=np.float64)
    check_kernel(taps)
    values = time_courses(responses, min_times=1)
    columns = values.reshape(len(values), -1)
    taps = taps[: len(columns)]
    convolved = np.empty_like(columns)
    direct = len(taps) <= _DIRECT_MAX_TAPS
    apply, widest = (_convolve_direct, _DIRECT_VOXELS) if direct else (_convolve_fft, _FFT_VOXELS)
    for voxels in blocks(columns.shape[1], len(columns), widest):
        convolved[:, voxels] = apply(columns[:, voxels].astype(np.float64), taps)
    return convolved.reshape(values.shape)


def _named_hrf(name: str, dt_s: float, duration_s: float, n_taps: int) -> NDArray[np.float64]:
    """Sample one of the published response functions."""
    if name not in HRF_NAMES:
        raise OptionError(choice_message("", "model", name, HRF_NAMES))
    if name == "gam":
        times_s = np.arange(n_taps) * dt_s
        peak_s = GAM_P * GAM_Q_S
        # In logarithms the power and the exponential cannot overflow before they cancel.
        with np.errstate(divide="ignore"):
            exponent = GAM_P * np.log(times_s / peak_s) + GAM_P - times_s / GAM_Q_S
        return cast("NDArray[np.float64]", np.exp(exponent))
    from nilearn.glm.first_level import glover_hrf, spm_hrf

    sampler = glover_hrf if name == "glover" else spm_hrf
    n_steps = 1 if dt_s <= _LONGEST_STEP_S else round(dt_s / _FINE_STEP_S)
    fine = sampler(t_r=dt_s / n_steps, oversampling=1, time_length=duration_s)
    kernel: NDArray[np.float64] = np.asarray(fine, dtype=np.float64)[::n_steps][:n_taps]
    if n_steps > 1:
        with np.errstate(invalid="ignore"):  # Of a sample alone, which is 0, nothing can be made.
            kernel = kernel / kernel.sum()
    return kernel


def _convolve_direct(
    columns: NDArray[np.float64], taps: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Multiply blocks of time points by the band of the Toeplitz matrix that reaches them."""
    n_time, n_taps = len(columns), len(taps)
    n_rows = min(n_time, max(64, n_taps))
    lags = np.arange(n_rows)[:, None] - np.arange(-(n_taps - 1), n_rows)[None, :]
    band = np.where((lags >= 0) & (lags < n_taps), taps[np.clip(lags, 0, n_taps - 1)], 0.0)
    convolved = np.empty_like(columns)
    for start in range(0, n_time, n_rows):
        stop = min(start + n_rows, n_time)
        first = max(0, start - (n_taps - 1))
        skipped = first - (start - (n_taps - 1))
        reach = band[: stop - start, skipped : skipped + stop - first]
        convolved[start:stop] = reach @ columns[first:stop]
    return convolved


def _convolve_fft(columns: NDArray[np.float64], taps: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convolve by one transform over all time points."""
    from scipy import fft

    n_time = len(columns)
    size = fft.next_fast_len(n_time + len(taps) - 1, real=True)
    # Rows are contiguous after the transposition, which the transform needs to be fast.
    spectrum = fft.rfft(np.ascontiguousarray(columns.T), size, axis=1)
    spectrum *= fft.rfft(taps, size)
    return fft.irfft(spectrum, size, axis=1)[:, :n_time].T
