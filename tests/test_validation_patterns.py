"""Patterns: names, pairing, reading from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nibabel.processing import resample_from_to

from imgtofmri.analyses.validate.levels import image_categories
from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.measured.images import Mask, read_mask, read_region
from imgtofmri.measured.patterns import (
    Patterns,
    bare_name,
    mean_patterns,
    pair,
    pair_names,
    usable_voxels,
)
from imgtofmri.measured.sources import has_names, read_patterns
from imgtofmri.measured.tables import read_categories, read_pattern_files
from imgtofmri.spaces import Grid

AFFINE = np.array([[2.0, 0, 0, -6], [0, 2, 0, -4], [0, 0, 2, 10], [0, 0, 0, 1]])


def patterns(names: str, values: np.ndarray | None = None) -> Patterns:
    """Make patterns of one-letter names; row i holds i by default."""
    given = tuple(names)
    if values is None:
        values = np.repeat(np.arange(1.0, len(given) + 1)[:, None], 3, axis=1)
    return Patterns(given, values)


def save(path: Path, volume: np.ndarray, affine: np.ndarray = AFFINE) -> Path:
    """Write a NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(volume.astype(np.float32), affine), path)
    return path


@pytest.fixture
def volumes(rng: np.random.Generator) -> np.ndarray:
    """Make four volumes; voxel (0, 0, 0) is 0 in all and (1, 1, 1) is NaN in one."""
    made = rng.standard_normal((4, 5, 4, 3)).astype(np.float32)
    made[:, 0, 0, 0] = 0
    made[2, 1, 1, 1] = np.nan
    return made


def test_pair_orders_by_name() -> None:
    """Rows are brought together by name, in the order of the predictions."""
    first, second = pair(patterns("abcd"), patterns("dcab"))
    assert first.names == second.names == ("a", "b", "c", "d")
    np.testing.assert_array_equal(second.values[:, 0], [3, 4, 2, 1])


def test_pair_ignores_endings_unless_they_tell_images_apart() -> None:
    """a.jpg.nii.gz is the response to a.jpg; but a.jpg and a.png are two images."""
    values = np.eye(2)
    first = Patterns(("a.jpg", "b.jpg"), values)
    second = Patterns(("b.jpg.nii.gz", "a.jpg.nii.gz"), values)
    np.testing.assert_array_equal(pair(first, second)[1].values, values[::-1])
    with pytest.raises(DataError, match=r"2 only predicted \(a.jpg, a.png\)"):
        pair(Patterns(("a.jpg", "a.png"), values), Patterns(("a.jpg.nii", "a.png.nii"), values))


def test_pair_takes_accents_as_they_are_written(rng: np.random.Generator) -> None:
    """A name whose accents macOS wrote apart is that name, also where it has an ending."""
    values = rng.random((2, 3))
    apart = Patterns(("cafe\u0301.nii", "fe\u0302te.nii"), values)
    composed = Patterns(("f\u00eate.jpg", "caf\u00e9.jpg"), values)
    np.testing.assert_array_equal(pair(composed, apart)[1].values, values[::-1])


def test_patterns_of_images_in_folders(rng: np.random.Generator) -> None:
    """What `pair` finds without its folder is found among more images, too."""
    measured = Patterns(("03.nii", "01.nii", "02.nii"), rng.random((3, 4)))
    assert measured.of(["face/01.jpg", "house/03.jpg"]).names == ("03.nii", "01.nii")
    assert measured.of(["face/09.jpg"]).n_images == 0


def test_image_categories_of_two_images_of_one_name_are_refused() -> None:
    """a.jpg is an animal and a.png a tool; of which a.nii is, nobody knows."""
    categories = {"a.jpg": "animal", "a.png": "tool", "b.jpg": "tool", "b.png": "tool"}
    assert image_categories(["a.jpg", "b.nii"], categories) == ["animal", "tool"]
    for name, said in (("a.nii", "animal and tool"), ("c.nii", "none")):
        with pytest.raises(DataError, match=rf"must have one category; '{name}' has {said}\."):
            image_categories([name], categories)


def test_bare_name_leaves_something_of_a_name() -> None:
    """A name that is nothing but an ending is a name."""
    assert bare_name("a.jpg.nii.gz") == "a"
    assert bare_name(".jpg") == ".jpg"


def test_pair_leaves_out_by_name() -> None:
    """What is left out is in neither, and a name that does not exist is refused with a hint."""
    first = Patterns(("dog.jpg", "cat.jpg", "cow.jpg"), np.eye(3))
    second = Patterns(("cow.nii", "cat.nii", "dog.nii"), np.eye(3))
    kept, other = pair(first, second, leave_out=["cat.jpg"])
    assert (kept.names, other.names) == (("dog.jpg", "cow.jpg"), ("dog.nii", "cow.nii"))
    with pytest.raises(
        OptionError, match=r"leave_out must be one of .*got 'cta'. Did you mean cat"
    ):
        pair(first, second, leave_out=["cta"])


def test_leave_out_of_what_may_be_several_images_is_asked_for() -> None:
    """A name that may be either of two images is asked for; whole names are taken."""
    names = ["a.jpg", "a.png", "b.jpg"]
    assert pair_names(names, names, ["a.png"]) == ([0, 2], [0, 2])
    assert pair_names(names, names, ["a.jpg", "a.png"]) == ([2], [2])
    with pytest.raises(OptionError, match=r"^leave_out .* 'a' may be a.jpg or a.png"):
        pair_names(names, names, ["a"])


def test_pair_without_partner_is_refused_or_dropped() -> None:
    """Images of one side only are named, or dropped when asked."""
    with pytest.raises(DataError, match=r"got 1 only predicted \(a\) and 2 only measured \(x, y\)"):
        pair(patterns("abc"), patterns("bcxy"))
    with pytest.warns(UserWarning, match="1 of 3 images .* predicted and 2 of 4 only measured"):
        kept, _ = pair(patterns("abc"), patterns("bcxy"), unmatched="drop")
    assert kept.names == ("b", "c")
    with pytest.raises(DataError, match=r"no image is left .* 'a' and 'x'"):
        pair(patterns("ab"), patterns("xy"), unmatched="drop")
    with pytest.raises(OptionError, match=r"unmatched must be one of error, drop; got 'skip'"):
        pair(patterns("ab"), patterns("ab"), unmatched="skip")  # type: ignore[arg-type]


def test_pair_other_voxels_are_refused(rng: np.random.Generator) -> None:
    """Numbers of voxels, grids, affines and masks must agree."""
    mask = np.ones((2, 2, 1), dtype=bool)
    values = rng.random((2, 4))
    first = Patterns(("a", "b"), values, mask, AFFINE)
    with pytest.raises(ShapeError, match=r"the same voxels; got 4 and 3"):
        pair(first, Patterns(("a", "b"), values[:, :3]))
    with pytest.raises(ShapeError, match=r"got shapes \(2, 2, 1\) and \(4, 1, 1\)"):
        pair(first, Patterns(("a", "b"), values, mask.reshape(4, 1, 1), AFFINE))
    with pytest.raises(ShapeError, match=r"affines differ by up to 0.5 mm"):
        pair(first, Patterns(("a", "b"), values, mask, AFFINE + 0.5 * np.eye(4, k=3)))
    one, other = np.ones((2, 3), bool), np.ones((2, 3), bool)
    one[0, 0] = other[1, 1] = False
    with pytest.raises(ShapeError, match=r"their masks have as many but differ"):
        pair(
            Patterns(("a",), np.ones((1, 5)), one, AFFINE),
            Patterns(("a",), np.ones((1, 5)), other, AFFINE),
        )


def test_patterns_names_and_voxels_must_fit() -> None:
    """A name twice, a name too few or a voxel too many is refused."""
    with pytest.raises(DataError, match=r"'a' comes more than once"):
        patterns("aba")
    with pytest.raises(
        ShapeError, match=r"names must hold one name for each of the 2 images; got 1"
    ):
        Patterns(("a",), np.eye(2))
    with pytest.raises(ShapeError, match=r"values must have shape \(n_images, 3\).* got \(2, 2\)"):
        Patterns(("a", "b"), np.eye(2), np.ones((3, 1), bool))


def test_mean_patterns_averages_by_name() -> None:
    """Sets in different orders are averaged image by image; a missing image is named."""
    mean = mean_patterns([patterns("abc"), patterns("cba")])
    np.testing.assert_array_equal(mean.values, 2 * np.ones((3, 3)))
    with pytest.raises(DataError, match=r"'b' is not in all of them \(set 1 differs from set 0\)"):
        mean_patterns([patterns("abc"), patterns("ac")])
    with pytest.raises(DataError, match=r"expected one or more sets"):
        mean_patterns([])


def test_usable_voxels_without_data_are_refused_or_dropped() -> None:
    """NaN anywhere and 0 everywhere are no data, in whichever set."""
    full = patterns("abcd", np.ones((4, 3)))
    holed = patterns("abcd", np.array([[1.0, 0, 1], [1, 0, 1], [1, 0, np.nan], [1, 0, 1]]))
    np.testing.assert_array_equal(
        usable_voxels({"full": full, "holed": holed}, "drop"), [True, False, False]
    )
    with pytest.raises(DataError, match=r"data in holed; 2 of 3 do not; .*infinity is 'c'"):
        usable_voxels({"full": full, "holed": holed})
    with pytest.raises(DataError, match=r"no voxel has data in all of a, b"):
        usable_voxels({"a": full, "b": patterns("abcd", np.zeros((4, 3)))}, "drop")


def test_read_patterns_of_what_is_no_file_is_refused() -> None:
    """Arrays, tables and images in memory, one by one or in a list, say what to save them as."""
    array = np.ones((3, 4))
    image = nib.Nifti1Image(np.ones((2, 2, 2)), np.eye(4))
    for source in (array, pd.DataFrame(array, columns=list("abcd")), image, [image]):
        with pytest.raises(DataError, match=r"patterns are read from a folder.*Save an array as "):
            read_patterns(source)  # type: ignore[arg-type]


def test_usable_voxels_images_of_0_everywhere_are_refused() -> None:
    """What programs write of a trial that was censored is no measured response."""
    full = patterns("abcd", np.ones((4, 3)))
    censored = patterns("abcd", np.array([[1.0, 2, 3], [0, 0, 0], [1, 0, 2], [0, 0, 0]]))
    for missing in ("error", "drop"):
        with pytest.raises(DataError, match=r"data in s1; 2 of 4 are 0 in .*first is 'b'.*leave_o"):
            usable_voxels({"full": full, "s1": censored}, missing)
    assert usable_voxels({"full": full, "s1": censored.of("ac")}).all()


def test_read_patterns_folder_and_series_and_table_agree(
    tmp_path: Path, volumes: np.ndarray
) -> None:
    """A folder, a 4-D file, a table and a list of files give the same patterns."""
    names = ["img2", "img10", "img1", "img3"]
    files = [
        save(tmp_path / "folder" / f"{name}.nii.gz", volume)
        for name, volume in zip(names, volumes, strict=True)
    ]
    series = save(tmp_path / "all.nii.gz", np.moveaxis(volumes, 0, -1))
    table = tmp_path / "table.tsv"
    lines = [f"{name}\tfolder/{name}.nii.gz" for name in names]
    table.write_text("\n".join(["stim_file\tfile", *lines]) + "\n")
    folder = read_patterns(tmp_path / "folder")
    assert folder.names == tuple(f"img{n}.nii.gz" for n in (1, 2, 3, 10))
    mask = np.isfinite(volumes).all(axis=0) & (volumes != 0).any(axis=0)
    assert not mask[0, 0, 0]
    assert not mask[1, 1, 1]
    for source, given in ((series, names), (table, None), (files, names)):
        read = read_patterns(source, names=given)
        assert read.names == tuple(names)
        np.testing.assert_array_equal(read.mask, mask)
        np.testing.assert_array_equal(read.values, volumes[:, mask])
        np.testing.assert_array_equal(pair(read, folder)[0].values, pair(read, folder)[1].values)
    np.testing.assert_array_equal(folder.affine, AFFINE)


def test_read_patterns_a_series_of_one_volume_is_an_image(
    tmp_path: Path, volumes: np.ndarray
) -> None:
    """Some software writes a fourth axis of length 1; two volumes are no image."""
    flat = [save(tmp_path / f"{number}.nii", volumes[number]) for number in (0, 1)]
    deep = save(tmp_path / "deep.nii", volumes[1][..., None])
    np.testing.assert_array_equal(read_patterns([flat[0], deep]).values, read_patterns(flat).values)
    two = save(tmp_path / "two.nii", np.moveaxis(volumes[:2], 0, -1))
    with pytest.raises(ShapeError, match=r"two.nii must be a 3-D image.*got shape \(5, 4, 3, 2\)"):
        read_patterns([flat[0], two])


def test_read_patterns_without_a_mask_lie_on_one_grid(tmp_path: Path, volumes: np.ndarray) -> None:
    """Arrays of one shape may still lie elsewhere; less than a thousandth of a mm is nowhere."""
    shifted, turned = AFFINE.copy(), AFFINE.copy()
    shifted[0, 3] += 2
    turned[0, 1] = 0.0009
    files = [save(tmp_path / "a.nii", volumes[0]), save(tmp_path / "b.nii", volumes[1], shifted)]
    with pytest.raises(ShapeError, match=r"b.nii, against a.nii: .*affines differ by up to 2 mm"):
        read_patterns(files)
    save(tmp_path / "b.nii", volumes[1], turned)
    assert len(read_patterns(files).names) == 2


def test_read_patterns_mask_gives_its_voxels(tmp_path: Path, volumes: np.ndarray) -> None:
    """With a mask, exactly its voxels are read, whatever they hold."""
    mask = np.zeros((5, 4, 3), bool)
    mask[0, 0, 0] = mask[1, 1, 1] = mask[4, 2, 1] = True
    series = save(tmp_path / "all.nii", np.moveaxis(volumes, 0, -1))
    read = read_patterns(series, Mask(mask, AFFINE), names=list("abcd"))
    np.testing.assert_array_equal(read.values, volumes[:, mask])


def test_read_patterns_resamples_only_when_asked(tmp_path: Path, rng: np.random.Generator) -> None:
    """Another grid is refused by file, or resampled linearly as nibabel does."""
    coarse = np.diag([3.0, 3.0, 3.0, 1.0])
    coarse[:3, 3] = [-7, -5, 9]
    volume = rng.standard_normal((6, 6, 6))
    path = save(tmp_path / "a.nii.gz", volume, coarse)
    mask = Mask(np.ones((5, 4, 3), bool), AFFINE)
    with pytest.raises(ShapeError, match=r"a.nii.gz, .*got shapes \(6, 6, 6\) and \(5, 4, 3\)"):
        read_patterns([path], mask)
    shifted = save(tmp_path / "b.nii.gz", np.ones((5, 4, 3)), coarse)
    with pytest.raises(ShapeError, match=r"b.nii.gz, .*affines differ by up to 1 mm"):
        read_patterns([shifted], mask)
    read = read_patterns([path], mask, resample=True)
    expected = resample_from_to(nib.load(path), ((5, 4, 3), AFFINE), order=1, cval=np.nan)
    np.testing.assert_allclose(read.values[0], expected.get_fdata()[mask.inside], atol=1e-5)


def test_read_patterns_arrays(tmp_path: Path, rng: np.random.Generator) -> None:
    """Arrays come with their names and mask or take those given, and are cut to a smaller mask."""
    values = rng.standard_normal((2, 5)).astype(np.float32)
    mask = np.zeros((5, 4, 3), bool)
    mask[:, 1, 1] = True
    np.savez(tmp_path / "a.npz", patterns=values, names=["x", "y"], mask=mask, affine=AFFINE)
    np.save(tmp_path / "a.npy", values)
    read = read_patterns(tmp_path / "a.npz")
    assert read.names == ("x", "y")
    np.testing.assert_array_equal(read.mask, mask)
    plain = read_patterns(tmp_path / "a.npy", Mask(mask, AFFINE), names=["x", "y"])
    np.testing.assert_array_equal(plain.values, values)
    smaller = mask.copy()
    smaller[3, 1, 1] = False
    cut = read_patterns(tmp_path / "a.npz", Mask(smaller, AFFINE))
    np.testing.assert_array_equal(cut.values, np.delete(values, 3, axis=1))
    larger = mask.copy()
    larger[0, 0, 0] = True
    with pytest.raises(ShapeError, match=r"must hold every voxel of the mask; it lacks 1"):
        read_patterns(tmp_path / "a.npz", Mask(larger, AFFINE))
    with pytest.raises(ShapeError, match=r"a.npz, against the mask"):
        read_patterns(tmp_path / "a.npz", Mask(smaller, AFFINE + np.eye(4)))
    np.savez(tmp_path / "d.npz", patterns=values, names=["x", "y"], mask=2 * mask, affine=AFFINE)
    with pytest.raises(DataError, match=r"'mask' must hold 0 and 1; got \[2\], too"):
        read_patterns(tmp_path / "d.npz")
    with pytest.raises(ShapeError, match=r"a column for each of the mask's 6 voxels; got 5"):
        read_patterns(tmp_path / "a.npy", Mask(larger, AFFINE), names=["x", "y"])
    with pytest.raises(DataError, match=r"holds 2 rows without names.*in order with `names`"):
        read_patterns(tmp_path / "a.npy")
    with pytest.raises(ShapeError, match=r"one name for each of the 2 rows of .*; got 3"):
        read_patterns(tmp_path / "a.npy", names=["x", "y", "z"])
    np.savez(tmp_path / "b.npz", betas=values)
    with pytest.raises(ShapeError, match=r"must hold 'patterns' of shape .*; got betas \(2, 5\)"):
        read_patterns(tmp_path / "b.npz")
    np.save(tmp_path / "c.npy", np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"c.npy: expected an array of numbers"):
        read_patterns(tmp_path / "c.npy")


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("dtype", [int, float])
def test_read_patterns_numbers_of_rows_are_no_names(
    tmp_path: Path, first: int, dtype: type
) -> None:
    """An archive that numbers its rows has no names, and takes those that are given."""
    values = np.arange(20, dtype=np.float32).reshape(4, 5)
    path = tmp_path / "a.npz"
    np.savez(path, patterns=values, names=np.arange(first, first + 4, dtype=dtype))
    with pytest.raises(DataError, match=r"holds 4 rows without names.*in order with `names`"):
        read_patterns(path)
    assert not has_names(path)
    names = ["10.jpg", "2.jpg", "1.jpg", "3.jpg"]
    assert read_patterns(path, names=names).names == tuple(names)
    np.savez(path, patterns=values, names=np.array([name.encode() for name in names]))
    assert has_names(path)
    assert read_patterns(path).names == tuple(names)


@pytest.mark.parametrize("unmatched", ["error", "drop"])
def test_pair_numbers_from_0_with_names_from_1_is_refused(unmatched: Any) -> None:
    """Files 0.nii.gz to 3.nii.gz are not the responses to 1.jpg to 4.jpg, but for the first."""
    values = np.arange(20, dtype=np.float32).reshape(4, 5)
    ours = Patterns(tuple(f"{k}.jpg" for k in range(1, 5)), values)
    theirs = Patterns(tuple(f"{k}.nii.gz" for k in range(4)), values)
    with pytest.raises(DataError, match=r"count from 1 and measured ones from 0.*its neighbour"):
        pair(ours, theirs, unmatched=unmatched)


@pytest.mark.parametrize("cell", ["NA", "NaN", "null"])
def test_tables_of_patterns_missing_values_are_no_names(tmp_path: Path, cell: str) -> None:
    """n/a is no participant and no category of its own; what may be either is refused."""
    (tmp_path / "a.nii").touch()
    table = tmp_path / "t.tsv"
    table.write_text("name\tfile\tparticipant\tcategory\na.jpg\ta.nii\tn/a\tn/a\n")
    (row,) = read_pattern_files(table)
    assert (row.participant, row.category) == ("", "")
    with pytest.raises(DataError, match=r"line 2: expected a name and its one category"):
        read_categories(table)
    for column in ("name", "participant", "category"):
        cells = {"name": "a.jpg", "file": "a.nii", "participant": "s1", "category": "cat"}
        cells[column] = cell
        table.write_text("\t".join(cells) + "\n" + "\t".join(cells.values()) + "\n")
        with pytest.raises(DataError, match=rf"line 2: {column} must be a name or n/a; got"):
            read_pattern_files(table)


def test_read_patterns_unusable_sources_are_named(tmp_path: Path, volumes: np.ndarray) -> None:
    """Missing, empty, damaged and foreign sources are told apart."""
    with pytest.raises(DataError, match=r"there is no such file or folder"):
        read_patterns(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"expected NIfTI files .* found none"):
        read_patterns(tmp_path / "empty")
    (tmp_path / "note.txt").touch()
    with pytest.raises(DataError, match=r"got a file ending in '.txt'"):
        read_patterns(tmp_path / "note.txt")
    (tmp_path / "bad.nii.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"bad.nii.gz must be a NIfTI image; got one that"):
        read_patterns([tmp_path / "bad.nii.gz"])
    with pytest.raises(DataError, match=r"gone.nii must be a NIfTI image; .*there is no file"):
        read_patterns([tmp_path / "gone.nii"])
    series = save(tmp_path / "all.nii", np.moveaxis(volumes, 0, -1))
    with pytest.raises(ShapeError, match=r"all.nii must be a 3-D image.* got shape \(5, 4, 3, 4\)"):
        read_patterns([series], Mask(np.ones((5, 4, 3), bool), AFFINE))
    with pytest.raises(DataError, match=r"all.nii holds 4 volumes without names"):
        read_patterns(series)
    with pytest.raises(ShapeError, match=r"one name for each of the 1 files; got 2"):
        read_patterns([series], names=["a", "b"])
    zeros = save(tmp_path / "zeros.nii", np.zeros((2, 2, 2)))
    with pytest.raises(DataError, match=r"expected voxels with data in every image"):
        read_patterns([zeros])


def test_read_region_gives_voxels_of_the_mask(tmp_path: Path) -> None:
    """A region is a mask over another's voxels; one outside it is refused."""
    mask = np.zeros((5, 4, 3), bool)
    mask[:3] = True
    roi = np.zeros((5, 4, 3))
    roi[2:4, 0, 0] = 1
    inside = read_region(save(tmp_path / "roi.nii", roi), Mask(mask, AFFINE))
    volume = np.zeros(mask.shape, bool)
    volume[mask] = inside
    np.testing.assert_array_equal(np.argwhere(volume), [[2, 0, 0]])
    with pytest.raises(DataError, match=r"outside.nii must share voxels with the mask"):
        read_region(save(tmp_path / "outside.nii", np.roll(roi, 1, axis=0)), Mask(mask, AFFINE))
    with pytest.raises(DataError, match=r"must be a 3-D mask image .* got 0 everywhere"):
        read_mask(save(tmp_path / "empty.nii", np.zeros((2, 2, 2))))


def test_read_region_of_another_grid_is_where_more_than_half_is_inside(tmp_path: Path) -> None:
    """Resampled linearly, two planes a third and two thirds inside: the second one is."""
    roi = np.zeros((5, 4, 3))
    roi[2:4] = 1
    moved = AFFINE.copy()
    moved[:3, 3] += AFFINE[:3, 0] * 2 / 3
    mask = Mask(np.ones((5, 4, 3), bool), AFFINE)
    path = tmp_path / "roi.nii"
    nib.save(nib.Nifti1Image(roi, moved), path)
    inside = read_region(path, mask, resample=True).reshape(mask.inside.shape)
    np.testing.assert_array_equal(np.unique(np.argwhere(inside)[:, 0]), [3, 4])
    with pytest.raises(ShapeError, match="roi.nii"):
        read_region(path, mask)


def test_tables_errors_name_the_line(tmp_path: Path, volumes: np.ndarray) -> None:
    """Missing columns, cells and files are named by line; participants and categories are read."""
    save(tmp_path / "a.nii", volumes[0])
    table = tmp_path / "t.csv"
    table.write_text("name,file,participant,category\na.jpg,a.nii,s1,cat\n")
    (row,) = read_pattern_files(table)
    assert (row.name, row.participant, row.category) == ("a.jpg", "s1", "cat")
    assert read_categories(table) == {"a.jpg": "cat"}
    table.write_text("name,file\na.jpg,a.nii\nb.jpg,b.nii\n")
    with pytest.raises(DataError, match=r"t.csv, line 3: .* got no file .*b.nii"):
        read_pattern_files(table)
    table.write_text("name,file\n,a.nii\n")
    with pytest.raises(DataError, match=r"t.csv, line 2: .* got an empty cell"):
        read_pattern_files(table)
    table.write_text("image\tfile\na.jpg\ta.nii\n")
    with pytest.raises(DataError, match=r"must have a column name or stim_file .*by commas"):
        read_pattern_files(table)
    with pytest.raises(DataError, match=r"must have a column category"):
        table.write_text("name,file\na.jpg,a.nii\n")
        read_categories(table)
    table.write_text("name,category\na.jpg,cat\na.jpg,dog\n")
    with pytest.raises(DataError, match=r"line 3: expected a name and its one category; .*'dog'"):
        read_categories(table)
    table.write_text("name,file\n")
    with pytest.raises(DataError, match=r"a line for each row are needed; got 1"):
        read_pattern_files(table)
    with pytest.raises(DataError, match=r"gone.csv: expected a table of text in UTF-8"):
        read_pattern_files(tmp_path / "gone.csv")


def test_masks_of_0_and_1_are_masks_and_others_are_refused() -> None:
    """Numbers would index voxels 0 and 1, whatever the mask's shape."""
    numbers = np.array([0, 1, 1, 0, 1], dtype=np.uint8).reshape(1, 1, 5)
    values = np.arange(6.0).reshape(2, 3)
    patterns = Patterns(("a", "b"), values, numbers, np.eye(4))
    assert patterns.mask is not None
    assert patterns.mask.dtype == bool
    kept = patterns.within(np.array([1, 0, 1]))
    assert kept.values.tolist() == [[0, 2], [3, 5]]
    assert np.flatnonzero(kept.mask).tolist() == [1, 4]
    assert Mask(numbers, np.eye(4)).take(10 + numbers, Grid((1, 1, 5), np.eye(4)), "a").size == 3
    for refused in (2 * numbers, 0.5 * numbers):
        with pytest.raises(DataError, match="^mask must hold 0 and 1; got 3 voxels of other"):
            Patterns(("a", "b"), values, refused)
        with pytest.raises(DataError, match="^inside must hold 0 and 1; got 3 voxels of other"):
            Mask(refused, np.eye(4))
