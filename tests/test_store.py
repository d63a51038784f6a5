"""A run's store: what other software reads of it, and what of it counts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray
import zarr

from imgtofmri.exceptions import DataError, OptionError, OutputError, ShapeError
from imgtofmri.outputs.store import Constant, Lost, Store
from imgtofmri.outputs.store_plan import Roster, StorePlan, rows_in_shards
from imgtofmri.outputs.store_writer import RowWriter
from imgtofmri.outputs.zarr_format import crc32c, read_text_chunk, text_chunk

LargestFile = Callable[[int], AbstractContextManager[None]]

PEOPLE, ROIS, N, VOXELS = ("CSI1", "CSI2"), ("LOC", "PPA"), 150, 40
MASK = Constant(np.arange(64).reshape(4, 4, 4) % 2 == 0, ("x", "y", "z"))
CONSTANTS = {"mask": MASK, "roi": Constant(ROIS, ("roi",))}
PLAN = StorePlan(N, VOXELS, PEOPLE, ROIS, subject_maps=True, onsets=True, unit="z")
ROSTER = Roster([f"naïve {number}.jpg" for number in range(N)])


def create(path: Path, plan: StorePlan = PLAN, roster: Roster = ROSTER, **more: Any) -> Store:
    """Make a store, or join the one that is there."""
    settings = {"settings": {"format": "zarr"}, "prediction": {"average": "zscore"}} | more
    return Store.create(path, plan, roster, CONSTANTS, **settings)


def rows_of(plan: StorePlan, rows: range) -> dict[str, np.ndarray]:
    """Return values of some rows that depend on their numbers alone."""
    found = {}
    for name, layout in plan.row_arrays().items():
        axis = layout.dims.index("stimulus")
        parts = []
        for row in rows:
            rng = np.random.default_rng([row, len(name)])
            shape = (*layout.shape[:axis], *layout.shape[axis + 1 :])
            one = rng.normal(size=shape) if layout.dtype != "uint8" else rng.integers(0, 9, shape)
            parts.append(np.asarray(one))
        wide = layout.dtype.replace("float16", "float32")
        found[name] = np.stack(parts, axis).astype(wide)
    return found


def fill(store: Store, rows: range | None = None, step: int = 7) -> None:
    """Write rows in parts that know nothing of shards."""
    rows = range(store.plan.n_rows) if rows is None else rows
    with RowWriter(store, rows) as writer:
        for first in range(rows.start, rows.stop, step):
            writer.add(rows_of(store.plan, range(first, min(first + step, rows.stop))))


def files(path: Path) -> dict[str, bytes]:
    """Return all files below a folder."""
    found = (file for file in sorted(path.rglob("*")) if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in found}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Return a whole store."""
    made = create(tmp_path / "a.zarr")
    fill(made)
    return made


def test_zarr_reads_what_was_written(store: Store) -> None:
    """The reference implementation finds each value, the index' checksum included."""
    group = zarr.open_group(str(store.path), mode="r")
    expected = rows_of(PLAN, range(N))
    assert set(group.array_keys()) == {*expected, *CONSTANTS, "stimulus", "path", "movie", "done"}
    for name, values in expected.items():
        np.testing.assert_array_equal(group[name][:], values)
    assert list(group["stimulus"][:]) == list(ROSTER.names)
    np.testing.assert_array_equal(group["mask"][:], MASK.values)
    assert list(group["roi"][:]) == list(ROIS)
    assert group["group"].shards == (64, VOXELS)
    assert group["group"].chunks == (16, VOXELS)


def test_zarr_writes_the_same_files(store: Store, tmp_path: Path) -> None:
    """A file is to the byte what the reference implementation makes of the same values."""
    own = zarr.open_group(str(store.path), mode="r")
    other = zarr.open_group(str(tmp_path / "other.zarr"), mode="w")
    for name in ("group", "subjects", "rois", "digest", "onset", "mask", "stimulus"):
        folder = tmp_path / "other.zarr" / name
        folder.mkdir()
        shutil.copy(store.path / name / "zarr.json", folder)
        with zarr.config.set({"array.write_empty_chunks": True}):
            other[name][...] = own[name][...]
        written = {file: data for file, data in files(folder).items() if file != "zarr.json"}
        ours = {file: (store.path / name / file).read_bytes() for file in written}
        assert written == ours != {}, name


def test_xarray_opens_it_by_names_of_dimensions(store: Store) -> None:
    """A map is found by its stimulus' name, a mean by person, hemisphere and ROI."""
    found = xarray.open_zarr(store.path)
    assert found.sizes["stimulus"] == N
    assert found.group.dims == ("stimulus", "voxel")
    assert found.group.attrs["units"] == "z"
    expected = rows_of(PLAN, range(N))
    one = found.sel(stimulus="naïve 9.jpg")
    np.testing.assert_array_equal(one.group.values, expected["group"][9])
    np.testing.assert_array_equal(one.subjects.values, expected["subjects"][:, 9])
    np.testing.assert_array_equal(found.rois.sel(roi="PPA").values, expected["rois"][..., 1])
    assert found.digest.dtype == np.uint8
    assert found.attrs["prediction"] == {"average": "zscore"}


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_workers_of_any_number_and_order_make_the_same_store(
    n: int, store: Store, tmp_path: Path
) -> None:
    """Each shard is one worker's, and no byte tells which."""
    shares = [PLAN.share(i, n).rows for i in range(1, n + 1)]
    assert [row for rows in shares for row in rows] == list(range(N))
    for i in reversed(range(n)):
        other = create(tmp_path / "b.zarr")
        fill(other, shares[i], step=11 + i)
    assert files(tmp_path / "b.zarr") == files(store.path)
    assert not list(other.unfinished())


def test_reading_finds_rows_in_any_order(store: Store) -> None:
    """Rows come from the shards in which they lie, persons from files of their own."""
    rows = [149, 3, 4, 5, 63, 64, 65, 2]
    streams = {(stream.array, *stream.place): stream for stream in PLAN.streams()}
    expected = rows_of(PLAN, range(N))
    np.testing.assert_array_equal(store.read(streams["group",], rows), expected["group"][rows])
    np.testing.assert_array_equal(
        store.read(streams["subjects", 1], rows), expected["subjects"][1, rows]
    )
    assert store.read(streams["onset",], []).shape == (0,)
    opened = Store.open(store.path)
    assert list(opened.names) == list(ROSTER.names)
    np.testing.assert_array_equal(opened.constant("mask"), MASK.values)
    assert opened.constant("roi") == ROIS
    assert opened.constant("nothing") is None


def test_interrupted_shard_leaves_nothing(tmp_path: Path) -> None:
    """What is not whole when writing ends is not there, and what is counts."""
    store = create(tmp_path / "a.zarr")
    before = files(store.path)
    with pytest.raises(KeyboardInterrupt), RowWriter(store, range(64)) as writer:
        writer.add(rows_of(PLAN, range(60)))
        raise KeyboardInterrupt
    assert files(store.path) == before
    with RowWriter(store, range(N)) as writer:
        writer.add(rows_of(PLAN, range(70)))
    assert list(store.unfinished()) == [1, 2]


_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_store as t
from imgtofmri import files
store = t.create(Path(sys.argv[1]))
steps = int(sys.argv[2])
replace = os.replace
def killing(*paths):
    global steps
    steps -= 1
    if steps < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)
os.replace = killing
t.fill(store)
"""


@pytest.mark.slow
@pytest.mark.parametrize("steps", [0, 1, 4, 6, 7, 9, 20])
def test_killed_writer_leaves_no_half_shard_that_counts(
    steps: int, store: Store, tmp_path: Path
) -> None:
    """Wherever a process is killed, what counts is whole, and going on ends in the same bytes."""
    path = tmp_path / "b.zarr"
    code = _KILLED.format(tests=str(Path(__file__).parent))
    ended = subprocess.run([sys.executable, "-c", code, str(path), str(steps)])
    assert ended.returncode == -9
    other = create(path)
    left = list(other.unfinished())
    done = [shard for shard in range(PLAN.n_shards) if shard not in left]
    assert left
    assert not [problem for shard in done if (problem := other.verify(shard))]
    other.sweep()
    for shard in left:
        fill(other, PLAN.shard(shard))
    assert files(path) == files(store.path)


def test_making_a_shard_again_unmarks_it_first(store: Store, monkeypatch: Any) -> None:
    """While files of two makings lie side by side no mark speaks for them."""
    seen = []
    replace = os.replace
    mark = store.path / "done" / "c.0"

    def watched(source: str, target: Path) -> None:
        seen.append((Path(target).name, mark.exists()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", watched)
    fill(store, PLAN.shard(0))
    assert [there for _, there in seen] == [False] * len(seen)
    assert seen[-1][0] == "c.0"
    assert store.verify(0) == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prediction": {"average": "mean"}}, "average was 'zscore' and is now 'mean'"),
        ({"settings": {"format": "zarr", "x": 1}}, "x was None and is now 1"),
        ({"plan": StorePlan(N, VOXELS, PEOPLE, ROIS, unit="z")}, "subject_maps was True"),
        ({"plan": StorePlan(N, VOXELS, PEOPLE, ("LOC",), unit="z")}, "rois was"),
        (
            {"roster": Roster([*ROSTER.names[1:], "other.jpg"])},
            "expected a store of these 150 stimuli; it holds 150, and not the same",
        ),
    ],
)
def test_store_of_other_settings_is_refused_with_what_differs(
    change: dict[str, Any], said: str, store: Store
) -> None:
    """One error names the setting, and nothing that was there changes."""
    before = files(store.path)
    with pytest.raises(OptionError, match=said):
        create(store.path, **change)
    assert files(store.path) == before


def test_store_of_another_mask_is_refused(store: Store) -> None:
    """Maps of other voxels never get into one store, be they as many."""
    changed = CONSTANTS | {"mask": Constant(~np.asarray(MASK.values), MASK.dims)}
    with pytest.raises(OptionError, match="the encoder's mask, or another array of it, is not"):
        Store.create(store.path, PLAN, ROSTER, changed, {"format": "zarr"}, {"average": "zscore"})


def test_folder_of_others_is_refused(tmp_path: Path) -> None:
    """A folder that holds anything else is left alone."""
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "notes.txt").write_text("mine", "utf-8")
    with pytest.raises(
        OptionError, match=r"a\.zarr: expected a store, or no folder.*holds notes\.txt"
    ):
        create(tmp_path / "a.zarr")
    assert files(tmp_path / "a.zarr") == {"notes.txt": b"mine"}


def test_store_grows_by_further_stimuli(store: Store, tmp_path: Path) -> None:
    """Stimuli are added behind the others if asked for; whole shards stay as they are."""
    names = [*ROSTER.names, *(f"new{number}.jpg" for number in range(60))]
    plan = StorePlan(210, VOXELS, PEOPLE, ROIS, subject_maps=True, onsets=True, unit="z")
    with pytest.raises(OptionError, match="it holds the first 150. Use `resume` to add"):
        create(store.path, plan, Roster(names))
    grown = create(store.path, plan, Roster(names), grow=True)
    assert list(grown.unfinished()) == [2, 3]
    fill(grown, range(128, 210))
    whole = create(tmp_path / "b.zarr", plan, Roster(names))
    fill(whole)
    assert files(grown.path) == files(whole.path)
    assert len(xarray.open_zarr(grown.path).stimulus) == 210


@pytest.mark.parametrize(
    "gone", ["zarr.json", "group/zarr.json", "group", "group/c.1.0", "stimulus/c.0", "mask", "done"]
)
def test_half_deleted_store_is_made_whole_again(gone: str, store: Store) -> None:
    """Reading says what is missing; the run that goes on ends in the same bytes."""
    before = files(store.path)
    path = store.path / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    again = create(store.path)
    left = list(again.unfinished())
    assert left == {"group": [0, 1, 2], "done": [0, 1, 2], "group/c.1.0": [1]}.get(gone, [])
    for shard in left:
        fill(again, PLAN.shard(shard))
    assert files(store.path) == before


def test_reading_what_is_not_there_says_so(store: Store) -> None:
    """One error names the file and what to do."""
    stream = next(iter(PLAN.streams()))
    (store.path / "group" / "c.1.0").unlink()
    with pytest.raises(
        DataError, match=r"expected group/c\.1\.0; it is not there\. Resume the run"
    ):
        store.read(stream, range(60, 70))
    os.truncate(store.path / "group" / "c.0.0", 1000)
    with pytest.raises(DataError, match=r"group/c\.0\.0 to be whole; it has 1000 bytes, not"):
        store.read(stream, range(1))
    (store.path / "stimulus" / "c.0").unlink()
    with pytest.raises(DataError, match=r"expected stimulus/c\.0; it is not there"):
        _ = Store.open(store.path).names
    (store.path / "zarr.json").unlink()
    with pytest.raises(DataError, match=r"there is no zarr\.json in it"):
        Store.open(store.path)


def test_verify_finds_what_changed(store: Store) -> None:
    """A byte that is not what was written is found, and a mark of other stimuli does not count."""
    assert [store.verify(shard) for shard in range(3)] == ["", "", ""]
    path = store.path / "subjects" / "c.1.2.0"
    data = bytearray(path.read_bytes())
    data[5] ^= 1
    path.write_bytes(data)
    assert store.is_done(2)
    assert store.verify(2) == "subjects/c.1.2.0 is not what was written"
    shutil.copy(store.path / "done" / "c.0", store.path / "done" / "c.1")
    assert "done/c.1 is missing, or is of other settings" in store.verify(1)


def test_names_are_read_once_for_the_shards_that_share_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Marks of all shards cost one reading of a file of names, and another when it has changed."""
    read: list[int] = []

    def counted(data: bytes) -> list[str]:
        found = read_text_chunk(data)
        read.extend([len(found)] if len(found) > 1 else [])
        return found

    monkeypatch.setattr("imgtofmri.outputs.store.read_text_chunk", counted)
    opened = Store.open(store.path)
    read.clear()
    assert opened.lost(range(3)) == {}
    assert opened.rounding() == {}
    assert len(read) == 1
    names = store.path / "stimulus" / "c.0"
    names.write_bytes(names.read_bytes().replace(b" 7.jpg", b" 8.jpg"))
    assert opened.mark(0) is None
    assert len(read) == 2
    names.unlink()
    with pytest.raises(DataError, match=r"expected stimulus/c\.0; it is not there"):
        opened.mark(0)


def test_lost_stimuli_are_empty_rows_with_reasons(tmp_path: Path) -> None:
    """Who could not be used has NaN for maps, and the mark says why."""
    store = create(tmp_path / "a.zarr")
    with RowWriter(store, range(N)) as writer:
        writer.add(rows_of(PLAN, range(10)))
        writer.lose(Lost("naïve 10.jpg", "it is no picture", "ab"))
        for _ in range(100):
            writer.lose(Lost("film.mp4", "it ends"))
        writer.add(rows_of(PLAN, range(111, N)))
    found = zarr.open_group(str(store.path), mode="r")
    expected = rows_of(PLAN, range(N))
    for name in ("group", "onset"):
        assert np.isnan(found[name][10:111]).all()
        np.testing.assert_array_equal(found[name][111:], expected[name][111:])
    assert not found["digest"][10:111].any()
    film = Lost("film.mp4", "it ends")
    lost = [getattr(store.mark(shard), "lost", None) for shard in range(3)]
    assert lost == [(Lost("naïve 10.jpg", "it is no picture", "ab"), film), (film,), ()]


def test_float16_halves_maps_and_records_its_error(tmp_path: Path) -> None:
    """The error is that of the nearest number of half precision, found independently."""
    plan = StorePlan(N, VOXELS, PEOPLE, ROIS, dtype="float16")
    store = create(tmp_path / "a.zarr", plan)
    fill(store)
    exact = rows_of(plan, range(N))["group"]
    stored = zarr.open_group(str(store.path), mode="r")["group"][:]
    assert stored.dtype == np.float16
    np.testing.assert_array_equal(stored, exact.astype(np.float16))
    error = np.abs(stored.astype(float) - exact)
    normal = np.abs(exact) >= 2.0**-14
    marks = [store.mark(shard) for shard in range(plan.n_shards)]
    pairs = [mark.rounding["group"] for mark in marks if mark and mark.rounding]
    assert max(pair[0] for pair in pairs) == error.max()
    assert max(pair[1] for pair in pairs) == (error[normal] / np.abs(exact[normal])).max()


def test_float16_refuses_what_it_cannot_hold(tmp_path: Path) -> None:
    """Infinity in place of a large number would be silence."""
    plan = StorePlan(64, VOXELS, PEOPLE, ROIS, dtype="float16")
    store = create(tmp_path / "a.zarr", plan, Roster(ROSTER.names[:64]))
    values = rows_of(plan, range(64))
    values["group"][3, 3] = 70_000
    with (
        pytest.raises(OptionError, match="float16, which ends at 65504, and a value of 70000"),
        RowWriter(store, range(64)) as writer,
    ):
        writer.add(values)


@pytest.mark.parametrize("n_bytes", [100, 4000, 12_000])
def test_full_disk_is_one_error_and_nothing_is_lost(
    n_bytes: int, store: Store, tmp_path: Path, largest_file: LargestFile
) -> None:
    """What was whole stays, what was not is not there, and going on ends in the same bytes."""
    path = tmp_path / "b.zarr"
    with largest_file(n_bytes), pytest.raises(OutputError, match="Make room"):
        fill(create(path))
    assert not [file for file in files(path) if file.endswith(".part")]
    again = create(path)
    for shard in list(again.unfinished()):
        fill(again, PLAN.shard(shard))
    assert files(path) == files(store.path)


def test_memory_does_not_grow_with_a_shard(tmp_path: Path) -> None:
    """What is written of a shard is not held: it takes a small part of the shard's 25 MB."""
    plan = StorePlan(2048, 1000, PEOPLE, ROIS, subject_maps=True, shard_rows=2048)
    store = create(tmp_path / "a.zarr", plan, Roster([str(number) for number in range(2048)]))
    values = rows_of(plan, range(16))
    assert plan.shard_bytes(0) > 24e6
    tracemalloc.start()
    try:
        with RowWriter(store, range(2048)) as writer:
            for _ in range(128):
                writer.add(values)
        assert tracemalloc.get_traced_memory()[1] < 2e6
    finally:
        tracemalloc.stop()
    assert store.verify(0) == ""


def test_rows_that_are_not_whole_shards_are_refused(store: Store) -> None:
    """A shard that two workers wrote would be the last one's."""
    for rows in (range(0, 60), range(10, 64), range(0, N, 2)):
        with pytest.raises(OptionError, match="rows must be those of whole shards of 64"):
            RowWriter(store, rows)
    with RowWriter(store, range(64)) as writer, pytest.raises(ShapeError, match="up to 64; got 65"):
        writer.add(rows_of(PLAN, range(65)))
    values = rows_of(PLAN, range(4))
    del values["subjects"]
    with (
        RowWriter(store, range(64)) as writer,
        pytest.raises(ShapeError, match=r"subjects must have the shape \(2, 4, 40\); got none"),
    ):
        writer.add(values)


def test_shares_are_whole_shards_and_even() -> None:
    """Every shard is one worker's, and none has more than one more than another."""
    plan = StorePlan(200_000, VOXELS, PEOPLE, ROIS)
    for n in (1, 3, 8, 1000):
        shares = [plan.share(i, n) for i in range(1, n + 1)]
        assert [shard for share in shares for shard in share.shards] == list(range(plan.n_shards))
        assert [row for share in shares for row in share.rows] == list(range(200_000))
        sizes = [len(share.shards) for share in shares]
        assert max(sizes) - min(sizes) <= 1
    for i, n in ((0, 3), (4, 3), (1, 0)):
        with pytest.raises(OptionError, match=rf"shard must be 1/{n} to {n}/{n}; got {i}/{n}"):
            plan.share(i, n)


def test_shards_grow_with_the_store() -> None:
    """A small store has small shards, so that many workers can share it."""
    sizes = [rows_in_shards(n) for n in (1, 65_536, 65_537, 4_194_304, 10**9)]
    assert sizes == [64, 64, 128, 4096, 4096]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"dtype": "int8"}, "dtype must be one of float32, float16"),
        ({"maps": ("../x",)}, "maps must be one of group, lower, upper"),
        ({"shard_rows": 40}, "shard_rows must be a multiple of 16; got 40"),
        ({"n_rows": 0}, "a store must have one row or more; got 0"),
    ],
)
def test_plan_that_makes_no_sense_is_refused(change: dict[str, Any], error: str) -> None:
    """Before anything is written."""
    said = {"n_rows": N, "n_voxels": VOXELS, "people": PEOPLE, "rois": ROIS} | change
    with pytest.raises(OptionError, match=error):
        StorePlan(**said)


def test_crc_is_that_of_the_standard() -> None:
    """Test vectors of RFC 3720, appendix B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: b"\xff\xff\xff\xff" + data[4:],
        lambda data: data[:4] + b"\xff\xff\xff\xff" + data[8:],
        lambda data: data[:3],
    ],
)
def test_damaged_texts_are_an_error(damage: Callable[[bytes], bytes]) -> None:
    """Whatever lengths a file of texts claims."""
    data = text_chunk(["a", "ü"], 4)
    assert read_text_chunk(data) == ["a", "ü", "", ""]
    with pytest.raises(ValueError, match="it|text|something"):
        read_text_chunk(damage(data))
