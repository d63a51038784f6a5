"""Mean responses of each person's own ROIs, and the tables of what is tested on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.contrast.agreement import SignAgreement
from imgtofmri.analyses.contrast.welch import WelchTest
from imgtofmri.encoder import Prediction
from imgtofmri.encoder.regions import GROUP, own_columns
from imgtofmri.exceptions import DataError
from imgtofmri.stats import NullSummary

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class RoiResponses:
    """Mean responses of each person's own ROIs, and of the group, place by place.

    ``values`` are the group's and each subject's, shape (n_stimuli, n_places), NaN where a subject
    lacks the place; ``n_voxels`` has shape (1 + n_subjects, n_places).
    """

    places: tuple[tuple[str, str], ...]
    owners: tuple[str, ...]
    values: list[NDArray[np.float64]]
    n_voxels: NDArray[np.intp]

    @classmethod
    def of(cls, prediction: Prediction) -> RoiResponses:
        """Gather them, leaving out places that nobody has."""
        means = prediction.roi_means() if prediction.rois else None
        counts = np.array(
            [
                [len(own_columns(own, roi, hemi)) for roi, hemi in (means.places if means else ())]
                for own in prediction.own_rois
            ],
            dtype=np.intp,
        )
        there = np.flatnonzero(counts.sum(axis=0))
        if means is None or not there.size:
            message = (
                "at least one ROI must have voxels; got none. Predict with the ROIs of interest."
            )
            raise DataError(message)
        people = means.values[there]
        return cls(
            tuple(means.places[index] for index in there),
            (GROUP, *means.subjects),
            [means.group[there].T, *(people[:, number].T for number in range(people.shape[1]))],
            np.concatenate([counts.sum(axis=0, keepdims=True), counts])[:, there],
        )

    def of_owner(self, owner: int, values: NDArray[Any]) -> NDArray[Any]:
        """Return an owner's values of the places that the owner has."""
        there: NDArray[Any] = values[self.n_voxels[owner] > 0]
        return there

    def check_vary(self, chosen: NDArray[np.intp]) -> None:
        """Refuse an ROI whose response is the same to all images that take part."""
        for number, (owner, values) in enumerate(zip(self.owners, self.values, strict=True)):
            flat = (np.ptp(values[chosen], axis=0) == 0) & (self.n_voxels[number] > 0)
            if flat.any():
                roi, hemi = self.places[int(np.argmax(flat))]
                message = (
                    f"an ROI must respond to images differently; {roi} ({hemi}) of {owner} "
                    f"responds to all {len(chosen)} alike. Leave the ROI out, or give other images."
                )
                raise DataError(message)


def roi_table(
    name: str,
    responses: RoiResponses,
    tests: Sequence[tuple[WelchTest, NullSummary]],
    agreement: SignAgreement,
) -> pd.DataFrame:
    """Make the tidy table of ROI tests; the group comes first."""
    import pandas as pd

    parts = []
    have = np.count_nonzero(responses.n_voxels[1:], axis=0)
    for number, (owner, (test, null)) in enumerate(zip(responses.owners, tests, strict=True)):
        columns = {
            "contrast": name,
            "roi": [roi for roi, _ in responses.places],
            "hemi": [hemi for _, hemi in responses.places],
            "subject": owner,
            "n_voxels": responses.n_voxels[number],
            **test.columns(null),
            "p_max_contrasts": null.p_max,
            "n_subjects": have,
            "n_agree": agreement.n_agree[number],
            "p_agree": agreement.p[number],
        }
        kept = responses.n_voxels[number] > 0
        parts.append(pd.DataFrame(columns)[kept])
    table: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return table


def condition_table(
    responses: RoiResponses, rois: Sequence[Mapping[str, NDArray[np.float64]]]
) -> pd.DataFrame:
    """Make the tidy table of condition means in ROIs.

    Parameters
    ----------
    responses : RoiResponses
    rois : sequence of dict of str to array of shape (n_images, n_places)
        Each owner's responses to the images of each condition.
    """
    import pandas as pd

    parts = []
    for number, (owner, conditions) in enumerate(zip(responses.owners, rois, strict=True)):
        kept = responses.n_voxels[number] > 0
        for condition, members in conditions.items():
            columns = {
                "roi": [roi for roi, _ in responses.places],
                "hemi": [hemi for _, hemi in responses.places],
                "subject": owner,
                "condition": condition,
                "n": len(members),
                "mean": members.mean(axis=0),
                "sem": members.std(axis=0, ddof=1) / np.sqrt(len(members)),
            }
            parts.append(pd.DataFrame(columns)[kept])
    table: pd.DataFrame = pd.concat(parts, ignore_index=True)
    return table
