"""Time the fit of the published study's size against scikit-learn's grid search.

4,916 images x 512 features x 7,059 voxels (3 people x 5 ROIs), 10 penalties, 5 folds, one penalty
for each person and ROI, on generated data in float32. Both choose penalties, fit all images again
and must agree. scikit-learn runs on every ``--every``-th ROI and its time is scaled to all by the
number of ROIs, as it would take minutes on all; ``--every 1`` runs all of it. Processor seconds
are printed beside the clock's, as a busy machine disturbs them less. Where PyTorch is installed the
same fit runs on it, too, on a CUDA device if there is one.

    python benchmarks/training.py [--every 5] [--threads 2] [--himalaya]
"""

from __future__ import annotations

import argparse
import importlib.util
import resource
import time

import numpy as np
from threadpoolctl import threadpool_limits

from imgtofmri.regression import fit_ridge, grouped_folds, open_engine, plan_memory

N_IMAGES, N_FEATURES = 4916, 512
VOXELS = [470, 471] * 7 + [472]
ALPHAS = np.logspace(1, 5, 10)


def make_study(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return features, z-scored responses with a little signal, and the ROI of each voxel."""
    features = np.abs(rng.standard_normal((N_IMAGES, N_FEATURES), dtype=np.float32))
    weights = 0.02 * rng.standard_normal((N_FEATURES, sum(VOXELS)), dtype=np.float32)
    responses = features @ weights
    responses += rng.standard_normal(responses.shape, dtype=np.float32)
    responses -= responses.mean(axis=0)
    responses /= responses.std(axis=0)
    return features, responses, np.repeat(np.arange(len(VOXELS)), VOXELS)


def peak_gb() -> float:
    """Return the most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def main() -> None:
    """Run both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--every", type=int, default=5, help="scikit-learn runs on each n-th ROI")
    parser.add_argument("--threads", type=int, default=None, help="threads of the linear algebra")
    parser.add_argument("--himalaya", action="store_true", help="compare with himalaya, too")
    options = parser.parse_args()
    features, responses, rois = make_study(np.random.default_rng(0))
    folds = grouped_folds(range(N_IMAGES))
    with threadpool_limits(options.threads):
        print(f"data {peak_gb():.2f} GB; {responses.shape[1]} voxels in {len(VOXELS)} ROIs")
        plan = plan_memory(N_IMAGES, N_FEATURES, responses.shape[1], nested=False)
        print(f"planned {plan.peak_bytes / 1e9:.2f} GB beyond the data")
        times = {}
        for name, nested in (("one level", False), ("nested", True)):
            start = clocks()
            fit = fit_ridge(
                features, responses, alphas=ALPHAS, folds=folds, share=rois, nested=nested
            )
            times[name] = clocks() - start
            print(f"imgtofmri, {name:<10}{seconds(times[name])}   peak {peak_gb():.2f} GB")
        if importlib.util.find_spec("torch"):
            compare_with_torch(features, responses, folds, rois, times, options.threads)
        from sklearn.linear_model import Ridge
        from sklearn.model_selection import GridSearchCV

        chosen = range(0, len(VOXELS), options.every)
        theirs = np.zeros(2)
        for roi in chosen:
            mine = rois == roi
            target = np.ascontiguousarray(responses[:, mine])
            start = clocks()
            search = GridSearchCV(Ridge(), {"alpha": ALPHAS}).fit(features, target)
            theirs += (clocks() - start) * len(VOXELS) / len(chosen)
            assert fit.alpha[mine][0] == search.best_params_["alpha"]
            difference = np.abs(fit.weights[:, mine] - search.best_estimator_.coef_.T).max()
            assert difference < 1e-4, difference
        print(
            f"scikit-learn         {seconds(theirs)}   ({len(chosen)} of {len(VOXELS)} ROIs timed)"
        )
        for name, mine_s in times.items():
            clock, processor = theirs / mine_s
            print(f"ratio, {name}: {clock:.1f} by the clock, {processor:.1f} by processor time")
        if options.himalaya:
            compare_with_himalaya(features, responses, folds)


def compare_with_torch(
    features: np.ndarray,
    responses: np.ndarray,
    folds: np.ndarray,
    rois: np.ndarray,
    times: dict[str, np.ndarray],
    n_threads: int | None,
) -> None:
    """Time the same fits on PyTorch's tensors; the first run, which warms it up, does not count."""
    import torch

    if n_threads is not None:
        torch.set_num_threads(n_threads)
    device = open_engine("torch").device
    for name, nested in (("warm-up", False), ("one level", False), ("nested", True)):
        start = clocks()
        fit_ridge(
            features,
            responses,
            alphas=ALPHAS,
            folds=folds,
            share=rois,
            nested=nested,
            engine="torch",
        )
        took = clocks() - start
        if name in times:
            clock, processor = times[name] / took
            print(f"torch on {device}, {name:<10}{seconds(took)}; ", end="")
            print(f"NumPy takes {clock:.2f} times as long ({processor:.2f} by processor time)")


def compare_with_himalaya(features: np.ndarray, responses: np.ndarray, folds: np.ndarray) -> None:
    """Time one penalty for each voxel, which himalaya is made for."""
    from himalaya.ridge import RidgeCV
    from himalaya.scoring import r2_score

    start = clocks()
    fit = fit_ridge(features, responses, alphas=ALPHAS, folds=folds, nested=False)
    mine = clocks() - start
    print(f"imgtofmri, per voxel {seconds(mine)}")
    start = clocks()
    solver = {"score_func": r2_score, "warn": False}
    theirs = RidgeCV(ALPHAS, fit_intercept=True, cv=5, solver_params=solver)
    theirs.fit(features, responses)
    took = clocks() - start
    print(f"himalaya, per voxel  {seconds(took)}   peak {peak_gb():.2f} GB")
    same = np.mean(np.isclose(theirs.best_alphas_, fit.alpha))
    clock, processor = took / mine
    print(f"ratio: {clock:.1f} by the clock, {processor:.1f} by processor time; ", end="")
    print(f"same penalty in {100 * same:.1f} % of voxels")


def clocks() -> np.ndarray:
    """Return the time by the clock and the processor time of this process, in seconds."""
    return np.array([time.perf_counter(), time.process_time()])


def seconds(times: np.ndarray) -> str:
    """Write both times."""
    return f"{times[0]:8.2f} s ({times[1]:.2f} s of processor time)"


if __name__ == "__main__":
    main()
