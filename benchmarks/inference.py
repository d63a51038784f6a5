"""Check the inference of `validate` against simulations with a known truth, at full size.

Run it with ``python benchmarks/inference.py coverage`` (a minute), ``tails`` (half a minute), or
``validate PHOTOS [WEIGHTS]`` (minutes), which predicts pictures with the published encoder, takes
its own maps with noise for measured ones, and runs the command on them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from imgtofmri import load_encoder
from imgtofmri.cli import main as imgtofmri
from imgtofmri.stats import explained_variance, pearson_interval, permutation_pearson


def margins(kind: str, values: np.ndarray) -> np.ndarray:
    """Turn normal values into others of mean 0 and variance 1."""
    if kind == "log-normal":
        return (np.exp(0.6 * values) - np.exp(0.18)) / np.sqrt(np.exp(0.72) - np.exp(0.36))
    return values


def coverage(n_voxels: int = 20_000) -> None:
    """Print how often 95 % intervals of correlations, and of shares explained, hold the truth."""
    rng = np.random.default_rng(0)
    print("r: share of 95 % intervals that hold the true one (images, responses, true r)")
    for n in (5, 10, 20, 50):
        for kind in ("normal", "log-normal", "Student's t, 5"):
            held = []
            for true in (0.0, 0.2, 0.4, 0.6, 0.8):
                first, noise = rng.standard_normal((2, n, n_voxels))
                second = true * first + np.sqrt(1 - true**2) * noise
                goal = true
                if kind == "log-normal":
                    goal = (np.exp(0.36 * true) - 1) / (np.exp(0.36) - 1)
                elif kind != "normal":
                    tail = np.sqrt(5 / rng.chisquare(5, (n, n_voxels)))
                    first, second = first * tail, second * tail
                lower, upper = pearson_interval(margins(kind, first), margins(kind, second))
                held.append(np.mean((lower <= goal) & (goal <= upper)))
            print(f"  {n:3} {kind:<15}", *(f"{share:.3f}" for share in held))
    print("mean r of 40 voxels that share a tenth, a half, nine tenths of their variance; true .8")
    for n in (10, 20):
        held = []
        for shared in (0.1, 0.5, 0.9):
            hits = 0
            for _ in range(1000):
                common, own = rng.standard_normal((2, n, 1)), rng.standard_normal((2, n, 40))
                first, noise = np.sqrt(shared) * common + np.sqrt(1 - shared) * own
                region = np.ones((1, 40), bool)
                lower, upper = pearson_interval(first, 0.8 * first + 0.6 * noise, regions=region)
                hits += lower[0] <= 0.8 <= upper[0]
            held.append(hits / 1000)
        print(f"  {n:3}", *(f"{share:.3f}" for share in held))
    print("explained: mean, coverage, share of runs with an interval (images, signal, model)")
    for n in (10, 20, 40, 100):
        for share in (0.15, 0.4):
            for model, goal in (("perfect", 1.0), ("half", 0.5), ("noise", 0.0)):
                found = [_explained(rng, n, share, goal) for _ in range(300)]
                known = np.array([each for each in found if np.isfinite(each[0])])
                held = np.mean((known[:, 1] <= goal) & (goal <= known[:, 2]))
                said = f"{known[:, 0].mean():+.3f} {held:.3f} {len(known) / 300:.2f}"
                print(f"  {n:3} {share:.2f} {model:<8}", said)


def _explained(rng: np.random.Generator, n: int, share: float, goal: float) -> list[float]:
    """Simulate a region of 100 voxels, smooth in space, with scales and shares of its own."""
    places = np.arange(100)
    smooth = np.exp(-0.5 * ((places[:, None] - places) / 2) ** 2)
    smooth /= np.sqrt(np.sum(smooth**2, axis=0))
    signal, other, *noise = (rng.standard_normal((n, 100)) @ smooth for _ in range(4))
    shares = 2 * share * rng.random(100)
    repeats = np.exp(rng.standard_normal(100)) * np.array(
        [np.sqrt(shares) * signal + np.sqrt(1 - shares) * each for each in noise]
    )
    model = np.sqrt(goal) * signal + np.sqrt(1 - goal) * other
    found = explained_variance(model, repeats, np.ones((1, 100), bool))
    return [found.explained[0], found.explained_lower[0], found.explained_upper[0]]


def tails(n_images: int = 40, n_voxels: int = 9641) -> None:
    """Print how many true voxels the false discovery rate finds, and how often small p come."""
    rng = np.random.default_rng(0)
    print(f"voxels of true r .95 among {n_voxels:,}, 1,000 permutations: found, and false ones")
    for n_true in (0, 5, 50, 150, 200):
        predicted, measured = rng.standard_normal((2, n_images, n_voxels))
        noise = rng.standard_normal((n_images, n_true))
        measured[:, :n_true] = predicted[:, :n_true] + np.sqrt(1 / 0.95**2 - 1) * noise
        found = permutation_pearson(predicted, measured, 1000).p_fdr <= 0.05
        print(f"  {n_true:3}: {found[:n_true].sum()}, {found[n_true:].sum()}")
    limits = (0.05, 0.01, 1e-3, 1e-4)
    print("unrelated responses: share of voxels with p at or below", *limits)
    for kind in ("normal", "log-normal"):
        pairs = rng.standard_normal((2, n_images, 40_000))
        predicted, measured = margins(kind, 1.3 * pairs)
        p = permutation_pearson(predicted, measured, 1000).p
        print(f"  {kind:<10}", *(f"{np.mean(p <= limit):.5f}" for limit in limits))


def validate(photos: Path, weights: str | None, n_runs: int = 10) -> None:
    """Print, ROI by ROI, what share of the signal a true model and a false one explain."""
    encoder = load_encoder()
    images = sorted(photos.iterdir())[:40]
    prediction = encoder.predict(images, weights=weights, average="mean")
    # Where nothing is predicted, nothing but noise is measured.
    truth = np.nan_to_num(prediction.group.astype(np.float64))
    spread = np.where(prediction.covered, truth.std(axis=0), 1.0)
    rng = np.random.default_rng(0)
    print(f"{len(images)} images, 2 repeats, {n_runs} runs of the command: mean (SD) of explained")
    for model in ("true", "false"):
        tables = []
        for _ in range(n_runs):
            order = np.arange(len(images)) if model == "true" else rng.permutation(len(images))
            with tempfile.TemporaryDirectory() as folder:
                tables.append(_run(Path(folder), images, weights, truth[order], spread, rng))
        table = pd.concat(tables)
        for roi, rows in table.groupby("roi", sort=False):
            found, held = rows["explained"], 1.0 * (model == "true")
            covered = np.mean((rows["explained_lower"] <= held) & (held <= rows["explained_upper"]))
            print(
                f"  {model:<5} {roi:<10} {found.mean():+.3f} ({found.std():.3f}), interval holds "
                f"{held:.0f} in {covered:.0%}, explainable {rows['explainable'].mean():.3f}, "
                f"mean r {rows['mean_r'].mean():+.3f}"
            )


def _run(
    folder: Path,
    images: list[Path],
    weights: str | None,
    truth: np.ndarray,
    spread: np.ndarray,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Run the command on a truth with noise of twice its standard deviation in each repeat."""
    names = [image.name for image in images]
    command = ["validate", "--accuracy", "--quiet", "-o", str(folder / "out")]
    command += ["--permutations", "200"]
    command += [part for image in images for part in ("--stimuli", str(image))]
    command += [] if weights is None else ["--weights", weights]
    for number in range(2):
        measured = truth + 2 * spread * rng.standard_normal(truth.shape)
        path = folder / f"repeat-{number}.npz"
        np.savez(path, patterns=measured, names=names)
        command += ["--repeat", str(path)]
    assert imgtofmri(command) == 0
    return pd.read_csv(folder / "out" / "accuracy.tsv", sep="\t")


def main() -> None:
    """Run what the command line names."""
    if sys.argv[1:2] == ["coverage"]:
        coverage()
    elif sys.argv[1:2] == ["tails"]:
        tails()
    elif sys.argv[1:2] == ["validate"] and len(sys.argv) > 2:
        validate(Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
