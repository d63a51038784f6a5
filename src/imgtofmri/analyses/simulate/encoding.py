"""Subjects' responses to encoded stimuli, predicted when a run needs them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.simulate.responses import EncodedResponses

if TYPE_CHECKING:
    from imgtofmri.encoder.spatial import SpatialModel


def encoded_subjects(
    spatial: SpatialModel,
    features: NDArray[np.float32],
    weights: Mapping[str, NDArray[np.float64]],
) -> dict[str, EncodedResponses]:
    """Return the responses of subjects to stimuli, predicted when a run needs them.

    Parameters
    ----------
    spatial : SpatialModel
        ``encoder.spatial_model()``.
    features : array of shape (n_stimuli, n_features), float32
        From `imgtofmri.experiments.encode_stimuli`.
    weights : mapping of str to array of shape (n_given_subjects,)
        As `subject_weights` of ``spatial.subject_names`` returns them.

    Returns
    -------
    dict of str to EncodedResponses
    """
    maps = [
        lambda rows, operator=operator: operator.apply(operator.native(rows))
        for operator in spatial.subjects
    ]
    n_voxels = int(spatial.mask.sum())
    return {name: EncodedResponses(features, maps, row, n_voxels) for name, row in weights.items()}
