"""Images a second into files, into a store and into ROI means alone, by processes; and the writers.

    python benchmarks/store.py --photos FOLDER --weights FILE

Without a folder, photographs are made up; without weights, the network's are random, which takes
the same time. The ways are measured in turn, in rounds, so that the machine's drift cancels.
"""

from __future__ import annotations

import argparse
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from predict import make_photographs, make_weights, network_alone
from stopwatch import Times, scratch_folder, seconds, timed

from imgtofmri import Prediction
from imgtofmri.analyses.predict import predict_into
from imgtofmri.encoder import Encoder, load_encoder
from imgtofmri.encoder.exporting import export_store
from imgtofmri.encoder.spatial import BLOCK
from imgtofmri.encoder.storing import STORE
from imgtofmri.files import write_all
from imgtofmri.outputs import VolumeWriter
from imgtofmri.outputs.store import Constant, Store
from imgtofmri.outputs.store_plan import Roster, StorePlan
from imgtofmri.outputs.store_writer import RowWriter
from imgtofmri.stimuli import Frame, find_sources, read_images

WAYS: dict[str, dict[str, Any]] = {
    "files (NIfTI)": {},
    "a store": {"format": "zarr"},
    "a store, float16": {"format": "zarr", "dtype": "float16"},
    "a store, with subjects": {"format": "zarr", "subjects": True},
    "ROI means alone": {"rois_only": True},
}


N_WORKERS = (1, 2)
ENCODER = "bold5000-resnet18"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder of photographs")
    parser.add_argument("--weights", type=Path, help="ResNet-18 weights")
    parser.add_argument("--n", type=int, default=500, help="photographs (default 500)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds (default 3)")
    parser.add_argument(
        "--maps", type=int, default=4096, help="maps for the writers (default 4096)"
    )
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    encoder = load_encoder()
    with scratch_folder() as folder:
        scratch = Path(folder)
        photos = options.photos or make_photographs(scratch / "photos", options.n)
        weights = options.weights or make_weights(scratch / "weights.safetensors")
        _end_to_end(encoder, photos, weights, options.n, options.rounds, scratch)
        _workers(photos, weights, options.n, options.rounds, scratch)
        _writers(encoder, options.maps, options.rounds, scratch)


def _end_to_end(
    encoder: Encoder, photos: Path, weights: Path, n: int, n_rounds: int, scratch: Path
) -> None:
    sources = [source for source in find_sources([photos])[0] if source.kind == "image"][:n]
    paths = [source.path for source in sources]
    network = encoder.predictor(weights=weights).extractor.network
    pixels = np.stack([f.pixels for f in read_images(sources) if isinstance(f, Frame)])
    chosen: dict[str, Any] = {"weights": weights, "progress": False}
    predict_into(scratch / "warm", encoder, paths[:64], **chosen)
    times: dict[str, list[Times]] = {"network alone": []} | {way: [] for way in WAYS}
    for number in range(n_rounds):
        times["network alone"].append(timed(lambda: network_alone(network, pixels)))
        for way, more in WAYS.items():
            target = scratch / f"{way} {number}"
            times[way].append(
                timed(lambda: predict_into(target, encoder, paths, **chosen, **more))  # noqa: B023
            )
    print(f"{len(sources)} photographs, {n_rounds} rounds, medians; ratios to the network alone")
    _print_rates(times, len(sources))
    out = scratch / "a store 0"
    took = seconds(lambda: export_store(out, scratch / "exported", progress=False))
    print(f"{'exported to NIfTI':<24}: {len(sources) / took:8.1f} images/s")


def _workers(photos: Path, weights: Path, n: int, n_rounds: int, scratch: Path) -> None:
    """Measure processes that make one store, from their start to the record."""
    paths = [source.path for source in find_sources([photos])[0] if source.kind == "image"][:n]
    names = {workers: f"a store, processes: {workers}" for workers in N_WORKERS}
    times: dict[str, list[Times]] = {name: [] for name in names.values()}
    for number in range(n_rounds):
        for workers, name in names.items():
            chosen = {"weights": weights, "workers": workers, "format": "zarr", "progress": False}
            target = scratch / f"by {workers} {number}"
            times[name].append(timed(lambda: predict_into(target, ENCODER, paths, **chosen)))  # noqa: B023
    _print_rates(times, len(paths))


def _print_rates(times: dict[str, list[Times]], n: int) -> None:
    """Print images a second and processor time, and both against the first of these ways."""
    first = next(iter(times.values()))
    for way, found in times.items():
        said = f"{way:<24}: "
        for part, unit in (("wall_s", "images/s"), ("cpu_s", "CPU ms an image")):
            took = statistics.median(getattr(one, part) for one in found) / n
            rounds = zip(first, found, strict=True)
            ratio = statistics.median(getattr(a, part) / getattr(b, part) for a, b in rounds)
            said += f"{1 / took if part == 'wall_s' else 1e3 * took:8.1f} {unit}{ratio:7.3f}   "
        print(said.rstrip())


def _writers(encoder: Encoder, n: int, n_rounds: int, scratch: Path) -> None:
    """Measure how fast maps of the encoder's mask are written when they cost nothing."""
    spatial = encoder.spatial_model()
    mask, n_voxels = spatial.mask, int(spatial.mask.sum())
    maps = np.random.default_rng(0).normal(size=(BLOCK, n_voxels)).astype(np.float32)
    volumes = VolumeWriter(mask, encoder.bundle.template.affine)

    def nifti(folder: Path) -> None:
        for first in range(0, n, BLOCK):
            data = {folder / f"{first + k}.nii.gz": volumes.encode(maps[k]) for k in range(BLOCK)}
            write_all(data)

    def store(folder: Path, **more: Any) -> None:
        plan = StorePlan(n, n_voxels, ("S",), ("LOC",), **({"shard_rows": 1024} | more))
        constants = {"mask": Constant(mask, ("x", "y", "z"))}
        names = [f"{number}.jpg" for number in range(n)]
        made = Store.create(folder, plan, Roster(names), constants, {}, {})
        means, digests = np.zeros((BLOCK, 1, 3, 1)), np.zeros((BLOCK, 32), np.uint8)
        rows = {"rois": means, "digest": digests} | dict.fromkeys(plan.maps, maps)
        with RowWriter(made, range(n)) as writer:
            for first in range(0, n, BLOCK):
                some = slice(0, min(BLOCK, n - first))
                writer.add({name: values[some] for name, values in rows.items()})

    ways: dict[str, Callable[[Path], None]] = {
        "files (NIfTI)": nifti,
        "a store": store,
        "a store, float16": lambda folder: store(folder, dtype="float16"),
        "ROI means alone": lambda folder: store(folder, maps=()),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(n_rounds):
        for way, write in ways.items():
            folder = scratch / f"written {way} {number}"
            times[way].append(seconds(lambda: write(folder)))  # noqa: B023
    print(f"{n} maps of {n_voxels} voxels, written alone, {n_rounds} rounds, medians")
    for way, found in times.items():
        print(f"{way:<24}: {n / statistics.median(found):8.0f} maps/s")
    _read_one(scratch / "a store 0", scratch / "written a store 0")


def _read_one(run: Path, store: Path) -> None:
    """Measure how long one map takes to be had."""
    stored = Prediction.open(run)
    rows = np.random.default_rng(1).integers(0, len(stored), 50).tolist()
    own = statistics.median(seconds(lambda: stored.group[row]) for row in rows)  # noqa: B023
    array = zarr.open_group(run / STORE, mode="r")["group"]
    other = statistics.median(seconds(lambda: array[row]) for row in rows)  # noqa: B023
    opened = seconds(lambda: Prediction.open(run))
    print(f"one map read            : {own * 1e3:8.2f} ms, by zarr {other * 1e3:.2f} ms")
    print(f"store opened            : {opened * 1e3:8.2f} ms, of {len(stored)} stimuli")
    n_bytes = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
    print(f"store on disk           : {n_bytes / 1e6:8.1f} MB")


if __name__ == "__main__":
    main()
