"""One choice of settings, from frames to predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from imgtofmri.backbones import Backbone, FeatureBatch, stream_features
from imgtofmri.bundle import Bundle
from imgtofmri.encoder.prediction import AVERAGES, AverageName, Prediction, concatenate
from imgtofmri.encoder.spatial import BLOCK, SpatialModel
from imgtofmri.exceptions import OptionError, ShapeError, choice_message
from imgtofmri.stimuli import Failure, Frame


class RunSettings(TypedDict, total=False):
    """Keyword arguments that every way of predicting stimuli takes; see `Encoder.predict`."""

    rois: Sequence[str] | str | None
    sigma_mm: float
    mask: str
    average: str
    center_crop: bool | None
    backbone: str | Path | Backbone | None
    weights: str | Path | None


@dataclass(frozen=True, slots=True, eq=False)
class Pipeline:
    """Settings that were found valid, with the network and the spatial model that they need.

    Attributes
    ----------
    bundle : Bundle
    rois : tuple of str
    sigma_mm : float
    mask : str
    average : {"zscore", "mean"}
    center_crop : bool
    spatial : SpatialModel
    network : Backbone
    """

    bundle: Bundle
    rois: tuple[str, ...]
    sigma_mm: float
    mask: str
    average: AverageName
    center_crop: bool
    spatial: SpatialModel
    network: Backbone

    def stream(
        self,
        frames: Iterable[Frame | Failure],
        on_failure: Callable[[Failure], None] | None = None,
        on_batch: Callable[[FeatureBatch], None] | None = None,
    ) -> Iterator[Prediction]:
        """Predict frames in parts of bounded size, in order.

        Parameters
        ----------
        frames : iterable of Frame or Failure
            Of the network's size.
        on_failure : callable, optional
            Called with each input that cannot be used. By default the first one raises.
        on_batch : callable, optional
            Called with each batch of features before its prediction is yielded.

        Yields
        ------
        Prediction
            Of up to 32 stimuli.
        """
        for batch in stream_features(frames, self.network, BLOCK):
            for failure in batch.failures:
                if on_failure is None:
                    raise failure.error
                on_failure(failure)
            if not batch.names:
                continue
            if on_batch is not None:
                on_batch(batch)
            onsets_s = None if batch.onsets_s[0] is None else np.array(batch.onsets_s, float)
            yield make_prediction(
                self.bundle, self.spatial, self.average, batch.features, batch.names, onsets_s
            )


def make_prediction(
    bundle: Bundle,
    spatial: SpatialModel,
    average: AverageName,
    features: npt.NDArray[np.floating[Any]],
    names: Sequence[str],
    onsets_s: npt.NDArray[np.float64] | None,
) -> Prediction:
    """Predict stimuli whose features are known, of shape (n_stimuli, n_features)."""
    group, subjects = spatial.predict(features, average)
    return Prediction(
        group=group,
        subjects=subjects,
        mask=spatial.mask,
        affine=bundle.template.affine,
        names=tuple(names),
        roi_masks=spatial.roi_masks,
        subject_names=spatial.subject_names,
        average=average,
        space=bundle.space,
        onsets_s=onsets_s,
    )


def check_features(
    bundle: Bundle, features: npt.NDArray[np.floating[Any]], where: str
) -> npt.NDArray[np.float32]:
    """Return features of shape (n_stimuli, n_features) if they can be a bundle's."""
    checked = np.asarray(features, dtype=np.float32)
    got = ""
    if checked.ndim != 2 or checked.shape[1] != bundle.n_features or not len(checked):
        got = f"shape {checked.shape}"
    elif not np.isfinite(checked).all():
        got = f"NaN or infinity in row {int(np.argmin(np.isfinite(checked).all(axis=1)))}"
    if got:
        message = (
            f"{where}: features must be finite, of shape (n_stimuli, {bundle.n_features}), as "
            f"this encoder was fitted on {bundle.features_id}; got {got}. Compute them "
            "with Encoder.features."
        )
        raise ShapeError(message)
    return checked


def collect(stream: Iterator[Prediction], advance: Callable[[float], None]) -> Prediction:
    """Join a stream's parts, reporting each one's length."""
    parts = []
    for part in stream:
        advance(len(part))
        parts.append(part)
    return concatenate(parts)


def check_average(average: str) -> AverageName:
    """Return the name of a way to average subjects if it is one."""
    if average not in AVERAGES:
        raise OptionError(choice_message("predict", "average", average, AVERAGES))
    return average
