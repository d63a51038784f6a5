"""From responses and events to BOLD: the signal, the noise and their scale.

The signal of a voxel is its response to each stimulus times that stimulus's time course, so a run
is one product of a sparse design ``(n_volumes, n_stimuli)`` and the responses
``(n_stimuli, n_voxels)``; it is made a block of volumes at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.analyses.simulate.responses import Responses, check_responses
from imgtofmri.exceptions import ShapeError
from imgtofmri.experiments import Events, Noise, Scan, SmoothField, stimulus_design
from imgtofmri.experiments.noise import noise_blocks
from imgtofmri.timeseries import DEFAULT_HRF, HrfLike

Float32Array: TypeAlias = NDArray[np.float32]

# Values in a block of volumes: 16 MB in float32.
_BLOCK_VALUES = 4_000_000


def simulate_bold(
    responses: ArrayLike | Responses,
    events: Events,
    tr_s: float,
    n_volumes: int,
    *,
    hrf: HrfLike = DEFAULT_HRF,
    hrf_step_s: float = 0.05,
    slice_time_ref: float = 0.0,
    baseline: float = 100.0,
    percent_per_unit: float = 1.0,
    noise: Noise | None = None,
    seed: int = 0,
    mask: ArrayLike | None = None,
    affine: ArrayLike | None = None,
) -> Float32Array:
    """Simulate a run.

    Parameters
    ----------
    responses : array of shape (n_stimuli, n_voxels), or Responses
        Response of each voxel to each stimulus, amplitude kept: ``Prediction.subjects[i]``.
    events : Events
        What is shown when.
    tr_s, hrf, hrf_step_s, slice_time_ref, baseline, percent_per_unit, noise
        As in `Scan`.
    n_volumes : int
        Length of the run.
    seed : int
        Seed of the noise, 0 or more; the same seed gives the same noise.
    mask : array of shape (X, Y, Z), bool, optional
        Where the voxels are, in C order; ``Prediction.mask``. Needed for noise with ``fwhm_mm``.
    affine : array of shape (4, 4), optional
        Voxel indices of the mask to millimetres; ``Prediction.affine``.

    Returns
    -------
    bold : array of shape (n_volumes, n_voxels), float32
        ``baseline * (1 + percent_per_unit / 100 * signal) + noise``.

    Raises
    ------
    OptionError
        If an option is not valid or an event lies outside the run.
    ShapeError, DataError
        If the responses are not 2-D and finite, lack a stimulus that the events show, or do not
        fit the mask.

    Notes
    -----
    The neural time course of a stimulus is its amplitude while it is shown and 0 otherwise; its
    convolution with the haemodynamic response h is evaluated through the integral of h, so that
    onsets and durations need not lie on any grid. Where events overlap, they add.

    Examples
    --------
    >>> from imgtofmri.analyses.simulate import Events
    >>> events = Events([0.0, 20.0], [4.0, 4.0], [0, 1])
    >>> simulate_bold(np.eye(2), events, tr_s=2.0, n_volumes=20).shape
    (20, 2)
    """
    scan = Scan(tr_s, hrf, hrf_step_s, slice_time_ref, baseline, percent_per_unit, noise)
    checked = check_responses(responses, events.n_stimuli)
    field = None
    if mask is not None and affine is not None:
        inside = np.asarray(mask, dtype=bool)
        if inside.sum() != checked.n_voxels:
            message = (
                f"mask must hold the {checked.n_voxels} voxels of the responses; got "
                f"{inside.sum()}. Give the mask that they were predicted with."
            )
            raise ShapeError(message)
        field = noise_field(scan, inside, affine)
    blocks = simulate_blocks(checked, events, scan, n_volumes, seed=seed, field=field)
    return np.concatenate(list(blocks))


def noise_field(scan: Scan, mask: ArrayLike, affine: ArrayLike) -> SmoothField | None:
    """Return what makes a scan's noise smooth in the voxels of a mask; None if it is not."""
    if scan.noise is None or scan.noise.fwhm_mm == 0:
        return None
    return SmoothField(mask, affine, scan.noise.fwhm_mm)


def simulate_blocks(
    responses: Responses,
    events: Events,
    scan: Scan,
    n_volumes: int,
    *,
    seed: int,
    key: tuple[int, ...] = (),
    n_voxels: int | None = None,
    columns: NDArray[np.intp] | None = None,
    field: SmoothField | None = None,
) -> Iterator[Float32Array]:
    """Simulate a run a block of volumes at a time, in order.

    Parameters
    ----------
    responses : Responses
        Of ``n_responding`` voxels.
    events, scan, n_volumes
        As in `simulate_bold`.
    seed : int
        Seed of the noise.
    key : tuple of int
        Which of the runs with that seed it is: the subject's number and the run's.
    n_voxels : int, optional
        Number of voxels of the run, where more than those of ``responses`` have noise.
    columns : array of shape (n_responding,), int, optional
        Which of the ``n_voxels`` each column of the responses is.
    field : SmoothField, optional
        From `noise_field`, of all ``n_voxels``.

    Yields
    ------
    block : array of shape (n_block, n_voxels), float32
        The next volumes; how many does not change the numbers.
    """
    n_total = responses.n_voxels if n_voxels is None else n_voxels
    design = stimulus_design(events, responses.n_stimuli, scan, n_volumes)
    n_block = max(1, _BLOCK_VALUES // max(1, n_total))
    quiet = _baseline_blocks(scan, n_volumes, n_total, n_block, seed, key, field)
    gain = scan.baseline * scan.percent_per_unit / 100.0
    for start in range(0, n_volumes, n_block):
        rows = slice(start, min(start + n_block, n_volumes))
        block = next(quiet)
        signal = responses.signal(design[rows]) * gain
        block[:, slice(None) if columns is None else columns] += signal.astype(np.float32)
        yield block


def _baseline_blocks(
    scan: Scan,
    n_volumes: int,
    n_voxels: int,
    n_block: int,
    seed: int,
    key: tuple[int, ...],
    field: SmoothField | None,
) -> Iterator[Float32Array]:
    """Yield what a run without a signal holds, a block of volumes at a time."""
    if scan.noise is not None:
        yield from noise_blocks(
            scan.noise,
            baseline=scan.baseline,
            tr_s=scan.tr_s,
            n_volumes=n_volumes,
            n_voxels=n_voxels,
            n_block=n_block,
            seed=seed,
            key=key,
            field=field,
        )
        return
    for start in range(0, n_volumes, n_block):
        shape = (min(n_block, n_volumes - start), n_voxels)
        yield np.full(shape, scan.baseline, dtype=np.float32)
