"""Write the numbers that rsatoolbox gives on patterns anybody can recompute.

Run with rsatoolbox installed (made with 0.3.2 on NumPy 2.4)::

    python tools/make_rsa_golden.py tests/golden/rsatoolbox.json
"""

from __future__ import annotations

import json
import sys
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import rsatoolbox


def golden_patterns(n_subjects: int, n_repeats: int, n_conditions: int, n_voxels: int) -> Any:
    """Return patterns made without a random generator, the same on every machine."""
    index = np.arange(n_subjects * n_repeats * n_conditions * n_voxels, dtype=np.float64)
    noise = np.sin(index * 0.7391) * np.cos(index**2 * 0.0137)
    return noise.reshape(n_subjects, n_repeats, n_conditions, n_voxels)


def main(path: Path) -> None:
    """Compute every quantity once and write them as one JSON file."""
    patterns = golden_patterns(5, 3, 8, 12)
    n_repeats, n_conditions, n_voxels = patterns.shape[1:]
    flat = [
        rsatoolbox.data.Dataset(
            subject.reshape(-1, n_voxels),
            obs_descriptors={
                "condition": np.tile(np.arange(n_conditions), n_repeats),
                "repeat": np.repeat(np.arange(n_repeats), n_conditions),
            },
        )
        for subject in patterns
    ]
    means = [rsatoolbox.data.Dataset(subject) for subject in patterns.mean(axis=1)]
    centred = [
        rsatoolbox.data.Dataset(subject - subject.mean(axis=0)) for subject in patterns.mean(axis=1)
    ]
    precision = np.diag(np.linspace(0.5, 2.0, n_voxels)) + 0.05
    calc = rsatoolbox.rdm.calc_rdm
    crossvalidated = {"descriptor": "condition", "cv_descriptor": "repeat"}
    rdms = {
        "correlation": calc(means, method="correlation"),
        "correlation_centred": calc(centred, method="correlation"),
        "euclidean": calc(means, method="euclidean"),
        "crossnobis": calc(flat, method="crossnobis", **crossvalidated),
        "crossnobis_precision": calc(
            flat, method="crossnobis", noise=[precision] * len(flat), **crossvalidated
        ),
    }
    facts: dict[str, Any] = {
        "rsatoolbox": version("rsatoolbox"),
        "dissimilarities": {name: rdm.get_vectors().tolist() for name, rdm in rdms.items()},
        "comparisons": {},
        "ceilings": {},
    }
    names = {"spearman": "spearman", "kendall": "tau-a", "pearson": "corr", "cosine": "cosine"}
    measured = rdms["correlation_centred"]
    rounded = rsatoolbox.rdm.RDMs(np.round(measured.get_vectors(), 1))
    for ours, theirs in names.items():
        compare = rsatoolbox.rdm.compare
        facts["comparisons"][ours] = {
            "plain": compare(rdms["euclidean"], measured, method=theirs).tolist(),
            "tied": compare(rounded, measured, method=theirs).tolist(),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ceiling = rsatoolbox.inference.noise_ceiling.boot_noise_ceiling(measured, theirs)
        facts["ceilings"][ours] = [float(value) for value in ceiling]
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
