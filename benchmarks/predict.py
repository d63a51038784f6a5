"""Images a second end to end, against the same network alone on arrays already in memory.

    python benchmarks/predict.py --photos FOLDER --weights FILE
    python benchmarks/predict.py --engine onnxruntime --engine openvino:bf16 --pairs 5

Without a folder, photographs are made up; without weights, the network's are random, which takes
the same time. By default every engine is measured that is installed, in the precisions that this
processor has of its own. Measurements are taken in turn, so that the machine's drift cancels.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from pathlib import Path

import numpy as np
from stopwatch import Times, scratch_folder, timed

from imgtofmri.analyses.predict import predict_images
from imgtofmri.backbones import Backbone
from imgtofmri.backbones.architectures import ARCHITECTURES
from imgtofmri.backbones.engines import Engine, installed_engines
from imgtofmri.encoder import Encoder, Predictor, load_encoder
from imgtofmri.encoder.spatial import BLOCK
from imgtofmri.outputs import NiftiLayout, OutputFolder, VolumeWriter
from imgtofmri.stimuli import Frame, Source, find_sources, read_images

ORIGINAL_S = 604 / 156
"""Seconds an image that the original's own log shows, on 156 images."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder of photographs")
    parser.add_argument("--weights", type=Path, help="ResNet-18 weights")
    parser.add_argument("--n", type=int, default=500, help="photographs (default 500)")
    parser.add_argument("--pairs", type=int, default=3, help="pairs of measurements (default 3)")
    parser.add_argument("--engine", action="append", metavar="NAME[:PRECISION]", help="repeatable")
    options = parser.parse_args()
    with scratch_folder() as scratch:
        folder = options.photos or make_photographs(Path(scratch) / "photos", options.n)
        weights = options.weights or make_weights(Path(scratch) / "weights.safetensors")
        engines = [Engine(*name.split(":")) for name in options.engine or ()] or installed_engines()
        _measure(folder, weights, engines, options.n, options.pairs, Path(scratch))


def _measure(
    folder: Path, weights: Path, engines: list[Engine], n: int, n_pairs: int, scratch: Path
) -> None:
    warnings.simplefilter("ignore")
    encoder = load_encoder()
    sources = [source for source in find_sources([folder])[0] if source.kind == "image"][:n]
    pixels = np.stack([f.pixels for f in read_images(sources) if isinstance(f, Frame)])
    predictors = {
        engine: encoder.predictor(weights=weights, engine=engine.name, precision=engine.precision)
        for engine in engines
    }
    for number, predictor in enumerate(predictors.values()):
        _end_to_end(predictor, sources[:32], scratch / f"warm{number}")
    alone: dict[Engine, list[Times]] = {engine: [] for engine in engines}
    whole: dict[Engine, list[Times]] = {engine: [] for engine in engines}
    # What is written stays until the end, as `scratch_folder` says why.
    for pair in range(n_pairs):
        for engine, predictor in predictors.items():
            network, target = predictor.extractor.network, scratch / f"out{pair}-{engine}"
            alone[engine].append(timed(lambda: network_alone(network, pixels)))  # noqa: B023
            whole[engine].append(timed(lambda: _end_to_end(predictor, sources, target)))  # noqa: B023
    print(f"{len(sources)} photographs, {n_pairs} rounds, medians; files written")
    print("                         images a second              CPU ms an image")
    print("engine                   alone   whole   ratio        alone   whole   ratio")
    for engine in engines:
        print(str(engine).ljust(22) + _row(alone[engine], whole[engine], len(sources)))
    for engine in engines[1:]:
        for what, found in (("alone", alone), ("whole", whole)):
            rounds = zip(found[engines[0]], found[engine], strict=True)
            faster = [before.wall_s / now.wall_s for before, now in rounds]
            shown = ", ".join(f"{one:.2f}" for one in faster)
            median = statistics.median(faster)
            print(f"{engine} is {median:.2f} times {engines[0]}, {what} ({shown})")
    for engine, predictor in predictors.items():
        if trial := predictor.extractor.network.spec.trial:
            print(f"{engine}: {trial.of} of {trial.n_pictures} test pictures, {trial.numbers}")
    features = predictors[engines[0]].extractor.network(pixels[:BLOCK])
    after = timed(lambda: _after_the_network(encoder, features, scratch / "after"))
    print(f"after the network: {after.cpu_s / BLOCK / 10 * 1e3:.2f} CPU ms an image")
    print(f"the original: {1 / ORIGINAL_S:.2f} images/s (its own log)")


def _row(alone: list[Times], whole: list[Times], n: int) -> str:
    said = ""
    for part in ("wall_s", "cpu_s"):
        took = [[getattr(times, part) / n for times in found] for found in (alone, whole)]
        shown = [1 / statistics.median(each) for each in took]
        if part == "cpu_s":
            shown = [1e3 / each for each in shown]
        ratios = [a / b for a, b in zip(*took, strict=True)]
        said += f"{shown[0]:8.1f}{shown[1]:8.1f}{statistics.median(ratios):8.3f}     "
    return said.rstrip()


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
