"""A store made by several processes: whatever becomes of them, it is that of one undisturbed."""

from __future__ import annotations

import json
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from imgtofmri import Prediction, load_encoder
from imgtofmri.analyses.predict import merge_shards, plan_prediction, predict_into
from imgtofmri.cli import main
from imgtofmri.encoder import Encoder
from imgtofmri.exceptions import DataError, OptionError, OutputError, StimulusError
from imgtofmri.files import sha256_of
from imgtofmri.outputs import FORMATS, store_plan
from imgtofmri.outputs.store import Store
from imgtofmri.processors import THREADS
from imgtofmri.stimuli import read_list

STORE = "predictions.zarr"
SCALE = Path(__file__).parents[1] / "benchmarks" / "scale.py"

posix = pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an encoder whose network is one convolution, both of them files."""
    if not SCALE.exists():
        pytest.skip("needs the source tree")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCALE.parent)
        make: Callable[[Path], Path] = runpy.run_path(str(SCALE))["make_encoder"]
    return make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def encoder(tiny: Path) -> Encoder:
    """Return that encoder, loaded."""
    return load_encoder(tiny)


@pytest.fixture(scope="module")
def listed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the list of 300 pictures, of which some cannot be used, and of a film."""
    folder = tmp_path_factory.mktemp("stimuli")
    rng = np.random.default_rng(3)
    names = []
    for number in range(300):
        path = folder / f"{number:03d}.png"
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
        names.append(path)
    names[70].write_text("no picture")
    names[299].unlink()
    with av.open(str(folder / "film.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(400):
            noise = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode(None))
    names[150:150] = [folder / "film.mp4", folder / "notes.txt"]
    (folder / "list.txt").write_text("\n".join(map(str, names)), "utf-8")
    return folder / "list.txt"


CHOSEN: dict[str, Any] = {"format": "zarr", "rate_hz": 5.0, "subjects": True, "progress": False}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder, listed: Path) -> Path:
    """Return the folder of one undisturbed run."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    summary = predict_into(folder, encoder, read_list(listed), **CHOSEN)
    assert (len(summary.done), len(summary.failures)) == (299, 3)
    return folder


def files(path: Path) -> dict[str, bytes]:
    """Return all files below a folder."""
    found = (file for file in sorted(path.rglob("*")) if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in found}


def check_same(out: Path, whole: Path) -> None:
    """Compare stores byte for byte."""
    left, right = files(out / STORE), files(whole / STORE)
    assert left.keys() == right.keys()
    assert [name for name in left if left[name] != right[name]] == []


def record_of(folder: Path) -> dict[str, Any]:
    """Return a folder's record without what depends on when and by whom it was made."""
    said = json.loads((folder / "predictions.json").read_text("utf-8"))
    return {k: v for k, v in said.items() if k not in ("started", "written", "command_line")}


@pytest.mark.parametrize("n", [1, 3, pytest.param(50, marks=pytest.mark.slow)])
def test_tasks_in_any_order_make_the_store_of_one_run(
    n: int, tmp_path: Path, encoder: Encoder, listed: Path, whole: Path
) -> None:
    """Bit for bit, with failures and films cut in two; some tasks come twice, some have nothing."""
    out = tmp_path / "out"
    order = random.Random(n).sample(range(1, n + 1), n)
    done = 0
    for i in (*order, order[0]):
        summary = predict_into(out, encoder, read_list(listed), shard=(i, n), **CHOSEN)
        done += len([name for name in summary.done if name != "film.mp4"])
    assert done == 298
    summary = merge_shards(out, progress=False)
    assert len(summary.kept) == 299
    assert sorted(Path(failure.name).name for failure in summary.failures) == [
        "070.png",
        "299.png",
        "notes.txt",
    ]
    check_same(out, whole)
    assert record_of(out) == record_of(whole)
    assert len(Prediction.open(out)) == 298 + 200
    assert len(merge_shards(out, progress=False).kept) == 299


@pytest.mark.slow
def test_a_task_joins_what_other_numbers_of_tasks_have_begun(
    tmp_path: Path, encoder: Encoder, listed: Path, whole: Path
) -> None:
    """Three of eight, then all by two: what is done is not done again."""
    out = tmp_path / "out"
    for i in (2, 5, 8):
        predict_into(out, encoder, read_list(listed), shard=f"{i}/8", **CHOSEN)
    for i in (2, 1):
        summary = predict_into(out, encoder, read_list(listed), shard=f"{i}/2", **CHOSEN)
        assert summary.kept
    merge_shards(out, progress=False)
    check_same(out, whole)


@pytest.mark.slow
def test_merge_names_what_is_missing_and_the_command_that_makes_it(
    tmp_path: Path, tiny: Path, listed: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """That command does it, damaged shards included; nothing is written before all is there."""
    out = tmp_path / "out"
    words = ["predict", "--from-file", str(listed), "-o", str(out), "--encoder", str(tiny), "-q"]
    words += ["--format", "zarr", "--rate-hz", "5", "--subjects"]
    for i in (1, 3):
        assert main([*words, "--shard", f"{i}/3"]) in (0, 3)
    capsys.readouterr()
    assert main(["merge", str(out), "-q"]) == 1
    said = capsys.readouterr().err
    assert "expected 8 shards that are done; 3 are not (2 to 4), those of the tasks 2/3" in said
    assert f"merge: imgtofmri {' '.join(words)} --shard 2/3." in said
    assert json.loads((out / "predictions.json").read_text("utf-8"))["state"] == "running"
    assert main(["report", str(out)]) == 1
    command = said.partition("then merge: imgtofmri ")[2].strip().removesuffix(".").split()
    assert main(command) == 3
    file = out / STORE / "subjects" / "c.1.6.0"
    data = bytearray(file.read_bytes())
    data[17] ^= 1
    file.write_bytes(data)
    (out / STORE / "done" / "c.0").unlink()
    capsys.readouterr()
    assert main(["merge", str(out), "-q"]) == 1
    said = capsys.readouterr().err
    assert "2 are not (0, 6), those of the tasks 1/3, 3/3" in said
    # What a record says of tasks decides the advice alone, however wrong it is.
    record = out / "predictions.json"
    text = record.read_text("utf-8")
    odd = json.loads(text) | {"tasks": 10**15, "command_line": 'imgtofmri predict "a'}
    record.write_text(json.dumps(odd), "utf-8")
    assert main(["merge", str(out), "-q"]) == 1
    said = capsys.readouterr().err
    assert "those of the tasks 125000000000000/1000000000000000, 875000000000000/10000000" in said
    assert "merge: predict_into(..., shard='125000000000000/1000000000000000')." in said
    record.write_text(text, "utf-8")
    assert main([*words, "--shard", "1/3"]) == 3
    assert main([*words, "--shard", "3/3"]) == 0
    assert main(["merge", str(out), "-q"]) == 3
    assert "299 stimuli are there and whole, 3 failed" in capsys.readouterr().err
    check_same(out, whole)


@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("group", "expected group/zarr.json, which every task writes; it is not there"),
        ("stimulus", "expected stimulus/c.0; it is not there"),
        ("mask/c.0.0.0", "expected mask/c.0.0.0, which every task writes"),
        ("zarr.json", "there is no zarr.json in it"),
        ("done", "expected done/zarr.json, which every task writes"),
        ("", "there is no zarr.json in it"),
    ],
)
def test_a_store_half_deleted_is_one_error_and_any_task_mends_it(
    lost: str, said: str, tmp_path: Path, encoder: Encoder, listed: Path, whole: Path
) -> None:
    """Whatever is gone, a merge says so, and tasks make it again."""
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    path = out / STORE / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(DataError, match=said):
        merge_shards(out, progress=False)
    for i in (1, 2):
        predict_into(out, encoder, read_list(listed), shard=(i, 2), **CHOSEN)
    merge_shards(out, progress=False)
    check_same(out, whole)


def test_a_store_of_other_settings_or_stimuli_is_refused_and_stays(
    tmp_path: Path, encoder: Encoder, listed: Path, whole: Path
) -> None:
    """One error each, which says what differs; not a byte of the store changes."""
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    before = files(out)
    for change, said in (
        ({"rois": ["LOC"]}, r"rois was \['LOC', 'PPA'\] and is now \['LOC'\]"),
        ({"dtype": "float16"}, "dtype was 'float32' and is now 'float16'"),
        ({"average": "mean"}, "average was 'zscore' and is now 'mean'"),
    ):
        with pytest.raises(OptionError, match=said):
            predict_into(out, encoder, read_list(listed), shard="1/2", **CHOSEN | change)
    shorter = tmp_path / "shorter.txt"
    shorter.write_text("\n".join(listed.read_text("utf-8").splitlines()[:-1]), "utf-8")
    with pytest.raises(OptionError, match="expected a store of these 499 stimuli; it holds 500"):
        predict_into(out, encoder, read_list(shorter), shard="1/2", **CHOSEN)
    (out / "predictions.json").unlink()
    with pytest.raises(OptionError, match=r"expected nothing of this name; there is something"):
        predict_into(out, encoder, read_list(listed), shard="1/2", **CHOSEN)
    del before["predictions.json"]
    assert files(out) == before


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--format", "zarr", "--shard", "auto"], "--shard auto needs the variable of a job array"),
        (["--format", "zarr", "--shard", "9/8"], "--shard must be from 1/8 to 8/8; got 9/8"),
        (["--shard", "1/8"], "--shard needs a store, of which several processes each write"),
        (["--workers", "2"], "--workers needs a store"),
        (["--format", "zarr", "--workers", "0"], "--workers must be 1 or more; got 0"),
        (
            ["--format", "zarr", "--shard", "1/8", "--workers", "2"],
            "--shard says who does the work, and so does --workers; got both",
        ),
        (
            ["--format", "zarr", "--shard", "1/8", "--overwrite"],
            "--shard goes on where other tasks are at work; got --overwrite",
        ),
        (
            ["--format", "zarr", "--scheduler", "tcp://127.0.0.1:9"],
            "--scheduler must be the address of a Dask scheduler that runs",
        ),
    ],
)
def test_bad_usage_is_one_line_that_names_the_option(
    options: list[str],
    said: str,
    tmp_path: Path,
    tiny: Path,
    listed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2, and no map is written."""
    monkeypatch.setattr("imgtofmri.workers.cluster.CONNECT_S", 1)
    for name in ("SLURM_ARRAY_TASK_ID", "PBS_ARRAY_INDEX", "SGE_TASK_ID"):
        monkeypatch.delenv(name, raising=False)
    words = ["predict", "--from-file", str(listed), "-o", str(tmp_path / "out"), "-q"]
    assert main([*words, "--encoder", str(tiny), *options]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "note:" not in line]
    assert len(lines) == 1
    assert said in lines[0]
    assert not list((tmp_path / "out").rglob("c.0.0"))


def test_a_job_array_is_told_by_its_variables(
    tmp_path: Path, encoder: Encoder, listed: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slurm's numbers may begin anywhere."""
    monkeypatch.setenv("SLURM_ARRAY_TASK_COUNT", "2")
    monkeypatch.setenv("SLURM_ARRAY_TASK_MIN", "0")
    for number in ("1", "0"):
        monkeypatch.setenv("SLURM_ARRAY_TASK_ID", number)
        predict_into(tmp_path / "out", encoder, read_list(listed), shard="auto", **CHOSEN)
    merge_shards(tmp_path / "out", progress=False)
    check_same(tmp_path / "out", whole)


def test_a_task_on_a_full_disk_is_one_error_and_nothing_is_lost(
    tmp_path: Path, encoder: Encoder, listed: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room is looked for before work is done, for what this task has still to write."""
    out = tmp_path / "out"
    predict_into(out, encoder, read_list(listed), shard="1/2", **CHOSEN)
    before = files(out)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match="there is room for 1000. Make room"):
        predict_into(out, encoder, read_list(listed), shard="2/2", **CHOSEN)
    # What is done needs no room.
    predict_into(out, encoder, read_list(listed), shard="1/2", **CHOSEN)
    assert files(out) == before
    monkeypatch.undo()
    predict_into(out, encoder, read_list(listed), shard="2/2", **CHOSEN)
    merge_shards(out, progress=False)
    check_same(out, whole)


_FILLED = """
import resource, sys
from imgtofmri.cli import main
sys.dont_write_bytecode = True  # Python would keep half of what it compiles.
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
sys.exit(main(sys.argv[1:]))
"""


def words_of(out: Path, tiny: Path, listed: Path) -> list[str]:
    """Return the command of the undisturbed run, to another folder."""
    words = ["predict", "--from-file", str(listed), "-o", str(out), "--encoder", str(tiny), "-q"]
    return [*words, "--format", "zarr", "--rate-hz", "5", "--subjects"]


@pytest.mark.slow
@posix
def test_a_disk_that_fills_up_in_the_middle_is_one_error(
    tmp_path: Path, tiny: Path, listed: Path, whole: Path
) -> None:
    """Files can be no longer than they may: the task ends, leaves nothing, and can be repeated."""
    out = tmp_path / "out"
    words = [*words_of(out, tiny, listed), "--shard", "1/1"]
    ended = subprocess.run([sys.executable, "-c", _FILLED, *words], capture_output=True, text=True)
    lines = [line for line in ended.stderr.splitlines() if "note:" not in line]
    assert ended.returncode == 1
    assert len(lines) == 1
    assert "cannot write" in lines[0]
    assert "Make room or choose another folder." in lines[0]
    assert not [path for path in out.rglob("*") if path.name.startswith(".imgtofmri-")]
    assert main(words) == 3
    assert main(["merge", str(out), "-q"]) == 3
    check_same(out, whole)


@pytest.mark.slow
@posix
def test_two_tasks_of_one_number_at_the_same_time_are_safe(
    tmp_path: Path, tiny: Path, listed: Path, whole: Path
) -> None:
    """They write the same bytes, each file whole."""
    words = [sys.executable, "-m", "imgtofmri", *words_of(tmp_path / "out", tiny, listed)]
    both = [subprocess.Popen([*words, "--shard", "1/1"], stderr=subprocess.PIPE) for _ in range(3)]
    assert [one.wait() for one in both if one.communicate()] == [3, 3, 3]
    merge_shards(tmp_path / "out", progress=False)
    check_same(tmp_path / "out", whole)


@pytest.mark.slow
@pytest.mark.parametrize("kill", [False, True])
@posix
def test_workers_make_the_store_of_one_process_also_when_one_is_killed(
    kill: bool,
    tmp_path: Path,
    tiny: Path,
    listed: Path,
    whole: Path,
    until: Callable[..., None],
) -> None:
    """What a worker had begun another does again; the command ends as if nothing had been."""
    out = tmp_path / "out"
    words = [sys.executable, "-m", "imgtofmri", *words_of(out, tiny, listed), "--workers", "2"]
    command = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    if kill:
        until(lambda: list((out / STORE / "done").glob("c.*")))
        children = Path(f"/proc/{command.pid}/task/{command.pid}/children")
        os.kill(int(children.read_text("ascii").split()[0]), signal.SIGKILL)
    _, said = command.communicate(timeout=200)
    assert command.returncode == 3, said
    assert "299 predicted, 3 failed" in said
    for path in list((out / STORE).rglob(".imgtofmri-*")) if kill else ():
        path.unlink()  # Of the process that was killed, as any later run would.
    check_same(out, whole)
    assert record_of(out) == record_of(whole)


@pytest.mark.slow
@posix
def test_workers_resume_what_an_interrupted_run_left(
    tmp_path: Path, tiny: Path, listed: Path, whole: Path
) -> None:
    """A store with damaged and missing shards is whole again, and the rest is kept."""
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (out / STORE / "done" / "c.1").unlink()
    (out / STORE / "group" / "c.4.0").write_bytes(b"")
    chosen = CHOSEN | {"workers": 2, "resume": True}
    summary = predict_into(out, tiny, read_list(listed), **chosen)
    assert len([name for name in summary.done if name != "film.mp4"]) < 150
    check_same(out, whole)
    network = load_encoder(tiny).extractor().network
    with pytest.raises(OptionError, match="backbone must be named for other processes"):
        predict_into(tmp_path / "new", tiny, read_list(listed), backbone=network, **chosen)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::imgtofmri.workers.cluster.WaitingWarning")
@posix
def test_a_cluster_makes_the_same_store_whoever_is_killed(
    tmp_path: Path, tiny: Path, listed: Path, whole: Path, cluster: Any, until: Callable[..., None]
) -> None:
    """A worker by SIGKILL in the middle; then the client, which resumes."""
    cluster.start(2)
    marks = tmp_path / "out" / STORE / "done"
    words = [sys.executable, "-m", "imgtofmri", *words_of(tmp_path / "out", tiny, listed)]
    words += ["--scheduler", cluster.address]
    command = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    until(lambda: len(list(marks.glob("c.*"))) >= 1)
    cluster.kill(0)
    _, said = command.communicate(timeout=250)
    assert command.returncode == 3, said
    assert "299 predicted, 3 failed" in said
    _sweep(tmp_path / "out")
    check_same(tmp_path / "out", whole)
    assert record_of(tmp_path / "out") == record_of(whole)

    cluster.hire()
    out = tmp_path / "again"
    words = [word.replace(str(tmp_path / "out"), str(out)) for word in words]
    command = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    until(lambda: len(list((out / STORE / "done").glob("c.*"))) >= 1)
    command.kill()
    command.communicate()
    ended = subprocess.run([*words, "--resume"], stderr=subprocess.PIPE, text=True, timeout=250)
    assert ended.returncode == 3, ended.stderr
    _sweep(out)
    check_same(out, whole)
    assert record_of(out) == record_of(whole)


def _sweep(out: Path) -> None:
    """Remove what killed processes left, as the next run does."""
    for path in (out / STORE).rglob(".imgtofmri-*"):
        path.unlink()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")
@pytest.mark.filterwarnings("ignore::imgtofmri.workers.cluster.WaitingWarning")
@posix
@pytest.mark.parametrize("n_photos", [60, pytest.param(300, marks=pytest.mark.long)])
def test_maps_do_not_depend_on_threads_batches_shards_or_who_computes(
    n_photos: int,
    tmp_path: Path,
    test_data: Path,
    make_bundle: Any,
    rng: np.random.Generator,
    random_weights: Path,
    cluster: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Photographs through ResNet-18: the same bits, however they are divided."""
    from imgtofmri.bundle import write_bundle

    photos = sorted((test_data / "photos").glob("*.jpg"))[:n_photos]
    assert len(photos) == n_photos
    path = tmp_path / "small.safetensors"
    write_bundle(make_bundle(rng), path)
    chosen: dict[str, Any] = {"weights": str(random_weights), "progress": False}

    monkeypatch.setenv(THREADS, "2")
    encoder = load_encoder(path)
    expected = encoder.predict(photos, **chosen)
    for size in (1, 7, 64):
        extractor = encoder.extractor(weights=str(random_weights))
        parts = [batch.features for batch in extractor.stream(photos, batch_size=size)]
        made = encoder.predict_features(np.concatenate(parts), names=expected.names)
        np.testing.assert_array_equal(made.group, expected.group)

    def stored(folder: str, **more: Any) -> np.ndarray:
        predict_into(tmp_path / folder, path, photos, format="zarr", **chosen, **more)
        return np.asarray(Prediction.open(tmp_path / folder).group)

    np.testing.assert_array_equal(stored("two"), expected.group)
    monkeypatch.setenv(THREADS, "1")
    np.testing.assert_array_equal(stored("one"), expected.group)
    monkeypatch.setattr(store_plan, "LEAST_ROWS", 16)
    np.testing.assert_array_equal(stored("rows"), expected.group)
    assert Store.open(tmp_path / "rows" / STORE).plan.n_shards == -(-n_photos // 16)
    monkeypatch.undo()
    np.testing.assert_array_equal(stored("workers", workers=2), expected.group)
    cluster.start(2)
    np.testing.assert_array_equal(stored("dask", scheduler=cluster.address), expected.group)


@pytest.mark.slow
@pytest.mark.long
@posix
def test_many_stimuli_in_tasks_that_are_killed() -> None:
    """The measurement of scale, with fewer stimuli: nothing is wrong."""
    command = [sys.executable, str(SCALE), "--n", "20000", "--shards", "8", "--kills", "3"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "files that differ, stimuli that are not there once: 0" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("format", FORMATS)
def test_a_plan_is_about_what_comes_and_changes_nothing(
    format: str, tmp_path: Path, encoder: Encoder, listed: Path
) -> None:
    """Files and bytes are within a tenth for stores, and about right for files."""
    chosen = CHOSEN | {"format": format}
    plan = plan_prediction(tmp_path / "out", encoder, read_list(listed), **chosen)
    assert not list(tmp_path.iterdir())
    assert (plan.n_images, plan.n_movies, plan.n_frames) == (300, 1, 200)
    assert plan.seconds > 0
    assert 10e6 < plan.memory_bytes < 10e9
    plan.check()
    predict_into(tmp_path / "out", encoder, read_list(listed), **chosen)
    there = files(tmp_path / "out")
    size = sum(map(len, there.values()))
    if format == "zarr":
        plan_of_store = Store.open(tmp_path / "out" / STORE).plan
        assert (plan.n_shards, plan.shard_rows) == (plan_of_store.n_shards, 64)
        assert plan.n_bytes == pytest.approx(size, rel=0.1)
        assert plan.n_files == pytest.approx(len(there), rel=0.1)
        assert "8 of 64 rows, in one task" in plan.lines()[-1]
    else:
        assert plan.n_bytes == pytest.approx(size, rel=0.5)
        assert plan.n_files == pytest.approx(len(there), abs=10)


@pytest.mark.parametrize("kind", ["film", "images"])
def test_a_plan_of_a_store_of_regions_counts_names_and_tables(
    kind: str, tmp_path: Path, encoder: Encoder, listed: Path
) -> None:
    """Beside regions' means a row has its path and its part of a table, each frame of a film, too.

    What does not grow with the rows, such as the mask and descriptions, is 30 kB at most.
    """
    folder = tmp_path / ("a-folder-of-a-long-name-" * 8)
    folder.mkdir()
    given = [listed.with_name("film.mp4")] if kind == "film" else sorted(listed.parent.glob("0*"))
    inputs = [Path(shutil.copy(path, folder)) for path in given if path.name != "070.png"]
    chosen = CHOSEN | {"rois_only": True}
    plan = plan_prediction(tmp_path / "out", encoder, inputs, **chosen)
    predict_into(tmp_path / "out", encoder, inputs, **chosen)
    there = files(tmp_path / "out")
    assert plan.n_files == pytest.approx(len(there), abs=5)
    assert plan.n_bytes == pytest.approx(sum(map(len, there.values())), abs=30_000)


@pytest.mark.parametrize("format", ["nifti", "zarr"])
def test_a_plan_of_a_film_lasts_as_long_as_its_frames_take(
    format: str, tmp_path: Path, encoder: Encoder, listed: Path
) -> None:
    """40 s at 5 Hz are 200 frames, at the rate that was measured; there are no images."""
    film = listed.with_name("film.mp4")
    plan = plan_prediction(tmp_path / "out", encoder, [film], **CHOSEN | {"format": format})
    assert plan.images_per_s is None
    assert plan.frames_per_s is not None
    assert plan.seconds == 200 / plan.frames_per_s


@pytest.mark.slow
def test_a_plan_that_does_not_fit_is_refused_by_the_command(
    tmp_path: Path,
    tiny: Path,
    listed: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The plan is printed, then why it cannot be; a run without a plan is refused, too."""
    words = ["predict", "--from-file", str(listed), "-o", str(tmp_path / "out"), "-q"]
    words += ["--encoder", str(tiny)]
    assert main([*words, "--plan"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0].strip() for line in said] == [
        "inputs",
        "files",
        "bytes",
        "memory",
        "time",
    ]
    assert "300 images, 1 movies of 80 frames, 1 that cannot be used" in said[0]
    usage = shutil.disk_usage(tmp_path)._replace(free=5000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    for more in (["--plan"], ["--plan", "--format", "zarr"], [], ["--format", "zarr"]):
        assert main([*words, *more]) == 1
        assert "there is room for 5000. Make room" in capsys.readouterr().err
    assert not [path for path in tmp_path.rglob("*.nii.gz")]


def test_a_plan_needs_something_to_predict(tmp_path: Path, encoder: Encoder) -> None:
    """Where no input can be used, it says why."""
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(StimulusError, match="got none among 1, of which the first is .*a.png"):
        plan_prediction(tmp_path / "out", encoder, [tmp_path / "a.png"], progress=False)
    with pytest.raises(StimulusError, match="does not exist"):
        plan_prediction(tmp_path / "out", encoder, [tmp_path / "b.png"], progress=False)


@pytest.mark.slow
def test_predict_takes_a_list_from_standard_input(
    tmp_path: Path, tiny: Path, listed: Path, whole: Path
) -> None:
    """What find prints can be piped."""
    words = words_of(tmp_path / "out", tiny, Path("-"))
    with listed.open("rb") as names:
        ended = subprocess.run([sys.executable, "-m", "imgtofmri", *words], stdin=names)
    assert ended.returncode == 3
    check_same(tmp_path / "out", whole)
    assert sha256_of(tmp_path / "out" / STORE) == sha256_of(whole / STORE)
