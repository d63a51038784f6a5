"""Stimuli through a backbone: in order, in batches, while later ones are still being decoded."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgtofmri.backbones.base import Backbone
from imgtofmri.exceptions import OptionError, ShapeError, StimulusError
from imgtofmri.stimuli import Failure, Frame, run_ahead
from imgtofmri.stimuli.items import refuse
from imgtofmri.text import Brief

BATCH_SIZE = 16
"""Images that go through the network together. Larger batches gain nothing on a CPU."""

AHEAD = 2
"""Batches that may wait for the consumer while the network works on."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FeatureBatch(Brief):
    """The features of some consecutive stimuli.

    Attributes
    ----------
    names : tuple of str
        The frames' names, in order; ``sha256``, ``onsets_s`` and ``sources`` go with them.
    features : array of shape (n, n_features), float32
        One row for each name; without rows where all inputs failed.
    sha256 : tuple of (str or None)
    onsets_s : tuple of (float or None)
        Seconds from the movie's beginning; None for images.
    sources : tuple of (Path or None)
    failures : tuple of Failure
        What could not be used among and after these stimuli, in order.
    """

    names: tuple[str, ...]
    features: npt.NDArray[np.float32]
    sha256: tuple[str | None, ...] = ()
    onsets_s: tuple[float | None, ...] = ()
    sources: tuple[Path | None, ...] = ()
    failures: tuple[Failure, ...] = ()


def stream_features(
    frames: Iterable[Frame | Failure], backbone: Backbone, batch_size: int = BATCH_SIZE
) -> Iterator[FeatureBatch]:
    """Compute features in batches, in order, in memory that does not grow with the input.

    `read_images` and `Movie.frames` decode ahead in threads of their own, and the network runs
    in others: decoding, the network and what the caller does with features go on at the same time.

    Parameters
    ----------
    frames : iterable of Frame or Failure
        From `read_images` or `Movie.frames`; consumed as batches are asked for.
    backbone : Backbone
        Its answers may not depend on the other images of a batch.
    batch_size : int, default 16
        Frames in a batch, and failures that are kept at most before they are handed on.

    Yields
    ------
    FeatureBatch
        Full batches, then what is left. Failures go with the batch they fell into; a batch may hold
        failures alone. A frame whose features are not finite is one.

    Raises
    ------
    OptionError
        If ``batch_size`` is below 1.
    ShapeError
        If the frames are not of the backbone's size, or its features not what it says.
    """
    if batch_size < 1:
        message = f"batch_size must be 1 or more; got {batch_size}. Leave it out for {BATCH_SIZE}."
        raise OptionError(message)
    return run_ahead(_stream(frames, backbone, batch_size), AHEAD)


def _stream(
    frames: Iterable[Frame | Failure], backbone: Backbone, batch_size: int
) -> Generator[FeatureBatch]:
    """Yield batches in order, each part of one at work as soon as its frames are there."""
    n_calls = backbone.spec.parallel_calls
    at_work: deque[tuple[Future[FeatureBatch], bool]] = deque()
    done: list[FeatureBatch] = []

    def take() -> Iterator[FeatureBatch]:
        part, ends = at_work.popleft()
        done.append(part.result())
        if ends:
            yield joined(done)
            done.clear()

    with ThreadPoolExecutor(n_calls, "imgtofmri-batch") as workers:
        for good, failures, ends in _parts(frames, backbone.spec.images_per_call, batch_size):
            at_work.append((workers.submit(_run_part, good, failures, backbone), ends))
            # One part more than can be at work, so that no thread waits for the next.
            if len(at_work) > n_calls:
                yield from take()
        while at_work:
            yield from take()


def _parts(
    frames: Iterable[Frame | Failure], part_size: int, batch_size: int
) -> Iterator[tuple[list[Frame], list[Failure], bool]]:
    """Yield frames and failures in parts, each with whether it is the last of its batch."""
    good: list[Frame] = []
    failures: list[Failure] = []
    n_good = n_failures = 0
    for item in frames:
        if isinstance(item, Failure):
            failures.append(item)
            n_failures += 1
        else:
            good.append(item)
            n_good += 1
        ends = max(n_good, n_failures) == batch_size
        if ends or len(good) == part_size:
            yield good, failures, ends
            good, failures = [], []
        if ends:
            n_good = n_failures = 0
    if n_good or n_failures:
        yield good, failures, True


def _run_part(frames: list[Frame], failures: list[Failure], backbone: Backbone) -> FeatureBatch:
    spec = backbone.spec
    if frames:
        features = _checked(backbone, _stacked(frames, spec.preprocessing.size))
    else:
        features = np.empty((0, spec.n_features), np.float32)
    lost = np.flatnonzero(~np.isfinite(features).all(axis=1)).tolist()
    if lost:
        names = [frames[row].name for row in lost]
        failures = [*failures, *(Failure(name, _not_finite(name)) for name in names)]
        frames = [frame for row, frame in enumerate(frames) if row not in lost]
        features = np.delete(features, lost, axis=0)
    return FeatureBatch(
        names=tuple(frame.name for frame in frames),
        features=features,
        sha256=tuple(frame.sha256 for frame in frames),
        onsets_s=tuple(frame.onset_s for frame in frames),
        sources=tuple(frame.source for frame in frames),
        failures=tuple(failures),
    )


def _not_finite(name: str) -> StimulusError:
    got = f"NaN or infinity from the network for {name}"
    remedy = "Leave the picture out, or take other layers, or weights of higher precision."
    return refuse("features that are finite", got, remedy)


def joined(parts: Sequence[FeatureBatch]) -> FeatureBatch:
    """Put batches one after the other."""
    if len(parts) == 1:
        return parts[0]
    return FeatureBatch(
        names=tuple(chain.from_iterable(part.names for part in parts)),
        features=np.concatenate([part.features for part in parts]),
        sha256=tuple(chain.from_iterable(part.sha256 for part in parts)),
        onsets_s=tuple(chain.from_iterable(part.onsets_s for part in parts)),
        sources=tuple(chain.from_iterable(part.sources for part in parts)),
        failures=tuple(chain.from_iterable(part.failures for part in parts)),
    )


def _stacked(frames: list[Frame], size: int) -> npt.NDArray[np.uint8]:
    for frame in frames:
        if frame.pixels.shape != (size, size, 3):
            message = (
                f"the backbone takes frames of shape ({size}, {size}, 3); "
                f"'{frame.name}' has {frame.pixels.shape}. Read the stimuli with size={size}."
            )
            raise ShapeError(message)
    return np.stack([frame.pixels for frame in frames])


def _checked(backbone: Backbone, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    features = np.ascontiguousarray(backbone(pixels), dtype=np.float32)
    expected = (len(pixels), backbone.spec.n_features)
    if features.shape != expected:
        message = (
            f"the backbone says that it gives features of shape {expected}; "
            f"it gave {features.shape}. Its layer must be pooled to one row for each image."
        )
        raise ShapeError(message)
    return features
