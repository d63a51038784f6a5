"""What a set of stimuli shall do, and how well it does it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from imgtofmri.encoder import Prediction
from imgtofmri.encoder.regions import own_columns
from imgtofmri.exceptions import DataError, OptionError, choice_message
from imgtofmri.rsa import calculate_rdm, to_square

_FORMS = {
    "high": re.compile(r"high\s+(\S+)", re.IGNORECASE),
    "low": re.compile(r"low\s+(\S+)", re.IGNORECASE),
    "over": re.compile(r"(\S+)\s+over\s+(\S+)", re.IGNORECASE),
    "alike": re.compile(r"alike\s+(\S+?),?\s+apart\s+(\S+)", re.IGNORECASE),
}


@dataclass(frozen=True)
class Goal:
    """What one set of stimuli shall do.

    Parameters
    ----------
    kind : {"high", "low", "over", "alike"}
        "high" and "low": the mean response of ``roi``. "over": ``roi`` high while ``other`` is
        low. "alike": the set's patterns resemble each other in ``roi`` and differ in ``other``.
    roi : str
    other : str
        Empty for "high" and "low".
    """

    kind: Literal["high", "low", "over", "alike"]
    roi: str
    other: str = ""

    @property
    def name(self) -> str:
        """A name for tables, events and files, such as ``PPA_high`` or ``PPA_over_LOC``.

        It can stand in a contrast of nilearn's and pandas', which take a hyphen for a minus.
        """
        if self.kind == "over":
            return f"{self.roi}_over_{self.other}"
        if self.kind == "alike":
            return f"{self.roi}_alike_{self.other}_apart"
        return f"{self.roi}_{self.kind}"

    @property
    def rois(self) -> tuple[str, ...]:
        """The ROIs that the goal names."""
        return (self.roi, self.other) if self.other else (self.roi,)


def parse_goal(text: str, rois: Sequence[str]) -> Goal:
    """Read a goal as people write it.

    Parameters
    ----------
    text : str
        ``"high PPA"``, ``"low PPA"``, ``"PPA over LOC"`` or ``"alike LOC apart PPA"``.
    rois : sequence of str
        The ROIs that there are.

    Raises
    ------
    OptionError
        If the text is no goal, or names an unknown ROI or one ROI twice.

    Examples
    --------
    >>> parse_goal("PPA over LOC", ["LOC", "PPA"]).name
    'PPA_over_LOC'
    """
    for kind, form in _FORMS.items():
        match = form.fullmatch(text.strip())
        if match:
            goal = Goal(kind, *match.groups())  # type: ignore[arg-type]
            for roi in goal.rois:
                if roi not in rois:
                    raise OptionError(choice_message("", "goal's ROI", roi, rois), "goal")
            if goal.roi == goal.other:
                message = f"goal must name two different ROIs; got {text!r}. Pull apart two."
                raise OptionError(message, "goal")
            return goal
    message = (
        "goal must be 'high ROI', 'low ROI', 'ROI over ROI' or 'alike ROI apart ROI'; got "
        f"{text!r}. Write it like one of these."
    )
    raise OptionError(message, "goal")


@dataclass(frozen=True)
class RoiResponses:
    """Predicted responses of each subject's own ROIs, in native space.

    Parameters
    ----------
    names : tuple of str, length n_stimuli
    subject_names : tuple of str
    patterns : dict of str to tuple of array of shape (n_stimuli, n_voxels)
        Each subject's voxels of each ROI, both hemispheres together.
    """

    names: tuple[str, ...]
    subject_names: tuple[str, ...]
    patterns: dict[str, tuple[NDArray[np.float32], ...]]

    def means(self, roi: str) -> NDArray[np.float64]:
        """Mean over the voxels of each subject's own ROI, shape (n_subjects, n_stimuli)."""
        return np.stack([values.mean(axis=1, dtype=np.float64) for values in self.patterns[roi]])

    def scores(
        self, goal: Goal, subjects: Sequence[int], pool: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Score each stimulus of a pool for a goal about mean responses.

        Each subject's ROI means are z-scored over the pool, so that subjects and ROIs count alike.

        Returns
        -------
        scores : array of shape (len(pool),)
        """
        chosen = np.asarray(subjects, dtype=np.intp)
        sign = -1.0 if goal.kind == "low" else 1.0
        scores = sign * standardised(self.means(goal.roi)[chosen][:, pool])
        if goal.other:
            scores = scores - standardised(self.means(goal.other)[chosen][:, pool])
        return np.asarray(scores.mean(axis=0))

    def affinities(
        self, goal: Goal, subjects: Sequence[int], pool: NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Say for each pair of a pool how much more alike it is in ``roi`` than in ``other``.

        Returns
        -------
        affinities : array of shape (len(pool), len(pool)), diagonal 0
            Correlation in ``goal.roi`` minus correlation in ``goal.other``, voxels' means over the
            pool removed, averaged over subjects.
        """
        names = [self.names[index] for index in pool]
        total = np.zeros(len(pool) * (len(pool) - 1) // 2)
        for subject in subjects:
            apart = calculate_rdm(self.patterns[goal.other][subject][pool], conditions=names)
            total += apart - calculate_rdm(self.patterns[goal.roi][subject][pool], conditions=names)
        return to_square(total / len(subjects))


def roi_responses(prediction: Prediction) -> RoiResponses:
    """Gather predicted responses of each subject's own ROIs, refusing what no choice can rest on.

    Raises
    ------
    DataError
        If an image's responses are NaN, a subject lacks an ROI, or all images give an ROI the same
        response.
    """
    prediction.check_whole(native=True)
    subject_names = tuple(prediction.subject_names)
    for subject, native in zip(subject_names, prediction.native, strict=True):
        bad = np.flatnonzero(~np.isfinite(native).all(axis=1))
        if bad.size:
            message = (
                f"responses must be finite; image {prediction.names[bad[0]]!r} has NaN or infinite "
                f"voxels in {subject}. Predict it again or leave it out."
            )
            raise DataError(message)
    patterns = {}
    for roi in prediction.rois:
        for subject, own in zip(subject_names, prediction.own_rois, strict=True):
            if not len(own_columns(own, roi)):
                message = (
                    f"each subject must have ROI {roi!r}, as it is tested on one and chosen on the "
                    f"others; {subject} has none. Leave the ROI out."
                )
                raise DataError(message)
        # Rows in one piece are summed alike, however many there are.
        patterns[roi] = tuple(
            np.ascontiguousarray(prediction.roi_responses(roi, subject))
            for subject in subject_names
        )
    found = RoiResponses(tuple(prediction.names), subject_names, patterns)
    for roi in patterns:
        spread = np.ptp(found.means(roi), axis=1)
        if (spread == 0).any():
            subject = subject_names[int(np.argmin(spread))]
            message = (
                f"images must differ in their responses; all give {roi!r} of {subject} the same. "
                "Give a pool of pictures that differ, or leave the ROI out."
            )
            raise DataError(message)
    return found


def standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Z-score along the last axis; what does not vary becomes 0."""
    centred = values - values.mean(axis=-1, keepdims=True)
    spread = values.std(axis=-1, keepdims=True)
    # A mean of equal values may differ from them by rounding.
    varies = spread > 1e-12 * np.abs(values).max(axis=-1, keepdims=True)
    return np.asarray(np.divide(centred, spread, out=np.zeros_like(centred), where=varies))
