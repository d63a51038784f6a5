"""Distil a head that stands in for an encoder's own network, on image files without responses."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.backbones import (
    Backbone,
    DistilledBackbone,
    Head,
    Weights,
)
from imgtofmri.backbones.extractor import OnFailure
from imgtofmri.distillation.agreement import held_out_agreement
from imgtofmri.distillation.heads import fit_head, observe
from imgtofmri.distillation.views import random_views
from imgtofmri.encoder import Encoder
from imgtofmri.exceptions import DataError, StimulusError
from imgtofmri.files import is_file, sha256_of
from imgtofmri.stimuli import Failure, Frame, Source, expand_images
from imgtofmri.stimuli.images import open_image
from imgtofmri.stimuli.items import StimulusWarning

HELD_OUT = 0.2
MIN_IMAGES = 10


def distil_head(
    encoder: Encoder,
    student: Backbone,
    images: Any,
    *,
    weights: Weights | None = None,
    engine: str = "onnxruntime",
    precision: str | None = None,
    n_views: int = 8,
    penalty: float = 20_000.0,
    rank: int | None = None,
    seed: int = 0,
    on_failure: OnFailure | None = None,
    progress: bool = False,
) -> Head:
    """Fit a head with which a student estimates an encoder's features, and measure it.

    Parameters
    ----------
    encoder : Encoder
        Its own network is the teacher.
    student : Backbone
        Loaded with the layers to use.
    images : path, folder, glob, Source, or a sequence of these
        Photographs, as files; a fifth of them is held out whole. What is the same file as one of
        these, byte for byte, is not learned from.
    weights : path, str or Untrained, optional
        Of the encoder's own network.
    engine, precision
        What the encoder's own network runs on, as `imgtofmri.Settings` has them.
    n_views : int
        Views of each image to learn from; see `imgtofmri.distillation.random_views`.
    penalty, rank
        As for `imgtofmri.distillation.fit_head`.
    seed : int
        Of the split and of the views.
    on_failure : callable, optional
        Called with each image that cannot be used. By default the first one raises its error.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    Head
        Its card holds the agreement of group maps on the held-out images, in all and by ROI.

    Raises
    ------
    StimulusError
        If an image cannot be used and there is no ``on_failure``.
    DataError
        If there are fewer than 10 images that can be used.

    Warns
    -----
    StimulusWarning
        How many images are copies of those held out.
    """
    sources: list[Source] = expand_images(images, on_failure)
    fail = _raise if on_failure is None else on_failure
    extractor = encoder.extractor(weights=weights, engine=engine, precision=precision)
    teacher, size = extractor.network, extractor.size
    order = np.random.default_rng(seed).permutation(len(sources))
    n_held_out = int(HELD_OUT * len(sources))
    held_out, fitted = (
        [sources[i] for i in sorted(part)] for part in np.split(order, [n_held_out])
    )
    pixels, digests = [], set()
    for item in extractor.pictures(iter(held_out)):
        if isinstance(item, Frame):
            pixels.append(item.pixels)
            digests.add(item.sha256)
        else:
            fail(item)
    if len(sources) < MIN_IMAGES or len(pixels) < 2:
        message = (
            f"images must be {MIN_IMAGES} or more that can be used; got {len(sources)}. Give "
            "photographs, more than the teacher has features if possible."
        )
        raise DataError(message)
    views = _views(_without(fitted, digests), size, n_views, seed, fail)
    activations, features = observe(student, teacher, views, progress=progress)
    head = fit_head(student.spec, teacher.spec, activations, features, penalty=penalty, rank=rank)
    stack = np.stack(pixels)
    fidelity = held_out_agreement(encoder, DistilledBackbone(student, head)(stack), teacher(stack))
    card = {
        **head.card,
        "encoder": encoder.card["id"],
        "n_held_out": len(pixels),
        "views_per_image": n_views,
        "seed": seed,
        "fidelity": fidelity,
        "note": f"features of {teacher.spec.features_id} are estimated from {student.spec.id} by a "
        f"distilled head (r of group maps on {len(pixels)} held-out images: mean "
        f"{fidelity['held_out_mean_r']:.2f}, median {fidelity['held_out_median_r']:.2f})",
    }
    return replace(head, card=card)


def _without(sources: Sequence[Source], digests: Collection[str | None]) -> list[Source]:
    """Leave out copies of what is held out, and tell of them."""
    # What cannot be read is told when it is looked at.
    kept = [one for one in sources if not is_file(one.path) or sha256_of(one.path) not in digests]
    if copies := len(sources) - len(kept):
        message = (
            f"{copies} of {len(sources)} images to learn from are copies of images that are held "
            "out, and are left out. Give each image once."
        )
        warnings.warn(message, StimulusWarning, stacklevel=3)
    return kept


def _raise(failure: Failure) -> None:
    raise failure.error


def _views(
    sources: Sequence[Source], size: int, n_views: int, seed: int, fail: OnFailure
) -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    for source in sources:
        try:
            image = open_image(source.path)
        except StimulusError as error:
            fail(Failure(source.name, error))
        else:
            yield random_views(image, size, n_views, rng)
