"""`FeatureExtractor`: a network, and how pictures are brought to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from imgtofmri.backbones.base import Backbone
from imgtofmri.backbones.stream import BATCH_SIZE, FeatureBatch, joined, stream_features
from imgtofmri.exceptions import StimulusError
from imgtofmri.progress import track
from imgtofmri.stimuli import Failure, Frame, Movie, Source, expand_images, read_images

OnFailure = Callable[[Failure], object]
"""What is called with each input that cannot be used."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureExtractor:
    """A network, and how pictures are cropped for it: stimuli go in, features come out.

    Every method that reads stimuli takes ``on_failure``. Without it the first input that cannot be
    used raises its error; with it each is handed over, and the rest goes on.

    Parameters
    ----------
    network : Backbone
        Turns pixels into features.
    center_crop : bool
        Resize the short side and crop the centre, instead of squeezing the whole picture.

    Examples
    --------
    >>> from imgtofmri import FeatureExtractor, load_backbone
    >>> extractor = FeatureExtractor(load_backbone("resnet18"))  # doctest: +SKIP
    >>> extractor.features("photos/").features  # doctest: +SKIP
    """

    network: Backbone
    center_crop: bool = False

    @property
    def size(self) -> int:
        """Side of the square of pixels that the network sees."""
        return self.network.spec.preprocessing.size

    def features(
        self,
        images: Any,
        on_failure: OnFailure | None = None,
        progress: bool = False,
    ) -> FeatureBatch:
        """Return the features of images.

        Parameters
        ----------
        images : path, folder, glob, Source, PIL image, uint8 array, or a sequence of these
            Arrays have shape (height, width, 3) or (height, width).
        on_failure : callable, optional
        progress : bool
            Whether to report progress on standard error.

        Returns
        -------
        FeatureBatch
            ``features`` of shape (n_stimuli, n_features), with names and digests; without rows
            where no image could be used.

        Raises
        ------
        StimulusError
            If an image cannot be used and there is no ``on_failure``.
        """
        items = expand_images(images, on_failure)
        stream = self.stream(iter(items), on_failure)
        with track("Computing features", len(items), "images", enabled=progress) as advance:
            return self._whole(stream, advance)

    def stream(
        self,
        images: Any,
        on_failure: OnFailure | None = None,
        batch_size: int = BATCH_SIZE,
        look: Callable[[Frame], object] | None = None,
    ) -> Iterator[FeatureBatch]:
        """Compute the features of images in batches, in order, while later ones are decoded.

        Parameters
        ----------
        images
            As for `features`; an iterator of `Source` is consumed as pictures are needed.
        on_failure : callable, optional
        batch_size : int
        look : callable, optional
            Called with each picture on its way to the network.

        Yields
        ------
        FeatureBatch
            With one image or more.
        """
        pictures = self.pictures(images, on_failure)
        return self._stream(_tapped(pictures, look), on_failure, batch_size)

    def pictures(
        self, images: Any, on_failure: OnFailure | None = None
    ) -> Iterator[Frame | Failure]:
        """Yield images as the network sees them, in order, while later ones are decoded.

        Parameters
        ----------
        images
            As for `stream`.
        on_failure : callable, optional
            Called with each path that is no image file; what cannot be decoded is yielded.

        Yields
        ------
        Frame or Failure
        """
        items = images if isinstance(images, Iterator) else expand_images(images, on_failure)
        return read_images(items, size=self.size, center_crop=self.center_crop)

    def movie(
        self,
        movie: Movie | str | Path | Source,
        rate_hz: float = 2.0,
        look: Callable[[Frame], object] | None = None,
        progress: bool = False,
    ) -> FeatureBatch:
        """Return the features of a movie's frames.

        Parameters
        ----------
        movie, rate_hz, look
            As for `stream_movie`.
        progress : bool
            Whether to report progress on standard error.

        Returns
        -------
        FeatureBatch
            Of all frames: features of shape (n_frames, n_features).

        Raises
        ------
        StimulusError, OptionError
            As `stream_movie` does.
        """
        film = Movie.of(movie)
        stream = self.stream_movie(film, rate_hz, look)
        what, total = f"Computing features of {film.name}", film.expected_frames(rate_hz)
        with track(what, total, "frames", enabled=progress) as advance:
            return self._whole(stream, advance)

    def stream_movie(
        self,
        movie: Movie | str | Path | Source,
        rate_hz: float = 2.0,
        look: Callable[[Frame], object] | None = None,
        batch_size: int = BATCH_SIZE,
        first: int = 0,
    ) -> Iterator[FeatureBatch]:
        """Compute the features of a movie's frames in batches, in order.

        Parameters
        ----------
        movie : Movie, path or Source
        rate_hz : float
            Frames a second. The frame nearest in time to each multiple of ``1 / rate_hz`` is taken
            while that is before the movie's end.
        look : callable, optional
            Called with each frame on its way to the network.
        batch_size : int
        first : int
            How many frames to leave out at the beginning; they are decoded all the same.

        Yields
        ------
        FeatureBatch
            With ``onsets_s``.

        Raises
        ------
        StimulusError
            If the file is not a movie that can be read to its end; after the frames before.
        """
        film = Movie.of(movie)
        frames = film.frames(rate_hz, self.size, self.center_crop)
        some = islice(frames, first, None) if first else frames
        return self._stream(_tapped(_or_failure(some, film.name), look), None, batch_size)

    def _stream(
        self,
        frames: Iterable[Frame | Failure],
        on_failure: OnFailure | None,
        batch_size: int,
    ) -> Iterator[FeatureBatch]:
        for batch in stream_features(frames, self.network, batch_size):
            if on_failure is not None:
                for failure in batch.failures:
                    on_failure(failure)
            if batch.names:
                yield replace(batch, failures=())
            if on_failure is None and batch.failures:
                raise batch.failures[0].error

    def _whole(
        self, batches: Iterable[FeatureBatch], advance: Callable[[float], None]
    ) -> FeatureBatch:
        found = []
        for batch in batches:
            advance(len(batch.names))
            found.append(batch)
        none = np.empty((0, self.network.spec.n_features), np.float32)
        return joined(found) if found else FeatureBatch((), none)


def _or_failure(frames: Iterator[Frame], name: str) -> Iterator[Frame | Failure]:
    """Pass frames on, and last why there are no more, if a movie breaks off."""
    try:
        yield from frames
    except StimulusError as error:
        yield Failure(name, error)


def _tapped(
    frames: Iterable[Frame | Failure], look: Callable[[Frame], object] | None
) -> Iterator[Frame | Failure]:
    for frame in frames:
        if look is not None and isinstance(frame, Frame):
            look(frame)
        yield frame
