"""The published package's calls: its files and its numbers, and none of its traps."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import av
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from scipy.stats import pearsonr

from imgtofmri.compat import img2fmri
from imgtofmri.compat.img2fmri import analysis, utils
from imgtofmri.compat.img2fmri.command import main
from imgtofmri.encoder import load_encoder
from imgtofmri.exceptions import DataError, OptionError, ShapeError, StimulusError
from imgtofmri.outputs import VolumeWriter
from imgtofmri.spaces import MNI152_2MM
from imgtofmri.stats import bootstrap_counts
from imgtofmri.stimuli import StimulusWarning

pytestmark = pytest.mark.network

Array = npt.NDArray[np.float64]
Rng = np.random.Generator

SHIM = Path(__file__).parent / "shim"
"""A package of the published one's name that re-exports the compatibility module."""

RANDOM = "untrained:3"


@pytest.fixture(autouse=True)
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, published_wheel: Path) -> Path:
    """Work in an empty folder, with a network that has learned nothing."""
    monkeypatch.setenv("IMGTOFMRI_WEIGHTS", RANDOM)
    (tmp_path / "desk").mkdir()
    monkeypatch.chdir(tmp_path / "desk")
    return tmp_path / "desk"


@pytest.fixture
def photos(tmp_path: Path, rng: Rng) -> Path:
    """Return a folder of three pictures, whose names have blanks in them."""
    folder = tmp_path / "my photos"
    folder.mkdir()
    for name in ("a house 10.jpg", "a house 9.JPEG", "face.png"):
        pixels = rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


@pytest.fixture
def film(tmp_path: Path, rng: Rng) -> Path:
    """Return a film of 2.5 s, whose name has blanks in it."""
    return make_film(tmp_path / "my film 1.mp4", rng, 2.5)


def make_film(path: Path, rng: Rng, duration_s: float) -> Path:
    """Write a film in which something changes with every picture."""
    with av.open(path, "w") as file:
        stream = file.add_stream("mpeg4", rate=8)
        stream.width, stream.height = 96, 64
        for _ in range(int(8 * duration_s)):
            blocks = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
            pixels = np.repeat(np.repeat(blocks, 8, axis=0), 8, axis=1)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        file.mux(stream.encode(None))
    return path


def values_of(path: Path, mask: npt.NDArray[np.bool_]) -> Array:
    """Return the values of a volume inside a mask, having seen that there are none outside."""
    volume = np.asarray(nib.load(path).dataobj)
    assert not volume[~mask].any()
    return volume[mask]


def files_in(folder: Path) -> list[str]:
    """Name all files of a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_predict_writes_the_main_interface_s_maps_under_stems(photos: Path, desk: Path) -> None:
    """One ROI, a sigma: the same bits in STEM.nii.gz, float32 in MNI space, and nothing else."""
    written = img2fmri.predict(str(photos), "out dir", roi_list=["PPA"], sigma=1.25)
    assert written == [Path("out dir", f"{stem}.nii.gz") for stem in STEMS]
    assert files_in(desk) == sorted(["out dir", *map(str, written)])
    expected = load_encoder().predict(photos, rois=["PPA"], sigma_mm=1.25, weights=RANDOM)
    assert expected.names == ("a house 9.JPEG", "a house 10.jpg", "face.png")
    for path, values in zip(written, expected.group, strict=True):
        np.testing.assert_array_equal(values_of(path, expected.mask), values)
        image = nib.load(path)
        assert image.shape == (91, 109, 91)
        np.testing.assert_array_equal(image.affine, MNI152_2MM.affine)


STEMS = ("a house 9", "a house 10", "face")


def test_predict_writes_here_by_default_and_replaces_what_it_wrote(
    photos: Path, desk: Path
) -> None:
    """As scripts expect that run twice; files of other names stay, in a folder `temp`, too."""
    (desk / "temp").mkdir()
    (desk / "temp" / "mine.txt").write_text("precious", "utf-8")
    img2fmri.predict(photos)
    first = (desk / "face.nii.gz").read_bytes()
    img2fmri.predict(photos, roi_list=["LOC"])
    assert (desk / "face.nii.gz").read_bytes() != first
    img2fmri.predict(photos, ".", ["EarlyVis", "OPA", "LOC", "RSC", "PPA"], False, 1, False)
    assert (desk / "face.nii.gz").read_bytes() == first
    volumes = [f"{stem}.nii.gz" for stem in STEMS]
    assert files_in(desk) == sorted([*volumes, "temp", "temp/mine.txt"])


@pytest.mark.parametrize("center_crop", ["false", "False", 0, False, "no"])
def test_center_crop_false_is_false(photos: Path, center_crop: object) -> None:
    """Also as text, which counted as true."""
    img2fmri.predict(photos, "plain")
    img2fmri.predict(photos, "said", center_crop=center_crop)  # type: ignore[arg-type]
    assert Path("said/face.nii.gz").read_bytes() == Path("plain/face.nii.gz").read_bytes()


def test_center_crop_true_is_true_and_nonsense_is_refused(photos: Path) -> None:
    """Cropped pictures give other maps, those of the main interface."""
    img2fmri.predict(photos, "cropped", center_crop=True)
    expected = load_encoder().predict(photos, center_crop=True, weights=RANDOM)["face.png"]
    got = values_of(Path("cropped/face.nii.gz"), expected.mask)
    np.testing.assert_array_equal(got, expected.group[0])
    with pytest.raises(OptionError, match="center_crop must be true or false; got 'maybe'"):
        img2fmri.predict(photos, "never", center_crop="maybe")  # type: ignore[arg-type]


def test_equal_stems_are_refused_before_anything_is_predicted(photos: Path, desk: Path) -> None:
    """One file cannot hold two pictures' maps: both are named, and nothing is written."""
    Image.new("RGB", (4, 4)).save(photos / "face.jpg")
    with pytest.raises(OptionError, match=r"'face.jpg' and 'face.png' would share face.nii.gz"):
        img2fmri.predict(photos, "out")
    assert files_in(desk) == []


def test_what_is_no_folder_of_images_is_an_error(photos: Path, film: Path, desk: Path) -> None:
    """Also one that scripts written for the published package catch."""
    with pytest.raises(NotADirectoryError, match=r"my film 1.mp4', which is no folder. For a movi"):
        img2fmri.predict(film)
    with pytest.raises(StimulusError, match="nowhere', which is not there"):
        img2fmri.predict("nowhere")
    (desk / "empty").mkdir()
    with pytest.raises(OptionError, match="expected images or movies; got the folder"):
        img2fmri.predict("empty")
    with pytest.raises(OptionError, match=r"holds none but 1 movies. Name one of them"):
        img2fmri.predict(film.parent, "out")
    with pytest.raises(OptionError, match="rois is empty"):
        img2fmri.predict(photos, roi_list=[])
    with pytest.raises(OptionError, match=r"rois must be one of .*; got 'PAP'. Did you mean PPA"):
        img2fmri.predict(photos, roi_list=["PAP"])
    assert files_in(desk) == ["empty"]


def test_movies_among_images_are_told_of(photos: Path, rng: Rng) -> None:
    """They are passed over, as ever, and no more in silence."""
    make_film(photos / "film.mp4", rng, 1)
    with pytest.warns(StimulusWarning, match=r"passed over 1 movies .* such as 'film.mp4'"):
        written = img2fmri.predict(photos, "out")
    assert [path.name for path in written] == [f"{stem}.nii.gz" for stem in STEMS]


def test_a_damaged_image_is_named_and_all_others_are_saved(photos: Path) -> None:
    """An error at the end, not in the middle, and not none."""
    (photos / "bad.png").write_text("no picture", "utf-8")
    with pytest.raises(StimulusError, match=r"bad.png.* 3 were predicted and saved"):
        img2fmri.predict(photos, "out")
    assert files_in(Path("out")) == sorted(f"{stem}.nii.gz" for stem in STEMS)


def test_predict_movie_writes_the_main_interface_s_series(film: Path, desk: Path) -> None:
    """One volume for each half second, 0.5 s in the header, the same bits; loops go on."""
    for roi in ("LOC", "PPA"):
        written = img2fmri.predict(str(film), roi, [roi], predict_movie=True, sigma=2)
        assert written == [Path(roi, "my film 1.nii.gz")]
        expected = load_encoder().predict_movie(film, rois=[roi], sigma_mm=2, weights=RANDOM)
        got = values_of(written[0], expected.mask)
        np.testing.assert_array_equal(got.T, expected.group)
        image = nib.load(written[0])
        assert image.shape == (91, 109, 91, 5)
        assert image.header.get_zooms()[3] == 0.5
    assert files_in(desk) == ["LOC", "LOC/my film 1.nii.gz", "PPA", "PPA/my film 1.nii.gz"]


@pytest.mark.parametrize("call", ["predict", "extract_frames"])
def test_a_missing_film_is_an_error(call: str, desk: Path) -> None:
    """It was printed, and went on."""
    with pytest.raises(StimulusError, match=r"nowhere.mp4', which does not exist"):
        if call == "predict":
            img2fmri.predict("nowhere.mp4", "out", predict_movie=True)
        else:
            utils.extract_frames("nowhere.mp4", "out")
    assert files_in(desk) == []


def test_frames_through_a_jpeg_are_those_that_extract_frames_writes(film: Path) -> None:
    """Predicted from the film with `jpeg_frames`, and from the files: the same bits."""
    utils.extract_frames(film, "frames")
    names = ["frame1.jpg", "frame31.jpg", "frame61.jpg", "frame91.jpg", "frame121.jpg"]
    assert {path.name for path in Path("frames").iterdir()} == {*names}
    for path in Path("frames").iterdir():
        with Image.open(path) as image:
            assert (image.format, image.size) == ("JPEG", (96, 64))
    img2fmri.predict(film, "film", predict_movie=True, jpeg_frames=True)
    img2fmri.predict("frames", "images")
    whole = np.asarray(nib.load("film/my film 1.nii.gz").dataobj)
    joined = utils.load_frames("images")
    assert joined.dtype == np.float64
    np.testing.assert_array_equal(joined, whole)
    plain = img2fmri.predict(film, "plain", predict_movie=True)
    assert not np.array_equal(np.asarray(nib.load(plain[0]).dataobj), whole)


def test_extract_frames_tells_of_another_film_s_frames(
    film: Path, tmp_path: Path, rng: Rng
) -> None:
    """They would be loaded as this film's end."""
    utils.extract_frames(make_film(tmp_path / "long.mp4", rng, 4), "frames")
    utils.extract_frames(tmp_path / "long.mp4", "frames")
    with pytest.raises(OptionError, match=r"got 3 of another movie, such as .*frame151.jpg"):
        utils.extract_frames(film, "frames")


def test_load_frames_refuses_what_is_no_series(photos: Path) -> None:
    """No folder, no volume, other grids, other axes."""
    with pytest.raises(DataError, match="'nowhere', which is no folder"):
        utils.load_frames("nowhere")
    with pytest.raises(DataError, match="which holds none"):
        utils.load_frames(photos)
    Path("volumes").mkdir()
    for name, shape in (("frame1", (3, 4, 5)), ("frame31", (3, 4, 6))):
        nib.save(nib.Nifti1Image(np.zeros(shape, np.float32), np.eye(4)), f"volumes/{name}.nii")
    with pytest.raises(ShapeError, match=r"frame31.nii must be a 3-D image on the grid of frame1"):
        utils.load_frames("volumes")


@pytest.mark.parametrize("rois", [["PPA"], ["RSC", "EarlyVis"]])
@pytest.mark.parametrize("threshold", [0.15, 0.5])
def test_group_masks_equal_the_published_files(
    published_wheel: Path, rois: list[str], threshold: float
) -> None:
    """The union of the wheel's own smoothed masks above a share of their maxima; and unsmoothed."""
    for kind, call in (
        ("s_bool_masks/s_sub{}_{}H{}_MNI.nii.gz", utils.get_subj_overlap),
        ("mni_bool_masks/sub{}_{}H{}_MNI.nii.gz", utils.get_subj_overlap_nonsmoothed),
    ):
        expected = np.zeros((91, 109, 91), dtype=bool)
        with zipfile.ZipFile(published_wheel) as wheel:
            for entry in (kind.format(s, h, roi) for s in (1, 2, 3) for h in "LR" for roi in rois):
                data = wheel.read(f"img2fmri/derivatives/{entry}")
                Path("mask.nii.gz").write_bytes(data)
                mask = np.asarray(nib.load("mask.nii.gz").dataobj, dtype=float)
                expected |= mask > threshold * mask.max()
        np.testing.assert_array_equal(call(rois, threshold), expected)


def test_group_masks_of_all_rois_and_refusals() -> None:
    """9,641 voxels by default; no such ROI, a threshold that is no share."""
    assert utils.get_subj_overlap().sum() == 9641
    with pytest.raises(OptionError, match="rois must be one of"):
        utils.get_subj_overlap(["V4"])
    for call in (utils.get_subj_overlap, utils.get_subj_overlap_nonsmoothed):
        with pytest.raises(OptionError, match="threshold must be 0 or more and below 1"):
            call(["PPA"], 1.0)


@pytest.mark.slow
def test_the_command_takes_the_published_options(
    photos: Path, desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Several ROIs, also where folders are called so; false is false; files are named."""
    (desk / "PPA").mkdir()
    given = ["--input", str(photos), "--output", "PPA", "--sigma", "1.5", "--center_crop", "false"]
    assert main([*given, "--roi_list", "LOC", "PPA"]) == 0
    assert capsys.readouterr().out.splitlines() == [f"Saved PPA/{s}.nii.gz" for s in STEMS]
    expected = load_encoder().predict(photos, rois=["LOC", "PPA"], sigma_mm=1.5, weights=RANDOM)
    got = values_of(desk / "PPA" / "face.nii.gz", expected.mask)
    np.testing.assert_array_equal(got, expected["face.png"].group[0])


def test_the_command_ends_as_every_command_does(
    photos: Path, film: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line for each error, in the options' own names, and the exit codes of `imgtofmri`."""

    def ended(*arguments: object) -> tuple[int, str]:
        return main([*map(str, arguments)]), capsys.readouterr().err

    code, said = ended("--input", photos, "--roi_list", "PAP")
    assert (code, "--roi_list must be one of" in said) == (2, True)
    code, said = ended("--input", photos, "--sigma", 0)
    assert (code, "--sigma must be a positive number" in said) == (2, True)
    code, said = ended("--input", photos, "--center_crop", "maybe")
    assert (code, "--center_crop must be true or false" in said) == (2, True)
    code, said = ended("--input", film)
    assert (code, "For a movie set --predict_movie" in said) == (1, True)
    code, said = ended("--input", "nowhere.mp4", "--predict_movie", "true")
    assert (code, "nowhere.mp4', which does not exist" in said) == (1, True)
    assert ended("--output", "out")[0] == 2
    assert ended("-h") == (0, "")
    (photos / "bad.png").write_text("no picture", "utf-8")
    code, said = ended("--input", photos, "--output", "out")
    assert (code, "bad.png" in said) == (3, True)


@pytest.mark.slow
def test_python_m_is_the_published_command(film: Path) -> None:
    """``python -m imgtofmri.compat.img2fmri`` predicts a film."""
    command = [sys.executable, "-m", "imgtofmri.compat.img2fmri", "--input", str(film)]
    command += ["--predict_movie", "true", "--output", "out", "--jpeg_frames", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"Saved {Path('out', 'my film 1.nii.gz')}\n"
    assert nib.load("out/my film 1.nii.gz").shape == (91, 109, 91, 5)


@pytest.fixture
def standin(test_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the environment name weights that stand in for the published ones."""
    path = test_data / "standin" / "resnet18_standin.safetensors"
    monkeypatch.setenv("IMGTOFMRI_WEIGHTS", str(path))
    return path


@pytest.fixture
def samples(published_wheel: Path, tmp_path: Path) -> Path:
    """Return the folder of the published package's sample stimuli."""
    with zipfile.ZipFile(published_wheel) as wheel:
        names = [name for name in wheel.namelist() if "/tests/" in name and "pytest" not in name]
        wheel.extractall(tmp_path / "wheel", names)
    return tmp_path / "wheel" / "img2fmri" / "tests" / "test_data"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")
def test_sample_outputs_agree_with_the_published_ones(
    standin: Path, samples: Path, test_data: Path
) -> None:
    """As closely as the stand-in weights let the main interface's: r of .99, .90 and .985.

    The published examples are of release 0.2, whose mask is the main interface's "support".
    """
    published = np.load(test_data / "reference" / "published_images.npz")
    rois = ["EarlyVis", "OPA", "LOC", "RSC"]
    img2fmri.predict(samples / "images", "out", rois, sigma=1.25, mask="support")
    least = {"horse1": 0.99, "amusement2": 0.90}
    for name, expected in zip(published["names"], published["responses"], strict=True):
        got = values_of(Path(f"out/{name}.nii.gz"), published["support_mask"])
        assert np.corrcoef(got, expected)[0, 1] > least[str(name)]
    published = np.load(test_data / "reference" / "published_movie.npz")
    for jpeg_frames in (False, True):
        (path,) = img2fmri.predict(
            samples / "landscape.mp4",
            "out",
            ["LOC", "RSC", "PPA"],
            predict_movie=True,
            mask="support",
            jpeg_frames=jpeg_frames,
        )
        volumes = values_of(path, published["support_mask"]).T
        assert len(volumes) == 15
        for got, expected in zip(volumes, published["responses"], strict=False):
            assert np.corrcoef(got, expected)[0, 1] >= 0.985


@pytest.mark.slow
def test_the_published_package_s_own_tests_pass(
    standin: Path, samples: Path, tmp_path: Path
) -> None:
    """Unchanged, against a package of its name that re-exports the compatibility module."""
    package = tmp_path / "wheel" / "img2fmri"
    for path in (SHIM / "img2fmri").glob("*.py"):
        (package / path.name).write_bytes(path.read_bytes())
    command = tmp_path / "bin" / "img2fmri"
    command.parent.mkdir()
    command.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "from imgtofmri.compat.img2fmri.command import main\nsys.exit(main())\n",
        "utf-8",
    )
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    places = [str(package.parent), *sys.path]
    surroundings = os.environ | {
        "PATH": os.pathsep.join([str(command.parent), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(places),
    }
    told = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", "."]
    done = subprocess.run(
        [*told, str(package / "tests" / "run_test.py")],
        cwd=package.parent,
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    output = package / "tests" / "test_data" / "output"
    names = {path.name for path in output.iterdir()}
    photographs = {f"{path.stem}.nii.gz" for path in (samples / "images").iterdir()}
    assert names == {*photographs, "landscape.nii.gz"}


@pytest.fixture
def partly_cloudy(desk: Path, rng: Rng) -> Callable[[int], Array]:
    """Return what writes 33 people's runs of some volumes, and returns them in the mask of PPA."""

    def make(n_volumes: int) -> Array:
        mask = utils.get_subj_overlap(["PPA"])
        folder = desk / "data" / "partly_cloudy" / "subjects_preprocessed"
        folder.mkdir(parents=True)
        shared = rng.normal(size=(n_volumes, mask.sum()))
        runs = shared + rng.normal(size=(33, n_volumes, mask.sum()))
        for number, run in enumerate(runs.astype(np.float32)):
            volume = np.zeros((*mask.shape, n_volumes), np.float32)
            volume[mask] = run.T
            image = nib.Nifti1Image(volume, MNI152_2MM.affine)
            nib.save(image, folder / f"subj{123 + number}.nii.gz")
        return runs.astype(np.float32).astype(float)

    return make


def zscored(run: Array) -> Array:
    """Standardise each voxel over time, the first axis."""
    return (run - run.mean(axis=0)) / run.std(axis=0)


@pytest.mark.slow
@pytest.mark.long
def test_people_s_runs_equal_the_written_out_rules(
    partly_cloudy: Callable[[int], Array], rng: Rng
) -> None:
    """The mean run of some people, and rows of models' matrices against those of samples."""
    runs = partly_cloudy(24)
    mask = utils.get_subj_overlap(["PPA"])
    got = analysis.average_pc_subjects([123, 130, 123], ["PPA"])
    expected = zscored(2 * runs[0] + runs[7])
    np.testing.assert_allclose(got[mask].T, expected, atol=1e-5)
    assert got.shape == (91, 109, 91, 24)
    assert not got[~mask].any()

    pred, lum = (np.corrcoef(rng.normal(size=(14, 40))) for _ in range(2))
    chosen = {"num_bootstraps": 3, "roi_list": ["PPA"]}
    counts = bootstrap_counts(33, 3, seed=4)
    for band in (None, 5):
        found = analysis.generate_bootstrapped_correlations(pred, pred, lum, band, seed=4, **chosen)
        assert found.shape == (3, 2, 14)
        for sample, people in enumerate(counts):
            mean = zscored(np.tensordot(people, runs, axes=1))[10:]
            real = np.corrcoef(mean)
            for row in range(14):
                others = [c for c in range(14) if c != row and abs(c - row) <= (band or 14)]
                for model, matrix in enumerate((pred, lum)):
                    r = pearsonr(matrix[row, others], real[row, others])[0]
                    assert found[sample, model, row] == pytest.approx(r, abs=1e-4)
    again = analysis.generate_bootstrapped_correlations(pred, pred, lum, 5, seed=4, **chosen)
    np.testing.assert_array_equal(again, found)
    other = analysis.generate_bootstrapped_correlations(
        pred, pred, lum, 5, force_resample=True, **chosen
    )
    assert not np.array_equal(other, found)
    assert files_in(Path("data/partly_cloudy")) == sorted(
        [
            "subjects_preprocessed",
            *(f"subjects_preprocessed/subj{n}.nii.gz" for n in range(123, 156)),
        ]
    )


def test_people_s_runs_that_cannot_be_used_are_refused() -> None:
    """A run that is missing is named; matrices of several sizes are told."""
    with pytest.raises(DataError, match=r"subj124.nii.gz must be a NIfTI image; .* no file"):
        analysis.average_pc_subjects([124])
    with pytest.raises(ShapeError, match="runs must be one or more"):
        analysis.average_pc_subjects([])
    with pytest.raises(ShapeError, match="pred, lum and real must have one shape"):
        analysis.generate_bootstrapped_correlations(np.eye(4), np.eye(4), np.eye(5))


@pytest.fixture
def twinset(desk: Path, rng: Rng) -> dict[str, Array]:
    """Write predictions of the Twinset's images, and responses, and return them in all five ROIs.

    The group's responses follow the predictions, the second participant's do not.
    """
    mask = utils.get_subj_overlap()
    writer = VolumeWriter(mask, MNI152_2MM.affine)
    predicted = rng.normal(size=(156, mask.sum())).astype(np.float32)
    noise = rng.normal(size=(3, *predicted.shape)).astype(np.float32)
    sets = {
        "pred": predicted,
        "avgs": predicted + 5 * noise[0],
        "subj01": predicted + 9 * noise[1],
        "subj02": noise[2],
    }
    names = {"pred": "pred/{:03d}", "avgs": "data/twinset/avgs/avg_beta_{:04d}"}
    for name, values in sets.items():
        place = names.get(name, f"data/twinset/{name}/r_m_s_beta_{{:04d}}")
        for number, row in enumerate(values, start=1):
            writer.write(desk / f"{place.format(number)}.nii.gz", row)
    return {name: values.astype(float) for name, values in sets.items()}


def difference(predicted: Array, measured: Array) -> float:
    """Return the mean correlation of matching images less that of all others."""
    n = len(predicted)
    matrix = np.corrcoef(predicted, measured)[:n, n:]
    return float(np.diag(matrix).mean() - matrix[~np.eye(n, dtype=bool)].mean())


@pytest.mark.slow
@pytest.mark.long
def test_twinset_levels_equal_the_written_out_statistics(
    twinset: dict[str, Array], desk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Group, categories, participants, ROIs: which images, which voxels, and what p can be."""
    every = utils.get_subj_overlap()
    kept = np.delete(np.arange(156), 19)
    three = utils.get_subj_overlap(["LOC", "RSC", "PPA"])[every]
    inside = {name: values[:, three] for name, values in twinset.items()}

    group = analysis.twinset_group_permutations("pred", n_shuffle=99, print_vals=True)
    assert group["name"].tolist() == ["group"]
    expected = difference(inside["pred"][kept], inside["avgs"][kept])
    assert group["statistic"][0] == pytest.approx(expected, abs=1e-6)
    assert (group["p"][0], group["n_images"][0], group["n_voxels"][0]) == (0.01, 155, three.sum())
    assert abs(group["null_mean"][0]) < 0.002
    assert f"group: difference {expected:.5f}" in capsys.readouterr().out

    categories = analysis.twinset_category_permutations("pred", n_shuffle=99)
    ranges = {"animals": (1, 28), "objects": (29, 64), "scenes": (65, 100)}
    ranges |= {"people": (101, 124), "faces": (125, 156)}
    assert categories["name"].tolist() == [*ranges]
    for row, (first, last) in zip(categories.itertuples(), ranges.values(), strict=True):
        images = [image for image in kept if first <= image + 1 <= last]
        assert row.n_images == len(images)
        expected = difference(inside["pred"][images], inside["avgs"][images])
        assert row.statistic == pytest.approx(expected, abs=1e-6)
        assert row.p == 0.01

    people = analysis.twinset_participant_permutations("pred", n_shuffle=99)
    assert people["name"].tolist() == ["subj01", "subj02"]
    for row in people.itertuples():
        expected = difference(inside["pred"][kept], inside[row.name][kept])
        assert row.statistic == pytest.approx(expected, abs=1e-6)
    assert people["p"][0] == 0.01
    assert people["p"][1] > 0.05

    rois = ("EarlyVis", "OPA", "LOC", "RSC", "PPA")
    for roi in rois:
        (desk / f"twinset_{roi}").symlink_to(desk / "pred")
    regions = analysis.twinset_ROI_permutations(".", n_shuffle=19)
    assert regions["name"].tolist() == [*rois]
    for row in regions.itertuples():
        voxels = utils.get_subj_overlap([row.name])[every]
        assert row.n_voxels == voxels.sum()
        expected = difference(twinset["pred"][kept][:, voxels], twinset["avgs"][kept][:, voxels])
        assert row.statistic == pytest.approx(expected, abs=1e-6)

    (desk / "data/twinset/avgs/avg_beta_0003.nii.gz").unlink()
    with pytest.raises(DataError, match="avg_beta_0003.nii.gz is missing"):
        analysis.twinset_ROI_permutations(".", data_dir="data")
    (desk / "pred" / "007.nii.gz").unlink()
    with pytest.raises(DataError, match=r"007.nii.gz is missing \(1 of 156 are\)"):
        analysis.twinset_group_permutations("pred")
    with pytest.raises(DataError, match="expected folders subj01"):
        analysis.twinset_participant_permutations("pred", data_dir="elsewhere")
