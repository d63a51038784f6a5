"""Haemodynamics, sampling to volumes, drift, and similarity over time."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nilearn.glm.first_level import glover_hrf, spm_hrf
from nilearn.glm.first_level.design_matrix import create_cosine_drift
from scipy.stats import gamma

from imgtofmri import timeseries
from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.timeseries import (
    Surrogates,
    checks,
    convolve,
    cosine_basis,
    held_hrf,
    hrf,
    regress_out,
    remove_drift,
    remove_lag_means,
    remove_mean,
    row_agreement,
    sample_to_volumes,
    similarity_matrix,
    trim,
    volume_times,
)
from imgtofmri.timeseries import haemodynamics as haemodynamics_module
from imgtofmri.timeseries import surrogates as surrogates_module
from imgtofmri.timeseries.checks import some


def pearson(first: np.ndarray, second: np.ndarray) -> float:
    """Return Pearson's r as numpy computes it."""
    return float(np.corrcoef(first, second)[0, 1])


@pytest.mark.parametrize("name", [info.name for info in pkgutil.iter_modules(timeseries.__path__)])
def test_examples_in_docstrings_hold(name: str) -> None:
    """What the docstrings show is what the functions return."""
    result = doctest.testmod(importlib.import_module(f"imgtofmri.timeseries.{name}"))
    assert result.failed == 0


# Haemodynamics


def test_hrf_gam_equals_its_formula() -> None:
    """The gamma function equals its definition, evaluated without logarithms."""
    times_s = np.arange(64) * 0.5
    p, q = 8.6, 0.547
    expected = (times_s / (p * q)) ** p * np.exp(p - times_s / q)
    np.testing.assert_allclose(hrf("gam", 0.5), expected, rtol=1e-12, atol=1e-300)


def test_hrf_gam_peaks_with_height_one_at_p_times_q() -> None:
    """Sampled finely, the gamma function peaks at 1 after 8.6 * 0.547 = 4.7042 s."""
    kernel = hrf("gam", 0.0001, duration_s=10.0)
    assert kernel.argmax() * 0.0001 == pytest.approx(4.7042, abs=1e-4)
    assert kernel.max() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("dt_s", [0.01, 0.04, 0.05])
@pytest.mark.parametrize(("name", "oracle"), [("glover", glover_hrf), ("spm", spm_hrf)])
def test_hrf_glover_and_spm_equal_nilearns(name: str, oracle: object, dt_s: float) -> None:
    """The double gammas are nilearn's, whether it thinks in TRs or in oversampled steps."""
    expected = oracle(t_r=dt_s * 16, oversampling=16)  # type: ignore[operator]
    np.testing.assert_allclose(hrf(name, dt_s), expected, rtol=1e-12)


@pytest.mark.parametrize("dt_s", [0.1, 0.125, 0.5, 0.72, 2.0, 2.2])
@pytest.mark.parametrize(
    ("name", "peak", "undershoot", "scale", "ratio"),
    [("glover", 6 / 0.9, 12 / 0.9, 0.9, 0.48), ("spm", 6, 16, 1, 0.167)],
)
def test_hrf_of_coarse_steps_is_the_response_at_its_times(
    name: str, peak: float, undershoot: float, scale: float, ratio: float, dt_s: float
) -> None:
    """Differences of gamma densities at 0, dt_s, ...: nilearn's come dt_s too late."""
    kernel = hrf(name, dt_s)
    times_s = np.arange(round(32 / dt_s)) * dt_s
    expected = gamma.pdf(times_s, peak, scale=scale)
    expected -= ratio * gamma.pdf(times_s, undershoot, scale=scale)
    expected /= expected.sum()
    np.testing.assert_allclose(kernel, expected, atol=0.01 * expected.max())


def test_hrf_callable_equals_array_of_its_samples() -> None:
    """A function of time and its samples are the same kernel."""
    sampled = hrf(np.exp(-np.arange(40) * 0.25), 0.25)
    np.testing.assert_allclose(hrf(lambda t: np.exp(-t), 0.25, duration_s=10.0), sampled)


@pytest.mark.parametrize("name", ["gam", "glover", "spm"])
@pytest.mark.parametrize("dt_s", [0.05, 0.5])
def test_hrf_scale_sum_lets_a_held_response_settle_at_one(name: str, dt_s: float) -> None:
    """A response held at 1 settles at 1 whatever the sampling step."""
    held = convolve(np.ones(round(60 / dt_s)), hrf(name, dt_s, scale="sum"))
    assert held[-1] == pytest.approx(1.0, abs=1e-9)


def test_hrf_scale_peak_has_largest_value_one() -> None:
    """The largest value of a kernel scaled by its peak is 1."""
    assert hrf("spm", 0.3, scale="peak").max() == 1.0


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("gamm", 0.5), "model must be one of gam, glover, spm; got 'gamm'. Did you mean gam"),
        (("gam", 0.0), "dt_s must be a positive number of seconds; got 0.0"),
        (("gam", float("nan")), "dt_s must be a positive number of seconds; got nan"),
        (([], 0.5), r"not empty and finite; got shape \(0,\)"),
        (([[1.0]], 0.5), r"1-D, not empty and finite; got shape \(1, 1\)"),
        (([1.0, np.inf], 0.5), "with NaN or infinity"),
    ],
)
def test_hrf_bad_argument_says_what_is_valid(arguments: tuple[object, float], match: str) -> None:
    """Each bad kernel or step is refused with what would be right."""
    with pytest.raises(OptionError, match=match):
        hrf(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["gam", "glover", "spm"])
def test_held_hrf_of_slow_frames_equals_one_of_many_fast_ones(name: str) -> None:
    """A frame shown for 2 s evokes what forty frames of 50 ms, all like it, evoke together."""
    slow = np.array([1.0, 0.0, 3.0, -1.0, 2.0, 0.0, 0.0, 1.0])
    fast = convolve(np.repeat(slow, 40), held_hrf(name, 0.05))
    got = convolve(slow, held_hrf(name, 2.0))
    # nilearn's own steps are a little longer than asked for, the more so the coarser.
    np.testing.assert_allclose(got, fast[::40], atol=3e-3)


def test_held_hrf_sums_to_one_and_keeps_a_kernel_of_ones_own() -> None:
    """A frame held on settles at its response; an array is not touched."""
    assert held_hrf("glover", 0.5).sum() == pytest.approx(1.0, abs=1e-12)
    assert held_hrf(np.exp, 0.5)[0] == 0.0
    np.testing.assert_array_equal(held_hrf([0.0, 2.0, 1.0], 0.5), [0.0, 2.0, 1.0])


def test_held_hrf_is_as_long_as_it_is_asked_to_be() -> None:
    """A decay that is cut off at 4 s gives its integrals over the steps up to there, then none."""
    got = held_hrf(lambda times_s: np.exp(-times_s), 0.5, duration_s=4.0)
    ends = np.exp(-0.5 * np.arange(9))
    expected = np.concatenate([[0.0], (ends[:-1] - ends[1:]) / (1 - ends[-1]), [0.0]])
    np.testing.assert_allclose(got[: len(expected)], expected, atol=5e-3)


def test_hrf_unknown_scale_lists_the_scales() -> None:
    """An unknown scale is answered with the list."""
    with pytest.raises(OptionError, match="scale must be one of native, sum, peak; got 'peek'"):
        hrf("gam", 0.5, scale="peek")  # type: ignore[arg-type]


@pytest.mark.parametrize(("kernel", "scale"), [([1.0, -1.0], "sum"), ([-1.0, 0.0], "peak")])
def test_hrf_kernel_without_scale_is_refused(kernel: list[float], scale: str) -> None:
    """A kernel that sums to 0, or never rises above 0, cannot be scaled by that."""
    with pytest.raises(OptionError, match="must be positive for scale="):
        hrf(kernel, 0.5, scale=scale)  # type: ignore[arg-type]


@given(
    n_time=st.integers(1, 150),
    n_taps=st.integers(1, 200),
    n_voxels=st.integers(1, 4),
    direct=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_convolve_equals_np_convolve(
    n_time: int, n_taps: int, n_voxels: int, direct: bool, seed: int
) -> None:
    """Either way of computing, each column is np.convolve's, cut to its length."""
    generator = np.random.default_rng(seed)
    responses = generator.normal(size=(n_time, n_voxels))
    kernel = generator.normal(size=n_taps)
    expected = np.stack([np.convolve(column, kernel)[:n_time] for column in responses.T], axis=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(haemodynamics_module, "_DIRECT_MAX_TAPS", 10**6 if direct else 0)
        patch.setattr(checks, "_BLOCK_ELEMENTS", 3 * n_time)
        np.testing.assert_allclose(convolve(responses, kernel), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("n_taps", [192, 193])
def test_convolve_is_the_same_on_both_sides_of_the_choice(
    rng: np.random.Generator, n_taps: int
) -> None:
    """The change from products to the FFT does not show."""
    responses, kernel = rng.normal(size=(1000, 3)), rng.normal(size=n_taps)
    expected = np.stack([np.convolve(column, kernel)[:1000] for column in responses.T], axis=1)
    np.testing.assert_allclose(convolve(responses, kernel), expected, rtol=1e-10, atol=1e-10)


def test_convolve_keeps_single_precision_and_shape(rng: np.random.Generator) -> None:
    """float32 stays float32; a single course stays 1-D."""
    responses = rng.normal(size=(50, 3)).astype(np.float32)
    assert convolve(responses, [0.0, 1.0]).dtype == np.float32
    assert convolve(responses[:, 0], [0.0, 1.0]).shape == (50,)
    assert convolve(np.arange(5), [1.0]).dtype == np.float64


def test_convolve_value_that_is_not_finite_names_the_time_points() -> None:
    """NaN is refused with where it is, and not spread by the transform."""
    responses = np.zeros((10, 2))
    responses[[2, 7], 1] = np.nan, np.inf
    with pytest.raises(DataError, match=r".*at time points 2, 7 \(counted from 0\)"):
        convolve(responses, [1.0])


def test_convolve_three_axes_are_refused() -> None:
    """Only (n_time, n_voxels) and (n_time,) are time courses."""
    with pytest.raises(ShapeError, match=r"must have shape \(n_time, n_voxels\).*got \(2, 2, 2\)"):
        convolve(np.zeros((2, 2, 2)), [1.0])


def test_convolve_empty_kernel_is_refused() -> None:
    """A kernel without taps is refused."""
    with pytest.raises(OptionError, match="a kernel must be 1-D, not empty"):
        convolve(np.zeros(3), [])


# Sampling


@pytest.mark.parametrize("slice_time_ref", [0.0, 0.5, 1.0])
def test_sample_to_volumes_interp_equals_np_interp(
    rng: np.random.Generator, slice_time_ref: float
) -> None:
    """Linear interpolation is np.interp's, voxel by voxel, on an uneven time axis too."""
    times_s = np.cumsum(rng.uniform(0.2, 0.8, size=60))
    responses = rng.normal(size=(60, 3))
    volumes = sample_to_volumes(
        responses, times_s, 1.7, n_volumes=12, slice_time_ref=slice_time_ref
    )
    wanted = (np.arange(12) + slice_time_ref) * 1.7
    expected = np.stack([np.interp(wanted, times_s, column) for column in responses.T], axis=1)
    np.testing.assert_allclose(volumes, expected, rtol=1e-12)


def test_sample_to_volumes_nearest_equals_a_search(rng: np.random.Generator) -> None:
    """The nearest sample is the one with the least distance, the earlier of two."""
    times_s = np.arange(40) * 0.5
    responses = rng.normal(size=40)
    volumes = sample_to_volumes(responses, times_s, 0.75, n_volumes=20, resample="nearest")
    expected = [responses[np.abs(times_s - 0.75 * k).argmin()] for k in range(20)]
    np.testing.assert_array_equal(volumes, expected)


@pytest.mark.parametrize("resample", ["interp", "nearest"])
def test_sample_to_volumes_on_the_grid_takes_the_samples_themselves(
    rng: np.random.Generator, resample: timeseries.Resampling
) -> None:
    """At 2 Hz and TR 2 s every method takes each fourth frame, exactly."""
    responses = rng.normal(size=(691, 2)).astype(np.float32)
    volumes = sample_to_volumes(responses, np.arange(691) / 2, 2.0, resample=resample)
    assert volumes.dtype == np.float32
    np.testing.assert_array_equal(volumes, responses[::4])


def test_sample_to_volumes_default_count_ends_with_the_samples() -> None:
    """By default the last volume is the last that some sample reaches, rounding aside."""
    times_s = np.arange(31) * 0.1
    assert len(sample_to_volumes(times_s, times_s, 0.3)) == 11
    assert len(sample_to_volumes(times_s, times_s, 0.3, slice_time_ref=0.5)) == 10


def test_sample_to_volumes_holds_the_end_for_one_step() -> None:
    """A volume within a step of the last sample takes its value."""
    assert sample_to_volumes([1.0, 2.0, 3.0], [0.0, 1.0, 2.0], 3.0, n_volumes=2)[1] == 3.0


@pytest.mark.parametrize("tr_s", [0.0, -2.0, float("nan"), float("inf")])
def test_sample_to_volumes_wrong_tr_is_refused(tr_s: float) -> None:
    """A TR must be a positive number."""
    with pytest.raises(OptionError, match="tr_s must be a positive number of seconds; got"):
        sample_to_volumes([0.0, 1.0], [0.0, 1.0], tr_s)


def test_sample_to_volumes_beyond_the_samples_is_refused() -> None:
    """Volumes that no sample reaches are not made up."""
    with pytest.raises(OptionError, match="within the samples, 0 to 2 s; got volumes from 0 to 4"):
        sample_to_volumes([0.0, 1.0, 2.0], [0.0, 1.0, 2.0], 2.0, n_volumes=3)
    with pytest.raises(OptionError, match="within the samples, 5 to 7 s"):
        sample_to_volumes([0.0, 1.0, 2.0], [5.0, 6.0, 7.0], 2.0)
    with pytest.raises(OptionError, match="within the samples, 1.5 to 2.5 s; got volumes from 0"):
        sample_to_volumes([0.0, 1.0, 2.0], [1.5, 2.0, 2.5], 2.0)


def test_sample_to_volumes_original_elsewhere_than_at_the_start_is_refused() -> None:
    """The published scheme has no slice timing reference."""
    with pytest.raises(OptionError, match="`resample` original samples at the start"):
        sample_to_volumes([0.0, 1.0], [0.0, 1.0], 1.0, resample="original", slice_time_ref=0.5)


@pytest.mark.parametrize("n_volumes", [None, 1])
def test_sample_to_volumes_original_needs_the_number_of_volumes(n_volumes: int | None) -> None:
    """The published rule spreads a film over a known number of volumes."""
    with pytest.raises(OptionError, match=f"over `n_volumes`, 2 or more; got {n_volumes}"):
        sample_to_volumes([0.0, 1.0], [0.0, 0.5], 2.0, resample="original", n_volumes=n_volumes)


def test_published_rules_equal_each_step_written_out(rng: np.random.Generator) -> None:
    """HRF, volumes, mean and cosines are the published analysis's, number for number."""
    frames = rng.standard_normal((691, 3)) + 5.0
    kernel = [(t / (8.6 * 0.547)) ** 8.6 * np.exp(8.6 - t / 0.547) for t in np.arange(30) / 2]
    points = [step * 691 / 167 for step in range(168)]
    cosines = [np.ones(168)]
    for order in range(1, int(2 * 168 * 2.0 / 120) + 1):
        cosines.append(np.cos(np.pi * order * (2 * np.arange(168) + 1) / (2 * 168)))
    design = np.stack(cosines, axis=1)
    for voxel in range(3):
        convolved = np.convolve(frames[:, voxel], kernel)[:691]
        volumes = np.interp(points, np.arange(691), convolved)
        centred = volumes - volumes.mean()
        expected = centred - design @ np.linalg.lstsq(design, centred, rcond=None)[0]
        ours = convolve(frames[:, voxel], hrf("gam", 0.5, duration_s=15.0))
        ours = sample_to_volumes(ours, np.arange(691) / 2, 2.0, n_volumes=168, resample="original")
        np.testing.assert_allclose(ours, volumes, atol=1e-10)
        np.testing.assert_allclose(remove_mean(ours), centred, atol=1e-10)
        filtered = remove_drift(remove_mean(ours), 2.0, cutoff_s=120.0)
        np.testing.assert_allclose(filtered, expected, atol=1e-10)


def test_sample_to_volumes_unknown_method_lists_the_methods() -> None:
    """An unknown method is answered with the list."""
    with pytest.raises(OptionError, match="resample must be one of interp, nearest, original"):
        sample_to_volumes([0.0, 1.0], [0.0, 1.0], 1.0, resample="cubic")  # type: ignore[arg-type]


def test_sample_to_volumes_times_of_another_length_are_refused() -> None:
    """There is one time for each sample."""
    with pytest.raises(ShapeError, match=r"one time for each of the 3 samples; got shape \(2,\)"):
        sample_to_volumes([0.0, 1.0, 2.0], [0.0, 1.0], 1.0)


def test_sample_to_volumes_times_that_do_not_rise_are_refused() -> None:
    """Times rise from sample to sample."""
    with pytest.raises(DataError, match="times_s must be finite and rise"):
        sample_to_volumes([0.0, 1.0, 2.0], [0.0, 1.0, 1.0], 1.0)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_volumes": 0, "tr_s": 2.0}, "n_volumes must be 1 or more; got 0"),
        ({"n_volumes": 3, "tr_s": 2.0, "slice_time_ref": 1.5}, "from 0 to 1; got 1.5"),
        ({"n_volumes": 3, "tr_s": 2.0, "slice_time_ref": float("nan")}, "from 0 to 1; got nan"),
    ],
)
def test_volume_times_bad_argument_is_refused(options: dict[str, float], match: str) -> None:
    """A run has volumes, and their reference lies within them."""
    with pytest.raises(OptionError, match=match):
        volume_times(**options)  # type: ignore[arg-type]


def test_trim_drops_at_the_end_that_is_named() -> None:
    """And nothing where none is."""
    values = np.arange(10.0)
    np.testing.assert_array_equal(trim(values), values)
    np.testing.assert_array_equal(trim(values, n_start=3), values[3:])
    np.testing.assert_array_equal(trim(values, n_end=3), values[:-3])


def test_trim_drops_volumes_at_both_ends() -> None:
    """What remains is the slice between."""
    np.testing.assert_array_equal(trim(np.arange(10.0), n_start=3, n_end=2), np.arange(3.0, 8.0))


@pytest.mark.parametrize(("n_start", "n_end"), [(-1, 0), (0, -1), (2, 3)])
def test_trim_that_leaves_nothing_is_refused(n_start: int, n_end: int) -> None:
    """Nothing negative, and something is left."""
    with pytest.raises(OptionError, match=f"of the 5; got {n_start} and {n_end}"):
        trim(np.zeros((5, 2)), n_start=n_start, n_end=n_end)


# Drift


@pytest.mark.parametrize("cutoff_s", [120.0, 128.0])
@pytest.mark.parametrize(("n_volumes", "tr_s"), [(3, 2.0), (150, 2.0), (168, 2.0), (413, 0.8)])
def test_cosine_basis_equals_nilearns_drift(n_volumes: int, tr_s: float, cutoff_s: float) -> None:
    """The basis is nilearn's, without its constant, and orthonormal."""
    expected = create_cosine_drift(1 / cutoff_s, np.arange(n_volumes) * tr_s)[:, :-1]
    basis = cosine_basis(n_volumes, tr_s, cutoff_s=cutoff_s)
    np.testing.assert_array_equal(basis, expected)
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-12)


@pytest.mark.parametrize("keep_mean", [False, True])
def test_remove_drift_equals_least_squares(rng: np.random.Generator, keep_mean: bool) -> None:
    """The residuals are those of ordinary least squares on nilearn's drift model."""
    responses = rng.normal(size=(168, 5)) + 100.0
    drift = create_cosine_drift(1 / 128, np.arange(168) * 2.0)
    beta = np.linalg.lstsq(drift, responses, rcond=None)[0]
    expected = responses - drift @ beta
    if keep_mean:
        expected += responses.mean(axis=0)
    cleaned = remove_drift(responses, 2.0, keep_mean=keep_mean)
    np.testing.assert_allclose(cleaned, expected, atol=1e-10)


def test_remove_drift_single_precision_stays_close(rng: np.random.Generator) -> None:
    """float32 data give the float64 residuals to float32 precision."""
    responses = rng.normal(size=(168, 5)) + 100.0
    cleaned = remove_drift(responses.astype(np.float32), 2.0)
    assert cleaned.dtype == np.float32
    np.testing.assert_allclose(cleaned, remove_drift(responses, 2.0), atol=5e-5)


@pytest.mark.parametrize(
    ("n_volumes", "tr_s", "cutoff_s", "error", "match"),
    [
        (100, 2.0, 4.0, OptionError, r"longer than two volumes \(4 s\).*got 4"),
        (100, 2.0, -1.0, OptionError, "cutoff_s must be a positive number of seconds"),
        (100, 0.0, 128.0, OptionError, "tr_s must be a positive number of seconds; got 0"),
        (2, 2.0, 128.0, DataError, "3 time points or more are needed; got 2"),
    ],
)
def test_cosine_basis_bad_argument_is_refused(
    n_volumes: int, tr_s: float, cutoff_s: float, error: type[Exception], match: str
) -> None:
    """A cutoff leaves something, a TR is positive, and a run has volumes."""
    with pytest.raises(error, match=match):
        cosine_basis(n_volumes, tr_s, cutoff_s=cutoff_s)


def test_remove_mean_leaves_zero_mean(rng: np.random.Generator) -> None:
    """The mean over time is gone, the rest unchanged."""
    responses = rng.normal(size=(20, 3)) + 50.0
    np.testing.assert_allclose(
        remove_mean(responses), responses - responses.mean(axis=0), atol=1e-12
    )


def test_regress_out_equals_least_squares_with_dependent_regressors(
    rng: np.random.Generator,
) -> None:
    """Constant, repeated and dependent confounds change nothing but the span."""
    responses = rng.normal(size=(60, 4))
    confounds = rng.normal(size=(60, 3)) * np.array([1.0, 1e4, 1e-4])
    confounds = np.column_stack([confounds, confounds[:, 0] + confounds[:, 2], np.full(60, 7.0)])
    design = np.column_stack([confounds[:, :3], np.ones(60)])
    expected = responses - design @ np.linalg.lstsq(design, responses, rcond=None)[0]
    np.testing.assert_allclose(regress_out(responses, confounds), expected, atol=1e-9)


def test_regress_out_without_regressors_removes_the_mean(rng: np.random.Generator) -> None:
    """No columns leave the constant."""
    responses = rng.normal(size=(9, 2))
    np.testing.assert_allclose(regress_out(responses, np.zeros((9, 0))), remove_mean(responses))


def test_regress_out_other_length_is_refused() -> None:
    """Confounds have a row for each volume."""
    with pytest.raises(ShapeError, match="must have the 9 rows of responses; got 8"):
        regress_out(np.zeros((9, 2)), np.zeros((8, 2)))


def test_regress_out_missing_value_names_the_regressors() -> None:
    """The first row of derivative confounds is often n/a: the message says which array."""
    confounds = np.zeros((9, 2))
    confounds[0, 1] = np.nan
    with pytest.raises(DataError, match=r"regressors must be finite; .* time points 0 "):
        regress_out(np.zeros((9, 2)), confounds)


# Similarity


def test_similarity_matrix_equals_corrcoef(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pearson's r between volumes is numpy's, also in blocks and beside a large baseline."""
    responses = rng.normal(size=(23, 101)) + 1000.0
    expected = np.corrcoef(responses)
    np.testing.assert_allclose(similarity_matrix(responses), expected, atol=1e-12)
    monkeypatch.setattr(checks, "_BLOCK_ELEMENTS", 23 * 7)
    blockwise = similarity_matrix(responses)
    np.testing.assert_allclose(blockwise, expected, atol=1e-12)
    np.testing.assert_array_equal(blockwise, blockwise.T)
    np.testing.assert_array_equal(np.diag(blockwise), 1.0)


def test_similarity_matrix_constant_volume_is_named() -> None:
    """A volume without a pattern has no correlation; the message says which and what to do."""
    responses = np.arange(20.0).reshape(4, 5) ** 2
    responses[[0, 2]] = 0.1
    with pytest.raises(DataError, match=r"volumes 0, 2 hold one value throughout. Remove the mean"):
        similarity_matrix(responses)


@pytest.mark.parametrize("shape", [(5,), (5, 1), (2, 3, 4)])
def test_similarity_matrix_needs_patterns(shape: tuple[int, ...]) -> None:
    """A pattern has two voxels or more."""
    with pytest.raises(ShapeError, match="and 2 voxels; got"):
        similarity_matrix(np.ones(shape))


def test_similarity_matrix_too_few_volumes_are_refused() -> None:
    """Fewer than three volumes have no dynamics."""
    with pytest.raises(DataError, match=r"3 time points or more .* got 2"):
        similarity_matrix(np.eye(2))


def test_similarity_matrix_missing_value_is_refused() -> None:
    """NaN in a volume is named."""
    responses = np.random.default_rng(0).normal(size=(4, 6))
    responses[3, 2] = np.nan
    with pytest.raises(DataError, match="got NaN or infinity at time points 3"):
        similarity_matrix(responses)


@pytest.mark.parametrize("band", [None, 3, 5])
def test_row_agreement_equals_a_loop_over_rows(rng: np.random.Generator, band: int | None) -> None:
    """Each row's agreement is numpy's correlation of the entries that count, never the diagonal."""
    model = similarity_matrix(rng.normal(size=(14, 30)))
    measured = similarity_matrix(rng.normal(size=(14, 30)))
    expected = []
    for i in range(14):
        reach = 14 if band is None else band
        columns = [j for j in range(14) if j != i and abs(i - j) <= reach]
        expected.append(pearson(model[i, columns], measured[i, columns]))
    np.testing.assert_allclose(row_agreement(model, measured, band=band), expected, atol=1e-12)


def test_messages_name_the_first_five_of_many() -> None:
    """And how many more there are, if there are any."""
    assert some(np.arange(5)) == "0, 1, 2, 3, 4"
    assert some(np.arange(6)) == "0, 1, 2, 3, 4 and 1 more"


def test_row_agreement_of_other_shapes_is_refused(rng: np.random.Generator) -> None:
    """Matrices that are not square, or of two sizes, are not cut to fit."""
    square = rng.standard_normal((6, 6))
    for other in (square[:5], square[:, :5], square[:5, :5], square[0]):
        for pair in ((square, other), (other, square)):
            with pytest.raises(ShapeError, match="must be square and of one size; got"):
                row_agreement(*pair)


@pytest.mark.parametrize("scale", [1.0, 1e-9])
def test_surrogates_of_one_voxel_are_refused(rng: np.random.Generator, scale: float) -> None:
    """Patterns over one voxel have no correlation."""
    with pytest.raises((ShapeError, DataError), match="series"):
        Surrogates(scale * rng.standard_normal((20, 1)))


@pytest.mark.parametrize("min_lag", [1, 4])
def test_row_agreement_leaves_out_near_volumes(rng: np.random.Generator, min_lag: int) -> None:
    """With a least lag, rows are correlated over the volumes that are as far away or farther."""
    model, measured = (similarity_matrix(rng.normal(size=(12, 30))) for _ in range(2))
    got = row_agreement(model, measured, min_lag=min_lag)
    for row in range(12):
        far = [column for column in range(12) if abs(column - row) >= min_lag]
        expected = np.corrcoef(model[row, far], measured[row, far])[0, 1]
        assert got[row] == pytest.approx(expected, abs=1e-12)


def test_remove_lag_means_equals_a_loop_over_diagonals(rng: np.random.Generator) -> None:
    """Every diagonal loses its own mean, in each of a stack of matrices."""
    stack = np.stack([similarity_matrix(rng.normal(size=(9, 30))) for _ in range(3)])
    got = remove_lag_means(stack)
    for matrix, left in zip(stack, got, strict=True):
        for row in range(9):
            for column in range(9):
                mean = np.diagonal(matrix, abs(row - column)).mean()
                assert left[row, column] == pytest.approx(matrix[row, column] - mean, abs=1e-12)


def test_remove_lag_means_needs_square_matrices() -> None:
    """Anything else has no lags."""
    with pytest.raises(ShapeError, match=r"n_time, n_time\); got \(3, 4\)"):
        remove_lag_means(np.ones((3, 4)))


@pytest.mark.parametrize("n_time", [40, 41])
@pytest.mark.parametrize("n_voxels", [5, 300])
def test_surrogates_equal_phases_turned_voxel_by_voxel(
    rng: np.random.Generator, n_time: int, n_voxels: int
) -> None:
    """They are NumPy's transform with the same phases in all voxels, then the operator."""
    series = rng.standard_normal((n_time, n_voxels)) + rng.standard_normal(n_voxels)
    operator = rng.standard_normal((15, n_time))
    got = np.concatenate(list(Surrogates(series, operator).similarities(4, seed=3)))
    phases = np.random.default_rng(3).uniform(0, 2 * np.pi, (4, n_time // 2 + 1))
    phases[:, 0] = 0
    phases[:, n_time // 2] *= n_time % 2
    spectrum = np.fft.rfft(series, axis=0)
    for sample, row in zip(got, phases, strict=True):
        turned = np.fft.irfft(spectrum * np.exp(1j * row)[:, None], n_time, axis=0)
        np.testing.assert_allclose(turned.mean(axis=0), series.mean(axis=0), atol=1e-12)
        np.testing.assert_allclose(sample, np.corrcoef(operator @ turned), atol=0.02)
        assert np.abs(sample - np.corrcoef(operator @ turned)).mean() < 2e-3


@pytest.mark.parametrize("n_time", [40, 41])
def test_surrogates_that_are_shifts_equal_numpys_roll(
    rng: np.random.Generator, n_time: int
) -> None:
    """Phases proportional to frequency roll the series in time, as a whole."""
    series = np.cumsum(rng.standard_normal((n_time, 6)), axis=0)
    operator = np.eye(n_time)[5:]
    got = np.concatenate(list(Surrogates(series, operator).similarities(4, kind="shifts")))
    for sample, step in zip(got, (0, n_time // 4, n_time // 2, 3 * n_time // 4), strict=True):
        expected = np.corrcoef(operator @ np.roll(series, -step, axis=0))
        assert np.abs(sample - expected).mean() < 5e-3
    itself = np.eye(len(operator))
    many = Surrogates(series, operator).similarities(5 * n_time, 3, "shifts", itself)
    found = (np.concatenate(list(many)) == itself).all(axis=(1, 2))
    np.testing.assert_array_equal(np.flatnonzero(found), np.arange(5))
    with pytest.raises(OptionError, match="kind must be one of phases, shifts; got 'turns'"):
        next(Surrogates(series).similarities(1, kind="turns"))  # type: ignore[arg-type]


def test_surrogates_do_not_depend_on_batches_and_share_phases(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many are made at once changes nothing; two series of a length are turned alike."""
    series = rng.standard_normal((30, 8))
    whole = np.concatenate(list(Surrogates(series).similarities(6)))
    monkeypatch.setattr(surrogates_module, "_BATCH_BYTES", 1)
    single = list(Surrogates(2 * series + 1).similarities(6))
    assert [len(batch) for batch in single] == [1] * 6
    np.testing.assert_allclose(np.concatenate(single), whole, atol=1e-5)


def test_surrogates_bad_input_is_named(rng: np.random.Generator) -> None:
    """An operator of another length and a series that holds still in every voxel are refused."""
    with pytest.raises(ShapeError, match=r"30 time points of series; got shape \(5, 29\)"):
        Surrogates(rng.standard_normal((30, 8)), np.ones((5, 29)))
    with pytest.raises(DataError, match="series must vary over voxels"):
        Surrogates(np.repeat(rng.standard_normal((30, 1)), 8, axis=1))


def test_row_agreement_broadcasts_over_samples(rng: np.random.Generator) -> None:
    """A stack of measured matrices gives what each gives alone."""
    model = similarity_matrix(rng.normal(size=(8, 30)))
    stack = np.stack([similarity_matrix(rng.normal(size=(8, 30))) for _ in range(5)])
    together = row_agreement(model, stack, band=4)
    assert together.shape == (5, 8)
    for sample, agreement in zip(stack, together, strict=True):
        np.testing.assert_allclose(agreement, row_agreement(model, sample, band=4), atol=1e-14)


def test_row_agreement_ignores_the_diagonal(rng: np.random.Generator) -> None:
    """What stands on the diagonal, even NaN, does not count."""
    model = similarity_matrix(rng.normal(size=(8, 30)))
    measured = similarity_matrix(rng.normal(size=(8, 30)))
    expected = row_agreement(model, measured)
    np.fill_diagonal(measured, np.nan)
    np.testing.assert_array_equal(row_agreement(model, measured), expected)


def test_row_agreement_constant_row_is_nan(rng: np.random.Generator) -> None:
    """A row without variation has no correlation; the other rows keep theirs."""
    model = similarity_matrix(rng.normal(size=(8, 30)))
    flat = model.copy()
    flat[2] = 0.1
    agreement = row_agreement(model, flat)
    assert np.flatnonzero(np.isnan(agreement)).tolist() == [2]


@pytest.mark.parametrize(
    ("shapes", "band", "error", "match"),
    [
        (((5, 5), (6, 6)), None, ShapeError, r"of one size; got \(5, 5\) and \(6, 6\)"),
        (((5, 4), (5, 4)), None, ShapeError, "must be square"),
        (((3, 3), (3, 3)), None, DataError, "4 time points or more are needed; got 3"),
        (((9, 9), (9, 9)), 2, OptionError, "band must be 3 volumes or more"),
        (((9, 9), (9, 9)), (None, 0), OptionError, "min_lag must be 1 volume or more; got 0"),
        (
            ((9, 9), (9, 9)),
            (None, 4),
            OptionError,
            "3 others or more; got 2 for some",
        ),
        (((9, 9), (9, 9)), (3, 3), OptionError, "got 1 for some of 9 .* 3 or farther than 3"),
    ],
)
def test_row_agreement_bad_argument_is_refused(
    shapes: tuple[tuple[int, int], ...],
    band: int | tuple[int | None, int] | None,
    error: type[Exception],
    match: str,
) -> None:
    """Square matrices of one size, with rows long enough to correlate."""
    widest, min_lag = band if isinstance(band, tuple) else (band, 1)
    with pytest.raises(error, match=match):
        row_agreement(np.ones(shapes[0]), np.ones(shapes[1]), band=widest, min_lag=min_lag)


def test_row_agreement_missing_similarity_is_refused(rng: np.random.Generator) -> None:
    """NaN beside the diagonal is refused."""
    model = similarity_matrix(rng.normal(size=(8, 30)))
    broken = model.copy()
    broken[1, 4] = np.nan
    with pytest.raises(DataError, match="similarities must be finite"):
        row_agreement(model, broken)
