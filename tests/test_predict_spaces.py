"""Predictions in other spaces than the encoder's, on surfaces, and at the points of a table."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from nilearn.datasets import load_fsaverage
from nilearn.surface import SurfaceImage

from imgtofmri.bundle import Bundle, read_bundle
from imgtofmri.cli import main
from imgtofmri.encoder import Encoder
from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.spaces import transform
from imgtofmri.spaces.templates import template_grid

Run = Callable[..., int]

pytestmark = pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")

SPACE = "tpl2"
TURN = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]])
SHIFT = np.array([2.0, -3.0, 1.0])


def write_composite(path: Path) -> Path:
    """Write a composite of a turn with a shift, and a field of 1 mm to the left, as ITK does."""
    field = np.zeros((30, 30, 30, 3))
    field[..., 0] = 1.0
    grid = np.r_[30, 30, 30, -60, -60, -20, 4, 4, 4, np.eye(3).ravel()]
    parts = [
        ("CompositeTransform_double_3_3", None, None),
        ("AffineTransform_double_3_3", np.r_[TURN.ravel(), SHIFT], np.zeros(3)),
        ("DisplacementFieldTransform_float_3_3", field.ravel(), grid),
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for number, (kind, parameters, fixed) in enumerate(parts):
            part = file.create_group(f"TransformGroup/{number}")
            part.create_dataset("TransformType", data=[kind.encode()])
            if parameters is not None:
                part.create_dataset("TransformParameters", data=parameters)
                part.create_dataset("TransformFixedParameters", data=fixed)
    return path


def moved_by_hand(points_mm: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Move points as the composite says: the field first; its vectors and axes are LPS."""
    lps = points_mm * [-1, -1, 1] + [1.0, 0, 0]
    return np.asarray((lps @ TURN.T + SHIFT) * [-1, -1, 1])


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return TemplateFlow's folder, which describes a small template."""
    folder = tmp_path / "templateflow"
    (folder / f"tpl-{SPACE}").mkdir(parents=True)
    grids = {
        "01": {"origin": [0, 0, 0], "shape": [30, 26, 22], "zooms": [1.0, 1.0, 1.0]},
        "02": {"origin": [-1.0, 1.0, 0.5], "shape": [16, 13, 11], "zooms": [2.0, 2.0, 2.0]},
    }
    description = folder / f"tpl-{SPACE}" / "template_description.json"
    description.write_text(json.dumps({"res": grids}), "utf-8")
    monkeypatch.setenv("TEMPLATEFLOW_HOME", str(folder))
    return folder


def test_in_space_takes_each_voxels_value_where_the_transform_leads(
    small_bundle: Bundle, home: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    """With hardly any smoothing: the value of the voxel where its centre comes to lie."""
    encoder = Encoder(small_bundle)
    moved = encoder.in_space(SPACE, write_composite(tmp_path / "way.h5"))
    features = rng.normal(size=(2, 6))
    options = {"sigma_mm": 0.1, "mask": "support", "average": "mean"}
    here = encoder.predict_features(features, **options)
    there = moved.predict_features(features, **options)
    assert there.space == SPACE
    grid = template_grid(SPACE)
    assert (there.mask.shape, there.affine.tolist()) == (grid.shape, grid.affine.tolist())
    voxels = np.argwhere(there.mask).astype(float)
    points = moved_by_hand(transform(there.affine, voxels))
    for subject in (None, *here.subject_names):
        maps = there.group if subject is None else there.subject(subject)
        # Outside either mask, and where the group has too few people, nothing is known.
        wanted = np.nan_to_num(here.at(points, subject=subject))
        np.testing.assert_allclose(np.nan_to_num(maps), wanted, atol=1e-5)
        assert (wanted != 0).sum() > 30
    assert "brought to tpl2 by way.h5 (SHA-256" in there.provenance.source


def test_in_space_finds_templateflows_transform(small_bundle: Bundle, home: Path) -> None:
    """By its published name, from the encoder's space; without it the name is said."""
    encoder = Encoder(small_bundle)
    name = f"tpl-{SPACE}_from-MNI152NLin6Asym_mode-image_xfm.h5"
    with pytest.raises(OptionError, match=f"space {SPACE} needs the published transform.*{name}"):
        encoder.in_space(SPACE)
    write_composite(home / f"tpl-{SPACE}" / name)
    assert encoder.in_space(SPACE).bundle.space == SPACE
    assert encoder.in_space("MNI152NLin6Asym") is encoder


@pytest.mark.parametrize(
    "name",
    [
        # As TemplateFlow and fMRIPrep name them.
        "tpl-MNI152NLin6Asym_from-{space}_mode-image_xfm.h5",
        "from-{space}_to-MNI152NLin6Asym_mode-image_xfm.h5",
        "from-MNI152NLin6Asym_to-{space}_mode-points_xfm.h5",
        "tpl-{space}_from-MNI152Lin_mode-image_xfm.h5",
    ],
)
def test_in_space_by_a_transform_of_other_ends_is_refused(
    small_bundle: Bundle, home: Path, tmp_path: Path, name: str
) -> None:
    """The inverse was taken for the way there: maps lay at twice the templates' difference."""
    file = write_composite(tmp_path / name.format(space=SPACE))
    with pytest.raises(DataError, match=f"{SPACE}: .*{file.name} must bring images of MNI152NLin6"):
        Encoder(small_bundle).in_space(SPACE, file)


@pytest.mark.parametrize(
    "name",
    [
        "from-MNI152NLin6Asym_to-{space}_mode-image_xfm.h5",
        "from-{space}_to-MNI152NLin6Asym_mode-points_xfm.h5",
        "to_tpl2.h5",
    ],
)
def test_in_space_by_a_transform_of_the_right_ends_is_taken(
    small_bundle: Bundle, home: Path, tmp_path: Path, name: str
) -> None:
    """Points go against the way of images."""
    file = write_composite(tmp_path / name.format(space=SPACE))
    assert Encoder(small_bundle).in_space(SPACE, file).bundle.space == SPACE


def test_in_space_without_a_grid_says_what_is_needed(small_bundle: Bundle, home: Path) -> None:
    """A template that TemplateFlow's cache does not describe."""
    with pytest.raises(OptionError, match=r"space Other needs the template's grid of 2 mm"):
        Encoder(small_bundle).in_space("Other")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shape", "[Infinity, 8, 7]"),
        ("shape", "[-9, 8, 7]"),
        ("shape", "[0, 8, 7]"),
        ("shape", "[NaN, 8, 7]"),
        ("shape", "[9, 8]"),
        ("shape", '"987"'),
        ("origin", "[Infinity, 0, 0]"),
        ("origin", "[NaN, 0, 0]"),
        ("origin", "[1e300, 0, 0]"),
        ("zooms", "[null, 2, 2]"),
    ],
)
def test_grid_that_cannot_be_is_none(home: Path, name: str, value: str) -> None:
    """A description that says no grid is as good as none; one beyond the limit is refused."""
    said = {"shape": "[9, 8, 7]", "origin": "[-9, -9, -9]", "zooms": "[2, 2, 2]"}
    file = home / f"tpl-{SPACE}" / "template_description.json"

    def describe(grid: dict[str, str]) -> None:
        inside = ", ".join(f'"{key}": {text}' for key, text in grid.items())
        file.write_text(f'{{"res": {{"02": {{{inside}}}}}}}', encoding="utf-8")

    describe(said)
    assert template_grid(SPACE).shape == (9, 8, 7)
    describe(said | {name: value})
    with pytest.raises(OptionError, match="does not say it"):
        template_grid(SPACE)
    describe(said | {"shape": "[1000, 1000, 101]"})
    with pytest.raises(DataError, match=r"100,000,000 voxels in a template; got 101,000,000"):
        template_grid(SPACE)


def test_grid_of_2009c_is_the_published_one(home: Path) -> None:
    """Shape and first voxel as TemplateFlow's description of its 2 mm files has them."""
    grid = template_grid("MNI152NLin2009cAsym")
    assert grid.shape == (97, 115, 97)
    assert grid.affine[:3, 3].tolist() == [-96.5, -132.5, -78.5]
    assert np.diag(grid.affine).tolist() == [2, 2, 2, 1]


@pytest.fixture
def run(
    small_encoder: Path,
    random_weights: Path,
    tmp_path: Path,
    dark_and_bright: Callable[[int], tuple[Path, Path]],
) -> Run:
    """Return what predicts two pictures with a small encoder and gives the exit code."""
    folder, _ = dark_and_bright(2)

    def call(*arguments: object) -> int:
        common = ("--encoder", small_encoder, "--weights", random_weights, "-q")
        words = ("predict", folder, *arguments, *common, "-o", tmp_path / "out")
        return main([str(word) for word in words])

    return call


def test_predict_space_fsaverage5_writes_gifti_for_each_hemisphere(
    run: Run, small_encoder: Path, random_weights: Path, tmp_path: Path
) -> None:
    """Nilearn reads them, and they hold what `Prediction.to_surface` returns."""
    assert run("--space", "fsaverage5", "--subjects") == 0
    out = tmp_path / "out"
    files = sorted(path.name for path in out.glob("dark0.png*.gii"))
    assert files == sorted(
        f"dark0.png{who}_hemi-{hemi}_space-fsaverage5.func.gii"
        for who in ("", "_sub-S1", "_sub-S2")
        for hemi in "LR"
    )
    parts = {"left": str(out / files[0]), "right": str(out / files[1])}
    read = SurfaceImage(load_fsaverage("fsaverage5")["pial"], parts)
    encoder = Encoder(read_bundle(small_encoder))
    one = encoder.predict(tmp_path / "dark/dark0.png", weights=random_weights, progress=False)
    wanted = one.to_surface()
    for side in ("left", "right"):
        got, expected = read.data.parts[side].squeeze(), wanted.data.parts[side]
        np.testing.assert_allclose(got, expected, atol=1e-5)
    left = nib.load(out / files[0])
    assert left.meta["AnatomicalStructurePrimary"] == "CortexLeft"
    record = json.loads((out / "predictions.json").read_text("utf-8"))
    assert record["settings"]["surface"] == "fsaverage5"
    assert set(files) <= {file["file"] for file in record["inputs"][0]["outputs"]}


def test_predict_space_of_a_template_names_it_in_bids(run: Run, home: Path, tmp_path: Path) -> None:
    """Volumes are on its grid, and file names say its name."""
    way = write_composite(tmp_path / "way.h5")
    assert run("--space", SPACE, "--transform", way, "--format", "bids") == 0
    volumes = sorted((tmp_path / "out").rglob("*dark0*.nii.gz"))
    assert all(f"_space-{SPACE}_" in path.name for path in volumes)
    assert nib.load(volumes[0]).shape[:3] == (16, 13, 11)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (("--transform", "x.h5"), "`transform` needs --space|--transform.? needs --space"),
        (("--space", "fsaverage5", "--format", "bids"), "beside plain volumes"),
        (("--space", "MNI152NLin2009cAsym"), "needs the published transform from MNI152NLin6Asym"),
    ],
)
def test_predict_space_that_cannot_be_is_bad_usage(
    run: Run, home: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str], match: str
) -> None:
    """Nothing is written."""
    import re

    assert run(*arguments) == 2
    assert re.search(match, capsys.readouterr().err)


def test_predict_at_writes_a_tidy_table(
    run: Run, small_encoder: Path, random_weights: Path, tmp_path: Path
) -> None:
    """Values are those of `Prediction.at`; a point outside says so; a resumed run says the same."""
    encoder = Encoder(read_bundle(small_encoder))
    spatial = encoder.spatial_model()
    inside = transform(encoder.bundle.template.affine, np.argwhere(spatial.mask)[5:6].astype(float))
    points = pd.DataFrame([*inside.tolist(), [90, 90, 90]], columns=["x", "y", "z"])
    points.insert(0, "name", ["peak", "nowhere"])
    points.to_csv(tmp_path / "points.tsv", sep="\t", index=False)
    assert run("--at", tmp_path / "points.tsv", "--subjects") == 0
    table = pd.read_csv(tmp_path / "out" / "points.tsv", sep="\t")
    columns = ["stimulus", "name", "x", "y", "z", "subject", "value", "unit", "inside"]
    assert list(table.columns) == columns
    meanings = json.loads((tmp_path / "out" / "points.json").read_text("utf-8"))
    assert list(meanings) == columns
    prediction = encoder.predict(tmp_path / "dark", weights=random_weights, progress=False)
    own = pd.concat(prediction.at_table(points, subject=who) for who in (None, "S1", "S2"))
    key = ["stimulus", "subject", "name"]
    wanted = own.set_index(key)["value"].loc[pd.MultiIndex.from_frame(table[key])]
    np.testing.assert_allclose(table["value"], wanted, rtol=1e-5)
    assert len(table) == 2 * 3 * 2
    assert (table["inside"] == (table["name"] == "peak")).all()
    assert table.loc[table["name"] == "nowhere", "value"].isna().all()
    assert set(table.query("subject == 'group'")["unit"]) == {"z"}
    assert set(table.query("subject == 'S1'")["unit"]) == {"model units"}
    assert run("--at", tmp_path / "points.tsv", "--subjects", "--resume") == 0
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out" / "points.tsv", sep="\t"), table)


@pytest.mark.parametrize(
    ("table", "match"),
    [
        (pd.DataFrame({"x": [1], "y": [2]}), "expected columns x, y and z.*got x, y"),
        (pd.DataFrame({"x": [1], "y": ["a"], "z": [2]}), "row 0: y must be a number.*got 'a'"),
        (pd.DataFrame({"x": [1], "y": [1], "z": [2], "value": [3]}), "a column called value"),
        (pd.DataFrame({"x": [], "y": [], "z": []}), "got no rows"),
        # MNE writes electrodes in metres.
        (pd.DataFrame({"x": [0.012, 0], "y": [-0.093, 0], "z": [0.004, 0]}), "none beyond 0.093"),
    ],
)
def test_at_table_refuses_what_is_no_table_of_points(
    small_bundle: Bundle, rng: np.random.Generator, table: pd.DataFrame, match: str
) -> None:
    """Columns and cells are named."""
    prediction = Encoder(small_bundle).predict_features(rng.normal(size=(1, 6)))
    with pytest.raises(DataError, match=match):
        prediction.at_table(table)


@pytest.mark.parametrize("space", ["fsaverage", "Talairach", "T1w", "MNI305"])
def test_at_points_of_another_space_by_name_are_refused(
    run: Run,
    small_bundle: Bundle,
    tmp_path: Path,
    rng: np.random.Generator,
    capsys: pytest.CaptureFixture[str],
    space: str,
) -> None:
    """Electrodes in BIDS, whose names say in which space; those of MNI152 count as one."""
    text = "name\tx\ty\tz\tsize\nO1\t2\t-3\t4\tn/a\n"
    other = tmp_path / f"sub-1_space-{space}_electrodes.tsv"
    same = tmp_path / "sub-1_space-MNI152NLin2009cAsym_electrodes.tsv"
    for table in (other, same):
        table.write_text(text, "utf-8")
    match = f"{other.name} must hold points in MNI152NLin6Asym"
    prediction = Encoder(small_bundle).predict_features(rng.normal(size=(1, 6)))
    with pytest.raises(DataError, match=match):
        prediction.at_table(other)
    assert run("--at", other) == 1
    assert match in capsys.readouterr().err
    assert len(prediction.at_table(same)) == 1
