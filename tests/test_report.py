"""Reports: what a page holds, from which files, and what is refused."""

from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import html
import io
import json
import re
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.orientations import (
    apply_orientation,
    axcodes2ornt,
    inv_ornt_aff,
    io_orientation,
    ornt_transform,
)
from PIL import Image

from imgtofmri import Prediction
from imgtofmri.analyses.contrast import compute_contrast, save_contrast
from imgtofmri.analyses.contrast.maps import FILES
from imgtofmri.analyses.predict import predict_into
from imgtofmri.cli import main
from imgtofmri.encoder.movie_files import mean_columns
from imgtofmri.encoder.regions import RoiMeans
from imgtofmri.exceptions import DataError, OptionError
from imgtofmri.report import MapRows, write_report
from imgtofmri.report.maps import (
    LARGEST,
    MOST_MAPS,
    TOGETHER,
    UNKNOWN,
    quantised,
    read_series,
    restored,
)
from imgtofmri.report.methods import DID, OF_OWN_ROIS, methods
from imgtofmri.report.packing import packed_parts
from imgtofmri.report.page import BARE, SCRIPTS, as_json, policy
from imgtofmri.report.pictures import map_strip
from imgtofmri.report.records import open_run
from imgtofmri.report.rois import read_timeseries
from imgtofmri.spaces.surface import fsaverage5_places, sample, sampling_matrix

STATIC = Path(__file__).parents[1] / "src" / "imgtofmri" / "report" / "static"


NAMES = [f"p{number}.png" for number in range(5)]

MakeRun = Callable[..., Prediction]


@pytest.fixture
def run(rng: np.random.Generator, make_template_run: MakeRun, tmp_path: Path) -> Prediction:
    """Return a prediction for five pictures that are there."""
    return make_template_run(rng, NAMES, folder=tmp_path)


def held(page: Path) -> dict[str, Any]:
    """Return the data of a page."""
    [text] = re.findall(r'id="page-data">(.*?)</script>', page.read_text(encoding="utf-8"))
    return json.loads(text)


def numbers(text: str, kind: str) -> np.ndarray:
    """Return packed numbers, as a browser would unpack them."""
    return np.frombuffer(gzip.decompress(base64.b64decode(text)), kind)


def held_maps(page: Path, n_maps: int) -> np.ndarray:
    """Return a page's maps, in units."""
    [text] = re.findall(r'id="page-maps">(.*?)</script>', page.read_text(encoding="utf-8"))
    steps = numbers(held(page)["maps"]["steps"], "<f4")
    return numbers(text, "<i2").reshape(n_maps, -1) * steps[:, None]


def test_int16_keeps_a_map_to_half_a_step(rng: np.random.Generator) -> None:
    """A map comes back within half a step of its largest magnitude / 32767; NaN stays NaN."""
    values = rng.normal(size=1000).astype(np.float32) * 3
    values[7] = np.nan
    steps, step = quantised(values)
    assert step == pytest.approx(np.nanmax(np.abs(values)) / 32767)
    back = restored(steps, step)
    assert np.isnan(back[7])
    assert steps[7] == UNKNOWN
    assert np.nanmax(np.abs(back - values)) <= step / 2 * 1.001


def test_a_map_of_zeros_is_zero() -> None:
    """Nothing is divided by a largest magnitude of zero."""
    steps, step = quantised(np.zeros(4, np.float32))
    assert restored(steps, step).tolist() == [0, 0, 0, 0]


def test_similarity_is_numpys_correlation(rng: np.random.Generator) -> None:
    """All pairs in the upper triangle, over voxels that all maps know; a constant has none."""
    mask = np.ones((4, 5, 6), bool)
    rows = MapRows(mask, np.eye(4), 4)
    values = rng.normal(size=(4, 120)).astype(np.float32)
    values[0, 3] = np.nan
    values[3] = 1
    for number, each in enumerate(values):
        rows.add(str(number), each)
    expected = np.corrcoef(np.delete(values, 3, axis=1)[:3])[np.triu_indices(3, 1)]
    found = rows.similarity()
    assert found[[0, 1, 3]] / 32767 == pytest.approx(expected, abs=1e-4)
    assert found[[2, 4, 5]].tolist() == [UNKNOWN] * 3


def test_page_holds_the_maps_the_volumes_have(run: Prediction, tmp_path: Path) -> None:
    """What a page says of a voxel is what its volume says, to a step of int16."""
    run.group[2, 10] = np.nan
    run.save(tmp_path / "run")
    page = write_report(tmp_path / "run")
    data = held(page)
    assert [item["name"] for item in data["items"]] == NAMES
    places = numbers(data["scene"]["places"], "<u4")
    steps = numbers(data["maps"]["steps"], "<f4")
    for k, name in enumerate(NAMES):
        volume = nib.load(tmp_path / "run" / f"{name}.nii.gz").get_fdata().ravel(order="F")[places]
        known = np.isfinite(volume)
        error = np.abs(held_maps(page, 5)[k] - volume)[known]
        assert error.max() <= steps[k] * 0.51
    assert held_maps(page, 5)[2, 10] == pytest.approx(UNKNOWN * steps[2])


def test_page_from_memory_is_the_page_from_files(run: Prediction, tmp_path: Path) -> None:
    """`Prediction.report` and `imgtofmri report` show the same maps, means and pictures."""
    run.save(tmp_path / "run")
    one, other = write_report(tmp_path / "run"), run.report(tmp_path / "page.html")
    assert held(one)["items"] == held(other)["items"]
    assert held(one)["rois"] == held(other)["rois"]
    assert held_maps(one, 5).tolist() == held_maps(other, 5).tolist()
    assert all(item["thumb"] for item in held(one)["items"])


def test_view_holds_the_page_of_report(run: Prediction, tmp_path: Path) -> None:
    """What a notebook shows is the page, whole, in a frame of one's height; nothing is fetched."""
    view = run.view(height=500)
    shown = view._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert "height: 500px" in shown
    held = html.unescape(shown.split('"', 2)[1])
    page = run.report(tmp_path / "page.html").read_text("utf-8")
    without_times = [re.sub(r"20\d\d-\d\d-\d\d[ T][0-9:]+", "", text) for text in (held, page)]
    assert len(without_times[0]) == len(without_times[1])
    assert held == view.page
    assert len(repr(view)) < 100
    with pytest.raises(OptionError, match="height must be a number of pixels, 1 or more; got 0"):
        run.view(height=0)


def test_report_of_a_prediction_needs_a_pages_name(run: Prediction, tmp_path: Path) -> None:
    """A folder, or another suffix, is no page."""
    with pytest.raises(OptionError, match=r"path must be a page's, such as report.html; got"):
        run.report(tmp_path / "out")


def test_roi_means_of_a_page_are_the_tables(run: Prediction, tmp_path: Path) -> None:
    """Each mean of rois.tsv is in the page, by stimulus, ROI, hemisphere and person."""
    run.save(tmp_path / "run")
    rois = held(write_report(tmp_path / "run"))["rois"]
    values = numbers(rois["values"], "<f4").reshape(5, len(rois["places"]), len(rois["owners"]))
    with (tmp_path / "run" / "rois.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    assert len(rows) == values.size
    for row in rows:
        at = (
            NAMES.index(row["stimulus"]),
            rois["places"].index([row["roi"], row["hemi"]]),
            rois["owners"].index(row["subject"]),
        )
        assert values[at] == pytest.approx(float(row["mean"]), rel=1e-5)
        assert row["unit"] == rois["unit"] == "model units"


def test_surface_operator_is_the_librarys(run: Prediction, tmp_path: Path) -> None:
    """The page's sparse matrix gives what `sampling_matrix` gives, to its 16 bits."""
    surfaces = held(run.report(tmp_path / "page.html"))["scene"]["surfaces"]
    for hemi, points in fsaverage5_places().items():
        expected = sample(sampling_matrix(points, run.mask, run.affine), run.group)[0]
        found = surfaces[hemi]
        starts, voxels = numbers(found["starts"], "<u4"), numbers(found["voxels"], "<u4")
        weights = numbers(found["weights"], "<u2") / 65535
        known = np.flatnonzero(np.diff(starts))
        assert known.tolist() == np.flatnonzero(np.isfinite(expected)).tolist()
        for vertex in known[::50]:
            part = slice(starts[vertex], starts[vertex + 1])
            assert weights[part] @ run.group[0, voxels[part]] == pytest.approx(
                expected[vertex], abs=2e-4
            )


def test_static_slices_show_left_on_the_left(run: Prediction) -> None:
    """A map of the left hemisphere alone colours the left half of each picture."""
    side = np.argwhere(run.mask) @ run.affine[:3, :3].T + run.affine[:3, 3]
    values = np.where(side[:, 0] < 0, 1, np.nan).astype(np.float32)
    empty = np.zeros(run.mask.shape, np.uint8)
    png = base64.b64decode(map_strip(values, run.mask, empty, run.affine, 1))
    pixels = np.asarray(Image.open(io.BytesIO(png))).astype(int)
    red = (pixels[..., 0] - pixels[..., 2]) > 20
    columns = np.flatnonzero(red.any(axis=0)) % run.mask.shape[0]
    assert columns.size
    assert columns.max() < run.mask.shape[0] / 2


@pytest.mark.parametrize("axes", ["RAS", "LIA", "ASR", "PSL"])
def test_static_slices_are_axial_on_any_grid(
    run: Prediction, rng: np.random.Generator, axes: str
) -> None:
    """The same map on a grid whose axes run otherwise, as FreeSurfer's do, is the same picture."""
    grey = rng.integers(0, 255, run.mask.shape).astype(np.uint8)
    volume = np.full(run.mask.shape, np.nan, np.float32)
    volume[run.mask] = run.group[0]
    own = io_orientation(run.affine)
    other = ornt_transform(own, axcodes2ornt(axes))
    affine = run.affine @ inv_ornt_aff(other, run.mask.shape)
    turned, mask, template = (apply_orientation(x, other) for x in (volume, run.mask, grey))
    drawn = map_strip(turned[mask], mask, template, affine, 2)
    assert drawn == map_strip(run.group[0], run.mask, grey, run.affine, 2)


def test_names_are_text(
    rng: np.random.Generator, make_template_run: MakeRun, tmp_path: Path
) -> None:
    """No name, reason or citation can end an element or begin one."""
    names = ["<img src=x onerror=alert(1)>.jpg", "a.png", "b.png", "c.png", "&amp;.png"]
    page = make_template_run(rng, names).report(tmp_path / "page.html")
    text = page.read_text(encoding="utf-8")
    assert "<img src=x" not in text
    assert [item["name"] for item in held(page)["items"]] == names
    assert "A paper &amp; another &lt;2024&gt;." in text


def test_links_lead_to_files_beside_the_page(run: Prediction, tmp_path: Path) -> None:
    """A page in its run's folder links to the files; one that is elsewhere names them."""
    run.save(tmp_path / "run")
    beside = write_report(tmp_path / "run").read_text("utf-8")
    apart = write_report(tmp_path / "run", tmp_path / "page.html").read_text("utf-8")
    assert '<a href="./predictions.json">predictions.json</a>' in beside
    assert "<a href" not in apart
    assert "are in predictions.json." in apart


def test_json_in_a_page_cannot_end_its_element() -> None:
    """What ends a script element, or a line of JavaScript, is spelt out."""
    assert "<" not in as_json(["</script>", "<!--"])
    assert json.loads(as_json(["</script>\u2028"])) == ["</script>\u2028"]


def test_policy_names_scripts_by_digest_and_no_network(run: Prediction, tmp_path: Path) -> None:
    """The page's own scripts and style may run, by SHA-256, and nothing may be fetched."""
    page = run.report(tmp_path / "page.html")
    text = page.read_text(encoding="utf-8")
    [said] = re.findall(r'Content-Security-Policy" content="(.*?)"', text)
    said = said.replace("&#39;", "'")
    scripts = re.findall(r"<script>(.*?)</script>", text, flags=re.DOTALL)
    style = text.split("<style>")[1].split("</style>")[0]
    assert len(scripts) == 2
    assert said == policy(scripts[::-1], style)
    assert "http" not in said
    assert "unsafe" not in said
    assert said.startswith("default-src 'none'")


def test_viewer_is_what_the_tool_builds() -> None:
    """The packaged viewer has the digest that tools/build_viewer.py checks, and its licence."""
    tool = (Path(__file__).parents[1] / "tools" / "build_viewer.py").read_text()
    [digest] = re.findall(r'SHA256 = "(\w+)"', tool)
    data = (STATIC / "niivue.js").read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest
    assert len(data) < 1_000_000
    assert "BSD 2-Clause License" in (STATIC / "niivue.LICENSE").read_text()


def test_every_script_is_in_the_page() -> None:
    """No script lies there unused, and the adapter to the viewer stays short."""
    named = {*SCRIPTS, *BARE}
    assert {path.stem for path in (STATIC / "js").glob("*.js")} == named
    adapter = (STATIC / "js" / "viewer.js").read_text().splitlines()
    assert sum(bool(line.strip()) for line in adapter) < 100


def test_more_maps_than_a_page_holds_are_counted(
    run: Prediction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page holds the first maps and says how many there are."""
    assert MOST_MAPS == 2000
    run.save(tmp_path / "run")
    for module in ("maps", "contents"):
        monkeypatch.setattr(f"imgtofmri.report.{module}.MOST_MAPS", 3)
    page = write_report(tmp_path / "run")
    assert len(held(page)["items"]) == 3
    assert "This page holds the first 3 of 5 maps." in page.read_text(encoding="utf-8")


def test_pictures_that_changed_are_not_shown(run: Prediction, tmp_path: Path) -> None:
    """A thumbnail is of the file whose digest was recorded; else there is none."""
    run.save(tmp_path / "run")
    Image.new("RGB", (60, 40)).save(tmp_path / "p1.png")
    (tmp_path / "p2.png").unlink()
    shown = [bool(item["thumb"]) for item in held(write_report(tmp_path / "run"))["items"]]
    assert shown == [True, False, False, True, True]


def test_surfaces_are_cited_where_they_are_shown(run: Prediction, tmp_path: Path) -> None:
    """A page without maps cites none: see the one of `power`."""
    run.save(tmp_path / "run")
    assert "Surfaces: Wu et al." in write_report(tmp_path / "run").read_text()


def test_page_of_a_store_is_refused(run: Prediction, tmp_path: Path) -> None:
    """Its record has no inputs: a page would tell of responses to 0 images."""
    run.save(tmp_path / "store", "zarr")
    with pytest.raises(DataError, match=r"this one is a store, of which no page is made"):
        write_report(tmp_path / "store")
    assert not (tmp_path / "store" / "report.html").exists()


class TestRefused:
    """A folder that is no run's, or is damaged, is told of in one line."""

    @pytest.fixture
    def folder(self, run: Prediction, tmp_path: Path) -> Path:
        """Write a run."""
        run.save(tmp_path / "run")
        return tmp_path / "run"

    def test_no_folder(self, tmp_path: Path) -> None:
        """A path that is not there."""
        with pytest.raises(DataError, match=r"expected the folder of a run; there is no such"):
            write_report(tmp_path / "missing")

    def test_a_foreign_folder(self, tmp_path: Path) -> None:
        """Files of others, JSON among them."""
        (tmp_path / "other.json").write_text('{"a": 1}')
        with pytest.raises(DataError, match=r"expected a folder with the record of a run; there"):
            write_report(tmp_path)

    def test_a_missing_volume(self, folder: Path) -> None:
        """A file that the record lists."""
        (folder / "p3.png.nii.gz").unlink()
        with pytest.raises(DataError, match=r"expected p3.png.nii.gz as the run wrote it; it is m"):
            write_report(folder)
        assert not (folder / "report.html").exists()

    def test_another_volume(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A file that is not what the run wrote; the command names the option to make it anew."""
        shutil.copyfile(folder / "p1.png.nii.gz", folder / "p3.png.nii.gz")
        with pytest.raises(DataError, match=r"another file than the run wrote: its digest differs"):
            write_report(folder)
        assert main(["report", str(folder)]) == 1
        assert capsys.readouterr().err.endswith("Run the command again with --overwrite.\n")

    def test_a_damaged_record(self, folder: Path) -> None:
        """Half a record."""
        record = folder / "predictions.json"
        record.write_text(record.read_text()[:200])
        with pytest.raises(DataError, match=r"it is damaged or of another kind \(JSONDecodeError"):
            write_report(folder)

    def test_a_record_of_another_version(self, folder: Path) -> None:
        """A schema that is not known."""
        self._edit(folder, RecordVersion=99)
        with pytest.raises(DataError, match=r"its version is 99, not 1"):
            write_report(folder)

    def test_a_run_under_way(self, folder: Path) -> None:
        """Its files still come."""
        self._edit(folder, state="running")
        with pytest.raises(DataError, match=r"a run that has ended; this one is under way"):
            write_report(folder)

    def test_files_outside(self, folder: Path) -> None:
        """A record that names what is not its own."""
        content = json.loads((folder / "predictions.json").read_text())
        content["inputs"][0]["outputs"][0]["file"] = "../secret.nii.gz"
        (folder / "predictions.json").write_text(json.dumps(content))
        with pytest.raises(DataError, match=r"it is not a file of the run's folder"):
            write_report(folder)

    def test_two_records(self, folder: Path) -> None:
        """Two runs in one folder: which one is meant must be said, and can be."""
        shutil.copyfile(folder / "predictions.json", folder / "contrast.json")
        with pytest.raises(OptionError, match=r"got contrast.json, predictions.json. Name the one"):
            write_report(folder)
        assert write_report(folder / "predictions.json").is_file()

    @staticmethod
    def _edit(folder: Path, **changes: Any) -> None:
        record = folder / "predictions.json"
        record.write_text(json.dumps(json.loads(record.read_text()) | changes))


@pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")
class TestCommand:
    """`imgtofmri predict` and `imgtofmri report`, with a real network of random weights."""

    def _predict(self, encoder: Path, weights: Path, out: Path, *more: str) -> int:
        named = ["--encoder", str(encoder), "--weights", str(weights)]
        return main(["predict", *more, "-o", str(out), "-q", *named])

    def test_predict_writes_a_page_and_says_so(
        self,
        dark_and_bright: Any,
        small_encoder: Path,
        random_weights: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """The last line says what to open; the record, what was typed; `report` makes it anew.

        Thumbnails alone differ: they are of what the network saw, later of the files.
        """
        dark, _ = dark_and_bright(3)
        out = tmp_path / "out"
        assert self._predict(small_encoder, random_weights, out, str(dark)) == 0
        assert capsys.readouterr().err.splitlines()[-1] == f"open {out / 'report.html'}"
        typed = json.loads((out / "predictions.json").read_text())["command_line"]
        assert typed.startswith(f"imgtofmri predict {dark} -o {out}")
        pages = [(out / "report.html").read_bytes()]
        assert main(["report", str(out)]) == 0
        pages.append((out / "report.html").read_bytes())
        jpeg = re.compile(rb"/9j/[A-Za-z0-9+/=]+")
        assert len({jpeg.sub(b"", page) for page in pages}) == 1
        assert len({len(jpeg.findall(page)) for page in pages}) == 1

    def test_no_report_leaves_none(
        self, dark_and_bright: Any, small_encoder: Path, random_weights: Path, tmp_path: Path
    ) -> None:
        """Without a page there is none, and that of an earlier run does not stay."""
        dark, _ = dark_and_bright(2)
        out = tmp_path / "out"
        self._predict(small_encoder, random_weights, out, str(dark))
        assert (out / "report.html").is_file()
        self._predict(small_encoder, random_weights, out, str(dark), "--no-report", "--overwrite")
        assert not (out / "report.html").exists()

    def test_resumed_table_is_complete_and_in_order(
        self, dark_and_bright: Any, small_encoder: Path, random_weights: Path, tmp_path: Path
    ) -> None:
        """However a run was resumed, it ends with the table of a run that was not."""
        folders = list(map(str, dark_and_bright(3)))
        whole, parts = tmp_path / "whole", tmp_path / "parts"
        self._predict(small_encoder, random_weights, whole, *folders)
        self._predict(small_encoder, random_weights, parts, folders[1])
        shutil.copyfile(parts / "rois.tsv", parts / "rois.part.tsv")
        with (parts / "rois.part.tsv").open("a") as file:
            file.write("dark0.png\tLOC\tL")
        self._predict(small_encoder, random_weights, parts, *folders, "--resume")
        assert (parts / "rois.tsv").read_bytes() == (whole / "rois.tsv").read_bytes()
        assert not (parts / "rois.part.tsv").exists()
        (parts / "rois.tsv").unlink()
        self._predict(small_encoder, random_weights, parts, *folders, "--resume")
        assert (parts / "rois.tsv").read_bytes() == (whole / "rois.tsv").read_bytes()


def test_series_longer_than_memory_is_read_a_volume_at_a_time(tmp_path: Path) -> None:
    """Of a film of ten minutes all volumes together are gigabytes, of which a page needs a few."""
    data = np.zeros((40, 50, 40, 120), np.float32)
    data[3, 4, 5] = np.arange(120)
    nib.save(nib.Nifti1Image(data, np.diag([2.0, 2, 2, 1])), tmp_path / "film.nii.gz")
    n_bytes = data.nbytes
    del data
    tracemalloc.start()
    try:
        affine, volumes = read_series(tmp_path / "film.nii.gz")
        assert [float(volume[3, 4, 5]) for volume in volumes] == list(range(120))
        assert tracemalloc.get_traced_memory()[1] < n_bytes / 10
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(affine, np.diag([2.0, 2, 2, 1]))


def test_series_that_is_damaged_is_one_error(tmp_path: Path) -> None:
    """Cut short, or a single volume: said with the file's name."""
    path = tmp_path / "film.nii.gz"
    rng = np.random.default_rng(0)
    nib.save(nib.Nifti1Image(rng.normal(size=(9, 9, 9, 20)).astype(np.float32), np.eye(4)), path)
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(DataError, match=r"film\.nii\.gz must be a whole NIfTI image"):
        list(read_series(path)[1])
    nib.save(nib.Nifti1Image(np.ones((9, 9, 9), np.float32), np.eye(4)), path)
    with pytest.raises(DataError, match=r"film\.nii\.gz must be a 4-D image"):
        read_series(path)


@pytest.mark.slow
def test_page_shows_the_maps_of_a_condition_whose_name_ends_like_that_of_p(
    rng: np.random.Generator, make_template_run: MakeRun, tmp_path: Path
) -> None:
    """Its files are called house-minus-face_p_t.nii.gz and the like, which are no maps of p."""
    prediction = make_template_run(rng, tuple(f"{number}.png" for number in range(8)))
    save_contrast(compute_contrast(prediction, ["house", "face_p"] * 4, None, 10), tmp_path / "out")
    names = [item["name"] for item in held(write_report(tmp_path / "out"))["items"]]
    assert names == [f"house-minus-face_p_{name}" for name in FILES]


@pytest.mark.slow
def test_colours_of_a_page_end_where_those_of_the_volumes_do(
    rng: np.random.Generator, make_template_run: MakeRun, tmp_path: Path
) -> None:
    """Else a map of 1 - p without anything significant would be as red as one full of it."""
    prediction = make_template_run(rng, tuple(f"{number}.png" for number in range(8)))
    same = replace(prediction, group=np.tile(rng.normal(size=prediction.mask.sum()), (8, 1)))
    noise = rng.normal(size=same.group.shape) * 1e-3
    noise[:4, 0] += 1e-5
    result = compute_contrast(replace(same, group=same.group + noise), ["a", "b"] * 4, None, 10)
    save_contrast(result, tmp_path / "out")
    page = write_report(tmp_path / "out")
    kinds = held(page)["maps"]["kinds"]
    for name, kind in zip(FILES, kinds, strict=True):
        end = float(nib.load(tmp_path / "out" / f"a-minus-b_{name}.nii.gz").header["cal_max"])
        assert kind["limit"] == pytest.approx(end, rel=0.1)
    assert [kind["limit"] for kind in kinds[2:]] == [1, 1, 1]
    assert "(, colours end" not in page.read_text("utf-8")


def test_methods_say_where_responses_were_read(
    rng: np.random.Generator, make_template_run: MakeRun, tmp_path: Path
) -> None:
    """What `rsa`, `select`, `power`, `explain` say of ROIs is of each person's own, unsmoothed."""
    make_template_run(rng, ["a.png", "b.png"]).save(tmp_path)
    run = open_run(tmp_path)

    def said(command: str, **settings: Any) -> str:
        changes = {"command": command, "settings": settings}
        return methods(replace(run, content={**run.content, **changes}))

    for command in OF_OWN_ROIS:
        assert "nothing was smoothed" in said(command)
        assert "Gaussian" not in said(command)
    for command in set(DID) - set(OF_OWN_ROIS):
        assert "Gaussian" in said(command)
    [roi, *_] = run.prediction["rois"]
    assert "nothing was smoothed" in said("explain", targets=[roi])
    assert "Gaussian" in said("explain", targets=["-20, -90, 2 mm"])


def test_means_over_time_are_of_the_regions_whose_names_hold_the_sign_that_parts_them(
    tmp_path: Path,
) -> None:
    """FFA_1 of the group is not a region 1 of somebody called group_FFA."""
    means = RoiMeans(
        (("V1_d", "L"), ("V1_d", "both"), ("d", "L")), ("S_1", "S"), np.arange(24).reshape(3, 2, 4)
    )
    columns = mean_columns(means)
    lines = ["\t".join(["onset", *columns])]
    rows = zip(np.arange(4) / 2, *columns.values(), strict=True)
    lines += ["\t".join(map(str, row)) for row in rows]
    (tmp_path / "film.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    onsets_s, found = read_timeseries(tmp_path / "film.tsv", "model units", 3)
    assert onsets_s.tolist() == [0, 0.5, 1]
    assert (tuple(found.places), found.owners) == (means.places, ["group", "S_1", "S"])
    np.testing.assert_array_equal(found.values[:, :, 1:], means.values[:, :, :3].transpose(2, 0, 1))
    np.testing.assert_array_equal(found.values[:, :, 0], means.group[:, :3].T)


@pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")
@pytest.mark.parametrize("n_frames", [1, 3])
def test_film_shorter_than_its_table_is_one_error(
    small_encoder: Path, random_weights: Path, tmp_path: Path, n_frames: int
) -> None:
    """A film of a single frame has its page; no frame is left out in silence."""
    import av

    with av.open(tmp_path / "film.mp4", "w") as film:
        stream = film.add_stream("libx264", rate=2)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for k in range(n_frames):
            picture = np.full((64, 64, 3), 60 * k, np.uint8)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        film.mux(stream.encode())
    out = tmp_path / "out"
    chosen: dict[str, Any] = {"weights": random_weights, "report": True, "progress": False}
    predict_into(out, small_encoder, tmp_path / "film.mp4", rate_hz=2.0, **chosen)
    frames = "1 frame" if n_frames == 1 else f"{n_frames} frames"
    assert f"a film ({frames})" in (out / "report.html").read_text("utf-8")
    series = out / "film.mp4.nii.gz"
    before = hashlib.sha256(series.read_bytes()).hexdigest()
    image = nib.load(series)
    nib.save(nib.Nifti1Image(image.get_fdata(dtype=np.float32)[..., :-1], image.affine), series)
    after = hashlib.sha256(series.read_bytes()).hexdigest()
    record = out / "predictions.json"
    record.write_text(record.read_text("utf-8").replace(before, after), "utf-8")
    with pytest.raises(
        DataError, match=r"predictions\.json: expected all that a page|film\.mp4\.nii"
    ):
        write_report(out)


def test_similarity_is_over_all_voxels_that_all_maps_know(rng: np.random.Generator) -> None:
    """Voxels are taken some at a time; the oracle is NumPy's correlation of all of them."""
    n_voxels = 2 * TOGETHER + 300
    maps = MapRows(np.ones((n_voxels, 1, 1), bool), np.eye(4), 6)
    shared = rng.normal(size=n_voxels)
    for number in range(6):
        values = shared * number + rng.normal(size=n_voxels)
        values[number * 400 :: 997] = np.nan
        maps.add(str(number), values)
    rows = np.array([maps.row(number) for number in range(6)], np.float64)
    known = np.isfinite(rows).all(axis=0)
    assert not known.all()
    expected = np.corrcoef(rows[:, known])[np.triu_indices(6, 1)]
    assert maps.similarity() / LARGEST == pytest.approx(expected, abs=1 / LARGEST)


@pytest.mark.parametrize("shape", [(0, 7), (1, 5), (700, 1500)])
def test_numbers_that_are_packed_in_parts_come_back(
    shape: tuple[int, int], rng: np.random.Generator
) -> None:
    """As those that are packed at once, however many parts there are."""
    values = rng.integers(-LARGEST, LARGEST, shape, dtype=np.int16)
    text = b"".join(packed_parts(values)).decode("ascii")
    assert gzip.decompress(base64.b64decode(text, validate=True)) == values.tobytes()
