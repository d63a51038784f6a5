"""A movie's dynamics compared: each step against a written-out computation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from nilearn.glm.first_level import glover_hrf
from nilearn.glm.first_level.design_matrix import create_cosine_drift
from numpy.typing import NDArray
from scipy import stats

from imgtofmri.analyses.dynamics import (
    Agreement,
    ModelSeries,
    MovieModels,
    RunSettings,
    analyse_movie,
    bootstrap_similarity,
    boundary_effects,
    compare_dynamics,
    comparison,
    filter_measured,
    find_boundaries,
    luma,
    motion_energy,
    to_volumes,
    volume_operator,
)
from imgtofmri.analyses.dynamics.scan import check_movie_length
from imgtofmri.analyses.dynamics.tables import (
    agreement_table,
    boundary_table,
    similarity_table,
    summary_table,
)
from imgtofmri.encoder.prediction import Prediction
from imgtofmri.events import event_labels
from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.measured.movie import MeasuredMovie
from imgtofmri.stats import bootstrap_counts, n_effective, shrunk_z
from imgtofmri.timeseries import Surrogates, remove_lag_means, row_agreement

N_SUBJECTS, N_VOLUMES, N_VOXELS = 8, 40, 30
BOUNDARIES = [9, 17, 28]


@pytest.fixture
def latent(rng: np.random.Generator) -> NDArray[np.float64]:
    """Return the events that all subjects share."""
    events = rng.standard_normal((len(BOUNDARIES) + 1, N_VOXELS))
    course = events[event_labels(BOUNDARIES, N_VOLUMES)]
    return course + 0.5 * rng.standard_normal(course.shape)


@pytest.fixture
def brains(rng: np.random.Generator, latent: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return what was measured: the shared events in noise."""
    noise = rng.standard_normal((N_SUBJECTS, N_VOLUMES, N_VOXELS))
    return (latent + noise).astype(np.float32)


@pytest.fixture
def models(rng: np.random.Generator, latent: NDArray[np.float64]) -> dict[str, Any]:
    """Return a model that knows the events, in other voxels, and one that does not."""
    projected = latent @ rng.standard_normal((N_VOXELS, 50))
    return {"predicted": projected, "luminance": rng.standard_normal((N_VOLUMES, 12))}


def written_out(
    responses: NDArray[np.float64], tr_s: float, cutoff_s: float, n_keep: int, n_skip: int
) -> NDArray[np.float64]:
    """Bring responses at 2 Hz to volumes: convolve, interpolate, regress, trim, voxel by voxel."""
    fine = glover_hrf(0.01, oversampling=1, time_length=32.0)
    middles = (fine + np.append(fine[1:], 0.0)) / 2
    kernel = np.array([0.0, *(middles[k : k + 50].sum() for k in range(0, len(middles), 50))])
    onsets = 0.5 * np.arange(len(responses))
    times = np.arange(0, onsets[-1] + 1e-9, tr_s)
    columns = []
    for column in responses.T:
        convolved = np.convolve(column, kernel)[: len(column)]
        columns.append(np.interp(times, onsets, convolved)[:n_keep])
    volumes = np.stack(columns, axis=1)
    drift = create_cosine_drift(1 / cutoff_s, np.arange(len(volumes)) * tr_s)
    fitted = drift @ np.linalg.lstsq(drift, volumes, rcond=None)[0]
    return (volumes - fitted)[n_skip:]


def test_to_volumes_equals_each_step_written_out(rng: np.random.Generator) -> None:
    """Convolution, sampling, regression and trimming give what NumPy and nilearn give."""
    responses = rng.standard_normal((400, 7))
    run = RunSettings(cutoff_s=60.0, n_volumes=110, skip_volumes=10)
    got = to_volumes(responses, 0.5 * np.arange(400), 1.7, run)
    expected = written_out(responses, 1.7, 60.0, 110, 10)
    assert got.shape == (100, 7)
    np.testing.assert_allclose(got, expected, atol=1e-9)


def test_to_volumes_movie_that_starts_later_is_shifted(rng: np.random.Generator) -> None:
    """A movie that starts 6 s into the run gives the same volumes three TRs later."""
    responses = rng.standard_normal((100, 4))
    onsets = 0.5 * np.arange(100)
    now = to_volumes(responses, onsets, 2.0, RunSettings(cutoff_s=0.0, n_volumes=20))
    later = to_volumes(
        responses, onsets, 2.0, RunSettings(cutoff_s=0.0, movie_start_s=6.0, n_volumes=23)
    )
    np.testing.assert_allclose(np.diff(later[3:], axis=0), np.diff(now, axis=0), atol=1e-9)
    np.testing.assert_allclose(np.diff(later[:3], axis=0), 0.0, atol=1e-12)


@pytest.mark.parametrize("rate_hz", [0.7, 2.0, 12.0])
@pytest.mark.parametrize("tr_s", [0.8, 2.0])
@pytest.mark.parametrize(("start_s", "reference"), [(0.0, 0.0), (7.3, 0.5)])
def test_check_movie_length_takes_runs_of_the_movies_volumes_alone(
    rate_hz: float, tr_s: float, start_s: float, reference: float
) -> None:
    """A run that is a volume longer or shorter is refused, a cut one if the movie is too short."""
    n_frames = round(61.7 * rate_hz)
    run = RunSettings(movie_start_s=start_s, slice_time_ref=reference)
    last_s = start_s + (n_frames - 1) / rate_hz
    n_movie = sum((k + reference) * tr_s <= last_s + 1e-9 for k in range(1000))
    check_movie_length(n_frames, rate_hz, n_movie, tr_s, run)
    for n_measured in (n_movie - 1, n_movie + 1):
        with pytest.raises(ShapeError, match=f"the {n_measured} volumes .* got {n_movie}, "):
            check_movie_length(n_frames, rate_hz, n_measured, tr_s, run)
    for n_used in (n_movie - 5, n_movie):
        check_movie_length(n_frames, rate_hz, n_movie + 9, tr_s, replace(run, n_volumes=n_used))
    with pytest.raises(ShapeError, match=f"the {n_movie + 1} volumes .* got {n_movie}, "):
        check_movie_length(n_frames, rate_hz, 999, tr_s, replace(run, n_volumes=n_movie + 1))


def test_filter_measured_takes_out_what_to_volumes_takes_out(rng: np.random.Generator) -> None:
    """The measured runs lose mean and cosines and are trimmed alike, each subject for itself."""
    runs = rng.standard_normal((3, 90, 5)) + np.linspace(0, 9, 90)[:, None]
    settings = RunSettings(cutoff_s=60.0, n_volumes=80, skip_volumes=7)
    got = filter_measured(runs, 2.0, settings)
    drift = create_cosine_drift(1 / 60.0, np.arange(80) * 2.0)
    for run, filtered in zip(runs[:, :80], got, strict=True):
        expected = run - drift @ np.linalg.lstsq(drift, run, rcond=None)[0]
        np.testing.assert_allclose(filtered, expected[7:], atol=1e-9)


def test_luma_equals_loop(rng: np.random.Generator) -> None:
    """Each pixel is 0.2126 R + 0.7152 G + 0.0722 B of values from 0 to 1."""
    pixels = rng.integers(0, 256, (2, 3, 4, 3), dtype=np.uint8)
    got = luma(pixels)
    for index in np.ndindex(2, 3, 4):
        red, green, blue = (int(value) / 255 for value in pixels[index])
        expected = 0.2126 * red + 0.7152 * green + 0.0722 * blue
        assert got[index] == pytest.approx(expected, abs=1e-6)


def test_motion_energy_equals_loop(rng: np.random.Generator) -> None:
    """Each square's energy is its mean squared difference from the frame before."""
    frames = rng.random((4, 9, 7))
    got = motion_energy(frames, pool=3)
    assert got.shape == (4, 3, 2)
    assert not got[0].any()
    for now in range(1, 4):
        for row in range(3):
            for column in range(2):
                square = np.s_[3 * row : 3 * row + 3, 3 * column : 3 * column + 3]
                expected = np.mean((frames[now][square] - frames[now - 1][square]) ** 2)
                assert got[now, row, column] == pytest.approx(expected, rel=1e-5)


def test_bootstrap_similarity_equals_loop_over_drawn_subjects(
    brains: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample's matrix is NumPy's correlation of the mean of the drawn runs, repeats counted."""
    counts = bootstrap_counts(N_SUBJECTS, 7, seed=3).astype(int)
    monkeypatch.setattr(comparison, "_BATCH_BYTES", 150_000)  # two or three samples a batch
    batches = list(bootstrap_similarity(brains, counts))
    assert len(batches) > 1
    for got, count in zip(np.concatenate(batches), counts, strict=True):
        drawn = [brains[index] for index in range(N_SUBJECTS) for _ in range(count[index])]
        np.testing.assert_allclose(got, np.corrcoef(np.mean(drawn, axis=0)), atol=1e-5)


def test_bootstrap_similarity_of_matrices_equals_loop(brains: NDArray[np.float32]) -> None:
    """With grouping "similarity" it is the mean of the drawn subjects' own matrices."""
    counts = bootstrap_counts(N_SUBJECTS, 4, seed=3)
    got = np.concatenate(list(bootstrap_similarity(brains, counts, grouping="similarity")))
    each = np.stack([np.corrcoef(run.astype(float)) for run in brains])
    for matrix, count in zip(got, counts, strict=True):
        np.testing.assert_allclose(matrix, np.average(each, axis=0, weights=count), atol=1e-6)


def without_lag_means(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Take the mean of each diagonal out of a matrix, one after the other."""
    left = matrix.astype(float)
    for row in range(len(matrix)):
        for column in range(len(matrix)):
            left[row, column] -= np.diagonal(matrix, abs(row - column)).mean()
    return left


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize(("band", "min_lag"), [(None, 1), (6, 1), (None, 4)])
def test_compare_dynamics_equals_loop(
    models: dict[str, Any],
    brains: NDArray[np.float32],
    band: int | None,
    min_lag: int,
    keep: bool,
) -> None:
    """Agreement is SciPy's correlation of rows, for group and samples, with and without means."""
    compared = Agreement(band, min_lag, keep)
    region = compare_dynamics(
        models, brains, compared=compared, n_brains=3, n_surrogates=19, seed=4
    )
    counts = bootstrap_counts(N_SUBJECTS, 3, seed=[4, 0])
    groups = [np.corrcoef(brains.mean(axis=0))]
    groups += [np.corrcoef(np.average(brains, axis=0, weights=count)) for count in counts]
    change = np.asarray if keep else without_lag_means
    groups = [change(group) for group in groups]
    for number, values in enumerate(models.values()):
        matrix = change(np.corrcoef(values))
        for sample, group in enumerate(groups):
            for row in range(N_VOLUMES):
                reach = N_VOLUMES if band is None else band
                others = [c for c in range(N_VOLUMES) if min_lag <= abs(c - row) <= reach]
                expected = stats.pearsonr(matrix[row, others], group[row, others]).statistic
                got = region.agreement[number] if sample == 0 else region.brains[number, sample - 1]
                assert got[row] == pytest.approx(expected, abs=1e-5)


def nearer(observed: Any, null: NDArray[np.float64]) -> Any:
    """Return statistics brought nearer to their shifted surrogates, shape (n_surrogates, ...)."""
    pooled = np.concatenate([np.asarray(observed)[None], null])
    mean, spread = pooled.mean(axis=0), pooled.std(axis=0)
    return mean + spread * shrunk_z((observed - mean) / spread, n_effective(null))


def test_compare_dynamics_p_is_of_surrogates_counted(
    models: dict[str, Any], brains: NDArray[np.float32]
) -> None:
    """P counts surrogates that agree as well, a difference's turned alike; of the larger kind.

    Few shifts are independent, so that what is compared with them is brought nearer first.
    """
    region = compare_dynamics(models, brains, n_surrogates=99, seed=4)
    assert region.names == ("predicted", "luminance", "predicted - luminance")
    group = remove_lag_means(np.corrcoef(brains.mean(axis=0)))
    counted = np.zeros(3)
    for number, kind in enumerate(("phases", "shifts")):
        means = []
        for values in models.values():
            itself = np.corrcoef(values)
            batches = Surrogates(values).similarities(99, [4, 2], kind, itself)
            drawn = np.concatenate(list(batches))
            means.append([row_agreement(remove_lag_means(m), group).mean() for m in drawn])
        means.append(np.subtract(*means))
        np.testing.assert_allclose(region.mean_null[number], means, atol=1e-5)
        compared = region.mean_agreement.copy()
        if kind == "shifts":
            compared = nearer(compared, region.mean_null[number].T)
        reached = np.array(means) >= compared[:, None] - 1e-6
        counted = np.maximum(counted, (reached.sum(axis=1) + 1) / 100)
    np.testing.assert_allclose(region.mean_p, counted)


def test_compare_dynamics_finds_the_model_that_knows(
    models: dict[str, Any], brains: NDArray[np.float32]
) -> None:
    """The model of the planted events agrees, the random one does not, and p values say so."""
    region = compare_dynamics(models, brains, n_surrogates=199)
    assert region.mean_agreement[0] > 0.8
    assert abs(region.mean_agreement[1]) < 0.1
    # A shift by nothing, of the 40 that there are, is the model itself.
    assert region.mean_p[0] <= 0.06
    assert region.mean_p[2] <= 0.06
    assert region.mean_p[1] > 0.05
    low, high = region.mean_limits()
    assert (low < region.mean_agreement).all()
    assert (region.mean_agreement < high).all()


@pytest.mark.slow
def test_compare_dynamics_p_of_unrelated_models_is_rarely_small() -> None:
    """Slow noise that knows nothing of the brains is below .05 about as often as it should be.

    40 brains and models: more than 7 of them would come less than once in 1,000 such tests.
    """
    small, small_lags, slow = 0, 0, np.exp(-np.arange(12) / 3)
    for number in range(40):
        rng = np.random.default_rng([number, 5])
        noise = rng.standard_normal((4, 71, 20))
        runs = np.apply_along_axis(lambda course: np.convolve(course, slow, "valid"), 1, noise)
        region = compare_dynamics({"model": runs[0]}, runs[1:], n_surrogates=99)
        small += int(region.mean_p[0] <= 0.05)
        effects = boundary_effects(region, [12, 22, 33, 47], window=(-2, 4))
        small_lags += int(np.nanmin(effects.p_max[0]) <= 0.05)
    assert small <= 7
    assert small_lags <= 7


def test_compare_dynamics_finds_a_film_under_noise_of_its_own_size() -> None:
    """A model that is half noise is told from chance in nearly every film (here in 40 of 40)."""
    found, slow = 0, np.exp(-np.arange(12) / 3)
    for number in range(12):
        rng = np.random.default_rng([number, 6])
        noise = rng.standard_normal((6, 71, 20))
        film, own, *others = np.apply_along_axis(
            lambda course: np.convolve(course, slow, "valid"), 1, noise
        )
        region = compare_dynamics({"model": film + own}, film + np.stack(others), n_surrogates=99)
        found += int(region.mean_p[0] <= 0.05)
    assert found >= 11


def test_compare_dynamics_with_lag_means_is_not_tested(
    models: dict[str, Any], brains: NDArray[np.float32]
) -> None:
    """The published agreement of two slow series says nothing, and gets no p."""
    region = compare_dynamics(models, brains, compared=Agreement(keep_lag_means=True))
    assert np.isnan(region.mean_p).all()
    effects = boundary_effects(region, BOUNDARIES, window=(-2, 4))
    assert np.isnan(effects.p).all()
    assert np.isnan(effects.p_max).all()
    assert summary_table([region])[["p", "p_max", "null_mean"]].isna().all(axis=None)


def test_compare_dynamics_of_few_people_has_no_interval(
    models: dict[str, Any], brains: NDArray[np.float32]
) -> None:
    """Seven people are tested as any others, and no limits are made up for them."""
    region = compare_dynamics(models, brains[:7], n_surrogates=19)
    assert np.isfinite(region.mean_p).all()
    assert np.isnan(region.mean_limits()).all()
    assert np.isnan(region.limits()).all()
    effects = boundary_effects(region, BOUNDARIES, window=(-2, 4))
    assert np.isnan(effects.average.lower).all()
    assert np.isfinite(effects.p_max).all()


def test_bootstrap_similarity_as_published_equals_loop(brains: NDArray[np.float32]) -> None:
    """Each voxel of a sample's mean is z-scored over the run, then the first volumes go."""
    counts = bootstrap_counts(N_SUBJECTS, 3, seed=3)
    got = np.concatenate(list(bootstrap_similarity(brains, counts, skip=10)))
    for matrix, count in zip(got, counts, strict=True):
        mean = np.average(brains.astype(float), axis=0, weights=count)
        scaled = stats.zscore(mean, axis=0)[10:]
        np.testing.assert_allclose(matrix, np.corrcoef(scaled), atol=1e-5)


def test_compare_dynamics_does_not_depend_on_units_or_voxel_order(
    models: dict[str, Any], brains: NDArray[np.float32], rng: np.random.Generator
) -> None:
    """Scaling, shifting volumes and shuffling voxels change no agreement."""
    order = rng.permutation(N_VOXELS)
    one = compare_dynamics(models, brains, n_brains=5)
    other = compare_dynamics(models, 3 * brains[:, :, order] + 1, n_brains=5)
    np.testing.assert_allclose(one.brains, other.brains, atol=1e-4)


def test_compare_dynamics_of_the_brain_itself_is_one(brains: NDArray[np.float32]) -> None:
    """The group's own mean agrees with it perfectly."""
    region = compare_dynamics({"itself": brains.mean(axis=0)}, brains, n_brains=2)
    np.testing.assert_allclose(region.agreement, 1.0, atol=1e-6)


def test_boundary_effects_differences_are_of_the_same_draws(
    models: dict[str, Any], brains: NDArray[np.float32]
) -> None:
    """A difference's samples are the models' samples subtracted, draw by draw."""
    region = compare_dynamics(models, brains, n_brains=8)
    effects = boundary_effects(region, BOUNDARIES, window=(-2, 4), exclusion=1, n_resamples=5)
    assert effects.names == ("predicted", "luminance", "predicted - luminance")
    samples = effects.average.samples
    assert samples.shape == (3, 40, 7)
    np.testing.assert_allclose(samples[2], samples[0] - samples[1], atol=1e-12)
    mean = effects.average.mean
    np.testing.assert_allclose(mean[2], mean[0] - mean[1], atol=1e-12)


def test_boundary_effects_p_are_of_surrogates_at_the_same_boundaries(
    models: dict[str, Any], brains: NDArray[np.float32]
) -> None:
    """P counts surrogates at each lag; p_max corrects over lags, so it is never the smaller."""
    region = compare_dynamics(models, brains, n_surrogates=99)
    effects = boundary_effects(region, BOUNDARIES, window=(-2, 4), exclusion=-1)
    for name in range(2):
        for column, lag in enumerate(range(-2, 5)):
            null = region.null[:, name][..., [bound + lag for bound in BOUNDARIES]].mean(axis=-1)
            here = effects.average.mean[name, column]
            compared = np.array([[here], [nearer(here, null[1])]])
            reached = (null >= compared - 1e-6).sum(axis=-1).max()
            assert effects.p[name, column] == (reached + 1) / 100
    assert (effects.p_max >= effects.p - 0.02).all()


def test_region_limits_are_percentiles_of_the_samples(
    models: dict[str, Any], brains: NDArray[np.float32]
) -> None:
    """Limits of 90 % leave a twentieth of the samples on either side, about the agreement."""
    region = compare_dynamics(models, brains, n_brains=40)
    low, high = region.limits(0.9)
    shift = region.agreement - region.brains.mean(axis=1)
    np.testing.assert_allclose(low, np.percentile(region.brains, 5, axis=1) + shift)
    np.testing.assert_allclose(high, np.percentile(region.brains, 95, axis=1) + shift)


@pytest.mark.parametrize("n_subjects", [1, 2])
def test_compare_dynamics_two_subjects_are_refused(
    models: dict[str, Any], brains: NDArray[np.float32], n_subjects: int
) -> None:
    """They say too little of other people."""
    with pytest.raises(DataError, match=f"3 subjects or more; got {n_subjects}"):
        compare_dynamics(models, brains[:n_subjects])


def test_tables_hold_what_was_computed(models: dict[str, Any], brains: NDArray[np.float32]) -> None:
    """Every number of the results is in the tables, under its region, model and time."""
    region = compare_dynamics(models, brains, roi="LOC", n_brains=8)
    effects = boundary_effects(region, BOUNDARIES, window=(-2, 4))
    summary = summary_table([region]).set_index("model")
    assert summary.loc["predicted", "agreement"] == region.mean_agreement[0]
    assert summary.loc["luminance", "p"] == region.mean_p[1]
    assert summary.loc["predicted - luminance", "agreement"] == region.mean_agreement[2]
    assert summary.loc["luminance", "null_mean"] == region.mean_null[0, 1].mean()
    course = agreement_table([region], 2.0, BOUNDARIES)
    row = course[(course.model == "luminance") & (course.volume == 17)].iloc[0]
    assert (row.roi, row.time_s, row.boundary) == ("LOC", 34.0, True)
    assert row.agreement == region.agreement[1, 17]
    around = boundary_table([effects], 2.0)
    row = around[(around.model == "predicted - luminance") & (around.lag == 3)].iloc[0]
    assert row.agreement == effects.average.mean[2, 5]
    assert (row.lag_s, row.p, row.p_max) == (6.0, effects.p[2, 5], effects.p_max[2, 5])
    pairs = similarity_table(region.similarity)
    assert len(pairs) == N_VOLUMES * (N_VOLUMES - 1) // 2
    row = pairs[(pairs["row"] == 3) & (pairs["column"] == 11)].iloc[0]
    assert row.measured == region.similarity["measured"][3, 11]
    assert row.predicted == region.similarity["predicted"][3, 11]


@pytest.fixture
def movie(rng: np.random.Generator, make_prediction: Callable[..., Prediction]) -> MovieModels:
    """Return a movie of 80 s: a prediction of two ROIs and a baseline."""
    n_frames, n_voxels = 160, 24
    events = rng.standard_normal((4, n_voxels))
    group = np.repeat(events, [36, 32, 44, 48], axis=0)
    group = group + 0.3 * rng.standard_normal(group.shape)
    rois = {("LOC", "L"): 10, ("PPA", "L"): 14}
    prediction = make_prediction(rng, subjects=group[None], rois=rois)
    features = rng.standard_normal((n_frames, 30)).astype(np.float32)
    timed = replace(prediction, onsets_s=0.5 * np.arange(n_frames))
    return MovieModels(timed, {"luminance": features})


@pytest.fixture
def measured(movie: MovieModels, rng: np.random.Generator) -> MeasuredMovie:
    """Return subjects who watched it: the prediction's volumes in noise."""
    prediction = movie.prediction
    volumes = to_volumes(prediction.group, movie.onsets_s, 2.0, RunSettings(cutoff_s=0.0))
    noise = 2.0 * rng.standard_normal((8, *volumes.shape))
    data = (volumes + noise).astype(np.float32)
    rois = {roi: prediction.roi_mask(roi) for roi in prediction.rois}
    names = tuple(f"sub-{index}" for index in range(8))
    return MeasuredMovie(data, names, 2.0, prediction.mask, prediction.affine, rois)


def test_analyse_movie_equals_its_steps(movie: MovieModels, measured: MeasuredMovie) -> None:
    """A region's result is what filtering and comparing its voxels by hand gives."""
    run = RunSettings(cutoff_s=40.0, skip_volumes=4)
    analysis = analyse_movie(movie, measured, run=run, boundaries=[5, 13, 24], n_brains=4, seed=2)
    assert [region.roi for region in analysis.regions] == ["all", "LOC", "PPA"]
    voxels = measured.rois["PPA"]
    by_hand = compare_dynamics(
        {
            "predicted": to_volumes(movie.prediction.group[:, voxels], movie.onsets_s, 2.0, run),
            "luminance": to_volumes(movie.baselines["luminance"], movie.onsets_s, 2.0, run),
        },
        filter_measured(measured.data[:, :, voxels], 2.0, run),
        n_brains=4,
        seed=2,
    )
    np.testing.assert_allclose(analysis.regions[2].brains, by_hand.brains, atol=1e-5)
    effects = boundary_effects(by_hand, [5, 13, 24], seed=2)
    np.testing.assert_allclose(
        analysis.effects[2].average.samples, effects.average.samples, atol=1e-5
    )


def test_analyse_movie_all_is_what_both_sides_share(
    movie: MovieModels, measured: MeasuredMovie
) -> None:
    """An ROI that only one side has is in no region; a single one is not compared twice."""
    alone = MeasuredMovie(
        measured.data, measured.subject_names, 2.0, measured.mask, np.eye(4),
        {"PPA": measured.rois["PPA"], "FFA": measured.rois["LOC"]},
    )  # fmt: skip
    (region,) = analyse_movie(movie, alone, n_brains=2).regions
    (whole,) = analyse_movie(movie, alone, rois=["all"], n_brains=2).regions
    assert (region.roi, whole.roi) == ("PPA", "all")
    assert region.n_voxels == whole.n_voxels == measured.rois["PPA"].sum()
    np.testing.assert_array_equal(region.agreement, whole.agreement)
    unnamed = MeasuredMovie(
        measured.data, measured.subject_names, 2.0, measured.mask, np.eye(4), {}
    )
    (every,) = analyse_movie(movie, unnamed, n_brains=2).regions
    assert (every.roi, every.n_voxels) == ("all", measured.data.shape[2])


def test_analyse_movie_takes_further_models(movie: MovieModels, measured: MeasuredMovie) -> None:
    """Features of the user's own are compared beside the rest."""
    extra = {"mine": np.asarray(movie.prediction.group)}
    analysis = analyse_movie(movie, measured, features=extra, rois=["all"], n_brains=2)
    region = analysis.regions[0]
    assert region.models == ("predicted", "luminance", "mine")
    np.testing.assert_allclose(region.agreement[2], region.agreement[0], atol=1e-6)
    assert analysis.boundaries is None
    assert analysis.effects == ()


def test_original_is_the_published_analysis_written_out(
    movie: MovieModels, measured: MeasuredMovie
) -> None:
    """From frames and runs to agreement, every step of the published analysis is a loop here."""
    n_run, n_frames = measured.n_timepoints, 160
    kernel = [(t / (8.6 * 0.547)) ** 8.6 * np.exp(8.6 - t / 0.547) for t in np.arange(30) / 2]
    points = np.arange(n_run) * n_frames / (n_run - 1)

    def volumes(frames: NDArray[np.float64]) -> NDArray[np.float64]:
        convolved = [np.convolve(column, kernel)[:n_frames] for column in frames.T]
        return np.stack([np.interp(points, np.arange(n_frames), c) for c in convolved], axis=1)

    def filtered(course: NDArray[np.float64]) -> NDArray[np.float64]:
        drift = create_cosine_drift(1 / 120, np.arange(n_run) * 2.0)
        return course - drift @ np.linalg.lstsq(drift, course, rcond=None)[0]

    group = movie.prediction.group.astype(float)
    light = movie.baselines["luminance"].astype(float)
    predicted = filtered(volumes(group))[2:-8]
    plain = volumes(light)[2:-8]
    each = [filtered(stats.zscore(run.astype(float), axis=0)) for run in measured.data]
    brain = np.corrcoef(stats.zscore(np.sum(each, axis=0), axis=0)[10:])
    run = RunSettings(resample="original")
    analysis = analyse_movie(movie, measured, run=run, rois=["all"])
    (region,) = analysis.regions
    assert region.n_timepoints == n_run - 10
    for model, course in (("predicted", predicted), ("luminance", plain)):
        np.testing.assert_allclose(region.similarity[model], np.corrcoef(course), atol=1e-6)
    np.testing.assert_allclose(region.similarity["measured"], brain, atol=1e-4)
    expected = row_agreement(np.corrcoef(predicted), brain)
    np.testing.assert_allclose(region.agreement[0], expected, atol=1e-4)
    assert np.isnan(region.mean_p).all()


def test_volume_operator_is_to_volumes_as_one_matrix(rng: np.random.Generator) -> None:
    """A product with it convolves, samples, filters and trims, late start and all."""
    run = RunSettings(movie_start_s=7.0, slice_time_ref=0.5, n_volumes=40, skip_volumes=3)
    frames, onsets = rng.standard_normal((160, 5)), 0.5 * np.arange(160)
    operator = volume_operator(onsets, 2.0, run)
    expected = to_volumes(frames, onsets, 2.0, run)
    np.testing.assert_allclose(operator @ frames, expected, atol=1e-10)
    np.testing.assert_allclose(ModelSeries(frames, operator).volumes, expected, atol=1e-10)


@pytest.mark.parametrize("subjects", [[2], range(8)])
def test_analyse_movie_region_that_holds_still_is_refused(
    movie: MovieModels, measured: MeasuredMovie, subjects: list[int]
) -> None:
    """One value throughout, even with the rounding of a filter, is no measurement."""
    data = measured.data.copy()
    voxels = measured.rois["PPA"]
    for subject in subjects:
        still = np.full((measured.n_timepoints, voxels.sum()), 0.1, np.float32)
        data[subject][:, voxels] = 1000 * still - np.float32(100.0)
    broken = replace(measured, data=data)
    with pytest.raises(DataError, match=f"PPA must change .* throughout in sub-{subjects[0]}"):
        analyse_movie(movie, broken, n_surrogates=19)


def test_analyse_movie_leaves_out_voxels_that_hold_still_or_few_people_cover(
    movie: MovieModels, measured: MeasuredMovie
) -> None:
    """A voxel still in one subject, and one without a predicted value, count for nothing."""
    data, group = measured.data.copy(), movie.prediction.group.copy()
    data[3, :, 0] = 7.0
    group[:, 1] = np.nan
    full = analyse_movie(movie, measured, rois=["all"], n_surrogates=19).regions[0]
    gappy = replace(movie, prediction=replace(movie.prediction, group=group))
    cut = analyse_movie(gappy, replace(measured, data=data), rois=["all"], n_surrogates=19)
    (region,) = cut.regions
    assert region.n_voxels == full.n_voxels - 1
    assert np.isfinite(region.agreement).all()


@pytest.mark.parametrize(
    ("method", "n_events"), [("hmm", 4), ("hmm", None), ("gsbs", 4), ("gsbs", None), ("optimal", 4)]
)
def test_find_boundaries_finds_planted_ones(
    rng: np.random.Generator, method: str, n_events: int | None
) -> None:
    """Every method finds the planted boundaries, told their number or not."""
    events = rng.standard_normal((4, 300))[event_labels(BOUNDARIES, N_VOLUMES)]
    data = events + 0.5 * rng.standard_normal(events.shape)
    assert find_boundaries(data, method, n_events=n_events).tolist() == BOUNDARIES


def test_analyse_movie_finds_boundaries_in_the_group(
    movie: MovieModels, measured: MeasuredMovie
) -> None:
    """Boundaries can be found in the measured mean, a few volumes after the frames change."""
    analysis = analyse_movie(movie, measured, boundaries="hmm:4", n_brains=2)
    assert analysis.boundaries is not None
    np.testing.assert_allclose(analysis.boundaries, np.array([36, 68, 112]) / 4 + 2, atol=2)


def test_compare_dynamics_bad_input_is_named(
    models: dict[str, Any], brains: NDArray[np.float32]
) -> None:
    """Lengths that differ, NaN, wrong shapes and bad options each have an error."""
    short = {"predicted": models["predicted"][:38]}
    with pytest.raises(ShapeError, match="the 40 volumes that were measured; got 38 of predicted"):
        compare_dynamics(short, brains)
    broken = brains.copy()
    broken[4, 3, 2] = np.nan
    with pytest.raises(DataError, match="NaN or infinity in subjects 4 "):
        compare_dynamics(models, broken)
    with pytest.raises(ShapeError, match=r"got \(40, 30\)"):
        compare_dynamics(models, brains[0])
    with pytest.raises(OptionError, match="n_brains must be 1 or more; got 0"):
        compare_dynamics(models, brains, n_brains=0)
    with pytest.raises(OptionError, match="got none"):
        compare_dynamics({}, brains)
    with pytest.raises(OptionError, match="must not be named 'measured'"):
        compare_dynamics({"measured": models["predicted"]}, brains)
    with pytest.raises(OptionError, match="grouping must be one of data, similarity"):
        compare_dynamics(models, brains, grouping="mean")
    flat = brains.copy()
    flat[:, 7] = 0
    with pytest.raises(DataError, match="got volume 7 with one value"):
        compare_dynamics(models, flat)
    with pytest.raises(DataError, match="4 time points or more are needed; got 2"):
        compare_dynamics({"predicted": models["predicted"][:2]}, brains[:, :2])
    with pytest.raises(OptionError, match="interval must be between 0 and 1"):
        compare_dynamics(models, brains, n_brains=2).limits(1.5)
    with pytest.raises(OptionError, match="n_surrogates must be 19 or more; got 5"):
        compare_dynamics(models, brains, n_surrogates=5)
    with pytest.raises(OptionError, match="3 others or more; got 1 for some of 40"):
        compare_dynamics(models, brains, compared=Agreement(min_lag=20))


def test_to_volumes_bad_input_is_named(rng: np.random.Generator) -> None:
    """Uneven onsets, shapes, runs too short and settings out of range each have an error."""
    responses, onsets = rng.standard_normal((40, 3)), 0.5 * np.arange(40)
    with pytest.raises(ShapeError, match=r"got \(40, 3\) and \(39,\)"):
        to_volumes(responses, onsets[:39], 2.0, RunSettings())
    uneven = onsets.copy()
    uneven[7] += 0.2
    with pytest.raises(DataError, match=r"even spacing; got 40 onsets with steps from 0.3 to 0.7"):
        to_volumes(responses, uneven, 2.0, RunSettings())
    with pytest.raises(OptionError, match="no more than the 10 volumes of the movie; got 11"):
        to_volumes(responses, onsets, 2.0, RunSettings(n_volumes=11))
    with pytest.raises(DataError, match="movie must leave at least 3 time points .* 8; got 2"):
        to_volumes(responses, onsets, 2.0, RunSettings(skip_volumes=8))
    with pytest.raises(OptionError, match="movie_start_s must be 0 or more"):
        RunSettings(movie_start_s=-1.0)
    with pytest.raises(OptionError, match="skip_volumes must be 0 or more"):
        RunSettings(skip_volumes=-1)
    with pytest.raises(OptionError, match="n_volumes must be 1 or more"):
        RunSettings(n_volumes=0)
    with pytest.raises(OptionError, match="hrf must be one of gam, glover, spm; got 'canonical'"):
        RunSettings(hrf="canonical")
    with pytest.raises(OptionError, match="resample must be one of interp"):
        RunSettings(resample="linear")
    for name, value in (("hrf", "glover"), ("cutoff_s", 100.0), ("skip_volumes", 3),
                        ("movie_start_s", 2.0)):  # fmt: skip
        with pytest.raises(OptionError, match=f"^{name} must be .* original.* got {value}"):
            RunSettings(resample="original", **{name: value})


def test_filter_measured_bad_input_is_named(brains: NDArray[np.float32]) -> None:
    """NaN, shapes and runs too short each have an error."""
    broken = brains.copy()
    broken[[1, 3], 0, 0] = np.inf
    with pytest.raises(DataError, match="infinity in subjects 1, 3 "):
        filter_measured(broken, 2.0, RunSettings())
    with pytest.raises(ShapeError, match=r"got \(40,\)"):
        filter_measured(brains[0, :, 0], 2.0, RunSettings())
    with pytest.raises(DataError, match="at least 3 time points"):
        filter_measured(brains[:, :2], 2.0, RunSettings())


def test_baselines_bad_input_is_named(rng: np.random.Generator) -> None:
    """Frames of the wrong shape and a square too large have an error."""
    with pytest.raises(ShapeError, match=r"pixels must .* got \(4, 4\)"):
        luma(np.zeros((4, 4), np.uint8))
    with pytest.raises(ShapeError, match=r"frames must .* got \(4, 4\)"):
        motion_energy(np.zeros((4, 4)))
    with pytest.raises(OptionError, match="between 1 and 4 pixels; got 8"):
        motion_energy(np.zeros((2, 4, 4)))


def test_analyse_movie_bad_options_are_named(movie: MovieModels, measured: MeasuredMovie) -> None:
    """Unknown regions, boundaries out of range and features that do not fit have an error."""
    with pytest.raises(OptionError, match=r"rois must be one of all, LOC, PPA; got 'FFA'"):
        analyse_movie(movie, measured, rois=["FFA"])
    with pytest.raises(DataError, match=r"between 1 and 39.*got \[40\]"):
        analyse_movie(movie, measured, boundaries=[5, 40])
    with pytest.raises(OptionError, match="hmm, gsbs, optimal; got 'hidden', which is none"):
        analyse_movie(movie, measured, boundaries="hidden")
    with pytest.raises(OptionError, match="needs n_events"):
        analyse_movie(movie, measured, boundaries="optimal")
    with pytest.raises(ShapeError, match=r"160 frames; got \(10, 3\)"):
        analyse_movie(movie, measured, features={"mine": np.zeros((10, 3))})
    with pytest.raises(OptionError, match="got 'luminance', which names another"):
        analyse_movie(movie, measured, features={"luminance": np.zeros((160, 3))})
