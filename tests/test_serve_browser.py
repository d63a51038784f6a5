"""The page of a server, in a browser."""

from __future__ import annotations

import base64
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from imgtofmri.bundle import Bundle, write_bundle

pytest.importorskip("starlette", reason="needs the extra [serve]")

pytestmark = [
    pytest.mark.slow,
    # Playwright's own.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning"),
]

DROP = """
([selector, files]) => {
  const transfer = new DataTransfer();
  for (const [name, type, data] of files) {
    const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
    transfer.items.add(new File([bytes], name, { type }));
  }
  const target = document.querySelector(selector);
  for (const kind of ["dragenter", "dragover", "drop"]) {
    const more = { dataTransfer: transfer, bubbles: true, cancelable: true };
    target.dispatchEvent(new DragEvent(kind, more));
  }
}
"""

PASTE = """
([name, type, data]) => {
  const transfer = new DataTransfer();
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  transfer.items.add(new File([bytes], name, { type }));
  dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
}
"""


def _serve(
    make_bundle: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.Popen[str], str]:
    """Start a server of a small encoder and return it with its address."""
    encoder = tmp_path_factory.mktemp("encoder") / "small.safetensors"
    write_bundle(make_bundle(np.random.default_rng(5)), encoder)
    command = [sys.executable, "-m", "imgtofmri", "serve", "--encoder", str(encoder)]
    command += ["--weights", "untrained:0", "--port", "0", "--max-mb", "2", "--max-files", "40"]
    environment = os.environ | {"TMPDIR": str(tmp_path_factory.mktemp("private"))}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    found = re.search(r"http://\S+/", process.stderr.readline())
    assert found is not None
    return process, found[0]


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    process.communicate(timeout=60)


@pytest.fixture(scope="module")
def address(
    make_bundle: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Return the address of a server."""
    process, where = _serve(make_bundle, tmp_path_factory)
    yield where
    _end(process)


@pytest.fixture(params=[1280, 390])
def page(
    request: pytest.FixtureRequest, launched: Callable[..., Any], address: str
) -> Iterator[Any]:
    """Return the page on a screen and on a phone; what it logs or asks elsewhere is a failure."""
    context = launched().new_context(viewport={"width": request.param, "height": 800})
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on(
        "request",
        lambda asked: (
            None if asked.url.startswith((address, "blob:", "data:")) else wrong.append(asked.url)
        ),
    )
    page.goto(address)
    page.wait_for_selector("#rois input")
    yield page
    context.close()
    # A browser logs each answer that is a refusal.
    assert [text for text in wrong if not re.search("status of 4(04|22)", text)] == []


def _picture(seed: int, name: str = "a.png") -> list[str]:
    rng = np.random.default_rng(seed)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(file, format="PNG")
    return [name, "image/png", base64.b64encode(file.getvalue()).decode()]


def _fits(page: Any) -> bool:
    wide: int = page.evaluate("document.documentElement.scrollWidth - innerWidth")
    return wide <= 0


def test_two_photographs_are_dropped_predicted_compared_and_downloaded(page: Any) -> None:
    """Another ROI, a difference, the report's maps, and files that are whole."""
    files = [_picture(seed, f"<b id=x>{seed}.png") for seed in (1, 2)]
    page.evaluate(
        "window.told = []; new MutationObserver(() => told.push("
        "document.getElementById('doing').textContent)).observe("
        "document.getElementById('doing'), { childList: true })"
    )
    page.evaluate(DROP, ["#drop", files])
    assert page.locator("#chosen li").count() == 2
    assert page.locator("#chosen .name").first.inner_text() == "<b id=x>1.png"
    assert _fits(page)
    page.click("#predict")
    page.wait_for_selector("#results:not([hidden])", timeout=60_000)
    assert page.evaluate("told")[0] == "Sending …"
    assert page.evaluate("document.activeElement.id") == "results-title"
    page.wait_for_selector("#compare:not([hidden])")
    cells = page.locator("#bars td.number")
    shown = [cells.all_inner_texts()]
    page.select_option("#roi", "PPA")
    shown.append(cells.all_inner_texts())
    page.select_option("#minus", "0")
    shown.append(cells.all_inner_texts())
    assert shown[0] != shown[1]
    values = [float(text.replace("−", "-")) for text in shown[1]]
    differences = [float(text.replace("−", "-")) for text in shown[2]]
    assert differences == pytest.approx([0, values[1] - values[0]], abs=0.06)
    assert "minus that of <b id=x>1.png" in page.locator("#unit").inner_text()
    frame = page.frame_locator("#report")
    page.locator("#report").scroll_into_view_if_needed()
    frame.locator("#shown").wait_for()
    assert frame.locator("#stimuli li").count() == 2
    assert frame.locator("a[href]").count() == 0  # No file lies beside the address of the frame.
    frame.locator("#stimuli li").nth(1).locator(".chip.b").dispatch_event("click")
    frame.locator("#shown").filter(has_text=re.compile("−|minus")).wait_for()
    assert _fits(page)
    with page.expect_download() as download:
        page.click("#zip")
    assert Path(download.value.path()).read_bytes()[:2] == b"PK"
    page.click("summary:has-text('one by one')")
    with page.expect_download() as download:
        page.click("#files a:has-text('1')")
    assert download.value.suggested_filename.endswith((".nii.gz", ".tsv", ".json"))
    page.reload()
    page.wait_for_selector("#results:not([hidden])")
    page.click("#again")
    page.wait_for_selector("#form:not([hidden])")
    assert page.locator("#chosen li").count() == 0


def test_what_is_pasted_is_a_file_and_what_is_refused_is_said(page: Any) -> None:
    """The reason is an alert; files can be taken out again, by keyboard, too."""
    page.evaluate(PASTE, _picture(3))
    assert page.locator("#chosen li").count() == 1
    page.locator("#chosen button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#chosen li").count() == 0
    assert page.locator("#predict").is_disabled()
    page.evaluate(DROP, ["#drop", [["note.png", "image/png", "bm90IGEgcGljdHVyZQ=="]]])
    page.locator("#predict").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#problem:not([hidden])")
    assert page.locator("#problem").get_attribute("role") == "alert"
    assert "expected an image" in page.locator("#problem").inner_text()
    assert page.locator("#chosen li").count() == 1
    many = [["a.png", "image/png", "AAAA"]] * 41
    page.evaluate(DROP, ["#drop", many])
    assert "At most 40 files" in page.locator("#problem").inner_text()


def test_a_prediction_is_stopped_and_the_files_are_still_chosen(page: Any) -> None:
    """Its progress is seen; the job is dropped on the server, and can be sent again."""
    page.evaluate(DROP, ["#drop", [_picture(seed) for seed in range(40)]])
    with page.expect_response(lambda answer: answer.request.method == "POST") as sent:
        page.click("#predict")
    page.locator("#doing").filter(has_text=re.compile("Starting|Predicting")).wait_for()
    page.click("#stop")
    page.wait_for_selector("#form:not([hidden])")
    assert page.locator("#chosen li").count() == 40
    path = sent.value.headers["location"]
    gone = f"fetch('{path}').then((answer) => answer.status)"
    assert page.evaluate(gone) == 404


def test_a_server_that_ends_is_missed(
    launched: Callable[..., Any],
    make_bundle: Callable[..., Bundle],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The page says that the prediction is lost, and keeps the files."""
    process, where = _serve(make_bundle, tmp_path_factory)
    page = launched().new_context().new_page()
    page.goto(where)
    page.wait_for_selector("#rois input")
    page.evaluate(DROP, ["#drop", [_picture(seed) for seed in range(40)]])
    with page.expect_response(lambda answer: answer.request.method == "POST"):
        page.click("#predict")
    _end(process)
    page.wait_for_selector("#problem:not([hidden])", timeout=60_000)
    assert "the server has ended" in page.locator("#problem").inner_text()
    assert page.locator("#chosen li").count() == 40
    page.context.close()


def test_results_that_are_gone_are_missed(page: Any, address: str) -> None:
    """An address of results that have expired says so, and new files can be sent."""
    page.goto("about:blank")
    page.goto(f"{address}#gone")
    page.wait_for_selector("#problem:not([hidden])")
    assert "These results are gone" in page.locator("#problem").inner_text()
    assert page.locator("#form").is_visible()
    assert "#" not in page.url


def test_the_interface_is_described_on_a_page(page: Any, address: str) -> None:
    """Every path has its section."""
    page.goto(f"{address}api")
    page.wait_for_selector("#schemas h3")
    titles = page.locator("#operations h2").all_inner_texts()
    assert "POST /predict" in titles
    assert "DELETE /jobs/{id}" in titles
    assert _fits(page)
