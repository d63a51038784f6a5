"""An experiment's stimuli through an encoder's network, once, for all runs and subjects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgtofmri.backbones import FeatureBatch, FeatureExtractor
from imgtofmri.encoder.predictor import Predictor
from imgtofmri.encoder.regions import RoiMeans, roi_means, roi_places
from imgtofmri.exceptions import StimulusError
from imgtofmri.experiments.events import Frames
from imgtofmri.experiments.experiment import Experiment, Input
from imgtofmri.stimuli import Failure, Movie, Source


@dataclass(frozen=True, eq=False)
class Encoded:
    """The features of an experiment's stimuli.

    Attributes
    ----------
    features : array of shape (n_rows, n_features), float32
        A row for each image and for each frame of a movie.
    index : mapping of str to int or Frames
        Which rows belong to each stimulus.
    stimuli : tuple of Input
        The files, with their digests.
    """

    features: NDArray[np.float32]
    index: Mapping[str, int | Frames]
    stimuli: tuple[Input, ...]


def encode_stimuli(
    extractor: FeatureExtractor, experiment: Experiment, *, progress: bool = False
) -> Encoded:
    """Compute the features of all images and movies of an experiment.

    Parameters
    ----------
    extractor : FeatureExtractor
        As ``encoder.extractor()`` returns it.
    experiment : Experiment
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    Encoded

    Raises
    ------
    StimulusError
        If stimuli cannot be used; all images that cannot are named.
    DataError
        If a movie is to be shown for longer than it lasts.
    """
    images = [(name, path) for name, path in experiment.stimuli if name not in experiment.movies]
    parts: list[NDArray[np.float32]] = []
    digests: dict[str, str | None] = {}
    index: dict[str, int | Frames] = {name: row for row, (name, _) in enumerate(images)}
    if images:
        batch = _images(extractor, [path for _, path in images], progress)
        parts.append(batch.features)
        digests |= dict(zip(index, batch.sha256, strict=True))
    n_rows = len(images)
    for name, movie in experiment.movies.items():
        frames, onsets_s, end_s = _movie(extractor, movie, experiment.rate_hz, progress)
        index[name] = Frames(n_rows, onsets_s, end_s)
        parts.append(frames.features)
        digests[name] = movie.sha256
        n_rows += len(onsets_s)
    lengths_s = {
        name: len(of.onsets_s) / experiment.rate_hz
        for name, of in index.items()
        if isinstance(of, Frames)
    }
    for table in experiment.events:
        table.check_movies(lengths_s)
    stimuli = tuple(Input(name, path, digests[name]) for name, path in experiment.stimuli)
    return Encoded(np.concatenate(parts), index, stimuli)


def _images(extractor: FeatureExtractor, paths: Sequence[Path], progress: bool) -> FeatureBatch:
    """Compute the features of images, all of which are needed."""
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


def _movie(
    extractor: FeatureExtractor, movie: Movie, rate_hz: float, progress: bool
) -> tuple[FeatureBatch, NDArray[np.float64], float]:
    """Compute the features of a movie's frames; return when each is shown and the movie ends."""
    frames = extractor.movie(movie, rate_hz, progress=progress)
    onsets_s = np.array([onset for onset in frames.onsets_s if onset is not None])
    step_s = 1.0 / rate_hz
    end_s = movie.info.duration_s
    # A header may be missing or wrong; frames are taken up to the end, so it is at most a step off.
    if end_s is None or not 0.0 < end_s - onsets_s[-1] <= step_s:
        end_s = float(onsets_s[-1] + step_s)
    return frames, onsets_s, end_s


def own_means(predictor: Predictor, features: NDArray[np.float32]) -> RoiMeans:
    """Return the mean response of each person's own ROIs, in native space, to encoded stimuli."""
    spatial = predictor.spatial
    return roi_means(
        [subject.native(features) for subject in spatial.subjects],
        [subject.own_rois for subject in spatial.subjects],
        [(roi, hemi) for roi, hemi, _ in roi_places(spatial.roi_masks)],
        spatial.subject_names,
    )
