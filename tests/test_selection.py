"""Choosing stimuli."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest

from imgtofmri.analyses.select import (
    Goal,
    events_table,
    parse_goal,
    roi_responses,
    select_stimuli,
)
from imgtofmri.analyses.select.solver import choose_by_pairs, choose_by_scores
from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.stats import permutations

NO_PROPERTIES = np.zeros((12, 0))


@dataclass(frozen=True)
class Maps:
    """Predicted responses of a pool, made in the test."""

    subjects: Any
    names: tuple[str, ...]
    roi_masks: Any
    subject_names: tuple[str, ...] = ("CSI1", "CSI2", "CSI3")


def test_roi_responses_means_do_not_depend_on_the_company() -> None:
    """A stimulus' mean over an ROI is the same bits among few and among many."""
    maps = _plain()
    few = replace(maps, names=maps.names[:2], subjects=maps.subjects[:, :2])
    together, alone = roi_responses(maps), roi_responses(few)
    for roi in together.patterns:
        np.testing.assert_array_equal(alone.means(roi), together.means(roi)[:, :2])


def make_maps(rng: np.random.Generator, n_stimuli: int = 60, shared: float = 1.0) -> Maps:
    """Return two ROIs of 8 voxels in which subjects share what stimuli do, as much as asked."""
    means = shared * rng.normal(size=(n_stimuli, 2)) + rng.normal(size=(3, n_stimuli, 2))
    subjects = np.repeat(means, 8, axis=2) + 0.3 * rng.normal(size=(3, n_stimuli, 16))
    index = np.arange(16)
    masks = {
        ("PPA", "L"): index < 3,
        ("PPA", "R"): (index >= 3) & (index < 8),
        ("LOC", "L"): index >= 8,
    }
    names = tuple(f"image{number:02d}.jpg" for number in range(n_stimuli))
    return Maps(subjects.astype(np.float32), names, masks)


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


def test_select_stimuli_high_and_low_are_the_extremes(rng: np.random.Generator) -> None:
    """Without matching, high and low are the two ends of the pool's order."""
    maps = make_maps(rng)
    goals = (Goal("high", "PPA"), Goal("low", "PPA"))
    result = select_stimuli(maps, goals, 5, n_random=50)
    means = maps.subjects[:, :, :8].mean(axis=2)
    z = ((means - means.mean(axis=1, keepdims=True)) / means.std(axis=1, keepdims=True)).mean(0)
    order = np.argsort(z)
    assert result.sets["PPA-low"] == tuple(maps.names[index] for index in order[:5])
    assert result.sets["PPA-high"] == tuple(maps.names[index] for index in order[:-6:-1])
    assert len(result.sets["reference"]) == 5
    members = [name for group in result.sets.values() for name in group]
    assert len(set(members)) == 15


def test_select_stimuli_matching_holds_the_tolerance(rng: np.random.Generator) -> None:
    """Matched properties of every set lie within the tolerance, although they drive the region."""
    maps = make_maps(rng, n_stimuli=120)
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


def test_select_stimuli_alike_set_is_alike_in_one_and_not_the_other(
    rng: np.random.Generator,
) -> None:
    """A planted cluster (one pattern in LOC, different ones in PPA) is found."""
    patterns = rng.normal(size=(40, 16))
    patterns[:6, 8:] = patterns[0, 8:]
    subjects = patterns + 0.3 * rng.normal(size=(3, 40, 16))
    maps = replace(make_maps(rng, 40), subjects=subjects)
    result = select_stimuli(maps, (Goal("alike", "LOC", "PPA"),), 6, n_random=99)
    assert set(result.sets["LOC-alike-PPA-apart"]) == set(maps.names[:6])
    rows = result.checks.query("check == 'other subject'")
    assert (rows["p"] == 0.01).all()
    assert (rows["effect"] > 0.5).all()


def test_select_stimuli_checks_tell_signal_from_selection_noise() -> None:
    """Where subjects share nothing, the in-sample effect is large and the held-out one is not."""
    in_sample, held_out, shared = [], [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        noise = select_stimuli(make_maps(rng, shared=0.0), (Goal("high", "PPA"),), 6, n_random=20)
        signal = select_stimuli(make_maps(rng, shared=2.0), (Goal("high", "PPA"),), 6, n_random=20)
        in_sample.append(noise.checks["effect"].iloc[0])
        held_out.append(noise.checks.query("check == 'other subject'")["effect"].mean())
        shared.append(signal.checks.query("check == 'other subject'")["effect"].mean())
    assert np.mean(in_sample) > 1.0
    assert abs(np.mean(held_out)) < 0.2
    assert np.mean(shared) > 1.0


@pytest.mark.slow
def test_select_stimuli_null_p_is_uniform_over_1000_data_sets() -> None:
    """Where nothing is shared, held-out p is uniform in the pool and its halves, controls' too."""
    names = ("other subject", "other subject, half 1", "other subject, half 2")
    p_values = np.empty((1000, 3, 3))
    for data_set in range(1000):
        rng = np.random.default_rng(data_set)
        maps = make_maps(rng, 40, shared=0.0)
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
            controls={"untrained": make_maps(rng, 40, shared=0.0)},
            control_properties=["luminance"],
        ).checks
        first = checks[checks["selected_on"] == "CSI2 and CSI3"].set_index(["model", "check"])
        for column, model in enumerate(("encoder", "untrained", "luminance")):
            p_values[data_set, :, column] = first.loc[[(model, name) for name in names], "p"]
    jittered = p_values - np.random.default_rng(1).random((1000, 3, 3)) / 100
    for column in jittered.reshape(1000, 9).T:
        assert kstest(column, "uniform").pvalue > 0.01


def test_select_stimuli_same_seed_same_answer(rng: np.random.Generator) -> None:
    """The seed fixes sets and checks."""
    maps = make_maps(rng)
    goals = (Goal("over", "PPA", "LOC"), Goal("alike", "LOC", "PPA"))
    first, again = (select_stimuli(maps, goals, 4, n_random=30, seed=5) for _ in range(2))
    assert first.sets == again.sets
    pd.testing.assert_frame_equal(first.checks, again.checks)


def test_events_table_shows_each_once_per_repeat_and_none_twice_running() -> None:
    """Every stimulus comes once in each repeat, and never after itself, on a regular grid."""
    sets = {"PPA-high": ("a", "b"), "reference": ("c",)}
    events = events_table(sets, 1.5, 2.5, n_repeats=40, start_s=6.0, seed=1)
    assert events["onset"].tolist() == pytest.approx((6.0 + 4.0 * np.arange(120)).tolist())
    files = events["stim_file"].to_numpy()
    assert all(sorted(files[start : start + 3]) == ["a", "b", "c"] for start in range(0, 120, 3))
    assert (files[1:] != files[:-1]).all()
    assert set(events.loc[events["trial_type"] == "PPA-high", "stim_file"]) == {"a", "b"}
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


def _plain() -> Maps:
    return make_maps(np.random.default_rng(0))


def _nan_maps() -> Maps:
    maps = _plain()
    maps.subjects[1, 4, 2] = np.nan
    return maps


def _table(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"stimulus": _plain().names, **columns})


HIGH = (Goal("high", "PPA"),)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: parse_goal("high PAP", ["PPA"]), OptionError, "Did you mean PPA?"),
        (lambda: parse_goal("PPA over PPA", ["PPA"]), OptionError, "two different ROIs"),
        (lambda: parse_goal("most PPA", ["PPA"]), OptionError, "got 'most PPA'"),
        (lambda: select_stimuli(_plain(), (), 5), OptionError, "at least one goal"),
        (lambda: select_stimuli(_plain(), HIGH * 2, 5), OptionError, "'PPA-high' twice"),
        (lambda: select_stimuli(_plain(), (Goal("low", "V1"),), 5), OptionError, "got 'V1'"),
        (lambda: select_stimuli(_plain(), HIGH, 0), OptionError, "n_per_set must be at least 1"),
        (
            lambda: select_stimuli(_plain(), (Goal("alike", "LOC", "PPA"),), 1),
            OptionError,
            "n_per_set must be at least 2",
        ),
        (lambda: select_stimuli(_plain(), HIGH, 16), DataError, "at least 64 images; got 60"),
        (lambda: select_stimuli(_nan_maps(), HIGH, 5), DataError, "'image04.jpg' has NaN"),
        (
            lambda: select_stimuli(
                replace(_plain(), subjects=_plain().subjects[:1], subject_names=("CSI1",)), HIGH, 5
            ),
            DataError,
            "at least 2 subjects",
        ),
        (
            lambda: select_stimuli(_plain(), HIGH, 5, _table(size=1.0), ["hue"]),
            OptionError,
            "must be one of stimulus, size; got 'hue'",
        ),
        (
            lambda: select_stimuli(_plain(), HIGH, 5, _table(size=1.0)[:-1], ["size"]),
            ShapeError,
            "each of the 60 stimuli; got 59",
        ),
        (
            lambda: select_stimuli(_plain(), HIGH, 5, _table(size=np.nan), ["size"]),
            DataError,
            "'image00.jpg' has nan for size",
        ),
        (
            lambda: select_stimuli(
                _plain(), HIGH, 5, _table(size=[0.0] * 30 + [1.0] * 30), ["size"], 0.05
            ),
            DataError,
            "match the pool within 0.05",
        ),
        (
            lambda: choose_by_pairs(
                np.zeros((4, 4)), 1, np.ones(4, bool), np.array([[-1.0], [-1], [1], [1]]), 0.5, 0
            ),
            DataError,
            "no set of 1 out of 4",
        ),
        (
            lambda: roi_responses(replace(_plain(), subjects=np.ones((3, 60, 16)))),
            DataError,
            "all give 'PPA' of CSI1 the same",
        ),
        (
            lambda: roi_responses(replace(_plain(), roi_masks={("OPA", "L"): np.zeros(16, bool)})),
            DataError,
            "'OPA' must have voxels",
        ),
        (lambda: events_table({"a": ("b",)}, duration_s=0), OptionError, "duration_s"),
        (lambda: events_table({"a": ("b",)}, gap_s=-1), OptionError, "gap_s must be at least 0"),
        (lambda: events_table({"a": ("b",)}, n_repeats=0), OptionError, "n_repeats"),
    ],
)
def test_selection_bad_input_names_the_item(
    call: Any, error: type[Exception], message: str
) -> None:
    """Each refusal says what was expected and which item is at fault."""
    with pytest.raises(error, match=re.escape(message)):
        call()


def test_select_stimuli_controls_change_nothing_and_equal_the_encoder_when_the_same(
    rng: np.random.Generator,
) -> None:
    """The same predictions as a control give the encoder's rows; other rows stay what they were."""
    maps, goals = make_maps(rng), (Goal("high", "PPA"), Goal("alike", "LOC", "PPA"))
    other = replace(maps, subjects=rng.normal(size=maps.subjects.shape))
    plain = select_stimuli(maps, goals, 5, n_random=50).checks
    found = select_stimuli(
        maps, goals, 5, n_random=50, controls={"same": maps, "untrained": other}
    ).checks
    rows = {
        name: found[found["model"] == name].drop(columns="model").reset_index(drop=True)
        for name in ("encoder", "same", "untrained")
    }
    pd.testing.assert_frame_equal(rows["encoder"], plain.drop(columns="model"))
    pd.testing.assert_frame_equal(rows["same"], rows["encoder"])
    assert rows["untrained"]["effect"].abs().max() < rows["encoder"]["effect"].max()
    held_out = rows["untrained"].query("check == 'other subject'")
    assert held_out["p"].median() > 0.05


def test_select_stimuli_property_rows_equal_direct_computation(rng: np.random.Generator) -> None:
    """The in-sample row is the set's distance from the pool in its deviations, by hand."""
    maps = make_maps(rng)
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
        control_properties=("luminance", "contrast"),
    )
    rows = result.checks[result.checks["model"] == "luminance"]
    members = [maps.names.index(name) for name in result.sets["PPA-high"]]
    expected = (luminance[members].mean() - luminance.mean()) / luminance.std()
    in_sample = rows.query("check == 'in-sample'").set_index("set")["effect"]
    assert in_sample["PPA-high"] == pytest.approx(expected)
    others = [maps.names.index(name) for name in result.sets["PPA-low"]]
    apart = luminance[members].mean() - luminance[others].mean()
    row = rows.set_index("set").loc["PPA-high - PPA-low"]
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
        np.sign(held_out["effect"]) == held_out["set"].map({"PPA-high": 1, "PPA-low": -1})
    ).all()
    constant = result.checks[result.checks["model"] == "contrast"]
    assert constant[["effect", "p"]].isna().all(axis=None)


def test_select_stimuli_control_of_other_stimuli_is_refused(rng: np.random.Generator) -> None:
    """A control must predict the pool, in its order, for its subjects."""
    maps = make_maps(rng)
    turned = replace(maps, names=maps.names[::-1])
    with pytest.raises(ShapeError, match="control untrained must predict the same stimuli"):
        select_stimuli(maps, (Goal("high", "PPA"),), 5, controls={"untrained": turned})
