"""Measure a backbone: batch size, threads, and where the preprocessing is done.

Pixels in memory to features, with weights drawn at random (speed does not depend on them). Every
figure is the best of several rounds in one run, taken in turn; all are compared with one image at a
time. Normalising in NumPy is what a graph that takes floats would need besides. Takes about half a
minute on two cores.

    python benchmarks/backbones.py [resnet18|efficientnet-lite0]
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from imgtofmri.backbones import Backbone, UnverifiedWeightsWarning, load_backbone
from imgtofmri.backbones.architectures import ARCHITECTURES, Architecture
from imgtofmri.processors import n_processors

N_IMAGES = 32
N_ROUNDS = 5


def random_weights(network: Architecture, path: Path) -> Path:
    """Write folded weights that keep activations moderate."""
    rng = np.random.default_rng(0)
    tensors = {}
    for conv in network.convolutions:
        deviation = np.sqrt(2 / np.prod(conv.shape[1:]))
        weight = rng.normal(scale=deviation, size=conv.shape)
        tensors[f"{conv.name}.weight"] = weight.astype(np.float32)
        tensors[f"{conv.name}.bias"] = np.zeros(conv.shape[0], np.float32)
    save_file(tensors, path)
    return path


def seconds(work: Callable[[], object]) -> float:
    """Return how long it takes once."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def normalise(backbone: Backbone, pixels: NDArray[np.uint8]) -> None:
    """Do in NumPy what the graph does by itself."""
    recipe = backbone.spec.preprocessing
    values = pixels.astype(np.float32) / 255
    np.ascontiguousarray(
        ((values - np.float32(recipe.mean)) / np.float32(recipe.std)).transpose(0, 3, 1, 2)
    )


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", nargs="?", default="resnet18", choices=list(ARCHITECTURES))
    network = ARCHITECTURES[parser.parse_args().network]
    warnings.simplefilter("ignore", UnverifiedWeightsWarning)
    pixels = np.random.default_rng(0).integers(0, 256, (N_IMAGES, 224, 224, 3), np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        weights = random_weights(network, Path(folder) / "weights.safetensors")

        def load(n_threads: int) -> Backbone:
            layers = [network.default_layer]
            return load_backbone(network.id, weights=weights, layers=layers, n_threads=n_threads)

        start = time.perf_counter()
        backbone, single = load(n_processors()), load(1)
        print(f"{network.id}: loaded in {(time.perf_counter() - start) / 2:.2f} s")
        cases: dict[str, Callable[[], object]] = {
            f"{n_processors()} threads, batches of {size}": partial(run, backbone, pixels, size)
            for size in (1, 4, 8, 32)
        }
        cases["1 thread, batches of 16"] = partial(run, single, pixels, 16)
        cases["normalisation in NumPy alone"] = partial(normalise, backbone, pixels)
        best = dict.fromkeys(cases, float("inf"))
        # In turn, so that whatever else the machine does falls on all alike.
        for _ in range(N_ROUNDS):
            for name, work in cases.items():
                best[name] = min(best[name], seconds(work))
    loop = best[next(iter(cases))]
    print("| | ms an image | times the speed of one at a time |\n| --- | --- | --- |")
    for name, duration in best.items():
        print(f"| {name} | {duration / N_IMAGES * 1e3:.2f} | {loop / duration:.2f} |")


def run(backbone: Backbone, pixels: NDArray[np.uint8], size: int) -> None:
    """Compute features in batches, which the backbone shares out to its threads."""
    for start in range(0, len(pixels), size):
        backbone(pixels[start : start + size])


if __name__ == "__main__":
    main()
