"""All that `make bench` measures, in one run: what docs/explanation/speed.md quotes.

    python benchmarks/bench.py --photos FOLDER --weights FILE
    python benchmarks/bench.py --quick --against ../another-checkout
    python benchmarks/bench.py --only images --only memory

Each part is a script of this folder that can be run alone. Photographs are made up and the weights
are random where none are named, which takes the same time. The quick run shows that everything
works; its figures are not to be quoted.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stopwatch import KEPT, scratch_folder

ABILITIES = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Part:
    """A script, and what it is asked for.

    Attributes
    ----------
    script : str
    arguments : tuple of str
    quick : tuple of str
        The arguments of the quick run.
    takes : tuple of str
        Which of ``--photos``, ``--weights`` and ``--against`` it knows.
    """

    script: str
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()


PARTS = {
    "images": Part(
        "predict.py",
        ("--n", "300", "--pairs", "5"),
        ("--n", "48", "--pairs", "1"),
        ("photos", "weights"),
    ),
    "movies": Part(
        "movies.py",
        ("--minutes", "1", "--minutes", "10"),
        ("--minutes", "0.2", "--speed-minutes", "0.2", "--clips", "4"),
        ("weights",),
    ),
    "memory": Part("memory.py", (), ("--n", "100", "--n", "400")),
    "commands": Part(
        "against.py",
        (),
        ("--n", "16", "--rounds", "1", "--minutes", "0.1"),
        ("photos", "weights", "against"),
    ),
    "page": Part("report.py", (), ("--images", "48", "--pairs", "1"), ("photos", "weights")),
    "stores": Part(
        "store.py",
        (),
        ("--n", "64", "--rounds", "1", "--maps", "256"),
        ("photos", "weights"),
    ),
    "costs": Part("costs.py", (), ("--help",), ("photos", "weights")),
    "shards": Part("scale.py", (), ("--n", "2000")),
}
"""In the order in which they run. Another part is one more line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts; return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photos", help="folder of photographs")
    parser.add_argument("--weights", help="ResNet-18 weights")
    parser.add_argument("--against", action="append", default=[], help="another tree; repeatable")
    parser.add_argument("--only", action="append", choices=PARTS, help="repeatable; default all")
    parser.add_argument("--quick", action="store_true", help="a few images of each")
    options = parser.parse_args(arguments)
    with scratch_folder() as folder:
        os.environ[KEPT] = str(folder)
        return _run(options)


def _run(options: argparse.Namespace) -> int:
    n_processors, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(f"{processor()}, {n_processors} processors, load {load:.1f}")
    failed = []
    for name in options.only or PARTS:
        part = PARTS[name]
        asked = list(part.quick if options.quick else part.arguments)
        asked += [
            word
            for option in part.takes
            for value in _values(getattr(options, option))
            for word in (f"--{option}", value)
        ]
        print(f"\n== {name}: {part.script} {' '.join(asked)}\n", flush=True)
        start = time.perf_counter()
        done = subprocess.run([sys.executable, str(HERE / part.script), *asked])
        load = os.getloadavg()[0]
        print(f"\n({time.perf_counter() - start:.0f} s, load {load:.1f} at the end)", flush=True)
        if done.returncode:
            failed.append(name)
    if failed:
        print(f"\nfailed: {', '.join(failed)}")
    return len(failed)


def _values(given: str | list[str] | None) -> list[str]:
    """Return what an option was given, be it repeatable or not."""
    return given if isinstance(given, list) else [] if given is None else [given]


def processor() -> str:
    """Return what the processor calls itself, and which abilities matter here."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {key.strip(): value.strip() for key, value in lines.items()}
    flags = fields.get("flags", "").split()
    able = [flag for flag in ABILITIES if flag in flags]
    return f"{fields.get('model name', platform.machine())} ({', '.join(able)})"


if __name__ == "__main__":
    sys.exit(main())
