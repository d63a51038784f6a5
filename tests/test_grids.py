"""Encoders fitted on template grids of full size go through every command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from nilearn.glm.first_level import first_level_from_bids
from nilearn.image import resample_img
from nilearn.maskers import NiftiMasker
from PIL import Image
from scipy.ndimage import gaussian_filter

from imgtofmri.bundle import Bundle, read_bundle
from imgtofmri.cli import main
from imgtofmri.encoder import load_encoder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning"),
]

N_PICTURES = 16
NATIVE_SHAPE = (66, 78, 52)
ROIS = {"EarlyVis": (33, 12, 22), "LOC": (48, 20, 20)}
"""The middle of each ROI in native voxels; a ball of 257 voxels about it is the ROI."""

GRIDS: list[Any] = [
    ("MNI152NLin2009cAsym", (97, 115, 97), 2.0, (-96, -132, -78), 1),
    ("MNI152NLin6Asym", (61, 73, 61), 3.0, (-90, -126, -72), 10),
]


def ball(middle: tuple[int, int, int]) -> npt.NDArray[np.bool_]:
    """Return a ball of voxels of the native grid."""
    distances = np.indices(NATIVE_SHAPE) - np.reshape(middle, (3, 1, 1, 1))
    inside: npt.NDArray[np.bool_] = (distances**2).sum(axis=0) <= 16
    return inside


def turned(angle: float) -> npt.NDArray[np.float64]:
    """Return an affine that turns about z and shifts, of no round number."""
    matrix = np.eye(4)
    matrix[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    matrix[:3, 3] = (1.37, -2.11, 0.53)
    return matrix


class FullSize:
    """A study of one or more people on a template grid of full size, and its encoder."""

    def __init__(
        self,
        folder: Path,
        weights: Path,
        space: str,
        shape: tuple[int, int, int],
        voxel_mm: float,
        origin_mm: tuple[int, int, int],
        n_subjects: int,
    ) -> None:
        rng = np.random.default_rng(8)
        self.folder, self.space, self.shape = folder, space, shape
        self.weights, self.voxel_mm = weights, voxel_mm
        self.affine = np.diag([voxel_mm, voxel_mm, voxel_mm, 1.0])
        self.affine[:3, 3] = origin_mm
        self.native_affine = np.diag([-2.6, 2.6, 2.6, 1.0])
        self.native_affine[:3, 3] = (88.0, -118.0, -66.0)
        nib.save(nib.Nifti1Image(np.zeros(shape, np.uint8), self.affine), folder / "grid.nii.gz")
        for kind in ("house", "face"):
            (folder / "pictures" / kind).mkdir(parents=True)
        self.names = [f"{('house', 'face')[i % 2]}/{i:02d}.png" for i in range(N_PICTURES)]
        for number, name in enumerate(self.names):
            pixels = rng.integers(0, 256, size=(24, 36, 3), dtype=np.uint8)
            pixels[:, : rng.integers(1, 36)] //= 4 - 2 * (number % 2)
            Image.fromarray(pixels).save(folder / "pictures" / name)
        (folder / "stimuli.tsv").write_text("\n".join(["stimulus", *self.names, *self.names]))
        self.subjects = [f"S{number + 1:02d}" for number in range(n_subjects)]
        for number, subject in enumerate(self.subjects):
            np.savetxt(folder / f"{subject}.txt", turned(0.05 + 0.01 * number))
            for roi, middle in ROIS.items():
                inside = ball(middle)
                nib.save(
                    nib.Nifti1Image(inside.astype(np.uint8), self.native_affine),
                    folder / f"{roi}.nii.gz",
                )
                signal = np.tile(rng.standard_normal((N_PICTURES, int(inside.sum()))), (2, 1))
                np.save(folder / f"{subject}_{roi}.npy", signal + rng.normal(0, 0.5, signal.shape))
        (folder / "study.toml").write_text(f"""
id = "full-size"
title = "A study on a template grid of full size"
licence = "CC0"
template = {{ grid = "grid.nii.gz", space = "{space}" }}
stimuli = {{ table = "stimuli.tsv", folder = "pictures" }}
backbone = {{ name = "resnet18", weights = "{weights}" }}
fit = {{ alphas = [1, 10, 100], folds = 4 }}
subjects = [{", ".join(f'{{ name = "{name}" }}' for name in self.subjects)}]
[subject]
transform = {{ kind = "affine", file = "{{name}}.txt" }}
[subject.rois]
EarlyVis = {{ mask = "EarlyVis.nii.gz", responses = "{{name}}_EarlyVis.npy" }}
LOC = {{ mask = "LOC.nii.gz", responses = "{{name}}_LOC.npy" }}
""")
        self.encoder = folder / "full-size.safetensors"
        assert main(["fit", str(folder / "study.toml"), "-o", str(self.encoder), "--quiet"]) == 0

    def run(self, command: str, *arguments: object) -> None:
        """Run a command with the encoder."""
        options = ["--encoder", self.encoder, "--weights", self.weights, "--quiet"]
        assert main([command, *map(str, arguments), *map(str, options)]) == 0

    def load(self, path: Path) -> npt.NDArray[np.float32]:
        """Return an image's values after checking its grid and its header."""
        image = nib.Nifti1Image.from_filename(path)
        assert image.shape[:3] == self.shape, path
        for affine, code in (image.get_qform(coded=True), image.get_sform(coded=True)):
            np.testing.assert_allclose(affine, self.affine, atol=1e-5)
            assert code == 4
        np.testing.assert_allclose(image.header.get_zooms()[:3], self.voxel_mm)
        return np.asarray(image.dataobj, dtype=np.float32)


def subject_map(
    study: FullSize, bundle: Bundle, number: int, features: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Predict one subject's map by other people's code: nilearn resamples, SciPy smooths."""
    values = np.zeros(NATIVE_SHAPE)
    for roi, middle in ROIS.items():
        model = bundle.subjects[number].rois[roi]
        values[ball(middle)] = features @ model.weights + model.intercept
    moved = resample_img(
        nib.Nifti1Image(values, turned(0.05 + 0.01 * number) @ study.native_affine),
        target_affine=study.affine,
        target_shape=study.shape,
        interpolation="nearest",
        force_resample=True,
        copy_header=True,
    )
    smoothed: npt.NDArray[np.float64] = gaussian_filter(
        np.asarray(moved.dataobj, dtype=float),
        1.0 / study.voxel_mm,
        mode="constant",
        radius=int(np.ceil(4 / study.voxel_mm)),
    )
    return smoothed


@pytest.fixture(scope="module", params=GRIDS, ids=["2009c-2mm-1", "6asym-3mm-10"])
def study(
    request: pytest.FixtureRequest, random_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> FullSize:
    """Return a fitted study on a template grid."""
    return FullSize(tmp_path_factory.mktemp("full"), random_weights, *request.param)


def test_predict_equals_resampling_and_smoothing_of_others(study: FullSize, tmp_path: Path) -> None:
    """Maps equal those that nilearn and SciPy make of the models' outputs; names say the space."""
    picture = study.folder / "pictures" / study.names[3]
    out = tmp_path / "out"
    study.run("predict", picture, "-o", out, "--format", "bids", "--subjects", "--mask", "support")
    encoder = load_encoder(study.encoder)
    features = encoder.features([picture], weights=study.weights)[0]
    maps = [subject_map(study, encoder.bundle, n, features) for n in range(len(study.subjects))]
    stem = f"task-images_space-{study.space}_desc-03+2epng_bold.nii.gz"
    for subject, expected in zip(study.subjects, maps, strict=True):
        got = study.load(out / f"sub-{subject}" / "func" / f"sub-{subject}_{stem}")[..., 0]
        np.testing.assert_allclose(got, expected, atol=2e-5)
    inside = np.any([values != 0 for values in maps], axis=0)
    total = sum((v[inside] - v[inside].mean()) / v[inside].std() for v in maps)
    group = study.load(out / "sub-group" / "func" / f"sub-group_{stem}")[..., 0]
    np.testing.assert_allclose(
        group[inside], (total - np.mean(total)) / np.std(total), rtol=1e-3, atol=1e-4
    )
    assert not group[~inside].any()
    mask = nib.Nifti1Image(inside.astype(np.uint8), study.affine)
    masked = NiftiMasker(mask, standardize=None).fit_transform(
        str(out / "sub-group" / "func" / f"sub-group_{stem}")
    )
    np.testing.assert_array_equal(np.ravel(masked), group[inside])
    record = json.loads((out / "predictions.json").read_text())["prediction"]
    assert record["space"] == study.space


def test_simulate_is_read_by_nilearn(study: FullSize, tmp_path: Path) -> None:
    """Runs and masks lie on the template's grid; nilearn finds them by the space's name."""
    events = ["onset\tduration\ttrial_type\tstim_file"]
    events += [f"{2 + 8 * i}\t2\tpicture\t{name}" for i, name in enumerate(study.names[:4])]
    (tmp_path / "events.tsv").write_text("\n".join(events) + "\n")
    out = tmp_path / "sim"
    arguments = [
        "--stimuli",
        study.folder / "pictures",
        "--tr-s",
        4,
        "--subjects",
        "group",
        "-o",
        out,
    ]
    study.run("simulate", tmp_path / "events.tsv", *arguments)
    bold = next(out.rglob("*_bold.nii.gz"))
    mask = next(out.rglob("*_mask.nii.gz"))
    assert f"_space-{study.space}_" in bold.name
    assert f"_space-{study.space}_" in mask.name
    inside, series = study.load(mask) > 0, study.load(bold)
    assert not series[~inside].any()
    assert (series[inside] != 0).all()
    # The brain's volume is about 1.9 litres on any grid.
    assert 1.6e6 < inside.sum() * study.voxel_mm**3 < 2.2e6
    models, runs, _, _ = first_level_from_bids(
        str(out), "simulation", space_label=study.space, derivatives_folder=".", slice_time_ref=0.0
    )
    assert len(models) == 1
    assert str(runs[0][0]) == str(bold)


def test_contrast_and_validate_take_the_grid(study: FullSize, tmp_path: Path) -> None:
    """Contrast maps lie on the grid; noisy copies of predictions are matched with their stimuli."""
    folders = [study.folder / "pictures" / kind for kind in ("house", "face")]
    out = tmp_path / "contrast"
    study.run("contrast", *folders, "-o", out, "--permutations", 50)
    maps = sorted(out.rglob("*.nii.gz"))
    assert maps
    for path in maps:
        study.load(path)
    measured = tmp_path / "measured"
    pictures = sorted((study.folder / "pictures" / "face").iterdir())
    study.run("predict", *pictures, "-o", tmp_path / "predicted")
    measured.mkdir()
    rng = np.random.default_rng(2)
    for made in (tmp_path / "predicted").glob("*.nii.gz"):
        path = Path(shutil.copy(made, measured))
        values = study.load(path)
        values[values != 0] += rng.normal(0, 0.3, np.count_nonzero(values)).astype(np.float32)
        nib.save(nib.Nifti1Image(values, study.affine), path)
    stimuli = [item for picture in pictures for item in ("--stimuli", picture)]
    arguments = ["--measured", measured, "-o", tmp_path / "v", "--permutations", 100]
    study.run("validate", *stimuli, *arguments)
    table = (tmp_path / "v" / "matched_patterns.tsv").read_text().splitlines()
    row = dict(zip(table[0].split("\t"), table[1].split("\t"), strict=True))
    assert row["n_images"] == str(len(pictures))
    correlations = np.load(tmp_path / "v" / "correlations.npz")["correlations"]
    assert (correlations.argmax(axis=1) == np.arange(len(pictures))).all()


def test_describe_and_interval_of_the_grid(
    study: FullSize, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The card names space and grid; bounds and restricted maps lie on it."""
    assert main(["describe", str(study.encoder)]) == 0
    said = capsys.readouterr().out
    assert f"{study.space}, grid {' x '.join(map(str, study.shape))}" in said
    assert sum(line.startswith("S") for line in said.splitlines()) == 2 * len(study.subjects)
    picture = study.folder / "pictures" / study.names[0]
    out = tmp_path / "out"
    limit = float(
        np.median(
            np.concatenate(
                [
                    m.extras["cv_r"]
                    for s in read_bundle(study.encoder).subjects
                    for m in s.rois.values()
                ]
            )
        )
    )
    arguments = ["--average", "mean", "--interval", "0.9", "--min-accuracy", limit]
    study.run("predict", picture, "-o", out, *arguments)
    lower, middle, upper = (
        study.load(out / f"00.png{bound}.nii.gz") for bound in ("_lower", "", "_upper")
    )
    inside = upper > lower
    assert inside.any()
    assert ((lower <= middle) & (middle <= upper))[inside].all()
