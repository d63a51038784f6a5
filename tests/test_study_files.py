"""Other people's files in a study: spaces, arrays of volumes, tables of features, checks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import scipy.io
from nilearn.glm.first_level import make_first_level_design_matrix

from imgtofmri.bundle import Bundle
from imgtofmri.cli.fit import fit as fit_command
from imgtofmri.exceptions import DataError, ImgToFmriError, OptionError
from imgtofmri.measured.confounds import read_confounds
from imgtofmri.training import check_files, fit_study
from imgtofmri.training.fit import load_subjects
from imgtofmri.training.stimuli import study_features
from imgtofmri.training.study import read_study

AFFINE = np.array([[2.0, 0, 0, -10], [0, 2, 0, -80], [0, 0, 2, -10], [0, 0, 0, 1]])
SHAPE = (5, 6, 4)
N_ROWS = 30


def save(path: Path, values: npt.NDArray[Any], affine: npt.NDArray[Any] | None = AFFINE) -> None:
    """Write an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(values, affine), path)


class Betas:
    """A study of single-trial volumes that its features explain, in whatever file."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(3)
        self.folder = folder
        self.features = rng.normal(size=(N_ROWS, 4)).astype(np.float32)
        self.mask = np.zeros(SHAPE, np.uint8)
        self.mask[1:4, 1:4, 1:3] = 1
        weights = rng.normal(size=(4, *SHAPE))
        self.volumes = np.moveaxis(np.tensordot(self.features, weights, 1), 0, -1).astype("f4")
        save(folder / "mask.nii.gz", self.mask)
        np.save(folder / "features.npy", self.features)
        (folder / "stimuli.tsv").write_text(
            "stimulus\n" + "".join(f"s{k}\n" for k in range(N_ROWS))
        )

    def write(self, responses: str, extra: str = "", rois: str = 'LOC = "mask.nii.gz"') -> Path:
        """Write the study file."""
        (self.folder / "study.toml").write_text(f"""
id = "a"
title = "a"
licence = "x"
backbone = {{ layers = ["pool"] }}
fit = {{ alphas = [0.001, 1.0] }}
stimuli = {{ features = "features.npy", table = "stimuli.tsv" }}
[[subjects]]
name = "s1"
{responses}
transform = {{ kind = "same" }}
{extra}
[subjects.rois]
{rois}
""")
        return self.folder / "study.toml"

    def accuracy(self, bundle: Bundle) -> float:
        """Return the least cross-validated r of a voxel."""
        return float(bundle.subjects[0].rois["LOC"].extras["cv_r"].min())


@pytest.fixture
def betas(tmp_path: Path) -> Betas:
    """Return a study of volumes."""
    return Betas(tmp_path)


def write_volumes(betas: Betas, kind: str) -> str:
    """Write the volumes as one program does; return what a study says of them."""
    folder, volumes = betas.folder, betas.volumes
    if kind == "glmsingle npy":
        held = {"betasmd": volumes, "R2": volumes[..., 0], "noisepool": None, "pcnum": np.int64(5)}
        np.save(folder / "TYPED.npy", held, allow_pickle=True)
        return '{ file = "TYPED.npy", key = "betasmd" }'
    if kind == "glmsingle hdf5":
        with h5py.File(folder / "TYPED.hdf5", "w") as file:
            file["betasmd"], file["R2"] = volumes, volumes[..., 0]
        return '{ file = "TYPED.hdf5", key = "betasmd" }'
    if kind == "glmsingle mat 7.3":
        with h5py.File(folder / "TYPED.mat", "w", userblock_size=512) as file:
            file["modelmd"], file["R2"] = volumes.T, volumes[..., 0].T
        with (folder / "TYPED.mat").open("r+b") as raw:
            raw.write(b"MATLAB 7.3 MAT-file".ljust(128))
        return '{ file = "TYPED.mat", key = "modelmd" }'
    if kind == "mat 5":
        scipy.io.savemat(folder / "b.mat", {"modelmd": volumes})
        return '"b.mat"'
    if kind == "nsd hdf5":
        with h5py.File(folder / "betas_session01.hdf5", "w") as file:
            file["betas"] = np.round(300 * volumes.T).astype("i2")
        return '"betas_session01.hdf5"'
    if kind == "volumes first":
        np.save(folder / "b.npy", np.moveaxis(volumes, -1, 0))
        return '"b.npy"'
    if kind == "told":
        np.save(folder / "b.npy", volumes.transpose(1, 3, 0, 2))
        return '{ file = "b.npy", axes = "ynxz" }'
    if kind == "list of voxels":
        np.save(folder / "b.npy", volumes[betas.mask > 0][:, None, None])
        return '"b.npy"\nmask = "mask.nii.gz"'
    if kind == "list of voxels, reversed":
        with h5py.File(folder / "b.hdf5", "w") as file:
            file["betasmd"] = volumes[betas.mask > 0].T[:, None, None]
        return '{ file = "b.hdf5", transposed = true }\nmask = "mask.nii.gz"'
    if kind == "list of voxels of MATLAB's":
        listed = volumes.reshape(-1, N_ROWS, order="F")[betas.mask.ravel(order="F") > 0]
        scipy.io.savemat(folder / "b.mat", {"betas": listed.T})
        return '{ file = "b.mat", voxel_order = "F" }\nmask = "mask.nii.gz"'
    if kind == "list of voxels in mat":
        scipy.io.savemat(folder / "b.mat", {"betas": volumes[betas.mask > 0]})
        return '{ file = "b.mat", transposed = true, voxel_order = "C" }\nmask = "mask.nii.gz"'
    if kind == "mat 5 structure":
        scipy.io.savemat(folder / "b.mat", {"results": {"modelmd": volumes, "R2": volumes[..., 0]}})
        return '{ file = "b.mat", key = "results/modelmd" }'
    if kind == "mat 5 cells":
        cells = np.empty((1, 4), dtype=object)
        cells[:] = [[{"modelmd": volumes * number, "meta": "x"} for number in (9, 8, 7, 1)]]
        scipy.io.savemat(folder / "b.mat", {"models": cells})
        return '{ file = "b.mat", key = "models/3/modelmd" }'
    if kind == "afni bucket":
        save(folder / "b.nii.gz", volumes[:, :, :, None])
        return '"b.nii.gz"'
    if kind == "mgz":
        nib.save(nib.MGHImage(volumes, AFFINE), folder / "b.mgz")
        return '"b.mgz"'
    assert kind == "unoriented"
    save(folder / "b.nii.gz", volumes, None)
    return '"b.nii.gz"\ngrid = "mask.nii.gz"'


KINDS = (
    *("glmsingle npy", "glmsingle hdf5", "glmsingle mat 7.3", "mat 5", "nsd hdf5"),
    *("volumes first", "told", "list of voxels", "list of voxels, reversed"),
    *("list of voxels of MATLAB's", "list of voxels in mat"),
    *("mat 5 structure", "mat 5 cells", "afni bucket", "mgz", "unoriented"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_fit_study_takes_volumes_as_programs_write_them(betas: Betas, kind: str) -> None:
    """The same volumes give the same models out of every program's file."""
    study = betas.write(f"responses = {write_volumes(betas, kind)}")
    model = fit_study(study, progress=False).subjects[0].rois["LOC"]
    assert model.extras["cv_r"].min() > 0.99
    scale = 300 if kind == "nsd hdf5" else 1
    expected = np.linalg.lstsq(
        np.c_[betas.features, np.ones(N_ROWS)], betas.volumes[betas.mask > 0].T, rcond=None
    )[0][:4]
    np.testing.assert_allclose(model.weights / scale, expected, atol=0.01)


def test_fit_study_takes_each_hemispheres_list_in_fortrans_order(betas: Betas) -> None:
    """An ROI's list is that of its left mask and then that of its right one, each as told."""
    sides = [np.zeros_like(betas.mask), np.zeros_like(betas.mask)]
    sides[0][1:3], sides[1][3:] = betas.mask[1:3], betas.mask[3:]
    flat = betas.volumes.reshape(-1, N_ROWS, order="F")
    listed = np.concatenate([flat[side.ravel(order="F") > 0] for side in sides])
    np.save(betas.folder / "b.npy", listed.T)
    for name, side in zip(("left", "right"), sides, strict=True):
        save(betas.folder / f"{name}.nii.gz", side)
    masks = 'left = "left.nii.gz", right = "right.nii.gz"'
    told = 'responses = { file = "b.npy", voxel_order = "F" }'
    model = fit_study(betas.write("", rois=f"LOC = {{ {masks}, {told} }}"), progress=False)
    found = model.subjects[0].rois["LOC"]
    expected = np.linalg.lstsq(
        np.c_[betas.features, np.ones(N_ROWS)],
        betas.volumes.reshape(-1, N_ROWS)[found.voxels].T,
        rcond=None,
    )[0][:4]
    np.testing.assert_allclose(found.weights, expected, atol=0.01)


@pytest.mark.parametrize("said", ['axes = "xyzn"', 'voxel_order = "F"'])
def test_fit_study_features_have_neither_axes_nor_voxels(betas: Betas, said: str) -> None:
    """What a study says and nothing follows would be taken for done."""
    study = betas.write('responses = "betas.npy"')
    told = f'features = {{ file = "features.npy", {said} }}'
    study.write_text(study.read_text().replace('features = "features.npy"', told))
    np.save(betas.folder / "betas.npy", betas.volumes)
    with pytest.raises(ImgToFmriError, match="is of responses, not of features. Leave it out"):
        fit_study(study, progress=False)


@pytest.mark.parametrize(
    ("file", "array", "said", "message"),
    [
        ("b.mat", (N_ROWS, 18), "", 'in a .mat file must be told its order. Say voxel_order = "F"'),
        (
            "b.npy",
            (N_ROWS, 18),
            ', voxel_order = "f"',
            "voxel_order must be \"F\", as of vol.* 'f'",
        ),
        ("b.npy", (*SHAPE, N_ROWS), ', voxel_order = "F"', "voxel_order is of lists of voxels"),
    ],
)
def test_fit_study_orders_of_voxels_must_be_known(
    betas: Betas, file: str, array: tuple[int, ...], said: str, message: str
) -> None:
    """MATLAB's lists and NumPy's look alike."""
    values = np.ones(array, np.float32)
    if file == "b.mat":
        scipy.io.savemat(betas.folder / file, {"betas": values})
    else:
        np.save(betas.folder / file, values)
    study = betas.write(f'responses = {{ file = "{file}"{said} }}\nmask = "mask.nii.gz"')
    with pytest.raises(ImgToFmriError, match=message):
        fit_study(study, progress=False)


def test_fit_study_volumes_of_an_roi_are_taken_there(betas: Betas) -> None:
    """An ROI's own responses may be volumes, too, as an array or an image."""
    np.save(betas.folder / "b.npy", betas.volumes)
    save(betas.folder / "b.nii.gz", betas.volumes)
    for name in ("b.npy", "b.nii.gz"):
        study = betas.write("", rois=f'LOC = {{ mask = "mask.nii.gz", responses = "{name}" }}')
        assert betas.accuracy(fit_study(study, progress=False)) > 0.99


@pytest.mark.parametrize(
    ("shape", "said", "message"),
    [
        (
            (6, 6, 6, N_ROWS),
            "",
            r"must have axes xyzn or nzyx or nxyz, .*\(6, 6, 6, 30\) fits none",
        ),
        ((N_ROWS, *SHAPE[::-1]), ', axes = "xyzn"', r"must have axes xyzn, .* fits none"),
        ((*SHAPE, N_ROWS), ", transposed = true", r"transposed is of arrays with two axes"),
        ((N_ROWS, 18), ', axes = "xyzn"', r"axes are of arrays with four; got \(30, 18\)"),
        (
            (*SHAPE, N_ROWS),
            ', axes = "xyz"',
            r"must be the letters of x, y, z and n, .*got \'xyz\'",
        ),
        (SHAPE, "", r"must have two axes, rows and voxels, or four, .*\(5, 6, 4\). Name the array"),
        ((18, 18), "", r"as many rows as voxels must be told .*\(18, 18\). Say transposed = false"),
        ((*SHAPE, N_ROWS - 1), "", r"must have shape \(n_rows, n_voxels\) = \(30, 18\); got \(29"),
    ],
)
def test_fit_study_volumes_that_do_not_fit_are_refused(
    betas: Betas, shape: tuple[int, ...], said: str, message: str
) -> None:
    """Axes are told by the grid's shape or by the study, never guessed."""
    np.save(betas.folder / "b.npy", np.ones(shape, np.float32))
    study = betas.write(f'responses = {{ file = "b.npy"{said} }}\nmask = "mask.nii.gz"')
    with pytest.raises(ImgToFmriError, match=message):
        fit_study(study, progress=False)


def test_fit_study_axes_that_may_be_either_are_asked_for(betas: Betas) -> None:
    """On a grid as deep as it is wide, two layouts fit, and one must be named."""
    mask = np.zeros((5, 6, 5), np.uint8)
    mask[1:3, 2:4, 3] = 1
    save(betas.folder / "mask.nii.gz", mask)
    values = np.random.default_rng(1).normal(size=(N_ROWS, 5, 6, 5)).astype("f4")
    np.save(betas.folder / "b.npy", values)
    with pytest.raises(DataError, match=r"fits nzyx and nxyz. Say which with axes"):
        fit_study(betas.write('responses = "b.npy"'), progress=False)
    study = betas.write('responses = { file = "b.npy", axes = "nxyz" }')
    assert fit_study(study, progress=False).subjects[0].rois["LOC"].n_voxels == 4


def test_fit_study_dictionaries_of_arrays_list_their_keys(
    betas: Betas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is not there, or none, is answered with those there are, by the path as given."""
    write_volumes(betas, "glmsingle npy")
    monkeypatch.chdir(betas.folder)
    for responses, said in (
        (
            '"TYPED.npy"',
            r"^study.toml, line \d+: subjects\[1\].responses: TYPED.npy holds 4 arrays ",
        ),
        (
            '{ file = "TYPED.npy", key = "betas" }',
            r"TYPED.npy: key must be one of betasmd, R2, noi",
        ),
        ('{ file = "TYPED.npy", key = "noisepool" }', r"item 'noisepool' .* must be one array of"),
        (
            '{ file = "TYPED.npy", key = "betasmd/x" }',
            r"must be whole numbers below 5 here; got 'x'",
        ),
    ):
        betas.write(f"responses = {responses}")
        with pytest.raises(DataError, match=said) as caught:
            fit_study("study.toml", progress=False)
        assert str(betas.folder) not in str(caught.value)


@pytest.mark.parametrize(
    ("rois", "message"),
    [
        ('LOC = "prob.nii.gz"', r"must hold 0 and 1; got 2 voxels of other values"),
        ('LOC = { mask = "prob.nii.gz", threshold = 0.5, value = 1 }', r"and value both say which"),
        ('LOC = { mask = "none.nii.gz" }', r"must say how its voxels lie; got a header without"),
    ],
)
def test_fit_study_masks_are_of_0_and_1_or_told(betas: Betas, rois: str, message: str) -> None:
    """Probabilities need a threshold, and every mask an orientation."""
    probable = betas.mask.astype(np.float32)
    probable[1, 1, 1], probable[0, 0, 0] = 0.6, 0.3
    save(betas.folder / "prob.nii.gz", probable)
    save(betas.folder / "none.nii.gz", betas.mask, None)
    responses = f"responses = {write_volumes(betas, 'mgz')}"
    with pytest.raises(ImgToFmriError, match=message):
        fit_study(betas.write(responses, rois=rois), progress=False)
    told = betas.write(responses, rois='LOC = { mask = "prob.nii.gz", threshold = 0.5 }')
    assert fit_study(told, progress=False).subjects[0].rois["LOC"].n_voxels == 18


NLIN6, CASYM = "MNI152NLin6Asym", "MNI152NLin2009cAsym"


@pytest.mark.parametrize(
    ("mask", "transform", "said"),
    [
        (
            f"a_space-{CASYM}_mask",
            'kind = "same"',
            f"needs images in {NLIN6}.*got a_space.* in {CASYM}",
        ),
        ("a_space-T1w_mask", 'kind = "same"', f"needs images in {NLIN6}.* in T1w"),
        (f"a_space-{CASYM}_mask", f'kind = "same", space = "{CASYM}"', ""),
        (f"a_space-{NLIN6}_mask", 'kind = "same"', ""),
        (
            "a_space-T1w_mask",
            f'kind = "itk", file = "from-T1w_to-{CASYM}_xfm.txt"',
            f"lead to {NLIN6}",
        ),
        (
            "a_space-T1w_mask",
            f'kind = "itk", file = "from-{NLIN6}_to-T1w_xfm.txt"',
            f"to {NLIN6}; got",
        ),
        ("a_space-T1w_mask", f'kind = "itk", file = "from-orig_to-{NLIN6}_xfm.txt"', "space, T1w"),
        (
            "a_space-T1w_mask",
            f'kind = "itk", file = "from-orig_to-{NLIN6}_xfm.txt", space = ["orig", "T1w"]',
            "",
        ),
        ("a_space-T1w_mask", f'kind = "itk", file = "from-T1w_to-{NLIN6}_xfm.txt"', ""),
        # TemplateFlow's names, the inverse first.
        (
            f"a_space-{CASYM}_mask",
            f'kind = "itk", file = "tpl-{CASYM}_from-{NLIN6}_xfm.txt"',
            f"lead to {NLIN6}; got one that leads to {CASYM}",
        ),
        (f"a_space-{CASYM}_mask", f'kind = "itk", file = "tpl-{NLIN6}_from-{CASYM}_xfm.txt"', ""),
        # What takes points to T1w brings images from there.
        (
            "a_space-T1w_mask",
            f'kind = "itk", file = "from-{NLIN6}_to-T1w_mode-points_xfm.txt"',
            "",
        ),
        (
            "a_space-T1w_mask",
            f'kind = "itk", file = "from-T1w_to-{NLIN6}_mode-points_xfm.txt"',
            f"lead to {NLIN6}; got one that leads to T1w",
        ),
        (f"a_space-{NLIN6}_mask", 'kind = "itk", file = "x.txt"', "is already by its name"),
    ],
)
def test_read_study_spaces_must_agree(betas: Betas, mask: str, transform: str, said: str) -> None:
    """Names of spaces in settings and file names are compared, unless they are said to be one."""
    for name in (CASYM, "T1w", NLIN6):
        save(betas.folder / f"a_space-{name}_mask.nii.gz", betas.mask)
        for other in (CASYM, "T1w", NLIN6, "orig"):
            (betas.folder / f"from-{other}_to-{name}_xfm.txt").touch()
            (betas.folder / f"from-{other}_to-{name}_mode-points_xfm.txt").touch()
            (betas.folder / f"tpl-{other}_from-{name}_xfm.txt").touch()
    (betas.folder / "x.txt").touch()
    responses = f"responses = {write_volumes(betas, 'mgz')}"
    study = betas.write(responses, rois=f'LOC = "{mask}.nii.gz"')
    study.write_text(study.read_text().replace('kind = "same"', transform))
    if not said:
        assert read_study(study).subjects[0].transform is not None
        return
    with pytest.raises(OptionError, match=rf"line \d+: subjects\[1\].transform .*{said}"):
        read_study(study)


def test_read_study_images_of_two_spaces_are_refused(betas: Betas) -> None:
    """Masks in one space and responses in another cannot be of one grid."""
    save(betas.folder / "space-T1w_mask.nii.gz", betas.mask)
    save(betas.folder / "space-fsnative_betas.nii.gz", betas.volumes)
    (betas.folder / "x.txt").touch()
    study = betas.write(
        'responses = "space-fsnative_betas.nii.gz"', rois='LOC = "space-T1w_mask.nii.gz"'
    )
    study.write_text(study.read_text().replace('kind = "same"', 'kind = "itk", file = "x.txt"'))
    with pytest.raises(
        OptionError, match=r"images and masks in one space; got .* in fsnative, .* T1w"
    ):
        read_study(study)


def test_read_study_template_grid_of_another_space_by_name(betas: Betas) -> None:
    """The template's image says its space in its name, as TemplateFlow's do."""
    save(betas.folder / f"tpl-{CASYM}_res-02_T1w.nii.gz", betas.mask)
    study = betas.write(f"responses = {write_volumes(betas, 'mgz')}")
    grid = f'template = {{ grid = "tpl-{CASYM}_res-02_T1w.nii.gz" }}\n'
    study.write_text(grid + study.read_text())
    with pytest.raises(
        OptionError, match=rf"template.grid must be an image in {NLIN6}.*in {CASYM}"
    ):
        read_study(study)
    study.write_text(study.read_text().replace("template = {", f'template = {{ space = "{CASYM}",'))
    assert read_study(study).template.space == CASYM


def test_fit_study_grid_of_another_template_is_refused(betas: Betas) -> None:
    """Images that fill the box of another usual template, whatever their names, are not taken."""
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = -95, -131, -77
    mask = np.zeros((49, 58, 49), np.uint8)
    mask[20:22, 20, 20:22] = 1
    save(betas.folder / "mask.nii.gz", mask, affine)
    values = np.random.default_rng(0).normal(size=(N_ROWS, 4)).astype("f4")
    volumes = np.zeros((*mask.shape, N_ROWS), "f4")
    volumes[mask > 0] = values.T
    save(betas.folder / "b.nii.gz", volumes, affine)
    study = betas.write('responses = "b.nii.gz"')
    with pytest.raises(DataError, match=rf"lie in {NLIN6}; their grid has the size and .* {CASYM}"):
        fit_study(study, progress=False)
    study.write_text(study.read_text().replace('"same"', f'"same", space = "{CASYM}"'))
    assert fit_study(study, progress=False).subjects[0].rois["LOC"].n_voxels == 4


def test_fit_study_square_arrays_must_be_told(betas: Betas) -> None:
    """Where there are as many rows as columns, nothing tells one from the other."""
    betas.mask[:] = 0
    betas.mask.reshape(-1)[:N_ROWS] = 1
    save(betas.folder / "mask.nii.gz", betas.mask)
    np.save(betas.folder / "b.npy", betas.volumes[betas.mask > 0])
    np.save(betas.folder / "features.npy", np.arange(N_ROWS**2).reshape(N_ROWS, N_ROWS).T)
    study = betas.write('responses = "b.npy"\nmask = "mask.nii.gz"')
    with pytest.raises(OptionError, match=r"rows as voxels .* which are its rows; got \(30, 30\)"):
        load_subjects(read_study(study), progress=False)
    study = betas.write('responses = { file = "b.npy", transposed = true }\nmask = "mask.nii.gz"')
    said = read_study(study)
    _, (subject,) = load_subjects(said, progress=False)
    np.testing.assert_array_equal(subject.rois["LOC"].responses.T, betas.volumes[betas.mask > 0])
    with pytest.raises(OptionError, match=r"stimuli as features .* rows; got \(30, 30\). Say"):
        study_features(said, subject.rows.names, progress=False)
    told = '{ file = "features.npy", transposed = true }'
    study.write_text(study.read_text().replace('"features.npy"', told))
    found = study_features(read_study(study), subject.rows.names, progress=False)
    np.testing.assert_array_equal(found.values[0], np.arange(N_ROWS))


def test_fit_study_features_follow_the_study_s_table_not_the_subjects(betas: Betas) -> None:
    """Subjects with tables of their own, in orders of their own, get the features of the study."""
    rng = np.random.default_rng(6)
    expected = fit_study(betas.write(f"responses = {write_volumes(betas, 'mgz')}"), progress=False)
    names = np.array([f"s{k}" for k in range(N_ROWS)])
    subjects = []
    for number in (1, 2):
        order = rng.permutation(N_ROWS)
        (betas.folder / f"own{number}.tsv").write_text("\n".join(["stimulus", *names[order]]))
        np.save(betas.folder / f"own{number}.npy", betas.volumes[..., order])
        subjects.append(f'responses = "own{number}.npy"\ntable = "own{number}.tsv"')
    second = f"""
[[subjects]]
name = "s2"
{subjects[1]}
transform = {{ kind = "same" }}
rois = {{ LOC = "mask.nii.gz" }}
"""
    study = betas.write(subjects[0])
    study.write_text(study.read_text() + second)
    for subject in fit_study(study, progress=False).subjects:
        np.testing.assert_allclose(
            subject.rois["LOC"].weights, expected.subjects[0].rois["LOC"].weights, atol=1e-3
        )


class Runs:
    """fMRIPrep's results of two runs in which stimuli come in random order."""

    def __init__(self, folder: Path, *, n: int = 110, names: int = 12) -> None:
        rng = np.random.default_rng(2)
        self.folder, prep, raw = folder, folder / "prep/sub-01/func", folder / "raw/sub-01/func"
        prep.mkdir(parents=True)
        raw.mkdir(parents=True)
        self.mask = np.zeros((3, 3, 2), np.uint8)
        self.mask[1] = 1
        save(folder / "mask.nii.gz", self.mask)
        self.names = [f"img{k:02d}.jpg" for k in range(names)]
        self.features = rng.normal(size=(names, 3)).astype("f4")
        np.save(folder / "features.npy", self.features)
        responses = self.features @ rng.normal(size=(3, 6))
        lines = [f"{name}\t{k % 3}" for k, name in enumerate(self.names)]
        (folder / "stimuli.tsv").write_text("\n".join(["stimulus\tfold", *lines]) + "\n")
        times = 1.0 + 2.0 * np.arange(n)
        for run in (1, 2):
            order = rng.permutation(names)
            shown = [self.names[k] for k in order]
            events = pd.DataFrame({"onset": 4 + 16.0 * np.arange(names), "duration": 1.0})
            stem = f"sub-01_task-view_run-{run}"
            table = events.assign(stim_file=shown)
            table.to_csv(raw / f"{stem}_events.tsv", sep="\t", index=False)
            design = make_first_level_design_matrix(
                times, events.assign(trial_type=shown), drift_model=None
            )[self.names].to_numpy()
            series = 1000 + 10 * design @ responses + rng.normal(0, 0.1, (n, 6))
            volumes = np.zeros((*self.mask.shape, n), "f4")
            volumes[self.mask > 0] = series.T
            image = nib.Nifti1Image(volumes, AFFINE)
            image.header.set_xyzt_units("mm", "sec")
            image.header["pixdim"][4] = 2
            base = prep / f"{stem}_space-T1w_desc-preproc_bold"
            nib.save(image, f"{base}.nii.gz")
            Path(f"{base}.json").write_text(json.dumps({"RepetitionTime": 2.0, "StartTime": 1.0}))
            confounds = pd.DataFrame({"csf": rng.normal(size=n)})
            confounds.to_csv(prep / f"{stem}_desc-confounds_timeseries.tsv", sep="\t", index=False)

    def write(self, stimuli: str, derivatives: str = "", transform: str = "") -> Path:
        """Write the study file."""
        folds = "" if "fold_column" in stimuli else ", folds = 3"
        (self.folder / "study.toml").write_text(f"""
id = "a"
title = "a"
licence = "x"
backbone = {{ layers = ["pool"] }}
fit = {{ alphas = [0.001, 1.0]{folds} }}
stimuli = {{ {stimuli} }}
[[subjects]]
name = "s1"
transform = {{ {transform or 'kind = "same", space = "T1w"'} }}
rois = {{ LOC = "mask.nii.gz" }}
[subjects.derivatives]
folder = "prep"
raw = "raw"
subject = "01"
task = "view"
confounds = ["csf"]
{derivatives}
""")
        return self.folder / "study.toml"


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    """Return two runs of twelve stimuli."""
    return Runs(tmp_path)


TABLE = 'features = "features.npy", table = "stimuli.tsv"'


def test_fit_study_features_follow_their_table(runs: Runs) -> None:
    """Where runs name the stimuli, the table says which row of the features is whose."""
    bundle = fit_study(runs.write(TABLE), progress=False)
    assert bundle.subjects[0].rois["LOC"].extras["cv_r"].min() > 0.99
    # A table of more stimuli, in another order, pairs by name as well.
    order = np.random.default_rng(4).permutation(12)
    np.save(runs.folder / "features.npy", np.r_[runs.features[order], np.ones((1, 3))])
    names = [*(runs.names[k] for k in order), "never-shown.jpg"]
    (runs.folder / "stimuli.tsv").write_text("\n".join(["stimulus", *names]))
    again = fit_study(runs.write(TABLE), progress=False)
    np.testing.assert_allclose(
        again.subjects[0].rois["LOC"].weights, bundle.subjects[0].rois["LOC"].weights, atol=1e-4
    )


def test_fit_study_features_without_a_table_follow_the_presentations(runs: Runs) -> None:
    """Without a table features are in order of first presentation, as the page says."""
    events = pd.read_csv(
        runs.folder / "raw/sub-01/func/sub-01_task-view_run-1_events.tsv", sep="\t"
    )
    order = [runs.names.index(name) for name in events["stim_file"]]
    np.save(runs.folder / "features.npy", runs.features[order])
    bundle = fit_study(runs.write('features = "features.npy"'), progress=False)
    assert bundle.subjects[0].rois["LOC"].extras["cv_r"].min() > 0.99


def test_fit_study_names_that_match_in_part_are_refused(runs: Runs) -> None:
    """A stimulus that the table does not name has no features, whatever the others have."""
    text = (runs.folder / "stimuli.tsv").read_text()
    (runs.folder / "stimuli.tsv").write_text(text.replace("img03.jpg", "IMG03.jpg"))
    with pytest.raises(
        DataError, match=r"1 of 12 are not in .*stimuli.tsv, the first is 'img03.jpg'"
    ):
        fit_study(runs.write(TABLE), progress=False)


def test_fit_study_folds_of_a_table_are_those_of_the_runs(runs: Runs) -> None:
    """The table's folds go to presentations by name; a table of no use is refused."""
    bundle = fit_study(runs.write(f'{TABLE}, fold_column = "fold"'), progress=False)
    assert bundle.card["fit"]["data"]["s1"]["folds"] == [4, 4, 4]
    with pytest.raises(
        OptionError, match=r"stimuli.table names rows that every subject has of its"
    ):
        read_study(runs.write('table = "stimuli.tsv", folder = "."'))
    text = (runs.folder / "stimuli.tsv").read_text()
    (runs.folder / "stimuli.tsv").write_text(text.replace("img03.jpg\t0", "img02.jpg\t0"))
    with pytest.raises(DataError, match=r"each stimulus .* must have one fold; got 'img02.jpg' in"):
        fit_study(runs.write(f'{TABLE}, fold_column = "fold"'), progress=False)


def test_read_study_derivatives_of_another_space_need_a_transform(runs: Runs) -> None:
    """Native images are not the template's because nobody said how they get there."""
    with pytest.raises(
        OptionError, match=rf"needs images in {NLIN6}.*got derivatives.space in T1w"
    ):
        read_study(runs.write(TABLE, transform='kind = "same"'))


def test_fit_study_events_called_na_are_refused(runs: Runs) -> None:
    """A stimulus called NA is neither dropped nor shown."""
    path = runs.folder / "raw/sub-01/func/sub-01_task-view_run-2_events.tsv"
    path.write_text(path.read_text().replace("img05.jpg", "NA"))
    with pytest.raises(
        DataError, match=r"run-2_events.tsv, line \d+: stim_file must be a name or n/a"
    ):
        fit_study(runs.write(TABLE), progress=False)


def test_check_files_takes_runs_without_an_orientation_where_the_grid_is_said(runs: Runs) -> None:
    """What a fit takes is found to be right: runs lie on the grid that the study names for them."""
    for path in (runs.folder / "prep/sub-01/func").glob("*.nii.gz"):
        image = nib.Nifti1Image.from_filename(path)
        header = image.header.copy()
        header["sform_code"] = header["qform_code"] = 0
        nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32), None, header), path)
    study = runs.write(TABLE)
    problems = [report.problem for report in check_files(study) if report.problem]
    assert len(problems) == 1
    assert "orientation" in problems[0]
    study.write_text(study.read_text().replace('name = "s1"', 'name = "s1"\ngrid = "mask.nii.gz"'))
    assert not [report.problem for report in check_files(study) if report.problem]
    assert fit_study(study, progress=False).subjects[0].rois["LOC"].extras["cv_r"].min() > 0.99


def test_fit_study_start_time_may_be_told(runs: Runs) -> None:
    """Runs whose sidecars lost StartTime are refused, and taken alike with slice_time_ref."""
    expected = fit_study(runs.write(TABLE), progress=False).subjects[0].rois["LOC"].weights
    for path in (runs.folder / "prep/sub-01/func").glob("*.json"):
        path.write_text('{"RepetitionTime": 2.0}')
    with pytest.raises(DataError, match=r"got neither StartTime nor SliceTimingCorrected"):
        fit_study(runs.write(TABLE), progress=False)
    told = fit_study(runs.write(TABLE, "slice_time_ref = 0.5"), progress=False)
    np.testing.assert_array_equal(told.subjects[0].rois["LOC"].weights, expected)
    assert told.card["fit"]["estimates"]["s1"]["slice_time_ref"] == 0.5
    with pytest.raises(OptionError, match=r"slice_time_ref must be a share .*; got 1.5"):
        read_study(runs.write(TABLE, "slice_time_ref = 1.5"))


@pytest.mark.parametrize(
    ("name", "lost", "said"),
    [
        (
            "csf",
            slice(None),
            r"csf must be finite; got 9 values that are not, of 9 \(line 2, 3, 4, ..",
        ),
        ("csf", [0], r"csf must be finite; got 1 values .* \(line 2\)"),
        ("trans_x_derivative1", [0, 4], r"must be finite after the first row; got 1 values"),
        ("framewise_displacement", [5], r"must be finite after the first row; got 1 .*\(line 7\)"),
        ("std_dvars", slice(None), r"got 8 values that are not, of 9"),
        ("trans_x_derivative1", [0], ""),
        ("framewise_displacement", [0], ""),
        ("trans_x_derivative2", [0, 1], ""),
        pytest.param("trans_x_derivative" + "9" * 5000, [0, 7], "", id="5,000 digits"),
    ],
)
def test_read_confounds_missing_values_are_no_numbers(
    tmp_path: Path, name: str, lost: Any, said: str
) -> None:
    """Only what a difference lacks by its nature counts as 0; the column and lines are named."""
    values = np.arange(1.0, 10.0)
    values[lost] = np.nan
    table = pd.DataFrame({"rot_x": 1.0, name: values})
    table.to_csv(tmp_path / "c.tsv", sep="\t", index=False, na_rep="n/a")
    if said:
        with pytest.raises(DataError, match=said):
            read_confounds(tmp_path / "c.tsv", 9, [name])
    else:
        found = read_confounds(tmp_path / "c.tsv", 9, [name])
        np.testing.assert_array_equal(found[:, 0], np.nan_to_num(values))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("c.tsv", "\tcsf\n0\t0.5\n1\t0.7\n2\t0.1\n", r"one without a name \(''\), as pandas"),
        ("c.csv", "Unnamed: 0,csf\n0,0.5\n1,0.7\n2,0.1\n", r"without a name \('Unnamed: 0'\)"),
        ("c.tsv", "0.1\t0.2\n0.3\t0.4\n0.5\t0.6\n0.7\t0.8\n", "must have names; got numbers"),
        ("rp.txt", " 0.1e0  -0.2\n 0.3  0.4\n 0.5  0.6\n", "got numbers, as in files of SPM, FSL"),
        ("c.tsv", "csf wm\n1 2\n3 4\n5 6\n", "separated by tabs.* got one column, 'csf wm'"),
        ("c.tsv", "csf;wm\n1;2\n3;4\n5;6\n", "separated by tabs.* got one column, 'csf;wm'"),
        ("c.csv", "csf;wm\n0,5;1\n0,7;1\n0,1;1\n", "must be a number with a decimal point; got"),
        ("c.tsv", "csf\n1\t0.5\n2\t0.7\n3\t0.1\n", "1 cells are needed; got 2.*R writes it"),
    ],
)
def test_read_confounds_of_other_programs_tables_are_refused(
    tmp_path: Path, name: str, text: str, said: str
) -> None:
    """Rows' numbers are no confound, and a first line of numbers is no line of names."""
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=said):
        read_confounds(tmp_path / name, 3)


def test_read_confounds_columns_that_are_counted_have_names(tmp_path: Path) -> None:
    """An array that pandas wrote has columns called 0, 1, ..."""
    pd.DataFrame(np.eye(3)).to_csv(tmp_path / "c.tsv", sep="\t", index=False)
    np.testing.assert_array_equal(read_confounds(tmp_path / "c.tsv", 3), np.eye(3))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"duration": 1000.0}, r"must not outlast the next ones; got one every .* lasts 1000 s"),
        ({"duration": 90.0}, r"must not outlast the next|must end with the run, at 2\d\d s; got"),
    ],
)
def test_fit_study_durations_in_milliseconds_are_refused(
    runs: Runs, change: dict[str, float], said: str
) -> None:
    """Boxcars of minutes fit nothing, and say nothing."""
    for path in (runs.folder / "raw/sub-01/func").glob("*events.tsv"):
        events = pd.read_csv(path, sep="\t").assign(**change)
        events.to_csv(path, sep="\t", index=False)
    with pytest.raises(DataError, match=said):
        fit_study(runs.write(TABLE), progress=False)


@pytest.mark.parametrize(("n_confounds", "estimator"), [(105, "lss"), (105, "lsa"), (60, "lss")])
def test_fit_study_confounds_that_leave_nothing_are_refused(
    runs: Runs, n_confounds: int, estimator: str
) -> None:
    """What is left of a run is counted without the presentations, whatever estimates them."""
    for path in (runs.folder / "prep/sub-01/func").glob("*confounds*"):
        values = np.random.default_rng(1).normal(size=(110, n_confounds))
        table = pd.DataFrame(values).add_prefix("a_comp_cor_")
        table.to_csv(path, sep="\t", index=False)
    study = runs.write(TABLE, f'estimator = "{estimator}"')
    study.write_text(study.read_text().replace('["csf"]', '["a_comp_cor_*"]'))
    if n_confounds < 99:
        with pytest.warns(UserWarning, match=r"less than half .*110 volumes less 6\d ind.*60 conf"):
            fit_study(study, progress=False)
    else:
        with pytest.raises(DataError, match=r"something of the run must be left .*105 confounds"):
            fit_study(study, progress=False)


@pytest.mark.parametrize("kind", ["volumes of zeros", "demeaned", "z-scored"])
def test_fit_study_runs_that_are_no_images_any_more_are_refused(runs: Runs, kind: str) -> None:
    """Percent of a mean that was taken out are no percent, and volumes of zeros no signal."""
    path = next((runs.folder / "prep/sub-01/func").glob("*run-1*bold.nii.gz"))
    image = nib.load(path)
    values = np.asarray(image.dataobj).copy()
    if kind == "volumes of zeros":
        values[..., 100:] = 0
    else:
        values -= values.mean(axis=-1, keepdims=True)
        values /= values.std(axis=-1, keepdims=True).clip(1e-9) if kind == "z-scored" else 1
    nib.save(nib.Nifti1Image(values, None, image.header), path)
    said = "in 10 of 110, first in volume 100" if kind == "volumes of zeros" else "with their mean"
    with pytest.raises(DataError, match=said):
        fit_study(runs.write(TABLE), progress=False)


def test_fit_command_check_opens_every_file(runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
    """The check says what each file holds, and refuses what the fit would refuse."""
    fit_command(runs.write(TABLE), check=True)
    said = capsys.readouterr().out
    for line in (
        "mask.nii.gz: 6 voxels",
        "run-1_space-T1w_desc-preproc_bold.nii.gz: 110 volumes, 12",
        "prep: 2 runs",
        "features.npy: 12 x 3 features",
        "stimuli.tsv: 12 rows, 12 stim",
    ):
        assert line in said
    next((runs.folder / "prep/sub-01/func").glob("*run-2*.json")).write_text("{}")
    with pytest.raises(DataError, match=r"run-2.*neither StartTime nor SliceTimingCorrected"):
        fit_command(runs.write(TABLE), check=True)
    assert "run-2_space-T1w_desc-preproc_bold.nii.gz: cannot be used" in capsys.readouterr().out


def test_fit_command_check_compares_rows_with_responses(
    betas: Betas, capsys: pytest.CaptureFixture[str]
) -> None:
    """Arrays are read whole; rows that are too few are found before the fit."""
    study = betas.write(f"responses = {write_volumes(betas, 'nsd hdf5')}")
    fit_command(study, check=True)
    assert "betas_session01.hdf5: 30 x 18 responses of LOC" in capsys.readouterr().out
    (betas.folder / "stimuli.tsv").write_text("stimulus\ns0\ns1\n")
    with pytest.raises(DataError, match=r"must have shape \(n_rows, n_voxels\) = \(2, 18\)"):
        fit_command(study, check=True)
