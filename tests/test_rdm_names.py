"""Measured matrices and the images that their rows are of: names are not made up."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgtofmri.analyses.rsa import match_conditions
from imgtofmri.analyses.rsa.matrices import name_in_order
from imgtofmri.exceptions import DataError
from imgtofmri.measured.patterns import bare_name, pair_names
from imgtofmri.measured.rdms import load_rdms
from imgtofmri.rsa import RDMs, to_square

N = 12
IMAGES = tuple(f"{number}.jpg" for number in range(1, N + 1))
VECTORS = np.random.default_rng(3).random((2, N * (N - 1) // 2))


def write_mat(path: Path, **variables: Any) -> None:
    """Write a .mat file of version 5."""
    from scipy.io import savemat

    savemat(path, variables)


def write_mat_7_3(path: Path, stimuli: Any) -> None:
    """Write a .mat file of version 7.3: arrays with their axes turned, texts as numbers."""
    h5py = pytest.importorskip("h5py")

    def text(group: Any, name: str, letters: Any) -> Any:
        group[name] = np.array(letters, np.uint16)
        group[name].attrs["MATLAB_class"] = np.bytes_("char")
        return group[name].ref

    with h5py.File(path, "w", userblock_size=512) as file:
        file["rdms"] = VECTORS.T
        if isinstance(stimuli, tuple):  # A cell array of texts.
            held = file.create_group("#refs#")
            cells = [
                text(held, f"c{k}", [[ord(each)] for each in one]) for k, one in enumerate(stimuli)
            ]
            file.create_dataset("stimuli", data=np.array([cells], h5py.ref_dtype))
        elif isinstance(stimuli, list):  # A matrix of letters.
            text(file, "stimuli", np.array([[ord(each) for each in one] for one in stimuli]).T)
        else:
            file["stimuli"] = stimuli.T
    with path.open("r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(128))


def write_rsatoolbox(path: Path, descriptors: dict[str, Any]) -> None:
    """Write what rsatoolbox saves, with some descriptors of patterns."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["dissimilarities"] = VECTORS
        for name, values in descriptors.items():
            file[f"pattern_descriptors/{name}"] = values


NAMELESS: dict[str, Callable[[Path], Any]] = {
    "triangles.npy": lambda path: np.save(path, VECTORS),
    "squares.npy": lambda path: np.save(path, to_square(VECTORS)),
    "plain.npz": lambda path: np.savez(path, rdms=VECTORS),
    "from_0.npz": lambda path: np.savez(path, rdms=VECTORS, conditions=np.arange(N)),
    "from_1.npz": lambda path: np.savez(path, rdms=VECTORS, images=np.arange(1, N + 1)),
    "plain.mat": lambda path: write_mat(path, rdms=VECTORS),
    "from_1.mat": lambda path: write_mat(path, rdms=VECTORS, stimuli=np.arange(1, N + 1)),
    "floats_from_0.npz": lambda path: np.savez(path, rdms=VECTORS, images=np.arange(0.0, N)),
    "doubles.mat": lambda path: write_mat(path, rdms=VECTORS, images=np.arange(1.0, N + 1)),
    "doubles_7_3.mat": lambda path: write_mat_7_3(path, np.arange(1.0, N + 1)[None]),
    "index.h5": lambda path: write_rsatoolbox(path, {"index": np.arange(N)}),
    "numbers.h5": lambda path: write_rsatoolbox(path, {"stimuli": np.arange(N)}),
}


@pytest.mark.parametrize("file", NAMELESS)
def test_rows_without_names_are_paired_in_order_alone(tmp_path: Path, file: str) -> None:
    """Row numbers are no names, though pictures be called 1.jpg, 2.jpg, ..."""
    NAMELESS[file](tmp_path / file)
    measured = load_rdms(tmp_path / file)
    models = RDMs(VECTORS[:1], IMAGES, ("LOC",))
    assert not measured.named
    for unmatched in ("error", "drop"):
        with pytest.raises(DataError, match="M: measured conditions must have names.*12 rows with"):
            match_conditions(models, measured, unmatched, "M")
    named = name_in_order(measured, IMAGES, 0, "M")
    _, theirs = match_conditions(models, named)
    np.testing.assert_array_equal(theirs.dissimilarities, VECTORS)
    assert theirs.conditions == IMAGES


@pytest.mark.parametrize(
    "labels",
    [
        [str(number) for number in range(1, N + 1)],
        [f"set/{number}.png" for number in range(1, N + 1)],
        [f"C:\\set\\{name}" for name in IMAGES],
        [name.upper().replace(".JPG", ".nii.gz") for name in IMAGES],
    ],
)
def test_names_pair_whole_without_endings_or_without_folders(labels: list[str]) -> None:
    """Each row finds its image in whatever order they stand."""
    order = np.random.default_rng(1).permutation(N)
    squares = to_square(VECTORS)[:, order[:, None], order]
    vectors = squares[:, *np.triu_indices(N, 1)]
    measured = RDMs(vectors, tuple(labels[row] for row in order), ("a", "b"))
    ours, theirs = match_conditions(RDMs(VECTORS[:1], IMAGES, ("LOC",)), measured)
    assert ours.conditions == theirs.conditions == IMAGES
    np.testing.assert_array_equal(theirs.dissimilarities, VECTORS)


def test_numbers_that_are_no_row_numbers_are_names(tmp_path: Path) -> None:
    """Numbers of pictures, as in a large data set, pair with files called so."""
    ids = np.array([46003, 61883, 829, 73, 2951, 5])
    n_pairs = len(ids) * (len(ids) - 1) // 2
    np.savez(tmp_path / "m.npz", rdms=VECTORS[:, :n_pairs], conditions=ids)
    measured = load_rdms(tmp_path / "m.npz")
    assert measured.named
    names = tuple(f"{number}.png" for number in sorted(ids))
    _, theirs = match_conditions(RDMs(VECTORS[:1, :n_pairs], names, ("LOC",)), measured)
    rows = np.argsort(ids)
    np.testing.assert_array_equal(theirs.squares, measured.squares[:, rows[:, None], rows])


@pytest.mark.parametrize(
    ("stimuli", "expected"),
    [
        (IMAGES, IMAGES),
        ([f"s{k:02d} " for k in range(N)], tuple(f"s{k:02d}" for k in range(N))),
        (np.arange(73.0, 73 + 7 * N, 7)[None], tuple(map(str, range(73, 73 + 7 * N, 7)))),
    ],
    ids=["cells", "letters", "numbers"],
)
def test_names_of_matlab_7_3_are_read(
    tmp_path: Path, stimuli: Any, expected: tuple[str, ...]
) -> None:
    """Cells of texts, matrices of letters and doubles name conditions in version 7.3, too."""
    write_mat_7_3(tmp_path / "m.mat", stimuli)
    measured = load_rdms(tmp_path / "m.mat")
    assert measured.named
    assert measured.conditions == expected
    np.testing.assert_array_equal(measured.dissimilarities, VECTORS)


@pytest.mark.parametrize(
    ("labels", "in_order"),
    [
        ([str(k) for k in range(N)], True),
        ([f"{k}.jpg" for k in range(N)], True),
        ([str(k) for k in np.random.default_rng(1).permutation(N)], False),
    ],
    ids=["texts", "files", "in any order"],
)
def test_numbers_from_0_are_not_paired_with_names_from_1(labels: list[str], in_order: bool) -> None:
    """Texts that count rows from 0 are no names of pictures from 1.jpg on, whatever is dropped."""
    models = RDMs(VECTORS[:1], IMAGES, ("LOC",))
    measured = RDMs(VECTORS, tuple(labels), ("a", "b"))
    for unmatched in ("error", "drop"):
        with pytest.raises(DataError, match=r"count from 1 and measured ones from 0.*`in_order`"):
            match_conditions(models, measured, unmatched, "M")
    if in_order:
        assert name_in_order(measured, IMAGES, 0, "M").conditions == IMAGES
    else:
        with pytest.raises(DataError, match=r"another order"):
            name_in_order(measured, IMAGES, 0, "M")
    # Pictures that count from 0 themselves are called so.
    own = RDMs(VECTORS[:1], tuple(f"set/{k}.jpg" for k in range(N)), ("LOC",))
    assert match_conditions(own, measured)[0].conditions == own.conditions


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (IMAGES[:-1], "M: .*1 only predicted .12.jpg"),
        ((*IMAGES, "more.jpg"), "1 only measured .more.jpg"),
        ((*IMAGES[:-1], "x.jpg"), "1 only predicted .12.jpg. and 1 only measured .x.jpg"),
    ],
)
def test_names_that_match_in_part_are_refused_unless_dropped(
    labels: tuple[str, ...], message: str
) -> None:
    """By default nobody is left out in silence; `drop` says how many are."""
    n_pairs = len(labels) * (len(labels) - 1) // 2
    measured = RDMs(np.arange(1.0, n_pairs + 1), labels, ("a",))
    models = RDMs(VECTORS[:1], IMAGES, ("LOC",))
    with pytest.raises(DataError, match=message):
        match_conditions(models, measured, where="M")
    n_both = len({*labels} & {*IMAGES})
    lost = len(labels) - n_both
    said = f"{N - n_both} of {N} images are only predicted and {lost} of {len(labels)} only"
    with pytest.warns(UserWarning, match=said):
        ours, _ = match_conditions(models, measured, "drop", "M")
    assert len(ours.conditions) == n_both


def test_names_in_another_order_are_not_taken_in_order() -> None:
    """Names that stand otherwise than the images contradict `in_order`; strange names do not."""
    models = RDMs(VECTORS[:1], IMAGES, ("LOC",))
    turned = RDMs(VECTORS, tuple(reversed(IMAGES)), ("a", "b"))
    with pytest.raises(DataError, match="M: with `in_order` .* another order, from '12.jpg' on"):
        name_in_order(turned, IMAGES, 0, "M")
    strange = RDMs(VECTORS, tuple(f"trial {row}" for row in range(N)), ("a", "b"))
    assert name_in_order(strange, models.conditions, 0, "M").conditions == IMAGES


@pytest.mark.parametrize(
    ("square", "message"),
    [
        (1 - to_square(VECTORS[0]), "diagonal of 1 to 1. They seem to be similarities: give 1 - "),
        (np.cov(np.random.default_rng(0).normal(size=(N, 30))), "diagonal of .*Set it to 0 if"),
        (
            np.where(np.eye(N) > 0, np.inf, 0.3),
            "got an infinite diagonal, as of Fisher's z .*Give 1 - corr",
        ),
        (to_square(VECTORS[0]) + 0.2 * np.eye(N), "diagonal of 0.2 to 0.2. They seem to be"),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".mat"])
def test_similarities_are_refused(
    tmp_path: Path, square: np.ndarray[Any, Any], message: str, suffix: str
) -> None:
    """A condition does not differ from itself: a diagonal that says so is of something else."""
    path = tmp_path / f"m{suffix}"
    {
        ".npy": lambda: np.save(path, square),
        ".npz": lambda: np.savez(path, rdms=np.stack([square, square])),
        ".mat": lambda: write_mat(path, RDM=square),
    }[suffix]()
    with pytest.raises(DataError, match=message):
        load_rdms(path)


def test_a_diagonal_that_is_nan_or_rounding_is_none(tmp_path: Path) -> None:
    """Toolboxes leave NaN there, and products of floats a little."""
    square = to_square(VECTORS[0])
    for diagonal in (np.nan, 1e-9):
        np.fill_diagonal(square, diagonal)
        np.save(tmp_path / "m.npy", square)
        np.testing.assert_array_equal(load_rdms(tmp_path / "m.npy").dissimilarities[0], VECTORS[0])


def test_pair_names_takes_the_form_in_which_most_agree() -> None:
    """One name that agrees whole does not keep the others apart; every suffix counts."""
    assert pair_names(["a.jpg", "b.avif", "c.jp2"], ["c", "b", "a.jpg"]) == ([0, 1, 2], [2, 1, 0])
    assert bare_name("x.jfif") == bare_name("x.mgz") == bare_name("x.apng.nii.gz") == "x"
    with pytest.raises(DataError, match="2 only predicted"):
        pair_names(["a.jpg", "a.png", "b.jpg"], ["a", "b.jpg"])
