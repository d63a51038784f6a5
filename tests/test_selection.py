"""Choosing stimuli."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from nilearn.glm.contrasts import expression_to_contrast_vector
from scipy.stats import kstest

from imgtofmri.analyses.select import (
    Goal,
    StimulusSelection,
    events_table,
    parse_goal,
    roi_responses,
    save_selection,
    select_stimuli,
)
from imgtofmri.analyses.select.solver import choose_by_pairs, choose_by_scores
from imgtofmri.bundle import Bundle
from imgtofmri.encoder import Control, Encoder, Prediction
from imgtofmri.exceptions import DataError, OptionError, ShapeError, StimulusError
from imgtofmri.files import sha256_of
from imgtofmri.stats import permutations
from imgtofmri.stimuli import Failure, image_properties

NO_PROPERTIES = np.zeros((12, 0))


Make = Callable[..., Prediction]


@pytest.fixture
def make_maps(make_prediction: Make, rng: np.random.Generator) -> Make:
    """Return what makes two ROIs in which subjects share what stimuli do, as much as asked."""

    def make(n_stimuli: int = 60, shared: float = 1.0, own: Any = rng, **more: Any) -> Prediction:
        means = shared * own.normal(size=(n_stimuli, 2)) + own.normal(size=(3, n_stimuli, 2))
        subjects = np.repeat(means, 8, axis=2) + 0.3 * own.normal(size=(3, n_stimuli, 16))
        rois = {("PPA", "L"): 3, ("PPA", "R"): 5, ("LOC", "L"): 8}
        return make_prediction(own, subjects=subjects, rois=rois, **more)

    return make


def with_subjects(maps: Prediction, subjects: Any) -> Prediction:
    """Return a prediction of other responses."""
    subjects = np.asarray(subjects, dtype=np.float32)
    return replace(maps, subjects=subjects, native=tuple(subjects), group=subjects.mean(axis=0))


def test_roi_responses_are_of_each_subjects_own_roi(
    small_bundle: Bundle, rng: np.random.Generator
) -> None:
    """Patterns are the bundle's in native space, and means are over them."""
    encoder = Encoder(small_bundle)
    features = rng.normal(size=(5, 6))
    found = roi_responses(encoder.predict_features(features, average="mean"))
    for roi in ("LOC", "PPA"):
        for number, subject in enumerate(("S1", "S2")):
            native = encoder.predict_native(features, roi, subject)
            np.testing.assert_allclose(found.patterns[roi][number], native, rtol=1e-6)
            expected = native.mean(axis=1, dtype=float)
            np.testing.assert_allclose(found.means(roi)[number], expected, rtol=1e-6)


def test_roi_responses_means_do_not_depend_on_the_company(make_maps: Make) -> None:
    """A stimulus' mean over an ROI is the same bits among few and among many."""
    maps = make_maps()
    together, alone = roi_responses(maps), roi_responses(maps[:2])
    for roi in together.patterns:
        np.testing.assert_array_equal(alone.means(roi), together.means(roi)[:, :2])


def test_choose_by_scores_without_matching_is_the_top(rng: np.random.Generator) -> None:
    """One set without constraints holds the highest scores, best first."""
    scores = rng.normal(size=(1, 12))
    (chosen,) = choose_by_scores(scores, 4, NO_PROPERTIES, 0.1)
    assert chosen.tolist() == np.argsort(-scores[0])[:4].tolist()


def test_choose_by_scores_equals_every_choice(rng: np.random.Generator) -> None:
    """Two disjoint matched sets score as the best of all that could be chosen."""
    scores, properties = rng.normal(size=(2, 9)), rng.normal(size=(9, 1))
    properties -= properties.mean()
    best = -np.inf
    for first in itertools.combinations(range(9), 3):
        for second in itertools.combinations(sorted(set(range(9)) - set(first)), 3):
            means = [abs(properties[list(part)].mean()) for part in (first, second)]
            if max(means) <= 0.3:
                best = max(best, scores[0, list(first)].sum() + scores[1, list(second)].sum())
    chosen = choose_by_scores(scores, 3, properties, 0.3)
    assert not set(chosen[0]) & set(chosen[1])
    assert max(abs(properties[members].mean()) for members in chosen) <= 0.3 + 1e-9
    found = sum(scores[row, members].sum() for row, members in enumerate(chosen))
    assert best * 0.99 <= found <= best + 1e-9


def test_choose_by_pairs_equals_every_choice(rng: np.random.Generator) -> None:
    """On a small pool the exchanges find the best matched set of all."""
    affinities = rng.normal(size=(12, 12))
    affinities = affinities + affinities.T
    np.fill_diagonal(affinities, 0.0)
    properties = rng.normal(size=(12, 1))
    properties -= properties.mean()
    free = np.ones(12, dtype=bool)
    free[3] = False
    choices = [
        list(members)
        for members in itertools.combinations(np.flatnonzero(free).tolist(), 4)
        if abs(properties[list(members)].mean()) <= 0.4
    ]
    best = max(affinities[np.ix_(members, members)].sum() for members in choices)
    members = choose_by_pairs(affinities, 4, free, properties, 0.4, seed=0)
    assert affinities[np.ix_(members, members)].sum() == pytest.approx(best)
    assert 3 not in members


def test_select_stimuli_high_and_low_are_the_extremes(make_maps: Make) -> None:
    """Without matching, high and low are the two ends of the pool's order."""
    maps = make_maps()
    goals = (Goal("high", "PPA"), Goal("low", "PPA"))
    result = select_stimuli(maps, goals, 5, n_random=50)
    means = maps.subjects[:, :, :8].mean(axis=2)
    z = ((means - means.mean(axis=1, keepdims=True)) / means.std(axis=1, keepdims=True)).mean(0)
    order = np.argsort(z)
    assert result.sets["PPA_low"] == tuple(maps.names[index] for index in order[:5])
    assert result.sets["PPA_high"] == tuple(maps.names[index] for index in order[:-6:-1])
    assert len(result.sets["reference"]) == 5
    members = [name for group in result.sets.values() for name in group]
    assert len(set(members)) == 15


@pytest.mark.slow
def test_select_stimuli_matching_holds_the_tolerance(
    make_maps: Make, rng: np.random.Generator
) -> None:
    """Matched properties of every set lie within the tolerance, although they drive the region."""
    maps = make_maps(120)
    luminance = maps.subjects[:, :, :8].mean(axis=(0, 2)) + 0.5 * rng.normal(size=120)
    properties = pd.DataFrame(
        {"stimulus": maps.names, "luminance": luminance, "size": rng.normal(size=120)}
    )
    goals = (Goal("high", "PPA"), Goal("low", "PPA"))
    free = select_stimuli(maps, goals, 8, properties, n_random=20)
    matched = select_stimuli(maps, goals, 8, properties, ["luminance"], 0.2, n_random=20)
    rows = matched.matching.query("matched")
    assert rows["property"].unique().tolist() == ["luminance"]
    assert rows["difference"].abs().max() <= 0.2 + 1e-6
    assert free.matching.query("property == 'luminance'")["difference"].abs().max() > 0.5


def test_select_stimuli_property_that_does_not_vary_is_matched(make_maps: Make) -> None:
    """The mean of 30 times 0.1 is not 0.1, but no set lies a standard deviation from the pool."""
    maps = make_maps(30)
    even = pd.DataFrame({"light": np.full(30, 0.1), "dark": np.full(30, 0.7)})
    assert any(even[name].std(ddof=0) > 0 for name in even)
    made = select_stimuli(maps, ["high LOC"], 3, properties=even, match=["light"], n_random=19)
    assert (made.matching["difference"] == 0).all()


def test_select_stimuli_alike_set_is_alike_in_one_and_not_the_other(
    make_maps: Make, rng: np.random.Generator
) -> None:
    """A planted cluster (one pattern in LOC, different ones in PPA) is found."""
    patterns = rng.normal(size=(40, 16))
    patterns[:6, 8:] = patterns[0, 8:]
    subjects = patterns + 0.3 * rng.normal(size=(3, 40, 16))
    maps = with_subjects(make_maps(40), subjects)
    result = select_stimuli(maps, (Goal("alike", "LOC", "PPA"),), 6, n_random=99)
    assert set(result.sets["LOC_alike_PPA_apart"]) == set(maps.names[:6])
    rows = result.checks.query("check == 'other subject'")
    assert (rows["p"] == 0.01).all()
    assert (rows["effect"] > 0.5).all()


@pytest.mark.slow
def test_select_stimuli_checks_tell_signal_from_selection_noise(make_maps: Make) -> None:
    """Where subjects share nothing, the in-sample effect is large and the held-out one is not."""
    in_sample, held_out, shared = [], [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        noise = select_stimuli(make_maps(60, 0.0, rng), (Goal("high", "PPA"),), 6, n_random=20)
        signal = select_stimuli(make_maps(60, 2.0, rng), (Goal("high", "PPA"),), 6, n_random=20)
        in_sample.append(noise.checks["effect"].iloc[0])
        held_out.append(noise.checks.query("check == 'other subject'")["effect"].mean())
        shared.append(signal.checks.query("check == 'other subject'")["effect"].mean())
    assert np.mean(in_sample) > 1.0
    assert abs(np.mean(held_out)) < 0.2
    assert np.mean(shared) > 1.0


@pytest.mark.slow
@pytest.mark.long
def test_select_stimuli_null_p_is_uniform_over_1000_data_sets(make_maps: Make) -> None:
    """Where nothing is shared, held-out p is uniform in the pool and its halves, controls' too."""
    names = ("other subject", "other subject, half 1", "other subject, half 2")
    p_values = np.empty((1000, 3, 3))
    for data_set in range(1000):
        rng = np.random.default_rng(data_set)
        maps = make_maps(40, 0.0, rng)
        goal = Goal("over", "PPA", "LOC")
        properties = pd.DataFrame({"luminance": rng.normal(size=40)})
        checks = select_stimuli(
            maps,
            (goal,),
            5,
            properties,
            reference=False,
            n_random=99,
            seed=data_set,
            controls=[
                Control("untrained", make_maps(40, 0.0, rng), (), False),
                Control("luminance", None, (), False),
            ],
        ).checks
        first = checks[checks["selected_on"] == "CSI2 and CSI3"].set_index(["model", "check"])
        for column, model in enumerate(("encoder", "untrained", "luminance")):
            p_values[data_set, :, column] = first.loc[[(model, name) for name in names], "p"]
    jittered = p_values - np.random.default_rng(1).random((1000, 3, 3)) / 100
    for column in jittered.reshape(1000, 9).T:
        assert kstest(column, "uniform").pvalue > 0.01


def test_select_stimuli_same_seed_same_answer(make_maps: Make) -> None:
    """The seed fixes sets and checks."""
    maps = make_maps()
    goals = (Goal("over", "PPA", "LOC"), Goal("alike", "LOC", "PPA"))
    first, again = (select_stimuli(maps, goals, 4, n_random=30, seed=5) for _ in range(2))
    assert first.sets == again.sets
    pd.testing.assert_frame_equal(first.checks, again.checks)


def test_names_of_sets_can_stand_in_a_contrast_of_nilearns() -> None:
    """Nilearn reads a hyphen as a minus, so that names of sets hold none."""
    names = [
        parse_goal(text, ["LOC", "PPA"]).name
        for text in ("high PPA", "low PPA", "PPA over LOC", "alike LOC apart PPA")
    ]
    for positive, negative in itertools.pairwise(names):
        vector = expression_to_contrast_vector(f"{positive} - {negative}", [*names, "constant"])
        assert dict(zip(names, vector, strict=False))[positive] == 1.0
        assert sorted(vector) == [-1.0, 0.0, 0.0, 0.0, 1.0]


def test_events_table_shows_each_once_per_repeat_and_none_twice_running() -> None:
    """Every stimulus comes once in each repeat, and never after itself, on a regular grid."""
    sets = {"PPA_high": ("a", "b"), "reference": ("c",)}
    events = events_table(sets, 1.5, 2.5, n_repeats=40, start_s=6.0, seed=1)
    assert events["onset"].tolist() == pytest.approx((6.0 + 4.0 * np.arange(120)).tolist())
    files = events["stim_file"].to_numpy()
    assert all(sorted(files[start : start + 3]) == ["a", "b", "c"] for start in range(0, 120, 3))
    assert (files[1:] != files[:-1]).all()
    assert set(events.loc[events["trial_type"] == "PPA_high", "stim_file"]) == {"a", "b"}
    assert list(events.columns) == ["onset", "duration", "trial_type", "stim_file"]


@pytest.mark.parametrize(
    ("text", "goal"),
    [
        ("high PPA", Goal("high", "PPA")),
        ("LOW LOC", Goal("low", "LOC")),
        ("PPA over LOC", Goal("over", "PPA", "LOC")),
        ("alike LOC, apart PPA", Goal("alike", "LOC", "PPA")),
        ("alike LOC apart PPA", Goal("alike", "LOC", "PPA")),
    ],
)
def test_parse_goal_reads(text: str, goal: Goal) -> None:
    """Each way to write a goal gives the goal."""
    assert parse_goal(text, ["PPA", "LOC"]) == goal


def _table(**columns: Any) -> pd.DataFrame:
    names = [f"image{number:02d}.png" for number in range(60)]
    return pd.DataFrame({"stimulus": names, **columns})


def _with_nan(maps: Prediction) -> Prediction:
    subjects = maps.subjects.copy()
    subjects[1, 4, 2] = np.nan
    return with_subjects(maps, subjects)


HIGH = (Goal("high", "PPA"),)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda _: parse_goal("high PAP", ["PPA"]), OptionError, "Did you mean PPA?"),
        (lambda _: parse_goal("PPA over PPA", ["PPA"]), OptionError, "two different ROIs"),
        (lambda _: parse_goal("most PPA", ["PPA"]), OptionError, "got 'most PPA'"),
        (lambda maps: select_stimuli(maps, (), 5), OptionError, "goals must be one or more"),
        (lambda maps: select_stimuli(maps, HIGH * 2, 5), OptionError, "'PPA_high' twice"),
        (lambda maps: select_stimuli(maps, (Goal("low", "V1"),), 5), OptionError, "got 'V1'"),
        (lambda maps: select_stimuli(maps, HIGH, 0), OptionError, "n_per_set must be at least 1"),
        (
            lambda maps: select_stimuli(maps, (Goal("alike", "LOC", "PPA"),), 1),
            OptionError,
            "n_per_set must be at least 2",
        ),
        (lambda maps: select_stimuli(maps, HIGH, 16), DataError, "at least 64 images; got 60"),
        (lambda maps: select_stimuli(_with_nan(maps), HIGH, 5), DataError, "'image04.png' has NaN"),
        (
            lambda maps: select_stimuli(
                replace(
                    with_subjects(maps, maps.subjects[:1]),
                    subject_names=("CSI1",),
                    own_rois=maps.own_rois[:1],
                    coverage=maps.coverage[:1],
                ),
                HIGH,
                5,
            ),
            DataError,
            "at least 2 subjects",
        ),
        (
            lambda maps: select_stimuli(maps, HIGH, 5, _table(size=1.0), ["hue"]),
            OptionError,
            "must be one of stimulus, size; got 'hue'",
        ),
        (
            lambda maps: select_stimuli(maps, HIGH, 5, _table(size=1.0)[:-1], ["size"]),
            ShapeError,
            "each of the 60 stimuli; got 59",
        ),
        (
            lambda maps: select_stimuli(maps, HIGH, 5, _table(size=np.nan), ["size"]),
            DataError,
            "'image00.png' has nan for size",
        ),
        (
            lambda maps: select_stimuli(
                maps, HIGH, 5, _table(size=[0.0] * 30 + [1.0] * 30), ["size"], 0.05
            ),
            DataError,
            "match the pool within 0.05",
        ),
        (
            lambda _: choose_by_pairs(
                np.zeros((4, 4)), 1, np.ones(4, bool), np.array([[-1.0], [-1], [1], [1]]), 0.5, 0
            ),
            DataError,
            "no set of 1 out of 4",
        ),
        (
            lambda maps: roi_responses(with_subjects(maps, np.ones((3, 60, 16)))),
            DataError,
            "all give 'PPA' of CSI1 the same",
        ),
        (
            lambda maps: roi_responses(
                replace(maps, own_rois=(*maps.own_rois[:2], {("LOC", "L"): np.arange(4)}))
            ),
            DataError,
            "each subject must have ROI 'PPA', as it is tested on one and chosen on the others",
        ),
        (lambda _: events_table({"a": ("b",)}, duration_s=0), OptionError, "duration_s"),
        (lambda _: events_table({"a": ("b",)}, gap_s=-1), OptionError, "gap_s must be at least 0"),
        (lambda _: events_table({"a": ("b",)}, n_repeats=0), OptionError, "n_repeats"),
    ],
)
def test_selection_bad_input_names_the_item(
    call: Any, error: type[Exception], message: str, make_maps: Make
) -> None:
    """Each refusal says what was expected and which item is at fault."""
    with pytest.raises(error, match=re.escape(message)):
        call(make_maps())


def test_select_stimuli_controls_change_nothing_and_equal_the_encoder_when_the_same(
    make_maps: Make, rng: np.random.Generator
) -> None:
    """The same predictions as a control give the encoder's rows; other rows stay what they were."""
    maps, goals = make_maps(), (Goal("high", "PPA"), Goal("alike", "LOC", "PPA"))
    other = with_subjects(maps, rng.normal(size=maps.subjects.shape))
    plain = select_stimuli(maps, goals, 5, n_random=50).checks
    controls = [Control("same", maps, (), False), Control("untrained", other, (), False)]
    found = select_stimuli(maps, goals, 5, n_random=50, controls=controls).checks
    rows = {
        name: found[found["model"] == name].drop(columns="model").reset_index(drop=True)
        for name in ("encoder", "same", "untrained")
    }
    pd.testing.assert_frame_equal(rows["encoder"], plain.drop(columns="model"))
    pd.testing.assert_frame_equal(rows["same"], rows["encoder"])
    assert rows["untrained"]["effect"].abs().max() < rows["encoder"]["effect"].max()
    held_out = rows["untrained"].query("check == 'other subject'")
    assert held_out["p"].median() > 0.05


def test_select_stimuli_property_rows_equal_direct_computation(
    make_maps: Make, rng: np.random.Generator
) -> None:
    """The in-sample row is the set's distance from the pool in its deviations, by hand."""
    maps = make_maps()
    luminance = maps.subjects[:, :, :8].mean(axis=(0, 2)) + 0.2 * rng.normal(size=60)
    properties = pd.DataFrame(
        {"stimulus": maps.names, "luminance": luminance, "contrast": np.ones(60)}
    )
    result = select_stimuli(
        maps,
        (Goal("high", "PPA"), Goal("low", "PPA")),
        6,
        properties,
        n_random=200,
        controls=[Control("luminance", None, (), False)],
    )
    rows = result.checks[result.checks["model"] == "luminance"]
    members = [maps.names.index(name) for name in result.sets["PPA_high"]]
    expected = (luminance[members].mean() - luminance.mean()) / luminance.std()
    in_sample = rows.query("check == 'in-sample'").set_index("set")["effect"]
    assert in_sample["PPA_high"] == pytest.approx(expected)
    others = [maps.names.index(name) for name in result.sets["PPA_low"]]
    apart = luminance[members].mean() - luminance[others].mean()
    row = rows.set_index("set").loc["PPA_high - PPA_low"]
    assert row["effect"] == pytest.approx(apart / luminance.std())
    both = luminance[members + others]
    (orders,) = permutations(12, 200, seed=0)
    null = [abs(both[order[:6]].mean() - both[order[6:]].mean()) for order in orders]
    assert row["p"] == (sum(value >= apart - 1e-12 for value in null) + 1) / 201
    held_out = rows.query("check == 'other subject'")
    assert (held_out["tested_on"] == "images").all()
    # Sets that luminance drives are far from random sets on either side, so p is two-sided.
    assert (held_out["p"] < 0.05).all()
    assert (
        np.sign(held_out["effect"]) == held_out["set"].map({"PPA_high": 1, "PPA_low": -1})
    ).all()
    constant = result.checks[result.checks["model"] == "contrast"]
    assert constant[["effect", "p"]].isna().all(axis=None)


def test_select_stimuli_control_of_other_stimuli_is_refused(make_maps: Make) -> None:
    """A control must predict the pool, in its order, for its subjects."""
    maps = make_maps()
    controls = [Control("untrained", replace(maps, names=maps.names[::-1]), (), False)]
    with pytest.raises(ShapeError, match="control untrained must be of the prediction's stimuli"):
        select_stimuli(maps, (Goal("high", "PPA"),), 5, controls=controls)


def test_select_stimuli_measures_the_files_that_were_predicted(
    make_maps: Make, tmp_path: Path
) -> None:
    """Without properties those of the files are taken, as if they had been given."""
    maps = make_maps(24, folder=tmp_path)
    given = image_properties(maps.sources)
    first, again = (
        select_stimuli(maps, ["high PPA"], 4, own, ["luminance"], 0.5, n_random=9)
        for own in (None, given)
    )
    pd.testing.assert_frame_equal(first.table, again.table)
    pd.testing.assert_frame_equal(first.matching, again.matching)
    assert set(first.matching["property"]) == {"luminance", "contrast", "size"}


def test_select_stimuli_properties_in_another_order_are_refused(
    make_maps: Make, tmp_path: Path
) -> None:
    """Rows that name other stimuli, by name, path or index, are not taken in order."""
    maps = make_maps(24, folder=tmp_path)
    by_path = image_properties(maps.sources)
    by_name = by_path.assign(stimulus=maps.names)
    bare = by_path.assign(stimulus=[Path(name).stem for name in maps.names])
    for properties in (by_path, by_name, by_name.set_index("stimulus"), bare):
        select_stimuli(maps, "high PPA", 4, properties, "luminance", 0.5, n_random=9)
        with pytest.raises(ShapeError, match="properties must have the prediction's stimuli in th"):
            select_stimuli(maps, "high PPA", 4, properties[::-1], "luminance", 0.5, n_random=9)
    others = by_path.assign(stimulus=[f"other{row}" for row in range(24)])
    with pytest.raises(ShapeError, match="got 'other0' in row 0, where the prediction has"):
        select_stimuli(maps, "high PPA", 4, others, "luminance", 0.5, n_random=9)


@pytest.fixture
def saved(make_maps: Make, tmp_path: Path) -> StimulusSelection:
    """Return a selection with both kinds of control, written to the folder ``out``."""
    photos = tmp_path / "pool" / "photos"
    photos.mkdir(parents=True)
    maps = make_maps(24, folder=photos)
    controls = [
        Control("untrained", make_maps(24), maps.sources, False),
        Control("luminance", None, maps.sources, False),
    ]
    goals = ["high PPA", "low PPA"]
    result = select_stimuli(maps, goals, 3, n_random=9, seed=4, controls=controls)
    failure = Failure("bad.png", StimulusError("bad.png: no picture"))
    save_selection(result, tmp_path / "out", gap_s=1.0, n_repeats=2, failures=[failure])
    return result


def test_save_selection_tables_are_the_results(saved: StimulusSelection, tmp_path: Path) -> None:
    """Tables hold the result's, and events the chosen files, relative to the pool's folder."""
    for name, table in (
        ("selection", saved.table),
        ("checks", saved.checks),
        ("matching", saved.matching),
    ):
        written = pd.read_csv(tmp_path / "out" / f"{name}.tsv", sep="\t")
        pd.testing.assert_frame_equal(written, table, check_dtype=False, rtol=1e-5, atol=1e-9)
    events = pd.read_csv(tmp_path / "out" / "events.tsv", sep="\t")
    # Each name is a file's, as all lie in one folder.
    shown = events_table(saved.sets, 2.0, 1.0, 2, seed=4)
    pd.testing.assert_frame_equal(events, shown, check_dtype=False)


def test_save_selection_record_tells_all_that_was_written(
    saved: StimulusSelection, tmp_path: Path
) -> None:
    """Every file is in the record with its digest, every image, what failed, and each control."""
    out = tmp_path / "out"
    record = json.loads((out / "selection.json").read_text("utf-8"))
    listed = {entry["file"]: entry["sha256"] for entry in record["outputs"]}
    assert set(listed) == {
        "events.tsv", "selection.tsv", "checks.tsv", "matching.tsv",
        "contact-sheet.png", "checks.png", "checks.svg",
    }  # fmt: skip
    assert listed == {name: sha256_of(out / name) for name in listed}
    assert {path.name for path in out.iterdir()} == {*listed, "selection.json"}
    assert [entry["sha256"] for entry in record["inputs"]] == list(saved.prediction.sha256)
    assert record["failures"] == [{"name": "bad.png", "reason": "bad.png: no picture"}]
    assert set(record["controls"]) == {"untrained", "luminance"}
    assert record["settings"] == {
        "goals": ["PPA_high", "PPA_low"],
        "n_per_set": 3,
        "match": [],
        "tolerance": 0.1,
        "reference": True,
        "n_pool": 24,
        "n_random": 9,
        "stimulus_folder": str(tmp_path / "pool" / "photos"),
        "seed": 4,
        "duration_s": 2.0,
        "gap_s": 1.0,
        "n_repeats": 2,
    }


def test_save_selection_of_pictures_in_memory_is_refused(make_maps: Make, tmp_path: Path) -> None:
    """Events name files, so there must be files; nothing is written."""
    result = select_stimuli(make_maps(24), ["high PPA"], 3, n_random=3)
    with pytest.raises(DataError, match=r"image00.png: expected an image file, .* in memory"):
        save_selection(result, tmp_path / "out")
    assert not (tmp_path / "out").exists()
