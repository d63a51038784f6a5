"""Archives: unpacked whole or not at all, and never outside their folder."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from imgtofmri.assets import extract_archive
from imgtofmri.exceptions import AssetError, OutputError

KINDS = ("zip", "gztar")


@pytest.mark.parametrize("kind", [*KINDS, "tar", "xztar"])
def test_extract_archive_gives_what_was_packed(
    kind: str, tmp_path: Path, rng: np.random.Generator
) -> None:
    """Every file comes out as it went in, told by content and not by name; some can be left out."""
    packed = tmp_path / "packed"
    (packed / "inner").mkdir(parents=True)
    (packed / "inner" / "noise").write_bytes(rng.bytes(5000))
    (packed / "empty").touch()
    archive = Path(shutil.make_archive(str(tmp_path / "a"), kind, packed)).rename(tmp_path / "b")
    folder = extract_archive(archive, tmp_path / "new" / "into", progress=False)
    assert (folder / "inner" / "noise").read_bytes() == (packed / "inner" / "noise").read_bytes()
    assert (folder / "empty").read_bytes() == b""
    some = extract_archive(archive, tmp_path / "some", lambda path: path.name == "empty", False)
    assert [path.name for path in some.iterdir()] == ["empty"]


@pytest.mark.parametrize("name", ["../outside", "/etc/outside", "a/../../outside", "..\\x", "C:/x"])
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_extract_archive_path_that_leads_out_is_refused_whole(
    tmp_path: Path, kind: str, name: str
) -> None:
    """Nothing is written, inside or outside, when a member's path leads out of the folder."""
    archive = tmp_path / "evil"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as zipped:
            zipped.writestr("good", b"good")
            zipped.writestr(name, b"bad")
    else:
        with tarfile.open(archive, "w") as tarred:
            for member_name in ("good", name):
                member = tarfile.TarInfo(member_name)
                member.size = 3
                tarred.addfile(member, io.BytesIO(b"bad"))
    with pytest.raises(AssetError, match=r"must hold paths inside it only; it holds .*unpacked"):
        extract_archive(archive, tmp_path / "into", progress=False)
    assert list(tmp_path.iterdir()) == [archive]


def test_extract_archive_links_are_not_made(tmp_path: Path) -> None:
    """A link inside an archive could point anywhere, so it is left out."""
    archive = tmp_path / "links.tar"
    with tarfile.open(archive, "w") as tarred:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tarred.addfile(link)
        tarred.addfile(tarfile.TarInfo("file"), io.BytesIO())
    folder = extract_archive(archive, tmp_path / "into", progress=False)
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_extract_archive_errors_name_the_file(tmp_path: Path, rng: np.random.Generator) -> None:
    """No archive, no file, a damaged archive and a full folder are told apart."""
    other = tmp_path / "other"
    other.write_bytes(b"<html>not found</html>")
    with pytest.raises(AssetError, match=r"other must be a zip or tar archive; it is neither"):
        extract_archive(other, tmp_path / "into", progress=False)
    with pytest.raises(AssetError, match=r"expected an archive at .*nothing; there is no file"):
        extract_archive(tmp_path / "nothing", tmp_path / "into", progress=False)
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "noise").write_bytes(rng.bytes(5000))
    kinds = [shutil.make_archive(str(tmp_path / "a"), kind, tmp_path / "packed") for kind in KINDS]
    for archive in map(Path, kinds):
        for third in (1, 2):
            damaged = bytearray(archive.read_bytes())
            start = len(damaged) * third // 4
            damaged[start : start + 500] = bytes(500)
            other.write_bytes(damaged)
            with pytest.raises(AssetError, match=r"other is damaged"):
                extract_archive(other, tmp_path / "into", progress=False)
    assert not (tmp_path / "into").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(OutputError, match=r"full must be new or empty; it holds files"):
        extract_archive(archive, tmp_path / "full", progress=False)


def test_extract_archive_file_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """Two files of one path, which no archiver of folders writes, are refused."""
    archive = tmp_path / "twice.tar"
    with tarfile.open(archive, "w") as tarred:
        for _ in range(2):
            tarred.addfile(tarfile.TarInfo("file"), io.BytesIO())
    with pytest.raises(AssetError, match=r"twice\.tar is damaged .*file"):
        extract_archive(archive, tmp_path / "into", progress=False)
    assert not (tmp_path / "into").exists()
