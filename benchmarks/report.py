"""What the page of results costs: `predict_into` with and without it, on the same photographs.

    python benchmarks/report.py --photos FOLDER --weights FILE

Without a folder, photographs are made up; without weights, the network's are random.

Each pair of runs is in a fresh order; printed are the medians of wall-clock and processor time, the
share that the page takes of them, and its size.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from predict import make_photographs, make_weights

from imgtofmri import load_encoder
from imgtofmri.analyses.predict import predict_into
from imgtofmri.report import PAGE
from imgtofmri.stimuli import find_images


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder of photographs")
    parser.add_argument("--weights", type=Path, help="ResNet-18 weights")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=3)
    asked = parser.parse_args()
    encoder = load_encoder()
    took: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    size = 0
    with tempfile.TemporaryDirectory() as folder:
        photos = asked.photos or make_photographs(Path(folder, "photos"), asked.images)
        weights = asked.weights or make_weights(Path(folder, "weights.safetensors"))
        paths = [image.path for image in find_images([photos])[0][: asked.images]]
        for pair in range(-1, asked.pairs):  # The first pair fills caches and does not count.
            for report in (bool(pair % 2), not pair % 2):
                out = Path(folder, f"{pair}-{report}")
                before = time.perf_counter(), time.process_time()
                chosen = {"weights": weights, "report": report, "progress": False}
                predict_into(out, encoder, paths, **chosen)
                if pair >= 0:
                    wall, processor = time.perf_counter(), time.process_time()
                    took[report].append((wall - before[0], processor - before[1]))
                if report:
                    size = (out / PAGE).stat().st_size
    print(f"{len(paths)} images, page of {size / 1e6:.1f} MB")
    for number, name in enumerate(("wall-clock", "processor")):
        without, with_page = (
            statistics.median(times[number] for times in took[report]) for report in (False, True)
        )
        share = (with_page - without) / without
        print(f"{name}: {without:.2f} s without the page, {with_page:.2f} s with it ({share:+.1%})")


if __name__ == "__main__":
    main()
