"""Weights that the environment names: used by every command and call where none are given."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from typer.main import get_command

from imgtofmri import assets
from imgtofmri.analyses.dynamics import movie_models
from imgtofmri.analyses.rsa.layers import layer_models
from imgtofmri.backbones import UnverifiedWeightsWarning, load_backbone
from imgtofmri.backbones.names import PUBLISHED, WEIGHTS_VARIABLE
from imgtofmri.bundle import Bundle
from imgtofmri.cli import main
from imgtofmri.cli.app import app
from imgtofmri.distillation import distil_head
from imgtofmri.encoder import Encoder, load_encoder
from imgtofmri.encoder.networks import load_networks
from imgtofmri.exceptions import OptionError, WeightsError, WeightsUnavailableError
from imgtofmri.files import sha256_of
from imgtofmri.training.stimuli import load_settings
from imgtofmri.training.study.settings import BackboneSettings

COMMANDS: dict[str, list[str]] = {
    "predict": ["bright", "-o", "out"],
    "simulate": ["events.tsv", "--stimuli", "bright", "--tr-s", "2", "-o", "out"],
    "power": [
        *("bright", "dark", "--trials", "10", "--tr-s", "2", "--tsnr", "50"),
        *("--scale", "1:bright - dark:PPA", "-o", "out"),
    ],
    "dynamics": ["film.mp4", "-o", "out"],
    "validate": ["--stimuli", "bright", "--measured", "betas", "-o", "out"],
    "rsa": ["bright", "-o", "out"],
    "contrast": ["bright", "dark", "-o", "out"],
    "select": ["bright", "-g", "high PPA", "-n", "1", "-o", "out"],
    "explain": ["bright", "-o", "out"],
    "render": ["film.mp4", "-o", "out"],
    "distill": ["bright", "-o", "head.safetensors"],
    "serve": ["--port", "0"],
    "demo": ["-o", "out"],
}
"""How each command that takes weights is told what else it needs; files are those of `desk`."""


@pytest.fixture(autouse=True)
def desk(
    tmp_path: Path,
    dark_and_bright: Callable[[int], tuple[Path, Path]],
    monkeypatch: pytest.MonkeyPatch,
    rng: np.random.Generator,
) -> None:
    """Go to a folder with pictures and a film; the variable names a file that is not there."""
    dark_and_bright(5)
    (tmp_path / "betas").mkdir()
    lines = [f"{2 * n}\t1\tbright\tbright{n}.png\n" for n in range(3)]
    Path(tmp_path / "events.tsv").write_text(
        "onset\tduration\ttrial_type\tstim_file\n" + "".join(lines), "utf-8"
    )
    with av.open(tmp_path / "film.mp4", "w") as film:
        stream = film.add_stream("mpeg4", rate=4)
        stream.width = stream.height = 32
        for _ in range(80):
            noise = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(noise)))
        film.mux(stream.encode(None))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(WEIGHTS_VARIABLE, "nowhere.safetensors")


def test_every_command_that_takes_weights_is_tried_here() -> None:
    """No command with --weights is left out below."""
    takes = {
        name
        for name, command in get_command(app).commands.items()  # type: ignore[attr-defined]
        if any("--weights" in parameter.opts for parameter in command.params)
    }
    assert takes == {*COMMANDS}


@pytest.mark.parametrize(
    "command",
    [
        # The demonstration's samples come with the published model's wheel.
        pytest.param(name, marks=[pytest.mark.network] if name == "demo" else [])
        for name in COMMANDS
    ],
)
def test_a_command_without_weights_takes_those_of_the_variable(
    command: str, small_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It fails for want of the file that the variable names, and says who named it."""
    chosen = [] if command == "demo" else ["--encoder", str(small_encoder)]
    assert main([command, *COMMANDS[command], *chosen]) == 1
    said = capsys.readouterr().err
    assert "nowhere.safetensors: expected a .safetensors file" in said
    assert (
        f"{WEIGHTS_VARIABLE} names it: correct that, or name --weights, such as published." in said
    )


CALLS: dict[str, Callable[[Encoder], Any]] = {
    "load_backbone": lambda _: load_backbone(),
    "layer_models": lambda _: layer_models(["resnet18/layer2"]),
    "load_settings": lambda _: load_settings(BackboneSettings()),
    "extractor": lambda encoder: encoder.extractor(),
    "predictor": lambda encoder: encoder.predictor(),
    "predict": lambda encoder: encoder.predict("bright"),
    "predict_movie": lambda encoder: encoder.predict_movie("film.mp4"),
    "movie_models": lambda encoder: movie_models(encoder, "film.mp4"),
    "attribution": lambda encoder: encoder.attribution("bright", "PPA"),
    "distil_head": lambda encoder: distil_head(
        encoder, load_backbone(weights="untrained", layers=["layer1"]), ["bright"]
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_without_weights_takes_those_of_the_variable(call: str, small_encoder: Path) -> None:
    """As the commands do."""
    with pytest.raises(WeightsError, match=rf"nowhere.*{WEIGHTS_VARIABLE} names it"):
        CALLS[call](load_encoder(small_encoder))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")
def test_the_variable_gives_what_weights_give(
    small_encoder: Path, random_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maps, and what is said of them, are the same bits; the record names file and digest."""
    encoder = load_encoder(small_encoder)
    given = encoder.predict("bright", weights=random_weights, progress=False)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(random_weights))
    taken = encoder.predict("bright", progress=False)
    np.testing.assert_array_equal(taken.group, given.group)
    assert taken.provenance.to_dict() == given.provenance.to_dict()
    assert taken.provenance.to_dict()["weights_sha256"] == sha256_of(random_weights)
    with pytest.warns(UnverifiedWeightsWarning, match="not the published weights"):
        load_backbone()
    # An encoder that has loaded its network sees that the variable has changed.
    monkeypatch.setenv(WEIGHTS_VARIABLE, "untrained:1")
    assert encoder.extractor().network.spec.weights_name == "untrained (seed 1)"


def test_weights_that_are_given_go_before_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random ones, a file, and the published ones, which are then looked for as ever."""
    assert load_backbone(weights="untrained:2").spec.weights_name == "untrained (seed 2)"
    with pytest.raises(WeightsError, match=r"mine.safetensors: expected (?!.*names it)"):
        load_backbone(weights="mine.safetensors")
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(assets.OFFLINE_VARIABLE, "1")
    for value in ("nowhere.safetensors", "published", " "):
        monkeypatch.setenv(WEIGHTS_VARIABLE, value)
        with pytest.raises(WeightsUnavailableError, match=rf"`weights` or in {WEIGHTS_VARIABLE}"):
            load_backbone(weights=PUBLISHED)
    with pytest.raises(WeightsUnavailableError):
        load_backbone()


def test_a_seed_in_the_variable_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it is of `weights`."""
    monkeypatch.setenv(WEIGHTS_VARIABLE, "untrained:x")
    with pytest.raises(OptionError, match="weights must be 'untrained' or 'untrained:SEED'"):
        load_backbone()


@pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")
def test_weights_that_an_encoder_records_go_before_the_variable(
    make_bundle: Callable[..., Bundle],
    rng: np.random.Generator,
    random_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own file is taken from beside it, or from the variable where that names the same."""
    features = dict(make_bundle(rng).card["features"])
    digest = sha256_of(random_weights)
    features["weights"] = {"name": "own.safetensors", "sha256": digest, "verified": False}
    layers = [features["layers"]]
    nowhere = rf"beside the bundle and in {WEIGHTS_VARIABLE}; it is not there"
    with pytest.raises(WeightsUnavailableError, match=nowhere):
        load_networks(features, layers)
    monkeypatch.setenv(WEIGHTS_VARIABLE, str(random_weights))
    assert load_networks(features, layers).spec.weights_sha256 == digest
    shutil.copy(random_weights, tmp_path / "own.safetensors")
    monkeypatch.setenv(WEIGHTS_VARIABLE, "untrained:1")
    assert load_networks(features, layers, folder=tmp_path).spec.weights_sha256 == digest


def test_of_several_networks_the_variable_is_for_none(
    make_bundle: Callable[..., Bundle],
    rng: np.random.Generator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One file cannot be the weights of two networks: the published ones are looked for."""
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(assets.OFFLINE_VARIABLE, "1")
    first = dict(make_bundle(rng).card["features"])
    second = first | {"backbone": "efficientnet-lite0"}
    both = {
        "id": "both",
        "n_features": 2 * first["n_features"],
        "networks": [first | {"label": "one"}, second | {"label": "two"}],
    }
    with pytest.raises(WeightsUnavailableError, match="resnet18: expected its weights"):
        load_networks(both, [first["layers"], first["layers"]])
