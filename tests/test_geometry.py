"""Predicted and measured geometry compared."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.offsetbox import AnnotationBbox
from PIL import Image
from scipy.stats import false_discovery_control, kstest, spearmanr, t

from imgtofmri.analyses.rsa import (
    ModelComparison,
    best_controls,
    check_layers,
    compare_geometry,
    compare_models,
    control_pairs,
    layer_models,
    match_conditions,
    model_rdms,
    read_matrices,
    save_geometry,
)
from imgtofmri.analyses.rsa.figures import plot_comparison, plot_mds, plot_rdms
from imgtofmri.bundle import Bundle, write_bundle
from imgtofmri.cli import main
from imgtofmri.encoder import Control, Prediction, reference
from imgtofmri.exceptions import DataError, OptionError, ShapeError, StimulusError
from imgtofmri.files import sha256_of
from imgtofmri.rsa import (
    COMPARISONS,
    DISSIMILARITIES,
    RDMs,
    calculate_rdm,
    embed_rdm,
    rdm_ceiling,
    to_square,
    two_factor_variance,
)
from imgtofmri.stats import permutations
from imgtofmri.stimuli import Failure, luminance_features

CONDITIONS = tuple(f"image{number:02d}.jpg" for number in range(12))


MakePrediction = Callable[..., Prediction]

# Encoders of tests have random weights.
pytestmark = pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")


def make_measured(rng: np.random.Generator, patterns: Any, n_subjects: int = 6) -> RDMs:
    """Return noisy matrices of subjects who carry some patterns."""
    noisy = patterns + rng.normal(size=(n_subjects, *patterns.shape))
    names = tuple(f"sub-{number:02d}" for number in range(n_subjects))
    return RDMs(calculate_rdm(noisy), CONDITIONS, names, "correlation")


def make_models(rng: np.random.Generator, patterns: Any) -> RDMs:
    """Return the true model and one that has nothing to do with the patterns."""
    vectors = np.stack([calculate_rdm(patterns), calculate_rdm(rng.normal(size=patterns.shape))])
    return RDMs(vectors, CONDITIONS, ("true", "other"), "correlation")


def test_model_rdms_are_means_of_own_rois(
    make_prediction: MakePrediction, rng: np.random.Generator
) -> None:
    """An ROI's matrix is the mean of the people's own, over their voxels of both hemispheres."""
    prediction = make_prediction(rng, n_stimuli=12)
    rdms = model_rdms(prediction)
    by_hand = [1 - np.corrcoef(own[:, :10] - own[:, :10].mean(axis=0)) for own in prediction.native]
    np.testing.assert_allclose(rdms.squares[0], np.mean(by_hand, axis=0), atol=1e-6)
    assert (rdms.names, rdms.conditions) == (("PPA", "LOC"), prediction.names)
    assert model_rdms(prediction, "euclidean").measure == "euclidean"


def test_model_rdms_leave_out_people_without_the_roi(
    make_prediction: MakePrediction, rng: np.random.Generator
) -> None:
    """Who lacks an ROI has no part in its model; where nobody has it, that is said."""
    prediction = make_prediction(rng, n_stimuli=12)
    without = {place: own for place, own in prediction.own_rois[0].items() if place[0] != "PPA"}
    others = prediction.own_rois[1:]
    fewer = replace(prediction, own_rois=(without, *others))
    expected = calculate_rdm(np.stack([own[:, :10] for own in prediction.native[1:]])).mean(axis=0)
    np.testing.assert_allclose(model_rdms(fewer).dissimilarities[0], expected)
    with pytest.raises(DataError, match="PPA: a model needs one person .* got none. Leave it out"):
        model_rdms(replace(prediction, own_rois=(without,) * 3))


def test_model_rdms_of_constant_rois_name_the_roi_and_the_person(
    make_prediction: MakePrediction, rng: np.random.Generator
) -> None:
    """An ROI that responds alike to all images, or in all voxels to one, is no geometry."""
    prediction = make_prediction(rng, n_stimuli=6)
    alike = [own.copy() for own in prediction.native]
    alike[1][:, :10] = rng.normal(size=10)
    message = "PPA of CSI2: predicted responses must differ between images; got the same to all 6"
    for method in DISSIMILARITIES:
        with pytest.raises(DataError, match=message):
            model_rdms(replace(prediction, native=tuple(alike)), method)
    flat = [own.astype(np.float64) for own in prediction.native]
    # What all images share is removed first.
    flat[2][3, :10] = np.delete(flat[2][:, :10], 3, axis=0).mean(axis=0)
    with pytest.raises(DataError, match="PPA of CSI3: a correlation .*'image03.png' is constant"):
        model_rdms(replace(prediction, native=tuple(flat)))
    few = make_prediction(rng, n_stimuli=6, rois={("PPA", "L"): 1, ("LOC", "L"): 5})
    with pytest.raises(ShapeError, match="PPA of CSI1: a correlation needs at least 2 voxels"):
        model_rdms(few)


@pytest.mark.parametrize("method", COMPARISONS)
def test_compare_models_true_model_wins(method: str, rng: np.random.Generator) -> None:
    """The model that subjects carry is found, beats the other and lies below the upper bound."""
    patterns = 3 * rng.normal(size=(12, 30))
    result = compare_models(
        make_models(rng, patterns),
        make_measured(rng, patterns),
        method,
        n_permutations=199,
        n_bootstraps=60,
    )
    true, other = result.table.set_index("model").loc[["true", "other"]].to_dict("records")
    assert true["p_same_people"] == true["p_same_people_max"] == 1 / 200
    assert true["p_people_and_images"] < 0.05 < other["p_same_people"]
    assert true["ci_low"] <= true["score"] <= true["ci_high"]
    assert true["score"] <= true["ceiling_upper"]
    assert true["ceiling"] == "reliable"
    assert result.ceiling_is_reliable
    assert other["p_below_ceiling"] < 0.05 <= true["p_below_ceiling"]
    assert other["share_of_ceiling"] < 0.5 < true["share_of_ceiling"]
    assert result.pairs["p_people_and_images"].item() < 0.05


def test_compare_models_table_equals_scipy(rng: np.random.Generator) -> None:
    """Scores, shares of the ceiling, intervals and adjusted p are scipy's on the same numbers."""
    patterns = 3 * rng.normal(size=(12, 30))
    models, measured = make_models(rng, patterns), make_measured(rng, patterns)
    result = compare_models(models, measured, n_permutations=99)
    expected = [
        [spearmanr(m, s).statistic for s in measured.dissimilarities]
        for m in models.dissimilarities
    ]
    np.testing.assert_allclose(result.similarity, expected)
    table = result.table
    np.testing.assert_allclose(table["score"], np.mean(expected, axis=1))
    ceiling = rdm_ceiling(measured.dissimilarities).lower
    np.testing.assert_allclose(table["share_of_ceiling"], np.mean(expected, axis=1) / ceiling)
    np.testing.assert_allclose(table["se"], result.scores.standard_error)
    low, high = t.interval(0.95, 5, loc=table["score"], scale=table["se"])
    np.testing.assert_allclose(table[["ci_low", "ci_high"]].to_numpy().T, [low, high])
    np.testing.assert_allclose(
        table["p_people_and_images"], t.sf(table["score"] / table["se"], 5), atol=1e-12
    )
    for column in ("p_same_people", "p_people_and_images"):
        np.testing.assert_allclose(table[f"{column}_fdr"], false_discovery_control(table[column]))
    assert set(table["interval_over"]) == {"people and images"}


def test_compare_models_one_person_leaves_out_what_needs_more(rng: np.random.Generator) -> None:
    """With one person images can be permuted and resampled; of others nothing is said."""
    patterns = rng.normal(size=(12, 30))
    models, measured = make_models(rng, patterns), make_measured(rng, patterns, 1)
    result = compare_models(models, measured, n_permutations=99, n_bootstraps=50)
    assert result.ceiling is None
    assert not result.ceiling_is_reliable
    missing = ["p_people_and_images", "ceiling_lower", "ceiling", "share_of_ceiling"]
    assert result.table[[*missing, "p_below_ceiling"]].isna().all(axis=None)
    assert result.table[["p_same_people", "ci_low"]].notna().all(axis=None)
    assert set(result.table["interval_over"]) == {"images"}


def test_compare_models_two_people_are_refused(rng: np.random.Generator) -> None:
    """Two people say too little of others; the message says what to do."""
    patterns = rng.normal(size=(12, 30))
    message = "of one person, or of 3 and more; got 2 (sub-00, sub-01)"
    with pytest.raises(DataError, match=re.escape(message)):
        compare_models(make_models(rng, patterns), make_measured(rng, patterns, 2))


def test_compare_models_people_who_share_nothing_have_an_unreliable_ceiling(
    rng: np.random.Generator,
) -> None:
    """Where nobody's geometry says anything of another's, no share of a ceiling is given."""
    measured = RDMs(calculate_rdm(rng.normal(size=(6, 12, 30))), CONDITIONS, tuple("abcdef"))
    for method in COMPARISONS:
        models = make_models(rng, rng.normal(size=(12, 30)))
        result = compare_models(models, measured, method, n_permutations=9, n_bootstraps=60)
        assert set(result.table["ceiling"]) == {"unreliable"}
        assert result.table[["share_of_ceiling", "p_below_ceiling"]].isna().all(axis=None)
        assert result.table["ceiling_lower"].notna().all()
        assert not result.ceiling_is_reliable


def test_compare_models_p_is_a_count_of_relabellings(rng: np.random.Generator) -> None:
    """P is (count + 1) / (n + 1) of the relabellings that reach the data, written out."""
    patterns = rng.normal(size=(12, 30))
    models, measured = make_models(rng, patterns), make_measured(rng, patterns, 1)
    result = compare_models(models, measured, n_permutations=99)
    (orders,) = permutations(12, 99, seed=0)
    subject = measured.dissimilarities[0]
    upper = np.triu_indices(12, 1)
    for vector, p in zip(models.dissimilarities, result.table["p_same_people"], strict=True):
        observed = spearmanr(vector, subject).statistic
        count = 0
        for order in orders:
            relabelled = to_square(vector)[np.ix_(order, order)][upper]
            count += spearmanr(relabelled, subject).statistic >= observed - 1e-12
        assert p == (count + 1) / 100
    # A subject who is the model: no relabelling is as good, but for one that changes nothing.
    own = RDMs(models.dissimilarities[:1], CONDITIONS, ("same",))
    assert compare_models(own, own, n_permutations=99).table["p_same_people"].tolist() == [0.01]


def test_control_pairs_equal_written_out_differences(rng: np.random.Generator) -> None:
    """Differences and their errors are those of the resamples, whichever control is compared."""
    patterns = rng.normal(size=(12, 30))
    models, measured = make_models(rng, patterns), make_measured(rng, patterns)
    few = {"n_permutations": 9, "n_bootstraps": 100}
    result = compare_models(models, measured, **few)
    swapped = RDMs(models.dissimilarities[::-1], CONDITIONS, ("true", "other"))
    control = compare_models(swapped, measured, **few)
    pairs = control_pairs(result, control)
    assert pairs[["model_a", "model_b"]].to_numpy().tolist() == [["true"] * 2, ["other"] * 2]
    first, second = result.table["score"]
    np.testing.assert_allclose(pairs["difference"], [first - second, second - first])
    both = result.scores.values
    differences = both[..., :1] - both[..., 1:]
    error = np.sqrt(two_factor_variance(differences.var(axis=1, ddof=1), 6, 12))[0]
    half = t.ppf(0.975, 5) * error
    np.testing.assert_allclose(pairs["ci_low"][0], first - second - half)
    p = 2 * t.sf(abs(first - second) / error, 5)
    np.testing.assert_allclose(pairs["p_people_and_images"], [p, p])
    own = result.pairs.iloc[0]
    assert own["p_people_and_images"] == pytest.approx(p)
    single = compare_models(
        RDMs(models.dissimilarities[1:], CONDITIONS, ("luminance",)), measured, **few
    )
    against = control_pairs(result, single)
    assert against["model_b"].tolist() == ["luminance"] * 2
    assert against["difference"][0] == pytest.approx(pairs["difference"][0])
    same = against[["difference", "ci_low", "ci_high"]].iloc[1]
    np.testing.assert_allclose(same.tolist(), 0.0, atol=1e-9)
    assert against["p_people_and_images"][1] == 1.0


def test_best_controls_are_the_highest(rng: np.random.Generator) -> None:
    """Each model's best control is the one that scores highest, with the p of the difference."""
    patterns = rng.normal(size=(12, 30))
    models, measured = make_models(rng, patterns), make_measured(rng, patterns)
    few = {"n_permutations": 9, "n_bootstraps": 50}
    result = compare_models(models, measured, **few)
    of_each = RDMs(models.dissimilarities[::-1], CONDITIONS, ("true", "other"))
    weak = RDMs(rng.random((1, 66)), CONDITIONS, ("weak",))
    against = {
        name: control_pairs(result, compare_models(rdms, measured, **few))
        for name, rdms in (("weak", weak), ("swapped", of_each))
    }
    best = best_controls(result, against)
    scores = {name: result.table["score"] - pairs["difference"] for name, pairs in against.items()}
    expected = ["weak" if scores["weak"][k] > scores["swapped"][k] else "swapped" for k in (0, 1)]
    assert best["best_control"].tolist() == expected
    assert expected[1] == "swapped"
    np.testing.assert_allclose(best["best_control_score"][1], result.table["score"][0])
    assert best["p_best_control"][1] == against["swapped"]["p_people_and_images"][1]
    assert best_controls(result, {}).isna().all(axis=None)


@pytest.mark.slow
def test_control_pairs_need_the_same_subjects_and_models(rng: np.random.Generator) -> None:
    """Other subjects, or a model without a control, are refused; one subject gives no p."""
    patterns = rng.normal(size=(12, 30))
    models = make_models(rng, patterns)
    result = compare_models(models, make_measured(rng, patterns), n_permutations=9)
    alone = compare_models(models, make_measured(rng, patterns, 1), n_permutations=9)
    with pytest.raises(DataError, match="same measured people.*got other people or resamples"):
        control_pairs(result, alone)
    renamed = RDMs(models.dissimilarities, CONDITIONS, ("true", "third"))
    control = compare_models(renamed, make_measured(rng, patterns), n_permutations=9)
    with pytest.raises(DataError, match="got none for other"):
        control_pairs(result, control)
    of_one = control_pairs(alone, alone)
    columns = ["p_people_and_images", "p_people_and_images_fdr"]
    assert of_one[columns].isna().all(axis=None)
    again = compare_models(models, make_measured(rng, patterns), n_permutations=9, seed=4)
    with pytest.raises(DataError, match="other people or resamples"):
        control_pairs(result, again)


def test_bootstrap_of_another_method_or_of_other_matrices_is_refused(
    rng: np.random.Generator,
) -> None:
    """An interval by one comparison is none of a score by another."""
    patterns = rng.normal(size=(12, 30))
    models, measured = make_models(rng, patterns), make_measured(rng, patterns)
    few: Any = {"n_permutations": 9, "n_bootstraps": 9}
    result = compare_models(models, measured, **few)
    same = compare_models(models, measured, bootstrap=result.bootstrap, **few)
    assert same.table.equals(result.table)
    others = make_measured(rng, patterns)
    for other, method in ((measured, "pearson"), (others, "spearman")):
        with pytest.raises(OptionError, match="^bootstrap must be of these measured matrices, by "):
            compare_models(models, other, method, bootstrap=result.bootstrap, **few)
    with pytest.raises(DataError, match="got cosine, where the models have spearman"):
        control_pairs(result, compare_models(models, measured, "cosine", **few))
    with pytest.raises(DataError, match="got other people or resamples"):
        control_pairs(result, compare_models(models, others, **few))


@pytest.mark.slow
def test_compare_models_same_seed_same_answer(rng: np.random.Generator) -> None:
    """The seed fixes every number, and another seed gives another null."""
    patterns = rng.normal(size=(12, 5))
    models, measured = make_models(rng, patterns), make_measured(rng, patterns)
    first, again, other = (
        compare_models(models, measured, n_permutations=50, seed=seed) for seed in (1, 1, 2)
    )
    assert first.table.equals(again.table)
    assert first.pairs.equals(again.pairs)
    assert not first.table["null_mean"].equals(other.table["null_mean"])


@pytest.mark.parametrize("method", COMPARISONS)
def test_compare_models_thread_count_does_not_matter(method: str, rng: np.random.Generator) -> None:
    """P values are the same with one thread of linear algebra and with several."""
    threadpoolctl = pytest.importorskip("threadpoolctl", reason="comes with scikit-learn")
    patterns = rng.normal(size=(12, 400))
    models, measured = make_models(rng, patterns), make_measured(rng, patterns)
    found = []
    for n_threads in (1, 2):
        with threadpoolctl.threadpool_limits(n_threads):
            few = {"n_permutations": 50, "n_bootstraps": 20}
            found.append(compare_models(models, measured, method, **few).table)
    columns = [name for name in found[0].columns if name.startswith("p_")]
    np.testing.assert_array_equal(found[0][columns[3:5]], found[1][columns[3:5]])
    assert columns[2:5] == ["p_same_people", "p_same_people_fdr", "p_same_people_max"]
    np.testing.assert_allclose(found[0][columns], found[1][columns], rtol=1e-9)


@pytest.mark.slow
def test_compare_models_null_p_of_the_same_people_is_uniform() -> None:
    """Over 500 data sets with nothing shared, the smallest p_same_people_max is uniform."""
    rng = np.random.default_rng(4)
    p_max = np.empty(500)
    for data_set in range(500):
        models = RDMs(calculate_rdm(rng.normal(size=(2, 12, 8))), CONDITIONS, ("a", "b"))
        measured = RDMs(calculate_rdm(rng.normal(size=(8, 12, 8))), CONDITIONS, tuple("abcdefgh"))
        table = compare_models(
            models, measured, n_permutations=99, n_bootstraps=1, seed=data_set
        ).table
        p_max[data_set] = table["p_same_people_max"].min()
    jitter = rng.random(500) / 100
    assert kstest(p_max - jitter, "uniform").pvalue > 0.01


def test_match_conditions_orders_measured_after_models(rng: np.random.Generator) -> None:
    """Measured rows are put into the images' order, by name or by stem."""
    vector = rng.random(6)
    models = RDMs(vector, ("set/cow.jpg", "set/dog.jpg", "set/pig.jpg", "set/cat.jpg"), ("m",))
    measured = RDMs(rng.random(10), ("pig", "hen", "cow", "cat", "dog"), ("s",))
    with pytest.warns(
        UserWarning, match="0 of 4 images are only predicted and 1 of 5 only measured"
    ):
        ours, theirs = match_conditions(models, measured, "drop")
    order = [2, 4, 0, 3]
    np.testing.assert_array_equal(theirs.squares[0], measured.squares[0][np.ix_(order, order)])
    assert ours.conditions == theirs.conditions == models.conditions


def _rdms(*conditions: str) -> RDMs:
    n_pairs = len(conditions) * (len(conditions) - 1) // 2
    return RDMs(np.arange(n_pairs, dtype=float), conditions, ("x",))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: match_conditions(_rdms("a", "b", "c"), _rdms("d", "e", "f"), "drop"),
            DataError,
            "measured: no image is left to compare",
        ),
        (
            lambda: match_conditions(_rdms("a.jpg", "a.png", "b.jpg"), _rdms("a", "b", "c")),
            DataError,
            "got 3 only predicted (a.jpg, a.png, b.jpg) and 3 only measured",
        ),
        (
            lambda: compare_models(_rdms("a", "b", "c"), _rdms("a", "c", "b")),
            DataError,
            "match_conditions",
        ),
        (
            lambda: compare_models(_rdms("a", "b", "c"), _rdms("a", "b", "c"), confidence=95),
            OptionError,
            "confidence must lie between 0 and 1",
        ),
    ],
)
def test_geometry_bad_input_names_the_item(call: Any, error: type[Exception], message: str) -> None:
    """Each refusal says what was expected and what came."""
    with pytest.raises(error, match=re.escape(message)):
        call()


@pytest.fixture
def comparison(rng: np.random.Generator) -> tuple[RDMs, ModelComparison]:
    """Return two models compared with four subjects who carry the first."""
    patterns = rng.normal(size=(2, 12, 30))
    models = RDMs(calculate_rdm(patterns), CONDITIONS, ("PPA", "LOC"))
    subjects = calculate_rdm(patterns[0] + rng.normal(size=(4, 12, 30)))
    measured = RDMs(subjects, CONDITIONS, ("a", "b", "c", "d"))
    return models, compare_models(models, measured, n_permutations=99)


def test_plot_comparison_bars_are_means(comparison: tuple[RDMs, ModelComparison]) -> None:
    """Bars stand at the models' means, each subject is a circle."""
    axes = plot_comparison(comparison[1]).axes[0]
    heights = [patch.get_height() for patch in axes.patches][-2:]
    np.testing.assert_allclose(heights, comparison[1].table["score"])
    circles = [line.get_ydata() for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(np.sort(circles), np.sort(comparison[1].similarity))


def test_plot_mds_places_thumbnails_at_the_points(
    comparison: tuple[RDMs, ModelComparison], rng: np.random.Generator
) -> None:
    """Each image is drawn where the embedding puts it, and the title tells the stress."""
    models = comparison[0]
    pictures = {name: rng.integers(0, 256, (6, 8, 3), dtype=np.uint8) for name in CONDITIONS}
    figure = plot_mds(models, pictures, ["a", "b"] * 6)
    points, stress = embed_rdm(models.dissimilarities[0])
    places = [artist.xy for artist in figure.axes[0].artists]
    np.testing.assert_allclose(places, points)
    assert f"stress {stress:.2f}" in figure.axes[0].get_title(loc="left")


def test_plot_rdms_shows_percentiles(comparison: tuple[RDMs, ModelComparison]) -> None:
    """Ranked matrices go from near 0 to near 100, symmetric, one panel for each."""
    figure = plot_rdms(comparison[0])
    images = [axes.images[0].get_array() for axes in figure.axes if axes.images]
    assert len(images) == 2
    off_diagonal = images[0][~np.eye(12, dtype=bool)]
    assert 0 < off_diagonal.min() < 1
    assert 99 < off_diagonal.max() < 100


@pytest.mark.slow
def test_plot_comparison_controls_stand_beside_their_models(
    comparison: tuple[RDMs, ModelComparison], rng: np.random.Generator
) -> None:
    """A control of each ROI is a grey bar beside the ROI's, one for all stands at the end."""
    models, result = comparison
    measured = RDMs(rng.random((4, 66)), models.conditions, tuple("abcd"))
    beside = compare_models(models, measured, n_permutations=19)
    single = RDMs(models.dissimilarities[:1], models.conditions, ("luminance",))
    alone = compare_models(single, measured, n_permutations=19)
    figure = plot_comparison(result, {"untrained": beside, "luminance": alone})
    axes = figure.axes[0]
    bars = [bar for bar in axes.patches if bar.get_height() in
            {*result.table["score"], *beside.table["score"], *alone.table["score"]}]  # fmt: skip
    expected = [*result.table["score"], *beside.table["score"], *alone.table["score"]]
    np.testing.assert_allclose([bar.get_height() for bar in bars], expected)
    places = np.array([bar.get_x() + bar.get_width() / 2 for bar in bars])
    np.testing.assert_array_equal(np.round(places), [0, 1, 0, 1, 2])
    assert (places[2:4] > places[:2]).all()
    labels = [text.get_text() for text in axes.get_xticklabels()]
    assert labels == ["PPA", "LOC", "luminance"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["untrained"]


@pytest.fixture
def shown(
    make_prediction: MakePrediction, rng: np.random.Generator, tmp_path: Path
) -> tuple[Prediction, RDMs]:
    """Return a prediction of eight pictures, and subjects who carry its first ROI."""
    (tmp_path / "photos").mkdir()
    prediction = make_prediction(rng, n_stimuli=8, folder=tmp_path / "photos")
    vector = model_rdms(prediction).dissimilarities[0]
    noisy = vector + 0.1 * rng.normal(size=(5, vector.size))
    stems = tuple(Path(name).stem for name in prediction.names)
    return prediction, RDMs(noisy, stems, tuple("abcde"))


def _controls(prediction: Prediction, other: Prediction) -> list[Control]:
    """Return an untrained network's prediction of the same images, and their luminance."""
    images = tuple(prediction.sources)
    return [
        Control("untrained", other, images, False),
        Control("luminance", None, images, False),
    ]


def test_compare_geometry_equals_its_steps(
    shown: tuple[Prediction, RDMs], make_prediction: MakePrediction, rng: np.random.Generator
) -> None:
    """Tables hold each model's own comparison; luminance is one model, of no ROI, by hand."""
    prediction, measured = shown
    other = make_prediction(rng, n_stimuli=8)
    few = {"n_permutations": 99, "n_bootstraps": 20, "seed": 3}
    result = compare_geometry(
        prediction, {"five": measured}, controls=_controls(prediction, other), **few
    )
    tables = result.tables()
    assert tables["rsa"]["model"].tolist() == ["encoder"] * 2 + ["untrained"] * 2 + ["luminance"]
    assert tables["rsa"]["roi"].fillna("none").tolist() == ["PPA", "LOC", "PPA", "LOC", "none"]
    assert set(tables["rsa"]["measured"]) == {"five"}
    assert len(tables["subjects"]) == 5 * 5
    own, theirs = (
        compare_models(*match_conditions(model_rdms(each), measured), **few)
        for each in (prediction, other)
    )
    for model, expected in (("encoder", own), ("untrained", theirs)):
        rows = tables["rsa"][tables["rsa"]["model"] == model].reset_index(drop=True)
        pd.testing.assert_frame_equal(rows[expected.table.columns[1:]], expected.table.iloc[:, 1:])
    pairs = tables["pairs"]
    against = pairs[pairs["model_b"] == "untrained"].reset_index(drop=True)
    expected_pairs = control_pairs(own, theirs)
    np.testing.assert_array_equal(against["difference"], expected_pairs["difference"])
    assert pairs["model_b"].tolist() == ["encoder"] + ["untrained"] * 2 + ["luminance"] * 2
    by_hand = calculate_rdm(luminance_features(list(prediction.sources))[1])
    np.testing.assert_array_equal(result.models["luminance"].dissimilarities[0], by_hand)
    mean = np.mean([spearmanr(by_hand, s).statistic for s in measured.dissimilarities])
    assert tables["rsa"]["score"].iloc[-1] == pytest.approx(mean)


def test_geometry_plots_are_of_the_sets_and_models_that_there_are(
    shown: tuple[Prediction, RDMs], make_prediction: MakePrediction, rng: np.random.Generator
) -> None:
    """The first set by default, controls beside; a panel for each matrix; thumbnails of files."""
    prediction, measured = shown
    few = {"n_permutations": 9, "n_bootstraps": 20}
    controls = _controls(prediction, make_prediction(rng, n_stimuli=8))
    sets = {"one": measured, "two": measured.select(measured.conditions[::-1])}
    result = compare_geometry(prediction, sets, controls=controls, **few)
    scores = [result.compared["one"][name].table["score"] for name in result.models]
    assert result.plot("two").axes[0].get_title(loc="left") == "two"
    heights = [bar.get_height() for bar in result.plot().axes[0].patches if bar.get_width() < 1]
    assert sorted(heights) == pytest.approx(sorted(np.concatenate(scores)))
    with pytest.raises(OptionError, match="measured must be one of one, two; got 'three'"):
        result.plot("three")
    titles = [axes.get_title(loc="left") for axes in result.plot_models().axes]
    assert [title for title in titles if title] == list(result.stacked().names)
    panel = result.plot_mds(["a", "b"] * 4).axes[0]
    assert sum(isinstance(item, AnnotationBbox) for item in panel.artists) == 8


def test_compare_geometry_controls_of_other_images_are_refused(
    shown: tuple[Prediction, RDMs], make_prediction: MakePrediction, rng: np.random.Generator
) -> None:
    """A control that was made of fewer images, be it a network's or luminance, is named."""
    prediction, measured = shown
    for control in _controls(prediction[:5], make_prediction(rng, n_stimuli=5)):
        with pytest.raises(DataError, match=f"{control.name} must be of the 8 .* got 5"):
            compare_geometry(prediction, measured, controls=[control])


def test_compare_geometry_arrays_are_refused_with_what_to_make_of_them(
    shown: tuple[Prediction, RDMs],
) -> None:
    """An array says nothing of what its rows are."""
    prediction, measured = shown
    for given in (measured.squares, [measured.squares], {"IT": measured.dissimilarities}):
        with pytest.raises(DataError, match="must be files or RDMs; got a ndarray. Make imgtofmri"):
            compare_geometry(prediction, given)  # type: ignore[arg-type]


def test_compare_geometry_in_order_names_measured_rows(shown: tuple[Prediction, RDMs]) -> None:
    """Rows without names are those of the images; another number, or a failure, is refused."""
    prediction, measured = shown
    nameless = RDMs(measured.dissimilarities, tuple("01234567"), measured.names, named=False)
    few = {"n_permutations": 9, "n_bootstraps": 2}
    by_name = compare_geometry(prediction, measured, **few)
    in_order = compare_geometry(prediction, nameless, in_order=True, **few)
    pd.testing.assert_frame_equal(in_order.tables()["rsa"], by_name.tables()["rsa"])
    with pytest.raises(DataError, match="must have names .*8 rows without any. Set `in_order`"):
        compare_geometry(prediction, nameless, **few)
    with pytest.raises(DataError, match="measured: with `in_order` .* got 8 rows for 7 images, 0 "):
        compare_geometry(prediction[:7], nameless, in_order=True, **few)
    failure = Failure("gone.jpg", StimulusError("gone.jpg is gone"))
    with pytest.raises(DataError, match="8 rows for 8 images, 1 having failed"):
        compare_geometry(prediction, nameless, in_order=True, failures=[failure], **few)


def test_read_matrices_names_sets_by_what_they_are_given_by(tmp_path: Path) -> None:
    """A name, a file's name and a mapping's key name a set; matrices pass through."""
    np.save(tmp_path / "m.npy", np.ones((1, 3)))
    path = tmp_path / "m.npy"
    assert list(read_matrices(path)) == list(read_matrices(str(path))) == ["m"]
    found = read_matrices([f"A={path}", path])
    assert list(found) == ["A", "m"]
    assert found["A"].source == path
    assert read_matrices(found)["A"] is found["A"]
    assert list(read_matrices({"B": path})) == ["B"]
    assert list(read_matrices(RDMs(np.ones((1, 3)), tuple("abc"), ("s",)))) == ["measured"]
    assert read_matrices(()) == {}


@pytest.mark.slow
def test_save_geometry_writes_tables_figures_and_record(
    shown: tuple[Prediction, RDMs], make_prediction: MakePrediction, tmp_path: Path,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Files hold the result's numbers; the record has digests of images, matrices and outputs."""
    prediction, measured = shown
    file, out = tmp_path / "five.npz", tmp_path / "out"
    np.savez(file, rdms=measured.dissimilarities, conditions=measured.conditions)
    failure = Failure("gone.jpg", StimulusError("gone.jpg is gone"))
    result = compare_geometry(
        prediction,
        file,
        controls=_controls(prediction, make_prediction(rng, n_stimuli=8)),
        failures=[failure],
        n_permutations=19,
        n_bootstraps=5,
    )
    files = save_geometry(result, out)
    figures = {
        f"{name}.{kind}" for name in ("models", "comparison_five") for kind in ("png", "svg")
    }
    tables = {"rsa.tsv", "pairs.tsv", "subjects.tsv"}
    names = {*figures, *tables, "models.npz", "mds.png", "rsa.json"}
    assert {path.name for path in files} == {path.name for path in out.iterdir()} == names
    read = pd.read_csv(out / "rsa.tsv", sep="\t", na_values="n/a")
    np.testing.assert_allclose(read["score"], result.tables()["rsa"]["score"], rtol=1e-5)
    with np.load(out / "models.npz") as archive:
        assert archive["names"].tolist() == [
            "PPA", "LOC", "PPA untrained", "LOC untrained", "luminance"
        ]  # fmt: skip
        np.testing.assert_array_equal(
            archive["dissimilarities"][:2], result.models["encoder"].dissimilarities
        )
    record = json.loads((out / "rsa.json").read_text("utf-8"))
    assert record["state"] == "partial"
    assert record["failures"] == [{"name": "gone.jpg", "reason": "gone.jpg is gone"}]
    assert record["measured"] == [{"path": str(file), "sha256": sha256_of(file)}]
    assert [entry["sha256"] for entry in record["inputs"]] == list(prediction.sha256)
    assert set(record["controls"]) == {"untrained", "luminance"}
    assert {entry["file"] for entry in record["outputs"]} == names - {"rsa.json"}
    with pytest.raises(OptionError, match="without earlier results"):
        save_geometry(result, out)
    save_geometry(result, out, overwrite=True)


@pytest.fixture
def run(small_encoder: Path, random_weights: Path) -> Callable[..., int]:
    """Return what runs the command with a small encoder."""
    common = ["--encoder", str(small_encoder), "--weights", str(random_weights), "--quiet"]
    return lambda *arguments: main(["rsa", *map(str, arguments), *common])


@pytest.fixture
def photos(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Write six pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(6):
        pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"image{number}.png")
    return folder


@pytest.mark.slow
def test_rsa_command_models_match_themselves(
    run: Callable[..., int], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Measured matrices that are one ROI's model, but for noise, are won by that ROI."""
    models_out, out = tmp_path / "models", tmp_path / "out"
    assert run(photos, "-o", models_out) == 0
    assert {path.name for path in models_out.iterdir()} == {
        "models.npz", "models.png", "models.svg", "mds.png", "rsa.json", "report.html"
    }  # fmt: skip
    with np.load(models_out / "models.npz") as archive:
        names, conditions = archive["names"].tolist(), archive["conditions"]
        vector = archive["dissimilarities"][names.index("PPA")]
    noise = 1e-6 * vector.std() * np.random.default_rng(0).normal(size=(4, vector.size))
    stems = [str(name).removesuffix(".png") for name in conditions]
    np.savez(tmp_path / "m.npz", rdms=vector + noise, conditions=stems)
    measured = f"PPA={tmp_path / 'm.npz'}"
    assert run(photos, "-o", out, "-m", measured, "--permutations", 99) == 0
    said = capsys.readouterr()
    assert "PPA: 4 people, 6 images, spearman; ceiling " in said.out
    assert f"2 models of 6 images: {out}" in said.err
    table = pd.read_csv(out / "rsa.tsv", sep="\t").set_index("roi")
    assert table["score"].idxmax() == "PPA"
    assert table.loc["PPA", "score"] > 0.99
    assert table.loc["PPA", "p_same_people_max"] == pytest.approx(0.01, abs=0.02)
    assert len(pd.read_csv(out / "subjects.tsv", sep="\t")) == 4 * 2
    assert (out / "comparison_PPA.svg").exists()
    again = ("-o", tmp_path / "third", "-m", measured, "--in-order")
    assert run(photos, *again) == 0
    (photos / "broken.png").write_bytes(b"not a picture")
    assert run(photos, *again, "--overwrite") == 1
    assert "PPA: with --in-order there must be one row" in capsys.readouterr().err
    assert run(photos, "-o", models_out, "--overwrite") == 3
    assert "broken.png" in capsys.readouterr().err


def test_rsa_command_of_two_images_is_refused(
    run: Callable[..., int], photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two images have one distance, which says nothing about a geometry."""
    assert run(*sorted(photos.iterdir())[:2], "-o", tmp_path / "out") == 1
    assert "a geometry needs at least 3 images; got image0.png, i" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_rsa_command_bad_options_are_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown measure is named as the option that it is of, and nothing is written."""
    out = tmp_path / "out"
    for option in ("--dissimilarity", "--comparison"):
        assert main(["rsa", "gone/", "-o", str(out), option, "sperman"]) == 2
        assert f"imgtofmri: {option} must be one of " in capsys.readouterr().err
    matrices = ["-m", f"A={tmp_path / 'm.npy'}", "-m", f"A={tmp_path / 'm.npy'}"]
    np.save(tmp_path / "m.npy", np.ones((1, 3)))
    assert main(["rsa", "gone/", "-o", str(out), *matrices]) == 2
    assert "got 'A' twice. Write NAME=FILE" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--comparison", "kendall"],
        ["--in-order"],
        ["--unmatched", "drop"],
        ["--descriptor", "image"],
        ["--key", "rdms"],
        ["--permutations", "99"],
        ["--bootstraps", "99"],
    ],
)
def test_rsa_command_options_of_a_comparison_are_refused_without_one(
    options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Models alone are compared with nothing, so that these would change nothing."""
    assert main(["rsa", "gone/", "-o", str(tmp_path / "out"), *options]) == 2
    said = capsys.readouterr().err
    assert f"{options[0]} goes with measured matrices; got none. Name them with --measured" in said


@pytest.mark.slow
def test_rsa_command_control_of_an_untrained_encoder_is_the_encoder(
    make_bundle: Callable[..., Bundle], photos: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Rows are the encoder's own and differ from it by 0."""
    bundle = make_bundle(rng)
    bundle.card["features"]["weights"] = {
        "name": "untrained (seed 0)",
        "seed": 0,
        "verified": False,
    }
    write_bundle(bundle, tmp_path / "untrained.safetensors")
    out, file = tmp_path / "out", tmp_path / "m.npz"
    np.savez(file, rdms=rng.random((4, 15)), conditions=[f"image{n}" for n in range(6)])
    code = main([
        "rsa", str(photos), "-o", str(out), "-m", str(file), "--permutations", "99",
        "--control", "untrained", "--encoder", str(tmp_path / "untrained.safetensors"), "--quiet",
    ])  # fmt: skip
    assert code == 0
    table = pd.read_csv(out / "rsa.tsv", sep="\t")
    best = ["best_control", "best_control_score", "p_best_control"]
    assert (table[table["model"] == "encoder"]["best_control"] == "untrained").all()
    own, untrained = (
        table[table["model"] == model].drop(columns=["model", *best]).reset_index(drop=True)
        for model in ("encoder", "untrained")
    )
    pd.testing.assert_frame_equal(untrained, own)
    pairs = pd.read_csv(out / "pairs.tsv", sep="\t")
    against = pairs[pairs["model_b"] == "untrained"]
    assert (against["roi_a"] == against["roi_b"]).all()
    np.testing.assert_allclose(against["difference"], 0.0, atol=1e-12)
    record = json.loads((out / "rsa.json").read_text("utf-8"))
    assert record["controls"]["untrained"]["weights"] == "untrained (seed 0)"


@pytest.mark.slow
def test_compare_geometry_layers_are_models_with_their_own_controls(
    shown: tuple[Prediction, RDMs], make_prediction: MakePrediction, rng: np.random.Generator
) -> None:
    """A layer's row is its own model; its controls are its untrained twin and the pictures'."""
    prediction, measured = shown
    models = layer_models(
        ["resnet18/layer1@7x7"], weights="untrained:5", controls=["untrained", "luminance"]
    )
    layers = models.predict(list(prediction.sources), progress=False)
    controls = _controls(prediction, make_prediction(rng, n_stimuli=8))
    few = {"n_permutations": 9, "n_bootstraps": 20}
    result = compare_geometry(prediction, measured, layers=layers, controls=controls, **few)
    name, twin = "resnet18/layer1@7x7", "untrained resnet18/layer1@7x7"
    assert list(result.models) == ["encoder", name, twin, "untrained", "luminance"]
    np.testing.assert_allclose(
        result.models[name].dissimilarities[0], calculate_rdm(layers[0].features), atol=1e-12
    )
    assert layers[0].features.shape == (8, 64 * 49)
    assert not np.array_equal(layers[0].features, layers[1].features)
    assert result.controls_of(name) == (twin, "luminance")
    assert result.controls_of(twin) == ()
    tables = result.tables()
    rows = tables["rsa"].set_index("model")
    assert rows.loc[name, "best_control"] in (twin, "luminance")
    assert set(rows.loc["encoder", "best_control"]) <= {"untrained", "luminance"}
    assert rows.loc[[twin, "luminance"], "best_control"].isna().all()
    assert rows.loc[[name, twin, "luminance"], "roi"].isna().all()
    pairs = tables["pairs"].groupby(["model_a", "model_b"], sort=False).size()
    assert pairs.to_dict() == {
        ("encoder", "encoder"): 1, ("encoder", name): 2, ("encoder", "untrained"): 2,
        ("encoder", "luminance"): 2, (name, twin): 1, (name, "luminance"): 1,
    }  # fmt: skip
    # Asking for more changes nothing of the encoder's.
    alone = compare_geometry(prediction, measured, **few).tables()["rsa"]
    shared = alone.columns.drop(["best_control", "best_control_score", "p_best_control"])
    own = tables["rsa"][tables["rsa"]["model"] == "encoder"]
    pd.testing.assert_frame_equal(own[shared], alone[shared])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("layer2@7x7", "`model` must be NETWORK/LAYER.*got 'layer2@7x7'"),
        ("resnet19/layer2@7x7", "must be one of resnet18"),
        ("head.safetensors/layer2", "must be one of resnet18"),
        ("resnet18/layer2@7x0", "must have a row and a column or more"),
    ],
)
def test_layer_models_bad_names_are_refused(name: str, message: str) -> None:
    """What names no layer of a network is told before anything is loaded."""
    with pytest.raises(OptionError, match=message):
        check_layers([name])


@pytest.mark.slow
def test_rsa_command_prints_models_and_controls_that_the_docs_explain(
    run: Callable[..., int], tmp_path: Path, rng: np.random.Generator,
    random_weights: Path, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Further models use the named weights; every column of the tables is in the guide."""
    folder, out = tmp_path / "figures", tmp_path / "out"
    folder.mkdir()
    for number in range(6):
        pixels = np.full((40, 40, 3), 128, np.uint8)
        left, top = rng.integers(3, 20, 2)
        pixels[top : top + 12, left : left + 15] = rng.integers(0, 90, 3)
        Image.fromarray(pixels).save(folder / f"image{number}.png")
    np.savez(
        tmp_path / "m.npz", rdms=rng.random((4, 15)), conditions=[f"image{n}" for n in range(6)]
    )
    controls = [part for name in ("luminance", "energy", "silhouette") for part in
                ("--control", name)]  # fmt: skip
    more = ("--model", "resnet18/layer1@7x7", "--permutations", 9, "--bootstraps", 20)
    assert run(folder, "-o", out, "-m", tmp_path / "m.npz", *controls, *more) == 0
    said, told = capsys.readouterr()
    assert f"3 models of 6 images: {out}" in told  # Two ROIs and the layer; no control.
    assert "UNRELIABLE, as the lower bound is not above chance" in said
    assert re.search(r"resnet18/layer1@7x7 +[+-]0\.\d{3} \[.*best control ", said)
    assert "control silhouette" in said
    record = json.loads((out / "rsa.json").read_text("utf-8"))
    assert record["settings"]["models"]["resnet18/layer1@7x7"]["weights"] == random_weights.name
    assert record["controls"]["energy"] == {"features": "Gabor energy on a grid"}
    guide = Path(__file__).parents[1] / "docs" / "how-to" / "compare-geometry.md"
    explained = set(re.findall(r"`([a-z_]+)`", guide.read_text("utf-8")))
    for table in ("rsa", "pairs", "subjects"):
        columns = pd.read_csv(out / f"{table}.tsv", sep="\t").columns
        assert set(columns) <= explained


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.long
def test_rsa_of_92_measured_images_is_as_good_as_own_rois_allow(
    published_bundle: Bundle, test_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """LOC and PPA resemble IT, EarlyVis reaches a fifth to a quarter of EVC's ceiling, as told."""
    if not (test_data / "real" / "set92.npz").is_file():
        pytest.skip("IMGTOFMRI_TEST_DATA has no real/set92.npz: 92 images with measured matrices")
    monkeypatch.setattr(reference, "reference_bundle", lambda _: published_bundle)
    names = [f"image{number:02d}" for number in range(92)]
    with np.load(test_data / "real" / "set92.npz") as data:
        (tmp_path / "images").mkdir()
        for name, pixels in zip(names, data["images"], strict=True):
            Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
        for region in ("EVC", "IT"):
            np.savez(tmp_path / f"{region}.npz", rdms=data[region], conditions=names)
    weights = str(test_data / "standin" / "resnet18_standin.safetensors")
    code = main([
        "rsa", str(tmp_path / "images"), "-o", str(tmp_path / "out"), "--weights", weights,
        "-m", str(tmp_path / "EVC.npz"), "-m", str(tmp_path / "IT.npz"), "--quiet",
        "--model", "resnet18/layer2@7x7", "--control", "energy", "--control", "silhouette",
        "--bootstraps", "200",
    ])  # fmt: skip
    assert code == 0
    table = pd.read_csv(tmp_path / "out" / "rsa.tsv", sep="\t").set_index("measured")
    it = table.loc["IT"].set_index("roi")["score"]
    assert it["LOC"] >= 0.284
    assert it["PPA"] >= 0.275
    said = capsys.readouterr().out
    share = re.search(r"EarlyVis +\S+ \[\S+ \S+\]  (\d+) % of the ceiling", said)
    assert share is not None
    assert 20 <= int(share[1]) <= 25
    evc = table.loc["EVC"].set_index("model")
    assert set(evc["ceiling"]) == {"reliable"}
    assert set(evc["best_control"].dropna()) == {"silhouette"}
    early = evc["score"].drop("encoder")
    assert early["silhouette"] > early["resnet18/layer2@7x7"] > 0.16
