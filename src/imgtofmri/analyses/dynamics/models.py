"""One pass over a movie: the encoder's prediction and every baseline's features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.dynamics.baselines import (
    check_changes,
    luma,
    motion_energy,
)
from imgtofmri.backbones import FeatureBatch
from imgtofmri.backbones.stream import joined
from imgtofmri.encoder import Encoder, Prediction, Settings
from imgtofmri.exceptions import OptionError, StimulusError, choice_message
from imgtofmri.progress import track
from imgtofmri.stimuli.items import Frame
from imgtofmri.stimuli.movie import Movie

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
    made_with : dict of str to str
        Encoder, features, weights and movie, for the record.
    """

    prediction: Prediction
    baselines: Mapping[str, NDArray[np.float32]]
    made_with: Mapping[str, str]

    @property
    def onsets_s(self) -> NDArray[np.float64]:
        """When each frame is shown, in seconds from the movie's start."""
        onsets = self.prediction.onsets_s
        assert onsets is not None
        return onsets


def movie_models(
    encoder: Encoder,
    movie: str | Path | Movie,
    *,
    baselines: Sequence[str] = ("luminance",),
    rate_hz: float = 2.0,
    untrained_seed: int = 0,
    progress: bool = True,
    settings: Settings | None = None,
    **changes: Any,
) -> MovieModels:
    """Predict a movie and compute its baselines, decoding it once.

    Parameters
    ----------
    encoder : Encoder
        Whose prediction is wanted.
    movie : path or Movie
        Any movie file.
    baselines : sequence of {"luminance", "motion", "untrained"}, default ("luminance",)
        Luma of each pixel; energy of the change between successive frames; features of the
        encoder's network with random weights.
    rate_hz : float, default 2.0
        Frames taken in each second.
    untrained_seed : int, default 0
        Of the random weights.
    progress : bool
        Whether to report progress on standard error.
    settings, **changes
        As for `Encoder.predict`.

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
    Luma keeps each frame's pixels in memory, 200 kB a frame; the rest is small.
    """
    for name in baselines:
        if name not in BASELINES:
            raise OptionError(choice_message("movie_models", "baselines", name, BASELINES))
    predictor = encoder.predictor(settings, **changes)
    extractor, network = predictor.extractor, predictor.extractor.network
    untrained = None
    if "untrained" in baselines:
        weights = f"untrained:{untrained_seed}"
        untrained = encoder.extractor(rois=predictor.settings.rois, weights=weights).network
    film = Movie.of(movie)
    lights = _Rows()
    waiting: list[NDArray[np.uint8]] = []
    random: list[NDArray[np.float32]] = []
    batches: list[FeatureBatch] = []

    def look(frame: Frame) -> None:
        if "luminance" in baselines or "motion" in baselines:
            lights.append(luma(frame.pixels))
        if untrained is not None:
            waiting.append(frame.pixels)

    n_frames = film.expected_frames(rate_hz)
    with track("Predicting the movie", n_frames, "frames", enabled=progress) as advance:
        for batch in extractor.stream_movie(film, rate_hz, look):
            batches.append(batch)
            advance(len(batch.names))
            if untrained is not None:
                # Frames were looked at ahead of their batch; the oldest are the batch's.
                random.append(untrained(np.stack(waiting[: len(batch.names)])))
                del waiting[: len(batch.names)]
    if not batches:
        message = (
            f"movie_models: {film.path} must have at least one frame; got none at {rate_hz:g} Hz. "
            "See that the file is whole."
        )
        raise StimulusError(message)
    prediction = predictor.readout.predict(joined(batches))
    found: dict[str, NDArray[np.float32]] = {}
    for name in dict.fromkeys(baselines):
        if name == "luminance":
            found[name] = lights.stacked().reshape(len(lights), -1)
        elif name == "motion":
            found[name] = motion_energy(lights.stacked()).reshape(len(lights), -1)
        else:
            found[name] = np.concatenate(random)
        check_changes(name, found[name])
    made_with = {
        "encoder": str(encoder.card["id"]),
        "features": network.spec.features_id,
        "weights": network.spec.weights_name,
        "weights_sha256": network.spec.weights_sha256,
        "weights_verified": "yes" if network.spec.weights_verified else "no",
        "movie": film.path.name,
    }
    return MovieModels(prediction, found, made_with)


class _Rows:
    """Arrays of one shape in one block that grows, so that no second copy is ever made of them."""

    def __init__(self) -> None:
        self._block = np.empty((0,), np.float32)
        self._n_rows = 0

    def __len__(self) -> int:
        return self._n_rows

    def append(self, row: NDArray[np.float32]) -> None:
        """Add an array."""
        if self._n_rows == len(self._block):
            # The system moves a large block without a copy; an eighth at most is taken too much.
            grown = (self._n_rows + max(256, self._n_rows // 8), *row.shape)
            self._block.resize(grown, refcheck=False)
        self._block[self._n_rows] = row
        self._n_rows += 1

    def stacked(self) -> NDArray[np.float32]:
        """Return all arrays, shape (n_rows, ...), as a view."""
        return self._block[: self._n_rows]
