"""Processor time of each step of a picture and of a frame, on one thread, and what many would take.

    python benchmarks/costs.py --photos FOLDER --weights FILE

Without a folder, photographs are made up; without weights, the network's are random, which takes
the same time. Each step is repeated and its least time taken, which other work on the machine
changes least. The last lines multiply: 1.3 million photographs and a year of film.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ["IMGTOFMRI_THREADS"] = "1"

import numpy as np
from movies import write_movie
from predict import make_photographs, make_weights
from scale import make_encoder
from stopwatch import scratch_folder

from imgtofmri import load_encoder
from imgtofmri.analyses.predict.stores import StoreRun, count_rows
from imgtofmri.encoder import Encoder, Prediction
from imgtofmri.encoder.storing import plan_store, store_constants, store_rows
from imgtofmri.outputs import OutputFolder, VolumeWriter
from imgtofmri.outputs.store import Store
from imgtofmri.outputs.store_plan import Roster
from imgtofmri.outputs.store_writer import RowWriter
from imgtofmri.stimuli import Frame, Movie, find_sources, read_images, read_list

N = 96
YEAR_S = 365.25 * 86400
IMAGES = 1_300_000
CORES = (1, 16, 1000)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder of photographs")
    parser.add_argument("--weights", type=Path, help="ResNet-18 weights")
    parser.add_argument("--repeats", type=int, default=7, help="of each step (default 7)")
    parser.add_argument("--names", type=int, default=IMAGES, help="names in the list")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with scratch_folder() as folder:
        scratch = Path(folder)
        photos = options.photos or make_photographs(scratch / "photos", N)
        weights = options.weights or make_weights(scratch / "weights.safetensors")
        image = _image_costs(photos, weights, options.repeats, scratch)
        frame = _frame_costs(options.repeats, scratch)
        name = _name_costs(options.names, scratch)
    network = image["network"] + image["spatial part"] + image["into a store"]
    each = image["decoding"] + network
    print("\nprocessor time of one thread, times the number, divided by cores")
    for what, n, ms in (
        ("1.3 million photographs", IMAGES, each),
        ("a year of film, 2 frames a second", int(2 * YEAR_S), frame + network),
    ):
        hours = n * ms / 3.6e6
        spans = ", ".join(f"{_time(hours / cores)} on {cores:,}" for cores in CORES)
        print(f"{what}: {n:,} x {ms:.1f} ms = {hours:,.1f} h; {spans} cores")
    print(f"a task reads {IMAGES:,} names and joins the store in {IMAGES * name / 1e6:.0f} s")


def _image_costs(photos: Path, weights: Path, repeats: int, scratch: Path) -> dict[str, float]:
    """Print and return milliseconds of a photograph's steps."""
    sources = [source for source in find_sources([photos])[0] if source.kind == "image"][:N]
    encoder = load_encoder()
    network = encoder.predictor(weights=weights).extractor.network
    pixels = np.stack([f.pixels for f in read_images(sources) if isinstance(f, Frame)])
    features = network(pixels)
    part = encoder.predict_features(features[:32])
    volumes = VolumeWriter(part.mask, part.affine)
    steps: dict[str, tuple[int, Callable[[], object]]] = {
        "decoding": (len(sources), lambda: [*read_images(sources, n_workers=1)]),
        "network": (N, lambda: [network(pixels[k : k + 16]) for k in range(0, N, 16)]),
        "spatial part": (32, lambda: encoder.predict_features(features[:32])),
        "into a store": (512, lambda: _into_store(encoder, part, scratch)),
        "as a volume": (32, lambda: [volumes.encode(row) for row in part.group]),
        "in the record": (4096, lambda: _into_record(scratch)),
    }
    size = np.mean([source.path.stat().st_size for source in sources])
    print(f"{len(sources)} photographs of {size / 1e3:.0f} kB")
    found = {}
    for step, (n, work) in steps.items():
        found[step] = _least_ms(work, repeats) / n
        print(f"{step:14s}: {found[step]:8.3f} ms")
    return found


def _into_store(encoder: Encoder, part: Prediction, scratch: Path) -> None:
    plan = plan_store(part, 512, unit="z")
    names = [str(number) for number in range(512)]
    constants = store_constants(part, part.affine, plan)
    store = Store.create(scratch / "s.zarr", plan, Roster(names), constants, {}, {})
    with RowWriter(store, range(512)) as writer:
        for _ in range(16):
            writer.add(store_rows(part, plan))


def _into_record(scratch: Path) -> None:
    folder = OutputFolder(scratch / "record", "predict")
    folder.claim(overwrite=True)
    with folder.begin({}):
        for number in range(4096):
            name = f"n{number:08d}.JPEG"
            folder.add(name, "0" * 64, {f"{name}.nii.gz": "1" * 64}, Path("train") / name)


def _frame_costs(repeats: int, scratch: Path) -> float:
    """Print and return milliseconds until a frame of a film is ready for the network."""
    write_movie(scratch / "film.mp4", 0.25, 640, 360, 24)
    n = Movie(scratch / "film.mp4").n_frames(2.0) or 1
    ms = _least_ms(lambda: [*Movie(scratch / "film.mp4").frames(2.0)], repeats) / n
    print(f"{'film':14s}: {ms:8.3f} ms a frame, 640 x 360 at 24 Hz, 2 taken a second")
    return ms


def _name_costs(n: int, scratch: Path) -> float:
    """Print and return microseconds of a name in a list, until a task begins with its shards."""
    folders = (f"train/n{number % 1000:08d}/n{number:08d}.JPEG\n" for number in range(n))
    (scratch / "list.txt").write_text("".join(folders), encoding="utf-8")
    predictor = load_encoder(make_encoder(scratch)).predictor()

    def join() -> None:
        rows = count_rows(read_list(scratch / "list.txt"), [], 2.0, print)
        StoreRun.create(predictor, rows, scratch / "many.zarr", {})

    join()
    us = 1e3 * _least_ms(join, 2) / n
    print(f"{'in a list':14s}: {us / 1e3:8.3f} ms, {n:,} names, store joined")
    return us


def _least_ms(work: Callable[[], object], repeats: int) -> float:
    least = float("inf")
    for _ in range(repeats):
        start = time.process_time()
        work()
        least = min(least, time.process_time() - start)
    return least * 1e3


def _time(hours: float) -> str:
    if hours < 2:
        return f"{hours * 60:.0f} min"
    return f"{hours:.0f} h" if hours < 72 else f"{hours / 24:.0f} days"


if __name__ == "__main__":
    main()
