"""Teach a network to stand in for an encoder's own, on image files without responses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.backbones import Backbone, DistilledBackbone, Head
from imgtofmri.distillation.heads import (
    fit_head,
    map_agreement,
    observe,
    random_views,
    summarise_agreement,
)
from imgtofmri.encoder import Encoder
from imgtofmri.encoder.regions import roi_mask
from imgtofmri.exceptions import DataError, StimulusError
from imgtofmri.stimuli import Failure, Frame, Source, read_images
from imgtofmri.stimuli.images import open_image

if TYPE_CHECKING:
    from pathlib import Path

HELD_OUT = 0.2
MIN_IMAGES = 10


def emulate_encoder(
    encoder: Encoder,
    student: Backbone,
    sources: Sequence[Source],
    weights: str | Path | None = None,
    n_views: int = 8,
    penalty: float = 20_000.0,
    rank: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> tuple[Head, list[Failure]]:
    """Fit a head with which a student estimates an encoder's features, and measure it.

    Parameters
    ----------
    encoder : Encoder
        Its own network is the teacher.
    student : Backbone
        Loaded with the layers to use.
    sources : sequence of Source
        Image files; a fifth of them is held out whole.
    weights : path, optional
        Weights of the encoder's own network.
    n_views : int
        Views of each image to learn from; see `imgtofmri.distillation.random_views`.
    penalty, rank
        As for `imgtofmri.distillation.distill`.
    seed : int
        Of the split and of the views.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    head : Head
        Its card holds the agreement of group maps on the held-out images, in all and by ROI.
    failures : list of Failure
        Images that could not be used.

    Raises
    ------
    DataError
        If there are fewer than 10 images that can be used.
    """
    teacher = encoder.extractor(weights=weights).network
    size = teacher.spec.preprocessing.size
    order = np.random.default_rng(seed).permutation(len(sources))
    n_held_out = int(HELD_OUT * len(sources))
    held_out, fitted = (
        [sources[i] for i in sorted(part)] for part in np.split(order, [n_held_out])
    )
    failures: list[Failure] = []
    pixels = []
    for item in read_images(held_out, size=size):
        if isinstance(item, Frame):
            pixels.append(item.pixels)
        else:
            failures.append(item)
    if len(sources) < MIN_IMAGES or len(pixels) < 2:
        message = (
            f"distill: expected {MIN_IMAGES} or more images that can be used; got {len(sources)}. "
            "Give photographs, more than the teacher has features if possible."
        )
        raise DataError(message)
    views = _views(fitted, size, n_views, seed, failures)
    activations, features = observe(student, teacher, views, progress=progress)
    head = fit_head(student.spec, teacher.spec, activations, features, penalty=penalty, rank=rank)
    stack = np.stack(pixels)
    estimated, own = DistilledBackbone(student, head)(stack), teacher(stack)
    fidelity: dict[str, Any] = _fidelity(encoder, estimated, own)
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
    arrays = (head.center, head.scale, head.weights, head.mixing, head.intercept)
    return Head(card, *arrays), failures


def _fidelity(
    encoder: Encoder, estimated: NDArray[np.float32], own: NDArray[np.float32]
) -> dict[str, float]:
    spatial = encoder.spatial_model()
    fidelity = summarise_agreement("held_out", map_agreement(spatial, estimated, own))
    for roi in encoder.rois:
        voxels = roi_mask(spatial.roi_masks, roi)
        if voxels.sum() > 1:
            r = map_agreement(spatial, estimated, own, voxels)
            fidelity[f"held_out_mean_r_{roi}"] = round(float(r.mean()), 3)
    return fidelity


def _views(
    sources: Sequence[Source], size: int, n_views: int, seed: int, failures: list[Failure]
) -> Iterator[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    for source in sources:
        try:
            image = open_image(source.path)
        except StimulusError as error:
            failures.append(Failure(source.name, error))
        else:
            yield random_views(image, size, n_views, rng)
