"""`Plan`: the t and the power that an experiment is expected to have, over runs and people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.analyses.power.glm import (
    Expected,
    FloatArray,
    RunDesign,
    check_level,
    combine_runs,
    expect_run,
    mean_noise_share,
    noise_covariance,
    run_design,
    t_power,
)
from imgtofmri.bundle import Bundle
from imgtofmri.encoder import Encoder, Provenance, Settings, load_encoder
from imgtofmri.encoder.regions import BOTH, RoiMeans
from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.experiments import (
    Experiment,
    Frames,
    Input,
    Noise,
    Run,
    Scale,
    Scan,
    condition_rows,
    conditions_of,
    encode_stimuli,
    own_means,
)
from imgtofmri.spaces import transform
from imgtofmri.stats.contrasts import contrast_weights, default_contrast, written_contrast
from imgtofmri.text import Brief

if TYPE_CHECKING:
    import pandas as pd

    from imgtofmri.figures.style import Figure

MAX_PEOPLE = 1000
"""Beyond this number of people none is said to be needed."""

# Responses that differ by less than this share of their size are the same.
_LEAST_SHARE = 1e-6


@dataclass(frozen=True)
class PowerSettings:
    """How a plan is worked out, besides the experiment and the scale.

    Parameters
    ----------
    n_runs, n_people : int
        Up to how many runs a person and how many people are planned.
    trial_sd : float
        By how much a region's response varies from one trial to the next, in percent of the
        baseline: a standard deviation, on top of the noise.
    between_sd : float, optional
        By how much the effect varies between people, in percent: a standard deviation. By default
        that of the encoder's people, who are few.
    random_stimuli : bool
        Whether the conclusion is to hold for other stimuli of the same kinds, too. By default it
        holds for these stimuli (fixed).
    alpha : float
        Two-sided level of each test.
    target : float
        The power that is wanted.

    Raises
    ------
    OptionError
        If a number is out of range.
    """

    n_runs: int = 6
    n_people: int = 30
    trial_sd: float = 0.0
    between_sd: float | None = None
    random_stimuli: bool = False
    alpha: float = 0.05
    target: float = 0.8

    def __post_init__(self) -> None:
        for name, least, remedy in (
            ("n_runs", 1, "Leave it out for 6."),
            ("n_people", 2, "The t over people takes two; one person's is in people.tsv."),
        ):
            value = getattr(self, name)
            if value < least:
                message = f"{name} must be {least} or more; got {value}. {remedy}"
                raise OptionError(message, name)
        for name in ("trial_sd", "between_sd"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value >= 0.0):
                message = (
                    f"{name} must be 0 percent or more; got {value:g}. It is a standard deviation, "
                    "in percent of the baseline."
                )
                raise OptionError(message, name)
        check_level("alpha", self.alpha)
        check_level("target", self.target)


@dataclass(frozen=True, eq=False, repr=False)
class Plan(Brief):
    """What an experiment is expected to find.

    Attributes
    ----------
    contrast : str
    scale : Scale
    percent_per_unit : float
        What one model unit is worth, in percent of the baseline.
    scan : Scan
    settings : PowerSettings
    runs : tuple of Run
        The first cycle; more runs show them over again.
    people : pandas.DataFrame
        One person's expected result: roi, subject, n_voxels, roi_tsnr, n_runs, effect, se, t, dof,
        inflation, power.
    group : pandas.DataFrame
        The t over people: roi, n_runs, n_people, effect, between_sd, within_sd, stimulus_sd, se, t,
        dof, power, power_low, power_high.
    needed : pandas.DataFrame
        People needed: roi, n_runs, n_people, power.
    stimuli, tables : tuple of Input
    provenance : Provenance
    layout : mapping
        What the runs were laid out from; empty of tables.
    rate_hz : float or None
        Frames a second that were taken of movies; None without any.
    """

    contrast: str
    scale: Scale
    percent_per_unit: float
    scan: Scan
    settings: PowerSettings
    runs: tuple[Run, ...]
    people: pd.DataFrame
    group: pd.DataFrame
    needed: pd.DataFrame
    stimuli: tuple[Input, ...] = ()
    tables: tuple[Input, ...] = ()
    provenance: Provenance = field(default_factory=Provenance)
    layout: Mapping[str, Any] = field(default_factory=dict)
    rate_hz: float | None = None

    @property
    def rois(self) -> list[str]:
        """The regions, in the encoder's order."""
        return list(self.people["roi"].unique())

    def people_needed(self, roi: str) -> int | None:
        """Return how many people have the power that is wanted with all runs; None if unknown."""
        import pandas as pd

        rows = self.needed[self.needed["roi"] == roi]
        (number,) = rows.loc[rows["n_runs"] == self.settings.n_runs, "n_people"]
        return None if pd.isna(number) else int(number)

    def plot(self) -> Figure:
        """Draw one person's expected t over runs, and the power over people.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from imgtofmri.analyses.power.figures import plot_plan

        return plot_plan(self)


def plan_scan(
    experiment: Experiment,
    encoder: Encoder | str | Path,
    settings: Settings | None = None,
    *,
    scale: Scale | str | float,
    contrast: str | Mapping[str, float] | None = None,
    power: PowerSettings | None = None,
    progress: bool = True,
    **changes: Any,
) -> Plan:
    """Work out the expected t and the power of a contrast, over runs and people.

    A region's response is the mean over the voxels of each person's own ROI. What a run's model is
    expected to find follows from its design and from the noise, with no simulation: see Notes.

    Parameters
    ----------
    experiment : Experiment
        From `imgtofmri.experiments.read_experiment` or `lay_out_experiment`; its scan has noise.
        Where more runs are planned than it has, they are shown over again in turn.
    encoder : Encoder, str or Path
        One that is loaded, or what `imgtofmri.load_encoder` takes; it is loaded when all else is
        found valid.
    settings, **changes
        As for `Encoder.predict`; amplitude is kept, whatever ``average`` is.
    scale : Scale, str or float
        How large signals are, in percent of the baseline, as `Scale.parse` reads it.
    contrast : str or mapping of str to float, optional
        Of the events' ``trial_type``; by default the first of two minus the second.
    power : PowerSettings, optional
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    Plan

    Raises
    ------
    OptionError
        If an option is not valid, or the contrast is none.
    DataError
        If a run lacks a condition or is too short for its model, a region responds to all stimuli
        alike, the encoder does not predict the reference contrast, or nothing tells how people
        differ.
    StimulusError
        If stimuli cannot be used; all are named.

    Notes
    -----
    One run: the model is nilearn's, a regressor for each condition, cosines for the drift and a
    constant, prewhitened by the AR(1) coefficient of its ordinary residuals, here at its
    expectation. With weights w that turn volumes into the estimate, signal s and covariance V, the
    expected estimate is ``w @ s`` and its variance ``w @ V @ w``; V is the noise of the region's
    mean and the trial-to-trial variance. What the model reports as variance is worked out apart, as
    its noise need not be AR(1): `inflation` is the ratio of the standard errors. Degrees of freedom
    are Satterthwaite's. What of the signal the model misses is part of its residuals, and so of t;
    the effect in the tables has the weights of a model that misses nothing.

    The noise of a mean over voxels with noise of one variance is their mean correlation times that
    variance; correlations are those of a Gaussian random field of the given smoothness.

    Runs are averaged with equal weights. People are a random factor: the t over people has the
    variance ``(between + within) / n_people`` and ``n_people - 1`` degrees of freedom (Mumford and
    Nichols 2008). With stimuli as a random factor the variance that other stimuli of the same kinds
    would add to the mean over people is added, which no number of people makes smaller, and degrees
    of freedom are Satterthwaite's (Westfall et al. 2017).

    References
    ----------
    Mumford JA, Nichols TE (2008). Power calculation for group fMRI studies accounting for arbitrary
    design and temporal autocorrelation. NeuroImage. doi:10.1016/j.neuroimage.2007.07.061
    Westfall J, Nichols TE, Yarkoni T (2017). Fixing the stimulus-as-fixed-effect fallacy in task
    fMRI. Wellcome Open Research. doi:10.12688/wellcomeopenres.10298.2
    """
    chosen = scale if isinstance(scale, Scale) else Scale.parse(str(scale))
    asked = power or PowerSettings()
    noise = experiment.scan.noise
    if noise is None:
        message = (
            "tsnr must say how strong the noise is; got a scan without noise. Give for example "
            "`tsnr` 60."
        )
        raise OptionError(message, "tsnr")
    if not experiment.events:
        message = (
            "expected events files with conditions in trial_type, or folders; got one movie alone, "
            "which has nothing to be compared with. Name its parts in an events file."
        )
        raise OptionError(message)
    kinds = conditions_of(experiment)
    wanted = default_contrast(kinds) if contrast is None else contrast
    weights = dict(zip(kinds, contrast_weights(wanted, kinds), strict=True))
    loaded = encoder if isinstance(encoder, Encoder) else load_encoder(encoder, progress)
    predictor = loaded.predictor(settings, **{**changes, "average": "mean"})
    chosen.check(kinds, predictor.settings.rois or ())
    shown = encode_stimuli(predictor.extractor, experiment, progress=progress)
    runs = experiment.runs(shown.index)
    conditions = condition_rows(runs, shown.index)
    means = own_means(predictor, shown.features)
    _check_varied(means)
    unit = chosen.percent_per_unit(means, conditions)
    sampled: tuple[NDArray[np.int64], ...] = ()
    if asked.random_stimuli:
        sampled = _random_stimuli(conditions, weights, shown.index)
    n_rows = len(shown.features)
    scan, cutoff_s = experiment.scan, noise.drift_cutoff_s
    designs = [
        run_design(run, scan, weights, n_rows, cutoff_s, f"run {number + 1}")
        for number, run in enumerate(runs)
    ]
    voxels = _positions_mm(loaded.bundle)
    people, group = [], []
    for place, (roi, hemi) in enumerate(means.places):
        if hemi != BOTH:
            continue
        responses = means.values[place] * unit
        own = {
            name: (values, mean_noise_share(voxels[name, roi], noise.fwhm_mm))
            for name, values in zip(means.subjects, responses, strict=True)
            if np.isfinite(values).all()
        }
        found = {
            name: _person(values, share, designs, noise, asked)
            for name, (values, share) in own.items()
        }
        for name, (over_runs, _) in found.items():
            tsnr = noise.tsnr / np.sqrt(own[name][1])
            for number, expected in enumerate(over_runs):
                people.append(
                    {
                        "roi": roi,
                        "subject": name,
                        "n_voxels": len(voxels[name, roi]),
                        "roi_tsnr": tsnr,
                        "n_runs": number + 1,
                        "effect": expected.effect,
                        "se": np.sqrt(expected.variance),
                        "t": expected.t,
                        "dof": expected.dof,
                        "inflation": expected.inflation,
                        "power": expected.power(asked.alpha),
                    }
                )
        if found:
            stacked = np.stack([values for values, _ in own.values()])
            group += _group(roi, stacked, list(found.values()), sampled, asked)
    return _plan(
        written_contrast(wanted), chosen, unit, scan, asked, runs, people, group,
        shown.stimuli, experiment, predictor.provenance,
    )  # fmt: skip


def _plan(
    contrast: str,
    scale: Scale,
    unit: float,
    scan: Scan,
    asked: PowerSettings,
    runs: tuple[Run, ...],
    people: list[dict[str, Any]],
    group: list[_Over],
    stimuli: tuple[Input, ...],
    experiment: Experiment,
    provenance: Provenance,
) -> Plan:
    """Put what was found in tables."""
    import pandas as pd

    if not any(np.isfinite(over.between_sd) for over in group):
        message = (
            "`between_sd` must say how people differ, as the encoder has fewer than two people "
            "with the same ROI; got none. Give it in percent, or an encoder of more people."
        )
        raise DataError(message)
    numbers = range(2, asked.n_people + 1)
    table = pd.DataFrame([over.row(n, asked) for over in group for n in numbers])
    needed = pd.DataFrame([over.needed(asked) for over in group])
    needed["n_people"] = needed["n_people"].astype("Int64")
    return Plan(
        contrast, scale, unit, scan, asked, runs, pd.DataFrame(people), table, needed,
        stimuli, experiment.tables, provenance, experiment.layout, experiment.movie_rate_hz,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Over:
    """A region's contrast after some runs, from which numbers of people follow."""

    roi: str
    n_runs: int
    effects: FloatArray
    between_sd: float
    within: float
    stimulus: tuple[tuple[float, int], ...]

    def row(self, n_people: int, asked: PowerSettings) -> dict[str, Any]:
        """Return a row of the table."""
        effect = float(self.effects.mean())
        added = sum(variance for variance, _ in self.stimulus)
        se, dof = map(float, self._error(n_people))
        # With the predicted sign, were the mean that of all, of the weakest and of the strongest.
        signed = self.effects * (np.sign(effect) or 1.0)
        means = (signed.mean(), signed.min(), signed.max())
        powers = self._power(np.array(means), se, dof, asked.alpha)
        return {
            "roi": self.roi,
            "n_runs": self.n_runs,
            "n_people": n_people,
            "effect": effect,
            "between_sd": self.between_sd,
            "within_sd": np.sqrt(self.within),
            "stimulus_sd": np.sqrt(added),
            "se": se,
            "t": effect / se,
            "dof": dof,
            "power": powers[0],
            "power_low": powers[1],
            "power_high": powers[2],
        }

    def needed(self, asked: PowerSettings) -> dict[str, Any]:
        """Return how many people reach the power that is wanted."""
        # Of few random stimuli power need not rise with people: where people add little to the
        # error the stimuli's degrees of freedom are left.
        numbers = np.arange(2, MAX_PEOPLE + 1)
        power = self._power(abs(self.effects.mean()), *self._error(numbers), asked.alpha)
        enough = np.flatnonzero(power >= asked.target)
        found = (numbers[enough[0]], power[enough[0]]) if enough.size else (None, np.nan)
        return {
            "roi": self.roi,
            "n_runs": self.n_runs,
            **dict(zip(("n_people", "power"), found, strict=True)),
        }

    def _error(self, n_people: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Return the standard error of the mean over people, and its degrees of freedom."""
        n = np.asarray(n_people, dtype=np.float64)
        own = (self.between_sd**2 + self.within) / n
        total = own + sum(variance for variance, _ in self.stimulus)
        if not self.stimulus:
            return np.sqrt(total), n - 1
        added = sum(variance**2 / each for variance, each in self.stimulus)
        return np.sqrt(total), total**2 / (own**2 / (n - 1) + added)

    @staticmethod
    def _power(effect: ArrayLike, se: ArrayLike, dof: ArrayLike, alpha: float) -> FloatArray:
        from scipy import stats

        known = np.asarray(dof, dtype=np.float64)
        return t_power(np.divide(effect, se), known, stats.t.isf(alpha / 2.0, known))


def _person(
    responses: FloatArray,
    share: float,
    designs: list[RunDesign],
    noise: Noise,
    asked: PowerSettings,
) -> tuple[list[Expected], list[FloatArray]]:
    """Return what one person's runs are expected to give, after each number of them.

    And the weight of each response in the effect, after each number of runs.
    """
    variance = share * (100.0 / noise.tsnr) ** 2
    each: list[tuple[Expected, FloatArray]] = []
    for design in designs[: asked.n_runs]:
        covariance = variance * noise_covariance(noise, len(design.matrix))
        if asked.trial_sd > 0:
            covariance += asked.trial_sd**2 * (design.trials @ design.trials.T)
        expected, weights = expect_run(design, design.signal @ responses, covariance)
        each.append((expected, weights @ design.signal))
    order = [each[number % len(each)] for number in range(asked.n_runs)]
    over_runs = [combine_runs([run for run, _ in order[: n + 1]]) for n in range(asked.n_runs)]
    loads = np.cumsum([load for _, load in order], axis=0)
    return over_runs, [load / (n + 1) for n, load in enumerate(loads)]


def _group(
    roi: str,
    responses: FloatArray,
    people: list[tuple[list[Expected], list[FloatArray]]],
    sampled: tuple[NDArray[np.int64], ...],
    asked: PowerSettings,
) -> list[_Over]:
    """Return a region's contrast over people, after each number of runs."""
    found = []
    for number in range(asked.n_runs):
        expected = [over_runs[number] for over_runs, _ in people]
        effects = np.array([each.effect for each in expected])
        between = asked.between_sd
        if between is None:
            between = float(effects.std(ddof=1)) if len(effects) > 1 else np.nan
        within = float(np.mean([each.variance for each in expected]))
        stimulus: list[tuple[float, int]] = []
        loads = np.mean([load[number] for _, load in people], axis=0)
        for rows in sampled:
            squares = float((loads[rows] ** 2).sum())
            mean = responses.mean(axis=0)
            stimulus.append((float(mean[rows].var(ddof=1)) * squares, len(rows) - 1))
            # What of a stimulus is one person's own is part of the variance within people.
            if len(responses) > 1:
                own = (responses - mean)[:, rows]
                within += float(own.var(axis=1, ddof=1).sum() / (len(own) - 1)) * squares
        found.append(_Over(roi, number + 1, effects, between, within, tuple(stimulus)))
    return found


def _random_stimuli(
    conditions: Mapping[str, NDArray[np.int64]],
    weights: Mapping[str, float],
    index: Mapping[str, int | Frames],
) -> tuple[NDArray[np.int64], ...]:
    """Return the rows of each condition of the contrast, refusing what is no sample."""
    if any(isinstance(of, Frames) for of in index.values()):
        message = (
            "random_stimuli must be of images, which are a sample of their kind; got movies, whose "
            "frames are none. Leave it out."
        )
        raise OptionError(message, "random_stimuli")
    rows = {name: rows for name, rows in conditions.items() if weights[name]}
    few = [name for name, found in rows.items() if len(found) < 2]
    if few:
        message = (
            "random_stimuli must have two stimuli or more of each condition of the contrast; got "
            f"one of {', '.join(few)}. Show more, or leave it out."
        )
        raise OptionError(message, "random_stimuli")
    return tuple(rows.values())


def _check_varied(means: RoiMeans) -> None:
    """Refuse a region that responds to all stimuli alike."""
    for (roi, hemi), values in zip(means.places, means.values, strict=True):
        for name, own in zip(means.subjects, values, strict=True):
            if hemi == BOTH and np.ptp(own) <= _LEAST_SHARE * np.abs(own).max():
                message = (
                    f"{roi} of {name} must respond to some stimuli more than to others; got one "
                    f"response, {own[0]:.4g}, to all {len(own)}. Leave it out with `rois`, or show "
                    "other stimuli."
                )
                raise DataError(message)


def _positions_mm(bundle: Bundle) -> dict[tuple[str, str], FloatArray]:
    """Return where the voxels of each person's own ROIs are, in native space."""
    found = {}
    for subject in bundle.subjects:
        for roi, model in subject.rois.items():
            indices = np.stack(np.unravel_index(model.voxels, subject.native.shape), axis=1)
            found[subject.name, roi] = transform(subject.native.affine, indices.astype(float))
    return found
