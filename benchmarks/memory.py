"""Peak memory of ever more images, predicted into volumes with a record, a table and a page.

    python benchmarks/memory.py
    python benchmarks/memory.py --n 200 --n 2000
    python benchmarks/memory.py --n 500 --no-report

Pictures of 8 x 8 pixels are made on the fly. The network is loaded and answers the first of them;
then a stand-in answers, whose features differ from picture to picture and cost no time: what a
network holds does not depend on how many pictures there are.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from stopwatch import scratch_folder

from imgtofmri.backbones import Backbone

SIZES = (500, 5_000, 50_000)
SIDE = 8


class Quick:
    """A network for its first call, and thin air afterwards."""

    def __init__(self, network: Backbone) -> None:
        self.spec, self._network = network.spec, network
        self._first: npt.NDArray[np.float32] | None = None

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Return features of the right shape, which depend on the pixels."""
        if self._first is None:
            self._first = self._network(pixels[:1])[0]
        scale = pixels[:, ::32, ::32].reshape(len(pixels), -1).astype(np.float32)
        wide = np.resize(scale.T, (self.spec.n_features, len(pixels))).T
        return self._first * (1 + wide / 255)


def make_pictures(folder: Path, n: int) -> None:
    """Write small pictures, each another."""
    from PIL import Image

    folder.mkdir()
    for number in range(n):
        rng = np.random.default_rng(number)
        pixels = rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:06d}.png")


def child(folder: Path, out: Path, report: bool) -> None:
    """Predict a folder and print the peak memory of this process, in MB, and the seconds."""
    from imgtofmri.analyses.predict import predict_into
    from imgtofmri.encoder import load_encoder

    warnings.simplefilter("ignore")
    encoder = load_encoder(progress=False)
    network = Quick(encoder.extractor(weights="untrained").network)
    start = time.perf_counter()
    predict_into(out, encoder, folder, backbone=network, report=report, progress=False)
    took = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps([peak, took]))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, action="append", help=f"images (default {SIZES})")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary folder)")
    parser.add_argument("--no-report", action="store_true", help="without the page")
    parser.add_argument("--child", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        child(*options.child, not options.no_report)
        return
    print("  images   peak MB   images a second, without the network")
    for n in options.n or SIZES:
        with scratch_folder(options.folder) as scratch:
            make_pictures(Path(scratch) / "pictures", n)
            command = [sys.executable, __file__, "--child", f"{scratch}/pictures", f"{scratch}/out"]
            command += ["--no-report"] if options.no_report else []
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            peak, took = json.loads(done.stdout.splitlines()[-1])
            print(f"{n:8,}{peak:10.0f}{n / took:10.1f}", flush=True)


if __name__ == "__main__":
    main()
