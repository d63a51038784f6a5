"""Fit the distilled head of EfficientNet-Lite0, measure it and write it with its card.

The teacher is ResNet-18 with the weights of a file. A fifth of the photographs is held out whole,
and never seen by the fit; fidelity is the correlation, over the voxels of the group map of all
ROIs, between the head's prediction and the teacher's. The published examples are held out too.

    python tools/fit_head.py --teacher resnet18.safetensors --photos FOLDER [--published FOLDER]
"""

from __future__ import annotations

import argparse
import json
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from imgtofmri.backbones import (
    Backbone,
    DistilledBackbone,
    Head,
    load_backbone,
    read_head,
    write_head,
)
from imgtofmri.backbones.architectures import ARCHITECTURES
from imgtofmri.backbones.weights import UnverifiedWeightsWarning
from imgtofmri.distillation import (
    correlate_maps,
    fit_head,
    observe,
    random_views,
    summarise_agreement,
)
from imgtofmri.distillation.views import random_part
from imgtofmri.encoder import Encoder, load_encoder
from imgtofmri.encoder.reference import extract_samples, reference_wheel
from imgtofmri.stimuli import Movie, prepare_image

NAME = "efficientnet-lite0_resnet18-avgpool"
OUT = Path(__file__).parent.parent / "src" / "imgtofmri" / "backbones" / "heads"
HELD_OUT = 0.2
# How many times more deviations are penalised than means.
DEVIATIONS = 4.0
SIZE_PX = 224
EXAMPLES = {
    # The published outputs: ROIs, smoothing, and the rule for the mask.
    "images": (["EarlyVis", "OPA", "LOC", "RSC"], 1.25),
    "movie": (["LOC", "RSC", "PPA"], 1.0),
}


def main() -> None:
    """Fit, measure, write."""
    arguments = parse()
    layers = list(ARCHITECTURES["efficientnet-lite0"].layers)
    student = load_backbone("efficientnet-lite0", weights=arguments.student, layers=layers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UnverifiedWeightsWarning)
        teacher = load_backbone("resnet18", weights=arguments.teacher)
    photos = sorted(arguments.photos.glob("*.jpg"))
    order = np.random.default_rng(arguments.seed).permutation(len(photos))
    n_held_out = int(HELD_OUT * len(photos))
    held_out = [photos[index] for index in sorted(order[:n_held_out])]
    fitted = [photos[index] for index in sorted(order[n_held_out:])]
    print(f"{len(fitted)} photographs to fit, {n_held_out} held out", flush=True)
    sizes = ARCHITECTURES["efficientnet-lite0"].layers.items()
    penalty = [
        np.full(n, arguments.penalty * (DEVIATIONS if layer.endswith("/sd") else 1.0))
        for layer, n in sizes
    ]
    views = batches(fitted, arguments.views, arguments.altered, arguments.seed)
    head = fit_head(
        student.spec,
        teacher.spec,
        *observe(student, teacher, views, progress=True),
        penalty=np.concatenate(penalty),
        rank=arguments.rank,
    )
    encoder = load_encoder()
    path = arguments.out / f"{NAME}.safetensors"
    write_head(head, path)
    # Measure what is on the disk, with its float16, and not what was fitted.
    backbone = DistilledBackbone(student, read_head(path))
    fidelity = measure(encoder, backbone, teacher, held_out)
    if arguments.published:
        fidelity |= measure_published(encoder, backbone, arguments.published)
    card = make_card(head, fidelity, len(fitted), n_held_out, arguments)
    write_head(replace(head, card=card), path)
    (arguments.out / f"{NAME}.md").write_text(card_text(card), "utf-8")
    print(json.dumps(fidelity, indent=1))
    print(f"{path}: {path.stat().st_size} bytes")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", type=Path, required=True, help="ResNet-18's weights")
    parser.add_argument("--student", type=Path, help="EfficientNet-Lite0's; default: fetched")
    parser.add_argument("--photos", type=Path, required=True, help="a folder of .jpg files")
    parser.add_argument("--published", type=Path, help="folder of published_{images,movie}.npz")
    parser.add_argument("--views", type=int, default=8, help="views of each photograph")
    parser.add_argument("--altered", type=int, default=6, help="altered views of each photograph")
    parser.add_argument("--penalty", type=float, default=20_000.0)
    parser.add_argument("--rank", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--teacher-says", default="", help="what the teacher is, for the card")
    parser.add_argument("--licence", default="", help="what the teacher's licence demands")
    parser.add_argument("--out", type=Path, default=OUT, help="folder to write to")
    return parser.parse_args()


def batches(
    photos: Sequence[Path], n_views: int, n_altered: int, seed: int
) -> Iterator[NDArray[np.uint8]]:
    """Yield every photograph's views, and those that mix it with another of the same set."""
    rng = np.random.default_rng(seed)
    for photo in photos:
        other = photos[int(rng.integers(len(photos)))]
        with Image.open(photo) as first, Image.open(other) as second:
            image = first.convert("RGB")
            yield random_views(image, SIZE_PX, n_views, rng)
            yield altered_views(image, second.convert("RGB"), SIZE_PX, n_altered, rng)


def altered_views(
    image: Image.Image, other: Image.Image, size: int, n_views: int, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Make pictures that nobody took: the teacher labels them as it does photographs.

    In turn: random parts of both photographs blended into one another, parts of both side by side,
    and a part of the first with its brightness, contrast and saturation changed.

    Parameters
    ----------
    image, other : PIL images in mode RGB
    size : int
        Side of a view, in pixels.
    n_views : int
    rng : numpy.random.Generator

    Returns
    -------
    uint8 array of shape (n_views, size, size, 3)

    References
    ----------
    Zhang et al. (2018), mixup, arXiv:1710.09412. Yun et al. (2019), CutMix, arXiv:1905.04899.
    """
    views = np.zeros((n_views, size, size, 3), np.uint8)
    for index, view in enumerate(views):
        first = random_part(image, size, rng)
        if index % 3 == 2:
            view[:] = recolour(first, rng)
            continue
        second = random_part(other, size, rng)
        if index % 3 == 0:
            share = rng.uniform(0.3, 0.7)
            view[:] = np.rint(share * first + (1 - share) * second)
        else:
            edge = int(rng.integers(size // 5, size - size // 5))
            beside = bool(rng.random() < 0.5)
            view[:] = first
            if beside:
                view[:, edge:] = second[:, edge:]
            else:
                view[edge:] = second[edge:]
    return views


def recolour(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.float64]:
    """Change brightness, contrast about the mean, and saturation, each by up to a factor of 1.6."""
    brightness, contrast, saturation = np.exp(rng.uniform(-0.5, 0.5, 3))
    values = pixels * brightness
    grey = values.mean(axis=2, keepdims=True)
    values = grey + saturation * (values - grey)
    values = values.mean() + contrast * (values - values.mean())
    clipped: NDArray[np.float64] = np.rint(np.clip(values, 0, 255))
    return clipped


def whole(path: Path) -> NDArray[np.uint8]:
    """Return a photograph as the encoder sees it."""
    with Image.open(path) as image:
        return prepare_image(image)


def measure(
    encoder: Encoder, backbone: Backbone, teacher: Backbone, photos: Sequence[Path]
) -> dict[str, float]:
    """Correlate student's and teacher's group maps of photographs that the fit never saw."""
    pixels = np.stack([whole(photo) for photo in photos])
    maps = [encoder.predict_features(network(pixels)).group for network in (backbone, teacher)]
    return summarise_agreement("held_out", correlate_maps(*maps))


def measure_published(encoder: Encoder, backbone: Backbone, folder: Path) -> dict[str, float]:
    """Correlate with the published outputs for the published photographs and film frames."""
    images = np.load(folder / "published_images.npz")
    movie = np.load(folder / "published_movie.npz")
    with TemporaryDirectory() as scratch:
        samples = extract_samples(reference_wheel(progress=False), Path(scratch))
        pictures = {path.stem: path for path in samples[:-1]}
        photographs = np.stack([whole(pictures[name]) for name in images["names"]])
        frames = [frame.pixels for frame in Movie(samples[-1]).frames()]
    n_frames = len(movie["responses"])
    fidelity: dict[str, float] = {}
    for pixels, name, published in (
        (photographs, "images", images),
        (np.stack(frames[:n_frames]), "movie", movie),
    ):
        rois, sigma_mm = EXAMPLES[name]
        prediction = encoder.predict_features(
            backbone(pixels), rois=rois, sigma_mm=sigma_mm, mask="support"
        )
        r = correlate_maps(prediction.group, published["responses"])
        if name == "images":
            for label, value in zip(images["names"], r, strict=True):
                fidelity[f"published_{label}_r"] = round(float(value), 3)
        else:
            fidelity["published_movie_mean_r"] = round(float(r.mean()), 3)
            fidelity["published_movie_lowest_r"] = round(float(r.min()), 3)
    return fidelity


def make_card(
    head: Head,
    fidelity: dict[str, float],
    n_fitted: int,
    n_held_out: int,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    """Complete the head's card."""
    r = fidelity["held_out_mean_r"], fidelity["held_out_median_r"]
    licence = f"; {arguments.licence}" if arguments.licence else ""
    note = (
        f"features of {head.card['features_id']} are estimated from {head.card['student']} by a "
        f"distilled head (r with the teacher's group maps on {n_held_out} held-out photographs: "
        f"mean {r[0]:.2f}, median {r[1]:.2f}){licence}"
    )
    return {
        **head.card,
        "teacher": arguments.teacher_says or arguments.teacher.name,
        "licence": arguments.licence,
        "n_photographs": n_fitted,
        "n_held_out": n_held_out,
        "views_per_photograph": arguments.views,
        "altered_views_per_photograph": arguments.altered,
        "seed": arguments.seed,
        "fidelity": fidelity,
        "note": note,
    }


def card_text(card: dict[str, Any]) -> str:
    """Write the card for people."""
    rows = "\n".join(f"| {name.replace('_', ' ')} | {r} |" for name, r in card["fidelity"].items())
    low, high = card["penalties"]
    paragraphs = [
        f"`{NAME}.safetensors` turns pooled activations of {card['student']} into estimates of "
        f"{card['features_id']}. It is used where ResNet-18's own weights cannot be had, never "
        "without being asked for, and every output made with it says so.",
        f"**Licence.** {card['licence'] or 'as the package'}.",
        f"**Teacher.** {card['teacher']}.",
        f"**How it was made.** `tools/fit_head.py`: ridge regression (penalties {low:g} for means "
        f"and {high:g} for deviations, rank {card['rank']}) from the mean and the standard "
        f"deviation over space of {len(card['layers']) // 2} layers, standardised, to the "
        "teacher's features of the same picture. Of each of "
        f"{card['n_photographs']} photographs there were "
        f"{card['views_per_photograph']} views (the whole, the whole mirrored, random parts) and "
        f"{card['altered_views_per_photograph']} altered ones (blended with another photograph, "
        f"joined with it, recoloured), {card['n_images']} pictures in all. {card['n_held_out']} "
        "photographs were held out whole, and so were the published examples; they took part in "
        "the choice of the ridge's settings and in nothing else. Estimates below zero are set to "
        "zero.",
        "**Fidelity.** Correlation over voxels of group maps: with the teacher's for the held-out "
        "photographs (all ROIs, sigma 1 mm), with the published outputs for the published ones.",
    ]
    text = "\n\n".join(textwrap.fill(paragraph, 100) for paragraph in paragraphs)
    title = f"# A distilled head: {card['features_id']} from {card['student']}"
    return f"{title}\n\n{text}\n\n| | r |\n| --- | --- |\n{rows}\n"


if __name__ == "__main__":
    main()
