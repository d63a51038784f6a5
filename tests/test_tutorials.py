"""The tutorials: each runs to its end, offline, on stand-in data and whatever network is there."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from imgtofmri import assets
from imgtofmri.encoder import reference
from imgtofmri.exceptions import AssetError

FOLDER = Path(__file__).parents[1] / "docs" / "tutorials"
NOTEBOOKS = [path for path in sorted(FOLDER.glob("*.md")) if "\nkernelspec:" in path.read_text()]
OF_PUBLISHED_WORK = ("overview", "model_training")

NOWHERE = "http://127.0.0.1:9"
"""A proxy that is not there: what asks a network for anything fails at once."""


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the published wheel in the cache where it can be had, then cut the network off."""
    with suppress(AssetError):
        reference.reference_bundle(progress=False)
    monkeypatch.setenv(assets.OFFLINE_VARIABLE, "1")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, NOWHERE)
    shared = os.environ.get("IMGTOFMRI_TEST_DATA")
    weights = Path(shared or "") / "standin" / "resnet18_standin.safetensors"
    if shared and weights.is_file():
        monkeypatch.setenv("IMGTOFMRI_WEIGHTS", str(weights))


@pytest.fixture
def execute(offline: None) -> Callable[[Path], Any]:
    """Return what executes a notebook in its folder; skip where that cannot be done."""
    why = "needs the extra [docs]: {} is not installed"
    jupytext = pytest.importorskip("jupytext", reason=why.format("jupytext"))
    nbclient = pytest.importorskip("nbclient", reason=why.format("nbclient"))
    pytest.importorskip("ipykernel", reason=why.format("ipykernel"))

    def run(path: Path) -> Any:
        notebook = jupytext.read(path)
        place = {"metadata": {"path": str(path.parent)}}
        nbclient.NotebookClient(notebook, timeout=600, resources=place).execute()
        return notebook

    return run


def printed(notebook: Any) -> dict[str, str]:
    """Return what a notebook wrote to each stream."""
    streams = {"stdout": "", "stderr": ""}
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                streams[output.name] += output.text
    return streams


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.filterwarnings("ignore::Warning:zmq", "ignore::Warning:jupyter_client")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_tutorial_runs_offline(path: Path, execute: Callable[[Path], Any]) -> None:
    """No cell raises or warns, and results say that they are of stand-in data."""
    said = printed(execute(path))
    assert "Warning" not in said["stderr"]
    if path.stem in OF_PUBLISHED_WORK:
        assert said["stdout"].count("STAND-IN") > 5


@pytest.fixture
def standin() -> ModuleType:
    """Return the module that makes stand-in data."""
    spec = importlib.util.spec_from_file_location("standin", FOLDER / "standin.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_standin_without_anything_still_predicts(
    standin: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no wheel, no weights and no network, drawings go through a generated encoder."""
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setenv(assets.OFFLINE_VARIABLE, "1")
    monkeypatch.delenv("IMGTOFMRI_WEIGHTS", raising=False)
    encoder, which = standin.find_encoder()
    assert "GENERATED" in which
    network, which = standin.find_network({"resnet18": ["avgpool"]})
    assert "RANDOM" in which
    pictures, which = standin.find_samples(tmp_path / "samples")
    assert "DRAWINGS" in which
    prediction = encoder.predict(pictures, backbone=network, progress=False)
    assert prediction.rois == tuple(standin.CENTRES_MM)
    assert np.ptp(prediction.group, axis=0).max() > 0
