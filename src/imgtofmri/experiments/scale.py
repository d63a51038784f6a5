"""How large signals are: one absolute scale for all stimuli, subjects and runs.

Encoding models have units of their own. A `Scale` says what they come to in percent of the
baseline, either outright or by what a reference contrast is known to be in an ROI. It depends on
the stimuli's responses alone: neither amplitudes of events nor the design change it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from imgtofmri.encoder.regions import BOTH, RoiMeans
from imgtofmri.exceptions import DataError, OptionError, check_choice
from imgtofmri.experiments.events import Frames
from imgtofmri.experiments.experiment import Experiment
from imgtofmri.experiments.runs import MOVIE, Run
from imgtofmri.stats.contrasts import contrast_weights, parse_contrast
from imgtofmri.tables import MISSING, is_missing

# A contrast below this share of the responses' size is rounding.
_LEAST_SHARE = 1e-6


@dataclass(frozen=True)
class Scale:
    """How large signals are, in percent of the baseline.

    Parameters
    ----------
    percent : float
        Above 0. With a reference contrast: by how much the response to one kind of stimuli exceeds
        that to another in an ROI, of stimuli that stay on, the mean over the encoder's people, each
        with the ROI of their own. Without one: the percent that a response of 1 in the models'
        units is worth.
    contrast : str
        The reference, as `imgtofmri.stats.contrasts.parse_contrast` reads it; conditions are the
        events' ``trial_type``.
    roi : str
        Where it is known.

    Raises
    ------
    OptionError
        If the percent is not positive, or a contrast is without an ROI.

    Examples
    --------
    >>> Scale.parse("0.8:place - object:PPA")
    Scale(percent=0.8, contrast='place - object', roi='PPA')
    >>> str(Scale(2.5))
    '2.5 % per model unit'
    """

    percent: float
    contrast: str = ""
    roi: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.percent) and self.percent > 0):
            message = (
                f"scale must be above 0 percent; got {self.percent:g}. A contrast of one percent "
                "is written '1:place - object:PPA'; for no signal, set amplitudes of events to 0."
            )
            raise OptionError(message, "scale")
        if bool(self.contrast) != bool(self.roi):
            message = (
                "scale must have both a contrast and its ROI, or neither; got "
                f"{self.contrast!r} and {self.roi!r}. Write '1:place - object:PPA'."
            )
            raise OptionError(message, "scale")

    @classmethod
    def parse(cls, text: str) -> Scale:
        """Read ``"PERCENT:CONTRAST:ROI"``, or ``"PERCENT"`` for a model unit.

        Raises
        ------
        OptionError
        """
        percent, _, rest = text.partition(":")
        contrast, _, roi = rest.rpartition(":")
        try:
            number = float(percent)
        except ValueError:
            number = math.nan
        if math.isnan(number) or (rest and not (contrast.strip() and roi.strip())):
            message = (
                "scale must be PERCENT:CONTRAST:ROI, or PERCENT of one model unit; got "
                f"{text!r}. Write for example '1:place - object:PPA', or 2."
            )
            raise OptionError(message, "scale")
        return cls(number, contrast.strip(), roi.strip())

    def __str__(self) -> str:
        """Say it as records and messages do."""
        if not self.contrast:
            return f"{self.percent:g} % per model unit"
        return f"{self.contrast} is {self.percent:g} % in {self.roi}"

    def check(self, conditions: Sequence[str], rois: Sequence[str]) -> None:
        """Refuse a reference that the experiment or the encoder does not have.

        Raises
        ------
        OptionError
        """
        if not self.contrast:
            return
        check_choice("the ROI of `scale`", self.roi, rois)
        for name in parse_contrast(self.contrast):
            check_choice("a condition of `scale`", name, conditions)
        contrast_weights(self.contrast, conditions)

    def percent_per_unit(
        self, means: RoiMeans, conditions: Mapping[str, NDArray[np.int64]]
    ) -> float:
        """Return what one model unit is worth, in percent of the baseline.

        Parameters
        ----------
        means : RoiMeans
            Of all stimuli that are shown.
        conditions : mapping of str to array of shape (n_of_condition,), int
            Which of them each condition has, as `condition_rows` returns them. Those of the
            contrast must be among them, and the ROI in ``means``; see `check`.

        Raises
        ------
        DataError
            If the encoder predicts no such difference in the ROI.
        """
        if not self.contrast:
            return self.percent
        predicted = self._reference(means, conditions)
        size = np.nanmax(np.abs(means.values[means.places.index((self.roi, BOTH))]))
        if not predicted > _LEAST_SHARE * size:
            turned = " Turn the contrast round, or take" if predicted < 0 else " Take"
            message = (
                f"scale: {self.contrast} must be above 0 in {self.roi} as the encoder predicts it, "
                f"so that it can be {self.percent:g} %; got {predicted:.3g} in model units."
                f"{turned} a contrast or an ROI in which these stimuli differ."
            )
            raise DataError(message)
        return self.percent / predicted

    def _reference(self, means: RoiMeans, conditions: Mapping[str, NDArray[np.int64]]) -> float:
        """Return the reference contrast in model units."""
        group = means.group[means.places.index((self.roi, BOTH))]
        weights = contrast_weights(self.contrast, list(conditions))
        means_of = [group[rows].mean() for rows in conditions.values()]
        return float(weights @ np.array(means_of))


def condition_rows(
    runs: Sequence[Run], index: Mapping[str, int | Frames]
) -> dict[str, NDArray[np.int64]]:
    """Return which rows of the responses each condition shows, each once, in order of appearance.

    Parameters
    ----------
    runs : sequence of Run
    index : mapping of str to int or Frames
        As `encode_stimuli` returns it. All frames of a movie count.

    Raises
    ------
    DataError
        If events have no ``trial_type``.
    """
    found: dict[str, dict[int, None]] = {}
    for run in runs:
        for name, stimulus in shown_conditions(run):
            of = index[stimulus]
            rows = of.first + np.arange(len(of.onsets_s)) if isinstance(of, Frames) else [of]
            found.setdefault(name, {}).update(dict.fromkeys(int(row) for row in rows))
    return {name: np.array(list(rows), dtype=np.int64) for name, rows in found.items()}


def conditions_of(experiment: Experiment) -> list[str]:
    """Return the conditions of an experiment, before anything is encoded.

    They are in the order of their stimuli: of folders, or of first events.

    Raises
    ------
    DataError
        If events have no ``trial_type``.
    """
    if not experiment.events:
        return [MOVIE]
    index = {name: row for row, (name, _) in enumerate(experiment.stimuli)}
    rows = condition_rows(experiment.runs(index), index)
    return sorted(rows, key=lambda name: int(rows[name].min()))


def shown_conditions(run: Run) -> list[tuple[str, str]]:
    """Return the condition and the stimulus of each event of a run that shows one.

    Raises
    ------
    DataError
        If events have no ``trial_type``.
    """
    shown = [row for row in run.cells if row["stim_file"] != MISSING]
    without = [row for row in shown if is_missing(row.get("trial_type", MISSING))]
    if without:
        cell = without[0].get("trial_type", MISSING)
        message = (
            "every event that shows a stimulus must have a trial_type, which is its condition; "
            f"{len(without)} of {len(shown)} have none, first one at {without[0]['onset']} s (got "
            f"{cell!r}). Name conditions in the column trial_type."
        )
        raise DataError(message)
    return [(row["trial_type"], row["stim_file"]) for row in shown]
