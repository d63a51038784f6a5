"""One pass over a movie: the encoder's prediction and every baseline's features."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgtofmri.dynamics.baselines import (
    check_changes,
    luminance,
    motion_energy,
    untrained_backbone,
)
from imgtofmri.encoder import Encoder
from imgtofmri.exceptions import OptionError, StimulusError, choice_message
from imgtofmri.features import stream_features
from imgtofmri.prediction import Prediction
from imgtofmri.progress import track
from imgtofmri.stimuli.items import Failure, Frame
from imgtofmri.stimuli.movies import read_movie

__all__ = ["BASELINES", "MovieModels", "movie_models"]

BASELINES = ("luminance", "motion", "untrained")
"""The baselines that come from frames alone."""

PREDICTED = "predicted"
"""The name of the encoder's prediction among the models."""


@dataclass(frozen=True, eq=False)
class MovieModels:
    """What a movie's frames predict, before haemodynamics.

    Attributes
    ----------
    prediction : Prediction
        The encoder's, with the frames' onsets.
    baselines : dict of str to array of shape (n_frames, n_features)
        Features of the same frames.
    """

    prediction: Prediction
    baselines: Mapping[str, NDArray[np.float32]]

    @property
    def onsets_s(self) -> NDArray[np.float64]:
        """When each frame is shown, in seconds from the movie's start."""
        onsets = self.prediction.onsets_s
        assert onsets is not None
        return onsets

    def responses(self, roi: str | None = None) -> dict[str, NDArray[np.float32]]:
        """Return each model's responses, frames x voxels or features.

        Parameters
        ----------
        roi : str, optional
            The prediction's voxels; default: all of them. Baselines are the same in every ROI.
        """
        group = self.prediction.group
        if roi is not None:
            group = group[:, self.prediction.roi_mask(roi)]
        return {PREDICTED: group, **self.baselines}


def movie_models(
    encoder: Encoder,
    movie: str | Path,
    *,
    baselines: Sequence[str] = ("luminance",),
    rate_hz: float = 2.0,
    rois: Sequence[str] | None = None,
    sigma_mm: float = 1.0,
    mask: str = "overlap",
    average: str = "zscore",
    center_crop: bool = False,
    backbone: str | Path | None = None,
    weights: str | Path | None = None,
    untrained_seed: int = 0,
    progress: bool = True,
) -> MovieModels:
    """Predict a movie and compute its baselines, decoding it once.

    Parameters
    ----------
    encoder : Encoder
        Whose prediction is wanted.
    movie : path
        Any movie file.
    baselines : sequence of {"luminance", "motion", "untrained"}, default ("luminance",)
        Luminance of each pixel; energy of the change between successive frames; features of the
        encoder's network with random weights.
    rate_hz : float, default 2.0
        Frames taken in each second.
    rois, sigma_mm, mask, average, center_crop, backbone, weights
        As in `Encoder.predict`.
    untrained_seed : int, default 0
        Of the random weights.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    MovieModels

    Raises
    ------
    OptionError
        If a baseline or another setting is not known.
    StimulusError
        If the movie cannot be read.
    DataError
        If a baseline does not change over the movie.

    Notes
    -----
    Luminance keeps each frame's pixels in memory, 200 kB a frame; the rest is small.
    """
    for name in baselines:
        if name not in BASELINES:
            raise OptionError(choice_message("movie_models", "baselines", name, BASELINES))
    network = encoder.backbone(backbone, weights)
    spatial = encoder.spatial_model(rois, sigma_mm, mask)
    del spatial  # Options that are not valid are refused before the movie is decoded.
    untrained = None
    if "untrained" in baselines:
        untrained = untrained_backbone(network.spec.id, seed=untrained_seed)
    size = network.spec.preprocessing.size
    frames = read_movie(movie, rate_hz=rate_hz, size=size, center_crop=center_crop)
    lights: list[NDArray[np.float32]] = []
    random: list[NDArray[np.float32]] = []
    features: list[NDArray[np.float32]] = []
    names: list[str] = []
    onsets: list[float | None] = []

    def look(frame: Frame) -> None:
        if "luminance" in baselines or "motion" in baselines:
            lights.append(luminance(frame.pixels))
        if untrained is not None:
            random.append(untrained(frame.pixels[None])[0])

    with track("Predicting the movie", unit="frames", enabled=progress) as advance:
        for batch in stream_features(_tap(frames, look), network):
            features.append(batch.features)
            names += batch.names
            onsets += batch.onsets_s
            advance(len(batch.names))
    if not features:
        message = (
            f"movie_models: {movie} must have at least one frame; got none at {rate_hz:g} Hz. "
            "See that the file is whole."
        )
        raise StimulusError(message)
    prediction = encoder.predict_features(
        np.concatenate(features),
        rois=rois,
        sigma_mm=sigma_mm,
        mask=mask,
        average=average,
        names=names,
        onsets_s=np.array(onsets, dtype=np.float64),
    )
    found: dict[str, NDArray[np.float32]] = {}
    for name in dict.fromkeys(baselines):
        if name == "luminance":
            found[name] = np.stack(lights).reshape(len(lights), -1)
        elif name == "motion":
            found[name] = motion_energy(np.stack(lights)).reshape(len(lights), -1)
        else:
            found[name] = np.stack(random)
        check_changes(name, found[name])
    return MovieModels(prediction, found)


def _tap(frames: Iterable[Frame], look: Callable[[Frame], None]) -> Iterator[Frame | Failure]:
    """Pass frames on, looking at each as it goes by."""
    for frame in frames:
        look(frame)
        yield frame
