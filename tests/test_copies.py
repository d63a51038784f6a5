"""Images that are there twice are told of by every analysis that counts images."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from imgtofmri.analyses.contrast import compute_contrast
from imgtofmri.analyses.rsa import compare_geometry
from imgtofmri.analyses.select import select_stimuli
from imgtofmri.analyses.validate import read_comparison
from imgtofmri.encoder import Prediction
from imgtofmri.encoder.copies import tell_of_copies
from imgtofmri.rsa import RDMs, calculate_rdm
from imgtofmri.stimuli.items import StimulusWarning

MakePrediction = Callable[..., Prediction]

TWO = ["house"] * 12 + ["face"] * 12


@pytest.fixture
def twice(make_prediction: MakePrediction, rng: np.random.Generator, tmp_path: Path) -> Prediction:
    """Return a prediction of pictures of which the last is the first under another name."""
    prediction = make_prediction(rng, n_stimuli=24, folder=tmp_path)
    return replace(prediction, sha256=(*prediction.sha256[:-1], prediction.sha256[0]))


def compare(prediction: Prediction) -> None:
    """Compare its geometry with that of measured noise."""
    noise = np.random.default_rng(0).normal(size=(4, len(prediction), 9))
    measured = RDMs(calculate_rdm(noise), prediction.names, ("a", "b", "c", "d"))
    compare_geometry(prediction, measured, n_bootstraps=2, n_permutations=2)


def validate(prediction: Prediction) -> None:
    """Compare it with itself, read from a file beside its pictures."""
    file = str(prediction.sources[0]) + ".npz"
    np.savez(file, patterns=prediction.group, names=np.array(prediction.names))
    read_comparison(prediction, file, progress=False)


@pytest.mark.parametrize(
    "analyse",
    [
        lambda maps: compute_contrast(maps, TWO, "house - face", 2),
        compare,
        lambda maps: select_stimuli(maps, ["high PPA"], 4, n_random=9),
        validate,
    ],
    ids=["contrast", "rsa", "select", "validate"],
)
def test_analyses_over_images_tell_of_copies(
    analyse: Callable[[Prediction], object], twice: Prediction
) -> None:
    """How many there are, and which the first is."""
    said = "1 of 24 images are copies of others; the first is '.*', the same file as '.*'. Each"
    with pytest.warns(StimulusWarning, match=said):
        analyse(twice)


def test_other_images_and_frames_are_no_copies(twice: Prediction) -> None:
    """Pictures in memory have no digests, and all frames of a movie its own."""
    frames = replace(twice, sha256=twice.sha256[:1] * 24, onsets_s=np.arange(24) / 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tell_of_copies(replace(twice, sha256=(None,) * 24))
        tell_of_copies(frames)
        tell_of_copies(twice[1:])
