"""Predictions into a store, opened and exported again: value for value those of the files."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import xarray
from PIL import Image

from imgtofmri import Prediction, compute_contrast, model_rdms, select_stimuli
from imgtofmri.analyses.predict import RunSummary, predict_into
from imgtofmri.backbones import BackboneSpec, Preprocessing
from imgtofmri.bundle import Bundle, write_bundle
from imgtofmri.cli import main
from imgtofmri.encoder import Encoder
from imgtofmri.encoder.exporting import _slices, export_store
from imgtofmri.encoder.stored import PART, StoredPrediction
from imgtofmri.exceptions import DataError, OptionError, OutputError
from imgtofmri.stimuli import Movie


class Small:
    """A network of a few pixels, so that many pictures cost little."""

    def __init__(self) -> None:
        self.spec = BackboneSpec(
            "small", ("pixels",), 512, Preprocessing(size=14), "resnet18/avgpool"
        )

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return the first 512 numbers of each picture."""
        features: np.ndarray = pixels.reshape(len(pixels), -1)[:, :512] / np.float32(255)
        return features


SMALL = Small()
CHOSEN: dict[str, Any] = {"backbone": SMALL, "progress": False, "rate_hz": 4.0}
STORE = "predictions.zarr"


@pytest.fixture
def encoder(make_bundle: Callable[..., Bundle], rng: np.random.Generator) -> Encoder:
    """Return a small encoder of a ResNet-18's features."""
    return Encoder(make_bundle(rng))


@pytest.fixture
def photos(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Return a folder of 70 pictures, more than a shard, and a file that is none."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(70):
        pixels = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    (folder / "33x.png").write_text("no picture")
    return folder


def write_movie(path: Path, seed: int = 5, n_frames: int = 60, codec: str = "libx264") -> Path:
    """Write coloured noise at 10 Hz."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(n_frames):
            noise = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def inputs(photos: Path) -> list[Path]:
    """Return the pictures, and two movies of 24 and 40 frames."""
    movies = [("film.mp4", 5, 60), ("other film.mp4", 6, 100)]
    return [photos, *(write_movie(photos.parent / n, s, k) for n, s, k in movies)]


def predict(folder: Path, encoder: Encoder, inputs: Any, **more: Any) -> RunSummary:
    """Predict into a store."""
    return predict_into(folder, encoder, inputs, **(CHOSEN | {"format": "zarr"} | more))


def files(path: Path) -> dict[str, bytes]:
    """Return all files below a folder."""
    found = (file for file in sorted(path.rglob("*")) if file.is_file())
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in found}


def same_files(one: Path, other: Path) -> None:
    """Compare folders but for their records."""
    left, right = files(one), files(other)
    for found in (left, right):
        del found["predictions.json"]
    assert left.keys() == right.keys()
    for name, data in left.items():
        assert data == right[name], name


@pytest.mark.parametrize("to", ["nifti", "bids"])
def test_export_writes_the_files_that_predict_writes(
    to: Any, tmp_path: Path, encoder: Encoder, inputs: list[Path]
) -> None:
    """Volumes, tables, sidecars and evidence of images and movies, to the byte."""
    more: dict[str, Any] = {"subjects": True, "average": "mean"}
    summary = predict(tmp_path / "store", encoder, inputs, **more)
    assert [failure.name for failure in summary.failures] == ["33x.png"]
    assert len(summary.done) == 72
    predict(tmp_path / "files", encoder, inputs, format=to, **more)
    exported = export_store(tmp_path / "store", tmp_path / "exported", to, progress=False)
    assert exported.done == summary.done
    assert list(exported.failures) == ["33x.png"]
    same_files(tmp_path / "exported", tmp_path / "files")
    records = [
        json.loads((tmp_path / name / "predictions.json").read_text("utf-8"))
        for name in ("exported", "files")
    ]
    for key in ("inputs", "outputs", "settings", "prediction", "state", "failures"):
        assert records[0][key] == records[1][key], key
    assert [record["command"] for record in records] == ["export", "predict"]


@pytest.mark.parametrize(
    ("numbers", "slices"),
    [
        ([], []),
        ([4], [(4, 5)]),
        ([0, 1, 2, 5, 7, 8], [(0, 3), (5, 6), (7, 9)]),
        ([3, 2, 1], [(3, 4), (2, 3), (1, 2)]),
        (list(range(PART + 2)), [(0, PART), (PART, PART + 2)]),
    ],
)
def test_stimuli_are_read_in_runs(numbers: list[int], slices: list[tuple[int, int]]) -> None:
    """Every one once, in order, whatever was left out."""
    assert [(part.start, part.stop) for part in _slices(numbers)] == slices


def test_export_of_bounds_and_surfaces(
    tmp_path: Path, make_bundle: Callable[..., Bundle], make_template_run: Any, rng: Any
) -> None:
    """Maps on a surface are those that `to_surface` gives."""
    prediction = make_template_run(rng)
    prediction.save(tmp_path / "store", "zarr")
    export_store(tmp_path / "store", tmp_path / "out", "gifti", progress=False)
    surface = prediction.to_surface("fsaverage5")
    for number, name in enumerate(prediction.names):
        for hemi, part in (("L", "left"), ("R", "right")):
            file = tmp_path / "out" / f"{name}_hemi-{hemi}_space-fsaverage5.func.gii"
            [array] = nib.load(file).darrays
            np.testing.assert_array_equal(array.data, surface.data.parts[part][:, number])
    assert not list((tmp_path / "out").glob("*.nii.gz"))


def test_export_refuses_a_surface_that_would_not_be_written(
    tmp_path: Path, make_template_run: Any, rng: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """With `predict --space` surfaces lie beside volumes; an export has volumes or surfaces."""
    make_template_run(rng).save(tmp_path / "store", "zarr")
    chosen = ["export", str(tmp_path / "store"), "-o", str(tmp_path / "out"), "-q"]
    assert main([*chosen, "--space", "fsaverage5"]) != 0
    assert "--space is for --to gifti" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
    assert main([*chosen, "--space", "fsaverage5", "--to", "gifti"]) == 0


def test_export_to_tsv_is_the_table_of_predict(
    tmp_path: Path, encoder: Encoder, inputs: list[Path]
) -> None:
    """`rois.tsv` and the movies' tables, and nothing else."""
    predict(tmp_path / "store", encoder, inputs)
    predict(tmp_path / "files", encoder, inputs, format="nifti")
    export_store(tmp_path / "store", tmp_path / "out", "tsv", progress=False)
    found = files(tmp_path / "out")
    del found["predictions.json"]
    assert set(found) == {
        "rois.tsv",
        "film.mp4_timeseries.tsv",
        "other film.mp4_timeseries.tsv",
    }
    for name, data in found.items():
        assert data == (tmp_path / "files" / name).read_bytes()


def test_export_resumes_and_verifies(tmp_path: Path, encoder: Encoder, inputs: list[Path]) -> None:
    """What is there is kept, what was harmed is written again, and the rest is done."""
    predict(tmp_path / "store", encoder, inputs)
    export_store(tmp_path / "store", tmp_path / "whole", progress=False)
    some = ["03.png", "film.mp4", "40.png"]
    export_store(tmp_path / "store", tmp_path / "out", stimuli=some, progress=False)
    assert sorted(json_inputs(tmp_path / "out")) == sorted(some)
    (tmp_path / "out" / "03.png.nii.gz").write_bytes(b"x")
    with pytest.raises(OptionError, match="Use `resume` to do what is missing"):
        export_store(tmp_path / "store", tmp_path / "out", progress=False)
    again = export_store(tmp_path / "store", tmp_path / "out", resume=True, progress=False)
    assert sorted(again.kept) == ["40.png", "film.mp4"]
    same_files(tmp_path / "out", tmp_path / "whole")
    with pytest.raises(OptionError, match="a stimulus must be one of the 72 stimuli of"):
        export_store(tmp_path / "store", tmp_path / "new", stimuli=["03.pn"], progress=False)
    assert not (tmp_path / "new" / "predictions.json").exists()


def means_of(folder: Path, name: str) -> list[float]:
    """Return the group's means of a stimulus in a folder's table."""
    table = pd.read_csv(folder / "rois.tsv", sep="\t")
    return table[(table["stimulus"] == name) & (table["subject"] == "group")]["mean"].tolist()


@pytest.mark.parametrize("to", ["nifti", "bids", "tsv"])
def test_resumed_export_has_the_means_of_a_picture_that_is_another_now(
    tmp_path: Path, encoder: Encoder, photos: Path, to: Any
) -> None:
    """The store was made again of a picture that was replaced: its row is the new picture's."""
    few = [photos / f"0{number}.png" for number in range(3)]
    predict(tmp_path / "store", encoder, few)
    export_store(tmp_path / "store", tmp_path / "out", to, progress=False)
    shutil.copyfile(photos / "60.png", few[1])
    predict(tmp_path / "store", encoder, few, overwrite=True)
    export_store(tmp_path / "store", tmp_path / "out", to, resume=True, progress=False)
    now = encoder.predict([photos / "60.png"], backbone=SMALL).roi_means().group[:, 0]
    np.testing.assert_allclose(means_of(tmp_path / "out", "01.png"), now, rtol=1e-5)


def test_resumed_run_of_means_alone_has_those_of_a_picture_that_is_another_now(
    tmp_path: Path, encoder: Encoder, photos: Path
) -> None:
    """The table says what the store says; pictures that can no longer be used are in neither."""
    few = [photos / f"0{number}.png" for number in range(3)]
    predict(tmp_path / "out", encoder, few, rois_only=True)
    shutil.copyfile(photos / "60.png", few[1])
    few[2].write_text("no picture")
    predict(tmp_path / "out", encoder, few, rois_only=True, resume=True)
    now = encoder.predict([photos / "60.png"], backbone=SMALL).roi_means().group[:, 0]
    np.testing.assert_allclose(means_of(tmp_path / "out", "01.png"), now, rtol=1e-5)
    assert means_of(tmp_path / "out", "02.png") == []


@pytest.mark.parametrize("to", ["nifti", "tsv"])
def test_export_of_further_stimuli_keeps_the_rows_of_earlier_ones(
    tmp_path: Path, encoder: Encoder, photos: Path, to: Any
) -> None:
    """Two exports of a picture each leave the table of both, as they leave the volumes."""
    few = [photos / f"0{number}.png" for number in range(3)]
    predict(tmp_path / "store", encoder, few)
    for name in ("02.png", "00.png"):
        chosen: dict[str, Any] = {"stimuli": [name], "resume": name == "00.png"}
        export_store(tmp_path / "store", tmp_path / "out", to, progress=False, **chosen)
    table = pd.read_csv(tmp_path / "out" / "rois.tsv", sep="\t")
    assert table["stimulus"].unique().tolist() == ["00.png", "02.png"]


def test_stored_maps_are_indexed_as_arrays_are(tmp_path: Path, encoder: Encoder) -> None:
    """What would be another part of an array is refused."""
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    shutil.copy(tmp_path / "a.png", tmp_path / "b.png")
    predict(tmp_path / "store", encoder, [tmp_path / "a.png", tmp_path / "b.png"], subjects=True)
    stored = Prediction.open(tmp_path / "store")
    same: list[Any] = [
        ...,
        (..., 1),
        (..., 0, 1),
        (0, ...),
        (..., [1, 3]),
        (..., 0, slice(2, 9, 3)),
    ]
    same += [slice(0, 0), [], (slice(None), -1), (slice(None), [1, 0]), [True, False], (1, [0, 1])]
    for index in [*same, (1, 0, 2), (slice(None), 0, [3, 4])]:
        expected = np.asarray(stored.subjects)[index]
        np.testing.assert_array_equal(stored.subjects[index], expected, strict=True)
    group: list[Any] = [..., (..., 2), (..., 1, 2), (1, ...), (..., [2, 1]), [], (0, [4, 5])]
    for index in group:
        expected = np.asarray(stored.group)[index]
        np.testing.assert_array_equal(stored.group[index], expected, strict=True)
    for index in (([0, 1], [2, 3]), (0, 1, 2), None, True, (..., ...), [[0, 1], [1, 0]]):
        with pytest.raises(OptionError, match="maps of 2 axes are indexed by"):
            stored.group[index]
    for index in (
        ([0], [0]),
        (0, slice(None), [1, 2]),
        (0, 1, 2, 3),
        (slice(None), [0, 1], [2, 3]),
    ):
        with pytest.raises(OptionError, match="maps of 3 axes are indexed by"):
            stored.subjects[index]


def test_stored_maps_of_nobody_have_their_shape(tmp_path: Path, encoder: Encoder) -> None:
    """Where no subjects' maps are kept there are none, at any index of the others."""
    Image.fromarray(np.arange(576, dtype=np.uint8).reshape(12, 16, 3)).save(tmp_path / "a.png")
    predict(tmp_path / "store", encoder, [tmp_path / "a.png"])
    nobody = Prediction.open(tmp_path / "store").subjects
    assert nobody.shape[0] == 0
    assert np.asarray(nobody).shape == nobody.shape
    assert nobody[:, 0].shape == (0, nobody.shape[2])


def json_inputs(folder: Path) -> list[str]:
    """Return the names of a record's inputs."""
    record = json.loads((folder / "predictions.json").read_text("utf-8"))
    return [entry["name"] for entry in record["inputs"]]


def test_opened_store_is_the_prediction(
    tmp_path: Path, encoder: Encoder, inputs: list[Path], photos: Path
) -> None:
    """Each part of it is what `Encoder.predict` gives, but for native responses."""
    predict(tmp_path / "store", encoder, inputs, subjects=True)
    stored = Prediction.open(tmp_path / "store")
    assert isinstance(stored, StoredPrediction)
    pictures = sorted(path for path in photos.iterdir() if path.name != "33x.png")
    whole = encoder.predict(pictures, backbone=SMALL, progress=False)
    assert len(stored) == 70 + 24 + 40
    assert stored.names[:70] == whole.names
    assert stored.failures.keys() == {"33x.png"}
    np.testing.assert_array_equal(stored.group[:70], whole.group)
    np.testing.assert_array_equal(stored.subjects[1, 3:9], whole.subjects[1, 3:9])
    np.testing.assert_array_equal(stored.group[[5, 3]][:, 4:6], whole.group[[5, 3], 4:6])
    np.testing.assert_array_equal(np.asarray(stored.group)[:70], whole.group)
    for chosen in (3, -132, "07.png", slice(60, 70), slice(1, 9, 3)):
        part, expected = stored[chosen], whole[chosen if chosen != -132 else 2]
        assert part.names == expected.names
        assert (part.sha256, part.sources) == (expected.sha256, expected.sources)
        np.testing.assert_array_equal(part.group, expected.group)
        np.testing.assert_array_equal(part.subjects, expected.subjects)
        pd.testing.assert_frame_equal(part.roi_table(), expected.roi_table())
        np.testing.assert_array_equal(
            np.asarray(part.to_img("S1").dataobj), np.asarray(expected.to_img("S1").dataobj)
        )
    part = stored[:5]
    assert part.provenance.to_dict() == whole.provenance.to_dict()
    assert part.provenance.note == whole.provenance.note
    assert part.roi_masks.keys() == whole.roi_masks.keys()
    for place, voxels in whole.roi_masks.items():
        np.testing.assert_array_equal(part.roi_masks[place], voxels)
    np.testing.assert_array_equal(part.mask, whole.mask)
    np.testing.assert_array_equal(part.coverage, whole.coverage)
    film = encoder.predict_movie(inputs[1], 4.0, backbone=SMALL, progress=False)
    assert stored["film.mp4"].names == film.names
    np.testing.assert_array_equal(stored["film.mp4"].group, film.group)
    np.testing.assert_array_equal(stored["film.mp4"].onsets_s, film.onsets_s)
    np.testing.assert_array_equal(stored[film.names[3]].group, film.group[3:4])
    pd.testing.assert_frame_equal(stored["film.mp4"].roi_table(), film.roi_table())
    assert sum(len(part) for part in stored.parts(50)) == len(stored)


def test_opened_store_says_what_it_lacks(
    tmp_path: Path, encoder: Encoder, inputs: list[Path]
) -> None:
    """One error each, with what to do."""
    predict(tmp_path / "store", encoder, inputs)
    stored = Prediction.open(tmp_path / "store" / STORE)
    part = stored[:3]
    with pytest.raises(OptionError, match="its store does not hold them. Predict with `subjects`"):
        part.subject("S1")
    with pytest.raises(OptionError, match="stores hold only their means over ROIs"):
        part.roi_responses("PPA", "S1")
    with pytest.raises(OptionError, match="was not predicted: expected an image"):
        stored["33x.png"]
    with pytest.raises(OptionError, match=r"got 'film.mp'. Did you mean film.mp4"):
        stored["film.mp"]
    with pytest.raises(IndexError, match="one of 134; got number 134"):
        stored[134]
    with pytest.raises(DataError, match=r"there is no zarr\.json in it"):
        Prediction.open(tmp_path)


def test_xarray_finds_maps_by_names(tmp_path: Path, encoder: Encoder, inputs: list[Path]) -> None:
    """Coordinates are the stimuli, subjects, hemispheres and ROIs."""
    predict(tmp_path / "store", encoder, inputs, subjects=True)
    stored = Prediction.open(tmp_path / "store")
    found = xarray.open_zarr(tmp_path / "store" / STORE)
    np.testing.assert_array_equal(found.group.sel(stimulus="07.png"), stored["07.png"].group[0])
    np.testing.assert_array_equal(found.group.sel(stimulus="film.mp4"), stored["film.mp4"].group)
    one = found.sel(stimulus="07.png", subject="S1")
    np.testing.assert_array_equal(one.subjects, stored["07.png"].subject("S1")[0])
    mean = one.rois.sel(roi="PPA", hemi="both")
    table = stored["07.png"].roi_table().set_index(["roi", "hemi", "subject"])["mean"]
    assert np.float32(mean) == table["PPA", "both", "S1"]
    both = found.roi_voxels.sel(roi="PPA", hemi="both")
    np.testing.assert_array_equal(both, stored.roi_mask("PPA"))
    assert np.isnan(found.group.sel(stimulus="33x.png")).all()
    assert found.onset.sel(stimulus="film.mp4").values.tolist() == [k / 4 for k in range(24)]


@pytest.mark.slow
def test_resumed_runs_end_in_the_same_store(
    tmp_path: Path, encoder: Encoder, inputs: list[Path]
) -> None:
    """Whatever is missing or harmed is made again, and all else is kept as it is."""
    whole, out = tmp_path / "whole", tmp_path / "out"
    predict(whole, encoder, inputs, subjects=True)
    predict(out, encoder, inputs, subjects=True)
    before = files(whole / STORE)
    assert files(out / STORE) == before
    for harm in ("group/c.1.0", "subjects/c.1.2.0", "done/c.0", "zarr.json", "mask/c.0.0.0"):
        (out / STORE / harm).unlink()
        summary = predict(out, encoder, inputs, subjects=True, resume=True)
        assert files(out / STORE) == before
        assert len(summary.kept) + len(summary.done) == 72
    shutil.rmtree(out / STORE / "group")
    predict(out, encoder, inputs, subjects=True, resume=True)
    assert files(out / STORE) == before
    data = bytearray(before["group/c.0.0"])
    data[100] ^= 1
    (out / STORE / "group" / "c.0.0").write_bytes(data)
    assert predict(out, encoder, inputs, subjects=True, resume=True).done[0] == "00.png"
    assert files(out / STORE) == before
    again = predict(out, encoder, inputs, subjects=True, resume=True)
    assert (len(again.done), len(again.kept), len(again.failures)) == (0, 72, 1)
    with pytest.raises(OptionError, match="Use `resume` to do what is missing"):
        predict(out, encoder, inputs, subjects=True)


def test_stimuli_are_added_to_a_store(
    tmp_path: Path, encoder: Encoder, inputs: list[Path], photos: Path
) -> None:
    """New ones come behind the others; those that were there are kept and not predicted again."""
    out = tmp_path / "out"
    pictures = sorted(photos.iterdir())
    predict(out, encoder, pictures[30:])
    added = predict(out, encoder, pictures[20:50], resume=True)
    assert added.done == [path.name for path in pictures[20:30]]
    stored = Prediction.open(out)
    expected = [*pictures[30:], *pictures[20:30]]
    assert list(stored.names) == [path.name for path in expected if path.name != "33x.png"]
    whole = encoder.predict(pictures[20:30], backbone=SMALL, progress=False)
    np.testing.assert_array_equal(stored.group[-10:], whole.group)
    fresh = tmp_path / "fresh"
    predict(fresh, encoder, expected)
    assert files(fresh / STORE) == files(out / STORE)
    # What is gone since stays, as far as its shard is whole.
    shutil.move(photos, tmp_path / "moved")
    more = sorted((tmp_path / "moved").iterdir())[:5]
    predict(out, encoder, more, resume=True)
    assert len(Prediction.open(out)) == 55
    np.testing.assert_array_equal(Prediction.open(out).group[40:50], whole.group)


def test_changed_and_mended_inputs_are_predicted_again(
    tmp_path: Path, encoder: Encoder, photos: Path
) -> None:
    """Others keep their rows; an input that is as bad as before stays a failure."""
    out = tmp_path / "out"
    predict(out, encoder, photos)
    shutil.copy(photos / "01.png", photos / "02.png")
    shutil.copy(photos / "03.png", photos / "33x.png")
    summary = predict(out, encoder, photos, resume=True)
    assert summary.done == ["02.png", "33x.png"]
    assert not summary.failures
    stored = Prediction.open(out)
    np.testing.assert_array_equal(stored["02.png"].group, stored["01.png"].group)
    np.testing.assert_array_equal(stored["33x.png"].group, stored["03.png"].group)
    predict(tmp_path / "fresh", encoder, photos)
    assert files(tmp_path / "fresh" / STORE) == files(out / STORE)


def test_float16_store_records_its_error(tmp_path: Path, encoder: Encoder, photos: Path) -> None:
    """The record's error is that of the maps, also where a run was resumed."""
    for name, dtype in (("half", "float16"), ("single", "float32")):
        predict(tmp_path / name, encoder, photos, dtype=dtype, subjects=True)
    half, single = (Prediction.open(tmp_path / name) for name in ("half", "single"))
    assert half[:3].group.dtype == np.float32
    np.testing.assert_array_equal(half.group[:], single.group[:].astype(np.float16))
    record = json.loads((tmp_path / "half" / "predictions.json").read_text("utf-8"))
    error = np.abs(half.group[:].astype(float) - single.group[:])
    assert record["store"]["rounding"]["group"]["greatest_error"] == error.max()
    assert set(record["store"]["rounding"]) == {"group", "subjects"}
    before = files(tmp_path / "half" / STORE)
    pictures = sorted(photos.iterdir())
    predict(tmp_path / "grown", encoder, pictures[:40], dtype="float16", subjects=True)
    predict(tmp_path / "grown", encoder, pictures, dtype="float16", subjects=True, resume=True)
    assert files(tmp_path / "grown" / STORE) == before
    sizes = [
        sum(len(data) for name, data in files(tmp_path / n / STORE / "group").items())
        for n in ("half", "single")
    ]
    assert sizes[0] < 0.6 * sizes[1]


def test_rois_only_keeps_means_and_no_maps(
    tmp_path: Path, encoder: Encoder, inputs: list[Path]
) -> None:
    """The tables are those of a run with maps, and asking for maps says what to do."""
    out = tmp_path / "out"
    predict(out, encoder, inputs, format="nifti", rois_only=True)
    predict(tmp_path / "files", encoder, inputs, format="nifti")
    for name in ("rois.tsv", "film.mp4_timeseries.tsv", "other film.mp4_timeseries.tsv"):
        assert (out / name).read_bytes() == (tmp_path / "files" / name).read_bytes()
    assert not list(out.rglob("*.nii.gz"))
    assert not (out / STORE / "group").exists()
    stored = Prediction.open(out)
    predict(tmp_path / "maps", encoder, inputs)
    whole = Prediction.open(tmp_path / "maps")
    pd.testing.assert_frame_equal(stored.roi_table(), whole.roi_table())
    for ask in (lambda: stored[3], lambda: stored.group):
        with pytest.raises(OptionError, match="it holds means of ROIs alone. Take `roi_table`"):
            ask()
    with pytest.raises(OptionError, match="to must be tsv for a store of ROI means alone"):
        export_store(stored, tmp_path / "new", progress=False)
    before = files(out)
    summary = predict(out, encoder, inputs, format="nifti", rois_only=True, resume=True)
    assert not summary.done
    after = files(out)
    for found in (before, after):
        del found["predictions.json"]
    assert after == before


def test_interval_bounds_are_kept(tmp_path: Path, make_prediction: Any, rng: Any) -> None:
    """They are exported as `save` writes them."""
    prediction = make_prediction(rng)
    n_voxels = prediction.group.shape[1]
    prediction = replace(prediction, residual_variance=rng.uniform(1, 2, n_voxels))
    prediction.save(tmp_path / "store", "zarr", interval=0.9, subjects=True)
    prediction.save(tmp_path / "files", interval=0.9, subjects=True)
    export_store(tmp_path / "store", tmp_path / "out", progress=False)
    same_files(tmp_path / "out", tmp_path / "files")
    stored = Prediction.open(tmp_path / "store")
    for kept, made in zip(stored[:4].interval(0.8), prediction[:4].interval(0.8), strict=True):
        np.testing.assert_array_equal(kept, made)
    np.testing.assert_array_equal(stored[:].agreement(), prediction.agreement())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dtype": "float16", "format": "nifti"}, "dtype is how a store keeps maps"),
        ({"dtype": "float64"}, "dtype must be one of float32, float16"),
        ({"at": "points.tsv"}, "at is not written to a store"),
        ({"space": "fsaverage5"}, "space is not written to a store"),
        ({"rois_only": True, "format": "bids"}, "rois_only keeps no maps"),
        ({"rois_only": True, "interval": 0.9, "average": "mean"}, "interval is written as maps"),
    ],
)
def test_options_that_do_not_go_together_are_refused_at_once(
    options: dict[str, Any], said: str, tmp_path: Path, encoder: Encoder, photos: Path
) -> None:
    """Before anything is loaded or written."""
    with pytest.raises(OptionError, match=said):
        predict(tmp_path / "out", encoder, photos, **options)
    assert not (tmp_path / "out").exists()


def test_store_without_a_record_is_left_alone(
    tmp_path: Path, encoder: Encoder, photos: Path
) -> None:
    """Something of that name may be anybody's; `overwrite` replaces stores alone."""
    out = tmp_path / "out"
    (out / STORE).mkdir(parents=True)
    (out / STORE / "mine.txt").write_text("x")
    with pytest.raises(OptionError, match="expected nothing of this name; there is something"):
        predict(out, encoder, photos)
    with pytest.raises(OptionError, match=r"no folder of that name; it holds mine\.txt"):
        predict(out, encoder, photos, overwrite=True)
    assert (out / STORE / "mine.txt").read_text() == "x"


def test_overwriting_replaces_a_store(tmp_path: Path, encoder: Encoder, photos: Path) -> None:
    """Nothing of the earlier one is left, be it of other settings."""
    out = tmp_path / "out"
    predict(out, encoder, photos, subjects=True)
    predict(out, encoder, sorted(photos.iterdir())[:5], overwrite=True)
    predict(tmp_path / "fresh", encoder, sorted(photos.iterdir())[:5])
    assert files(out / STORE) == files(tmp_path / "fresh" / STORE)


def test_other_settings_are_refused_by_record_and_store(
    tmp_path: Path, encoder: Encoder, photos: Path
) -> None:
    """One error says which; nothing changes."""
    out = tmp_path / "out"
    predict(out, encoder, photos)
    before = files(out / STORE)
    with pytest.raises(OptionError, match="sigma_mm was 1.0 and is now 2.0"):
        predict(out, encoder, photos, sigma_mm=2.0, resume=True)
    with pytest.raises(OptionError, match="dtype was 'float32' and is now 'float16'"):
        predict(out, encoder, photos, dtype="float16", resume=True)
    assert files(out / STORE) == before


def test_movie_that_ends_early_is_a_failure_as_a_whole(
    tmp_path: Path, encoder: Encoder, inputs: list[Path]
) -> None:
    """Its rows do not count, wherever shards cut it."""
    path = write_movie(tmp_path / "a.mp4", 9, 400)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    summary = predict(out, encoder, [path, inputs[1]])
    assert [failure.name for failure in summary.failures] == ["a.mp4"]
    assert Prediction.open(out).spans().keys() == {"film.mp4"}


def test_movies_whose_packets_tell_no_times_are_counted_by_decoding(
    tmp_path: Path, encoder: Encoder
) -> None:
    """Their rows are those of the frames that there are."""
    path = write_movie(tmp_path / "a.avi", codec="mpeg4")
    film = encoder.predict_movie(path, 4.0, backbone=SMALL, progress=False)
    predict(tmp_path / "out", encoder, path)
    stored = Prediction.open(tmp_path / "out")
    assert stored.names == film.names
    np.testing.assert_array_equal(stored["a.avi"].group, film.group)


@pytest.mark.parametrize("planned", [20, 30])
def test_movie_of_another_length_than_planned_is_a_failure(
    planned: int, tmp_path: Path, encoder: Encoder, inputs: list[Path], monkeypatch: Any
) -> None:
    """Frames that have no row are not dropped in silence, nor are rows without frames."""
    monkeypatch.setattr(Movie, "n_frames", lambda *_: planned)
    summary = predict(tmp_path / "out", encoder, inputs[1])
    assert f"a movie of {planned} frames, as its packets say" in str(summary.failures[0].error)


@pytest.mark.parametrize("analysis", ["contrast", "select", "rsa"])
def test_analyses_say_what_a_stored_prediction_lacks(
    analysis: str, tmp_path: Path, make_prediction: Any, rng: Any
) -> None:
    """Responses in native space are not in stores."""
    make_prediction(rng).save(tmp_path / "out", "zarr", subjects=True)
    part = Prediction.open(tmp_path / "out")[:]
    with pytest.raises(OptionError, match="stores hold only their means over ROIs"):
        if analysis == "contrast":
            compute_contrast(part, ["a", "b"] * 12, n_permutations=10)
        elif analysis == "select":
            select_stimuli(part, ["high PPA"], 3)
        else:
            model_rdms(part)


_KILLED = """
import os, signal, sys
from imgtofmri.outputs import store_writer
from imgtofmri.cli import main
left = int(sys.argv[1])
place_all = store_writer.place_all
def killing(parts):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    place_all(parts)
store_writer.place_all = killing
main(sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, pytest.param(1, marks=pytest.mark.long)])
def test_killed_command_resumes_to_the_same_store(
    left: int, tmp_path: Path, encoder: Encoder, inputs: list[Path]
) -> None:
    """The command line, killed between shards, goes on where it was."""
    write_bundle(encoder.bundle, tmp_path / "small.safetensors")
    options = ["--encoder", str(tmp_path / "small.safetensors"), "--weights", "untrained"]
    options += ["--quiet", "--format", "zarr", "--rate-hz", "4"]
    words = ["predict", *map(str, inputs), "-o"]
    code = [sys.executable, "-c", _KILLED, str(left)]
    ended = subprocess.run([*code, *words, str(tmp_path / "out"), *options])
    assert ended.returncode == -9
    assert main([*words, str(tmp_path / "whole"), *options]) == 3
    assert main([*words, str(tmp_path / "out"), *options, "--resume"]) == 3
    assert files(tmp_path / "out" / STORE) == files(tmp_path / "whole" / STORE)


def test_commands_predict_into_a_store_and_export_it(
    tmp_path: Path, encoder: Encoder, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command line says what came of it, and makes no page of a store."""
    write_bundle(encoder.bundle, tmp_path / "small.safetensors")
    options = ["--encoder", str(tmp_path / "small.safetensors"), "--weights", "untrained"]
    out = str(tmp_path / "out")
    words = ["predict", str(photos), "-o", out, *options, "--quiet", "--format", "zarr"]
    assert main([*words, "--dtype", "float16"]) == 3
    assert "70 predicted, 1 failed" in capsys.readouterr().err
    assert not (tmp_path / "out" / "report.html").exists()
    assert main(["export", out, "-o", str(tmp_path / "volumes"), "--quiet"]) == 0
    assert "70 exported, 1 that could not be predicted are not there" in capsys.readouterr().err
    assert len(list((tmp_path / "volumes").glob("*.nii.gz"))) == 70
    assert main(["report", str(tmp_path / "volumes")]) == 0
    assert main(["export", out, "-o", str(tmp_path / "volumes"), "--quiet"]) == 2
    assert "--resume" in capsys.readouterr().err


def test_full_disk_is_one_error_and_nothing_is_lost(
    tmp_path: Path, encoder: Encoder, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room is looked for before work is done, and what was whole before stays."""
    out = tmp_path / "out"
    predict(out, encoder, sorted(photos.iterdir())[:64])
    before = files(out / STORE)
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OutputError, match="there is room for 1000. Make room"):
        predict(out, encoder, photos, resume=True)
    for name in ("group/c.0.0", "done/c.0"):
        assert files(out / STORE)[name] == before[name]
    monkeypatch.undo()
    predict(out, encoder, photos, resume=True)
    assert len(Prediction.open(out)) == 70


def test_unfinished_store_is_said_to_be(tmp_path: Path, encoder: Encoder, photos: Path) -> None:
    """Opening it tells what is missing, and what is there can be had."""
    out = tmp_path / "out"
    predict(out, encoder, photos)
    (out / STORE / "done" / "c.0").unlink()
    with pytest.raises(DataError, match="1 of its 2 shards are missing. Resume the run"):
        Prediction.open(out)
    assert len(Prediction.open(out, unfinished=True)) == 7
