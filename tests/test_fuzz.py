"""Damaged files end in one clear error: what a fuzzer found once, and a little of it anew."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from imgtofmri.analyses.dynamics.boundaries import read_boundaries
from imgtofmri.assets.archives import extract_archive
from imgtofmri.backbones import load_backbone
from imgtofmri.backbones.head import read_head
from imgtofmri.backbones.names import NetworkName, parse_weights
from imgtofmri.backbones.pooling import parse_layer
from imgtofmri.backbones.weights import read_tensors
from imgtofmri.bundle import read_bundle
from imgtofmri.exceptions import (
    AssetError,
    BundleError,
    DataError,
    ImgToFmriError,
    OptionError,
    StimulusError,
    WeightsError,
)
from imgtofmri.experiments.tables import find_stimuli, read_events, read_kernel
from imgtofmri.files import natural_key
from imgtofmri.measured import read_array, read_mask, read_measured, read_patterns
from imgtofmri.measured.bids import agree
from imgtofmri.outputs.folder import RECORD_VERSION, OutputFolder
from imgtofmri.report.build import write_report
from imgtofmri.spaces.itk import read_itk
from imgtofmri.tables import read_table

FUZZ = Path(__file__).parents[1] / "tools" / "fuzz.py"
LONG = "9" * 400
LONGER = "9" * 5000


def unpack(path: Path) -> None:
    """Unpack beside the archive."""
    extract_archive(path, path.parent / "out", progress=False)


def shown(path: Path) -> None:
    """Look for the pictures of an events table."""
    find_stimuli([read_events(path)], path.parent)


def zipped(name: str, content: bytes) -> bytes:
    """Return a zip archive of one file, the same whenever it is made."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name, (2023, 1, 1, 0, 0, 0)), content)
    return raw.getvalue()


def moved(archive: bytes) -> bytes:
    """Say that a zip archive's only member begins beyond all files."""
    at = archive.index(b"PK\x01\x02") + 42
    return archive[:at] + b"\xff\xff\xff\x7f" + archive[at + 4 :]


def head(**changed: object) -> bytes:
    """Return a head's file with something else in its card."""
    from safetensors.numpy import save

    card = {"student": "resnet18", "layers": ["avgpool"], "features_id": "f", "rectified": True}
    card |= {"note": ""} | changed
    names = ("center", "scale", "intercept")
    arrays = {name: np.ones(1, np.float32) for name in names}
    arrays |= {name: np.ones((1, 1), np.float16) for name in ("weights", "mixing")}
    return save(arrays, metadata={"imgtofmri-head-1": json.dumps(card)})


def legacy(n_elements: int) -> bytes:
    """Return a checkpoint as PyTorch wrote them before 1.6, that says how long its storage is."""
    import pickle

    parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, {}, ["0"])
    return b"".join(pickle.dumps(part, 2) for part in parts) + n_elements.to_bytes(8, "little")


FOUND: list[tuple[str, bytes, Callable[[Path], object], type[ImgToFmriError], str]] = [
    (
        "a.tsv",
        f"onset\tduration\tstim_file\n0\t1\t{LONG}\n".encode(),
        shown,
        StimulusError,
        "1 missing",
    ),
    ("a.csv", b"a,b\n" + b"1" * 140_000 + b",2\n", read_table, DataError, "field larger than"),
    ("a.txt", b"0 0\n2147483648 1\n", lambda p: read_kernel(p, 0.1), DataError, "up to 600 are"),
    ("a.txt", b"0 0\n1e300 1\n", lambda p: read_kernel(p, 0.1), DataError, "up to 600 are"),
    ("a.txt", f"1,{LONGER}".encode(), read_boundaries, OptionError, "must hold volumes"),
    ("a.npz", moved(zipped("patterns.npy", b"")), read_patterns, DataError, "an array of numbers"),
    ("a.npz", zipped("patterns.npy", b"none"), read_patterns, DataError, "an array of numbers"),
    ("a.npz", moved(zipped("data.npy", b"")), read_measured, DataError, "must be an .npz file"),
    ("a.npz", zipped("data.npy", b"\x93NUMPY\x01\0\x02\0{("), read_measured, DataError, "must be"),
    ("a.pth", moved(zipped("a/data.pkl", b"")), read_tensors, WeightsError, "it is damaged"),
    ("a.pth", legacy(2**62), read_tensors, WeightsError, "it is damaged"),
    ("a.zip", moved(zipped("a", b"")), unpack, AssetError, "is damaged"),
    ("a.zip", zipped(LONG, b"1"), unpack, AssetError, "is damaged"),
    ("a.tar", b"\x1f\x8b\x08" + bytes(30), unpack, AssetError, "is damaged|neither"),
    ("a.nii.gz", b"\x1f\x8b\x08\0\0\0\0\0\0\0\xff\xff", read_mask, DataError, "cannot be read"),
    ("a.mgz", b"\x1f\x8b\x08\0\0\0\0\0\0\0\xff\xff", read_mask, DataError, "cannot be read"),
    ("a.gii", b"<GIFTI", read_mask, DataError, "got a surface"),
    ("a.tfm", b"Parameters: 1\n", lambda p: read_itk([p]), DataError, "expected an ITK transform"),
    ("a.safetensors", head(student=3), read_head, WeightsError, "a card without student"),
    ("a.safetensors", head(layers=[3]), read_head, WeightsError, "a card without names of layers"),
    ("a.safetensors", head(student="a.safetensors"), read_head, WeightsError, "that is a file"),
    ("a.safetensors", b"\xff" * 8 + b"{", read_bundle, BundleError, "expected a safetensors file"),
    ("a.npy", b"\x93NUMPY\x01\0\x02\0{(", read_array, DataError, "cannot be read as .npy"),
]


# Tests are named by number: workers must agree on names, whose own would be the whole contents.
@pytest.mark.parametrize(
    ("name", "content", "read", "error", "said"), FOUND, ids=map(str, range(len(FOUND)))
)
def test_what_was_found_is_one_clear_error(
    name: str,
    content: bytes,
    read: Callable[[Path], object],
    error: type[ImgToFmriError],
    said: str,
    tmp_path: Path,
) -> None:
    """The reader's own error, which names the file."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=said):
        read(tmp_path / name)


def test_image_headers_that_cannot_be_are_one_clear_error(tmp_path: Path) -> None:
    """Units that there are not; and whole numbers of which none is above a threshold."""
    image = nib.Nifti1Image(np.ones((3, 3, 3), np.int16), np.eye(4))
    nib.save(image, tmp_path / "a.nii")
    with pytest.raises(DataError, match=r"a.nii .* with voxels above 2; got at most 1"):
        read_mask(tmp_path / "a.nii", threshold=2)
    header = bytearray((tmp_path / "a.nii").read_bytes())
    header[123] = 64
    (tmp_path / "a.nii").write_bytes(header)
    with pytest.raises(DataError, match=r"a.nii must have units .*; got xyzt_units 64\. Mend"):
        read_mask(tmp_path / "a.nii")


@pytest.mark.parametrize("changed", [{"prediction": {"encoder": "x"}}, {"failures": [["name"]]}])
def test_records_without_what_a_page_says_are_one_clear_error(
    changed: dict[str, object], tmp_path: Path
) -> None:
    """A record of the right fields may hold anything in them."""
    record: dict[str, object] = {"RecordVersion": RECORD_VERSION, "command": "contrast"}
    record |= {"state": "complete", "GeneratedBy": [{"Version": "1"}], "started": "", "written": ""}
    record |= {name: {} for name in ("settings", "prediction", "controls", "versions")}
    record |= {name: [] for name in ("inputs", "outputs", "failures", "measured")}
    (tmp_path / "contrast.json").write_text(json.dumps(record | changed))
    with pytest.raises(DataError, match=r"contrast\.json: expected all that a page says of a run"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_paths_that_no_file_can_have_are_missing(tmp_path: Path) -> None:
    """A name of 400 letters is no name, and no reason for another error."""
    for suffix, read in ((".npy", read_array), (".nii", read_mask), (".npz", read_patterns)):
        with pytest.raises(DataError, match="no file|no such file|cannot be read"):
            read(tmp_path / f"{LONG}{suffix}")
    with pytest.raises(BundleError, match="found nothing there"):
        read_bundle(tmp_path / f"{LONG}.safetensors")
    with pytest.raises(WeightsError, match="got no file"):
        load_backbone(tmp_path / f"{LONG}.onnx")


def test_results_of_names_that_no_file_can_have_are_not_done(tmp_path: Path) -> None:
    """A record may name anything: what cannot be there is to be done again."""
    digest = "0" * 64
    with OutputFolder(tmp_path / "out", "predict").begin({}) as folder:
        folder.add("a.jpg", digest, {f"{LONG}.nii.gz": digest})
        assert not folder.is_done("a.jpg", digest)
        assert not folder.keep(f"{LONG}.tsv")


def test_numbers_of_any_length_are_read_or_refused() -> None:
    """Python makes no number of a text of more than 4300 digits."""
    with pytest.raises(OptionError, match="weights must be 'untrained'"):
        parse_weights(f"untrained:{LONGER}")
    assert parse_layer(f"layer3/flatten:{LONGER}").name == f"layer3/flatten:{LONGER}"
    assert NetworkName.parse(LONGER).kind == "other"
    assert agree({"run": f"0{LONGER}"}, {"run": LONGER})
    names = [f"a{LONGER}0", f"a{LONGER}", "a10", "a9", "a09"]
    assert sorted(names, key=natural_key) == ["a09", "a9", "a10", f"a{LONGER}", f"a{LONGER}0"]


@pytest.mark.slow
def test_a_little_fuzz(tmp_path: Path) -> None:
    """Some damaged files for each reader: nothing is found."""
    command = [sys.executable, str(FUZZ), "--inputs", "2000", "--kept", str(tmp_path / "kept")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tried = json.loads((tmp_path / "kept" / "report.json").read_text(encoding="utf-8"))
    assert sum(tally["tried"] for tally in tried.values()) >= 1900
