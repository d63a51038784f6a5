"""Measure movies: peak memory against length, and speed against the network alone.

Each movie is generated, then predicted whole (4-D volume, table and sidecar written) in a process
of its own, which tells its peak memory. The speed is frames a second from the file to the written
volume, against the same network in the same process on the same frames, already in memory. The
processor time a frame takes is told too: other work on the machine changes it less.

    python benchmarks/movies.py --weights resnet18.safetensors
    python benchmarks/movies.py --minutes 1 --minutes 120 --rate-hz 2
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt

FORMATS = {"small": (96, 64, 10), "sd": (640, 360, 24)}
"""Width, height and pictures a second."""

MEMORY_RATE_HZ = 0.5
SPEED_RATE_HZ = 2.0


def write_movie(path: Path, minutes: float, width: int, height: int, fps: int) -> None:
    """Write a movie of a pattern that moves, in H.264."""
    import av

    rows, columns = np.mgrid[:height, :width]
    texture = np.random.default_rng(0).integers(0, 60, (height, 2 * width, 1))
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        base = np.stack([rows * 190 // height, columns * 190 // width, 95 + 0 * rows], axis=2)
        for i in range(round(minutes * 60 * fps)):
            place = i % width
            picture = (base + texture[:, place : place + width]).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def now_s() -> npt.NDArray[np.float64]:
    """Return the wall clock's time and the process' processor time."""
    return np.array([time.perf_counter(), time.process_time()])


def predict(path: Path, weights: Path | None, rate_hz: float) -> dict[str, float]:
    """Predict a movie into a folder, then its frames by the network alone; runs in a child."""
    from imgtofmri.encoder import load_encoder
    from imgtofmri.outputs import NiftiLayout, RunRecord, predict_movies
    from imgtofmri.stimuli import Source, read_movie

    warnings.simplefilter("ignore")
    encoder = load_encoder()
    network = encoder.pipeline(weights=weights).network
    pixels = [frame.pixels for _, frame in zip(range(64), read_movie(path), strict=False)]
    batches = [np.stack(pixels[i : i + 16]) for i in range(0, len(pixels), 16)]
    network(batches[0])

    def alone_s() -> npt.NDArray[np.float64]:
        start = now_s()
        for batch in batches:
            network(batch)
        return (now_s() - start) / len(pixels)

    before_s = alone_s()
    with tempfile.TemporaryDirectory() as folder:
        record = RunRecord.start(Path(folder), {})
        source = Source(path, path.name, "movie")
        start = now_s()
        predict_movies(
            encoder, [source], record, NiftiLayout(), {"weights": weights},
            rate_hz=rate_hz, progress=False,
        )  # fmt: skip
        elapsed_s = now_s() - start
        sidecar = json.loads((Path(folder) / NiftiLayout().sidecar(path.name)).read_text())
    n_frames = sidecar["NumberOfVolumes"]
    wall_s, cpu_s = elapsed_s / n_frames
    network_wall_s, network_cpu_s = (before_s + alone_s()) / 2
    return {
        "n_frames": n_frames,
        "wall_ms": wall_s * 1e3,
        "cpu_ms": cpu_s * 1e3,
        "network_wall_ms": network_wall_s * 1e3,
        "network_cpu_ms": network_cpu_s * 1e3,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def measure(path: Path, weights: Path | None, rate_hz: float) -> dict[str, float]:
    """Run `predict` in a child process."""
    command = [sys.executable, __file__, "--child", str(path), "--rate-hz", str(rate_hz)]
    if weights is not None:
        command += ["--weights", str(weights)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="the network's weights, from a file")
    parser.add_argument("--minutes", type=float, action="append", help="lengths; 1, 10 and 60")
    parser.add_argument("--rate-hz", type=float, default=MEMORY_RATE_HZ, help="for the memory")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(predict(options.child, options.weights, options.rate_hz)))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(f"Peak memory, {options.rate_hz:g} frames a second of movie\n")
        print("minutes   frames   peak MB")
        for minutes in options.minutes or [1.0, 10.0, 60.0]:
            path = Path(folder) / "memory.mp4"
            write_movie(path, minutes, *FORMATS["small"])
            got = measure(path, options.weights, options.rate_hz)
            print(f"{minutes:7g}  {got['n_frames']:7.0f}  {got['peak_mb']:8.0f}", flush=True)
        print(f"\nSpeed, {SPEED_RATE_HZ:g} frames a second of movie, files written\n")
        print("movie             frames/s   network alone   ratio   CPU ms a frame   alone   ratio")
        for name, (width, height, fps) in FORMATS.items():
            path = Path(folder) / f"{name}.mp4"
            write_movie(path, 2.0, width, height, fps)
            got = measure(path, options.weights, SPEED_RATE_HZ)
            wall, cpu = (
                got["network_wall_ms"] / got["wall_ms"],
                got["network_cpu_ms"] / got["cpu_ms"],
            )
            print(
                f"{width}x{height}, {fps} Hz".ljust(18)
                + f"{1e3 / got['wall_ms']:8.1f} {1e3 / got['network_wall_ms']:15.1f} {wall:7.2f}"
                + f"{got['cpu_ms']:17.1f} {got['network_cpu_ms']:7.1f} {cpu:7.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
