"""Files have the mode that the user's umask gives to new files, whatever writes them."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from imgtofmri import assets
from imgtofmri.analyses.simulate import Events, Run, Scan, Simulation, save_simulation
from imgtofmri.backbones import load_backbone
from imgtofmri.backbones.cache import cached_backbone
from imgtofmri.backbones.head import packaged_head, write_head
from imgtofmri.bundle import Bundle, write_bundle
from imgtofmri.encoder import Encoder
from imgtofmri.files import atomic_path, sha256_of, write_whole

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes are those of POSIX")


@pytest.fixture(params=[0o002, 0o077], ids=["002", "077"])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    """Set a umask, and return it."""
    mask: int = request.param
    before = os.umask(mask)
    yield mask
    os.umask(before)


def assert_follows(umask: int, folder: Path, n_files: int) -> None:
    """Compare the modes of all that is below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) == n_files
    for path in folder.rglob("*"):
        whole = 0o777 if path.is_dir() else 0o666
        assert stat.S_IMODE(path.stat().st_mode) == whole & ~umask, path


def test_files_that_others_write_follow_the_umask(tmp_path: Path, umask: int) -> None:
    """Also where the writer puts a file of its own in place of the temporary one."""
    for name in ("new", "replaced"):
        with atomic_path(tmp_path / "out" / name) as temporary:
            if name == "replaced":
                temporary.unlink()
                os.close(os.open(temporary, os.O_CREAT, 0o600))
    write_whole(tmp_path / "out" / "whole", b"x")
    assert_follows(umask, tmp_path / "out", 3)


def test_bundles_heads_and_features_follow_the_umask(
    tmp_path: Path, small_bundle: Bundle, umask: int
) -> None:
    """An encoder that one of a group fits can be read by the group, or by nobody else."""
    out = tmp_path / "out"
    write_bundle(small_bundle, out / "encoder.safetensors")
    head = packaged_head("efficientnet-lite0")
    assert head is not None
    write_head(head, out / "head.safetensors")
    network = load_backbone("resnet18", weights="untrained", layers=("layer1",))
    cached_backbone(network, out / "features")(np.zeros((1, 224, 224, 3), np.uint8))
    assert_follows(umask, out, 3)


def test_downloads_and_what_is_unpacked_follow_the_umask(
    tmp_path: Path, umask: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cache can be shared."""
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(assets.OFFLINE_VARIABLE, raising=False)
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed" / "file").write_text("content")
    made = Path(shutil.make_archive(str(tmp_path / "archive"), "zip", tmp_path / "packed"))
    digest = sha256_of(made)
    archive = assets.fetch_url(
        [made.as_uri()], "a/b.zip", what="an archive", sha256=digest, progress=False
    )
    assets.extract_archive(archive, tmp_path / "cache" / "unpacked", progress=False)
    assert_follows(umask, tmp_path / "cache", 2)


def test_results_follow_the_umask(
    tmp_path: Path, small_bundle: Bundle, rng: np.random.Generator, umask: int
) -> None:
    """Volumes, tables, records, and a dataset that is written whole."""
    prediction = Encoder(small_bundle).predict_features(rng.normal(size=(2, 6)))
    prediction.save(tmp_path / "out" / "saved")
    run = Run(Events([0.0], [1.0], [1]), 4, ("onset", "duration"), (("0", "1"),))
    simulation = Simulation(
        {"S1": prediction.group}, [run], Scan(1.0), prediction.mask, prediction.affine
    )
    files = save_simulation(simulation, tmp_path / "out" / "simulated")
    assert_follows(umask, tmp_path / "out", 5 + len(files))
