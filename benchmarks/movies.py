"""Measure movies: peak memory against length, and speed against the network alone.

Each movie is generated, then predicted whole (4-D volume, table and sidecar written) in a process
of its own, which tells its peak memory. The speed is frames a second from the file to the written
volume, against the same network in the same process on the same frames, already in memory, on
every engine that is installed; of one movie, and of many short ones. The processor time a frame
takes is told too: other work on the machine changes it less. Without weights, the network's are
drawn at random, which takes as long.

    python benchmarks/movies.py
    python benchmarks/movies.py --minutes 1 --minutes 120 --rate-hz 0.5
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from stopwatch import scratch_folder

from imgtofmri.backbones.engines import installed_engines

FORMATS = {"small": (96, 64, 10), "sd": (640, 360, 24)}
"""Width, height and pictures a second."""

RATE_HZ = 2.0
SPEED_MINUTES = 5.0
CLIP_S = 3
SCENE_S = 4


def write_movie(
    path: Path, minutes: float, width: int, height: int, fps: int, key_each: int | None = None
) -> None:
    """Write a movie of scenes with the spectrum of natural pictures, slowly panned, in H.264.

    With ``key_each`` one of so many pictures stands alone, and those between refer to it.
    """
    options = {"preset": "medium"}
    if key_each is not None:
        options |= {"g": str(key_each), "keyint_min": str(key_each), "sc_threshold": "0"}
    import av

    rng = np.random.default_rng(0)
    n_pictures = round(minutes * 60 * fps)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for start in range(0, n_pictures, SCENE_S * fps):
            scene = make_scene(rng, 2 * width, 2 * height)
            x, y, pan_x, pan_y = rng.uniform(0, 1, 4)
            for i in range(min(SCENE_S * fps, n_pictures - start)):
                done = i / (SCENE_S * fps)
                left = width * (x + 0.2 * (pan_x - x) * done)
                top = height * (y + 0.2 * (pan_y - y) * done)
                picture = scene.resize(
                    (width, height), Image.Resampling.BILINEAR,
                    box=(left, top, left + 0.99 * width, top + 0.99 * height),
                )  # fmt: skip
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
        container.mux(stream.encode(None))


def make_scene(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """Return a still picture whose amplitudes fall with spatial frequency, as nature's do."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None] * height, np.fft.rfftfreq(width) * width)
    noise = rng.standard_normal((3, *frequency.shape, 2)) @ (1, 1j)
    planes = np.fft.irfft2(noise / np.maximum(frequency, 1) ** 1.2, s=(height, width))
    levels = 127.5 + 50 * planes / planes.std(axis=(1, 2), keepdims=True)
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def now_s() -> npt.NDArray[np.float64]:
    """Return the wall clock's time and the process' processor time."""
    return np.array([time.perf_counter(), time.process_time()])


def predict(path: Path, weights: str, rate_hz: float, engine: str) -> dict[str, float]:
    """Predict a movie, or those of a folder, then frames by the network alone; runs in a child."""
    from imgtofmri.analyses.predict import predict_movies
    from imgtofmri.encoder import load_encoder
    from imgtofmri.outputs import NiftiLayout, OutputFolder
    from imgtofmri.stimuli import Movie, Source

    warnings.simplefilter("ignore")
    # Before all else: libraries that leave the processor's wide registers in use, as isal's
    # checksum does, slow FFmpeg down in their thread afterwards.
    paths = sorted(path.iterdir()) if path.is_dir() else [path]
    decoding_s = sum(map(decode_cpu_s, paths))
    encoder = load_encoder()
    name, _, precision = engine.partition(":")
    predictor = encoder.predictor(weights=weights, engine=name, precision=precision or None)
    network = predictor.extractor.network
    pixels = [frame.pixels for _, frame in zip(range(128), Movie(paths[0]).frames(), strict=False)]
    batches = [np.stack(pixels[i : i + 32]) for i in range(0, len(pixels), 32)]
    network(batches[0])

    def alone_s() -> npt.NDArray[np.float64]:
        start = now_s()
        for batch in batches:
            network(batch)
        return (now_s() - start) / len(pixels)

    before_s = alone_s()
    with scratch_folder() as folder:
        record = OutputFolder(Path(folder), "predict")
        record.begin({})
        sources = [Source(each, each.name, "movie") for each in paths]
        start = now_s()
        predict_movies(
            predictor, sources, record, NiftiLayout(), rate_hz=rate_hz, progress=False,
        )  # fmt: skip
        elapsed_s = now_s() - start
        sidecars = [Path(folder) / NiftiLayout().sidecar(each.name) for each in paths]
        n_frames = sum(json.loads(each.read_text())["NumberOfVolumes"] for each in sidecars)
    wall_s, cpu_s = elapsed_s / n_frames
    network_wall_s, network_cpu_s = (before_s + alone_s()) / 2
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "n_frames": n_frames,
        "wall_ms": wall_s * 1e3,
        "cpu_ms": cpu_s * 1e3,
        "network_wall_ms": network_wall_s * 1e3,
        "network_cpu_ms": network_cpu_s * 1e3,
        "decoding_cpu_ms": decoding_s / n_frames * 1e3,
        "peak_mb": peak_mb,
    }


def decode_cpu_s(path: Path) -> float:
    """Return the processor time that FFmpeg takes to decode every picture, with nothing else."""
    import av

    start = time.process_time()
    with av.open(str(path)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        for _ in container.decode(video=0):
            pass
    return time.process_time() - start


def measure(path: Path, weights: str, rate_hz: float, engine: str) -> dict[str, float]:
    """Run `predict` in a child process."""
    command = [sys.executable, __file__, "--child", str(path), "--rate-hz", str(rate_hz)]
    command += ["--weights", weights, "--engine", engine]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="untrained", help="the network's, from a file")
    parser.add_argument("--minutes", type=float, action="append", help="lengths; 1, 10 and 60")
    parser.add_argument("--rate-hz", type=float, default=RATE_HZ, help="for the memory")
    parser.add_argument("--speed-minutes", type=float, default=SPEED_MINUTES, help="default 5")
    parser.add_argument("--clips", type=int, default=24, help="short movies (default 24)")
    parser.add_argument("--engine", action="append", metavar="NAME[:PRECISION]", help="repeatable")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        [engine] = options.engine
        print(json.dumps(predict(options.child, options.weights, options.rate_hz, engine)))
        return
    engines = options.engine or [f"{one.name}:{one.precision}" for one in installed_engines()]
    with scratch_folder() as folder:
        print(f"Peak memory, {options.rate_hz:g} frames a second of movie\n")
        print("minutes   frames   peak MB")
        for minutes in options.minutes or [1.0, 10.0, 60.0]:
            path = Path(folder) / "memory.mp4"
            write_movie(path, minutes, *FORMATS["small"])
            got = measure(path, options.weights, options.rate_hz, engines[0])
            print(f"{minutes:7g}  {got['n_frames']:7.0f}  {got['peak_mb']:8.0f}", flush=True)
        print(f"\nSpeed, {RATE_HZ:g} frames a second of movie, files written\n")
        print("                                        frames a second", end="")
        print("          CPU ms a frame")
        print("movie               engine              whole   network   ratio", end="")
        print("   whole   network   ratio   all decoded")
        for name, path in _movies(Path(folder), options.speed_minutes, options.clips).items():
            for engine in engines:
                got = measure(path, options.weights, RATE_HZ, engine)
                whole, alone = got["wall_ms"], got["network_wall_ms"]
                cpu, alone_cpu = got["cpu_ms"], got["network_cpu_ms"]
                print(
                    name.ljust(20) + engine.ljust(17)
                    + f"{1e3 / whole:8.1f}{1e3 / alone:10.1f}{alone / whole:8.2f}"
                    + f"{cpu:8.1f}{alone_cpu:10.1f}{alone_cpu / cpu:8.2f}"
                    + f"{got['decoding_cpu_ms']:14.1f}",
                    flush=True,
                )  # fmt: skip


def _movies(folder: Path, minutes: float, n_clips: int) -> dict[str, Path]:
    """Write a movie of each format, and a folder of short ones."""
    found = {}
    for name, (width, height, fps) in FORMATS.items():
        path = folder / f"{name}.mp4"
        write_movie(path, minutes, width, height, fps)
        found[f"{width}x{height}, {fps} Hz"] = path
    width, height, fps = FORMATS["sd"]
    path = folder / "keys.mp4"
    write_movie(path, minutes, width, height, fps, key_each=round(fps / RATE_HZ))
    found["the same, key each"] = path
    clips = folder / "clips"
    clips.mkdir()
    for number in range(n_clips):
        write_movie(clips / f"{number:02d}.mp4", CLIP_S / 60, *FORMATS["sd"])
    found[f"{n_clips} of {CLIP_S} s"] = clips
    return found


if __name__ == "__main__":
    main()
