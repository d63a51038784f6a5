"""Select sets of stimuli, match them, and check them on subjects that took no part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.select.checks import Judges, Request, check_sets, choose_sets
from imgtofmri.analyses.select.goals import (
    Goal,
    RoiResponses,
    parse_goal,
    roi_responses,
    standardised,
)
from imgtofmri.encoder import Control, Prediction
from imgtofmri.encoder.controls import check_made, control_predictions
from imgtofmri.encoder.copies import tell_of_copies
from imgtofmri.encoder.showing import read_pictures
from imgtofmri.exceptions import DataError, OptionError, ShapeError, check_choice
from imgtofmri.measured.patterns import matching_rows
from imgtofmri.stimuli import PROPERTIES, image_properties
from imgtofmri.text import Brief

if TYPE_CHECKING:
    import pandas as pd

    from imgtofmri.figures.style import Figure

#: What sets are measured on where luminance is a control.
LIGHT = ("luminance", "contrast")


@dataclass(frozen=True, eq=False, repr=False)
class StimulusSelection(Brief):
    """Sets of stimuli, how they were matched, and how they fare on subjects held out.

    Parameters
    ----------
    sets : dict of str to tuple of str
        Set to stimulus names, best first; the last may be ``reference``.
    table : pandas.DataFrame
        set, rank (from 1), stimulus, one column ``z_ROI`` for each ROI (mean response of each
        subject's own ROI in native space, z-scored over the pool and averaged over subjects), and
        the properties if given.
    checks : pandas.DataFrame
        One row for each model, set, check and subject tested: model ("encoder", or a control),
        set, check, selected_on, tested_on, effect, p. See `select_stimuli`.
    matching : pandas.DataFrame
        set, property, mean, difference (from the pool's mean, in the pool's standard deviations),
        matched (whether this property was asked for). Empty without properties.
    prediction : Prediction
        Of the pool.
    request : Request
        What was asked for: goals, n_per_set, match, tolerance, reference, n_random, seed.
    controls : tuple of Control
        Those that were asked for.
    """

    sets: dict[str, tuple[str, ...]]
    table: pd.DataFrame
    checks: pd.DataFrame
    matching: pd.DataFrame
    prediction: Prediction
    request: Request
    controls: tuple[Control, ...]

    def plot(self, n_columns: int = 10) -> Figure:
        """Draw the chosen pictures, set by set, best first.

        Parameters
        ----------
        n_columns : int
            Pictures in a row.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        DataError
            If a chosen picture is no file that can be read.
        """
        from imgtofmri.analyses.select.figures import plot_contact_sheet

        chosen = [name for members in self.sets.values() for name in members]
        pictures = read_pictures(self.prediction, chosen)
        gone = next((name for name in chosen if name not in pictures), None)
        if gone is not None:
            message = (
                f"{gone}: expected an image file, to show it; got a picture in memory, or one that "
                "can no longer be read. Predict files, and keep them."
            )
            raise DataError(message)
        return plot_contact_sheet(self, pictures, n_columns)

    def plot_checks(self) -> Figure:
        """Draw each set's effect where it was chosen and where it was held out.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from imgtofmri.analyses.select.figures import plot_checks

        return plot_checks(self)


def select_stimuli(
    prediction: Prediction,
    goals: Sequence[Goal | str] | str,
    n_per_set: int,
    properties: pd.DataFrame | None = None,
    match: Sequence[str] | str = (),
    tolerance: float = 0.1,
    reference: bool = True,
    n_random: int = 1000,
    seed: int | None = 0,
    controls: Sequence[Control] = (),
) -> StimulusSelection:
    """Choose disjoint sets of stimuli, one for each goal, and check them honestly.

    Sets for mean responses are chosen together by an integer programme, solved to 1 % of the
    best there is (or to the end of a bounded search). Sets for patterns follow, by exchanges,
    among what is left; the reference, drawn at random from the rest, comes last. Matched sets have
    means within ``tolerance`` of the pool's, and so within twice that of each other's.

    Three checks are made, because the best of many look better than they are:

    "in-sample"
        Chosen on all subjects and tested on them: the biased number; no p.
    "other subject"
        Chosen on all subjects but one, tested on that one, whose model was fitted to another brain.
        Under the null hypothesis that this subject's responses have nothing to do with the others',
        not even the network whose features all read, the set is a random one: p compares it with
        random sets of the same size from the pool. Subjects who share the network and nothing else
        give small p more often than p says.
    "other subject, half 1", "other subject, half 2"
        The same, chosen from a random half of the pool and measured against the mean and the
        spread of the *other* half, images that played no part. It shows how far the choice depends
        on these very images; the smaller pool makes its effect smaller. p compares with random
        sets from the half that was chosen from.

    A set is confirmed when every subject held out confirms it: take the largest of the p values of
    a check. (Combining them into one smaller p would count shared images twice.) All subjects'
    models share one network and one training set, so what they get wrong together stays hidden.

    Parameters
    ----------
    prediction : Prediction
        Of the pool to choose from, several subjects.
    goals : sequence of Goal or str, or str
        As `parse_goal` reads them.
    n_per_set : int
        Stimuli in each set.
    properties : pandas.DataFrame, optional
        As `image_properties` gives, one row for each stimulus of ``prediction``, in order. By
        default its files are measured.
    match : str or sequence of str
        Columns of ``properties`` to match on.
    tolerance : float
        In standard deviations over the pool.
    reference : bool
        Also draw a reference set.
    n_random : int
        Random sets behind each p.
    seed : int or None
        Of the halves, the reference, the random sets and the searches.
    controls : sequence of Control
        From `Encoder.controls`. They take no part in the choice; the same sets are measured on what
        untrained networks predict, against the same random sets. For luminance, and for contrast,
        this is how far a set's mean of the property lies from the pool's in standard deviations, p
        two-sided among the same random sets. For each two goals a row ``ONE - OTHER`` has the
        difference between the chosen sets, in the same unit, with p two-sided by exchanging images
        between the two sets.

    Returns
    -------
    StimulusSelection
        ``effect`` in ``checks`` is, for goals about means, the mean goal score of the set in
        standard deviations of the pool; for "alike", the set's mean pairwise correlation in the
        one ROI minus that in the other, above the mean of random sets.

    Raises
    ------
    OptionError
        If no goal or a goal twice is given, an ROI or property is unknown, or a number is out of
        range.
    ShapeError
        If there is not one row of properties for each stimulus, in order, or a control is of
        others.
    DataError
        If responses or properties are NaN, there are fewer than 2 subjects or one lacks an ROI, the
        pool is too small for its halves, or no choice can be matched.
    """
    check_made(controls)
    tell_of_copies(prediction)
    responses = roi_responses(prediction)
    goals = [goals] if isinstance(goals, str) else goals
    match = [match] if isinstance(match, str) else match
    parsed = tuple(
        parse_goal(goal, prediction.rois) if isinstance(goal, str) else goal for goal in goals
    )
    _check_request(responses, parsed, n_per_set, tolerance, reference, n_random)
    luminance = next((control for control in controls if control.prediction is None), None)
    if properties is None and luminance is not None:
        properties = luminance.properties
    elif properties is None and None not in prediction.sources:
        crop = bool(prediction.settings.center_crop)
        properties = image_properties([path for path in prediction.sources if path], crop)
    request = Request(
        goals=parsed,
        n_per_set=n_per_set,
        match=tuple(match),
        properties=_matched_values(properties, match, prediction),
        tolerance=tolerance,
        reference=reference,
        n_random=n_random,
        seed=seed,
    )
    judged = () if properties is None or luminance is None else properties.columns
    judges = Judges(
        {
            name: roi_responses(other)
            for name, other in control_predictions(controls, prediction).items()
        },
        {
            name: _matched_values(properties, [name], prediction)[:, 0]
            for name in LIGHT
            if name in judged
        },
    )
    everybody = range(len(responses.subject_names))
    chosen = choose_sets(responses, request, everybody, np.arange(len(prediction)))
    return StimulusSelection(
        sets={
            name: tuple(prediction.names[index] for index in members)
            for name, members in chosen.items()
        },
        table=_table(responses, chosen, properties),
        checks=check_sets(responses, request, chosen, judges),
        matching=_matching(chosen, properties, match),
        prediction=prediction,
        request=request,
        controls=tuple(controls),
    )


def events_table(
    sets: dict[str, tuple[str, ...]],
    duration_s: float = 2.0,
    gap_s: float = 4.0,
    n_repeats: int = 1,
    start_s: float = 0.0,
    seed: int | None = 0,
) -> pd.DataFrame:
    """Order the chosen stimuli into events of a run, as BIDS writes them.

    Every stimulus comes once in each repeat, in a new random order; no stimulus follows itself.

    Parameters
    ----------
    sets : dict of str to tuple of str
        Set (the events' trial_type) to stimulus files.
    duration_s : float
        How long each is shown.
    gap_s : float
        Blank time between the end of one and the start of the next.
    n_repeats : int
    start_s : float
        Onset of the first.
    seed : int or None

    Returns
    -------
    events : pandas.DataFrame
        onset, duration, trial_type, stim_file.

    Raises
    ------
    OptionError
        If a time is negative, the duration is not above 0, or ``n_repeats`` is below 1.

    Examples
    --------
    >>> events_table({"PPA_high": ("a.jpg", "b.jpg")}, duration_s=1, gap_s=2)["onset"].tolist()
    [0.0, 3.0]
    """
    import pandas as pd

    numbers = (("gap_s", gap_s, 0.0), ("start_s", start_s, 0.0), ("n_repeats", n_repeats, 1.0))
    for name, value, least in numbers:
        if not value >= least:
            message = f"{name} must be at least {least:g}; got {value}. Raise it."
            raise OptionError(message, name)
    if not duration_s > 0:
        message = f"duration_s must be above 0; got {duration_s}. Use 2."
        raise OptionError(message, "duration_s")
    pairs = [(name, stimulus) for name, members in sets.items() for stimulus in members]
    rng = np.random.default_rng(seed)
    order: list[int] = []
    for _ in range(n_repeats):
        block = rng.permutation(len(pairs)).tolist()
        if order and len(block) > 1 and block[0] == order[-1]:
            block.append(block.pop(0))
        order += block
    onsets = start_s + np.arange(len(order)) * (duration_s + gap_s)
    return pd.DataFrame(
        {
            "onset": onsets,
            "duration": float(duration_s),
            "trial_type": [pairs[index][0] for index in order],
            "stim_file": [pairs[index][1] for index in order],
        }
    )


def check_pool_size(n_pool: int, n_sets: int, n_per_set: int) -> None:
    """Refuse a pool that is too small to be halved, which can be told before it is predicted.

    Parameters
    ----------
    n_pool : int
        Images in it.
    n_sets : int
        Sets that are wanted, the reference being one.
    n_per_set : int

    Raises
    ------
    DataError
        If half of the pool does not hold the sets.
    """
    needed = 2 * n_sets * n_per_set
    if n_pool < needed:
        message = (
            f"half of the pool, which is held out in turn, must have room for {n_sets} sets of "
            f"{n_per_set}: at least {needed} images; got {n_pool}. Ask for fewer or give a larger "
            "pool."
        )
        raise DataError(message)


def _check_request(
    responses: RoiResponses,
    goals: Sequence[Goal],
    n_per_set: int,
    tolerance: float,
    reference: bool,
    n_random: int,
) -> None:
    """Refuse what cannot be chosen before anything is computed."""
    if not goals:
        message = "goals must be one or more; got none. Name one, such as 'high PPA'."
        raise OptionError(message)
    names = [goal.name for goal in goals]
    for goal in goals:
        if names.count(goal.name) > 1:
            message = f"each goal must come once; got {goal.name!r} twice. Drop one."
            raise OptionError(message)
        for roi in goal.rois:
            check_choice("a goal's ROI", roi, responses.patterns)
    least = 2 if any(goal.kind == "alike" for goal in goals) else 1
    for name, value, low in (
        ("n_per_set", n_per_set, least),
        ("n_random", n_random, 1),
        ("tolerance", tolerance, 0),
    ):
        if not value >= low:
            message = f"{name} must be at least {low}; got {value}. Raise it."
            raise OptionError(message, name)
    if len(responses.subject_names) < 2:
        message = (
            "at least 2 subjects are needed, so that one can be held out; got "
            f"{len(responses.subject_names)}. Use an encoder of several subjects."
        )
        raise DataError(message)
    check_pool_size(len(responses.names), len(goals) + reference, n_per_set)


def _matched_values(
    properties: pd.DataFrame | None, match: Sequence[str], prediction: Prediction
) -> NDArray[np.float64]:
    """Return the properties to match on, z-scored over the pool, shape (n_stimuli, n_match)."""
    n_stimuli = len(prediction)
    if properties is not None and len(properties) != n_stimuli:
        message = (
            f"properties must have one row for each of the {n_stimuli} stimuli; got "
            f"{len(properties)}. Measure the images that were predicted."
        )
        raise ShapeError(message)
    _check_order(properties, prediction)
    columns = [] if properties is None else list(properties.columns)
    for name in match:
        check_choice("match", name, columns or PROPERTIES)
    if properties is None or not match:
        return np.zeros((n_stimuli, 0))
    values = properties[list(match)].to_numpy(dtype=np.float64)
    bad = np.argwhere(~np.isfinite(values))
    if bad.size:
        message = (
            f"properties must be finite; image {properties.iloc[bad[0, 0], 0]!r} has "
            f"{values[tuple(bad[0])]} for {match[bad[0, 1]]}. Measure it again or leave it out."
        )
        raise DataError(message)
    return standardised(values.T).T


def _check_order(properties: pd.DataFrame | None, prediction: Prediction) -> None:
    """Refuse rows that name other stimuli than those rows of the prediction."""
    if properties is None:
        return
    labels = [*properties.get("stimulus", properties.index)]
    if not any(isinstance(label, str | Path) for label in labels):
        return
    labels = [*map(str, labels)]
    place = {name: row for row, name in enumerate(prediction.names)}
    place |= {str(path): row for row, path in enumerate(prediction.sources) if path is not None}
    found = [place.get(label) for label in labels]
    if None in found:
        rows, others = matching_rows(prediction.names, labels)
        of_label = dict(zip(others, rows, strict=True))
        found = [of_label.get(row) for row in range(len(labels))]
    for row, (label, its_row) in enumerate(zip(labels, found, strict=True)):
        if its_row != row:
            message = (
                f"properties must have the prediction's stimuli in their order; got {label!r} in "
                f"row {row}, where the prediction has {prediction.names[row]!r}. Sort them alike."
            )
            raise ShapeError(message)


def _table(
    responses: RoiResponses,
    chosen: dict[str, NDArray[np.intp]],
    properties: pd.DataFrame | None,
) -> pd.DataFrame:
    """Make the table of chosen stimuli."""
    import pandas as pd

    parts = []
    scores = {roi: standardised(responses.means(roi)).mean(axis=0) for roi in responses.patterns}
    for name, members in chosen.items():
        part = pd.DataFrame(
            {
                "set": name,
                "rank": np.arange(1, len(members) + 1),
                "stimulus": [responses.names[index] for index in members],
                **{f"z_{roi}": values[members] for roi, values in scores.items()},
            }
        )
        if properties is not None:
            measured = properties.iloc[members].drop(columns="stimulus", errors="ignore")
            part = pd.concat([part, measured.reset_index(drop=True)], axis=1)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _matching(
    chosen: dict[str, NDArray[np.intp]],
    properties: pd.DataFrame | None,
    match: Sequence[str],
) -> pd.DataFrame:
    """Make the table that shows how near each set's properties are to the pool's."""
    import pandas as pd

    rows = []
    measured = (
        pd.DataFrame()
        if properties is None
        else properties.drop(columns="stimulus", errors="ignore")
    )
    for name, members in chosen.items():
        for column in measured.columns:
            values = measured[column].to_numpy(dtype=np.float64)
            difference = standardised(values)[members].mean()
            rows.append((name, column, values[members].mean(), difference, column in match))
    return pd.DataFrame(rows, columns=["set", "property", "mean", "difference", "matched"])
