"""What all commands have in common: options, early refusals, one line for each error."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from PIL import Image

from imgtofmri import __version__, assets
from imgtofmri.bundle import Bundle, write_bundle
from imgtofmri.cli import main
from imgtofmri.cli.app import app, ends_well
from imgtofmri.experiments import Noise
from imgtofmri.experiments.noise import drift_basis
from imgtofmri.stimuli.sampling import check_rate
from imgtofmri.timeseries import cosine_basis, sample_to_volumes


def test_python_m_is_the_command() -> None:
    """``python -m imgtofmri`` is there for machines whose scripts are not on the path."""
    command = [sys.executable, "-m", "imgtofmri", "--version"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[0] == __version__
    assert result.stderr == ""


@pytest.mark.parametrize("command", ["select", "rsa", "distill", "contrast"])
def test_missing_images_are_said_before_anything_is_loaded(
    command: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A misspelt folder is named, not the weights that could not be had either."""
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(assets.OFFLINE_VARIABLE, "1")
    (tmp_path / "film.mp4").touch()
    out = tmp_path / "out.safetensors"
    more = {"select": ["-g", "high PPA"], "contrast": [str(tmp_path)]}.get(command, [])
    missing = tmp_path / "nothere"
    assert main([command, str(missing), *more, "-o", str(out)]) == 1
    assert f"'{missing}', which does not exist" in capsys.readouterr().err
    assert main([command, str(tmp_path / "film.mp4"), *more, "-o", str(out)]) == 1
    assert "film.mp4', a movie. Leave it out" in capsys.readouterr().err


SHARED = ("rois", "sigma_mm", "mask", "average", "center_crop", "backbone", "weights", "encoder")


def test_shared_options_are_the_same_in_every_command() -> None:
    """Same name, default, help and order, last in the list; amplitude is kept where it counts."""
    from typer.main import get_command

    found: dict[str, set[tuple[object, ...]]] = {}
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        if name in ("backbones", "demo", "distill"):
            continue
        parameters = {parameter.name: parameter for parameter in command.params}
        order = [key for key in parameters if key in SHARED]
        assert order == [key for key in SHARED if key in order], name
        for key in {*SHARED, "quiet", "overwrite", "rate_hz", "control"} & {*parameters}:
            parameter = parameters[key]
            if hasattr(parameter, "help") and (name, key) != ("describe", "encoder"):
                default = str(parameter.default)
                if key == "average":
                    assert default == ("mean" if name == "dynamics" else "zscore"), name
                    default = ""
                found.setdefault(key, set()).add((parameter.help, default, tuple(parameter.opts)))
        assert "quiet" in parameters, name
    assert {key: len(kinds) for key, kinds in found.items()} == dict.fromkeys(found, 1)


@pytest.mark.parametrize(
    "command", ["validate", "dynamics", "rsa", "contrast", "select", "distill", "power"]
)
def test_a_seed_below_0_is_bad_usage(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is refused by name, before anything else is looked at."""
    assert main([command, "--seed", "-1"]) == 2
    assert "'--seed'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "call", "said"),
    [
        ("simulate", lambda: drift_basis(Noise(), 2.0, 17), "half of --drift-cutoff-s long (64 s)"),
        ("simulate", lambda: drift_basis(Noise(), 2.0, 17), "or --drift-share 0."),
        ("power", lambda: Noise(ar1_share=0.7, drift_share=0.4), "--ar1-share and --drift-share m"),
        ("explain", lambda: check_rate(0.0), "--rate-hz must be above 0"),
        ("dynamics", lambda: cosine_basis(40, 2.0, cutoff_s=3.0), "--cutoff-s must be longer"),
        (
            "dynamics",
            lambda: sample_to_volumes([0, 1], [0, 1], 1.0, resample="original", slice_time_ref=0.5),
            "--resample original samples at the start of each volume; got --slice-time-ref 0.5",
        ),
    ],
)
def test_messages_name_options_as_the_command_line_does(
    command: str, call: Callable[[], object], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever is told of an option can type it as it is told."""
    callbacks = {str(each.callback.__name__): each.callback for each in app.registered_commands}

    def fails(*_: object, **__: object) -> None:
        call()

    fails.__annotations__ = callbacks[command].__annotations__
    with pytest.raises(typer.Exit) as ended:
        ends_well(fails)()
    assert ended.value.exit_code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (PermissionError(13, "Permission denied", "closed/x"), "closed/x: expected a file"),
        (MemoryError("30 GiB"), "there is too little (30 GiB). Ask for less"),
    ],
)
def test_what_the_machine_refuses_is_one_line(
    error: Exception, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Closed folders and too little memory are no faults of the program: no traceback."""

    def command() -> int:
        raise error

    with pytest.raises(typer.Exit) as caught:
        ends_well(command)()
    assert caught.value.exit_code == 1
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


def test_predict_into_an_earlier_run_is_refused_before_anything_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the encoder nor the network is needed to see that results are there."""
    (tmp_path / "a.jpg").touch()
    (tmp_path / "predictions.json").touch()
    arguments = ["predict", str(tmp_path / "a.jpg"), "-o", str(tmp_path)]
    assert main([*arguments, "--encoder", str(tmp_path / "none.safetensors")]) == 2
    assert "it holds predictions.json. Use --resume" in capsys.readouterr().err


def test_several_rois_after_one_option_are_understood(
    small_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``--rois LOC PPA`` means both; what is not an ROI is named before anything is predicted."""
    write_bundle(small_bundle, tmp_path / "small.safetensors")
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    arguments = ["predict", str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]
    arguments += ["--encoder", str(tmp_path / "small.safetensors"), "--rois", "LOC", "PAP"]
    assert main(arguments) == 2
    assert "--rois must be one of LOC, PPA; got 'PAP'. Did you mean PPA?" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_flags_show_no_type_and_help_tells_the_exit_codes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Help says what to write, and what a script may expect."""
    assert main(["predict", "--help"]) == 0
    assert "<bool>" not in capsys.readouterr().out
    assert main(["--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "3 some inputs failed, the rest is done" in said


def test_serve_says_which_extra_it_needs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before an address is taken or an encoder loaded."""
    monkeypatch.setattr("imgtofmri.serve.server.find_spec", lambda _: None)
    assert main(["serve", "--port", "0"]) == 1
    said = capsys.readouterr().err
    assert "not installed: starlette, uvicorn, python-multipart" in said
    assert "pip install 'imgtofmri[serve]'" in said
