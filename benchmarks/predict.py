"""Images a second end to end, against the same network alone on arrays already in memory.

    python benchmarks/predict.py --photos FOLDER --weights FILE

Without a folder, photographs are made up; without weights, the network's are random, which takes
the same time. Each pair of measurements is taken in turn, so that the machine's drift cancels.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from imgtofmri.analyses.predict import predict_images
from imgtofmri.backbones import Backbone
from imgtofmri.backbones.architectures import ARCHITECTURES
from imgtofmri.encoder import Encoder, Predictor, load_encoder
from imgtofmri.encoder.spatial import BLOCK
from imgtofmri.outputs import NiftiLayout, OutputFolder, VolumeWriter
from imgtofmri.stimuli import Frame, Source, find_sources, read_images

ORIGINAL_S = 604 / 156
"""Seconds an image that the original's own log shows, on 156 images."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder of photographs")
    parser.add_argument("--weights", type=Path, help="ResNet-18 weights")
    parser.add_argument("--n", type=int, default=500, help="photographs (default 500)")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of measurements (default 3)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.photos or make_photographs(Path(scratch) / "photos", options.n)
        weights = options.weights or make_weights(Path(scratch) / "weights.safetensors")
        _measure(folder, weights, options.n, options.pairs, Path(scratch))


def _measure(folder: Path, weights: Path, n: int, n_pairs: int, scratch: Path) -> None:
    warnings.simplefilter("ignore")
    encoder = load_encoder()
    predictor = encoder.predictor(weights=weights)
    sources = [source for source in find_sources([folder])[0] if source.kind == "image"][:n]
    network = predictor.extractor.network
    pixels = np.stack([f.pixels for f in read_images(sources) if isinstance(f, Frame)])
    _end_to_end(predictor, sources[:32], scratch / "warm")
    alone, whole = [], []
    for pair in range(n_pairs):
        alone.append(seconds(lambda: network_alone(network, pixels)))
        target = scratch / f"out{pair}"
        whole.append(seconds(lambda: _end_to_end(predictor, sources, target)))  # noqa: B023
    features = network(pixels[:BLOCK])
    after = seconds(lambda: _after_the_network(encoder, features, scratch / "after"))
    ratios = [a / b for a, b in zip(alone, whole, strict=True)]
    print(f"{len(sources)} photographs, {n_pairs} pairs, medians")
    print(f"network alone, in memory : {len(sources) / statistics.median(alone):7.1f} images/s")
    print(f"end to end, files written: {len(sources) / statistics.median(whole):7.1f} images/s")
    print(f"ratio                    : {statistics.median(ratios):7.3f}  {_rounded(ratios)}")
    print(f"after the network        : {after / BLOCK / 10 * 1e3:7.3f} ms an image")
    print(f"the original             : {1 / ORIGINAL_S:7.2f} images/s (its own log)")


def network_alone(network: Backbone, pixels: np.ndarray) -> None:
    """Run a network on pictures in memory."""
    for start in range(0, len(pixels), 16):
        network(pixels[start : start + 16])


def _end_to_end(predictor: Predictor, sources: list[Source], folder: Path) -> None:
    record = OutputFolder(folder, "predict")
    record.begin({})
    summary = predict_images(predictor, sources, record, NiftiLayout(), progress=False)
    record.close()
    assert len(summary.done) == len(sources)


def _after_the_network(encoder: Encoder, features: np.ndarray, folder: Path) -> None:
    spatial = encoder.spatial_model()
    writer = VolumeWriter(spatial.mask, encoder.bundle.template.affine)
    for repeat in range(10):
        prediction = encoder.predict_features(features)
        for index in range(len(prediction)):
            writer.write(folder / f"{repeat}-{index}.nii.gz", prediction.group[index])


def seconds(work: Callable[[], object]) -> float:
    """Return how long something takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 3) for value in values]


def make_photographs(folder: Path, n: int) -> Path:
    """Write JPEG files of smooth noise, about as hard to decode as photographs of their size."""
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(n):
        small = rng.integers(0, 256, (51, 68, 3), dtype=np.uint8)
        image = Image.fromarray(small).resize((340, 255), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:04d}.jpg", quality=90)
    return folder


def make_weights(path: Path) -> Path:
    """Write random weights of ResNet-18."""
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    tensors = {}
    for conv in ARCHITECTURES["resnet18"].convolutions:
        scale = np.sqrt(2 / np.prod(conv.shape[1:]))
        weight = rng.normal(size=conv.shape) * scale
        tensors[f"{conv.name}.weight"] = weight.astype(np.float32)
        tensors[f"{conv.name}.bias"] = np.zeros(conv.shape[0], np.float32)
    save_file(tensors, path)
    return path


if __name__ == "__main__":
    main()
