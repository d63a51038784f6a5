"""Noise that is smooth in space: its variance, its smoothness, and that time does not notice."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from imgtofmri.analyses.simulate import Events, Noise, bold, simulate_bold
from imgtofmri.exceptions import OptionError, ShapeError
from imgtofmri.experiments import SmoothField

SHAPE = (24, 20, 16)
INTERIOR = (slice(None), slice(8, -8), slice(7, -7), slice(6, -6))
SIZES_MM = (2.0, 2.5, 3.0)
# The first axis of the grid runs along y, the second along x.
AFFINE = np.array(
    [[0, SIZES_MM[1], 0, 5], [-SIZES_MM[0], 0, 0, 9], [0, 0, SIZES_MM[2], 1], [0, 0, 0, 1]]
)
NOTHING = Events([0.0], [1.0], [0])


def estimate_fwhm_mm(maps: NDArray[np.float32], axis: int) -> float:
    """Return the smoothness along an axis from neighbours' correlation (Forman et al. 1995).

    ``maps`` has shape (n_maps, X, Y, Z), a mean of 0 and one variance in all voxels.
    """
    first = np.take(maps, range(maps.shape[axis + 1] - 1), axis + 1)
    second = np.take(maps, range(1, maps.shape[axis + 1]), axis + 1)
    r = float((first * second).mean() / (maps**2).mean())
    return SIZES_MM[axis] * float(np.sqrt(-2.0 * np.log(2.0) / np.log(r)))


@pytest.mark.parametrize("fwhm_mm", [6.0, 9.0])
def test_smooth_field_has_the_variance_and_the_smoothness_asked_for(
    rng: np.random.Generator, fwhm_mm: float
) -> None:
    """Each voxel has variance 1, at the grid's corners too; neighbours correlate as in theory."""
    field = SmoothField(np.ones(SHAPE), AFFINE, fwhm_mm)
    assert field.n_draws == np.prod(SHAPE)
    maps = field(rng.standard_normal((2000, field.n_draws), dtype=np.float32))
    variance = maps.var(axis=0)
    assert np.abs(variance - 1.0).max() < 0.2
    assert variance.mean() == pytest.approx(1.0, abs=0.02)
    grid = maps.reshape(-1, *SHAPE)[INTERIOR]
    for axis, size_mm in enumerate(SIZES_MM):
        assert estimate_fwhm_mm(grid, axis) == pytest.approx(fwhm_mm, abs=0.12 * size_mm)


def test_smooth_field_takes_the_masks_voxels_in_c_order(rng: np.random.Generator) -> None:
    """A mask takes its voxels out of the map of the whole grid, scale and all."""
    mask = rng.random(SHAPE) < 0.3
    draws = rng.standard_normal((3, mask.size), dtype=np.float32)
    whole = SmoothField(np.ones(SHAPE), AFFINE, 6.0)(draws)
    np.testing.assert_array_equal(SmoothField(mask, AFFINE, 6.0)(draws), whole[:, mask.ravel()])


def test_simulate_bold_smooth_noise_keeps_what_it_is_in_time(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """tSNR, AR(1) and the size of blocks are as for independent voxels; space is smooth."""
    mask = np.ones(SHAPE, dtype=bool)
    where = {"mask": mask, "affine": AFFINE, "baseline": 1000.0, "seed": 3}
    responses = np.zeros((1, mask.sum()))
    noise = Noise(tsnr=40.0, fwhm_mm=7.0)
    run = simulate_bold(responses, NOTHING, 2.0, 300, noise=noise, **where)  # type: ignore[arg-type]
    assert np.median(run.mean(axis=0) / run.std(axis=0)) == pytest.approx(40.0, rel=0.02)
    monkeypatch.setattr(bold, "_BLOCK_VALUES", 7 * mask.size)
    again = simulate_bold(responses, NOTHING, 2.0, 300, noise=noise, **where)  # type: ignore[arg-type]
    np.testing.assert_allclose(again, run, rtol=1e-6)
    slow = Noise(tsnr=40.0, ar1=0.5, ar1_share=1.0, drift_share=0.0, fwhm_mm=7.0)
    centred = simulate_bold(responses, NOTHING, 2.0, 300, noise=slow, **where) - 1000.0  # type: ignore[arg-type]
    r = (centred[1:] * centred[:-1]).mean() / (centred**2).mean()
    assert r == pytest.approx(0.5, abs=0.03)
    grid = (centred / centred.std(axis=0)).reshape(-1, *SHAPE)[INTERIOR]
    for axis, size_mm in enumerate(SIZES_MM):
        assert estimate_fwhm_mm(grid, axis) == pytest.approx(7.0, abs=0.25 * size_mm)


def test_simulate_bold_drift_is_smooth_too() -> None:
    """Neighbours drift alike, with each voxel's share of the variance as asked for."""
    mask = np.ones(SHAPE, dtype=bool)
    noise = Noise(tsnr=40.0, ar1_share=0.0, drift_share=1.0, fwhm_mm=8.0)
    run = simulate_bold(
        np.zeros((1, mask.sum())), NOTHING, 2.0, 300, baseline=1000.0, noise=noise,
        mask=mask, affine=AFFINE,
    )  # fmt: skip
    np.testing.assert_allclose(run.std(axis=0), 25.0, rtol=1e-3)
    grid = ((run - 1000.0) / 25.0).reshape(-1, *SHAPE)
    assert (grid[:, 1:] * grid[:, :-1]).mean() > 0.8


def test_simulate_bold_smooth_noise_needs_to_know_where_voxels_are() -> None:
    """Without a mask, or with another's, or of a bad width, there is one clear error."""
    mask, responses = np.ones(SHAPE, dtype=bool), np.zeros((1, 5))
    noise = Noise(fwhm_mm=6.0)
    with pytest.raises(OptionError, match="needs to know where voxels are; got no mask"):
        simulate_bold(responses, NOTHING, 2.0, 60, noise=noise)
    with pytest.raises(ShapeError, match="the 5 voxels of the responses; got 7680"):
        simulate_bold(responses, NOTHING, 2.0, 60, noise=noise, mask=mask, affine=AFFINE)
    with pytest.raises(ShapeError, match=r"affine \(4, 4\); got \(24, 20, 16\) and \(3, 3\)"):
        SmoothField(mask, np.eye(3), 6.0)
    for fwhm_mm in (-1.0, float("nan")):
        with pytest.raises(OptionError, match="fwhm_mm must be 0 or more millimetres; got"):
            Noise(fwhm_mm=fwhm_mm)
