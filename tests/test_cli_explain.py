"""The command explain, as a person uses it, and its figure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from imgtofmri import plot_attribution
from imgtofmri.bundle import read_bundle
from imgtofmri.cli import main
from imgtofmri.encoder import Encoder
from imgtofmri.exceptions import OptionError
from imgtofmri.spaces import transform

Run = Callable[..., int]

pytestmark = pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")


@pytest.fixture
def pictures(dark_and_bright: Callable[[int], tuple[Path, Path]]) -> Path:
    """Return a folder of two pictures."""
    return dark_and_bright(2)[1]


@pytest.fixture
def run(small_encoder: Path, random_weights: Path, tmp_path: Path) -> Run:
    """Return a function that runs the command with a small encoder and gives its exit code."""

    def call(*arguments: object) -> int:
        common = ("--encoder", small_encoder, "--weights", random_weights, "-q")
        words = ("explain", *arguments, *common, "-o", tmp_path / "out")
        return main([str(word) for word in words])

    return call


def test_explain_writes_tables_that_sum_and_figures(
    run: Run,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Places and intercept make the response in every row; a page counts what it leaves out."""
    (pictures / "broken.png").write_bytes(b"not a picture")
    assert run(pictures) == 3
    said = capsys.readouterr().err
    assert "2 pictures explained by split" in said
    assert "broken.png" in said
    out = tmp_path / "out"
    places = pd.read_csv(out / "contributions.tsv", sep="\t")
    responses = pd.read_csv(out / "responses.tsv", sep="\t")
    assert len(responses) == 2 * 2 * 3
    for name, table in (("contributions", places), ("responses", responses)):
        meanings = json.loads((out / f"{name}.json").read_text("utf-8"))
        assert list(meanings) == list(table.columns)
    key = ["image", "roi", "subject"]
    total = places.groupby(key)["contribution"].sum() + responses.set_index(key)["intercept"]
    wanted = responses.set_index(key)["response"]
    np.testing.assert_allclose(total, wanted.loc[total.index], atol=1e-5 * abs(wanted).max())
    page = (out / "report.html").read_text("utf-8")
    assert "Where in 2 images predicted responses come from" in page
    assert "bright0.png_PPA.png" in page
    figures = {path.name for path in (out / "figures").iterdir()}
    assert figures == {f"bright{n}.png_{roi}.png" for n in (0, 1) for roi in ("LOC", "PPA")}
    assert "This page shows the first" not in page
    monkeypatch.setattr("imgtofmri.report.contents.MOST_FIGURES", 3)
    monkeypatch.setattr("imgtofmri.report.contents.MOST_TABLES", 1)
    assert main(["report", str(out)]) == 0
    page = (out / "report.html").read_text("utf-8")
    assert page.count("<figcaption>") == 3
    assert "This page shows the first 3 of 4 figures." in page
    assert "This page shows the first 1 of 2 tables." in page


@pytest.mark.slow
def test_explain_at_a_point_with_negative_coordinates(
    run: Run,
    pictures: Path,
    small_encoder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A voxel is explained; outside the mask is refused in the command line's words."""
    encoder = Encoder(read_bundle(small_encoder))
    spatial = encoder.spatial_model()
    covered = np.argwhere(spatial.mask)[spatial.coverage.sum(axis=0) > 0.5]
    x, y, z = transform(encoder.bundle.template.affine, covered[:1].astype(float))[0]
    assert run(pictures, "--at", x, y, z, "--no-figures") == 0
    table = pd.read_csv(tmp_path / "out" / "responses.tsv", sep="\t")
    assert set(table["roi"]) == {f"({x:g}, {y:g}, {z:g})"}
    assert not (tmp_path / "out" / "figures").exists()
    assert run(pictures, "--at", -80, y, z, "--overwrite") == 2
    assert "--at must be a point where the model knows" in capsys.readouterr().err


def test_plot_attribution_has_one_symmetric_scale(
    small_encoder: Path, random_weights: Path, pictures: Path
) -> None:
    """The picture, the group and each person; colours end at the largest contribution."""
    found = Encoder(read_bundle(small_encoder)).attribution(
        pictures, "PPA", weights=random_weights, progress=False
    )
    figure = plot_attribution(found, "bright0.png", "PPA")
    overlays = [axes.images[1] for axes in figure.axes if len(axes.images) == 2]
    largest = abs(found.contributions[0, :, 0]).max()
    assert [image.get_clim() for image in overlays] == [(-largest, largest)] * 3
    np.testing.assert_array_equal(overlays[1].get_array(), found.of("bright0.png", "PPA", "S1"))
    texts = " ".join(text.get_text() for text in figure.texts)
    assert "Split: response = sum of the places + intercept" in texts
    assert "comes from (split)" in texts
    assert "resnet18" in texts
    with pytest.raises(OptionError, match="target must be one of PPA"):
        plot_attribution(found, "bright0.png", "LOC")


@pytest.mark.slow
def test_explain_takes_movies_frame_by_frame(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each frame is a picture of its own; what is no movie is named, and the rest is explained."""
    import av

    with av.open(str(tmp_path / "film.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for level in range(4):
            pixels = np.full((48, 64, 3), 60 * level, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    (tmp_path / "broken.mp4").write_bytes(b"no movie")
    words = (tmp_path / "film.mp4", tmp_path / "broken.mp4", "--no-figures", "--rate-hz", 2)
    assert run(*words) == 3
    assert "broken.mp4" in capsys.readouterr().err
    table = pd.read_csv(tmp_path / "out" / "responses.tsv", sep="\t")
    assert list(dict.fromkeys(table["image"])) == [
        "film.mp4_t00000.000s",
        "film.mp4_t00000.500s",
    ]
    assert run(tmp_path / "broken.mp4", "--overwrite", "--no-figures") == 4
    assert run(tmp_path / "missing.png", "--overwrite") == 4
    assert "missing.png', which does not exist" in capsys.readouterr().err
