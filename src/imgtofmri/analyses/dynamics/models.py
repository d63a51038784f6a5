"""What a movie's frames predict: the encoder's prediction and baselines, in one pass over it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from imgtofmri.backbones import FeatureBatch
from imgtofmri.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from imgtofmri.backbones.stream import joined
from imgtofmri.encoder import Encoder, Prediction, Settings
from imgtofmri.exceptions import DataError, OptionError, ShapeError, StimulusError, check_choice
from imgtofmri.progress import track
from imgtofmri.stimuli.items import Frame
from imgtofmri.stimuli.movie import Movie
from imgtofmri.text import Brief

LUMINANCE = "luminance"

BASELINES = (LUMINANCE, "motion", "untrained")
"""The baselines that come from frames alone."""

_FEATURES = {
    "luminance": "luma of each pixel, of values as stored",
    "motion": "squared change of luma from frame to frame, over squares of 8 by 8 pixels",
}

PREDICTED = "predicted"
"""The name of the encoder's prediction among the models."""


@dataclass(frozen=True, eq=False, repr=False)
class MovieModels(Brief):
    """What a movie's frames predict, before haemodynamics.

    Attributes
    ----------
    prediction : Prediction
        The encoder's, with the frames' onsets.
    baselines : dict of str to array of shape (n_frames, n_features)
        Features of the same frames.
    movie : Movie or None
    rate_hz : float or None
        Frames that were taken in each second.
    made_of : dict of str to dict of str to str
        What each baseline is, for a record.
    """

    prediction: Prediction
    baselines: Mapping[str, NDArray[np.float32]]
    movie: Movie | None = None
    rate_hz: float | None = None
    made_of: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

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
    published_luminance: bool = False,
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
    published_luminance : bool
        Weigh colours as the published analysis did, which took values as the network gets them.
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
    check_baselines(baselines)
    predictor = encoder.predictor(settings, **changes)
    extractor = predictor.extractor
    made_of = {name: {"features": _FEATURES.get(name, "")} for name in dict.fromkeys(baselines)}
    if published_luminance and LUMINANCE in made_of:
        made_of[LUMINANCE]["features"] += ", each colour in deviations of ImageNet"
    untrained = None
    if "untrained" in baselines:
        weights = f"untrained:{untrained_seed}"
        untrained = encoder.extractor(rois=predictor.settings.rois, weights=weights).network
        made_of["untrained"] = {
            "features": untrained.spec.features_id,
            "weights": untrained.spec.weights_name,
            "sha256": untrained.spec.weights_sha256,
        }
    film = Movie.of(movie)
    lights = _Rows()
    waiting: list[NDArray[np.uint8]] = []
    random: list[NDArray[np.float32]] = []
    batches: list[FeatureBatch] = []

    def look(frame: Frame) -> None:
        if "luminance" in baselines or "motion" in baselines:
            lights.append(luma(frame.pixels, as_published=published_luminance))
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
            f"{film.path} must have at least one frame; got none at {rate_hz:g} Hz. "
            "See that the file is whole."
        )
        raise StimulusError(message)
    prediction = predictor.readout.predict(joined(batches))
    _check_changes("the prediction", prediction.group[:, usable_voxels(prediction)])
    found: dict[str, NDArray[np.float32]] = {}
    for name in made_of:
        if name == "luminance":
            rows = lights.stacked()
        elif name == "motion":
            rows = motion_energy(lights.stacked())
        else:
            rows = np.concatenate(random)
        found[name] = rows.reshape(len(rows), -1)
        _check_changes(f"the baseline {name}", found[name])
    return MovieModels(prediction, found, film, rate_hz, made_of)


def check_baselines(names: Sequence[str]) -> None:
    """Refuse a baseline that is none, before anything is loaded."""
    for name in names:
        check_choice("baseline", name, BASELINES)


def check_features(
    features: Mapping[str, ArrayLike], baselines: Collection[str], n_frames: int | None
) -> dict[str, NDArray[np.float32]]:
    """Return further models of the frames as float32.

    Raises
    ------
    ShapeError
        If one has not a row for each frame, where their number is known.
    OptionError
        If its name is another model's.
    """
    checked = {}
    for name, values in features.items():
        rows = np.asarray(values, dtype=np.float32)
        if rows.ndim != 2 or n_frames not in (None, len(rows)):
            message = (
                f"`features` of {name} must have shape (n_frames, n_features) with {n_frames} "
                f"frames; got {rows.shape}. Compute them at the same rate."
            )
            raise ShapeError(message)
        if name in baselines or name == PREDICTED:
            message = (
                f"features must have names of their own; got {name!r}, which names another model. "
                "Rename it."
            )
            raise OptionError(message, "features")
        checked[name] = rows
    return checked


def usable_voxels(prediction: Prediction) -> NDArray[np.bool_]:
    """Return which voxels have a value at every frame: enough people stand behind them."""
    return np.asarray(np.isfinite(prediction.group).all(axis=0))


def luma(pixels: ArrayLike, *, as_published: bool = False) -> NDArray[np.float32]:
    """Return the luma of each pixel, ``0.2126 R + 0.7152 G + 0.0722 B``.

    Of the values as they are stored, encoded for a screen, as in the published work, which calls it
    luminance. `imgtofmri.stimuli.luminance` is that of linear light, as a photometer measures it.

    Parameters
    ----------
    pixels : array of shape (..., height, width, 3), uint8
        RGB frames as the network gets them, resized.
    as_published : bool
        Of values from which ImageNet's mean of each colour was taken and that were divided by its
        deviation, as in the published analysis.

    Returns
    -------
    array of shape (..., height, width), float32
        From 0, black, to 1, white; ``as_published``, about 0.

    Raises
    ------
    ShapeError
        If the last axis is not red, green and blue.

    References
    ----------
    ITU-R BT.709 for the weights.

    Examples
    --------
    >>> float(luma(np.full((1, 1, 3), 255, np.uint8))[0, 0])
    1.0
    """
    frames = np.asarray(pixels)
    if frames.ndim < 3 or frames.shape[-1] != 3:
        message = (
            f"pixels must have shape (..., height, width, 3); got {frames.shape}. Give RGB frames."
        )
        raise ShapeError(message)
    weights, constant = np.array([0.2126, 0.7152, 0.0722]), 0.0
    if as_published:
        weights = weights / IMAGENET_STD
        constant = float(weights @ np.array(IMAGENET_MEAN))
    weighted = frames.astype(np.float32) @ (weights / 255.0).astype(np.float32)
    return (weighted - np.float32(constant)).astype(np.float32)


def motion_energy(frames: ArrayLike, *, pool: int = 8) -> NDArray[np.float32]:
    """Return the energy of change from each frame to the next, averaged over squares of pixels.

    Squares rather than pixels, so that a scene that moves by a few pixels keeps its pattern.

    Parameters
    ----------
    frames : array of shape (n_frames, height, width)
        Luma. The first frame follows nothing and has no energy.
    pool : int, default 8
        Side of a square in pixels; what is left over at the right and lower edge is not used.

    Returns
    -------
    array of shape (n_frames, height // pool, width // pool), float32
        Mean squared difference from the frame before.

    Raises
    ------
    ShapeError
        If frames have not three axes.
    OptionError
        If ``pool`` does not fit into a frame.

    Examples
    --------
    >>> motion_energy(np.arange(3.0)[:, None, None] * np.ones((1, 8, 8))).ravel().tolist()
    [0.0, 1.0, 1.0]
    """
    values = np.asarray(frames, dtype=np.float32)
    if values.ndim != 3:
        message = (
            f"frames must have shape (n_frames, height, width); got {values.shape}. Give luma."
        )
        raise ShapeError(message)
    n_frames, height, width = values.shape
    if not 1 <= pool <= min(height, width):
        message = (
            f"pool must be between 1 and {min(height, width)} pixels; got {pool}. "
            "Use 8 for frames of 224 pixels."
        )
        raise OptionError(message)
    rows, columns = height // pool, width // pool
    cut = values[:, : rows * pool, : columns * pool]
    energy = np.zeros((n_frames, rows, columns), np.float32)
    for now in range(1, n_frames):
        squares = (cut[now] - cut[now - 1]) ** 2
        energy[now] = squares.reshape(rows, pool, columns, pool).mean(axis=(1, 3))
    return energy


class _Rows:
    """Arrays of one shape in one block that grows, so that no second copy is ever made of them."""

    def __init__(self) -> None:
        self._block = np.empty((0,), np.float32)
        self._n_rows = 0

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


def _check_changes(name: str, features: NDArray[np.float32]) -> None:
    """Refuse features that are the same in every frame, as nothing can agree with them."""
    # What is left of a still film is the rounding of batches.
    if not (np.ptp(features, axis=0) > 1e-5 * np.abs(features).max(initial=0.0)).any():
        message = (
            f"{name} must change over the movie; got the same in all {len(features)} frames. "
            "Leave it out, or give a movie in which something happens."
        )
        raise DataError(message)
