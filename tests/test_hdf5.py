"""HDF5 files give what they hold, and nothing that lies elsewhere."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from imgtofmri.exceptions import DataError
from imgtofmri.hdf5 import open_hdf5, values
from imgtofmri.measured import read_array
from imgtofmri.spaces.itk import read_itk


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """Return a file of somebody else's."""
    path = tmp_path / "secret"
    path.write_bytes(np.arange(4.0).tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = np.arange(4.0)
    return path


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("storage", r"got values in '.*secret', which is not opened"),
        ("link", r"got a link to 'other\.h5', which is not opened"),
        ("group", r"got a link to 'other\.h5', which is not opened"),
        ("soft", r"got a link to '/b', which is not opened"),
        ("virtual", r"got a virtual data set, of values in other files, which is not opened"),
    ],
)
def test_values_of_other_files_are_refused(
    kind: str, said: str, secret: Path, tmp_path: Path
) -> None:
    """External storage, links, virtual data sets: by name, with what to do."""
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        if kind == "storage":
            file.create_dataset("a", (4,), "f8", external=[(str(secret), 0, 32)])
        elif kind == "link":
            file["a"] = h5py.ExternalLink("other.h5", "/a")
        elif kind == "group":
            file["a"] = h5py.ExternalLink("other.h5", "/")
        elif kind == "soft":
            file["b"] = h5py.ExternalLink("other.h5", "/a")
            file["a"] = h5py.SoftLink("/b")
        else:
            layout = h5py.VirtualLayout(shape=(4,), dtype="f8")
            layout[:] = h5py.VirtualSource("other.h5", "a", shape=(4,))
            file.create_virtual_dataset("a", layout)
    name = "a/a" if kind == "group" else "a"
    with open_hdf5(path) as file, pytest.raises(DataError, match=rf"a\.h5: expected .*{said}\."):
        values(file, name)
    for key in (name, None):
        with pytest.raises(DataError, match="which is not opened|none|must be one of"):
            read_array(path, key)


def test_transforms_of_other_files_are_refused(secret: Path, tmp_path: Path) -> None:
    """The group of a composite that leads to another file is not followed."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["TransformGroup"] = h5py.ExternalLink("other.h5", "/")
    with pytest.raises(DataError, match=r"'TransformGroup' to lie in the file itself; got a link"):
        read_itk([tmp_path / "a.h5"])
