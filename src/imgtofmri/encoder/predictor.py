"""`Predictor`: an encoder with one choice of settings, from stimuli to predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.backbones import FeatureBatch, FeatureExtractor
from imgtofmri.backbones.extractor import OnFailure
from imgtofmri.bundle import Bundle
from imgtofmri.encoder.prediction import Prediction
from imgtofmri.encoder.provenance import Provenance
from imgtofmri.encoder.settings import Settings
from imgtofmri.encoder.spatial import BLOCK, SpatialModel
from imgtofmri.exceptions import ShapeError
from imgtofmri.stimuli import Frame, Movie, Source
from imgtofmri.text import Brief


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Readout(Brief):
    """From features to predictions, with one choice of settings.

    Attributes
    ----------
    bundle : Bundle
    spatial : SpatialModel
    provenance : Provenance
    """

    bundle: Bundle
    spatial: SpatialModel
    provenance: Provenance

    @property
    def settings(self) -> Settings:
        """The settings, resolved."""
        return self.provenance.settings

    def predict(self, batch: FeatureBatch) -> Prediction:
        """Predict stimuli whose features are known."""
        group, subjects, native = self.spatial.predict(batch.features, self.settings.average)
        onsets_s = None
        if batch.onsets_s and batch.onsets_s[0] is not None:
            onsets_s = np.array(batch.onsets_s, dtype=np.float64)
        return Prediction(
            group=group,
            subjects=subjects,
            mask=self.spatial.mask,
            affine=self.bundle.template.affine,
            names=batch.names,
            roi_masks=self.spatial.roi_masks,
            subject_names=self.spatial.subject_names,
            native=native,
            own_rois=tuple(subject.own_rois for subject in self.spatial.subjects),
            coverage=self.spatial.coverage,
            provenance=self.provenance,
            onsets_s=onsets_s,
            sha256=batch.sha256,
            sources=batch.sources,
            residual_variance=self.spatial.residual_variance,
            accuracy=self.spatial.accuracy,
            native_spaces=tuple(subject.space for subject in self.spatial.subjects),
        )


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Predictor(Brief):
    """Settings that were found valid, with the network and the spatial model that they need.

    `Encoder.predictor` makes it, before any stimulus is read.

    Attributes
    ----------
    extractor : FeatureExtractor
        Stimuli to features.
    readout : Readout
        Features to predictions.
    """

    extractor: FeatureExtractor
    readout: Readout

    @property
    def settings(self) -> Settings:
        """The settings, resolved."""
        return self.readout.settings

    @property
    def provenance(self) -> Provenance:
        """What makes these predictions."""
        return self.readout.provenance

    @property
    def spatial(self) -> SpatialModel:
        """The group mask and each subject's matrix."""
        return self.readout.spatial

    def stream(
        self,
        images: Any,
        on_failure: OnFailure | None = None,
        look: Callable[[Frame], object] | None = None,
    ) -> Iterator[Prediction]:
        """Predict images in parts of bounded size, in order; see `Encoder.stream`.

        ``look`` is called with each picture on its way to the network.
        """
        return self._predicted(self.extractor.stream(images, on_failure, BLOCK, look))

    def stream_movie(
        self, movie: Movie | str | Path | Source, rate_hz: float = 2.0, first: int = 0
    ) -> Iterator[Prediction]:
        """Predict a movie's frames in parts of bounded size, in order, from the first wanted on."""
        return self._predicted(
            self.extractor.stream_movie(movie, rate_hz, batch_size=BLOCK, first=first)
        )

    def _predicted(self, batches: Iterable[FeatureBatch]) -> Iterator[Prediction]:
        return map(self.readout.predict, batches)


def check_features(
    bundle: Bundle, features: npt.NDArray[np.floating[Any]]
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
            f"features must be finite, of shape (n_stimuli, {bundle.n_features}), as this encoder "
            f"was fitted on {bundle.features_id}; got {got}. Compute them with Encoder.features."
        )
        raise ShapeError(message)
    return checked
