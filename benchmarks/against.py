"""Whole commands of this tree, and of another one or another release beside it, in turn.

    python benchmarks/against.py --photos FOLDER --weights FILE
    python benchmarks/against.py --against ../imgtofmri-0.1 --against older-environment/

What is named is a checkout, or a virtual environment in which a release is installed. Without one
it is this tree alone: how long it takes to start, to predict one image, many, and a movie.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

from movies import FORMATS, write_movie
from predict import make_photographs, make_weights
from stopwatch import Times, scratch_folder, timed

HERE = Path(__file__).resolve().parents[1]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", type=Path, help="folder of photographs")
    parser.add_argument("--weights", type=Path, help="ResNet-18 weights")
    parser.add_argument("--against", type=Path, action="append", default=[], help="repeatable")
    parser.add_argument("--n", type=int, default=300, help="photographs (default 300)")
    parser.add_argument("--rounds", type=int, default=5, help="in turn (default 5)")
    parser.add_argument("--minutes", type=float, default=1.0, help="of the movie (default 1)")
    options = parser.parse_args()
    with scratch_folder() as folder:
        scratch = Path(folder)
        photos = options.photos or make_photographs(scratch / "photos", options.n)
        weights = options.weights or make_weights(scratch / "weights.safetensors")
        images = sorted(path for path in photos.iterdir() if path.suffix == ".jpg")[: options.n]
        movie = scratch / "movie.mp4"
        write_movie(movie, options.minutes, *FORMATS["sd"])
        name = f"a movie of {options.minutes:g} min, 640x360, 24 Hz"
        compare([HERE, *options.against], images, {name: movie}, weights, options.rounds, scratch)


def compare(
    trees: list[Path],
    images: list[Path],
    movies: dict[str, Path],
    weights: Path,
    n_rounds: int,
    scratch: Path,
) -> None:
    """Run every command on every tree, round after round, and print medians."""
    predict = ["predict", "--weights", str(weights), "--quiet", "--no-report"]
    commands = {
        "imgtofmri --help": ["--help"],
        "one image": [*predict, str(images[0])],
        f"{len(images)} images": [*predict, *map(str, images)],
        **{name: [*predict, str(movie)] for name, movie in movies.items()},
    }
    times: dict[tuple[str, Path], list[Times]] = {}
    for number in range(-1, n_rounds):  # The first round fills caches and does not count.
        for name, arguments in commands.items():
            for place, tree in enumerate(trees):
                # Kept until the end, as those of predict.py are.
                out = ["-o", str(scratch / f"{name} {number} {place}")]
                took = run(tree, arguments + (out if arguments[0] == "predict" else []))
                if number >= 0:
                    times.setdefault((name, tree), []).append(took)
    print(f"Whole processes, medians of {n_rounds} rounds: seconds by the clock, of processors")
    for name in commands:
        first = times[name, trees[0]]
        for tree in trees:
            found = times[name, tree]
            wall_s, cpu_s = (
                statistics.median(getattr(times, part) for times in found)
                for part in ("wall_s", "cpu_s")
            )
            rounds = zip(first, found, strict=True)
            ratio = statistics.median(now.wall_s / before.wall_s for before, now in rounds)
            said = "" if tree == trees[0] else f"   {ratio:.2f} times this tree's ({tree.name})"
            print(f"{name:<40}{wall_s:8.2f}{cpu_s:8.2f}{said}")


def run(tree: Path, arguments: list[str]) -> Times:
    """Run a command of a tree; return how long it took."""
    installed = tree / "bin" / "imgtofmri"
    environment = dict(os.environ)
    if (tree / "src" / "imgtofmri").is_dir():
        command = [sys.executable, "-m", "imgtofmri"]
        environment["PYTHONPATH"] = str(tree / "src")
    elif installed.exists():
        command = [str(installed)]
        environment.pop("PYTHONPATH", None)
    else:
        message = f"{tree}: expected a checkout, or an environment with imgtofmri in it."
        raise SystemExit(message)
    words = [*command, *arguments]
    return timed(
        lambda: subprocess.run(words, check=True, env=environment, capture_output=True, text=True)
    )


if __name__ == "__main__":
    main()
