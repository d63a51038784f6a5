"""How good the published encoder is: what docs/explanation/validity.md says, measured again.

    python benchmarks/validity.py PHOTOGRAPHS --rdms set92.npz --weights FILE

``PHOTOGRAPHS`` is a folder of natural photographs. ``set92.npz`` has the 92 images of Kriegeskorte
et al. (2008) as ``images`` and, for each of 15 people, dissimilarities of Cichy et al. (2014) in
early visual cortex and inferior temporal cortex as ``EVC`` and ``IT``. Dissimilarities and
statistics are NumPy's alone, from each person's own ROI in native space.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import rankdata

from imgtofmri import Encoder, Prediction, load_encoder
from imgtofmri.analyses.contrast import compute_contrast
from imgtofmri.analyses.select import select_stimuli
from imgtofmri.encoder.prediction import concatenate

N_BOOTSTRAPS, N_SPLITS, N_READOUTS = 1000, 40, 100
SEEDS = (0, 1, 2)


def dissimilarity(patterns: np.ndarray) -> np.ndarray:
    """Return 1 - Pearson between patterns of shape (n_images, n_voxels), voxels' means removed."""
    return 1 - np.corrcoef(patterns - patterns.mean(axis=0))


def own_rdms(prediction: Prediction) -> dict[str, np.ndarray]:
    """Return each ROI's dissimilarities, those of people's own ROIs averaged over people."""
    return {
        roi: np.mean(
            [
                dissimilarity(prediction.roi_responses(roi, subject).astype(float))
                for subject in prediction.subject_names
            ],
            axis=0,
        )
        for roi in prediction.rois
    }


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Return Spearman's correlation of two lists of dissimilarities."""
    return float(np.corrcoef(rankdata(one), rankdata(other))[0, 1])


def ceilings(people: np.ndarray) -> tuple[float, float]:
    """Return the noise ceiling: each person against the mean of the others, and of all."""
    pairs = np.triu_indices(people.shape[1], 1)
    lists = np.stack([rankdata(person[pairs]) for person in people])
    rest = [np.delete(lists, number, axis=0).mean(axis=0) for number in range(len(lists))]
    lower = np.mean([spearman(one, other) for one, other in zip(lists, rest, strict=True)])
    upper = np.mean([spearman(one, lists.mean(axis=0)) for one in lists])
    return float(lower), float(upper)


def bootstrap(
    models: dict[str, np.ndarray], people: np.ndarray, rng: np.random.Generator
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Return each model's mean Spearman over people, and draws of it over people and images.

    Images that were drawn twice are no pair with themselves.
    """
    n_people, n_images = people.shape[:2]
    pairs = np.triu_indices(n_images, 1)

    def means(who: np.ndarray, which: np.ndarray) -> dict[str, float]:
        rows, columns = which[pairs[0]], which[pairs[1]]
        apart = rows != columns
        rows, columns = rows[apart], columns[apart]
        measured = [rankdata(people[person][rows, columns]) for person in np.unique(who)]
        counts = np.unique(who, return_counts=True)[1]
        centred = np.stack(measured) - np.mean(measured[0])
        centred /= np.linalg.norm(centred, axis=1, keepdims=True)
        found = {}
        for name, model in models.items():
            ranks = rankdata(model[rows, columns])
            ranks -= ranks.mean()
            found[name] = float(counts @ (centred @ ranks) / np.linalg.norm(ranks) / len(who))
        return found

    observed = means(np.arange(n_people), np.arange(n_images))
    draws = [
        means(rng.integers(0, n_people, n_people), rng.integers(0, n_images, n_images))
        for _ in range(N_BOOTSTRAPS)
    ]
    return observed, {name: np.array([draw[name] for draw in draws]) for name in models}


def geometry(encoder: Encoder, weights: str | None, rdms: Path) -> None:
    """Compare the geometry of 92 images with that of 15 people."""
    data = np.load(rdms)
    images = data["images"]
    rng = np.random.default_rng(0)
    predicted = encoder.predict(images, average="mean", weights=weights, progress=False)
    models = own_rdms(predicted)
    print("\nSpearman between the ROIs' own dissimilarities:")
    pairs = np.triu_indices(len(images), 1)
    between = [
        spearman(models[one][pairs], models[other][pairs])
        for one, other in itertools.combinations(models, 2)
    ]
    print(f"  mean {np.mean(between):.2f}, {min(between):.2f} to {max(between):.2f}")
    # The background is one grey.
    silhouettes = np.any(np.abs(images.astype(int) - images[0, 0, 0].astype(int)) > 8, axis=-1)
    models["silhouette"] = dissimilarity(silhouettes[:, ::4, ::4].reshape(len(images), -1) * 1.0)
    pixels = images[:, ::4, ::4].reshape(len(images), -1).astype(float)
    models["pixels"] = dissimilarity(pixels)
    for seed in SEEDS:
        control = encoder.predict(
            images, average="mean", weights=f"untrained:{seed}", progress=False
        )
        for roi, matrix in own_rdms(control).items():
            models[f"untrained:{seed} {roi}"] = matrix
    for region in ("EVC", "IT"):
        people = data[region].astype(float)
        lower, upper = ceilings(people)
        observed, draws = bootstrap(models, people, rng)
        print(f"\n{region}: {len(people)} people, ceiling {lower:.3f} to {upper:.3f}")
        shown = [*encoder.rois, "silhouette", "pixels"]
        for name in shown:
            low, high = np.quantile(draws[name], [0.025, 0.975])
            share = observed[name] / lower
            print(f"  {name:<22}{observed[name]:6.3f}  [{low:.3f}, {high:.3f}]  {share:.0%}")
        for roi in encoder.rois:
            seeds = [observed[f"untrained:{seed} {roi}"] for seed in SEEDS]
            drawn = np.mean([draws[f"untrained:{seed} {roi}"] for seed in SEEDS], axis=0)
            low, high = np.quantile(draws[roi] - drawn, [0.025, 0.975])
            more = observed[roi] - np.mean(seeds)
            print(
                f"  untrained {roi:<12}{np.mean(seeds):6.3f}  ({min(seeds):.3f} to "
                f"{max(seeds):.3f}); encoder more by {more:.3f} [{low:.3f}, {high:.3f}]"
            )
        low, high = np.quantile(draws["EarlyVis"] - draws["silhouette"], [0.025, 0.975])
        more = observed["EarlyVis"] - observed["silhouette"]
        print(f"  EarlyVis less silhouette: {more:.3f} [{low:.3f}, {high:.3f}]")


def trust(prediction: Prediction) -> None:
    """Print how well people agree on voxels and on ROI means."""
    agreement, means = prediction.agreement(), prediction.roi_means()
    known = ~np.isnan(agreement)
    print(f"\nAgreement of people over {len(prediction)} photographs")
    print(f"  voxels that two people cover: {known.sum()} of {known.size}")
    for roi in prediction.rois:
        inside = agreement[prediction.roi_mask(roi) & known]
        low, middle, high = np.quantile(inside, [0.25, 0.5, 0.75])
        values = means.values[means.places.index((roi, "both"))]
        r = np.corrcoef(values)[np.triu_indices(len(values), 1)]
        print(
            f"  {roi:<10}voxels {len(inside):5d}, median r {middle:5.2f} ({low:.2f} to {high:.2f});"
            f"  ROI means r {', '.join(f'{one:.2f}' for one in r)}"
        )
    people = prediction.coverage >= 0.5
    print("  voxels that 1, 2, 3 people make at least half of:", end=" ")
    print(*(int((people.sum(axis=0) >= count).sum()) for count in (1, 2, 3)))


def chance(prediction: Prediction) -> None:
    """Print what contrasts of photographs split at random find."""
    rng = np.random.default_rng(0)
    agree, said, conjunction, found = [], [], [], []
    for seed in range(N_SPLITS):
        chosen = np.sort(rng.choice(len(prediction), 60, replace=False))
        part = concatenate([prediction[int(index)] for index in chosen])
        conditions = rng.permutation(["one"] * 30 + ["other"] * 30).tolist()
        result = compute_contrast(part, conditions, "one - other", 200, seed)
        rows = result.roi_table.query("subject == 'group'")
        agree += (rows["n_agree"] == rows["n_subjects"]).tolist()
        said += rows.loc[rows["n_agree"] == rows["n_subjects"], "p_agree"].tolist()
        conjunction.append(np.mean(result.conjunction != 0))
        found.append(rows["p_max"].min() <= 0.05)
    print(f"\n{N_SPLITS} random splits of 30 against 30 photographs")
    print(
        f"  all people agree in {np.mean(agree):.1%} of ROI tests; p_agree says {np.mean(said):.1%}"
    )
    print(f"  conjunction: {np.mean(conjunction):.4f} of voxels, at most {max(conjunction):.4f}")
    print(f"  some ROI of p_max <= .05: {np.mean(found):.1%}")


def readouts(encoder: Encoder, features: np.ndarray) -> None:
    """Print how often `select` confirms sets where people share the network alone, or nothing."""
    rng = np.random.default_rng(0)
    kinds: dict[str, Callable[[int], np.ndarray]] = {
        "random readouts of the same features": lambda n: (
            features @ rng.standard_normal((features.shape[1], n)) / features.std()
        ),
        "responses independent over images": lambda n: rng.standard_normal((len(features), n)),
    }
    base = encoder.predict_features(features, rois=["PPA"], average="mean")
    for name, draw in kinds.items():
        p = []
        for seed in range(N_READOUTS):
            native = tuple(draw(part.shape[1]).astype(np.float32) for part in base.native)
            fake = replace(base, native=native)
            checks = select_stimuli(
                fake, ["high PPA"], 10, n_random=200, seed=seed, reference=False
            ).checks
            p.append(checks.query("check == 'other subject'")["p"].tolist())
        values = np.array(p)
        print(
            f"  {name}: p <= .05 in {np.mean(values <= 0.05):.1%} of held-out tests, "
            f"all confirm in {np.mean((values <= 0.05).all(axis=1)):.1%}"
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--rdms", type=Path)
    parser.add_argument("--weights")
    parser.add_argument("--n", type=int, default=300, help="Photographs to use, evenly spaced.")
    arguments = parser.parse_args()
    encoder = load_encoder(progress=False)
    files = sorted(arguments.photographs.glob("*.jpg"))
    files = [files[index] for index in np.linspace(0, len(files) - 1, arguments.n).astype(int)]
    features = encoder.features(files, weights=arguments.weights)
    prediction = encoder.predict_features(features, average="mean")
    trust(prediction)
    if arguments.rdms is not None:
        geometry(encoder, arguments.weights, arguments.rdms)
    chance(prediction)
    print(f"\n`select` where subjects share nothing but what is said, {N_READOUTS} draws")
    readouts(encoder, features)


if __name__ == "__main__":
    main()
