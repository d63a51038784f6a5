"""Pages of results in a real browser that has no network: what it draws, says and lets one do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
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

from imgtofmri import Encoder, Prediction
from imgtofmri.analyses.predict import predict_into
from imgtofmri.bundle import Bundle
from imgtofmri.report import write_report

MakeRun = Callable[..., Prediction]
NAMES = (*(f"house{k}.png" for k in range(4)), *(f"face{k}.png" for k in range(3)))
EVIL = "<img src=x onerror=alert(1)>.jpg"

pytestmark = pytest.mark.slow


class Page:
    """A page that is open, with what the browser complained of and asked for."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))
        page.on("request", self._asked)

    def _said(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _asked(self, request: Any) -> None:
        if not request.url.startswith(("file:", "data:", "blob:")):
            self.requests.append(request.url)

    def open(self, file: Path, hash: str = "") -> Page:
        """Open a file and wait until it is alive."""
        self.page.goto(f"{file.resolve().as_uri()}{hash}")
        self.page.wait_for_selector("html.ready", state="attached", timeout=60_000)
        return self

    def values(self) -> np.ndarray:
        """Return the numbers that are shown, NaN where there is none."""
        told = self.page.evaluate("() => Array.from(imgtofmri.values(), (x) => x === x ? x : null)")
        return np.array([np.nan if value is None else value for value in told])

    def update(self, **changes: Any) -> None:
        """Change what is shown, as controls do, and wait until it is drawn."""
        drawn = "new Promise((f) => requestAnimationFrame(() => requestAnimationFrame(f)))"
        self.page.evaluate(f"(c) => {{ imgtofmri.state.update(c); return {drawn}; }}", changes)

    def text(self, selector: str) -> str:
        """Return the text of an element."""
        return str(self.page.locator(selector).inner_text())


@pytest.fixture
def opened(launched: Callable[..., Any]) -> Iterator[Callable[..., Page]]:
    """Return what opens pages in a browser without network; nothing may be asked or complained."""
    pages: list[Page] = []

    def make(file: Path, hash: str = "", *, gl: bool = True, **context: Any) -> Page:
        size = {"width": 1280, "height": 900}
        options = {"viewport": size, "offline": True, "accept_downloads": True} | context
        pages.append(Page(launched(gl).new_context(**options).new_page()))
        return pages[-1].open(file, hash)

    yield make
    for page in pages:
        assert page.complaints == []
        assert page.requests == []
        page.page.context.close()


@pytest.fixture(scope="module")
def run(make_template_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> Prediction:
    """Return a prediction for seven pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    return make_template_run(np.random.default_rng(5), NAMES, folder=folder)


@pytest.fixture(scope="module")
def page(run: Prediction, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return its page."""
    return run.report(tmp_path_factory.mktemp("page") / "report.html")


def red_and_blue(png: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return which pixels of a picture are of the scale's red end, and of its blue."""
    import io

    from PIL import Image

    red, _, blue = np.moveaxis(np.asarray(Image.open(io.BytesIO(png)).convert("RGB")), 2, 0).astype(
        int
    )
    return red - blue > 40, blue - red > 40


def test_any_map_and_any_difference_is_what_the_tables_say(
    opened: Callable[..., Page], page: Path, run: Prediction
) -> None:
    """A stimulus, and a group minus a group: the page's numbers are the maps', to int16."""
    shown = opened(page)
    step = float(np.abs(run.group).max()) / 32767
    assert shown.values() == pytest.approx(run.group[0], abs=step)
    shown.update(a=[0, 1, 2, 3], b=[4, 5, 6])
    assert shown.values() == pytest.approx(
        run.group[:4].mean(axis=0) - run.group[4:].mean(axis=0), abs=2 * step
    )
    assert shown.text("#shown") == "mean of 4 − mean of 3"


def test_roi_means_are_the_tables(opened: Callable[..., Page], page: Path, run: Prediction) -> None:
    """The table under the bars has each person's mean of the own ROI, minus the other group's."""
    shown = opened(page)
    shown.update(a=[1], b=[5])
    means = run.roi_means()
    expected = means.values[0, :, 1] - means.values[0, :, 5]
    cells = shown.page.locator("#roi-table tbody tr").first.locator("td").all_text_contents()
    assert cells[0] == "L"
    said = [float(cell.replace("−", "-")) for cell in cells[2:]]
    assert said == pytest.approx(expected, abs=6e-4)


def test_left_is_left_in_slices_and_on_surfaces(
    opened: Callable[..., Page],
    make_template_run: MakeRun,
    rng: np.random.Generator,
    tmp_path: Path,
) -> None:
    """Left voxels at the red end and right ones at the blue end are seen on their sides."""
    run = make_template_run(rng, ["sides.png"])
    x = np.argwhere(run.mask)[:, 0] * run.affine[0, 0] + run.affine[0, 3]
    sided = make_template_run(rng, ["sides.png"], group=np.where(x < 0, 1.0, -1.0)[None])
    shown = opened(sided.report(tmp_path / "page.html"))
    shown.update(at=[-20, -90, 2])
    for canvas, part in (("#slices", 3), ("#surfaces", 1)):
        red, blue = red_and_blue(shown.page.locator(canvas).screenshot())
        # Of the three slices, the first from the left is axial.
        width = red.shape[1] // part
        columns = [np.flatnonzero(seen[:, :width].any(axis=0)) for seen in (red, blue)]
        assert all(len(each) > 3 for each in columns)
        assert columns[0].mean() < columns[1].mean()
        assert columns[0].max() <= columns[1].min() + 3


def test_what_may_be_trusted_is_said_at_each_place(
    opened: Callable[..., Page], page: Path, run: Prediction
) -> None:
    """Value and coverage inside; outside the mask the model knows nothing."""
    shown = opened(page)
    voxel = np.argwhere(run.mask)[-1]
    inside = (run.affine[:3, :3] @ voxel + run.affine[:3, 3]).tolist()
    shown.update(at=inside)
    assert float(shown.text("#place-value").split()[0].replace("−", "-")) == pytest.approx(
        run.group[0, -1], rel=6e-3
    )
    assert shown.text("#place-coverage") == "3.00 people"
    shown.update(at=[0, 40, 20])
    assert shown.text("#place-value") == "outside the model"
    assert shown.text("#place-coverage") == "n/a"
    shown.update(show="coverage")
    assert shown.values() == pytest.approx(run.coverage.sum(axis=0), abs=1e-3)
    shown.update(show="response", least=1.5)
    assert np.isnan(shown.values()).tolist() == (run.coverage.sum(axis=0) < 1.5).tolist()


def test_long_names_and_many_people_have_room(
    opened: Callable[..., Page], run: Prediction, tmp_path: Path
) -> None:
    """Each person stands in the legend, no name lies over a bar, no list over a button."""
    roi, n_people = "parahippocampal_gyrus_anterior", 12
    sides = {(roi, hemi): side for (_, hemi), side in run.roi_masks.items()}
    people = np.concatenate([run.subjects] * 4)
    many = replace(
        run,
        subjects=people,
        subject_names=tuple(f"sub-{number:02d}" for number in range(n_people)),
        native=tuple(people),
        own_rois=({place: np.flatnonzero(side) for place, side in sides.items()},) * n_people,
        roi_masks=sides,
        coverage=np.concatenate([run.coverage] * 4),
    )
    shown = opened(many.report(tmp_path / "page.html"))
    bars = shown.page.locator("svg.bars").bounding_box()
    for name in many.subject_names:
        box = shown.page.locator("svg.bars text", has_text=name).bounding_box()
        assert box["x"] + box["width"] <= bars["x"] + bars["width"]
        assert box["y"] + box["height"] <= bars["y"] + bars["height"] + 1
    label = shown.page.locator("svg.bars text", has_text=roi).bounding_box()
    marks = shown.page.locator("svg.bars .person")
    assert label["y"] + label["height"] <= marks.first.bounding_box()["y"] + 2
    # A shape, and whether it is filled, tell eight people apart; the last are in the legend.
    legend = marks.all()[-n_people:][:8]
    shapes = [each.get_attribute("d").split(" ", 1)[1][-20:] for each in legend]
    filled = [each.get_attribute("class") for each in legend]
    assert len(set(zip(shapes, filled, strict=True))) == 8
    rail = shown.page.locator(".rail").bounding_box()
    sort = shown.page.locator("#sort").bounding_box()
    assert sort["x"] + sort["width"] <= rail["x"] + rail["width"]


def test_a_link_brings_the_view_back(opened: Callable[..., Page], page: Path) -> None:
    """The address says groups, scale, crosshair, view and filter; opening it shows the same."""
    shown = opened(page)
    changes = {"a": [0, 1, 2], "b": [5], "max": 1.5, "at": [-20.0, -90.0, 2.0], "view": "below"}
    shown.update(**changes, filter="face")
    again = opened(page, "#" + shown.page.evaluate("imgtofmri.state.hash"))
    told = again.page.evaluate("imgtofmri.state.values")
    assert told == told | changes | {"filter": "face"}
    assert again.text("#count") == "3 of 7"
    assert again.text("#scale-high") == "1.50"
    again.page.click("#limit-reset")
    assert again.text("#scale-high") != "1.50"


def test_a_link_to_what_a_page_has_not_shows_what_it_says(
    opened: Callable[..., Page], page: Path, run: Prediction
) -> None:
    """A link of a larger run asks for evidence that this one lacks: the response stands there."""
    shown = opened(page, "#show=accuracy")
    assert shown.text("#shown") == NAMES[0]
    assert shown.page.locator("#show").input_value() == "response"
    assert shown.text("#scale-unit").startswith("response, ")
    assert shown.values() == pytest.approx(run.group[0], abs=float(np.abs(run.group).max()) / 32767)


def test_what_is_in_the_clipboard_is_said(opened: Callable[..., Page], page: Path) -> None:
    """Where a browser lets nothing into it, the link is given to be copied by hand."""
    shown = opened(page)
    refuse = "() => Promise.reject(new Error('not here'))"
    shown.page.evaluate(f"() => {{ navigator.clipboard.writeText = {refuse}; }}")
    shown.page.click("#copy-link")
    shown.page.wait_for_function("() => document.getElementById('status').textContent")
    assert "is in the clipboard" not in shown.text("#status")
    assert shown.text("#status").endswith(f"#{shown.page.evaluate('imgtofmri.state.hash')}")


def test_keyboard_alone_does_it(opened: Callable[..., Page], page: Path) -> None:
    """Tab reaches the list; arrows, Enter, a and b choose and mark; arrows move the crosshair."""
    shown = opened(page)
    keys = shown.page.keyboard
    for _ in range(12):
        keys.press("Tab")
        if shown.page.evaluate("document.activeElement.className") == "show":
            break
    keys.press("ArrowRight")
    keys.press("Enter")
    assert shown.text("#shown") == "house1.png"
    keys.press("End")
    keys.press("b")
    assert shown.text("#shown") == "house1.png − face2.png"
    shown.page.locator("#slices").focus()
    before = shown.page.evaluate("imgtofmri.state.at")
    keys.press("ArrowRight")
    keys.press("PageUp")
    after = shown.page.evaluate("imgtofmri.state.at")
    assert np.subtract(after, before).tolist() == [2, 0, 2]


def test_sorted_and_filtered_list_makes_groups(opened: Callable[..., Page], page: Path) -> None:
    """A group can be all that a filter leaves, in whatever order."""
    shown = opened(page)
    shown.page.fill("#filter", "house")
    shown.page.click("#all-a")
    shown.page.fill("#filter", "face")
    shown.page.click("#all-b")
    assert shown.text("#shown") == "mean of 4 − mean of 3"
    shown.page.fill("#filter", "")
    shown.page.select_option("#sort", "name")
    first = shown.page.locator("#stimuli .name").first.text_content()
    assert first == "face0.png"
    shown.page.click("#swap")
    assert shown.text("#shown") == "mean of 3 − mean of 4"


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_figures_say_what_they_show(
    opened: Callable[..., Page], page: Path, tmp_path: Path, kind: str
) -> None:
    """A figure's file has the groups, the scale and the link to the view in its metadata."""
    shown = opened(page)
    shown.update(a=[0, 1], b=[4])
    with shown.page.expect_download() as waiting:
        shown.page.click(f"#save-{kind}")
    file = tmp_path / waiting.value.suggested_filename
    waiting.value.save_as(file)
    if kind == "png":
        from PIL import Image

        with Image.open(file) as picture:
            picture.load()
            assert picture.width == 2000
            about = json.loads(picture.info["Description"])
    else:
        text = file.read_text(encoding="utf-8")
        assert "<svg" in text
        [metadata] = re.findall(r"<metadata>(.*?)</metadata>", text)
        about = json.loads(metadata.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"))
    assert about["a"] == ["house0.png", "house1.png"]
    assert about["b"] == ["face0.png"]
    assert about["view"].startswith("report.html#")
    assert about["unit"] == "model units"


@pytest.mark.parametrize("gl", [True, False])
def test_paper_is_light(opened: Callable[..., Page], page: Path, gl: bool) -> None:
    """Whoever reads in the dark prints dark letters, and the maps on what is white.

    To draw what is not on paper where it has no size would be an error, of which the browser told.
    """
    import base64
    import io

    from PIL import Image

    shown = opened(page, "#theme=dark", gl=gl)
    shown.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    shown.page.emulate_media(media="print")
    shown.page.wait_for_timeout(500)
    ink = shown.page.evaluate("getComputedStyle(document.body).color")
    assert max(map(int, re.findall(r"\d+", ink))) < 64
    for picture in shown.page.locator("#printed img").all():
        _, data = str(picture.get_attribute("src")).split(",")
        opaque = Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA")
        on_paper = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque)
        assert on_paper.getpixel((2, 2)) == (255, 255, 255, 255)
    assert shown.page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_names_are_never_markup(
    opened: Callable[..., Page],
    make_template_run: MakeRun,
    rng: np.random.Generator,
    tmp_path: Path,
) -> None:
    """A stimulus that is called like an element is shown as text everywhere."""
    shown = opened(make_template_run(rng, [EVIL, "b.jpg"]).report(tmp_path / "page.html"))
    shown.update(a=[0], b=[1])
    assert shown.text("#shown") == f"{EVIL} − b.jpg"
    assert shown.page.locator("img[src=x]").count() == 0


def test_without_webgl2_slices_are_drawn(
    opened: Callable[..., Page], page: Path, run: Prediction
) -> None:
    """The page stays usable: slices, numbers and bars, and a word of what is missing."""
    shown = opened(page, gl=False)
    assert shown.page.locator("#flat-note").is_visible()
    assert not shown.page.locator("#surfaces").is_visible()
    shown.update(a=[2], b=[])
    assert shown.values() == pytest.approx(run.group[2], abs=1e-3)
    red, blue = red_and_blue(shown.page.locator("#slices").screenshot())
    assert red.sum() > 50
    assert blue.sum() > 50


@pytest.mark.parametrize("gl", [True, False])
def test_left_is_left_on_a_grid_of_other_axes(
    opened: Callable[..., Page],
    make_template_run: MakeRun,
    rng: np.random.Generator,
    tmp_path: Path,
    gl: bool,
) -> None:
    """With or without WebGL2, of voxels that are stored front to back first; arrows move, too."""
    las = make_template_run(rng, ["sides.png"])
    number = np.zeros(las.mask.shape, int)
    number[las.mask] = np.arange(1, las.mask.sum() + 1)
    other = ornt_transform(io_orientation(las.affine), axcodes2ornt("ASR"))
    affine = las.affine @ inv_ornt_aff(other, las.mask.shape)
    number = apply_orientation(number, other)
    order = number[number > 0] - 1
    x = (affine[:3, :3] @ np.argwhere(number > 0).T + affine[:3, 3:])[0]
    sided = replace(
        las,
        mask=number > 0,
        affine=affine,
        group=np.where(x < 0, 1.0, -1.0)[None].astype(np.float32),
        subjects=las.subjects[:, :, order],
        coverage=las.coverage[:, order],
        roi_masks={place: side[order] for place, side in las.roi_masks.items()},
    )
    shown = opened(sided.report(tmp_path / "page.html"), gl=gl)
    shown.update(at=[-20, -90, 2])
    red, blue = red_and_blue(shown.page.locator("#slices").screenshot())
    width = red.shape[1] // 3
    columns = [np.flatnonzero(seen[:, :width].any(axis=0)) for seen in (red, blue)]
    assert all(len(each) > 3 for each in columns)
    assert columns[0].max() <= columns[1].min() + 3
    assert shown.text("#place-value").startswith("1.00")
    shown.page.focus("#slices")
    for key in ("ArrowRight", "ArrowUp", "PageUp"):
        shown.page.keyboard.press(key)
    assert shown.page.evaluate("imgtofmri.state.at") == [-18, -88, 4]


def test_without_scripts_there_are_pictures(launched: Callable[..., Any], page: Path) -> None:
    """A browser that runs no script shows slices of the maps, methods and settings."""
    context = launched().new_context(java_script_enabled=False, offline=True)
    shown = context.new_page()
    shown.goto(page.resolve().as_uri())
    assert shown.locator(".still-life img").count() == 4
    assert shown.locator(".still-life img").first.is_visible()
    assert not shown.locator(".explore").is_visible()
    assert shown.locator("#methods").is_visible()
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_overflows_and_nothing_bars_the_way(
    opened: Callable[..., Page], page: Path, axe: str, scheme: str, width: int
) -> None:
    """On a desk and on a phone, light and dark: no sideways scrolling, no serious fault by axe."""
    shown = opened(page, viewport={"width": width, "height": 844}, color_scheme=scheme)
    wide = shown.page.evaluate("document.documentElement.scrollWidth")
    assert wide <= width
    shown.page.evaluate(axe)
    found = shown.page.evaluate("axe.run().then((r) => r.violations)")
    serious = [
        (each["id"], [node["html"][:120] for node in each["nodes"]][:3])
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
    assert serious == []


@pytest.fixture(scope="module")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return axe-core's script, from npm; skip where it cannot be had."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs npm, which axe-core comes from")
    folder = tmp_path_factory.mktemp("axe")
    command = [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", "axe-core@4.10.3"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not script.is_file():
        pytest.skip(f"axe-core cannot be had from npm: {done.stderr[-200:]}")
    return script.read_text(encoding="utf-8")


def write_film(path: Path) -> Path:
    """Write a film of six seconds whose colour changes each second."""
    import av

    with av.open(path, "w") as film:
        stream = film.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for k in range(60):
            picture = np.full((64, 96, 3), (40 * (k // 10), 30, 200 - 30 * (k // 10)), np.uint8)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        film.mux(stream.encode())
    return path


def film_page(small_encoder: Path, random_weights: Path, folder: Path) -> Path:
    """Predict a film and write its page."""
    write_film(folder / "film.mp4")
    chosen: dict[str, Any] = {"weights": random_weights, "report": True, "progress": False}
    predict_into(folder / "out", small_encoder, folder / "film.mp4", rate_hz=2.0, **chosen)
    return folder / "out" / "report.html"


@pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")
@pytest.mark.parametrize("gone", [False, True])
def test_a_film_the_curves_and_the_brain_are_in_step(
    opened: Callable[..., Page],
    small_encoder: Path,
    random_weights: Path,
    tmp_path: Path,
    gone: bool,
) -> None:
    """At each time the map is that of the latest onset, with the film or with its time alone."""
    page = film_page(small_encoder, random_weights, tmp_path)
    if gone:
        (tmp_path / "film.mp4").unlink()
        page = write_report(page.parent)
    shown = opened(page)
    assert shown.page.locator("#film").is_visible()
    if gone:
        assert shown.page.locator("#film-still").is_hidden()
    for time, frame in ((0.0, 0), (0.49, 0), (0.5, 1), (2.2, 4), (5.9, 11)):
        shown.update(time=time)
        assert shown.page.evaluate("imgtofmri.state.a") == [frame]
        assert shown.text("#film-said").endswith(f"frame {frame + 1} of 12")
        volume = shown.page.evaluate(f"Array.from(imgtofmri.model.mean([{frame}]))")
        assert shown.values() == pytest.approx(np.array(volume), nan_ok=True)
    shown.update(a=[6], b=[])
    assert shown.page.evaluate("imgtofmri.state.time") == 3.0
    ticks = shown.page.locator("#film-curves text.faint").all_text_contents()
    assert ticks == ["change", "0 s", "1.5 s", "3 s", "4.5 s", "6 s"]
    shown.page.click("#film-play")
    for _ in range(60):  # A busy machine draws late.
        shown.page.wait_for_timeout(500)
        time, a = shown.page.evaluate("[imgtofmri.state.time, imgtofmri.state.a[0]]")
        if time > 3.0:
            break
    assert time > 3.0
    assert a == int(time * 2)


@pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")
def test_a_dynamics_page_shows_its_volumes_in_step(
    opened: Callable[..., Page], small_encoder: Path, random_weights: Path, tmp_path: Path
) -> None:
    """At each time stands the volume that is sampled there, with the boundaries of the run."""
    from imgtofmri.analyses.dynamics import RunSettings, predict_dynamics, save_dynamics

    film = write_film(tmp_path / "film.mp4")
    result = predict_dynamics(
        small_encoder, film, tr_s=1.0, run=RunSettings(movie_start_s=2.0), boundaries="1,4,6",
        weights=random_weights, progress=False,
    )  # fmt: skip
    save_dynamics(result, tmp_path / "out")
    shown = opened(write_report(tmp_path / "out"))
    assert shown.page.locator("#film").is_visible()
    # Volumes 0 and 1 come before the film, and have no frame.
    n_shown = len(result.maps.values) - 2
    for time, frame in ((0.0, 0), (0.9, 0), (1.0, 1), (3.5, 3)):
        shown.update(time=time)
        assert shown.page.evaluate("imgtofmri.state.a") == [frame]
        assert shown.text("#film-said").endswith(f"frame {frame + 1} of {n_shown}")
        expected = result.maps.values[frame + 2]
        step = float(np.nanmax(np.abs(expected))) / 32767
        assert shown.values() == pytest.approx(expected, abs=step, nan_ok=True)
    assert shown.page.locator("#film-curves .boundary").count() == 2  # One is before the film.
    assert "where events begin" in shown.text(".curve-note")
    rows = result.courses.query("subject == 'group' and hemi == 'both'")
    assert shown.page.locator("#film-curves .label").all_text_contents() == [
        str(roi) for roi in dict.fromkeys(rows["roi"])
    ]


class Instant:
    """A network in no time: features that depend on the picture, of a network's number."""

    def __init__(self, weights: Path) -> None:
        from imgtofmri.backbones import load_backbone

        self.spec = load_backbone("resnet18", weights=weights).spec
        self._mixed = np.random.default_rng(3).normal(size=(147, self.spec.n_features))

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Return features of a batch of pictures."""
        scenes = pixels[:, ::32, ::32].reshape(len(pixels), -1) / 255
        return np.maximum(scenes @ self._mixed, 0).astype(np.float32)


@pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")
def test_a_page_of_500_photographs_is_light_and_right(
    opened: Callable[..., Page],
    published_bundle: Bundle,
    test_data: Path,
    random_weights: Path,
    tmp_path: Path,
) -> None:
    """Real photographs, whole maps: under 25 MB; each number is the volume's, groups' too."""
    photos = sorted((test_data / "photos").glob("*.jpg"))[:500]
    encoder, network = Encoder(published_bundle), Instant(random_weights)
    predict_into(tmp_path / "out", encoder, photos, backbone=network, report=True, progress=False)
    page = tmp_path / "out" / "report.html"
    assert page.stat().st_size < 25e6
    shown = opened(page)
    assert shown.page.evaluate("imgtofmri.page.items.length") == len(photos) == 500
    volumes = [load_volume(tmp_path / "out" / f"{photo.name}.nii.gz") for photo in photos]
    mask = volumes[0] != 0
    maps = np.array([volume[mask] for volume in volumes])
    step = float(np.abs(maps).max()) / 32767
    for index in (0, 499, 250):
        shown.update(a=[index], b=[])
        assert shown.values() == pytest.approx(maps[index], abs=step)
    shown.update(a=list(range(0, 500, 2)), b=list(range(1, 500, 2)))
    difference = maps[::2].mean(axis=0) - maps[1::2].mean(axis=0)
    assert shown.values() == pytest.approx(difference, abs=2 * step)


def load_volume(path: Path) -> np.ndarray:
    """Return a volume's numbers."""
    return np.asarray(nib.load(path).get_fdata(dtype=np.float32))


def write_long_film(path: Path, minutes: float) -> Path:
    """Write a film of noise that changes twice a second."""
    import av

    rng = np.random.default_rng(1)
    with av.open(path, "w") as film:
        stream = film.add_stream("libx264", rate=2)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for _ in range(int(minutes * 120)):
            coarse = rng.integers(0, 256, (6, 10, 3), dtype=np.uint8)
            picture = np.kron(coarse, np.ones((16, 16, 1), np.uint8))
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        film.mux(stream.encode())
    return path


@pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")
def test_a_film_of_ten_minutes_is_light_and_in_step(
    opened: Callable[..., Page], published_bundle: Bundle, random_weights: Path, tmp_path: Path
) -> None:
    """1,200 whole maps: under 60 MB; at each time stands the frame of the latest onset."""
    film = write_long_film(tmp_path / "film.mp4", 10)
    encoder, network = Encoder(published_bundle), Instant(random_weights)
    predict_into(
        tmp_path / "out", encoder, film, rate_hz=2.0, backbone=network, report=True, progress=False
    )
    page = tmp_path / "out" / "report.html"
    assert page.stat().st_size < 60e6
    shown = opened(page)
    maps = np.asarray(nib.load(tmp_path / "out" / "film.mp4.nii.gz").dataobj)
    mask = (maps != 0).any(axis=3)
    step = float(np.abs(maps).max()) / 32767
    for time in (0.0, 599.6, 12.49):
        shown.update(time=time)
        frame = int(time * 2)
        assert shown.page.evaluate("imgtofmri.state.a") == [frame]
        assert shown.text("#film-said").endswith(f"frame {frame + 1} of 1200")
        assert shown.values() == pytest.approx(maps[mask][:, frame], abs=step)


def test_tables_are_sorted_by_number_and_name(
    opened: Callable[..., Page], run: Prediction, tmp_path: Path
) -> None:
    """A heading sorts its column, numbers as numbers, once more the other way."""
    from imgtofmri.analyses.contrast import compute_contrast, save_contrast

    conditions = {name: re.sub(r"\d.*", "", name) for name in run.names}
    result = compute_contrast(run, conditions, "house - face", n_permutations=20)
    save_contrast(result, tmp_path / "contrast")
    shown = opened(write_report(tmp_path / "contrast"))
    table = shown.page.locator("table.sortable").first
    names = table.locator("thead th").all_text_contents()
    column = names.index("difference")
    heading = table.locator("thead th button").nth(column)
    for sign in (1, -1):
        heading.click()
        rows = table.locator("tbody tr").all()
        cells = [row.locator("td").nth(column).text_content() for row in rows]
        numbers = [float(cell) for cell in cells if cell != "n/a"]
        assert numbers == sorted(numbers, key=lambda value: sign * value)
    shown.page.evaluate(
        "() => { const t = document.querySelector('table.sortable'); t.tBodies[0].rows[0].cells["
        f"{column}].textContent = 'n/a'; }}"
    )
    for _ in range(2):
        heading.click()
        last = table.locator("tbody tr").last.locator("td").nth(column)
        assert last.text_content() == "n/a"


def test_a_contrasts_page_shows_its_maps(
    opened: Callable[..., Page], run: Prediction, page: Path, tmp_path: Path
) -> None:
    """The page of a contrast has its maps; its difference is that of the groups in a run's page."""
    from imgtofmri.analyses.contrast import compute_contrast, save_contrast

    conditions = {name: re.sub(r"\d.*", "", name) for name in run.names}
    result = compute_contrast(run, conditions, "house - face", n_permutations=20)
    save_contrast(result, tmp_path / "contrast")
    contrast = opened(write_report(tmp_path / "contrast"))
    assert contrast.text("#shown").endswith("difference")
    contrast.update(a=[2])
    assert contrast.text("#shown").endswith("fdr1p")
    assert contrast.text("#scale-high") == "1.00"
    assert contrast.text("#scale-unit") == "1 - p, FDR over voxels"
    several = opened(tmp_path / "contrast" / "report.html", "#a=0-4&b=1")
    assert several.page.evaluate("[imgtofmri.state.a, imgtofmri.state.b]") == [[0], []]
    contrast.update(a=[0])
    groups = opened(page)
    groups.update(a=[0, 1, 2, 3], b=[4, 5, 6])
    between, own = groups.values(), contrast.values()
    assert len(between) == len(own)
    assert own == pytest.approx(between, abs=1e-3)
