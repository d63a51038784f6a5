"""PyTorch checkpoints read without PyTorch.

``state_dict_zip.pth`` and ``state_dict_legacy.pth`` were written by PyTorch 2.13 from the tensors
that `expected` spells out.
"""

from __future__ import annotations

import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imgtofmri.backbones.torch_format import LEGACY_MAGIC, read_torch
from imgtofmri.exceptions import WeightsError

DATA = Path(__file__).parent / "data"
FILES = ("state_dict_zip.pth", "state_dict_legacy.pth")


def expected() -> dict[str, np.ndarray[Any, Any]]:
    """Return what the fixtures hold."""
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    return {
        "plain": base,
        "transposed": base.transpose(2, 0, 1),
        "slice": base[1, 1:, ::2],
        "half": np.arange(5, dtype=np.float16) / np.float16(4),
        "count": np.array(7, np.int64),
        "parameter": np.array([1.5, -2.5], np.float32),
        "empty": np.zeros((0, 3), np.float32),
        "flags": np.array([True, False]),
    }


@pytest.mark.parametrize("name", FILES)
def test_read_torch_file_of_torch_gives_its_tensors(name: str) -> None:
    """Views, shared storages, half precision, scalars and parameters come out as saved."""
    got = read_torch(DATA / name)
    assert list(got) == list(expected())
    for key, value in expected().items():
        assert got[key].dtype == value.dtype
        np.testing.assert_array_equal(got[key], value)


@pytest.mark.torch
@pytest.mark.parametrize("zipped", [True, False])
def test_read_torch_equals_what_pytorch_saved(torch: Any, zipped: bool, tmp_path: Path) -> None:
    """A module's state, of several types, with views, is read as PyTorch itself reads it."""
    torch.manual_seed(2)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    state = net.state_dict()
    shared = torch.arange(24).reshape(4, 6)
    state["view"], state["other"] = shared.T[1:4], shared[2]
    state["half"], state["flags"] = torch.randn(5).half(), torch.tensor([True, False])
    state["parameter"] = torch.nn.Parameter(torch.randn(2, 2).double())
    path = tmp_path / "state.pth"
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    want = torch.load(path, weights_only=True)
    got = read_torch(path)
    assert list(got) == list(want)
    for name, tensor in want.items():
        expected = tensor.detach().numpy()
        assert got[name].dtype == expected.dtype
        np.testing.assert_array_equal(got[name], expected)


@pytest.mark.parametrize("name", FILES)
def test_read_torch_truncated_anywhere_is_one_clear_error(name: str, tmp_path: Path) -> None:
    """Cut at any length, a checkpoint gives an error that names the file."""
    whole = (DATA / name).read_bytes()
    cut = tmp_path / "cut.pth"
    for length in range(4, len(whole), 37):
        cut.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"cut\.pth: expected"):
            read_torch(cut)


def write_zip(path: Path, pickled: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """Write an archive of a checkpoint's layout with one storage of four floats."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("m/data.pkl", pickled)
        archive.writestr("m/data/0", np.arange(4, dtype="<f4").tobytes())
    return path


def tensor_pickle(shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> bytes:
    """Assemble, opcode by opcode, a state dict of one tensor ``w`` on storage 0."""

    def number(value: int) -> bytes:
        return b"\x8a\x09" + value.to_bytes(9, "little", signed=True)

    def numbers(values: tuple[int, ...]) -> bytes:
        return b"(" + b"".join(map(number, values)) + b"t"

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    storage = (
        b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number(4)
    )
    return (
        b"\x80\x02}"
        + text("w")
        + b"ctorch._utils\n_rebuild_tensor_v2\n("
        + storage
        + b"tQ"
        + number(offset)
        + numbers(shape)
        + numbers(strides)
        + b"\x89ccollections\nOrderedDict\n)RtRs."
    )


def test_read_torch_assembled_pickle_is_what_the_hostile_ones_vary(tmp_path: Path) -> None:
    """The hand-made checkpoint of these tests is a valid one as long as its numbers are."""
    path = write_zip(tmp_path / "m.pth", tensor_pickle((2, 2), (1, 2)))
    np.testing.assert_array_equal(read_torch(path)["w"], [[0, 2], [1, 3]])


@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((5,), (1,), 0),
        ((4,), (1,), 1),
        ((2,), (4,), 0),
        ((10**6, 10**6), (0, 0), 0),
        ((2, 2), (1,), 0),
        ((2,), (-1,), 3),
        ((-2,), (1,), 0),
        ((2**62, 4), (1, 1), 0),
    ],
)
def test_read_torch_view_beyond_its_storage_is_refused(
    shape: tuple[int, ...], strides: tuple[int, ...], offset: int, tmp_path: Path
) -> None:
    """A tensor that would read memory outside its storage, or multiply it, is refused."""
    path = write_zip(tmp_path / "m.pth", tensor_pickle(shape, strides, offset))
    with pytest.raises(WeightsError, match=r"m\.pth: expected a whole .*(storage|shape|negative)"):
        read_torch(path)


def test_read_torch_state_for_a_tensor_is_refused(tmp_path: Path) -> None:
    """No state of a pickle's making gets past the checks of a tensor's offset and strides."""
    pickled = tensor_pickle((2, 2), (1, 2))
    assert pickled.endswith(b")RtRs.")
    for state in (b"(K\x00J\xff\xff\xff\xff))t", b"}X\x06\x00\x00\x00offsetJ\xff\xff\xff\xffs"):
        path = write_zip(tmp_path / "m.pth", pickled[:-2] + state + b"bs.")
        with pytest.raises(WeightsError, match="damaged"):
            read_torch(path)


def test_read_torch_state_of_a_state_dict_is_dropped(tmp_path: Path) -> None:
    """A module's state dict carries its versions as a state, which changes no tensor."""
    state = b"}X\x09\x00\x00\x00_metadata}s"
    pickled = tensor_pickle((2, 2), (1, 2)).replace(b"}", b"ccollections\nOrderedDict\n)R", 1)
    path = write_zip(tmp_path / "m.pth", pickled[:-1] + state + b"b.")
    np.testing.assert_array_equal(read_torch(path)["w"], [[0, 2], [1, 3]])


class Calls:
    """An object whose pickle runs a command when Python's own reader loads it."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch MARKER",)


def test_read_torch_hostile_zip_is_refused_and_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint whose pickle would run a command is refused by the command's name."""
    monkeypatch.chdir(tmp_path)
    path = write_zip(tmp_path / "m.pth", pickle.dumps({"w": Calls()}, protocol=2))
    with pytest.raises(WeightsError, match=r"global '(posix|nt)\.system'.*nothing of it was exec"):
        read_torch(path)
    assert not (tmp_path / "MARKER").exists()


def test_read_torch_hostile_legacy_is_refused_and_not_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same in the older format, in each of the pickles that it consists of."""
    monkeypatch.chdir(tmp_path)
    honest = [LEGACY_MAGIC, 1001, {"little_endian": True}, {}, []]
    for place in range(len(honest)):
        parts = [pickle.dumps(part, protocol=2) for part in honest]
        parts[place] = pickle.dumps(Calls(), protocol=2)
        path = tmp_path / "m.pth"
        path.write_bytes(b"".join(parts))
        with pytest.raises(WeightsError, match="system"):
            read_torch(path)
    assert not (tmp_path / "MARKER").exists()


def test_read_torch_compressed_member_is_refused(tmp_path: Path) -> None:
    """A compressed archive, which torch never writes and which could be a bomb, is refused."""
    path = write_zip(tmp_path / "m.pth", tensor_pickle((4,), (1,)), zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="is compressed"):
        read_torch(path)


def test_read_torch_other_zip_says_what_it_is(tmp_path: Path) -> None:
    """A zip archive that is no checkpoint, such as a wheel, is named as one."""
    path = tmp_path / "some.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("package/__init__.py", "")
    with pytest.raises(WeightsError, match=r"some\.whl: .*a zip archive of 1 other files"):
        read_torch(path)


def test_read_torch_other_pickle_says_what_it_is(tmp_path: Path) -> None:
    """A plain pickle is told apart from a checkpoint of the older format."""
    path = tmp_path / "model.pkl"
    path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in (1, 2, 3)))
    with pytest.raises(WeightsError, match=r"model\.pkl: .*a pickle of something else"):
        read_torch(path)


def test_read_torch_state_dict_inside_another_dict_says_what_to_save(tmp_path: Path) -> None:
    """A checkpoint with more than a state dict is refused with advice."""
    path = write_zip(tmp_path / "m.pth", pickle.dumps({"epoch": 3}, protocol=2))
    with pytest.raises(WeightsError, match=r"Save module\.state_dict\(\) alone"):
        read_torch(path)
