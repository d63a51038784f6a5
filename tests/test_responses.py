"""Arrays, masks, images and tables, from every kind of file that is taken."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import scipy.io
import zarr
from nilearn.glm.first_level import compute_regressor

from imgtofmri.exceptions import DataError, OptionError, WeightsError
from imgtofmri.measured import (
    estimate_responses,
    find_runs,
    list_images,
    read_array,
    read_arrays,
    read_image_rows,
    read_mask,
    read_stimulus_rows,
)
from imgtofmri.measured.arrays import _read_mat
from imgtofmri.measured.sources import read_patterns
from imgtofmri.measured.tables import read_categories, read_pattern_files
from imgtofmri.measured.timing import header_tr_s
from imgtofmri.spaces import Grid, open_image, read_grid
from imgtofmri.stimuli import StimulusWarning
from imgtofmri.training import fit_study

ARRAY = np.arange(12, dtype=np.float32).reshape(4, 3)


def write_all(folder: Path) -> dict[str, Path]:
    """Write the array in every format, by itself and beside another."""
    np.save(folder / "a.npy", ARRAY)
    np.savez(folder / "a.npz", x=ARRAY, y=np.zeros(2))
    with h5py.File(folder / "a.h5", "w") as file:
        file["group/x"] = ARRAY
        file["y"] = np.zeros(2)
    scipy.io.savemat(folder / "a.mat", {"x": ARRAY, "y": np.zeros(2)})
    with h5py.File(folder / "b.mat", "w", userblock_size=512) as file:
        # MATLAB's 7.3 files hold arrays column by column.
        file["x"] = ARRAY.T
    with (folder / "b.mat").open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(128))
    root = zarr.open_group(str(folder / "a.zarr"), mode="w")
    root.create_array("x", data=ARRAY)
    root.create_array("y", data=np.zeros(2))
    zarr.save_array(str(folder / "b.zarr"), ARRAY)
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a.npy", None),
        ("a.npz", "x"),
        ("a.h5", "group/x"),
        ("a.mat", "x"),
        ("b.mat", None),
        ("a.zarr", "x"),
        ("b.zarr", None),
    ],
)
def test_read_array_every_format_gives_the_same(tmp_path: Path, name: str, key: str | None) -> None:
    """One array is the same out of every format."""
    files = write_all(tmp_path)
    np.testing.assert_array_equal(read_array(files[name], key), ARRAY)


@pytest.mark.parametrize("name", ["a.npz", "a.h5", "a.mat", "a.zarr"])
def test_read_array_unknown_key_lists_what_there_is(tmp_path: Path, name: str) -> None:
    """Among several arrays one must be named; the message lists them."""
    files = write_all(tmp_path)
    with pytest.raises(DataError, match=rf"S1: .*{name} must hold one array.*it holds .*y"):
        read_array(files[name], None, "S1")
    with pytest.raises(DataError, match=r"got 'z'|cannot be read"):
        read_array(files[name], "z")


def test_read_array_nested_objects_are_indexed(tmp_path: Path) -> None:
    """An object array of arrays, or of lists of rows, gives the one that the key names."""
    nested = np.empty((2, 2), dtype=object)
    for place in np.ndindex(2, 2):
        nested[place] = ARRAY[: 2 + sum(place)]
    nested[1, 0] = list(ARRAY)
    np.save(tmp_path / "n.npy", nested, allow_pickle=True)
    np.testing.assert_array_equal(read_array(tmp_path / "n.npy", "0/1"), ARRAY[:3])
    np.testing.assert_array_equal(read_array(tmp_path / "n.npy", "1/0"), ARRAY)
    several = read_arrays([(tmp_path / "n.npy", key, "here") for key in ("0/1", "1/0", "0/0")])
    for array, expected in zip(several, (ARRAY[:3], ARRAY, ARRAY[:2]), strict=True):
        np.testing.assert_array_equal(array, expected)
    with pytest.raises(DataError, match=r"holds 2 arrays. Say which one with key"):
        read_array(tmp_path / "n.npy")
    with pytest.raises(
        DataError, match=r"key '0/5' .* must be whole numbers below 2 here; got '5'"
    ):
        read_array(tmp_path / "n.npy", "0/5")
    with pytest.raises(DataError, match=r"item '0' .* must be one array of numbers"):
        read_array(tmp_path / "n.npy", "0")


def test_read_array_npz_with_a_pickle_in_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member of an archive that is a pickle is not read, whatever it would call."""
    monkeypatch.chdir(tmp_path)

    class Hostile:
        def __reduce__(self) -> tuple[Any, tuple[Path]]:
            return Path.touch, (Path("executed"),)

    np.savez(tmp_path / "evil.npz", x=np.array([Hostile()], dtype=object))
    with pytest.raises(DataError, match=r"evil.npz cannot be read as .npz \(it holds Python"):
        read_array(tmp_path / "evil.npz")
    assert not (tmp_path / "executed").exists()


def test_read_array_pickle_that_names_code_is_refused(tmp_path: Path) -> None:
    """A .npy file whose pickle would call something is refused, and nothing is called."""

    class Hostile:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "made",))

    np.save(tmp_path / "evil.npy", np.array([Hostile()], dtype=object), allow_pickle=True)
    with pytest.raises(WeightsError, match=r"not allowed"):
        read_array(tmp_path / "evil.npy", "0")
    assert not (tmp_path / "made").exists()


def test_read_array_unusable_files_are_refused(tmp_path: Path) -> None:
    """Missing, foreign, damaged and non-numeric files have a message each."""
    with pytest.raises(DataError, match=r"there is no file .*gone.npy"):
        read_array(tmp_path / "gone.npy")
    (tmp_path / "a.txt").touch()
    with pytest.raises(DataError, match=r"an array file ends in .npy, .npz"):
        read_array(tmp_path / "a.txt")
    for name in ("a.npy", "a.npz", "a.h5", "a.mat"):
        (tmp_path / name).write_bytes(b"damaged" * 50)
        with pytest.raises(DataError, match=rf"array: .*{name}.* cannot be read (as \.np|\()"):
            read_array(tmp_path / name)
    np.save(tmp_path / "a.npy", np.array(["a"]))
    with pytest.raises(DataError, match=r"must hold numbers; got <U1"):
        read_array(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", ARRAY)
    with pytest.raises(DataError, match=r"takes no key; got 'x'"):
        read_array(tmp_path / "a.npy", "x")


AFFINE = np.diag([2.0, 2, 2, 1])


def save(path: Path, values: npt.NDArray[Any]) -> Path:
    """Write an image."""
    nib.save(nib.Nifti1Image(values, AFFINE), path)
    return path


def test_read_mask_takes_ones_or_a_label(tmp_path: Path) -> None:
    """Voxels come in C order; a label picks one region of an atlas."""
    atlas = np.zeros((3, 4, 5), np.int16)
    atlas[1, 2, 3], atlas[0, 1, 4], atlas[2, 0, 0] = 7, 7, 2
    whole = read_mask(save(tmp_path / "w.nii.gz", (atlas > 0).astype(np.uint8)))
    assert whole.voxels.tolist() == np.flatnonzero(atlas).tolist()
    assert whole.grid == Grid((3, 4, 5), AFFINE)
    save(tmp_path / "m.nii.gz", atlas)
    assert read_mask(tmp_path / "m.nii.gz", 7).n_voxels == 2
    with pytest.raises(DataError, match=r"with voxels of the label 3; got labels \[0 2 7\]"):
        read_mask(tmp_path / "m.nii.gz", 3)
    with pytest.raises(DataError, match=r"must be a 3-D mask image; got shape \(3, 4, 5, 2\)"):
        read_mask(save(tmp_path / "4d.nii.gz", np.zeros((3, 4, 5, 2), np.int16)))
    (tmp_path / "no.nii.gz").write_bytes(b"x")
    with pytest.raises(DataError, match=r"no.nii.gz must be a NIfTI image; got one that"):
        read_mask(tmp_path / "no.nii.gz")


@pytest.mark.parametrize(
    ("values", "value", "said"),
    [
        (
            [0, 1, 0.02, -0.01],
            None,
            "must hold 0 and 1; got 2 voxels .*, such as -0.01, 0.02. Save",
        ),
        ([0, 0.4, 0.9, 1.0], None, "must hold 0 and 1; got 2 voxels of other values"),
        ([0, 255, 255, 0], None, "must hold 0 and 1; got 2 voxels .* such as 255. Save"),
        ([0, 1, np.nan, 1], None, "must hold 0 and 1; got 1 voxels .* such as nan"),
        ([0, 1, 2, 2], None, "value = 3 for a label of an atlas"),
        ([0, 1.5, 3, 3], 3, "must hold whole numbers, its labels; got 1 voxels .* such as 1.5"),
        # In percent, as FSL's atlases and Wang's: above 0.5 nearly all is inside.
        ([0, 12.5, 87, 0.5], None, "threshold = 43.5 for"),
    ],
)
def test_read_mask_of_other_values_is_refused(
    tmp_path: Path, values: list[float], value: int | None, said: str
) -> None:
    """A mask moved by splines, probabilities, or an interpolated atlas is no mask."""
    path = save(tmp_path / "m.nii.gz", np.array(values, np.float32).reshape(4, 1, 1))
    with pytest.raises(DataError, match=said):
        read_mask(path, value)


def test_read_mask_threshold_says_what_is_inside(tmp_path: Path) -> None:
    """With a threshold voxels above it are inside, NaN never; one above all is refused."""
    values = np.array([0.2, 0.5, 0.7, np.nan, 1.02, -0.1], np.float32).reshape(2, 3, 1)
    path = save(tmp_path / "m.nii.gz", values)
    assert read_mask(path, threshold=0.5).voxels.tolist() == [2, 4]
    with pytest.raises(DataError, match=r"with voxels above 2; got at most 1.02"):
        read_mask(path, threshold=2.0)
    # What scaling alone moves off 0 and 1 is a mask as it is.
    scaled = nib.Nifti1Image(np.array([0, 255], np.uint8).reshape(2, 1, 1), AFFINE)
    scaled.header.set_slope_inter(1 / 255, 0)
    nib.save(scaled, tmp_path / "s.nii")
    assert read_mask(tmp_path / "s.nii").voxels.tolist() == [1]


@pytest.mark.parametrize("kind", ["nifti", "analyze", "mgz"])
def test_images_without_an_orientation_are_refused_unless_told(tmp_path: Path, kind: str) -> None:
    """No guess at the orientation is taken for it; another image's grid may be named."""
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    if kind == "nifti":
        path = tmp_path / "a.nii.gz"
        nib.save(nib.Nifti1Image(values, None), path)
    elif kind == "mgz":
        # FreeSurfer's flag is 0, in place of which nibabel puts an orientation.
        path = tmp_path / "a.mgz"
        raw = bytearray(nib.MGHImage(values, AFFINE).to_bytes())
        raw[28:30] = bytes(2)
        path.write_bytes(gzip.compress(bytes(raw)))
    else:
        path = tmp_path / "a.img"
        nib.save(nib.AnalyzeImage(values, None), path)
    with pytest.raises(DataError, match=r"S1: .*a\.\w+.* header without an orientation"):
        read_grid(path, "S1")
    grid = Grid((2, 3, 4), AFFINE)
    assert read_grid(path, unoriented=grid) == grid
    with pytest.raises(DataError, match="without an orientation"):
        read_grid(path, unoriented=Grid((4, 3, 2), AFFINE))


@pytest.mark.parametrize(("unit", "scale"), [("mm", 1.0), ("micron", 1e-3), ("meter", 1e3)])
def test_read_grid_is_in_millimetres_whatever_the_header_counts_in(
    tmp_path: Path, unit: str, scale: float
) -> None:
    """The unit of the header's lengths is read, not taken for millimetres."""
    image = nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), AFFINE)
    image.header.set_xyzt_units(unit)
    nib.save(image, tmp_path / "a.nii")
    np.testing.assert_allclose(
        read_grid(tmp_path / "a.nii").affine, np.diag([2 * scale] * 3 + [1]), rtol=1e-6
    )


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_images_with_an_axis_below_nothing_are_refused(tmp_path: Path, axis: int) -> None:
    """Any one of them; nibabel takes such headers as they come."""
    path = tmp_path / "a.nii"
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4), np.uint8), AFFINE), path)
    header = bytearray(path.read_bytes())
    header[40 + 2 * axis : 42 + 2 * axis] = (-2).to_bytes(2, "little", signed=True)
    path.write_bytes(header)
    with pytest.raises(DataError, match=r"a\.nii must have axes of some length; got shape"):
        read_grid(path)


def write_surface(folder: Path, kind: str) -> Path:
    """Write one kind of file of a surface."""
    rows = np.arange(642, dtype=np.float32)
    if kind == "gifti":
        path = folder / "lh.func.gii"
        array = nib.gifti.GiftiDataArray(rows, intent="NIFTI_INTENT_TIME_SERIES")
        nib.save(nib.GiftiImage(darrays=[array]), path)
    elif kind == "cifti":
        path = folder / "a.dscalar.nii"
        brain = nib.cifti2.BrainModelAxis.from_surface(np.arange(642), 642, "CortexLeft")
        axes = (nib.cifti2.ScalarAxis(["a"]), brain)
        nib.save(nib.Cifti2Image(rows[None], axes), path)
    elif kind == "mgh":
        path = folder / "lh.a.mgz"
        nib.save(nib.MGHImage(rows[:40].reshape(40, 1, 1), np.eye(4)), path)
    elif kind == "line":
        path = folder / "lh.a.nii.gz"
        nib.save(nib.Nifti1Image(rows.reshape(642, 1, 1, 1), AFFINE), path)
    elif kind == "folded":
        path = folder / "lh.b.nii.gz"
        nib.save(nib.Nifti1Image(rows.reshape(107, 1, 6), AFFINE), path)
    elif kind == "series":
        path = folder / "a.dtseries.nii"
        brain = nib.cifti2.BrainModelAxis.from_surface(np.arange(642), 642, "CortexLeft")
        axes = (nib.cifti2.SeriesAxis(0, 2, 3), brain)
        nib.save(nib.Cifti2Image(np.stack([rows] * 3), axes), path)
    elif kind == "fsLR":
        path = folder / "lh.32k.nii"
        nib.save(nib.Nifti2Image(np.zeros((32492, 1, 1, 3), np.float32), AFFINE), path)
    elif kind == "thickness":
        path = folder / "lh.thickness"
        nib.freesurfer.write_morph_data(path, rows)
    elif kind == "suma":
        path = folder / "lh.betas.niml.dset"
        path.write_text("<AFNI_dataset")
    elif kind == "packed":
        path = folder / "lh.func.gii.gz"
        path.write_bytes(b"")
    elif kind == "largest":  # fsaverage's 163,842 in the volume that FreeSurfer folds them to.
        path = folder / "lh.c.nii.gz"
        nib.save(nib.Nifti1Image(np.zeros((27307, 1, 6), np.uint8), AFFINE), path)
    else:
        path = folder / "lh.a.annot"
        nib.freesurfer.write_annot(path, np.zeros(9, int), np.zeros((1, 5), int), ["a"])
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("gifti", r"got a surface \(\.gii\)"),
        ("cifti", r"got grayordinates, .* \(CIFTI\)"),
        ("mgh", r"got the 40 vertices of a surface \(FreeSurfer\)"),
        ("line", r"got the 642 vertices of a surface"),
        ("folded", r"got the 642 vertices of a surface"),
        ("annot", r"got a surface \(\.annot\)"),
        ("series", r"got grayordinates, .* \(CIFTI\)"),
        ("fsLR", r"got the 32492 vertices of a surface"),
        ("thickness", r"got a surface \(\.thickness\)"),
        ("suma", r"got a surface \(\.niml\.dset\)"),
        ("packed", r"got a surface \(\.gii\.gz\)"),
        ("largest", r"got the 163842 vertices of a surface"),
    ],
)
def test_surfaces_are_refused_by_their_kind(tmp_path: Path, kind: str, said: str) -> None:
    """Files of surfaces, which nibabel reads as well, are told from images of voxels."""
    path = write_surface(tmp_path, kind)
    for read in (read_grid, read_mask):
        with pytest.raises(
            DataError, match=rf"must be an image of voxels \(NIfTI or MGH\); {said}"
        ):
            read(path)
    with pytest.raises(DataError, match=said):
        read_image_rows(path, np.arange(3), Grid((2, 2, 2), AFFINE))


def test_mgh_volumes_are_read_as_nifti_is(tmp_path: Path, rng: np.random.Generator) -> None:
    """FreeSurfer's volumes have a grid and values like any other image; complex ones are none."""
    values = rng.normal(size=(3, 4, 5, 2)).astype(np.float32)
    nib.save(nib.MGHImage(values, AFFINE), tmp_path / "b.mgz")
    grid = read_grid(tmp_path / "b.mgz")
    assert grid == Grid((3, 4, 5), AFFINE)
    rows = read_image_rows(tmp_path / "b.mgz", np.array([59, 0]), grid)
    np.testing.assert_array_equal(rows, values.reshape(-1, 2)[[59, 0]].T)
    nib.save(nib.MGHImage((values[..., 0] > 0).astype(np.uint8), AFFINE), tmp_path / "m.mgz")
    assert read_mask(tmp_path / "m.mgz").n_voxels == int((values[..., 0] > 0).sum())
    phase = nib.Nifti1Image(values.astype(np.complex64), AFFINE)
    nib.save(phase, tmp_path / "c.nii")
    with pytest.raises(DataError, match=r"must hold real numbers; got complex64"):
        read_image_rows(tmp_path / "c.nii", np.array([0]), grid)


def write_afni(path: Path, values: npt.NDArray[Any], tr: float, unit: int) -> Path:
    """Write a run as AFNI does: a header of text, values beside it; the unit by AFNI's number."""
    *shape, n_volumes = values.shape
    numbers = {
        "integer": {
            "DATASET_RANK": [3, n_volumes],
            "DATASET_DIMENSIONS": [*shape, 0, 0],
            "BRICK_TYPES": [3] * n_volumes,
            "TAXIS_NUMS": [n_volumes, 0, unit],
        },
        "float": {
            "IJK_TO_DICOM_REAL": [-2, 0, 0, 0, 0, -2, 0, 0, 0, 0, 2, 0],
            "DELTA": [-2, -2, 2],
            "ORIGIN": [0, 0, 0],
            "BRICK_FLOAT_FACS": [0] * n_volumes,
            "TAXIS_FLOATS": [0, tr, 0, 0, 0],
        },
    }
    texts = {"BYTEORDER_STRING": "LSB_FIRST", "TYPESTRING": "3DIM_HEAD_ANAT"}
    parts = [
        f"type = {kind}-attribute\nname = {name}\ncount = {len(given)}\n "
        + " ".join(map(str, given))
        for kind, attributes in numbers.items()
        for name, given in attributes.items()
    ]
    parts += [
        f"type = string-attribute\nname = {name}\ncount = {len(text) + 1}\n'{text}~"
        for name, text in texts.items()
    ]
    path.write_text("\n" + "\n\n".join(parts) + "\n")
    path.with_suffix(".BRIK").write_bytes(values.astype("<f4").tobytes(order="F"))
    return path


@pytest.mark.parametrize(
    ("tr", "unit", "expected"), [(2.0, 77002, 2.0), (1500.0, 77001, 1.5), (2.0, 77003, None)]
)
def test_afni_runs_are_read_in_their_own_unit_of_time(
    tmp_path: Path, rng: np.random.Generator, tr: float, unit: int, expected: float | None
) -> None:
    """AFNI's header says seconds or milliseconds; what it says in hertz is no time."""
    values = rng.normal(size=(3, 4, 5, 6)).astype(np.float32)
    path = write_afni(tmp_path / "run+tlrc.HEAD", values, tr, unit)
    assert read_grid(path) == Grid((3, 4, 5), AFFINE)
    rows = read_image_rows(path, np.array([59, 0]), read_grid(path))
    np.testing.assert_array_equal(rows, values.reshape(-1, 6)[[59, 0]].T)
    assert header_tr_s(open_image(path)) == expected


def test_minc_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    """MINC is HDF5, which may lead to other files; nothing of it is read."""
    with h5py.File(tmp_path / "a.mnc", "w") as file:
        file["minc-2.0/image/0/image"] = h5py.ExternalLink(tmp_path / "other.h5", "x")
    with pytest.raises(DataError, match=r"S1: .*a.mnc must be .*; got MINC.* with mnc2nii"):
        read_mask(tmp_path / "a.mnc", where="S1")


@pytest.mark.parametrize("shape", [(3, 4, 5, 1, 6), (3, 4, 5, 6, 1), (3, 4, 5, 1, 6, 1)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_volumes_along_the_fifth_axis_are_read_as_along_the_fourth(
    tmp_path: Path, rng: np.random.Generator, shape: tuple[int, ...], suffix: str
) -> None:
    """AFNI writes what is no time course along the fifth, with an axis of length 1 before it."""
    values = rng.normal(size=(3, 4, 5, 6)).astype(np.float32)
    path = save(tmp_path / f"b{suffix}", values.reshape(shape))
    rows = read_image_rows(path, np.array([59, 0]), read_grid(path))
    np.testing.assert_array_equal(rows, values.reshape(-1, 6)[[59, 0]].T)
    patterns = read_patterns(path, names=list("abcdef"))
    np.testing.assert_array_equal(patterns.values, values.reshape(-1, 6).T)
    mask = (values[..., 0] > 0).astype(np.uint8).reshape(3, 4, 5, 1, 1)
    assert read_mask(save(tmp_path / f"m{suffix}", mask)).n_voxels == mask.sum()
    field = save(tmp_path / f"f{suffix}", np.ones((3, 4, 5, 2, 3), np.float32))
    with pytest.raises(DataError, match=r"must be a 4-D image.*got shape \(3, 4, 5, 2, 3\)"):
        read_image_rows(field, np.array([0]), read_grid(field))


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (None, r'models holds no array, but 4 cells \(0, .*as in "models/0"'),
        ("models/3", r"models/3 holds no array, but 2 fields \(modelmd, meta\)"),
        ("models/4/modelmd", r"b.mat/models: key must be one of 0, 1, 2, 3; got '4'"),
        ("models/0/R2", r"b.mat/models/0: key must be one of modelmd, meta; got 'R2'"),
        ("models/0/modelmd/0", r"modelmd is an array and holds no '0'. Leave it out"),
        ("betas", r"b.mat: key must be one of models; got 'betas'"),
    ],
)
def test_read_array_structures_list_their_fields(
    tmp_path: Path, key: str | None, said: str
) -> None:
    """A way into MATLAB's structures and cells that is missing, too short or too long is told."""
    cells = np.empty((1, 4), dtype=object)
    cells[:] = [[{"modelmd": ARRAY * number, "meta": "x"} for number in range(4)]]
    scipy.io.savemat(tmp_path / "b.mat", {"models": cells})
    with pytest.raises(DataError, match=said):
        _read_mat(tmp_path / "b.mat", key, "S1")
    found = _read_mat(tmp_path / "b.mat", "models/2/modelmd", "S1")
    np.testing.assert_array_equal(found["array"], ARRAY * 2)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_read_image_rows_equals_indexing(
    tmp_path: Path, rng: np.random.Generator, suffix: str
) -> None:
    """Rows are volumes, columns the voxels that were asked for, compressed or not."""
    values = rng.normal(size=(3, 4, 5, 6)).astype(np.float32)
    path = save(tmp_path / f"b{suffix}", values)
    voxels = np.array([59, 0, 17])
    rows = read_image_rows(path, voxels, read_grid(path))
    np.testing.assert_array_equal(rows, values.reshape(-1, 6)[voxels].T)
    scaled = nib.Nifti1Image((100 * values).astype(np.int16), AFFINE)
    scaled.header.set_slope_inter(0.01, -3.0)
    nib.save(scaled, tmp_path / f"s{suffix}")
    expected = np.asarray(nib.Nifti1Image.from_filename(tmp_path / f"s{suffix}").dataobj)
    np.testing.assert_allclose(
        read_image_rows(tmp_path / f"s{suffix}", voxels, read_grid(path)),
        expected.reshape(-1, 6)[voxels].T,
        rtol=1e-6,
    )
    with pytest.raises(DataError, match=r"must lie on the grid of the masks, \(9, 9, 9\)"):
        read_image_rows(path, voxels, Grid((9, 9, 9), AFFINE))
    with pytest.raises(DataError, match=r"must be a 4-D image, one volume after another"):
        read_image_rows(save(tmp_path / "3d.nii.gz", values[..., 0]), voxels, read_grid(path))


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_read_image_rows_of_a_truncated_file_says_so(
    tmp_path: Path, rng: np.random.Generator, suffix: str
) -> None:
    """An image whose header is there and whose values are not is named, compressed or not."""
    path = save(tmp_path / f"b{suffix}", rng.normal(size=(9, 9, 9, 6)))
    grid = read_grid(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"S1: .* must be a whole NIfTI .* cut short or damaged"):
        read_image_rows(path, np.arange(3), grid, "S1")
    mask = save(tmp_path / f"m{suffix}", rng.normal(size=(99, 9, 9)))
    mask.write_bytes(mask.read_bytes()[: mask.stat().st_size // 2])
    with pytest.raises(DataError, match=r"S1: .* must be a whole NIfTI .* cut short or damaged"):
        read_mask(mask, where="S1")


def test_read_stimulus_rows_and_folds(tmp_path: Path) -> None:
    """TSV and CSV give stimuli and folds in order; mistakes name the line."""
    (tmp_path / "t.tsv").write_text("image\tset\nb.jpg\ttrain\na.jpg\ttest\n")
    rows = read_stimulus_rows(tmp_path / "t.tsv", "image", "set")
    assert (rows.names, rows.folds) == (("b.jpg", "a.jpg"), ("train", "test"))
    (tmp_path / "t.csv").write_text('\ufeffstimulus,x\n"a, b.jpg",1\n')
    assert read_stimulus_rows(tmp_path / "t.csv").names == ("a, b.jpg",)
    with pytest.raises(DataError, match=r"must have a column img, once; got none among image, set"):
        read_stimulus_rows(tmp_path / "t.tsv", "img")
    (tmp_path / "t.tsv").write_text("stimulus\tfold\na\t1\nb\t\n")
    with pytest.raises(DataError, match=r"line 3: fold is empty"):
        read_stimulus_rows(tmp_path / "t.tsv", fold_column="fold")
    (tmp_path / "t.tsv").write_text("stimulus\n")
    with pytest.raises(DataError, match=r"t.tsv: .* a line for each row are needed; got 1"):
        read_stimulus_rows(tmp_path / "t.tsv")
    with pytest.raises(DataError, match=r"gone.tsv: expected a table .* cannot be read: No such"):
        read_stimulus_rows(tmp_path / "gone.tsv")


def test_list_images_is_in_natural_order_by_folder_then_name(tmp_path: Path) -> None:
    """Folders come in order, then files in each; what is no image, or hidden, is passed over."""
    names = ["b/2.jpg", "b/10.jpg", "b10/z.png", "b9/z.png", "c.jpeg", "B/3.JPG"]
    for name in (*names, "b/.hidden.jpg", ".thumbs/1.jpg", "b/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    natural = ("c.jpeg", "B/3.JPG", "b/2.jpg", "b/10.jpg", "b9/z.png", "b10/z.png")
    assert list_images(tmp_path).names == natural
    text = ("c.jpeg", "B/3.JPG", "b/10.jpg", "b/2.jpg", "b10/z.png", "b9/z.png")
    assert list_images(tmp_path, "text").names == text
    with pytest.raises(OptionError, match=r"order must be one of natural, text; got 'name'"):
        list_images(tmp_path, "name")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"there is none"):
        list_images(tmp_path / "empty")


def test_list_images_counts_what_may_have_been_shown(tmp_path: Path) -> None:
    """Films, and pictures of other formats, have no row, and are not passed over in silence."""
    for name in ("1.jpg", "2.HEIC", "in/3.mp4", "in/4.psd", ".5.heic", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.warns(
        StimulusWarning, match=r"over 3 .*1 .heic, 1 .mp4, 1 .psd; the first is '2.HEIC'.*or PNG if"
    ):
        assert list_images(tmp_path).names == ("1.jpg",)


@pytest.mark.parametrize("cell", ["NA", "None", "NaN", "n/a", "N/A"])
def test_tables_of_patterns_and_categories_take_no_missing_value_for_a_name(
    tmp_path: Path, cell: str
) -> None:
    """There is no category, person or picture called NA; without a participant it is the group."""
    (tmp_path / "a.nii").touch()
    (tmp_path / "c.tsv").write_text(f"name\tcategory\na.jpg\thouse\nb.jpg\t{cell}\n")
    with pytest.raises(DataError, match=r"c.tsv, line 3: "):
        read_categories(tmp_path / "c.tsv")
    for columns, row in (("participant\tname", f"{cell}\ta"), ("category\tname", f"{cell}\ta")):
        (tmp_path / "p.tsv").write_text(f"file\t{columns}\na.nii\t{row}\n")
        if cell.lower() == "n/a":
            (found,) = read_pattern_files(tmp_path / "p.tsv")
            assert (found.participant, found.category) == ("", "")
            continue
        with pytest.raises(DataError, match=rf"line 2: \w+ must be a name or n/a; got '{cell}'"):
            read_pattern_files(tmp_path / "p.tsv")


@pytest.mark.parametrize("cell", ["NA", "None", "nan", "null"])
def test_names_that_may_be_missing_values_are_refused(tmp_path: Path, cell: str) -> None:
    """What other programs write for a missing value is neither a stimulus nor left out."""
    (tmp_path / "t.tsv").write_text(f"stimulus\nb.jpg\n{cell}\n")
    with pytest.raises(DataError, match=rf"line 3: stimulus must be a name or n/a; got '{cell}'"):
        read_stimulus_rows(tmp_path / "t.tsv")
    (tmp_path / "t.tsv").write_text("stimulus\nb.jpg\nn/a\n")
    with pytest.raises(DataError, match=r"line 3: stimulus is empty"):
        read_stimulus_rows(tmp_path / "t.tsv")
    (tmp_path / "t.tsv").write_text(f"stimulus\nb.jpg\n{cell}.jpg\n")
    assert read_stimulus_rows(tmp_path / "t.tsv").names == ("b.jpg", f"{cell}.jpg")


def make_derivatives(folder: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Write two runs as fMRIPrep does, made of known responses, drift and motion."""
    tr_s, n_volumes, onsets = 2.0, 120, np.arange(6, 200, 16.0)
    frame_times = 1.0 + tr_s * np.arange(n_volumes)
    shown = [f"image{number}.jpg" for number in range(2 * len(onsets))]
    responses = rng.normal(2.0, 1.0, size=(len(shown), 8))
    for run in range(2):
        func = folder / "fmriprep" / "sub-01" / "ses-1" / "func"
        raw = folder / "raw" / "sub-01" / "ses-1" / "func"
        func.mkdir(parents=True, exist_ok=True)
        raw.mkdir(parents=True, exist_ok=True)
        mine = slice(run * len(onsets), (run + 1) * len(onsets))
        regressors = np.column_stack(
            [
                compute_regressor(np.array([[onset], [1.0], [1.0]]), "glover", frame_times)[0][:, 0]
                for onset in onsets
            ]
        )
        motion = rng.normal(size=n_volumes)
        motion[0] = 0.0
        drift = np.cos(np.pi * (np.arange(n_volumes) + 0.5) / n_volumes)
        percent = regressors @ responses[mine] + 3 * motion[:, None] + 5 * drift[:, None]
        # The mean over the run defines percent; bring it to exactly 100 of 1000.
        series = 1000.0 * (1 + (percent - percent.mean(axis=0)) / 100)
        stem = f"sub-01_ses-1_task-view_run-{run + 1}"
        image = nib.Nifti1Image(series.T.reshape(2, 2, 2, n_volumes).astype(np.float64), AFFINE)
        image.header.set_zooms((2, 2, 2, 1000 * tr_s))
        image.header.set_xyzt_units("mm", "msec")
        name = f"{stem}_space-T1w_desc-preproc_bold"
        nib.save(image, func / f"{name}.nii.gz")
        sidecar = {"RepetitionTime": tr_s, "StartTime": 1.0}
        (func / f"{name}.json").write_text(json.dumps(sidecar))
        table = pd.DataFrame({"trans_x_derivative1": motion, "csf": 1.0}).astype(object)
        table.loc[0, "trans_x_derivative1"] = "n/a"
        table.to_csv(func / f"{stem}_desc-confounds_timeseries.tsv", sep="\t", index=False)
        events = pd.DataFrame({"onset": onsets, "duration": 1.0, "stim_file": shown[mine]})
        rest = pd.DataFrame({"onset": [1.0], "duration": [1.0], "stim_file": ["n/a"]})
        events = pd.concat([events, rest]).sample(frac=1.0, random_state=run)
        events.to_csv(raw / f"{stem}_events.tsv", sep="\t", index=False)
    return {"shown": shown, "responses": responses}


def test_estimate_responses_recovers_planted_responses(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Responses planted in two fMRIPrep runs, under drift and motion, come back exactly."""
    made = make_derivatives(tmp_path, rng)
    runs = find_runs(tmp_path / "fmriprep", tmp_path / "raw", "01", "view", "T1w")
    assert len(runs) == 2
    names, responses = estimate_responses(
        runs, np.arange(8), Grid((2, 2, 2), AFFINE), confounds=["trans_x_derivative1"]
    )
    assert names == made["shown"]
    np.testing.assert_allclose(responses, made["responses"], atol=2e-3)


def test_estimate_responses_mistakes_are_named(tmp_path: Path, rng: np.random.Generator) -> None:
    """Missing columns and files are named; so are more regressors than volumes."""
    make_derivatives(tmp_path, rng)
    folders = (tmp_path / "fmriprep", tmp_path / "raw")
    runs = find_runs(*folders, "01", "view", "T1w")
    grid = Grid((2, 2, 2), AFFINE)
    with pytest.raises(DataError, match=r"must have a column stim, once; got none among onset"):
        estimate_responses(runs, np.arange(8), grid, stimulus_column="stim")
    with pytest.raises(
        DataError, match=r"the confound must be one of trans_x_derivative1, csf; got 'trans_y'"
    ):
        estimate_responses(runs, np.arange(8), grid, confounds=["trans_y"])
    with pytest.raises(DataError, match=r"expected sub-02_\*task-view_\*space-T1w_"):
        find_runs(*folders, "02", "view", "T1w")
    runs[0].confounds.unlink()
    with pytest.raises(DataError, match=r"needs .*confounds_timeseries.tsv, which does not exist"):
        find_runs(*folders, "01", "view", "T1w")


def test_fit_study_takes_responses_from_derivatives(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """A study may name fMRIPrep's results; features then explain the planted responses."""
    made = make_derivatives(tmp_path, rng)
    save(tmp_path / "roi.nii.gz", (np.arange(8) > 0).astype(np.uint8).reshape(2, 2, 2))
    features = np.column_stack([made["responses"][:, 1:3], rng.normal(size=(26, 2))])
    np.save(tmp_path / "features.npy", features)
    (tmp_path / "study.toml").write_text("""
id = "runs"
title = "Two runs"
licence = "CC0"
template = { grid = "roi.nii.gz" }
stimuli = { features = "features.npy" }
backbone = { name = "net", layers = ["pool"] }
fit = { alphas = [0.001, 0.1], alpha = "per_voxel" }
[[subjects]]
name = "01"
transform = { kind = "same", space = "T1w" }
rois = { V1 = "roi.nii.gz" }
[subjects.derivatives]
folder = "fmriprep"
raw = "raw"
subject = "01"
task = "view"
confounds = ["trans_x_derivative1"]
""")
    bundle = fit_study(tmp_path / "study.toml", progress=False)
    model = bundle.subjects[0].rois["V1"]
    assert model.voxels.tolist() == [1, 2, 3, 4, 5, 6, 7]
    np.testing.assert_allclose(model.extras["cv_r"][:2], 1.0, atol=1e-3)
    assert (model.extras["cv_r"][2:] < 0.9).all()
    np.testing.assert_allclose(model.weights[:, 0], [1, 0, 0, 0], atol=0.01)


def test_read_array_of_a_zarr_with_missing_chunks_warns(tmp_path: Path) -> None:
    """Zarr reads chunks that are not there as zeros; a copy that broke off must not pass so."""
    array = zarr.create_array(str(tmp_path / "a.zarr"), shape=(8, 6), chunks=(4, 3), dtype="f4")
    array[:] = np.arange(1, 49, dtype=np.float32).reshape(8, 6)
    assert read_array(tmp_path / "a.zarr").sum() == 24 * 49
    next(path for path in tmp_path.rglob("c/*/*") if path.is_file()).unlink()
    with pytest.warns(UserWarning, match=r"1 of 4 chunks of .*a.zarr are not there and count as 0"):
        assert read_array(tmp_path / "a.zarr").sum() < 24 * 49


PACKED = {"dtype": "int16", "scale_factor": 0.001, "_FillValue": -32768}


@pytest.mark.filterwarnings("ignore:Consolidated metadata")
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ({}, ""),
        (PACKED, "scale_factor, _FillValue"),
        pytest.param({"_FillValue": -999.0}, "_FillValue", marks=pytest.mark.slow),
        pytest.param(
            {"dtype": "int16", "_FillValue": -32768}, "_FillValue", marks=pytest.mark.slow
        ),
    ],
)
def test_read_array_packed_as_xarray_does_is_refused(
    tmp_path: Path, zarr_format: Any, encoding: dict[str, Any], said: str
) -> None:
    """Whole numbers that stand for others, and one that stands for NaN, are no responses."""
    needed = "2025.7.0" if zarr_format == 3 else "2025.1.1"
    why = f"xarray {needed}, which writes zarr's format {zarr_format}, comes with the extra 'scale'"
    xarray = pytest.importorskip("xarray", needed, reason=why)
    values = np.array([[0.5, -1.25], [np.nan, 3.0]])
    data = xarray.Dataset({"betas": (("trial", "voxel"), values)})
    data.to_zarr(tmp_path / "b.zarr", zarr_format=zarr_format, encoding={"betas": encoding})
    np.testing.assert_array_equal(xarray.open_zarr(tmp_path / "b.zarr").betas.isnull()[1], [1, 0])
    if not said:
        np.testing.assert_array_equal(read_array(tmp_path / "b.zarr", "betas"), values)
        return
    with pytest.raises(DataError, match=rf"got packed ones, .* by the attributes {said}\. Write"):
        read_array(tmp_path / "b.zarr", "betas")


def test_read_array_hdf5_packed_as_netcdf_does_is_refused(tmp_path: Path) -> None:
    """So it is in HDF5, where netCDF 4 keeps its variables; a number that never occurs is none."""
    with h5py.File(tmp_path / "b.h5", "w") as file:
        for name, attributes in (
            ("scaled", {"scale_factor": 0.01}),
            ("holed", {"_FillValue": np.array([3], "i2")}),
            ("whole", {"_FillValue": np.array([-32768], "i2"), "units": "percent"}),
        ):
            file[name] = np.arange(6, dtype="i2").reshape(2, 3)
            file[name].attrs.update(attributes)
    assert read_array(tmp_path / "b.h5", "whole").sum() == 15
    for name, said in (("scaled", "scale_factor"), ("holed", "_FillValue")):
        with pytest.raises(DataError, match=rf"by the attributes {said}\. Write it"):
            read_array(tmp_path / "b.h5", name)


def test_read_array_zarr_of_whole_numbers_without_a_fill_value(tmp_path: Path) -> None:
    """What xarray writes of whole numbers in format 2 has none."""
    array = zarr.create_array(
        str(tmp_path / "a.zarr"), shape=(2, 3), dtype="i4", fill_value=None, zarr_format=2
    )
    array[:] = [[0, 1, 2], [3, 4, 5]]
    assert read_array(tmp_path / "a.zarr").tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_read_array_zarr_with_pickle_as_its_codec_is_refused(place: str, tmp_path: Path) -> None:
    """Older releases of numcodecs would run what the chunk holds."""
    marker = tmp_path / "executed"

    class Hostile:
        def __reduce__(self) -> tuple[Any, tuple[Path]]:
            return Path.touch, (marker,)

    codecs = [{"id": "vlen-utf8"}, {"id": "pickle"}]
    meta = {"zarr_format": 2, "shape": [2], "chunks": [2], "dtype": "|O", "fill_value": 0}
    meta |= {"order": "C", "compressor": None, "filters": codecs}
    if place == "compressor":
        meta |= {"filters": codecs[:1], "compressor": codecs[1]}
    store = tmp_path / "a.zarr"
    store.mkdir()
    (store / ".zarray").write_text(json.dumps(meta))
    (store / "0").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(DataError, match=r"a\.zarr: expected a zarr folder; .*pickle"):
        read_array(store)
    assert not marker.exists()
