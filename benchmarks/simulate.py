"""Measure the time courses and the simulator against the obvious way of computing each.

Run ``python benchmarks/simulate.py``; it takes about a minute and prints a table. Each line is the
best of three (the obvious way's only run), on the same data in the same process, with the largest
difference between the results; the simulated runs differ by the half step to which the obvious way
rounds time. Memory is that of a process of its own which writes a run of the whole brain.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from imgtofmri.analyses.simulate import Events, Noise, Run, Scan, simulate_bold
from imgtofmri.timeseries import convolve, hrf, row_agreement, similarity_matrix

SHAPE = (91, 109, 91)
AFFINE = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])


def best(function: Callable[[], object], repeats: int = 3) -> tuple[float, object]:
    """Return the shortest time of a few calls, in seconds, and the result."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        times.append(time.perf_counter() - start)
    return min(times), result


def report(name: str, ours: Callable[[], object], obvious: Callable[[], object]) -> None:
    """Print how long both ways take, and that they agree."""
    fast, result = best(ours)
    slow, expected = best(obvious, repeats=1)
    difference = float(np.nanmax(np.abs(np.asarray(result) - np.asarray(expected))))
    print(f"{name:<58} {fast:8.3f} s {slow:8.3f} s {slow / fast:7.1f} x   {difference:.0e}")


def time_convolution(rng: np.random.Generator) -> None:
    """Convolve every voxel of a movie."""
    for n_time, step_s in ((691, 0.5), (6000, 0.05)):
        n_voxels = 9641 if n_time < 1000 else 2000
        responses = rng.normal(size=(n_time, n_voxels))
        kernel = hrf("gam", step_s)
        report(
            f"convolve {n_time} x {n_voxels}, {len(kernel)} taps",
            lambda r=responses, k=kernel: convolve(r, k),
            lambda r=responses, k=kernel: np.stack(
                [np.convolve(column, k)[: len(r)] for column in r.T], axis=1
            ),
        )


def time_similarity(rng: np.random.Generator) -> None:
    """Correlate volumes with each other, and two such matrices row by row."""
    first = rng.normal(size=(300, 9641))
    report(
        "similarity of 300 volumes of 9641 voxels (numpy: corrcoef)",
        lambda: similarity_matrix(first),
        lambda: np.corrcoef(first),
    )
    model = similarity_matrix(first[:166])
    samples = np.stack([similarity_matrix(rng.normal(size=(166, 500))) for _ in range(33)])

    def loop() -> np.ndarray:
        agreement = np.empty((33, 166))
        for sample in range(33):
            for row in range(166):
                others = np.arange(166) != row
                pair = np.corrcoef(model[row, others], samples[sample, row, others])
                agreement[sample, row] = pair[0, 1]
        return agreement

    report("agreement of 33 matrices, row by row", lambda: row_agreement(model, samples), loop)


def time_simulation(rng: np.random.Generator) -> None:
    """Simulate a run without noise: the design times responses, or each voxel's fine course."""
    n_stimuli, n_voxels, n_volumes, tr_s, step_s = 60, 2000, 150, 2.0, 0.05
    responses = rng.normal(size=(n_stimuli, n_voxels)).astype(np.float32)
    onsets_s = 4.0 * np.arange(n_stimuli)
    events = Events(onsets_s, np.full(n_stimuli, 2.0), np.arange(n_stimuli))
    kernel = hrf("glover", step_s, scale="sum")

    def loop() -> np.ndarray:
        bold = np.empty((n_volumes, n_voxels))
        for voxel in range(n_voxels):
            course = np.zeros(round(n_volumes * tr_s / step_s))
            for stimulus, onset_s in enumerate(onsets_s):
                start = round(onset_s / step_s)
                course[start : start + round(2.0 / step_s)] += responses[stimulus, voxel]
            fine = np.convolve(course, kernel)[: len(course)]
            bold[:, voxel] = 100.0 + fine[:: round(tr_s / step_s)]
        return bold

    report(
        f"simulate {n_volumes} volumes of {n_voxels} voxels, {n_stimuli} events",
        lambda: simulate_bold(responses, events, tr_s, n_volumes),
        loop,
    )


def peak_memory_mb() -> float:
    """Return the largest memory of this program so far; the parent's does not count (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def write_brain(n_volumes: int) -> None:
    """Write one run of the whole brain with noise, and print seconds and peak memory."""
    from imgtofmri.analyses.simulate import Simulation, save_simulation
    from imgtofmri.spaces import brain_mask

    mask = np.zeros(SHAPE, dtype=bool)
    mask[30:60, 10:40, 30:41] = True
    brain = brain_mask(SHAPE, AFFINE)
    events = Events([4.0, 20.0], [2.0, 2.0], [0, 1])
    run = Run(events, n_volumes, ("onset", "duration"), (("4", "2"), ("20", "2")))
    responses = np.random.default_rng(0).normal(size=(2, int(mask.sum())))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        scan, subjects = Scan(2.0, noise=Noise()), {"S1": responses}
        simulation = Simulation(subjects, [run], scan, mask, AFFINE, brain)
        save_simulation(simulation, Path(folder) / "sim")
        seconds = time.perf_counter() - start
    peak_mb = peak_memory_mb()
    print(
        f"write {n_volumes} volumes of {(mask | brain).sum()} voxels with noise".ljust(58)
        + f" {seconds:8.3f} s, {1e3 * seconds / n_volumes:.1f} ms a volume, peak {peak_mb:.0f} MB"
    )


def time_nibabel(n_volumes: int = 20) -> None:
    """Write volumes as nibabel does by default, for comparison."""
    import nibabel as nib

    rng = np.random.default_rng(0)
    data = np.zeros((*SHAPE, n_volumes), dtype=np.float32)
    data[20:70, 20:90, 20:70] = 100 + rng.normal(size=(50, 70, 50, n_volumes))
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        nib.Nifti1Image(data, AFFINE).to_filename(Path(folder) / "x.nii.gz")
        seconds = time.perf_counter() - start
    print(
        f"nibabel's to_filename alone, {n_volumes} volumes, 175000 voxels".ljust(58)
        + f" {seconds:8.3f} s, {1e3 * seconds / n_volumes:.1f} ms a volume"
    )


def main() -> None:
    """Run all, or the part that a process of its own measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write-brain", type=int, help="volumes to write in this process")
    arguments = parser.parse_args()
    if arguments.write_brain:
        write_brain(arguments.write_brain)
        return
    rng = np.random.default_rng(0)
    print(f"{'':<58} {'ours':>10} {'obvious':>10} {'ratio':>9}   difference")
    time_convolution(rng)
    time_similarity(rng)
    time_simulation(rng)
    for n_volumes in (40, 160):
        subprocess.run([sys.executable, __file__, "--write-brain", str(n_volumes)], check=True)
    time_nibabel()


if __name__ == "__main__":
    main()
