"""Dissimilarity matrices from files."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from imgtofmri.exceptions import DataError, MissingDependencyError, OptionError
from imgtofmri.measured.rdms import load_rdms
from imgtofmri.rsa import to_square

CONDITIONS = ["cat", "dog", "cow", "pig"]
VECTORS = np.random.default_rng(8).random((3, 6))
SQUARES = to_square(VECTORS)


def write_rsatoolbox(path: Path) -> None:
    """Write the layout that rsatoolbox 0.3.2 writes (data sets of bytes, attributes of text)."""
    h5py = pytest.importorskip("h5py", reason="h5py comes with the extra 'train'")
    with h5py.File(path, "w") as file:
        file.attrs["rsatoolbox_version"] = "0.3.2"
        file["dissimilarities"] = VECTORS
        file.create_group("descriptors")
        subjects = file.create_group("rdm_descriptors")
        subjects["index"] = np.arange(3)
        subjects["subject"] = np.array(["s1", "s2", "s3"]).astype("S")
        patterns = file.create_group("pattern_descriptors")
        patterns["index"] = np.arange(4)
        patterns["conds"] = np.array(CONDITIONS).astype("S")
        file.attrs["dissimilarity_measure"] = "crossnobis"


@pytest.mark.parametrize(
    "array",
    [SQUARES, np.moveaxis(SQUARES, 0, 2), VECTORS],
    ids=["subjects-first", "subjects-last", "triangles"],
)
def test_load_rdms_npy_reads_each_shape(array: Any, tmp_path: Path) -> None:
    """Full matrices with subjects first or last, and triangles, give the same stack."""
    np.save(tmp_path / "rdms.npy", array)
    rdms = load_rdms(tmp_path / "rdms.npy", conditions=CONDITIONS)
    np.testing.assert_array_equal(rdms.dissimilarities, VECTORS)
    assert rdms.conditions == tuple(CONDITIONS)
    assert rdms.names == ("rdm-1", "rdm-2", "rdm-3")
    assert rdms.select(CONDITIONS[:3]).source == rdms.source == tmp_path / "rdms.npy"


def test_load_rdms_npy_as_many_subjects_as_conditions(tmp_path: Path) -> None:
    """With n subjects of n conditions symmetry tells where the subjects are."""
    vectors = np.random.default_rng(2).random((4, 6))
    squares = to_square(vectors)
    np.save(tmp_path / "first.npy", squares)
    np.save(tmp_path / "last.npy", np.moveaxis(squares, 0, 2))
    np.testing.assert_array_equal(load_rdms(tmp_path / "first.npy").dissimilarities, vectors)
    np.testing.assert_array_equal(load_rdms(tmp_path / "last.npy").dissimilarities, vectors)


def test_load_rdms_npy_single_matrix(tmp_path: Path) -> None:
    """One full matrix is a stack of one."""
    np.save(tmp_path / "one.npy", SQUARES[0])
    np.testing.assert_array_equal(load_rdms(tmp_path / "one.npy").dissimilarities, VECTORS[:1])


def test_load_rdms_npz_reads_names(tmp_path: Path) -> None:
    """Conditions and subjects come from the file, and can be replaced."""
    path = tmp_path / "rdms.npz"
    np.savez(path, rdms=SQUARES, conditions=CONDITIONS, subjects=["a", "b", "c"])
    rdms = load_rdms(path)
    assert (rdms.conditions, rdms.names) == (tuple(CONDITIONS), ("a", "b", "c"))
    assert load_rdms(path, conditions=list("wxyz")).conditions == tuple("wxyz")


def test_load_rdms_npz_key_chooses_among_arrays(tmp_path: Path) -> None:
    """Where two arrays could be the matrices, key says which."""
    path = tmp_path / "rdms.npz"
    np.savez(path, early=SQUARES, late=2 * SQUARES)
    with pytest.raises(DataError, match=re.escape("early, late")):
        load_rdms(path)
    np.testing.assert_array_equal(load_rdms(path, key="late").dissimilarities, 2 * VECTORS)


def test_load_rdms_mat_reads_arrays_and_cells(tmp_path: Path) -> None:
    """MATLAB's subjects-last stack with a cell array of condition names is understood."""
    path = tmp_path / "rdms.mat"
    cells = np.empty(4, dtype=object)
    cells[:] = CONDITIONS
    savemat(path, {"RDMs": np.moveaxis(SQUARES, 0, 2), "conditions": cells})
    rdms = load_rdms(path)
    np.testing.assert_array_equal(rdms.dissimilarities, VECTORS)
    assert rdms.conditions == tuple(CONDITIONS)


def test_load_rdms_mat_struct_array_of_the_matlab_toolbox(tmp_path: Path) -> None:
    """A struct array with fields RDM and name gives one matrix for each element."""
    structs = np.empty(3, dtype=[("RDM", object), ("name", object)])
    for number in range(3):
        structs[number] = (SQUARES[number], f"subject {number}")
    savemat(tmp_path / "rdms.mat", {"RDMs": structs})
    rdms = load_rdms(tmp_path / "rdms.mat")
    np.testing.assert_array_equal(rdms.dissimilarities, VECTORS)
    assert rdms.names == ("subject 0", "subject 1", "subject 2")


def test_load_rdms_mat_struct_array_of_regions_and_subjects_is_refused(tmp_path: Path) -> None:
    """Regions of one subject, as the MATLAB toolbox keeps them, do not count as subjects."""
    structs = np.empty((2, 3, 1), dtype=[("RDM", object), ("name", object)])
    for place in np.ndindex(structs.shape):
        structs[place] = (SQUARES[place[1]], "region {} | subject {} | Session: {}".format(*place))
    savemat(tmp_path / "rdms.mat", {"RDMs": structs})
    with pytest.raises(DataError, match=r"RDMs must hold one matrix for each subject; .* 2 x 3"):
        load_rdms(tmp_path / "rdms.mat")
    savemat(tmp_path / "rdms.mat", {"RDMs": structs[1:, :]})
    assert load_rdms(tmp_path / "rdms.mat").names[1] == "region 1 | subject 1 | Session: 0"


@pytest.mark.parametrize("key", ["subjects", "participant", "subj"])
def test_load_rdms_several_of_one_subject_are_refused(tmp_path: Path, key: str) -> None:
    """Sessions of two people are not four people."""
    vectors = np.random.default_rng(3).random((4, 6))
    np.savez(tmp_path / "r.npz", rdms=vectors, **{key: np.array(["a", "a", "b", "b"])})
    with pytest.raises(DataError, match=r"one matrix for each subject; got 2 of 'a', as of"):
        load_rdms(tmp_path / "r.npz")
    np.savez(tmp_path / "r.npz", rdms=vectors, session=np.ones(4), **{key: np.array([*"abcd"])})
    assert load_rdms(tmp_path / "r.npz").names == tuple("abcd")


def test_load_rdms_rsatoolbox_several_of_one_subject_are_refused(tmp_path: Path) -> None:
    """So it is where rsatoolbox keeps a subject's regions."""
    h5py = pytest.importorskip("h5py", reason="h5py comes with the extra 'train'")
    write_rsatoolbox(tmp_path / "r.h5")
    with h5py.File(tmp_path / "r.h5", "a") as file:
        del file["rdm_descriptors/subject"]
        file["rdm_descriptors/subject"] = np.array(["s1", "s1", "s2"]).astype("S")
    with pytest.raises(DataError, match=r"one matrix for each subject; got 2 of 's1'"):
        load_rdms(tmp_path / "r.h5")


def test_load_rdms_mat_version_73(tmp_path: Path) -> None:
    """Version 7.3 is HDF5 with a MATLAB header; its axes come the other way round."""
    h5py = pytest.importorskip("h5py", reason="h5py comes with the extra 'train'")
    path = tmp_path / "rdms.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["RDMs"] = np.moveaxis(SQUARES, 0, 2).T
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file".ljust(128))
    np.testing.assert_array_equal(load_rdms(path).dissimilarities, VECTORS)


def test_load_rdms_hdf5_reads_the_layout_of_rsatoolbox(tmp_path: Path) -> None:
    """Matrices, subjects, measure and the descriptor asked for are read."""
    write_rsatoolbox(tmp_path / "rdms.hdf5")
    rdms = load_rdms(tmp_path / "rdms.hdf5", pattern_descriptor="conds")
    np.testing.assert_array_equal(rdms.dissimilarities, VECTORS)
    assert rdms.conditions == tuple(CONDITIONS)
    assert (rdms.names, rdms.measure) == (("s1", "s2", "s3"), "crossnobis")


def test_load_rdms_hdf5_reads_what_rsatoolbox_saves(tmp_path: Path) -> None:
    """A file that the installed rsatoolbox saves is read back."""
    import rsatoolbox as toolbox

    theirs = toolbox.rdm.RDMs(
        VECTORS,
        dissimilarity_measure="euclidean",
        rdm_descriptors={"subject": ["s1", "s2", "s3"]},
        pattern_descriptors={"conditions": CONDITIONS},
    )
    theirs.save(str(tmp_path / "rdms.hdf5"), file_type="hdf5")
    rdms = load_rdms(tmp_path / "rdms.hdf5")
    np.testing.assert_array_equal(rdms.dissimilarities, VECTORS)
    assert (rdms.conditions, rdms.names) == (tuple(CONDITIONS), ("s1", "s2", "s3"))
    assert rdms.measure == "euclidean"


def _object_array(path: Path) -> None:
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize(
    ("name", "write", "options", "error", "message"),
    [
        ("rdms.csv", lambda p: p.touch(), {}, OptionError, "got '.csv'"),
        ("missing.npy", lambda p: None, {}, DataError, "there is none"),
        ("pickle.npy", _object_array, {}, DataError, "without Python objects"),
        ("broken.npz", lambda p: p.write_bytes(b"PK"), {}, DataError, "must be a whole .npz"),
        (
            "broken.mat",
            lambda p: p.write_bytes(b"x" * 200),
            {},
            DataError,
            "expected a MATLAB file",
        ),
        ("broken.h5", lambda p: p.write_bytes(b"x"), {}, DataError, "expected a whole HDF5"),
        ("odd.npy", lambda p: np.save(p, np.ones((2, 5))), {}, DataError, "got shape (2, 5)"),
        (
            "skew.npy",
            lambda p: np.save(p, np.random.default_rng(0).random((2, 3, 3))),
            {},
            DataError,
            "must be symmetric",
        ),
        (
            "nan.npy",
            lambda p: np.save(p, np.array([[1, np.nan, 2]])),
            {},
            DataError,
            "'rdm-1' has nan between '0' and '2'",
        ),
        (
            "few.npy",
            lambda p: np.save(p, VECTORS),
            {"conditions": ["a"]},
            DataError,
            "matrices of 4 conditions; got 1",
        ),
        (
            "keys.npz",
            lambda p: np.savez(p, rdms=VECTORS),
            {"key": "rdm"},
            OptionError,
            "got 'rdm'",
        ),
        (
            "descriptor.h5",
            write_rsatoolbox,
            {"pattern_descriptor": "cond"},
            OptionError,
            "conds, index in descriptor.h5; got 'cond'",
        ),
    ],
)
def test_load_rdms_bad_file_is_named(
    name: str,
    write: Callable[[Path], Any],
    options: dict[str, Any],
    error: type[Exception],
    message: str,
    tmp_path: Path,
) -> None:
    """Each refusal says what the file should hold and what it holds."""
    write(tmp_path / name)
    with pytest.raises(error, match=re.escape(message)):
        load_rdms(tmp_path / name, **options)


def test_load_rdms_without_h5py_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without h5py an HDF5 file is refused with the command that installs it."""
    (tmp_path / "rdms.h5").touch()
    # What the other process finds in place of h5py.
    (tmp_path / "h5py.py").write_text("raise ImportError")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependencyError, match=re.escape("pip install 'imgtofmri[train]'")):
        load_rdms(tmp_path / "rdms.h5")
