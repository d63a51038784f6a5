"""A movie beside its predicted response."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from imgtofmri.analyses.render.figures import BrainPanel
from imgtofmri.analyses.render.video import find_codec, write_video
from imgtofmri.cli import main
from imgtofmri.exceptions import MissingDependencyError
from imgtofmri.stimuli import Movie, Shown

pytestmark = pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")

STAMPS = [0, 40, 120, 160, 400, 520]
"""Times in milliseconds: the pictures of a phone come at no steady rate."""


def write_film(path: Path) -> Path:
    """Write six pictures, each of another colour, at uneven times; the last for 80 ms."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, stamp in enumerate(STAMPS):
            pixels = np.full((64, 96, 3), 40 * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = stamp, Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            packet.duration = 80
            container.mux(packet)
    return path


def times_ms(path: Path) -> list[float]:
    """Return when the pictures of a movie appear."""
    return [float(1000 * shown.time * shown.tick_s) for shown in Movie(path).pictures()]


def test_pictures_are_all_of_a_movie_as_shown(tmp_path: Path) -> None:
    """Each once, at its own size and time."""
    shown = list(Movie(write_film(tmp_path / "film.mp4")).pictures())
    assert [float(1000 * one.time * one.tick_s) for one in shown] == STAMPS
    assert {one.pixels.shape for one in shown} == {(64, 96, 3)}
    levels = [one.pixels.mean() for one in shown]
    np.testing.assert_allclose(levels, [40 * number for number in range(6)], atol=4)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
def test_video_keeps_times_of_pictures(codec: str, tmp_path: Path) -> None:
    """With every encoder, to less than a tick of its clock; the film's length is kept, too."""
    ticks = [0, 3754, 7507, 60_000]
    pixels = np.zeros((64, 96, 3), np.uint8)
    pictures = [Shown(tick, 3753, Fraction(1, 90_000), pixels) for tick in ticks]
    assert write_video(tmp_path / "out.mp4", pictures, codec) == 4
    wanted = [tick / 90 for tick in ticks]
    coarse_ms = 0.02 if codec == "mpeg4" else 1e-9
    np.testing.assert_allclose(times_ms(tmp_path / "out.mp4"), wanted, atol=coarse_ms)
    last = list(Movie(tmp_path / "out.mp4").pictures())[-1]
    assert float(last.duration * last.tick_s) == pytest.approx(3753 / 90_000, abs=2e-5)


def test_a_build_without_encoders_says_what_it_needs() -> None:
    """No silent failure where a wheel lacks them."""
    assert find_codec(["no_such", "mpeg4"]) == "mpeg4"
    with pytest.raises(MissingDependencyError, match="needs one of the encoders no_such"):
        find_codec(["no_such"])


@pytest.mark.slow
def test_panel_draws_each_map_anew_on_one_scale() -> None:
    """A map drawn again after another is the same picture; more of the map is more red."""
    mask = np.zeros((10, 10, 10), bool)
    mask[3:7, 3:7, 3:7] = True
    affine = np.array([[2.0, 0, 0, -30], [0, 2, 0, -90], [0, 0, 2, -10], [0, 0, 0, 1]])
    panel = BrainPanel(300, 240, mask, affine, 1.0, "response (z)", "note")
    few, many = np.full(64, np.nan, np.float32), np.ones(64, np.float32)
    few[:8] = 1
    first, second = panel.draw(few, "one"), panel.draw(many, "one")
    assert first.shape == (240, 300, 3)
    np.testing.assert_array_equal(panel.draw(few, "one"), first)

    def red(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> int:
        values = pixels[:, :, 0].astype(int) - pixels[:, :, 2]
        return int((values[: 240 * 85 // 100] > 60).sum())

    assert red(second) > red(first) > 0


def test_render_writes_film_and_brain_side_by_side(
    small_encoder: Path,
    random_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The film's pictures at the film's times, on the left; the record beside."""
    film = write_film(tmp_path / "film.mp4")
    options = ["--encoder", str(small_encoder), "--weights", str(random_weights), "-q"]
    words = ["render", str(film), "-o", str(tmp_path / "out"), "--height", "240", *options]
    assert main(words) == 0
    made = tmp_path / "out" / "film.mp4_brain.mp4"
    assert str(made) in capsys.readouterr().err
    assert times_ms(made) == STAMPS
    shown = list(Movie(made).pictures())
    assert shown[0].pixels.shape == (240, 360 + 300, 3)
    levels = [one.pixels[:, :350].mean() for one in shown]
    np.testing.assert_allclose(levels, [40 * number for number in range(6)], atol=4)
    record = json.loads((tmp_path / "out" / "render.json").read_text("utf-8"))
    assert record["inputs"][0]["name"] == "film.mp4"
    assert record["outputs"][0]["file"] == "film.mp4_brain.mp4"
    assert main([*words, "--overwrite", "--height", "241"]) == 2
    assert "--height must be even and from 240 to 2160" in capsys.readouterr().err
