"""The published package's preprocessing and analyses, against its stated rules written out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from imgtofmri.compat.img2fmri import analysis, utils
from imgtofmri.exceptions import DataError, OptionError, ShapeError, StimulusError
from imgtofmri.stats import bootstrap_counts

Array = npt.NDArray[np.float64]

BOUNDARIES = [12, 26, 44, 56, 71, 81, 92, 104, 119, 123, 136, 143, 151]


def written_out_volumes(course: Array, n_volumes: int) -> Array:
    """Convolve one course with AFNI's gamma function and sample it, one number at a time."""
    p, q = 8.6, 0.547
    times = [0.5 * tap for tap in range(30)]
    kernel = [(t / (p * q)) ** p * np.exp(p - t / q) for t in times]
    convolved = [
        sum(kernel[k] * course[n - k] for k in range(30) if n - k >= 0) for n in range(len(course))
    ]
    found = []
    for k in range(n_volumes):
        place = k * len(course) / (n_volumes - 1)
        before = min(int(place), len(course) - 1)
        after = min(before + 1, len(course) - 1)
        share = place - int(place)
        found.append(convolved[before] * (1 - share) + convolved[after] * share)
    return np.array(found)


@pytest.mark.parametrize(("n_frames", "n_volumes"), [(691, 168), (60, 16), (25, 40), (7, 2)])
def test_conv_hrf_and_downsample_equals_the_written_out_rule(
    rng: np.random.Generator, n_frames: int, n_volumes: int
) -> None:
    """The kernel, the convolution and the places of the volumes, to 1e-10; also of 4-D input."""
    brain = rng.normal(size=(5, n_frames))
    expected = np.array([written_out_volumes(course, n_volumes) for course in brain])
    got = utils.conv_hrf_and_downsample(brain, n_volumes)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-10)
    whole = brain[:4].reshape(2, 1, 2, n_frames)
    got = utils.conv_hrf_and_downsample(input_brain=whole, TR=2, num_TR=n_volumes)
    np.testing.assert_allclose(got.reshape(4, -1), expected[:4], rtol=0, atol=1e-10)


def test_conv_hrf_and_downsample_says_that_tr_has_no_effect(rng: np.random.Generator) -> None:
    """As in the published code, where nothing was said."""
    brain = rng.normal(size=(2, 40))
    with pytest.warns(utils.UnusedArgumentWarning, match=r"TR has no effect.*got 1.5"):
        got = utils.conv_hrf_and_downsample(brain, 10, TR=1.5)
    np.testing.assert_array_equal(got, utils.conv_hrf_and_downsample(brain, 10))


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int16])
def test_remove_average_activity_equals_the_written_out_rule(
    rng: np.random.Generator, dtype: type
) -> None:
    """Each voxel less its mean over time, to 1e-10, of voxels x time and of volumes."""
    brain = (100 * rng.normal(size=(3, 4, 2, 50))).astype(dtype)
    got = utils.remove_average_activity(brain)
    assert got.dtype == np.float64
    for voxel in np.ndindex(3, 4, 2):
        course = [float(value) for value in brain[voxel]]
        expected = np.array(course) - sum(course) / len(course)
        np.testing.assert_allclose(got[voxel], expected, rtol=0, atol=1e-10)
    flat = utils.remove_average_activity(brain.reshape(-1, 50))
    np.testing.assert_array_equal(flat, got.reshape(-1, 50))


def cosines(n_volumes: int, period_cut: float, fewer: int = 0) -> Array:
    """Write out the discrete cosines whose period is not below a limit, and a constant."""
    columns = [np.ones(n_volumes)]
    k = 1
    # The k-th has k half periods in the run.
    while 2 * n_volumes * 2.0 / k >= period_cut:
        columns.append(np.cos(np.pi / n_volumes * (np.arange(n_volumes) + 0.5) * k))
        k += 1
    return np.column_stack(columns[: len(columns) - fewer])


@pytest.mark.parametrize("n_volumes", [168, 158, 40, 25])
@pytest.mark.parametrize("period_cut", [120, 60])
@pytest.mark.parametrize("as_nipype", [False, True])
def test_remove_dct_equals_the_written_out_rule(
    rng: np.random.Generator, n_volumes: int, period_cut: int, as_nipype: bool
) -> None:
    """Residuals of least squares on the cosines and a constant, to 1e-10."""
    brain = rng.normal(size=(2, 3, 1, n_volumes)) + 5
    design = cosines(n_volumes, period_cut, fewer=int(as_nipype and n_volumes * 4 >= period_cut))
    courses = brain.reshape(-1, n_volumes)
    expected = courses - (design @ np.linalg.lstsq(design, courses.T, rcond=None)[0]).T
    got = utils.remove_DCT(brain, period_cut, as_nipype=as_nipype)
    assert got.shape == brain.shape
    np.testing.assert_allclose(got.reshape(-1, n_volumes), expected, rtol=0, atol=1e-10)
    flat = utils.remove_DCT(courses, period_cut=period_cut, as_nipype=as_nipype)
    np.testing.assert_allclose(flat, expected, rtol=0, atol=1e-10)


def test_remove_dct_of_the_published_run_takes_five_cosines_out() -> None:
    """Of 168 volumes and 120 s: the fifth has 134 s; nipype, which the package used, leaves it."""
    fifth = np.cos(np.pi / 168 * (np.arange(168) + 0.5) * 5)
    sixth = np.cos(np.pi / 168 * (np.arange(168) + 0.5) * 6)
    brain = np.stack([fifth, sixth])
    np.testing.assert_allclose(utils.remove_DCT(brain), [np.zeros(168), sixth], atol=1e-12)
    kept = utils.remove_DCT(brain, as_nipype=True)
    np.testing.assert_allclose(kept, brain, atol=1e-12)


def written_out_averages(corr: Array, drawn: list[list[int]], skip: bool) -> Array:
    """Average agreement around the boundaries of each sample, one volume at a time."""
    n_people, _, n_volumes = corr.shape
    found = np.full((2, 21, len(drawn)), np.nan)
    for s, sample in enumerate(drawn):
        for place, lag in enumerate(range(-10, 11)):
            values = []
            for boundary in sample:
                volume = boundary + lag
                others = [other for other in BOUNDARIES if other != boundary]
                near = skip and any(abs(volume - other) <= 2 for other in others)
                if 0 <= volume < n_volumes and not near:
                    values.append(corr[s % n_people, :, volume])
            if values:
                found[:, place, s] = np.mean(values, axis=0)
    return found


@pytest.mark.parametrize("skip", [True, False])
@pytest.mark.parametrize(("n_people", "n_each", "n_volumes"), [(7, 10, 158), (3, 2, 154)])
def test_boundary_triggered_averages_equal_the_written_out_rule(
    rng: np.random.Generator, skip: bool, n_people: int, n_each: int, n_volumes: int
) -> None:
    """Which sample of people and which volumes each average is of, to 1e-10."""
    corr = rng.uniform(-1, 1, (n_people, 2, n_volumes))
    counts = bootstrap_counts(13, n_people * n_each, seed=5).astype(int)
    drawn = [[b for b, n in zip(BOUNDARIES, row, strict=True) for _ in range(n)] for row in counts]
    got = analysis.generate_boundary_triggered_averages(corr, n_each, skip, seed=5)
    assert got.shape == (2, 21, n_people * n_each)
    np.testing.assert_allclose(got, written_out_averages(corr, drawn, skip), rtol=0, atol=1e-10)


def test_a_sample_of_boundaries_without_a_valid_volume_is_missing(rng: np.random.Generator) -> None:
    """At the lag where fewest boundaries count some samples have none of these, and are NaN."""
    got = analysis.generate_boundary_triggered_averages(rng.uniform(size=(100, 2, 158)), 1000)
    valid = {
        lag: [
            abs(b + lag - np.array(BOUNDARIES)[np.array(BOUNDARIES) != b]).min() > 2
            and b + lag < 158
            for b in BOUNDARIES
        ]
        for lag in range(-10, 11)
    }
    lag = min(valid, key=lambda each: sum(valid[each]))
    without = ~bootstrap_counts(13, 100_000)[:, valid[lag]].any(axis=1)
    assert 0 < without.sum() < 100_000
    np.testing.assert_array_equal(np.isnan(got[:, lag + 10]), np.stack([without, without]))


def test_boundary_triggered_averages_of_other_shapes_are_refused() -> None:
    """One clear error each."""
    with pytest.raises(ShapeError, match=r"corr must have shape .* got \(2, 158\)"):
        analysis.generate_boundary_triggered_averages(np.zeros((2, 158)))
    with pytest.raises(DataError, match="151"):
        analysis.generate_boundary_triggered_averages(np.zeros((2, 2, 100)))


@pytest.fixture
def frames(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Return a folder of frames that are too small to be resized by much."""
    folder = tmp_path / "my frames"
    folder.mkdir()
    for number in range(24):
        pixels = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"frame{1 + 30 * number}.png")
    return folder


@pytest.mark.parametrize("center_crop", [False, True])
def test_get_luminance_equals_the_written_out_rule(frames: Path, center_crop: bool) -> None:
    """Colours in ImageNet's deviations, each through the preprocessing, then weighed and scaled."""
    courses = []
    for number in range(24):
        with Image.open(frames / f"frame{1 + 30 * number}.png") as image:
            if center_crop:
                big = image.resize((336, image.height), Image.Resampling.BILINEAR)
                big = big.resize((336, 224), Image.Resampling.BILINEAR)
                small = np.asarray(big.crop((56, 0, 280, 224)))
            else:
                wide = image.resize((224, image.height), Image.Resampling.BILINEAR)
                small = np.asarray(wide.resize((224, 224), Image.Resampling.BILINEAR))
        scaled = (small / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        courses.append(scaled[::37, ::41])
    colours = np.array(courses)
    expected = np.empty((18, *colours.shape[1:3]))
    for row, column in np.ndindex(*colours.shape[1:3]):
        red, green, blue = (
            written_out_volumes(colours[:, row, column, c], 28)[2:-8] for c in range(3)
        )
        expected[:, row, column] = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    got = analysis.get_luminance(frames, TRs=28, center_crop=center_crop)
    assert got.shape == (18, 224 * 224)
    assert (got.min(), got.max()) == (0, 255)
    some = got.reshape(18, 224, 224)[:, ::37, ::41]
    # Of all volumes and pixels together, one scale and one shift.
    slope, shift = np.polyfit(expected.ravel(), some.ravel(), 1)
    np.testing.assert_allclose(slope * expected + shift, some, atol=1e-3)


def test_get_luminance_of_what_is_no_film_is_refused(frames: Path, tmp_path: Path) -> None:
    """A damaged frame is named; one grey has no luminance to compare; no folder is none."""
    (frames / "frame31.png").write_bytes(b"no picture")
    with pytest.raises(StimulusError, match="frame31.png"):
        analysis.get_luminance(frames, TRs=28)
    (tmp_path / "still").mkdir()
    for number in range(3):
        Image.new("RGB", (4, 4)).save(tmp_path / "still" / f"frame{number}.png")
    with pytest.raises(StimulusError, match="does not exist"):
        analysis.get_luminance(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: utils.remove_average_activity(3.0), "time on its last axis; got a single number"),
        (lambda: utils.remove_DCT(np.zeros((3, 2))), "3 time points or more are needed"),
        (lambda: utils.remove_DCT(np.full((3, 20), np.nan)), "must be finite"),
        (lambda: utils.remove_DCT(np.zeros((3, 20)), 4), "cutoff_s must be longer"),
        (lambda: utils.conv_hrf_and_downsample(np.zeros((3, 20)), 1), "spreads a film over"),
    ],
)
def test_courses_that_cannot_be_used_are_refused(call: Iterator[object], said: str) -> None:
    """One clear error each."""
    with pytest.raises((ShapeError, DataError, OptionError), match=said):
        call()  # type: ignore[operator]
