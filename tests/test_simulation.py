"""Events and responses to BOLD: the signal's exactness, the noise's statistics, what is refused."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from nilearn.glm.first_level import compute_regressor
from scipy import stats

from imgtofmri import experiments
from imgtofmri.analyses import simulate as simulation
from imgtofmri.analyses.simulate import (
    EncodedResponses,
    bold,
    combine,
    encoded_subjects,
    simulate_bold,
    subject_weights,
)
from imgtofmri.bundle import Bundle
from imgtofmri.cli.simulate import simulate as simulate_command
from imgtofmri.encoder import Encoder
from imgtofmri.exceptions import DataError, OptionError, ShapeError, StimulusError
from imgtofmri.experiments import (
    Events,
    Noise,
    Scan,
    find_stimuli,
    movie_events,
    read_events,
    read_kernel,
    stimulus_design,
)
from imgtofmri.experiments.experiment import check_tables
from imgtofmri.timeseries import DEFAULT_HRF, hrf, regress_out


@pytest.fixture
def events() -> Events:
    """Return overlapping events of three stimuli, off any grid, with amplitudes."""
    return Events(
        onsets_s=[0.0, 3.33, 4.1234, 17.77, 40.0],
        durations_s=[2.0, 4.567, 0.25, 11.0, 1.5],
        stimuli=[0, 1, 2, 1, 0],
        amplitudes=[1.0, 0.5, -2.0, 1.5, 3.0],
    )


@pytest.mark.parametrize(
    "name",
    [
        f"{wing.__name__}.{info.name}"
        for wing in (simulation, experiments)
        for info in pkgutil.iter_modules(wing.__path__)
    ],
)
def test_examples_in_docstrings_hold(name: str) -> None:
    """What the docstrings show is what the functions return."""
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0


# The signal


@pytest.mark.parametrize("slice_time_ref", [0.0, 0.5])
def test_stimulus_design_equals_the_gamma_distribution(
    events: Events, slice_time_ref: float
) -> None:
    """With AFNI's gamma function the design is a difference of incomplete gamma functions."""
    scan = Scan(1.3, hrf="gam", hrf_step_s=0.01, slice_time_ref=slice_time_ref)
    times_s = (np.arange(60) + slice_time_ref) * 1.3
    response = stats.gamma(a=9.6, scale=0.547).cdf
    expected = np.zeros((60, 3))
    for onset, duration, stimulus, amplitude in zip(
        events.onsets_s, events.durations_s, events.stimuli, events.amplitudes, strict=True
    ):
        since = times_s - onset
        expected[:, stimulus] += amplitude * (response(since) - response(since - duration))
    design = stimulus_design(events, 3, scan, 60).toarray()
    np.testing.assert_allclose(design, expected, atol=1e-5)


@pytest.mark.parametrize("name", ["gam", "glover", "spm"])
def test_stimulus_design_equals_convolution_on_a_fine_grid(events: Events, name: str) -> None:
    """The design is np.convolve's of boxcars at 4 ms, up to a step of that grid."""
    step_s, tr_s, n_volumes = 0.004, 2.0, 40
    fine_s = np.arange(round(n_volumes * tr_s / step_s)) * step_s
    kernel = hrf(name, step_s, scale="sum")
    expected = np.zeros((n_volumes, 3))
    for onset, duration, stimulus, amplitude in zip(
        events.onsets_s, events.durations_s, events.stimuli, events.amplitudes, strict=True
    ):
        shown = (fine_s >= onset - 1e-9) & (fine_s < onset + duration - 1e-9)
        course = np.convolve(shown * amplitude, kernel)[: len(fine_s)]
        expected[:, stimulus] += course[:: round(tr_s / step_s)]
    scan = Scan(tr_s, hrf=name, hrf_step_s=0.005)
    design = stimulus_design(events, 3, scan, n_volumes).toarray()
    np.testing.assert_allclose(design, expected, atol=5e-3)


@pytest.mark.parametrize("name", ["glover", "spm"])
def test_stimulus_design_agrees_with_nilearns_regressors(name: str) -> None:
    """A model fitted with nilearn's regressor finds the amplitude that was simulated."""
    onsets_s, durations_s = np.arange(5.0, 180.0, 20.3), np.full(9, 3.0)
    scan = Scan(2.0, hrf=name)
    design = stimulus_design(Events(onsets_s, durations_s, np.zeros(9)), 1, scan, 100)
    regressor, _ = compute_regressor(
        np.stack([onsets_s, durations_s, np.ones(9)]), name, np.arange(100) * 2.0
    )
    course, regressor = design.toarray()[:, 0], regressor[:, 0]
    assert course @ regressor / (regressor @ regressor) == pytest.approx(1.0, abs=0.01)
    assert np.corrcoef(course, regressor)[0, 1] > 0.9995


def test_stimulus_design_held_stimulus_settles_at_its_amplitude() -> None:
    """A stimulus that stays on is worth its response, whatever the haemodynamic response."""
    for model in ("gam", "glover", "spm", np.array([0.0, 1.0, 3.0])):
        design = stimulus_design(Events([0.0], [100.0], [0]), 1, Scan(1.0, hrf=model), 90)
        assert design[[80], [0]] == pytest.approx(1.0, abs=1e-9)


def test_stimulus_design_impulse_is_the_limit_of_short_events() -> None:
    """An event of 0 s equals one of 1 ms and a thousandfold amplitude."""
    scan = Scan(0.7, hrf="gam", hrf_step_s=0.005)
    impulse = stimulus_design(Events([1.23], [0.0], [0]), 1, scan, 40).toarray()
    short = stimulus_design(Events([1.23], [0.001], [0], [1000.0]), 1, scan, 40).toarray()
    np.testing.assert_allclose(impulse, short, atol=5e-4)
    assert impulse.max() > 0.2


def test_stimulus_design_shifting_events_by_volumes_shifts_the_rows(events: Events) -> None:
    """The response does not depend on when a run starts."""
    scan = Scan(1.7)
    later = Events(events.onsets_s + 5 * 1.7, events.durations_s, events.stimuli, events.amplitudes)
    now = stimulus_design(events, 3, scan, 60).toarray()
    np.testing.assert_allclose(stimulus_design(later, 3, scan, 65).toarray()[5:], now, atol=1e-12)


def test_stimulus_design_event_that_began_before_the_run_counts() -> None:
    """What of a response reaches into the run is there."""
    scan = Scan(2.0)
    before = stimulus_design(Events([-3.0], [4.0], [0]), 1, scan, 20).toarray()
    within = stimulus_design(Events([7.0], [4.0], [0]), 1, scan, 25).toarray()
    np.testing.assert_allclose(before, within[5:], atol=1e-12)


def test_simulate_bold_without_noise_is_baseline_plus_percent(
    events: Events, rng: np.random.Generator
) -> None:
    """A response of 1 raises the signal by percent_per_unit of the baseline."""
    responses = rng.normal(size=(3, 7))
    run = simulate_bold(
        responses, events, 2.0, 40, baseline=8000.0, percent_per_unit=0.5, hrf="spm"
    )
    signal = stimulus_design(events, 3, Scan(2.0, hrf="spm"), 40) @ responses
    np.testing.assert_allclose(run, 8000.0 * (1 + 0.005 * signal), rtol=1e-6)
    assert run.dtype == np.float32


def test_simulate_bold_overlapping_events_add(rng: np.random.Generator) -> None:
    """The run of all events is the sum of the runs of each."""
    responses = rng.normal(size=(2, 4))
    first, second = Events([1.0], [6.0], [0]), Events([3.0], [6.0], [1])
    both = Events([1.0, 3.0], [6.0, 6.0], [0, 1])
    runs = [simulate_bold(responses, item, 2.0, 20) - 100.0 for item in (first, second, both)]
    np.testing.assert_allclose(runs[0] + runs[1], runs[2], atol=2e-5)


def test_simulate_bold_movie_equals_convolved_frames(rng: np.random.Generator) -> None:
    """Frames as events equal the piecewise constant course, convolved finely and sampled."""
    frames = rng.normal(size=(60, 3))
    run = simulate_bold(frames, movie_events(np.arange(60) / 2), 2.0, 15, hrf="gam")
    step_s = 0.005
    fine = np.repeat(frames, 100, axis=0)
    kernel = hrf("gam", step_s, scale="sum")
    expected = np.stack(
        [np.convolve(column, kernel)[: len(fine) : 400] for column in fine.T], axis=1
    )
    np.testing.assert_allclose(run, 100.0 + expected, atol=5e-3)


@pytest.mark.parametrize("amplitude", [0.1, 1.0, 10.0])
def test_simulate_bold_signal_is_proportional_to_amplitudes(
    amplitude: float, events: Events, rng: np.random.Generator
) -> None:
    """Amplitudes count as they are: nothing scales them away."""
    responses = rng.normal(size=(3, 5))
    scaled = Events(
        events.onsets_s, events.durations_s, events.stimuli, amplitude * events.amplitudes
    )
    plain, other = (simulate_bold(responses, each, 2.0, 40) - 100.0 for each in (events, scaled))
    np.testing.assert_allclose(other, amplitude * plain, atol=1e-4)


# The noise


def noise_run(noise: Noise, n_volumes: int = 400, n_voxels: int = 500, seed: int = 1) -> np.ndarray:
    """Return a run without signal."""
    nothing = Events([0.0], [1.0], [0])
    return simulate_bold(
        np.zeros((1, n_voxels)), nothing, 2.0, n_volumes, baseline=1000.0, noise=noise, seed=seed
    )


@pytest.mark.parametrize(
    "noise",
    [
        Noise(tsnr=40.0),
        Noise(tsnr=80.0, ar1_share=0.0, drift_share=0.0),
        Noise(tsnr=20.0, ar1=0.6, ar1_share=1.0, drift_share=0.0),
        Noise(tsnr=60.0, ar1_share=0.0, drift_share=1.0),
    ],
)
def test_simulate_bold_tsnr_is_met(noise: Noise) -> None:
    """Mean over standard deviation of a run without signal is the tSNR that was asked for."""
    run = noise_run(noise)
    tsnr = run.mean(axis=0) / run.std(axis=0)
    assert np.median(tsnr) == pytest.approx(noise.tsnr, rel=0.015)


@pytest.mark.parametrize("ar1", [-0.3, 0.3, 0.7])
def test_simulate_bold_ar1_coefficient_is_recovered(ar1: float) -> None:
    """Yule-Walker on the noise alone returns the coefficient, already in the first volumes."""
    run = noise_run(Noise(ar1=ar1, ar1_share=1.0, drift_share=0.0), n_voxels=2000)
    centred = run - 1000.0
    assert (centred[1:] * centred[:-1]).mean() / (centred**2).mean() == pytest.approx(ar1, abs=0.01)
    assert centred[0].std() == pytest.approx(1000.0 / 50.0, rel=0.05)


def test_simulate_bold_white_noise_has_no_memory() -> None:
    """Without AR(1) and drift, neighbouring volumes do not correlate."""
    centred = noise_run(Noise(ar1_share=0.0, drift_share=0.0)) - 1000.0
    assert (centred[1:] * centred[:-1]).mean() / (centred**2).mean() == pytest.approx(0, abs=0.01)


def test_simulate_bold_drift_is_slow_and_has_its_share() -> None:
    """Regressing slow cosines out takes away the drift's share of the variance, and it alone."""
    drifting = noise_run(Noise(tsnr=50.0, ar1_share=0.0, drift_share=0.3))
    order = np.arange(400)[:, None] + 0.5
    cosines = np.cos(np.pi / 400 * order * np.arange(1, 13))
    left = regress_out(drifting, cosines).var(axis=0) / drifting.var(axis=0)
    # White noise loses 12 of its 400 dimensions as well.
    assert left.mean() == pytest.approx(0.7 * (1 - 12 / 400), abs=0.01)


def test_simulate_bold_same_seed_same_numbers_whatever_the_blocks(
    events: Events, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is the same in one block and in many; another seed gives another."""
    responses = rng.normal(size=(3, 11)).astype(np.float32)
    options = {"tr_s": 2.0, "n_volumes": 50, "noise": Noise()}
    whole = simulate_bold(responses, events, seed=7, **options)  # type: ignore[arg-type]
    monkeypatch.setattr(bold, "_BLOCK_VALUES", 7 * 11)
    blocks = simulate_bold(responses, events, seed=7, **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(blocks, whole, rtol=1e-6)
    other = simulate_bold(responses, events, seed=8, **options)  # type: ignore[arg-type]
    assert np.abs(other - whole).min() > 0


def test_simulate_bold_parts_of_the_noise_do_not_disturb_each_other() -> None:
    """The white noise of a seed is the same with and without an AR(1) part beside it."""
    white = noise_run(Noise(tsnr=50.0, ar1_share=0.0, drift_share=0.0)) - 1000.0
    both = noise_run(Noise(tsnr=50.0, ar1_share=0.5, drift_share=0.0)) - 1000.0
    assert np.corrcoef(white.ravel(), both.ravel())[0, 1] == pytest.approx(0.5**0.5, abs=0.01)


# Subjects


def test_subject_weights_have_the_mean_and_covariance_of_the_given(
    rng: np.random.Generator,
) -> None:
    """Over many draws the moments over subjects are those of the given subjects."""
    given = rng.normal(size=(4, 2, 3)) + 5.0
    drawn = combine(given, subject_weights("abcd", 20_000, seed=3))
    maps = np.stack(list(drawn.values()))
    np.testing.assert_allclose(maps.mean(axis=0), given.mean(axis=0), atol=0.04)
    np.testing.assert_allclose(
        np.cov(maps.reshape(20_000, -1).T), np.cov(given.reshape(4, -1).T), atol=0.08
    )


def test_subject_weights_asking_for_more_keeps_the_first() -> None:
    """A drawn subject does not depend on how many are drawn; names sort in order."""
    few, many = subject_weights("abc", 2, seed=1), subject_weights("abc", 12, seed=1)
    np.testing.assert_array_equal(many["sim01"], few["sim1"])
    assert list(many) == sorted(many)
    other = subject_weights("abc", 2, seed=2)
    assert np.abs(other["sim1"] - few["sim1"]).max() > 0


def test_subject_weights_each_and_group_are_the_given_and_their_mean(
    rng: np.random.Generator,
) -> None:
    """What "each" stands for are the given maps, and "group" is their mean."""
    given = rng.normal(size=(3, 2, 5)).astype(np.float32)
    each = combine(given, subject_weights(["S1", "S2", "S3"]))
    assert list(each) == ["S1", "S2", "S3"]
    np.testing.assert_allclose(np.stack(list(each.values())), given)
    group = combine(given, subject_weights("abc", "group"))["group"]
    np.testing.assert_allclose(group, given.mean(axis=0), rtol=1e-5, atol=1e-6)


def test_subject_weights_drawing_from_one_is_refused() -> None:
    """One subject says nothing about differences between subjects."""
    with pytest.raises(DataError, match="takes an encoder with 2 or more; got 1"):
        subject_weights(["a"], 4)


@pytest.mark.parametrize("subjects", [0, -3, "all", 2.5])
def test_subject_weights_bad_choice_is_refused(subjects: object) -> None:
    """There are three ways to choose subjects."""
    with pytest.raises(OptionError, match="'each', 'group' or a number, 1 or more; got"):
        subject_weights("abc", subjects)  # type: ignore[arg-type]


def test_encoded_responses_equal_predicted_ones(events: Events, rng: np.random.Generator) -> None:
    """Applying the design to features gives what applying it to the predictions gives."""
    features = rng.normal(size=(3, 6)).astype(np.float32)
    slopes, constants = rng.normal(size=(2, 6, 9)), rng.normal(size=(2, 1, 9)) + 3.0

    def encode(subject: int) -> Callable[[np.ndarray], np.ndarray]:
        return lambda rows: (rows @ slopes[subject] + constants[subject]).astype(np.float32)

    maps = [encode(0), encode(1)]
    predicted = np.stack([encode(subject)(features) for subject in range(2)])
    weights = np.array([1.3, -0.3])
    encoded = EncodedResponses(features, maps, weights, n_voxels=9)
    expected = simulate_bold(combine(predicted, {"x": weights})["x"], events, 2.0, 40)
    run = simulate_bold(encoded, events, 2.0, 40)
    np.testing.assert_allclose(run, expected, rtol=2e-6, atol=2e-5)


def test_encoded_responses_of_a_volume_do_not_depend_on_the_company(
    make_bundle: Callable[..., Bundle], rng: np.random.Generator
) -> None:
    """A volume's signal is the same bits however many a run computes together."""
    encoder = Encoder(make_bundle(rng))
    features = rng.normal(size=(11, encoder.bundle.n_features)).astype(np.float32)
    spatial = encoder.spatial_model()
    weights = subject_weights(spatial.subject_names, "group")
    encoded = encoded_subjects(spatial, features, weights)["group"]
    design = scipy.sparse.csr_array(rng.random((53, 11)))
    together = encoded.signal(design)
    for part in (slice(0, 1), slice(5, 22), slice(52, 53)):
        np.testing.assert_array_equal(encoded.signal(design[part]), together[part])


def test_combine_does_not_depend_on_the_company(rng: np.random.Generator) -> None:
    """A stimulus' response is the same bits alone and among others."""
    given = rng.normal(size=(3, 37, 101)).astype(np.float32)
    weights = subject_weights("abc", 4, seed=1)
    together = combine(given, weights)
    for part in (slice(0, 1), slice(5, 22), slice(36, 37)):
        for name, alone in combine(given[:, part], weights).items():
            np.testing.assert_array_equal(alone, together[name][part])


# What is refused


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"tr_s": 0.0}, "tr_s must be a positive number; got 0.0"),
        ({"tr_s": -2.0}, "tr_s must be a positive number; got -2.0"),
        ({"tr_s": float("nan")}, "tr_s must be a positive number; got nan"),
        ({"hrf": "glovr"}, "hrf must be one of gam, glover, spm; got 'glovr'. Did you"),
        ({"hrf": [1.0, -1.0]}, "sum must be positive"),
        ({"slice_time_ref": 1.0}, "slice_time_ref must be a fraction of the TR from 0 to below 1"),
        ({"baseline": 0.0}, "baseline must be a positive number; got 0.0"),
        ({"percent_per_unit": float("inf")}, "percent_per_unit must be finite; got inf"),
        ({"n_volumes": 0}, "n_volumes must be 1 or more; got 0"),
        ({"seed": -1, "noise": Noise()}, "seed must be a whole number, 0 or more; got -1"),
        (
            {"n_volumes": 25, "noise": Noise()},
            r"at least half of `drift_cutoff_s` long \(64 s\) .*; got 50 s and 25",
        ),
    ],
)
def test_simulate_bold_bad_option_is_refused(options: dict[str, object], match: str) -> None:
    """Each bad option is refused with what would be right."""
    arguments = {"tr_s": 2.0, "n_volumes": 40} | options
    with pytest.raises(OptionError, match=match):
        simulate_bold(np.ones((1, 2)), Events([0.0], [1.0], [0]), **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"tsnr": 0.0}, "tsnr must be a positive number; got 0.0"),
        ({"drift_cutoff_s": -1.0}, "drift_cutoff_s must be a positive number"),
        ({"ar1": 1.0}, "ar1 must lie between -1 and 1, both excluded; got 1.0"),
        ({"ar1_share": 0.7, "drift_share": 0.4}, "at most 1 together; got 0.7 and 0.4"),
        ({"drift_share": -0.1}, "must be 0 or more"),
        ({"fwhm_mm": -6.0}, "fwhm_mm must be 0 or more millimetres; got -6.0"),
    ],
)
def test_noise_bad_option_is_refused(options: dict[str, float], match: str) -> None:
    """Each bad number of the noise is refused with what would be right."""
    with pytest.raises(OptionError, match=match):
        Noise(**options)


@pytest.mark.parametrize(
    ("onset_s", "match"),
    [(80.0, "1 begin after it and 0 end before it, first one at 80 s"), (-9.0, "at -9 s")],
)
def test_simulate_bold_events_outside_the_run_are_refused(onset_s: float, match: str) -> None:
    """An event that the run does not hold is an error, not a silent zero."""
    with pytest.raises(OptionError, match=f"within the run, 0 to 80 s; .*{match}"):
        simulate_bold(np.ones((1, 2)), Events([onset_s], [2.0], [0]), 2.0, 40)


def test_simulate_bold_stimulus_without_response_is_refused() -> None:
    """Every stimulus that is shown has a response."""
    with pytest.raises(ShapeError, match=r"each of the 3 stimuli .*; got \(2, 4\)"):
        simulate_bold(np.ones((2, 4)), Events([0.0], [1.0], [2]), 2.0, 10)


def test_simulate_bold_response_that_is_not_finite_is_named() -> None:
    """NaN in a response is refused with the stimulus."""
    responses = np.ones((3, 4))
    responses[1, 2] = np.nan
    with pytest.raises(DataError, match="NaN or infinity in 1 stimuli, rows 1"):
        simulate_bold(responses, Events([0.0], [1.0], [0]), 2.0, 10)


def test_events_of_different_lengths_are_refused() -> None:
    """There is one duration for each onset."""
    with pytest.raises(ShapeError, match=r"one shape \(n_events,\); got \(2,\), \(1,\)"):
        Events([0.0, 1.0], [1.0], [0, 0])


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        (([], [], []), "got 0 events"),
        (([0.0], [-1.0], [0]), "some duration negative"),
        (([np.nan], [1.0], [0]), "some not finite"),
        (([0.0], [1.0], [-1]), "some stimulus negative"),
    ],
)
def test_events_bad_numbers_are_refused(arrays: tuple[list[float], ...], match: str) -> None:
    """Times are finite, durations and stimuli not negative."""
    with pytest.raises(DataError, match=match):
        Events(*arrays)


@pytest.mark.parametrize("end_s", [None, 1.2])
def test_movie_events_last_until_the_next_frame(end_s: float | None) -> None:
    """Each frame lasts until the next, the last until the end or as long as the one before."""
    events = movie_events([0.0, 0.4, 1.0], end_s=end_s)
    np.testing.assert_allclose(events.durations_s, [0.4, 0.6, 0.6 if end_s is None else 0.2])


@pytest.mark.parametrize(
    ("onsets_s", "end_s", "match"),
    [
        ([0.0], None, "2 frames or more; got"),
        ([0.0, 0.0], None, "must follow each other"),
        ([0.0, 1.0], 0.5, "rise up to 0.5 s"),
    ],
)
def test_movie_events_bad_times_are_refused(
    onsets_s: list[float], end_s: float | None, match: str
) -> None:
    """Frames rise in time up to the movie's end."""
    with pytest.raises(DataError, match=match):
        movie_events(onsets_s, end_s=end_s)


# Events files


def write_events(folder: Path, *lines: str) -> Path:
    """Write an events file; cells are separated by | here."""
    path = folder / "events.tsv"
    path.write_text("\n".join(lines).replace("|", "\t") + "\n", encoding="utf-8")
    return path


def test_check_tables_durations_in_milliseconds_are_refused(tmp_path: Path) -> None:
    """Nothing is shown 250 times as long as until the next one comes, in seconds."""
    lines = [f"{8 * k}|{{}}|{k}.jpg" for k in range(5)]
    for duration, fits in (("2", True), ("2000", False)):
        rows = [line.format(duration) for line in lines]
        path = write_events(tmp_path, "onset|duration|stim_file", *rows)
        if fits:
            check_tables([read_events(path)], Scan(2.0))
        else:
            with pytest.raises(DataError, match=r"events.tsv: .* one every 8 s that lasts 2000 s"):
                check_tables([read_events(path)], Scan(2.0))


def test_read_events_keeps_the_table_and_reads_its_numbers(tmp_path: Path) -> None:
    """Cells stay as written; rows without a stimulus show nothing; a byte order mark is no name."""
    path = write_events(
        tmp_path,
        "\ufeffonset|duration|trial_type|stim_file|modulation|response_time",
        "0|2.0|face|a.jpg|1|0.43",
        "n/a|n/a|key|n/a|n/a|n/a",
        "10.25|0|place|sub/b.png|-0.5|n/a",
        "20|2|face|a.jpg|2|n/a",
    )
    table = read_events(path)
    assert table.columns[:2] == ("onset", "duration")
    assert table.rows[1] == ("n/a", "n/a", "key", "n/a", "n/a", "n/a")
    assert table.stim_files == ("a.jpg", "sub/b.png")
    events = table.events({"a.jpg": 4, "sub/b.png": 2})
    assert events.onsets_s.tolist() == [0.0, 10.25, 20.0]
    assert events.durations_s.tolist() == [2.0, 0.0, 2.0]
    assert events.stimuli.tolist() == [4, 2, 4]
    assert events.amplitudes.tolist() == [1.0, -0.5, 2.0]


@pytest.mark.parametrize("name", ["NA", "None", "NaN", "null", "N/A"])
def test_read_events_only_n_a_is_missing(tmp_path: Path, name: str) -> None:
    """BIDS writes a missing value n/a; every other word names a stimulus, if there is such a file.

    As the name of a condition other programs' words for a missing value are refused.
    """
    path = write_events(
        tmp_path, "onset|duration|trial_type|stim_file", f"0|1|{name}|{name}", "2|1|key|n/a"
    )
    table = read_events(path)
    assert table.stim_files == (name,)
    assert table.events({name: 0}).onsets_s.tolist() == [0.0]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    assert find_stimuli([table], tmp_path) == {name: tmp_path / name}
    run = experiments.run_of_table(table, {name: 0}, 2.0)
    with pytest.raises(DataError, match=f"1 of 1 have none, first one at 0 s .got '{name}'"):
        experiments.condition_rows([run], {name: 0})


@pytest.mark.parametrize(
    ("lines", "match"),
    [
        (("onset|duration", "0|1"), "stim_file not among onset, duration"),
        (("onset,duration,stim_file", "0,1,a"), "onset, duration, stim_file not among"),
        (("onset|duration|stim_file",), "a line for each row are needed; got 1 lines"),
        (("onset|duration|stim_file", "0|1"), "line 2: 3 cells are needed; got 2"),
        (("onset|duration|stim_file", "0|-1|a"), "line 2: duration must be .* 0 or more; got '-1'"),
        (("onset|duration|stim_file", "0|1|a", "x|1|a"), "line 3: onset must be .*; got 'x'"),
        (("onset|duration|stim_file", "n/a|1|a"), "line 2: onset must be a number; got 'n/a'"),
        (("onset|duration|stim_file", "0|n/a|a"), "line 2: duration must be .*; got 'n/a'"),
        (("onset|duration|stim_file", "inf|1|a"), "line 2: onset must be .*; got 'inf'"),
        (("onset|duration|stim_file|amplitude", "0|1|a|n/a"), "amplitude must be a number; got 'n"),
        (("onset|duration|stim_file", "0|1|n/a"), "some row must name a stimulus"),
        (("onset|duration|stim_file|x", "0|1||2"), "line 2: stim_file must name a file or be n/a"),
        (("onset|duration|stim_file", "", "0|1|a", " ", "2|x|b"), "line 5: duration must be .*'x'"),
        (("onset|duration|stim_file", "1_0|1|a"), "line 2: onset must be a number; got '1_0'"),
        (("onset|duration|stim_file", "1e9|1|a"), "line 2: onset must be .* at most 1,000,000;"),
        (("onset|duration|stim_file|", "0|1|a|"), "each column must have a name .*; got 1 without"),
        (("onset|duration|stim_file|onset", "0|1|a|2"), "'onset' occurs 2 times"),
        (("onset|duration|stim_file|amplitude|modulation", "0|1|a|1|1"), "got both amplitude and"),
    ],
)
def test_read_events_bad_table_names_the_line(
    tmp_path: Path, lines: tuple[str, ...], match: str
) -> None:
    """Each fault of a table is refused with the file and the line."""
    with pytest.raises(DataError, match=f"events file .*events.tsv.*{match}"):
        read_events(write_events(tmp_path, *lines))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_read_events_any_line_end_parts_lines_and_nothing_else(tmp_path: Path, end: str) -> None:
    """Files of any system are read alike; a rarer line separator within a cell is part of it."""
    path = tmp_path / "events.tsv"
    lines = ["onset\tduration\tstim_file\tnote", "0\t1\ta.jpg\tone\u2028two", "2\t1\tb.jpg\tn/a"]
    path.write_bytes(end.join(lines).encode())
    table = read_events(path)
    assert table.rows[0] == ("0", "1", "a.jpg", "one\u2028two")
    assert table.lines == (2, 3)


@pytest.mark.parametrize("content", [None, b"onset\tduration\tstim_file\n0\t1\t\xff\xfe\n"])
def test_read_events_unreadable_file_is_refused(tmp_path: Path, content: bytes | None) -> None:
    """A missing file and one that is not text are refused with the reason."""
    path = tmp_path / "events.tsv"
    if content is not None:
        path.write_bytes(content)
    reason = "No such file" if content is None else "not UTF-8 text"
    with pytest.raises(DataError, match=f"cannot be read: .*{reason}"):
        read_events(path)


def test_find_stimuli_names_all_that_are_missing(tmp_path: Path) -> None:
    """Every missing file is named at once."""
    (tmp_path / "b.jpg").touch()
    path = write_events(
        tmp_path, "onset|duration|stim_file", "0|1|a.jpg", "2|1|b.jpg", "4|1|c.jpg", "6|1|a.jpg"
    )
    with pytest.raises(
        StimulusError, match=r"all 3 .* 2 missing: 'a.jpg' \(.*tsv, line 2\), 'c.jpg' \(.*line 4"
    ):
        find_stimuli([read_events(path)], tmp_path)


def test_find_stimuli_without_a_folder_is_refused(tmp_path: Path) -> None:
    """A folder that is not there is named, not each file that is not in it."""
    path = write_events(tmp_path, "onset|duration|stim_file", "0|1|a.jpg")
    with pytest.raises(StimulusError, match=r"a folder is needed; got .*nowhere, which is none"):
        find_stimuli([read_events(path)], tmp_path / "nowhere")


def test_find_stimuli_many_missing_names_ten(tmp_path: Path) -> None:
    """A long list is cut, and its length told; a name that no file can have is missing."""
    rows = [f"{k}|1|a{k}\0.jpg" for k in range(12)]
    path = write_events(tmp_path, "onset|duration|stim_file", *rows)
    with pytest.raises(StimulusError, match=r"12 missing: .*line 11\) and 2 more\. Check"):
        find_stimuli([read_events(path)], tmp_path)


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/a.jpg", "x/../../a.jpg", "..\\a.jpg", "C:\\a"])
def test_find_stimuli_outside_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    """A stimulus lies below the folder, so that a copy lies below the dataset."""
    path = write_events(tmp_path, "onset|duration|stim_file", f"0|1|{name}")
    with pytest.raises(StimulusError, match="each stim_file must lie below"):
        find_stimuli([read_events(path)], tmp_path)


def test_read_kernel_interpolates_linearly(tmp_path: Path) -> None:
    """A table of a few points becomes an even kernel."""
    path = tmp_path / "hrf.txt"
    path.write_text("# seconds response\n0 0\n1.0, 2\n3.0\t-1\n", encoding="utf-8")
    np.testing.assert_allclose(read_kernel(path, 0.5), [0, 1, 2, 1.25, 0.5, -0.25, -1])


@pytest.mark.parametrize(
    "text",
    ["", "0 1\n", "time value\n0 1\n1 2\n", "0 1\n1\n", "1 1\n2 2\n", "0 1\n0 2\n", "0 1\n1 nan\n"],
)
def test_read_kernel_bad_table_is_refused(tmp_path: Path, text: str) -> None:
    """Two columns, seconds that rise from 0, numbers only."""
    path = tmp_path / "hrf.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"haemodynamic response .*hrf\.txt: two columns"):
        read_kernel(path, 0.1)


@pytest.mark.parametrize("tr_s", [0.01, 2000.0])
def test_scan_tr_that_no_scanner_has_is_refused(tr_s: float) -> None:
    """Milliseconds for seconds are noticed."""
    with pytest.raises(OptionError, match=r"tr_s must be from 0.05 to 30 seconds; got .*Give sec"):
        Scan(tr_s)


def test_default_response_is_one_constant() -> None:
    """The command, the scan and the function convolve with the same response by default."""
    command = inspect.signature(simulate_command).parameters["hrf"].default
    of_function = inspect.signature(simulate_bold).parameters["hrf"].default
    assert command == of_function == Scan(2.0).hrf == DEFAULT_HRF == "glover"
