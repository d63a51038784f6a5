"""Movies into files: volumes, tables and sidecars, together or not at all."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import av
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from imgtofmri.analyses.predict import RunSummary, check_targets, predict_movies
from imgtofmri.bundle import Bundle
from imgtofmri.cli import main
from imgtofmri.encoder import Encoder, Settings
from imgtofmri.exceptions import OptionError
from imgtofmri.outputs import BidsLayout, NiftiLayout, OutputFolder
from imgtofmri.stimuli import Source

# The network's weights are a stand-in, which is said at each load.
pytestmark = pytest.mark.filterwarnings("ignore:.*not the published weights")

RATE_HZ = 4.0
N_FRAMES = 20


def write_movie(path: Path, seed: int = 5) -> Path:
    """Write five seconds of coloured noise at 10 Hz that cannot be compressed."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(50):
            noise = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def encoder(published_bundle: Bundle) -> Encoder:
    """Return the published encoder."""
    return Encoder(published_bundle)


@pytest.fixture
def settings(test_data: Path) -> Settings:
    """Return settings with the stand-in weights."""
    return Settings(("LOC", "PPA"), weights=test_data / "standin/resnet18_standin.safetensors")


def run(
    folder: Path, encoder: Encoder, settings: Settings, sources: list[Path], resume: bool = False
) -> RunSummary:
    """Predict movies into a folder, with subjects."""
    output = OutputFolder(folder, "predict", "predictions.json")
    output.claim(resume=resume)
    output.begin({"rate_hz": RATE_HZ})
    summary = predict_movies(
        encoder.predictor(settings),
        [Source(path, path.name, "movie") for path in sources],
        output,
        NiftiLayout(),
        rate_hz=RATE_HZ,
        subjects=True,
        progress=False,
    )
    output.close()
    return summary


def maps_of(path: Path, mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """Return the maps in a volume, (n_maps, n_voxels)."""
    return np.asarray(nib.load(path).dataobj)[mask].T


def table_of(path: Path) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Return a table's header and numbers."""
    with path.open(encoding="utf-8") as file:
        header, *rows = csv.reader(file, delimiter="\t")
    return header, np.array([[np.nan if x == "n/a" else float(x) for x in row] for row in rows])


@pytest.mark.slow
def test_predict_movies_files_hold_what_predict_movie_returns(
    tmp_path: Path, encoder: Encoder, settings: Settings
) -> None:
    """Volumes, table and sidecar agree with the prediction held in memory."""
    path = write_movie(tmp_path / "a.mp4")
    out = tmp_path / "out"
    summary = run(out, encoder, settings, [path])
    assert summary.done == ["a.mp4"]
    whole = encoder.predict_movie(path, RATE_HZ, settings, progress=False)
    assert len(whole) == N_FRAMES
    np.testing.assert_allclose(maps_of(out / "a.mp4.nii.gz", whole.mask), whole.group, atol=1e-4)
    for subject in whole.subject_names:
        maps = maps_of(out / f"a.mp4_sub-{subject}.nii.gz", whole.mask)
        np.testing.assert_allclose(maps, whole.subject(subject), atol=1e-4)
    image = nib.load(out / "a.mp4.nii.gz")
    assert image.header.get_zooms()[3] == pytest.approx(1 / RATE_HZ)
    assert image.header.get_xyzt_units() == ("mm", "sec")

    header, rows = table_of(out / "a.mp4_timeseries.tsv")
    assert header[:4] == ["onset", "group_LOC_L", "group_LOC_R", "group_LOC_both"]
    assert len(header) == 1 + 2 * 3 * 4
    np.testing.assert_allclose(rows[:, 0], np.arange(N_FRAMES) / RATE_HZ)
    means = whole.roi_means()
    expected = means.group[means.places.index(("PPA", "R"))]
    np.testing.assert_allclose(rows[:, header.index("group_PPA_R")], expected, rtol=1e-5)

    sidecar = json.loads((out / "a.mp4.json").read_text(encoding="utf-8"))
    assert sidecar["OnsetsSeconds"] == [k / RATE_HZ for k in range(N_FRAMES)]
    assert sidecar["RepetitionTime"] == 1 / RATE_HZ
    assert sidecar["NumberOfVolumes"] == N_FRAMES
    assert sidecar["Movie"]["codec"] == "h264"


@pytest.mark.slow
@pytest.mark.network
def test_predict_movies_truncated_movie_leaves_nothing(
    tmp_path: Path, encoder: Encoder, settings: Settings
) -> None:
    """A movie that breaks off is named, nothing of it is left, and the next one is predicted."""
    cut = write_movie(tmp_path / "cut.mp4")
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    whole = write_movie(tmp_path / "whole.mp4")
    out = tmp_path / "out"
    summary = run(out, encoder, settings, [cut, whole])
    assert summary.done == ["whole.mp4"]
    assert [failure.name for failure in summary.failures] == ["cut.mp4"]
    assert "cut short" in str(summary.failures[0].error)
    assert not list(out.glob("*cut*")) + list(out.glob(".*"))
    record = json.loads((out / "predictions.json").read_text(encoding="utf-8"))
    assert record["failures"][0]["name"] == "cut.mp4"


@pytest.mark.slow
@pytest.mark.network
def test_predict_movies_resume_keeps_whole_results_and_mends_others(
    tmp_path: Path, encoder: Encoder, settings: Settings
) -> None:
    """What an earlier run made and can be verified is kept; what was damaged is made again."""
    first, second = write_movie(tmp_path / "a.mp4"), write_movie(tmp_path / "b.mp4", 6)
    out = tmp_path / "out"
    run(out, encoder, settings, [first, second])
    good, bad = out / "a.mp4.nii.gz", out / "b.mp4_timeseries.tsv"
    before, text = good.stat().st_mtime_ns, bad.read_text(encoding="utf-8")
    bad.write_text("onset\n", encoding="utf-8")
    summary = run(out, encoder, settings, [first, second], resume=True)
    assert (summary.kept, summary.done) == (["a.mp4"], ["b.mp4"])
    assert good.stat().st_mtime_ns == before
    assert bad.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("file", ["a.mp4.nii.gz", "a.mp4_timeseries.tsv", "a.mp4.json"])
def test_check_targets_movie_never_writes_over_strangers(tmp_path: Path, file: str) -> None:
    """Any of a movie's files that is there already stops the run before it begins."""
    (tmp_path / file).write_text("mine", encoding="utf-8")
    sources = [Source(Path("a.mp4"), "a.mp4", "movie")]
    with pytest.raises(OptionError, match=f"{file}: expected no file.*`overwrite`"):
        check_targets(OutputFolder(tmp_path, "predict"), sources, NiftiLayout())


def test_bids_layout_names_a_movies_files_alike() -> None:
    """Volume, sidecar and table differ in their ending alone, as BIDS wants it."""
    layout = BidsLayout()
    volume, sidecar = layout.volume("film.mp4", movie=True), layout.sidecar("film.mp4")
    assert volume.removesuffix(".nii.gz") == sidecar.removesuffix(".json")
    stem = volume.removesuffix("_bold.nii.gz")
    assert layout.timeseries("film.mp4") == f"{stem}_timeseries.tsv"


@pytest.mark.network
def test_predict_command_images_and_movies_mixed(
    tmp_path: Path, test_data: Path, published_wheel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One command takes both; a bad movie is named, the rest is written, the exit code is 3."""
    inputs, out = tmp_path / "in", tmp_path / "out"
    inputs.mkdir()
    with zipfile.ZipFile(published_wheel) as wheel:
        data = wheel.read("img2fmri/tests/test_data/images/horse1.jpg")
    (inputs / "horse1.jpg").write_bytes(data)
    (inputs / "bad.mp4").write_bytes(b"no movie")
    write_movie(inputs / "a.mp4")
    weights = str(test_data / "standin/resnet18_standin.safetensors")
    arguments = ["predict", str(inputs), "-o", str(out), "--weights", weights, "--rate-hz", "1"]
    assert main(arguments) == 3
    assert "bad.mp4', which cannot be opened" in capsys.readouterr().err
    assert nib.load(out / "horse1.jpg.nii.gz").ndim == 3
    assert nib.load(out / "a.mp4.nii.gz").shape[3] == 5
    assert not list(out.glob("bad*"))


def test_predict_command_bad_rate_is_usage_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A rate that is no rate ends the command before anything is loaded or written."""
    out = tmp_path / "out"
    assert main(["predict", "a.mp4", "-o", str(out), "--rate-hz", "0"]) == 2
    assert "--rate-hz must be above 0" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.network
def test_predict_movie_equals_published_frames(
    tmp_path: Path, published_wheel: Path, encoder: Encoder, test_data: Path
) -> None:
    """Each frame of the published film correlates with its published response by 0.985 or more.

    The network's weights are a stand-in for the published ones, which is why it is not 1.
    """
    with zipfile.ZipFile(published_wheel) as wheel:
        path = wheel.extract("img2fmri/tests/test_data/landscape.mp4", tmp_path)
    published = np.load(test_data / "reference" / "published_movie.npz")
    prediction = encoder.predict_movie(
        path,
        rois=["LOC", "RSC", "PPA"],
        mask="support",
        weights=test_data / "standin" / "resnet18_standin.safetensors",
        progress=False,
    )
    assert len(prediction) == 15
    for got, expected in zip(prediction.group, published["responses"], strict=False):
        assert np.corrcoef(got, expected)[0, 1] >= 0.985
