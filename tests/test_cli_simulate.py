"""``imgtofmri simulate``, from an events table or a movie to a dataset."""

from __future__ import annotations

import dataclasses
import json
import re
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from imgtofmri.analyses.simulate import (
    Events,
    Noise,
    Scan,
    read_experiment,
    save_simulation,
    simulate_bold,
    simulate_experiment,
)
from imgtofmri.analyses.simulate.courses import COURSES
from imgtofmri.bundle import Bundle, write_bundle
from imgtofmri.cli.simulate import simulate
from imgtofmri.encoder import Encoder
from imgtofmri.exceptions import (
    DataError,
    ImgToFmriError,
    OptionError,
    StimulusError,
)
from imgtofmri.experiments import movie_events
from imgtofmri.experiments.tables import find_stimuli, read_events
from imgtofmri.files import sha256_of
from imgtofmri.report import write_report

pytestmark = pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")

app = typer.Typer()
app.command()(simulate)


@pytest.fixture
def bundle(small_bundle: Bundle, rng: np.random.Generator) -> Bundle:
    """Return the small encoder, of a ResNet-18's 512 features."""
    subjects = []
    for subject in small_bundle.subjects:
        rois = {
            roi: dataclasses.replace(
                model, weights=rng.normal(size=(512, model.n_voxels)).astype(np.float32)
            )
            for roi, model in subject.rois.items()
        }
        subjects.append(dataclasses.replace(subject, rois=rois))
    card = {**small_bundle.card, "features": {**small_bundle.card["features"], "n_features": 512}}
    return Bundle(card, small_bundle.template, tuple(subjects))


@pytest.fixture
def settings(bundle: Bundle, random_weights: Path, tmp_path: Path) -> list[str]:
    """Return what lets the command run anywhere."""
    path = tmp_path / "encoder.safetensors"
    write_bundle(bundle, path)
    return ["--encoder", str(path), "--weights", str(random_weights), "--quiet"]


@pytest.fixture
def experiment(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, Path]:
    """Return an events table and the folder of its two pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        pixels = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    table = tmp_path / "events.tsv"
    table.write_text(
        "onset\tduration\ttrial_type\tstim_file\tamplitude\n"
        "2\t3\tA\ta.png\t1\n"
        "12.3\t3\tB\tb.png\t0.5\n"
        "30\t2\tA\ta.png\t1\n"
        "50\t0.5\tkey\tn/a\tn/a\n",
        encoding="utf-8",
    )
    return table, folder


@pytest.fixture
def film(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Return a movie of 3.2 s whose picture changes all the time."""
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = Fraction(1, 10)
        for _ in range(32):
            pixels = np.kron(rng.integers(0, 256, (6, 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return path


def run(*arguments: object) -> None:
    """Run the command; what it raises is raised."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None:
        raise result.exception
    assert result.exit_code == 0


def refused(*arguments: object) -> str:
    """Run the command and return what it says against its arguments."""
    with pytest.raises(ImgToFmriError) as info:
        run(*arguments)
    return str(info.value)


def assert_same(run_values: np.ndarray, expected: np.ndarray) -> None:
    """Compare runs to the rounding of float32, of which the signal is what counts."""
    largest = np.abs(expected - 100.0).max()
    assert largest > 0.01
    np.testing.assert_allclose(run_values, expected, atol=1e-5 * (largest + 1.0))


def bold(root: Path, subject: str = "S1", number: int = 1) -> Any:
    """Load a run."""
    stem = f"sub-{subject}_task-simulation_run-{number:02d}_space-MNI152NLin6Asym"
    return nib.load(root / f"sub-{subject}" / "func" / f"{stem}_desc-simulated_bold.nii.gz")


def test_simulate_runs_hold_the_predicted_responses(
    tmp_path: Path,
    experiment: tuple[Path, Path],
    settings: list[str],
    bundle: Bundle,
    random_weights: Path,
) -> None:
    """Each subject's run is what simulate_bold makes of what Encoder.predict returns."""
    table, folder = experiment
    out = tmp_path / "sim"
    options = ["--tr-s", 2, "--scale", 0.5, "--voxels", "predicted", "--hrf", "spm"]
    run(table, "--stimuli", folder, "-o", out, *options, *settings)
    predicted = Encoder(bundle).predict(
        [folder / "a.png", folder / "b.png"], weights=random_weights, progress=False
    )
    events = Events([2, 12.3, 30], [3, 3, 2], [0, 1, 0], [1, 0.5, 1])
    for subject, responses in zip(("S1", "S2"), predicted.subjects, strict=True):
        image = bold(out, subject)
        assert image.shape == (12, 10, 9, 24)
        expected = simulate_bold(responses, events, 2.0, 24, hrf="spm", percent_per_unit=0.5)
        data = np.asarray(image.dataobj)
        assert_same(data[predicted.mask].T, expected)
        assert not data[~predicted.mask].any()
    name = (
        "sub-S1/func/sub-S1_task-simulation_run-01_space-MNI152NLin6Asym_desc-simulated_bold.json"
    )
    sidecar = json.loads((out / name).read_text("utf-8"))["Simulation"]
    assert (sidecar["encoder"], sidecar["weights_verified"]) == ("small", False)
    assert (out / "stimuli" / "b.png").read_bytes() == (folder / "b.png").read_bytes()


@pytest.mark.slow
def test_simulate_tells_the_signal_of_regions(
    tmp_path: Path,
    experiment: tuple[Path, Path],
    settings: list[str],
    bundle: Bundle,
    random_weights: Path,
) -> None:
    """The table of regions is the mean of noiseless runs over their voxels; its figure is there."""
    table, folder = experiment
    out = tmp_path / "sim"
    options = ["--tr-s", 2, "--scale", 0.5, "--voxels", "predicted", "--runs", 2]
    run(table, "--stimuli", folder, "-o", out, *options, *settings)
    predicted = Encoder(bundle).predict(
        [folder / "a.png", folder / "b.png"], weights=random_weights, progress=False
    )
    courses = pd.read_csv(out / "timecourses.tsv", sep="\t")
    assert list(courses.columns) == list(COURSES)
    assert len(courses) == 2 * 2 * len(predicted.rois) * 24
    for (subject, number, roi), rows in courses.groupby(["subject", "run", "roi"]):
        data = np.asarray(bold(out, subject, number).dataobj)[predicted.mask]
        signal = data[predicted.roi_mask(roi)].mean(axis=0, dtype=np.float64) - 100.0
        assert rows["signal"].to_numpy() == pytest.approx(signal, rel=1e-5, abs=3e-5)
        assert rows["time_s"].tolist() == [2.0 * volume for volume in range(24)]
    drawn = (out / "timecourses.svg").read_text("utf-8")
    assert all(f">{word}<" in drawn for word in ("A", "B", *predicted.rois))
    assert ">key<" not in drawn  # A key is pressed, not shown.
    page = write_report(out).read_text("utf-8")
    assert "timecourses.svg" in page


@pytest.mark.slow
def test_simulate_movie_holds_its_frames(
    tmp_path: Path, film: Path, settings: list[str], bundle: Bundle, random_weights: Path
) -> None:
    """A movie's run is what its frames' predictions make, each lasting until the next."""
    out = tmp_path / "sim"
    options = ["--tr-s", 1, "--scale", 1, "--voxels", "predicted", "--hrf", "gam"]
    run(film, "-o", out, *options, "--n-volumes", 12, "--subjects", "group", *settings)
    predicted = Encoder(bundle).predict_movie(
        film, average="mean", weights=random_weights, progress=False
    )
    assert predicted.onsets_s is not None
    events = movie_events(predicted.onsets_s, end_s=3.2)
    group = predicted.subjects.mean(axis=0)
    expected = simulate_bold(group, events, 1.0, 12, hrf="gam")
    data = np.asarray(bold(out, "group").dataobj)
    assert_same(data[predicted.mask].T, expected)
    rows = (out / "sub-group/func/sub-group_task-simulation_run-01_events.tsv").read_text("utf-8")
    assert rows.splitlines()[1] == "0\t3.2\tmovie\tfilm.mp4"
    (shown,) = json.loads((out / "simulate.json").read_text("utf-8"))["inputs"]
    assert (shown["name"], shown["sha256"]) == ("film.mp4", sha256_of(film))


@pytest.mark.slow
def test_simulate_movie_in_a_table_is_shown_from_its_onset(
    tmp_path: Path, film: Path, settings: list[str], bundle: Bundle, random_weights: Path
) -> None:
    """Frames follow the event's onset, as long as it lasts, with its amplitude, among pictures."""
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    table = tmp_path / "events.tsv"
    table.write_text(
        "onset\tduration\tstim_file\tamplitude\n"
        "1.5\t2.2\tfilm.mp4\t2\n6\t1\ta.png\t1\n8\t3.2\tfilm.mp4\t1\n",
        encoding="utf-8",
    )
    out = tmp_path / "sim"
    options = ["--tr-s", 1, "--voxels", "predicted", "--n-volumes", 20, "--subjects", "group"]
    run(table, "--stimuli", tmp_path, "-o", out, *options, *settings)
    encoder = Encoder(bundle)
    chosen = {"average": "mean", "weights": random_weights, "progress": False}
    frames = encoder.predict_movie(film, **chosen)
    picture = encoder.predict([tmp_path / "a.png"], **chosen)
    maps = np.concatenate([frames.subjects, picture.subjects], axis=1).mean(axis=0)
    starts = frames.onsets_s
    assert starts is not None
    shown = starts < 2.2
    whole = np.diff([*starts, 3.2])
    events = Events(
        [*(1.5 + starts[shown]), 6.0, *(8.0 + starts)],
        [*np.minimum(whole[shown], 2.2 - starts[shown]), 1.0, *whole],
        [*np.flatnonzero(shown), len(starts), *range(len(starts))],
        [*np.full(shown.sum(), 2.0), 1.0, *np.ones(len(starts))],
    )
    expected = simulate_bold(maps, events, 1.0, 20)
    assert_same(np.asarray(bold(out, "group").dataobj)[frames.mask].T, expected)
    assert sorted(path.name for path in (out / "stimuli").iterdir()) == ["a.png", "film.mp4"]


def test_simulate_reads_its_own_movie_back(tmp_path: Path, film: Path, settings: list[str]) -> None:
    """The events that a movie's run writes simulate the same run."""
    first, again = tmp_path / "first", tmp_path / "again"
    options = ["--tr-s", 1, "--voxels", "predicted", "--subjects", "group", *settings]
    run(film, "-o", first, *options)
    table = first / "sub-group/func/sub-group_task-simulation_run-01_events.tsv"
    run(table, "--stimuli", first / "stimuli", "-o", again, *options)
    runs = [np.asarray(bold(root, "group").dataobj) for root in (first, again)]
    np.testing.assert_array_equal(*runs)
    for root in (first, again):
        assert json.loads((root / "simulate.json").read_text("utf-8"))["settings"]["rate_hz"] == 2.0


def test_simulate_movie_shown_longer_than_it_lasts_is_refused(
    tmp_path: Path, film: Path, settings: list[str]
) -> None:
    """A movie cannot be shown for longer than it lasts, nor for no time."""
    table = tmp_path / "events.tsv"
    arguments = (table, "--stimuli", tmp_path, "-o", tmp_path / "sim", "--tr-s", 1, *settings)
    for duration in ("9", "0"):
        text = f"onset\tduration\tstim_file\n0\t{duration}\tfilm.mp4\n"
        table.write_text(text, encoding="utf-8")
        match = f"line 2: a movie's duration must be above 0 and at most .* got {duration}"
        with pytest.raises(DataError, match=match):
            run(*arguments)
    assert not (tmp_path / "sim").exists()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("clips\\film.mp4", "Write / between"), ("NA", "Write n/a where nothing"), ("x.mp4", "Check")],
)
def test_find_stimuli_says_what_is_wrong_with_a_name(
    tmp_path: Path, name: str, remedy: str
) -> None:
    """Windows' paths and other programs' missing values are not there, for a reason each."""
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "film.mp4").touch()
    (tmp_path / "e.tsv").write_text(f"onset\tduration\tstim_file\n0\t1\t{name}\n")
    with pytest.raises(StimulusError, match=rf"1 missing: .*\(.*line 2\)\. {remedy}"):
        find_stimuli([read_events(tmp_path / "e.tsv")], tmp_path)


@pytest.mark.slow
def test_simulate_runs_are_numbered_at_one_width(
    tmp_path: Path, experiment: tuple[Path, Path], settings: list[str]
) -> None:
    """Names of runs sort as the runs were made, two digits and more where it takes them."""
    table, folder = experiment
    options = ["--tr-s", 2, "--voxels", "predicted", "--subjects", "group", "--runs", 101]
    run(table, "--stimuli", folder, "-o", tmp_path / "many", *options, *settings)
    names = sorted(path.name for path in (tmp_path / "many").rglob("*_events.tsv"))
    assert [int(re.findall(r"run-(\d{3})_", name)[0]) for name in names] == [*range(1, 102)]


@pytest.mark.slow
@pytest.mark.parametrize("percent", [1.0, 0.5])
def test_simulate_scale_makes_the_reference_what_it_says(
    tmp_path: Path,
    experiment: tuple[Path, Path],
    settings: list[str],
    bundle: Bundle,
    random_weights: Path,
    percent: float,
) -> None:
    """The factor turns the people's mean difference in their own ROIs into the given percent."""
    table, folder = experiment
    out = tmp_path / "sim"
    predicted = Encoder(bundle).predict(
        [folder / "a.png", folder / "b.png"], average="mean", weights=random_weights, progress=False
    )
    own = [predicted.roi_responses("LOC", name).mean(axis=1) for name in ("S1", "S2")]
    difference = float(np.mean([values[0] - values[1] for values in own]))
    contrast = "A - B" if difference > 0 else "B - A"
    options = ["--tr-s", 2, "--scale", f"{percent}:{contrast}:LOC", "--voxels", "predicted"]
    run(table, "--stimuli", folder, "-o", out, *options, *settings)
    recorded = json.loads((out / "simulate.json").read_text("utf-8"))["settings"]
    assert recorded["percent_per_unit"] == pytest.approx(percent / abs(difference), rel=1e-5)
    assert recorded["scale"] == f"{contrast} is {percent:g} % in LOC"
    events = Events([2, 12.3, 30], [3, 3, 2], [0, 1, 0], [1, 0.5, 1])
    expected = simulate_bold(
        predicted.subjects[0], events, 2.0, 24, percent_per_unit=recorded["percent_per_unit"]
    )
    assert_same(np.asarray(bold(out).dataobj)[predicted.mask].T, expected)
    turned = " - ".join(reversed(contrast.split(" - ")))
    with pytest.raises(DataError, match=rf"{turned} must be above 0 in LOC .* Turn the contrast"):
        run(
            table,
            "--stimuli",
            folder,
            "-o",
            tmp_path / "x",
            "--tr-s",
            2,
            *settings,
            "--scale",
            f"1:{turned}:LOC",
        )


@pytest.mark.slow
def test_simulate_noise_brain_and_drawn_subjects(
    tmp_path: Path, experiment: tuple[Path, Path], settings: list[str]
) -> None:
    """Several subjects and runs, a brain around the ROIs, int16."""
    table, folder = experiment
    out = tmp_path / "sim"
    options = ["--tr-s", 2, "--subjects", 3, "--runs", 2, "--seed", 4, "--n-volumes", 40]
    quiet = ["--scale", 3, "--voxels", "brain", "--no-copy-stimuli"]
    run(table, "--stimuli", folder, "-o", out, *options, *quiet, *settings)
    noisy = tmp_path / "noisy"
    options += ["--tsnr", 40, "--dtype", "int16"]
    run(table, "--stimuli", folder, "-o", noisy, *options, *quiet, *settings)
    assert sorted(path.name for path in out.glob("sub-*")) == ["sub-sim1", "sub-sim2", "sub-sim3"]
    assert not (out / "stimuli").exists()
    clean = bold(out, "sim2", 2).get_fdata()
    residual = bold(noisy, "sim2", 2).get_fdata() - clean
    inside = clean.any(axis=-1)
    assert inside.mean() > 0.5
    assert 100.0 / residual[inside].std() == pytest.approx(40.0, rel=0.05)
    other = bold(noisy, "sim2", 1).get_fdata() - clean
    assert abs(np.corrcoef(residual[inside].ravel(), other[inside].ravel())[0, 1]) < 0.1


@pytest.mark.slow
def test_simulate_smooth_noise(
    tmp_path: Path, experiment: tuple[Path, Path], settings: list[str]
) -> None:
    """Neighbouring voxels' noise is alike where its smoothness is asked for, and said so."""
    table, folder = experiment
    options = ["--tr-s", 2, "--subjects", "group", "--drift-share", 0, "--tsnr", 40]
    options += ["--scale", 1e-4]
    alike = {}
    for name, fwhm_mm in (("rough", 0), ("smooth", 12)):
        given = ["-o", tmp_path / name, "--noise-fwhm-mm", fwhm_mm, *options, *settings]
        run(table, "--stimuli", folder, *given)
        data = bold(tmp_path / name, "group").get_fdata()
        inside = data.any(axis=-1)
        both = inside[1:] & inside[:-1]
        noise = data - data.mean(axis=-1, keepdims=True)
        alike[name] = (noise[1:] * noise[:-1])[both].mean() / noise[inside].var()
        (sidecar,) = (tmp_path / name).rglob("*desc-simulated_bold.json")
        assert json.loads(sidecar.read_text())["Simulation"]["Noise"]["fwhm_mm"] == fwhm_mm
    assert abs(alike["rough"]) < 0.1 < 0.6 < alike["smooth"]


@pytest.mark.slow
def test_simulate_kernel_file_is_used(
    tmp_path: Path, experiment: tuple[Path, Path], settings: list[str]
) -> None:
    """A response that falls at once leaves nothing of an event after it."""
    table, folder = experiment
    kernel = tmp_path / "hrf.txt"
    kernel.write_text("0 1\n0.5 1\n0.55 0\n", encoding="utf-8")
    options = ["--tr-s", 1, "--hrf", kernel, "--voxels", "predicted", "--subjects", "group"]
    run(table, "--stimuli", folder, "-o", tmp_path / "sim", *options, *settings)
    data = bold(tmp_path / "sim", "group").get_fdata()
    moves = np.abs(data - data[..., :1]).max(axis=(0, 1, 2)) > 1e-3
    assert np.flatnonzero(moves).tolist() == [3, 4, 5, 13, 14, 15, 31, 32]


def test_simulate_experiment_takes_numbers_and_says_what_it_cannot_take(
    experiment: tuple[Path, Path], settings: list[str]
) -> None:
    """A scale may be a number; a seed is a whole one; tables of events are files."""
    table, folder = experiment
    scan = Scan(tr_s=1.0)
    shown = read_experiment(table, scan, folder)
    how: dict[str, Any] = {"weights": settings[3], "voxels": "predicted", "progress": False}
    two = simulate_experiment(shown, settings[1], scale=2, **how)
    assert two.scan == simulate_experiment(shown, settings[1], scale="2", **how).scan
    assert two.scan.percent_per_unit == 2
    for seed in (1.5, None):
        with pytest.raises(
            OptionError, match=f"seed must be a whole number, 0 or more; got {seed}"
        ):
            simulate_experiment(shown, settings[1], seed=seed, **how)
    with pytest.raises(
        OptionError, match="by their paths; got a DataFrame. Save a table with to_c"
    ):
        read_experiment(pd.read_csv(table, sep="\t"), scan, folder)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        (["--tr-s", 0], OptionError, "tr_s must be a positive number; got 0.0"),
        (["--tr-s", "nan"], OptionError, "tr_s must be a positive number; got nan"),
        (["--hrf", "glovr"], OptionError, "Did you mean glover"),
        (["--tsnr", -5], OptionError, "tsnr must be a positive number"),
        (["--tsnr", 50, "--n-volumes", 20], OptionError, "at least half of `drift_cutoff_s`"),
        (["--tsnr", 50, "--noise-fwhm-mm", -6], OptionError, "fwhm_mm must be 0 or more"),
        (["--noise-fwhm-mm", 6], OptionError, "noise_fwhm_mm goes with `tsnr`"),
        (["--ar1", 0.9], OptionError, "ar1 goes with `tsnr`"),
        (["--ar1-share", 0], OptionError, "ar1_share goes with `tsnr`"),
        (["--drift-share", 0.5], OptionError, "drift_share goes with `tsnr`"),
        (["--drift-cutoff-s", 60], OptionError, "drift_cutoff_s goes with `tsnr`"),
        (["--voxels", "all"], OptionError, "voxels must be one of brain, predicted"),
        (["--runs", 0], OptionError, "runs must be 1 or more; got 0"),
        (["--subjects", "both"], OptionError, "'each', 'group' or a number"),
        (["--dtype", "float64"], OptionError, "dtype must be one of float32, int16"),
        (["--task", "a b"], OptionError, "task must be a label of letters and digits"),
        (["--seed", -1, "--subjects", 2], OptionError, "seed must be a whole number, 0 or more"),
        (["--scale", 0], OptionError, "scale must be above 0 percent; got 0"),
        (["--scale", "nan"], OptionError, "PERCENT:CONTRAST:ROI, or PERCENT of one model unit"),
        (["--scale", "1:A - B"], OptionError, "PERCENT:CONTRAST:ROI, or .*; got '1:A - B'"),
        (["--scale", "1:A - C:PPA"], OptionError, "condition of `scale` must be one of A, B"),
        (["--scale", "1:A - B:FFA"], OptionError, "the ROI of `scale` must be one of LOC, PPA"),
        (["--scale", "1:A:PPA"], OptionError, "contrast must have weights that sum to 0"),
        (["--n-volumes", 3], OptionError, "within the run, 0 to 6 s; 2 begin after it"),
    ],
)
def test_simulate_bad_option_writes_nothing(
    tmp_path: Path,
    experiment: tuple[Path, Path],
    settings: list[str],
    options: list[object],
    error: type[Exception],
    match: str,
) -> None:
    """Each bad option is one error, and no file."""
    table, folder = experiment
    before = sorted(tmp_path.iterdir())
    with pytest.raises(error, match=match):
        run(table, "--stimuli", folder, "-o", tmp_path / "sim", "--tr-s", 2, *options, *settings)
    assert sorted(tmp_path.iterdir()) == before


def test_simulate_missing_or_broken_stimuli_are_all_named(
    tmp_path: Path, experiment: tuple[Path, Path], settings: list[str]
) -> None:
    """Every stimulus that cannot be used is named in one error."""
    table, folder = experiment
    arguments = (table, "--stimuli", folder, "-o", tmp_path / "sim", "--tr-s", 2, *settings)
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(b"not an image")
    broken = refused(*arguments)
    assert "2 of 2 cannot be used" in broken
    assert "a.png" in broken
    assert "b.png" in broken
    for name in ("a.png", "b.png"):
        (folder / name).unlink()
    message = refused(*arguments)
    assert re.search(r"2 missing: 'a.png' \(.*tsv, line 2\), 'b.png' \(.*tsv, line 3\)", message)
    assert not (tmp_path / "sim").exists()


def test_simulate_wrong_inputs_are_refused(
    tmp_path: Path, experiment: tuple[Path, Path], film: Path, settings: list[str]
) -> None:
    """Tables need their stimuli; a movie stands alone; a target with files is left as it is."""
    table, folder = experiment
    common = ("--tr-s", 2, *settings)
    with pytest.raises(OptionError, match="stimuli must be the folder"):
        run(table, "-o", tmp_path / "sim", *common)
    with pytest.raises(OptionError, match="or one movie alone; got the movie"):
        run(film, table, "-o", tmp_path / "sim", *common)
    with pytest.raises(DataError, match=r"events file .*none\.tsv: .* No such file"):
        run(tmp_path / "none.tsv", "--stimuli", folder, "-o", tmp_path / "sim", *common)
    with pytest.raises(StimulusError, match=r"none\.mp4"):
        run(tmp_path / "none.mp4", "-o", tmp_path / "sim", *common)
    long = tmp_path / "long.tsv"
    rows = table.read_text(encoding="utf-8").splitlines()
    cells = dict(zip(rows[0].split("\t"), rows[1].split("\t"), strict=True)) | {"onset": "99999"}
    long.write_text("\n".join([*rows, "", "\t".join(cells.values())]) + "\n", encoding="utf-8")
    arguments = (long, "--stimuli", folder, "-o", tmp_path / "sim", *common)
    with pytest.raises(OptionError, match=r"long\.tsv: a run must have at most 32767 volumes"):
        run(*arguments)
    with pytest.raises(OptionError, match=rf"long\.tsv: .* 99999 s \(line {len(rows) + 2}\)"):
        run(*arguments, "--n-volumes", 60)
    assert not (tmp_path / "sim").exists()
    with pytest.raises(OptionError, match=r"it holds files and no simulate\.json"):
        run(table, "--stimuli", folder, "-o", folder, *common)


def test_simulate_in_python_writes_what_the_command_writes(
    tmp_path: Path, experiment: tuple[Path, Path], settings: list[str], random_weights: Path
) -> None:
    """Three calls give each file of the command, byte for byte but for the record's times."""
    table, folder = experiment
    options = ["--tr-s", 2, "--tsnr", 40, "--drift-share", 0, "--seed", 3, "--runs", 2]
    run(table, "--stimuli", folder, "-o", tmp_path / "command", *options, *settings)
    shown = read_experiment(table, Scan(2.0, noise=Noise(40.0, drift_share=0.0)), folder)
    encoder = tmp_path / "encoder.safetensors"
    simulation = simulate_experiment(
        shown, encoder, weights=random_weights, seed=3, runs=2, progress=False
    )
    files = save_simulation(simulation, tmp_path / "python")
    assert sorted(files) == sorted(p for p in (tmp_path / "python").rglob("*") if p.is_file())
    for path in files:
        twin = tmp_path / "command" / path.relative_to(tmp_path / "python")
        if path.name == "simulate.json":
            records = [json.loads(file.read_text("utf-8")) for file in (path, twin)]
            for record in records:
                del record["started"], record["written"], record["command_line"]
            assert records[0] == records[1]
        else:
            assert path.read_bytes() == twin.read_bytes(), path
