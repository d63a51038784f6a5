"""What the page of results costs: `predict_into` with and without it, on the same photographs.

    python benchmarks/report.py --photos FOLDER --weights FILE
    python benchmarks/report.py --photos FOLDER --backbone efficientnet-lite0

Without a folder, photographs are made up; without weights, those of ResNet-18 are random.

Each pair of runs is in a fresh order; printed are the medians of wall-clock and processor time, the
median over pairs of the share that the page adds to them and their range, the page's size, and the
machine's load before and after.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path

from predict import make_photographs, make_weights
from stopwatch import scratch_folder

from imgtofmri import load_encoder
from imgtofmri.analyses.predict import predict_into
from imgtofmri.report import PAGE
from imgtofmri.stimuli import find_images


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, help="folder of photographs")
    parser.add_argument("--weights", type=Path, help="the network's weights")
    parser.add_argument("--backbone", help="the network (default: ResNet-18)")
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=3)
    asked = parser.parse_args()
    encoder = load_encoder()
    took: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    size, before_all = 0, os.getloadavg()
    with scratch_folder() as folder:
        photos = asked.photos or make_photographs(Path(folder, "photos"), asked.images)
        weights = asked.weights
        if weights is None and asked.backbone is None:
            weights = make_weights(Path(folder, "weights.safetensors"))
        paths = [image.path for image in find_images([photos])[0][: asked.images]]
        for pair in range(-1, asked.pairs):  # The first pair fills caches and does not count.
            for report in (bool(pair % 2), not pair % 2):
                out = Path(folder, f"{pair}-{report}")
                before = time.perf_counter(), time.process_time()
                chosen = {"weights": weights, "backbone": asked.backbone, "report": report}
                predict_into(out, encoder, paths, progress=False, **chosen)
                if pair >= 0:
                    wall, processor = time.perf_counter(), time.process_time()
                    took[report].append((wall - before[0], processor - before[1]))
                if report:
                    size = (out / PAGE).stat().st_size
    load = f"load {before_all[0]:.1f} before, {os.getloadavg()[0]:.1f} after"
    print(f"{len(paths)} images, {asked.pairs} pairs, page of {size / 1e6:.1f} MB; {load}")
    for number, name in enumerate(("wall-clock", "processor")):
        pairs = [
            (without[number], with_page[number])
            for without, with_page in zip(took[False], took[True], strict=True)
        ]
        without, with_page = map(statistics.median, zip(*pairs, strict=True))
        shares = sorted(after / before - 1 for before, after in pairs)
        print(
            f"{name}: {without:.2f} s without the page, {with_page:.2f} s with it "
            f"({statistics.median(shares):+.1%}; {shares[0]:+.1%} to {shares[-1]:+.1%})"
        )


if __name__ == "__main__":
    main()
