"""Searching layers: planted answers, the fit of each layer alone, table, figure and commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib.image
import nibabel as nib
import numpy as np
import onnx
import pandas as pd
import pytest
import typer
from onnx import TensorProto, helper
from PIL import Image
from typer.testing import CliRunner

from imgtofmri.backbones import load_backbone
from imgtofmri.cli.backbones import list_backbones, show_backbone
from imgtofmri.cli.layers import layers as layers_command
from imgtofmri.exceptions import OptionError
from imgtofmri.stimuli import Failure, read_images
from imgtofmri.training import fit_study, layer_search
from imgtofmri.training.figures import plot_layers

LAYERS = ("layer1", "layer2/max", "layer3/flatten:30")
N_PICTURES, N_VOXELS = 60, 6


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a study in which LOC's voxels follow layer1 and PPA's layer 3's projection."""
    folder = tmp_path_factory.mktemp("study")
    rng = np.random.default_rng(3)
    for number in range(N_PICTURES):
        coarse = rng.integers(0, 256, (5, 5, 3), np.uint8)
        fine = Image.fromarray(coarse).resize((64, 64), int(rng.integers(0, 4)))
        fine.save(folder / f"p{number:02d}.png")
    frames = list(read_images(sorted(folder.glob("*.png"))))
    pixels = np.stack([frame.pixels for frame in frames if not isinstance(frame, Failure)])
    for roi, layer, first in (("LOC", LAYERS[0], 100), ("PPA", LAYERS[2], 300)):
        mask = np.zeros(512, np.uint8)
        mask[first : first + N_VOXELS] = 1
        image = nib.Nifti1Image(mask.reshape(8, 8, 8), np.diag([3.0, 3, 3, 1]))
        nib.save(image, folder / f"{roi}.nii.gz")
        features = load_backbone("resnet18", weights="untrained", layers=[layer])(pixels)
        left, values, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
        strong = left[:, :4] * np.sqrt(N_PICTURES)
        assert values[3] > 0
        for subject in ("S1", "S2"):
            signal = strong @ rng.normal(size=(4, N_VOXELS))
            noisy = signal + 0.5 * rng.normal(size=signal.shape)
            np.save(folder / f"{subject}_{roi}.npy", noisy.astype(np.float32))
    (folder / "study.toml").write_text(text(LAYERS))
    return folder / "study.toml"


def text(layers: tuple[str, ...]) -> str:
    """Return the study file."""
    return f"""
id = "planted"
title = "Two ROIs of two layers"
licence = "CC0"
[template]
grid = "LOC.nii.gz"
[stimuli]
folder = "."
[backbone]
name = "resnet18"
weights = "untrained:0"
layers = {list(layers)}
[fit]
alphas = [1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0, 1000.0]
seed = 1
[subject]
transform = {{ kind = "same" }}
rois.LOC = {{ mask = "LOC.nii.gz", responses = "{{name}}_LOC.npy" }}
rois.PPA = {{ mask = "PPA.nii.gz", responses = "{{name}}_PPA.npy" }}
[[subjects]]
name = "S1"
[[subjects]]
name = "S2"
"""


@pytest.fixture(scope="module")
def table(study: Path) -> pd.DataFrame:
    """Return the table of the search."""
    return layer_search(study, progress=False)


@pytest.mark.slow
def test_layer_search_finds_the_planted_layers(table: pd.DataFrame) -> None:
    """Each ROI's best layer, for each subject, is the one that made its responses."""
    assert len(table) == 2 * 2 * 3
    for (_, roi), rows in table.groupby(["subject", "roi"]):
        best = rows.loc[rows["median_r"].idxmax()]
        assert best["layer"] == {"LOC": LAYERS[0], "PPA": LAYERS[2]}[str(roi)]
        assert best["median_r"] > 0.7
    assert dict(zip(table["layer"], table["n_features"], strict=True)) == dict(
        zip(LAYERS, (64, 128, 30), strict=True)
    )
    assert table["noise_ceiling_r"].isna().all()


@pytest.mark.slow
def test_layer_search_equals_a_fit_of_each_layer_alone(study: Path, table: pd.DataFrame) -> None:
    """A row of the table is what fitting a study of that one layer reports."""
    alone = study.with_name("alone.toml")
    for layer in LAYERS:
        alone.write_text(text((layer,)))
        bundle = fit_study(alone, progress=False)
        for subject in bundle.subjects:
            for roi, model in subject.rois.items():
                row = table.set_index(["subject", "roi", "layer"]).loc[[(subject.name, roi, layer)]]
                want = np.percentile(model.extras["cv_r"], [50, 25, 75])
                got = row[["median_r", "r_25", "r_75"]].to_numpy()[0]
                np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [("layer1",), ("layer1", "layer1")])
def test_layer_search_fewer_than_two_layers_are_refused(
    layers: tuple[str, ...], study: Path
) -> None:
    """One layer is no search, nor is one twice."""
    with pytest.raises(OptionError, match=r"layers must be two or more different ones; got layer1"):
        layer_search(study, layers, progress=False)


@pytest.mark.slow
def test_plot_layers_shows_the_table_s_numbers(table: pd.DataFrame) -> None:
    """One panel for each ROI; its thick line is the subjects' mean, the ring its highest point."""
    told = table.assign(noise_ceiling_r=0.9)
    figure = plot_layers(told)
    for panel, roi in zip(figure.axes, ("LOC", "PPA"), strict=True):
        rows = told[told["roi"] == roi]
        want = [rows[rows["layer"] == layer]["median_r"].mean() for layer in LAYERS]
        lines = panel.get_lines()
        np.testing.assert_allclose(lines[2].get_ydata(), want)
        assert lines[3].get_xdata()[0] == int(np.argmax(want))
        assert list(lines[4].get_ydata()) == [0.9, 0.9]
        assert [tick.get_text() for tick in panel.get_xticklabels()] == list(LAYERS)
        assert panel.get_title(loc="left") == roi


@pytest.fixture
def run() -> Callable[..., str]:
    """Return a function that runs a command and returns what it prints."""
    app = typer.Typer()
    app.command("layers")(layers_command)
    app.command("list")(list_backbones)
    app.command("show")(show_backbone)

    def call(*arguments: object) -> str:
        result = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    return call


@pytest.mark.slow
def test_layers_command_writes_table_and_figure(
    run: Callable[..., str], study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command writes what the function returns, says the best layers, and fills the cache."""
    monkeypatch.setenv("IMGTOFMRI_CACHE", str(tmp_path / "cache"))
    out = tmp_path / "out"
    said = run("layers", study, "-l", "layer1", "-l", LAYERS[2], "-o", out, "--quiet")
    written = pd.read_csv(out / "layers.tsv", sep="\t")
    assert list(dict.fromkeys(written["layer"])) == ["layer1", LAYERS[2]]
    assert "LOC: best is layer1, cross-validated r 0." in said
    assert f"PPA: best is {LAYERS[2]}" in said
    assert matplotlib.image.imread(out / "layers.png").std() > 0
    assert (out / "layers.svg").stat().st_size > 0
    assert len(list((tmp_path / "cache" / "features").glob("resnet18-*.sqlite"))) == 1


def test_backbones_commands_list_networks_and_tensors(
    run: Callable[..., str], tmp_path: Path
) -> None:
    """The built-in networks with their layers, and an ONNX file's tensors with shapes."""
    listed = run("list")
    assert "resnet18: ResNet-18" in listed
    assert "layers: layer1, layer2, layer3, avgpool" in listed
    assert "layer3/sd   n x 256  deviation over space" in run("show", "resnet18")
    nodes = [
        helper.make_node("Sigmoid", ["images"], ["bright"]),
        helper.make_node("GlobalMaxPool", ["bright"], ["top"]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])
    top = helper.make_tensor_value_info("top", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [images], [top])
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "m.onnx")
    assert run("show", tmp_path / "m.onnx").splitlines() == [
        "layer   shape          made by",
        "bright  n x 3 x 8 x 8  Sigmoid",
        "top     n x 3 x 1 x 1  GlobalMaxPool, output",
    ]
    with pytest.raises(OptionError, match="must be one of resnet18"):
        show_backbone("resnet-18")
