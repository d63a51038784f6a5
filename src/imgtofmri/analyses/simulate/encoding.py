"""Stimuli through an encoder, once, for all runs and subjects that show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from imgtofmri.analyses.simulate.events import Events, movie_events
from imgtofmri.analyses.simulate.responses import EncodedResponses
from imgtofmri.backbones import FeatureBatch, FeatureExtractor
from imgtofmri.exceptions import StimulusError
from imgtofmri.stimuli import Failure, Movie, Source

if TYPE_CHECKING:
    from imgtofmri.encoder.spatial import SpatialModel


def encode_images(
    extractor: FeatureExtractor, paths: Sequence[Path], *, progress: bool = False
) -> FeatureBatch:
    """Compute the features of images, all of which are needed.

    Parameters
    ----------
    extractor : FeatureExtractor
        As ``encoder.extractor()`` returns it.
    paths : sequence of Path
        Image files.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    FeatureBatch

    Raises
    ------
    StimulusError
        If images cannot be used; all are named.
    """
    failures: list[Failure] = []
    sources = [Source(path, path.name, "image") for path in paths]
    batch = extractor.features(sources, failures.append, progress)
    if failures:
        reasons = "; ".join(str(failure.error) for failure in failures)
        message = (
            f"stimuli: every one that the events show is needed; {len(failures)} of "
            f"{len(paths)} cannot be used: {reasons}"
        )
        raise StimulusError(message)
    return batch


def encode_movie(
    extractor: FeatureExtractor,
    movie: Movie | Path,
    rate_hz: float = 2.0,
    *,
    progress: bool = False,
) -> tuple[FeatureBatch, Events]:
    """Compute the features of a movie's frames.

    Parameters
    ----------
    extractor : FeatureExtractor
        As ``encoder.extractor()`` returns it.
    movie : Movie or Path
    rate_hz : float
        Frames a second.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    frames : FeatureBatch
    events : Events
        One for each frame, which lasts until the next; the last one to the movie's end.

    Raises
    ------
    StimulusError
        If the movie cannot be read.
    """
    film = Movie.of(movie)
    frames = extractor.movie(film, rate_hz, progress=progress)
    onsets_s = [onset for onset in frames.onsets_s if onset is not None]
    step_s = 1.0 / rate_hz
    end_s = film.info.duration_s
    # A header may be missing or wrong; frames are taken up to the end, so it is at most a step off.
    if end_s is None or not 0.0 < end_s - onsets_s[-1] <= step_s:
        end_s = onsets_s[-1] + step_s
    return frames, movie_events(onsets_s, end_s=end_s)


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
