"""What is beyond a limit is refused with the limit, what came and the variable that raises it."""

from __future__ import annotations

import gzip
import io
import os
import re
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from imgtofmri.assets.archives import extract_archive
from imgtofmri.bundle import Bundle, read_bundle, write_bundle
from imgtofmri.documents import parse_json, read_text
from imgtofmri.exceptions import AssetError, BundleError, DataError, OptionError
from imgtofmri.limits import Limits, check_limit, limit, variable
from imgtofmri.measured import read_array
from imgtofmri.measured.rdms import load_rdms
from imgtofmri.measured.timing import read_sidecars
from imgtofmri.report.rois import read_rois, read_timeseries
from imgtofmri.spaces import read_grid, read_image
from imgtofmri.tables import read_table
from imgtofmri.training.study.document import read_document

DOCUMENTED = Path(__file__).parents[1] / "docs" / "reference" / "limits.md"


def test_each_limit_is_documented_as_it_is() -> None:
    """The table has a row for each, with its number."""
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \|", DOCUMENTED.read_text("utf-8"), re.MULTILINE)
    said = {name: float(number.replace(",", "")) for name, number in rows}
    usual = Limits()
    here = {variable(field.name): float(getattr(usual, field.name)) for field in fields(Limits)}
    assert said == here


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", "inf", "9" * 30])
def test_a_variable_that_is_no_limit_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A count is a whole number above 0; the message names the variable and the usual value."""
    monkeypatch.setenv("IMGTOFMRI_MAX_ROWS", text)
    said = r"IMGTOFMRI_MAX_ROWS must be a whole number above 0; got '.*Unset it .* 10,000,000\."
    with pytest.raises(OptionError, match=said):
        limit("rows")


def test_a_limit_holds_from_just_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches it is read; one more is not."""
    monkeypatch.setenv("IMGTOFMRI_MAX_COLUMNS", "7")
    check_limit("columns", 7, "a.tsv", "columns")
    said = r"a.tsv: expected at most 7 columns; got 8\. Take .* set IMGTOFMRI_MAX_COLUMNS higher\."
    with pytest.raises(DataError, match=said):
        check_limit("columns", 8, "a.tsv", "columns")
    with pytest.raises(DataError, match=r"at most 7 columns; got over 1e308\. Take"):
        check_limit("columns", 10**5000, "a.tsv", "columns")


@pytest.mark.parametrize(
    ("name", "most", "said"),
    [
        ("rows", 2, r"expected at most 2 rows; got 3"),
        ("columns", 1, r"expected at most 1 columns; got 2"),
        ("line", 5, r"expected at most 5 letters in one line; got 6"),
        ("text_mb", 1e-5, r"it has 0 MB, above the limit of 1e-05 that IMGTOFMRI_MAX_TEXT_MB"),
    ],
)
def test_tables_are_read_within_limits(
    name: str, most: float, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows, columns, letters of a line, and the whole."""
    path = tmp_path / "a.tsv"
    path.write_text("a\tbcd\n1\t2\n3\t4\n5\t6789\n")
    assert len(read_table(path)) == 3
    monkeypatch.setenv(variable(name), str(most))
    with pytest.raises(DataError, match=said):
        read_table(path)


def test_devices_and_pipes_are_no_texts(tmp_path: Path) -> None:
    """A pipe would wait for ever, and a device may have no end."""
    os.mkfifo(tmp_path / "pipe.tsv")
    for path in (tmp_path / "pipe.tsv", Path("/dev/zero")):
        with pytest.raises(OSError, match="it is a device or a pipe"):
            read_text(path)
        with pytest.raises(DataError, match="it cannot be read: it is a device or a pipe"):
            read_table(path)


@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_json_is_read_within_limits(opening: str, tmp_path: Path) -> None:
    """64 lists in one another and no more; brackets in strings do not count."""
    closing = {"[": "]", '{"a":': "}"}[opening]
    assert parse_json(opening * 64 + "1" + closing * 64)
    assert parse_json('["' + "[" * 1000 + '\\"{"]') == ["[" * 1000 + '"{']
    for depth in (65, 100_000):
        with pytest.raises(ValueError, match="nested more than 64 deep"):
            parse_json(opening * depth)
    (tmp_path / "a.json").write_text('{"b": ' + opening * 70)
    with pytest.raises(DataError, match=r"a\.json: expected JSON .*nested more than 64 deep"):
        read_sidecars([tmp_path / "a.json"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a = " + "[" * 70 + "]" * 70, "expected at most 64 tables in one another; got 71"),
        ("[" + "a." * 5000 + "b]", "expected at most 64 tables in one another; got"),
        ("a = " + "[" * 5000 + "]" * 5000, "not valid TOML: nested too deep"),
        ("a = " + "9" * 5000, "not valid TOML: Exceeds the limit"),
    ],
)
def test_studies_are_read_within_limits(text: str, said: str, tmp_path: Path) -> None:
    """Nesting by brackets and by dots, and numbers without end."""
    (tmp_path / "study.toml").write_text(text)
    with pytest.raises(OptionError, match=said):
        read_document(tmp_path / "study.toml")


def test_study_lines_of_long_values_are_found_at_once(tmp_path: Path) -> None:
    """A value of very many lines is gone through once, and what follows has its line."""
    n_lines = 20_000
    text = (
        "a = [\n" + "1, # [ and ''' and \"\n" * n_lines + "]\nb = '''\n[c]\n''' # x\n[d]\ne = 1\n"
    )
    (tmp_path / "study.toml").write_text(text)
    lines = read_document(tmp_path / "study.toml").lines
    assert lines == {("a",): 1, ("b",): n_lines + 3, ("d",): n_lines + 6, ("d", "e"): n_lines + 7}


def npy(shape: str, content: bytes = b"") -> bytes:
    """Write a .npy file whose header says a shape."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize(
    "shape", ["(99999999999,)", "(2147483648, 2147483648, 4)", "(2,)", "(-1,)"]
)
def test_arrays_are_not_made_larger_than_their_file(
    suffix: str, shape: str, tmp_path: Path
) -> None:
    """Nothing is reserved for what a header promises and the file does not hold."""
    path = tmp_path / f"a{suffix}"
    content = npy(shape, b"8 bytes.")
    if suffix == ".npz":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", content)
    else:
        path.write_bytes(content)
    with pytest.raises(
        DataError, match=r"cannot be read as .np. \(an array of shape .* does not fit into 8 bytes"
    ):
        read_array(path)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.array([0x110000, 97], np.uint32).view("<U2"), "letters that do not exist"),
        (np.array([0x110000, 97], ">u4").view(">U1"), "letters that do not exist"),
        (np.zeros(3, "i4,f8"), "it holds fields"),
    ],
)
def test_arrays_of_no_plain_values_are_refused(
    array: NDArray[Any], said: str, tmp_path: Path
) -> None:
    """Python cannot make a text of letters beyond Unicode, and says so by an error of its own."""
    np.savez(tmp_path / "a.npz", rdms=np.ones(3), conditions=array)
    with pytest.raises(DataError, match=said):
        load_rdms(tmp_path / "a.npz")


def test_arrays_that_unpack_beyond_the_limit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A compressed file of zeros is small, what comes out of it is not."""
    np.savez_compressed(tmp_path / "a.npz", a=np.zeros(100_000))
    assert read_array(tmp_path / "a.npz").size == 100_000
    monkeypatch.setenv("IMGTOFMRI_MAX_ARRAY_GB", "0.0005")
    with pytest.raises(DataError, match=r"expected at most 0.0005 GB in one array; got 0.0008"):
        read_array(tmp_path / "a.npz")


def test_images_are_read_within_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header that promises a grid beyond all limits, or more than the file can hold."""
    image = nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4))
    image.header["dim"][1:4] = 1200
    (tmp_path / "a.nii").write_bytes(image.header.binaryblock)
    with pytest.raises(DataError, match=r"a.nii: expected at most 100,000,000 voxels in a volume"):
        read_grid(tmp_path / "a.nii")
    image.header["dim"][1:4] = 400
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(image.header.binaryblock + bytes(4)))
    with pytest.raises(DataError, match=r"promises 256,000,000 bytes of values, which \d+ bytes"):
        read_grid(tmp_path / "b.nii.gz")
    (tmp_path / "b.nii").write_bytes(image.header.binaryblock + bytes(4))
    with pytest.raises(DataError, match=r"promises 256,000,000 bytes of values, which 352 bytes"):
        read_grid(tmp_path / "b.nii")
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.float32), np.eye(4)), tmp_path / "c.nii")
    monkeypatch.setenv("IMGTOFMRI_MAX_ARRAY_GB", "1e-7")
    with pytest.raises(DataError, match=r"c.nii: expected at most 1e-07 GB in one array"):
        read_image(tmp_path / "c.nii")


def test_templates_are_read_within_limits(
    small_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An encoder of a template beyond the limit is refused; matrices of its size would be made."""
    write_bundle(small_bundle, tmp_path / "a.safetensors")
    monkeypatch.setenv("IMGTOFMRI_MAX_VOXELS", "500")
    with pytest.raises(BundleError, match=r"have 1 to 500 voxels, as IMGTOFMRI_MAX_VOXELS says"):
        read_bundle(tmp_path / "a.safetensors")


def write_tar(path: Path) -> None:
    """Write a tar file of two files of 1000 bytes, and zeros behind its end."""
    with tarfile.open(path, "w:gz") as archive:
        for name in ("a", "b"):
            member = tarfile.TarInfo(name)
            member.size = 1000
            archive.addfile(member, io.BytesIO(bytes(1000)))


def write_zip(path: Path) -> None:
    """Write a zip file of two files of 1000 bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a", "b"):
            archive.writestr(name, bytes(1000))


def test_means_of_a_page_are_read_within_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows that each name another ROI of another person ask for the square of their number."""
    path = tmp_path / "rois.tsv"
    rows = [f"a\tR{number}\tL\tP{number}\t{number}\tz" for number in range(40)]
    path.write_text("\n".join(["stimulus\troi\themi\tsubject\tmean\tunit", *rows]) + "\n")
    means = read_rois(path, ["a"]).values[0]
    np.testing.assert_array_equal(np.diag(means), np.arange(40))
    assert np.isnan(means).sum() == 40 * 39
    monkeypatch.setenv("IMGTOFMRI_MAX_ARRAY_GB", "6e-6")
    with pytest.raises(DataError, match=r"^[^:]*rois.tsv.* GB of means in one array"):
        read_rois(path, ["a"])


def test_means_over_time_that_are_not_of_all_places_are_refused(tmp_path: Path) -> None:
    """Columns that each name another ROI of another person are no table that a run wrote."""
    film = tmp_path / "film.tsv"
    names = [f"P{number}_R{number}_L" for number in range(40)]
    film.write_text("\t".join(["onset", *names]) + "\n" + "\t".join(map(str, range(41))) + "\n")
    with pytest.raises(DataError, match=r"film.tsv: expected a table of ROI means over time"):
        read_timeseries(film, "z", 9)


@pytest.mark.parametrize("write", [write_tar, write_zip])
@pytest.mark.parametrize(("name", "most"), [("unpacked_gb", "1.5e-6"), ("unpacked_files", "1")])
def test_archives_are_unpacked_within_limits(
    write: Callable[[Path], None],
    name: str,
    most: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Files are counted while they are written, and nothing of them stays."""
    write(tmp_path / "archive")
    monkeypatch.setenv(variable(name), most)
    with pytest.raises(AssetError, match=rf"archive: expected at most .*{variable(name)} higher"):
        extract_archive(tmp_path / "archive", tmp_path / "out", progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]
    monkeypatch.delenv(variable(name))
    extract_archive(tmp_path / "archive", tmp_path / "out", progress=False)
    assert (tmp_path / "out" / "b").read_bytes() == bytes(1000)
