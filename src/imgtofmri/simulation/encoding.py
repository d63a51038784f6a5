"""Stimuli through an encoder, once, for all runs and subjects that show them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import StimulusError
from imgtofmri.features import FeatureBatch, stream_features
from imgtofmri.progress import track
from imgtofmri.simulation.events import Events, movie_events
from imgtofmri.simulation.responses import EncodedResponses
from imgtofmri.stimuli import Failure, Movie, read_images

if TYPE_CHECKING:
    from imgtofmri.pipeline import Pipeline
    from imgtofmri.spatial import SpatialModel


def encode_images(
    pipeline: Pipeline, paths: Sequence[Path], *, progress: bool = False
) -> NDArray[np.float32]:
    """Compute the features of images.

    Parameters
    ----------
    pipeline : Pipeline
        As ``encoder.pipeline()`` returns it.
    paths : sequence of Path
        Image files.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    features : array of shape (n_images, n_features), float32

    Raises
    ------
    StimulusError
        If images cannot be used; all are named.
    """
    size = pipeline.network.spec.preprocessing.size
    frames = read_images(list(paths), size=size, center_crop=pipeline.center_crop)
    with track("Computing features", len(paths), "images", enabled=progress) as advance:
        batches: list[FeatureBatch] = []
        for batch in stream_features(frames, pipeline.network):
            batches.append(batch)
            advance(len(batch.names) + len(batch.failures))
    failures: list[Failure] = [failure for batch in batches for failure in batch.failures]
    if failures:
        reasons = "; ".join(str(failure.error) for failure in failures)
        message = (
            f"simulate: every stimulus that the events show is needed; {len(failures)} of "
            f"{len(paths)} cannot be used: {reasons}"
        )
        raise StimulusError(message)
    return np.concatenate([batch.features for batch in batches])


def encode_movie(
    pipeline: Pipeline, movie: Movie | Path, rate_hz: float = 2.0, *, progress: bool = False
) -> tuple[NDArray[np.float32], Events]:
    """Compute the features of a movie's frames.

    Parameters
    ----------
    pipeline : Pipeline
        As ``encoder.pipeline()`` returns it.
    movie : Movie or Path
    rate_hz : float
        Frames a second.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    features : array of shape (n_frames, n_features), float32
    events : Events
        One for each frame, which lasts until the next; the last one to the movie's end.

    Raises
    ------
    StimulusError
        If the movie cannot be read.
    """
    size = pipeline.network.spec.preprocessing.size
    film = Movie.of(movie)
    frames = film.frames(rate_hz, size, pipeline.center_crop)
    features: list[NDArray[np.float32]] = []
    onsets_s: list[float] = []
    what, n_frames = f"Computing features of {film.path.name}", film.expected_frames(rate_hz)
    with track(what, n_frames, "frames", enabled=progress) as advance:
        for batch in _movie_batches(stream_features(frames, pipeline.network)):
            features.append(batch.features)
            onsets_s.extend(onset for onset in batch.onsets_s if onset is not None)
            advance(len(batch.names))
    step_s = 1.0 / rate_hz
    end_s = film.info.duration_s
    # A header may be missing or wrong; frames are taken up to the end, so it is at most a step off.
    if end_s is None or not 0.0 < end_s - onsets_s[-1] <= step_s:
        end_s = onsets_s[-1] + step_s
    return np.concatenate(features), movie_events(onsets_s, end_s=end_s)


def encoded_subjects(
    spatial: SpatialModel,
    features: NDArray[np.float32],
    weights: Mapping[str, NDArray[np.float64]],
) -> dict[str, EncodedResponses]:
    """Return the responses of subjects to stimuli, predicted when a run needs them.

    Parameters
    ----------
    spatial : SpatialModel
        ``pipeline.spatial``.
    features : array of shape (n_stimuli, n_features), float32
        From `encode_images` or `encode_movie`.
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


def _movie_batches(batches: Iterator[FeatureBatch]) -> Iterator[FeatureBatch]:
    """Pass batches on; a frame that failed ends the movie with its error."""
    for batch in batches:
        for failure in batch.failures:
            raise failure.error
        yield batch
