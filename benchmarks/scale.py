"""Many stimuli in shards that are killed and repeated, against one run that nothing disturbed.

    python benchmarks/scale.py --n 200000 --shards 8 --kills 3

Pictures of 8 x 8 pixels are made on the fly. A network of one convolution on 16 x 16 pixels and an
encoder of two people and two ROIs on a small grid stand in for the real ones: what is tried is
everything around them. Shards run two at a time in random order; some are ended by SIGKILL in the
middle and run again after all others. Then all files of both stores are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stopwatch import Times, scratch_folder, timed

from imgtofmri.analyses.predict.stores import close_store
from imgtofmri.bundle import Bundle, RoiModel, SubjectModel, write_bundle
from imgtofmri.encoder.saving import COMMAND, RECORD
from imgtofmri.encoder.storing import STORE
from imgtofmri.files import sha256_of
from imgtofmri.outputs import OutputFolder
from imgtofmri.outputs.store import Store
from imgtofmri.outputs.store_plan import DONE
from imgtofmri.outputs.zarr_format import DOCUMENT, file_key
from imgtofmri.spaces import Grid, affine_map

SIDE = 8
N_FEATURES = 5


def main() -> None:
    """Run, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=200_000, help="stimuli (default 200,000)")
    parser.add_argument("--shards", type=int, default=8, help="tasks (default 8)")
    parser.add_argument("--kills", type=int, default=3, help="tasks that are killed (default 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the order and the kills")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    options = parser.parse_args()
    with scratch_folder(options.folder) as scratch:
        sys.exit(run(Path(scratch), options.n, options.shards, options.kills, options.seed))


def run(folder: Path, n: int, n_tasks: int, n_kills: int, seed: int) -> int:
    """Do all in a folder, print what came of it, and return how many things are wrong."""
    rng = random.Random(seed)
    print(f"{n:,} pictures of {SIDE} x {SIDE} pixels, {n_tasks} tasks, {n_kills} killed")
    encoder = make_encoder(folder)
    names = make_pictures(folder / "pictures", n)
    command = ["predict", "--from-file", str(names), "--encoder", str(encoder), "--quiet"]
    command += ["--format", "zarr", "--no-report"]
    whole, out = folder / "whole", folder / "out"

    print("                         by the clock, of processors")
    alone = timed(lambda: _wait(_start([*command, "-o", str(whole)])))
    print(f"one run, undisturbed : {alone}, {n / alone.wall_s:.0f} a second", flush=True)
    killed: list[int] = []
    shards = timed(
        lambda: killed.extend(_in_shards([*command, "-o", str(out)], n_tasks, n_kills, rng))
    )
    n_killed = len(killed)
    said = f"tasks {', '.join(map(str, killed))} killed by SIGKILL and repeated"
    print(f"tasks, two at a time : {shards}, {said}", flush=True)
    print(f"merge                : {timed(lambda: _wait(_start(['merge', str(out), '--quiet'])))}")
    record = record_cost(out)
    share = record.cpu_s / alone.cpu_s
    print(f"of that, the record  : {record}, {share:.2%} of the one run's processor time")
    print(f"load                 : {os.getloadavg()[0]:8.1f} at the end")

    wrong = compare(whole, out, n)
    wrong += [] if n_killed == n_kills else [f"{n_killed} tasks were killed, not {n_kills}"]
    for each in wrong[:20]:
        print(f"WRONG: {each}")
    print(f"files that differ, stimuli that are not there once: {len(wrong)}")
    return min(len(wrong), 100)


def _in_shards(command: list[str], n_tasks: int, n_kills: int, rng: random.Random) -> list[int]:
    """Run all tasks two at a time in random order, then again those killed; return which."""
    out = Path(command[-1])
    order = rng.sample(range(1, n_tasks + 1), n_tasks)
    doomed = rng.sample(order, n_kills)
    waiting = [(task, task in doomed) for task in order] + [(task, False) for task in doomed]
    running: list[tuple[subprocess.Popen[bytes], int, bool]] = []
    killed = []
    while waiting or running:
        while waiting and len(running) < 2:
            task, dies = waiting.pop(0)
            process = _start([*command, "--shard", f"{task}/{n_tasks}"])
            running.append((process, task, dies))
        time.sleep(0.02)
        for one in running[:]:
            process, task, dies = one
            if dies and process.poll() is None and _is_in_the_middle(out / STORE, task, n_tasks):
                process.send_signal(signal.SIGKILL)
                process.wait()
                killed.append(task)
            if process.poll() is not None:
                running.remove(one)
                if process.returncode not in (0, -signal.SIGKILL):
                    _wait(process)
    return killed


def _is_in_the_middle(store: Path, task: int, n_tasks: int) -> bool:
    """Tell whether a task has done some of its shards."""
    if not (store / DOCUMENT).exists():
        return False
    shards = Store.open(store).plan.share(task, n_tasks).shards
    done = sum((store / file_key(DONE, shard)).exists() for shard in shards)
    return done >= max(1, len(shards) // 3)


def record_cost(out: Path) -> Times:
    """Write the record of a run into a store again, and return how long that takes."""
    store = Store.open(out / STORE)
    said = json.loads((out / RECORD).read_text(encoding="utf-8"))

    def write() -> None:
        folder = OutputFolder(out, COMMAND, RECORD)
        folder.claim(resume=True)
        with folder.begin(said["settings"], said["prediction"]):
            close_store(folder, store)

    return timed(write)


def compare(whole: Path, out: Path, n: int) -> list[str]:
    """Return what is wrong: files of stores that differ, stimuli that are not there once."""
    from imgtofmri import Prediction

    stores = [folder / "predictions.zarr" for folder in (whole, out)]
    files = [{p.relative_to(store) for p in store.rglob("*") if p.is_file()} for store in stores]
    wrong = [f"{file} is in one store only" for file in sorted(files[0] ^ files[1])]
    wrong += [
        f"{file} differs"
        for file in sorted(files[0] & files[1])
        if sha256_of(stores[0] / file) != sha256_of(stores[1] / file)
    ]
    stored = Prediction.open(out)
    if len(stored) != n or len(set(stored.names)) != n:
        wrong.append(f"{len(set(stored.names))} stimuli in {len(stored)} rows, not {n}")
    group = np.asarray(stored.group)
    wrong += [f"row {row} holds no map" for row in np.flatnonzero(~np.isfinite(group).all(axis=1))]
    return wrong


def _start(arguments: Sequence[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", "imgtofmri", *arguments], stderr=subprocess.PIPE)


def _wait(process: subprocess.Popen[bytes]) -> None:
    _, said = process.communicate()
    if process.returncode:
        message = f"{process.args}: {said.decode()}"
        raise SystemExit(message)


def make_encoder(folder: Path) -> Path:
    """Write a small encoder and the network beside it that it was not fitted on but names."""
    rng = np.random.default_rng(1)
    network = _make_network(folder / "tiny.onnx")
    template = Grid((14, 12, 10), np.diag([2.0, 2, 2, 1]))
    own = Grid((9, 9, 9), np.diag([2.5, 2.5, 2.5, 1]))
    to_template = affine_map(own, template, np.eye(4))
    subjects = []
    for name in ("S1", "S2"):
        rois = {}
        for roi, first in (("LOC", 200), ("PPA", 300)):
            rois[roi] = RoiModel(
                voxels=np.arange(first, first + 30).astype(np.int32),
                hemi=np.repeat(np.array([0, 1], np.uint8), 15),
                weights=rng.normal(size=(N_FEATURES, 30)).astype(np.float32),
                intercept=rng.normal(size=30).astype(np.float32),
            )
        every = np.concatenate([model.voxels for model in rois.values()])
        subjects.append(SubjectModel(name, own, to_template.restrict(every), rois))
    spec = network.spec
    features = {
        "id": spec.features_id,
        "backbone": "tiny.onnx",
        "layers": list(spec.layers),
        "n_features": spec.n_features,
        "preprocessing": spec.preprocessing.to_dict(),
        "weights": {"name": "tiny.onnx", "sha256": spec.weights_sha256},
    }
    card: dict[str, Any] = {
        "id": "tiny",
        "title": "Two small ROIs of two people who do not exist",
        "licence": "CC0",
        "citation": "none",
        "features": features,
        "template": {"space": "MNI152NLin6Asym"},
    }
    write_bundle(Bundle(card, template, tuple(subjects)), folder / "tiny.safetensors")
    return folder / "tiny.safetensors"


def _make_network(path: Path) -> Any:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from imgtofmri.backbones import load_backbone

    kernel = np.random.default_rng(2).standard_normal((N_FEATURES, 3, 8, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "kernel"], ["conv"], strides=[4, 4]),
        helper.make_node("Relu", ["conv"], ["out"]),
    ]
    shape = ["n", 3, 2 * SIDE, 2 * SIDE]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", N_FEATURES, None, None])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return load_backbone(path)


def make_pictures(folder: Path, n: int, seed: int = 0) -> Path:
    """Write different small pictures, a thousand in a folder, and the list of them."""
    rng = np.random.default_rng(seed)
    header = b"P6 %d %d 255\n" % (SIDE, SIDE)
    names = []
    for first in range(0, n, 1000):
        some = folder / f"{first // 1000:04d}"
        some.mkdir(parents=True)
        pixels = rng.integers(0, 256, (min(1000, n - first), SIDE * SIDE * 3), dtype=np.uint8)
        for number, row in enumerate(pixels, first):
            path = some / f"{number:07d}.ppm"
            path.write_bytes(header + row.tobytes())
            names.append(str(path))
    (folder / "list.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return folder / "list.txt"


if __name__ == "__main__":
    main()
