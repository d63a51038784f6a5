"""What a caller may give as images, into one item for each image."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from imgtofmri.exceptions import StimulusError
from imgtofmri.stimuli.discovery import find_sources
from imgtofmri.stimuli.items import Failure, Source


def expand_images(images: Any, on_failure: Callable[[Failure], object] | None = None) -> list[Any]:
    """Return one item for each image: folders and globs expanded, stacks of arrays taken apart.

    Parameters
    ----------
    images : path, folder, glob, Source, PIL image, uint8 array, or a sequence of these
        Arrays have shape (height, width, 3) or (height, width); one of four axes is a stack, one of
        a single axis a sequence of paths.
    on_failure : callable, optional
        Called with each path that is not an image file; by default the first raises its error.

    Returns
    -------
    list of Source, PIL image or array of shape (height, width, 3) or (height, width)
        What `read_images` takes, in order.

    Raises
    ------
    StimulusError
        If there is none, or a path is not an image file that exists.
    """
    if isinstance(images, np.ndarray):
        images = [*images] if images.ndim in (1, 4) else [images]
    # Bytes and files are iterables, of numbers and of lines.
    alone = isinstance(images, str | bytes | Path | Source) or hasattr(images, "read")
    if alone or not isinstance(images, Iterable):
        images = [images]
    images = [*images]
    if not images:
        message = "expected one or more images, got none. Give a file, folder or array."
        raise StimulusError(message)
    items: list[Any] = []
    paths: list[str | Path] = []
    for image in images:
        if isinstance(image, str | Path):
            paths.append(image)
        else:
            items += _found(paths, on_failure)
            paths = []
            items.append(image)
    return items + _found(paths, on_failure)


def _found(paths: list[str | Path], on_failure: Callable[[Failure], object] | None) -> list[Source]:
    if not paths:
        return []
    found, failures = find_sources(paths)
    for source in found:
        if source.kind == "movie":
            message = (
                f"expected images, got the movie {source.path}. "
                "Predict it with Encoder.predict_movie."
            )
            failures.append(Failure(source.name, StimulusError(message)))
    for failure in failures:
        if on_failure is None:
            raise failure.error
        on_failure(failure)
    return [source for source in found if source.kind == "image"]
