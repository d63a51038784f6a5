"""The twinset archive, on a generated miniature of the published layout."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imgtofmri import assets
from imgtofmri.assets import downloads
from imgtofmri.datasets import twinset
from imgtofmri.datasets.twinset import fetch_twinset, load_analysis_archive
from imgtofmri.exceptions import AssetError, DataError


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the archive's layout: 156 images, averages and two participants, each volume 2x2x2."""
    root = tmp_path_factory.mktemp("archive")
    data = root / "data" / "twinset"
    kinds = {"avgs": "avg", "subj01": "r_m_s", "subj02": "r_m_s"}
    for folder in (twinset.STIMULUS_FOLDER, *kinds):
        (data / folder).mkdir(parents=True)
    volume = nib.Nifti1Image(np.zeros((2, 2, 2), dtype=np.float32), np.eye(4))
    content = io.BytesIO(volume.to_bytes())
    for number in range(1, 157):
        # Numbers without leading zeros: 10 must not come before 2.
        (data / twinset.STIMULUS_FOLDER / f"image{number}.jpg").write_bytes(b"jpeg")
        for folder, kind in kinds.items():
            (data / folder / f"{kind}_beta_{number:04d}.nii").write_bytes(content.getvalue())
    (data / twinset.STIMULUS_FOLDER / "._image1.jpg").write_bytes(b"resource fork")
    (root / "data" / "other" / "subj01").mkdir(parents=True)
    (root / "data" / "other" / "notes.txt").write_text("not needed")
    return root


@pytest.fixture(scope="module")
def zipped(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack the miniature as a zip file without a suffix."""
    made = shutil.make_archive(str(tmp_path_factory.mktemp("zip") / "a"), "zip", published)
    return Path(made).rename(Path(made).with_suffix(""))


@pytest.fixture(scope="module")
def tarred(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pack the miniature as a compressed tar file."""
    return Path(shutil.make_archive(str(tmp_path_factory.mktemp("tar") / "a"), "gztar", published))


def test_load_analysis_archive_folder_gives_everything_in_order(published: Path) -> None:
    """Images and responses come in the published order, with their categories."""
    found = load_analysis_archive(published)
    assert found.names == tuple(f"image{number}.jpg" for number in range(1, 157))
    assert found.group[9].name == "avg_beta_0010.nii"
    assert sorted(found.participants) == ["subj01", "subj02"]
    assert found.participants["subj02"][155].name == "r_m_s_beta_0156.nii"
    assert found.duplicates == ("image20.jpg",)
    counts = {name: list(found.categories.values()).count(name) for name in twinset.CATEGORIES}
    assert counts == {"animals": 28, "objects": 36, "scenes": 36, "people": 24, "faces": 32}
    assert found.categories["image64.jpg"] == "objects"
    assert found.categories["image65.jpg"] == "scenes"


@pytest.mark.parametrize("kind", ["zipped", "tarred"])
def test_load_analysis_archive_file_is_unpacked_once(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Either kind of archive is told by content and unpacked beside itself, only what is needed."""
    archive = tmp_path / "41780682"
    archive.write_bytes(request.getfixturevalue(kind).read_bytes())
    found = load_analysis_archive(archive, progress=False)
    assert len(found.stimuli) == 156
    unpacked = tmp_path / "41780682-unpacked"
    assert list(unpacked.rglob("*.txt")) == []
    archive.write_bytes(b"now damaged, and not read again")
    assert load_analysis_archive(archive) == found


class _Handler(BaseHTTPRequestHandler):
    """Serve the miniature archive with ranges; the first answer breaks off half way."""

    content = b""
    asked: list[str | None]

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.asked.append(wanted)
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted else 0
        self.send_response(206 if start else 200)
        whole = len(self.content)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.send_header("ETag", '"a"')
        self.send_header("Content-Length", str(whole - start))
        self.end_headers()
        self.wfile.write(self.content[start:] if start else self.content[: whole // 2])

    def log_message(self, *_: object) -> None:
        """Keep the test's output quiet."""


@pytest.fixture
def site(zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[_Handler]]:
    """Serve the miniature on loopback in the published archive's place."""
    content = zipped.read_bytes()
    handler = type("Handler", (_Handler,), {"content": content, "asked": [], "timeout": 10})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(
        target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(assets.OFFLINE_VARIABLE, raising=False)
    monkeypatch.setattr(downloads, "RESUME_PAUSE_S", 0.0)
    monkeypatch.setattr(twinset, "URLS", (f"http://127.0.0.1:{httpd.server_port}/files/1",))
    monkeypatch.setattr(twinset, "SIZE_BYTES", len(content))
    yield handler
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_fetch_twinset_resumes_unpacks_and_is_kept(site: type[_Handler], tmp_path: Path) -> None:
    """An interrupted download goes on, and a second call downloads nothing."""
    found = fetch_twinset(progress=False)
    assert len(found.stimuli) == 156
    assert site.asked == [None, f"bytes={len(site.content) // 2}-"]
    assert fetch_twinset(progress=False) == found
    assert len(site.asked) == 2
    unpacked = tmp_path / "cache" / "datasets" / "twinset"
    assert found.stimuli[0].is_relative_to(unpacked)
    assert list(unpacked.parent.iterdir()) == [unpacked]


def test_fetch_twinset_other_size_is_refused(
    site: type[_Handler], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has not the published size is not the published archive."""
    monkeypatch.setattr(twinset, "SIZE_BYTES", len(site.content) + 1)
    with pytest.raises(AssetError, match=r"twinset analysis archive: .*expected \d+ bytes"):
        fetch_twinset(progress=False)


def broken(published: Path, tmp_path: Path) -> Path:
    """Copy the miniature, to break it."""
    return Path(shutil.copytree(published / "data" / "twinset", tmp_path / "copy"))


def test_load_analysis_archive_missing_response_names_it(published: Path, tmp_path: Path) -> None:
    """The missing file and its folder are named."""
    data = broken(published, tmp_path)
    (data / "subj02" / "r_m_s_beta_0007.nii").unlink()
    with pytest.raises(DataError, match=r"subj02: .* r_m_s_beta_0007.nii.gz is missing \(1"):
        load_analysis_archive(data)


def test_load_analysis_archive_missing_image_counts(published: Path, tmp_path: Path) -> None:
    """A photograph too few is refused with the count."""
    data = broken(published, tmp_path)
    (data / twinset.STIMULUS_FOLDER / "image3.jpg").unlink()
    with pytest.raises(DataError, match=r"expected 156 photographs; found 155"):
        load_analysis_archive(data)


@pytest.mark.parametrize("missing", ["avgs", twinset.STIMULUS_FOLDER])
def test_load_analysis_archive_missing_folder_names_it(
    published: Path, tmp_path: Path, missing: str
) -> None:
    """A folder that is not there is named."""
    data = broken(published, tmp_path)
    shutil.rmtree(data / missing)
    with pytest.raises(DataError, match=rf"expected one folder {missing} below it; found none"):
        load_analysis_archive(data)


def test_load_analysis_archive_participants_missing_or_twice(
    published: Path, tmp_path: Path
) -> None:
    """Without participants, or with one found twice, the folders are named."""
    data = broken(published, tmp_path)
    shutil.copytree(data / "subj01", data / "again" / "subj01")
    with pytest.raises(DataError, match=r"one folder of responses for subj01; found .*again"):
        load_analysis_archive(data)
    for folder in ("again", "subj01", "subj02"):
        shutil.rmtree(data / folder)
    with pytest.raises(DataError, match=r"expected folders subj01 .*; found none"):
        load_analysis_archive(data)
