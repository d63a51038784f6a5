"""Movies into frames: which picture, at which time, upright and in the right colours."""

from __future__ import annotations

import gc
import hashlib
import io
import os
import struct
import subprocess
import sys
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from imgtofmri.exceptions import OptionError, StimulusError
from imgtofmri.stimuli import Movie, Source, StimulusWarning, prepare_image
from imgtofmri.stimuli.ahead import run_ahead
from imgtofmri.stimuli.clock import Clock, exact
from imgtofmri.stimuli.decoding import Tally, Timed, read_pictures
from imgtofmri.stimuli.pictures import orientation, prepare_picture
from imgtofmri.stimuli.sampling import Needed, check_rate, pick_nearest

WIDTH, HEIGHT = 128, 64
N_BITS = 8


def striped(number: int) -> npt.NDArray[np.uint8]:
    """Return a picture that shows a number as eight black or white stripes, the lowest bit left."""
    bits = np.array([(number >> bit) & 1 for bit in range(N_BITS)], np.uint8)
    row = np.repeat(bits * 255, WIDTH // N_BITS)
    return np.tile(row[None, :, None], (HEIGHT, 1, 3))


def number_of(pixels: npt.NDArray[np.uint8]) -> int:
    """Return the number that a frame shows."""
    stripes = pixels.reshape(pixels.shape[0], N_BITS, -1).mean(axis=(0, 2))
    return sum(int(level > 128) << bit for bit, level in enumerate(stripes))


def number_of_picture(timed: Timed) -> int:
    """Return the number that a decoded picture shows."""
    return number_of(prepare_picture(timed.picture, timed.pixel_aspect, 64, False))


def write_movie(
    path: Path,
    pictures: Iterable[npt.NDArray[np.uint8]],
    *,
    codec: str = "libx264",
    rate: Fraction | int = 25,
    times_ms: list[int] | None = None,
    pix_fmt: str = "yuv420p",
    sound_from_ms: int | None = None,
    options: dict[str, str] | None = None,
    prepare: Callable[[av.VideoFrame], av.VideoFrame] | None = None,
    container_options: dict[str, str] | None = None,
    pixel_aspect: Fraction | None = None,
    title: str | None = None,
) -> Path:
    """Write a movie; with ``times_ms`` each picture has its own time."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        if title is not None:
            container.metadata["title"] = title
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if sound_from_ms is not None:
            add_sound(container, sound_from_ms)
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame = prepare(frame) if prepare else frame.reformat(format=pix_fmt)
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[i], Fraction(1, 1000)
            else:
                frame.pts, frame.time_base = i, 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def add_sound(container: av.container.OutputContainer, from_ms: int) -> None:
    """Add two seconds of silence from a given time on."""
    stream = container.add_stream("pcm_s16le", rate=8000)
    stream.layout = "mono"
    for i in range(20):
        sound = av.AudioFrame.from_ndarray(
            np.zeros((1, 800), np.int16), format="s16", layout="mono"
        )
        sound.sample_rate, sound.time_base = 8000, Fraction(1, 8000)
        sound.pts = from_ms * 8 + i * 800
        container.mux(stream.encode(sound))
    container.mux(stream.encode(None))


def numbers(path: Path, rate_hz: float = 2.0) -> list[int]:
    """Return the numbers that the frames of a movie show."""
    return [number_of(frame.pixels) for frame in Movie(path).frames(rate_hz)]


FORMATS = [
    ("mp4", "libx264", "yuv420p"),
    ("mov", "libx264", "yuv444p"),
    ("mkv", "libx265", "yuv420p10le"),
    ("m4v", "mpeg4", "yuv420p"),
    ("avi", "mjpeg", "yuvj420p"),
    ("avi", "rawvideo", "rgb24"),
    ("webm", "libvpx-vp9", "yuv420p"),
    ("webm", "libvpx", "yuv420p"),
    ("mkv", "ffv1", "gray16le"),
    ("mkv", "ffv1", "bgr0"),
    ("mkv", "ffv1", "yuv422p10le"),
    ("mkv", "ffv1", "yuva420p"),
    ("mov", "prores_ks", "yuv422p10le"),
    ("mov", "qtrle", "argb"),
    ("mov", "png", "rgba"),
    ("mov", "png", "pal8"),
    ("mpg", "mpeg2video", "yuv420p"),
    ("ts", "libx264", "yuv420p"),
    ("wmv", "wmv2", "yuv420p"),
    ("flv", "flv", "yuv420p"),
    ("gif", "gif", "rgb8"),
]


@pytest.mark.parametrize(("suffix", "codec", "pix_fmt"), FORMATS)
def test_frames_formats_give_nearest_pictures(
    tmp_path: Path, suffix: str, codec: str, pix_fmt: str
) -> None:
    """Each container, codec and pixel format gives the picture nearest to each half second.

    At 25 Hz, 0.5 s lies half-way between the pictures 12 and 13: the earlier one counts.
    """
    quiet: dict[str, str] = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    path = tmp_path / f"clip.{suffix}"
    if pix_fmt == "pal8":
        write_movie(path, map(striped, range(55)), codec=codec, pix_fmt="pal8", prepare=paletted)
    else:
        pictures = map(striped, range(55))
        write_movie(path, pictures, codec=codec, pix_fmt=pix_fmt, options=quiet)
    frames = list(Movie(path).frames())
    assert [frame.onset_s for frame in frames] == [0, 0.5, 1, 1.5, 2]
    assert [number_of(frame.pixels) for frame in frames] == [0, 12, 25, 37, 50]
    assert Movie(path).info.fps == pytest.approx(25, rel=0.01)


def paletted(frame: av.VideoFrame) -> av.VideoFrame:
    """Return a picture as numbers of a palette of black and white."""
    palette = np.zeros((256, 4), np.uint8)
    palette[:, 0] = 255
    palette[1] = 255
    plane = (frame.to_ndarray(format="gray") > 128).astype(np.uint8)
    return av.VideoFrame.from_ndarray((plane, palette), format="pal8")


@pytest.mark.parametrize("rate_hz", [0.3, 1.0, 2.0, 3.0, 24.0, 50.0])
def test_frames_any_rate_equals_brute_force(tmp_path: Path, rate_hz: float) -> None:
    """At any rate, each frame is the picture that a search over all pictures finds."""
    rate = Fraction(24000, 1001)
    path = write_movie(tmp_path / "a.mp4", map(striped, range(100)), rate=rate)
    times = np.arange(100) / float(rate)
    onsets = np.arange(0, 100 / float(rate) - 1e-9, 1 / rate_hz)
    expected = [int(np.argmin(np.abs(times - onset))) for onset in onsets]
    frames = list(Movie(path).frames(rate_hz))
    assert [number_of(frame.pixels) for frame in frames] == expected
    np.testing.assert_allclose([frame.onset_s for frame in frames], onsets, atol=1e-9)


def test_frames_variable_rate_uses_times_not_counts(tmp_path: Path) -> None:
    """Pictures at uneven times are picked by their times, long-held ones again and again."""
    times_ms = [0, 100, 450, 560, 2400, 2440, 2480, 2990, 3030]
    path = write_movie(
        tmp_path / "vfr.mkv", map(striped, range(len(times_ms))), codec="ffv1",
        pix_fmt="yuv420p", times_ms=times_ms,
    )  # fmt: skip
    onsets = [0, 500, 1000, 1500, 2000, 2500, 3000]
    expected = [int(np.argmin(np.abs(np.array(times_ms) - onset))) for onset in onsets]
    assert numbers(path) == expected


@pytest.mark.parametrize(
    ("suffix", "codec", "options"),
    [
        ("mp4", "libx264", {"bf": "3", "b_strategy": "0"}),
        ("mkv", "libx264", {"bf": "8", "b_strategy": "2", "g": "40", "flags": "-cgop"}),
        ("mp4", "libx265", {"x265-params": "log-level=none:bframes=4"}),
        ("mp4", "mpeg4", {"bf": "2"}),
        ("mkv", "mpeg2video", {"bf": "2"}),
    ],
)
def test_needed_pictures_are_the_same_pictures_as_without_passing_over(
    tmp_path: Path, suffix: str, codec: str, options: dict[str, str], rng: np.random.Generator
) -> None:
    """Passing over pictures that nobody needs decodes fewer and changes none that is taken."""
    texture = rng.integers(0, 256, (HEIGHT, 4 * WIDTH, 3), dtype=np.uint8)
    pictures = [np.ascontiguousarray(texture[:, 3 * i : 3 * i + WIDTH]) for i in range(120)]
    path = write_movie(tmp_path / f"a.{suffix}", pictures, codec=codec, options=options)
    for rate_hz in (Fraction(1, 2), Fraction(2), Fraction(73, 10), Fraction(25)):
        needed = Movie(path).timeline.needed(rate_hz)
        assert needed is not None
        all_, some = Tally(), Tally()
        every = {timed.time: timed for timed in read_pictures(path, all_)}
        given = {timed.time: timed for timed in read_pictures(path, some, needed)}
        times = np.array(sorted(every))
        tick_s = every[0].tick_s
        end = times[-1] + every[times[-1]].duration
        onsets = [k / (rate_hz * tick_s) for k in range(1000) if k / (rate_hz * tick_s) < end]
        for onset in onsets:
            time = min(times, key=lambda time, onset=onset: (abs(time - onset), time))
            whole = every[time].picture.to_ndarray(format="rgb24")
            np.testing.assert_array_equal(given[time].picture.to_ndarray(format="rgb24"), whole)
            assert min(given, key=lambda at, onset=onset: (abs(at - onset), at)) == time
        assert {every[0].picture.pts, every[times[-1]].picture.pts} <= needed.stamps
        assert needed.all_from is None
        assert all_.good == 120
        assert max(given) == max(every)
        assert some.good < 120 if rate_hz <= 2 else some.good <= 120


KEYS_EACH_SECOND = [
    ("mp4", "libx264", {"g": "25", "bf": "0", "sc_threshold": "0"}, True),
    ("mkv", "libx264", {"g": "25", "bf": "3", "sc_threshold": "0"}, True),
    ("mp4", "libx264", {"x264-params": "keyint=25:min-keyint=25:open-gop=1:scenecut=0"}, None),
    ("mp4", "libx264", {"x264-params": "keyint=25:intra-refresh=1:scenecut=0"}, False),
    ("mp4", "libx264", {"g": "1"}, True),
    ("mp4", "libx265", {"x265-params": "log-level=none:keyint=25:min-keyint=25:scenecut=0"}, True),
    ("mkv", "libx265", {"x265-params": "log-level=none:keyint=25:open-gop=0:scenecut=0"}, None),
    ("mp4", "mpeg4", {"g": "25", "bf": "2"}, None),
    ("mkv", "mpeg2video", {"g": "25", "bf": "2", "sc_threshold": "1000000000"}, None),
    ("webm", "libvpx-vp9", {"g": "25", "keyint_min": "25", "auto-alt-ref": "1"}, True),
    ("webm", "libvpx", {"g": "25", "keyint_min": "25"}, False),
    ("mov", "mjpeg", {}, True),
    ("mov", "prores_ks", {}, True),
    ("mkv", "ffv1", {"g": "1"}, True),
    ("mkv", "ffv1", {"g": "25"}, True),
    ("mov", "png", {}, True),
]
"""Containers and codecs whose pictures of whole seconds are marked as keys, with what is expected:
that they are decoded alone, that they are not, or either."""


@pytest.mark.parametrize(("suffix", "codec", "options", "alone"), KEYS_EACH_SECOND)
def test_key_pictures_decoded_alone_are_the_same_pictures(
    tmp_path: Path,
    suffix: str,
    codec: str,
    options: dict[str, str],
    alone: bool | None,
    rng: np.random.Generator,
) -> None:
    """Whatever of a film is left out, what is taken is the same to the last level."""
    texture = rng.integers(0, 256, (HEIGHT, 4 * WIDTH, 3), dtype=np.uint8)
    pictures = [np.ascontiguousarray(texture[:, 2 * i : 2 * i + WIDTH]) for i in range(110)]
    pix_fmt = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le", "png": "rgb24"}.get(codec)
    path = write_movie(
        tmp_path / f"a.{suffix}",
        pictures,
        codec=codec,
        options=options,
        pix_fmt=pix_fmt or "yuv420p",
    )
    for rate_hz in (Fraction(1, 2), Fraction(1), Fraction(2)):
        movie = Movie(path)
        needed = movie.timeline.needed(rate_hz)
        tally = Tally()
        given = list(read_pictures(path, tally, needed))
        at = {timed.time: timed.picture.to_ndarray(format="rgb24") for timed in given}
        every = list(read_pictures(path, Tally()))
        shown = [(timed.time, timed.duration, timed) for timed in every]
        taken = [timed for _, timed in pick_nearest(shown, 1 / (rate_hz * every[0].tick_s))]
        for timed in taken:
            np.testing.assert_array_equal(at[timed.time], timed.picture.to_ndarray(format="rgb24"))
        assert (given[-1].time, given[-1].duration) == (every[-1].time, every[-1].duration)
        assert len(taken) == movie.n_frames(float(rate_hz))
        left_out = needed is not None and needed.all_from is not None
        if rate_hz <= 1 and alone is not None:
            assert left_out == alone
        if left_out:  # The last second is decoded as a whole.
            assert tally.good <= len(taken) + 36


def test_frames_are_the_same_where_key_pictures_are_only_marked_so(tmp_path: Path) -> None:
    """A container that marks other pictures as keys, too, is not believed."""
    path = write_movie(tmp_path / "a.mp4", map(striped, range(110)), codec="mpeg2video")
    marked = tmp_path / "marked.mp4"
    mux(marked, path, [(data, True) for data, _ in packets_of(path)])
    assert all(is_key for _, is_key in packets_of(marked))
    needed = Movie(marked).timeline.needed(Fraction(1))
    assert needed is None or needed.all_from is None
    assert numbers(marked, 1.0) == numbers(path, 1.0) == [0, 25, 50, 75, 100]


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video", "libvpx-vp9"])
def test_pictures_that_do_not_stand_alone_are_found_out_when_decoded(
    tmp_path: Path, codec: str
) -> None:
    """Whoever says that pictures stand alone and is wrong gets the right ones."""
    path = write_movie(tmp_path / "a.mkv", map(striped, range(110)), codec=codec)
    every = list(read_pictures(path, Tally()))
    stamps = [timed.picture.pts for timed in every]
    some = frozenset(stamps[::25]) | {stamps[-1]}
    given = read_pictures(path, Tally(), Needed(some, 40, stamps[-1]))
    shown = {timed.picture.pts: number_of_picture(timed) for timed in given}
    assert [shown[stamp] for stamp in stamps[::25]] == [0, 25, 50, 75, 100]


def check_taken(path: Path, rate_hz: Fraction) -> None:
    """Compare what is taken of a film with what it is where every picture is decoded."""
    needed = Movie(path).timeline.needed(rate_hz)
    given = {timed.time: timed for timed in read_pictures(path, Tally(), needed)}
    every = list(read_pictures(path, Tally()))
    shown = [(timed.time, timed.duration, timed) for timed in every]
    for _, timed in pick_nearest(shown, 1 / (rate_hz * every[0].tick_s)):
        found = given[timed.time].picture.to_ndarray(format="rgb24")
        np.testing.assert_array_equal(found, timed.picture.to_ndarray(format="rgb24"))


def mux(path: Path, template: Path, packets: Iterable[tuple[bytes, bool]], ms: int = 40) -> None:
    """Write packets, some of them marked as keys, as a film like another one."""
    with av.open(str(template)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for number, (data, is_key) in enumerate(packets):
            packet = av.Packet(data)
            packet.pts = packet.dts = number * ms
            packet.duration, packet.time_base = ms, Fraction(1, 1000)
            packet.is_keyframe, packet.stream = is_key, stream
            target.mux(packet)


def textures(rng: np.random.Generator, n: int) -> list[npt.NDArray[np.uint8]]:
    """Return pictures of a texture that moves."""
    texture = rng.integers(0, 256, (HEIGHT, 4 * WIDTH, 3), dtype=np.uint8)
    return [np.ascontiguousarray(texture[:, i : i + WIDTH]) for i in range(n)]


def packets_of(path: Path) -> list[tuple[bytes, bool]]:
    """Return a film's packets, and whether they are keys."""
    with av.open(str(path)) as container:
        return [(bytes(one), one.is_keyframe) for one in container.demux(video=0) if one.size]


def header_of(path: Path) -> bytes:
    """Return what a film's header says to its decoder."""
    with av.open(str(path)) as container:
        return container.streams.video[0].codec_context.extradata or b""


def sets_of(header: bytes) -> bytes:
    """Return the parameter sets of an MP4 header of H.264, as a packet holds them."""
    found, at = b"", 5
    for mask in (31, 255):
        n, at = header[at] & mask, at + 1
        for _ in range(n):
            end = at + 2 + int.from_bytes(header[at : at + 2], "big")
            found += bytes(2) + header[at:end]
            at = end
    return found


def two_encodings(folder: Path, rng: np.random.Generator) -> tuple[Path, Path]:
    """Return a second of film, and more that was encoded with other tables; a key each second."""
    pictures, keys = textures(rng, 110), "keyint=25:min-keyint=25:scenecut=0:bframes=0"
    other = f"{keys}:chroma-qp-offset=10:cqm=jvt"
    return (
        write_movie(folder / "1.mkv", pictures[:25], options={"x264-params": keys}),
        write_movie(folder / "2.mkv", pictures[25:], options={"x264-params": other}),
    )


def test_key_pictures_whose_headers_an_earlier_packet_brought_are_the_same_pictures(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """A packet that is not taken changes the tables; the keys after it do not say them again."""
    first, second = two_encodings(tmp_path, rng)
    [(data, is_key), *others] = packets_of(second)
    changing = sets_of(header_of(second)) + data
    path = tmp_path / "joined.mkv"
    mux(path, first, [*packets_of(first), (changing, is_key), *others])
    check_taken(path, Fraction(1, 2))
    # Told at each key anew, they are the same that the decoder has.
    again = [(sets_of(header_of(first)) + d if k else d, k) for d, k in packets_of(first) * 4]
    mux(tmp_path / "again.mkv", first, again)
    needed = Movie(tmp_path / "again.mkv").timeline.needed(Fraction(1, 2))
    assert needed is not None
    assert needed.all_from is not None
    check_taken(tmp_path / "again.mkv", Fraction(1, 2))


def test_key_pictures_after_a_new_header_of_the_container_are_the_same_pictures(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """FLV and MP4 may change headers between packets, where a film was joined of two."""
    first, second = two_encodings(tmp_path, rng)
    path = tmp_path / "joined.flv"
    mux(path, first, [*packets_of(first), *packets_of(second)])
    data, at, n_pictures = path.read_bytes(), 13, 0
    while n_pictures < 26:
        size = int.from_bytes(data[at + 1 : at + 4], "big") + 15
        n_pictures += data[at] == 9 and data[at + 12] == 1
        at += size
    at -= size
    body = b"\x17\0\0\0\0" + header_of(second)
    tag = b"\x09" + len(body).to_bytes(3, "big") + data[at + 4 : at + 8] + bytes(3) + body
    path.write_bytes(data[:at] + tag + len(tag).to_bytes(4, "big") + data[at:])
    check_taken(path, Fraction(1, 2))


def test_jpegs_that_use_the_tables_of_others_are_the_same_pictures(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Tables stay in force from picture to picture, also those of one that is not taken."""

    def jpeg(number: int, pixels: npt.NDArray[np.uint8]) -> bytes:
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, "JPEG", quality=90 if number < 25 else 20)
        data = out.getvalue()
        if number <= 25:
            return data
        at, kept = 2, data[:2]
        while data[at + 1] != 0xDA:
            end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
            kept += b"" if data[at + 1] in (0xDB, 0xC4) else data[at:end]
            at = end
        return kept + data[at:]

    pictures = textures(rng, 110)
    base = write_movie(tmp_path / "a.mkv", pictures[:2], codec="mjpeg", pix_fmt="yuvj420p")
    path = tmp_path / "tables.mkv"
    mux(path, base, [(jpeg(*one), True) for one in enumerate(pictures)])
    check_taken(path, Fraction(1, 2))


class Bits:
    """Bits of a unit of H.264, as chapter 7.3 of the standard writes them."""

    def __init__(self) -> None:
        self._bits = ""

    def u(self, *values: int, n: int = 1) -> Bits:
        """Add numbers of so many bits."""
        self._bits += "".join(f"{value:0{n}b}" for value in values)
        return self

    def ue(self, *values: int) -> Bits:
        """Add numbers in exponential Golomb codes."""
        for value in values:
            bits = f"{value + 1:b}"
            self._bits += "0" * (len(bits) - 1) + bits
        return self

    def samples(self, data: bytes) -> Bits:
        """Add bytes where a byte begins."""
        self._bits += "0" * (-len(self._bits) % 8)
        return self.u(*data, n=8)

    def unit(self, head: int) -> bytes:
        """Return the unit; no three bytes of it look like the beginning of one."""
        bits = self._bits + "1"
        bits += "0" * (-len(bits) % 8)
        out, zeros = bytearray(), 0
        for byte in int(bits, 2).to_bytes(len(bits) // 8, "big"):
            if zeros >= 2 and byte <= 3:
                out.append(3)
                zeros = 0
            out.append(byte)
            zeros = 0 if byte else zeros + 1
        return b"\0\0\0\1" + bytes([head]) + bytes(out)


def field(number: int, bottom: int) -> bytes:
    """Return one field of a picture of 32 x 32: two macroblocks of samples as they are."""
    bits = Bits().ue(0, 7, 0).u(0, n=4).u(1, bottom)
    bits = bits if bottom else bits.ue(number % 2)
    bits.u(bottom, n=8).u(*[0] * (1 if bottom else 2)).ue(0, 1)
    for block in range(2):
        level = 20 + (7 * number + 50 * block + 100 * bottom) % 200
        bits.ue(25).samples(bytes([level] * 256 + [128] * 128))
    return bits.unit(0x21 if bottom else 0x65)


def test_pictures_whose_fields_are_packets_of_their_own_are_the_same_pictures(
    tmp_path: Path,
) -> None:
    """A field is never shown twice because the other's packet was passed over."""
    sequence = Bits().u(77, 0, 30, n=8).ue(0, 0, 0, 4, 1).u(0).ue(1, 0).u(0, 0, 1, 0, 0)
    picture = Bits().ue(0, 0).u(0, 0).ue(0, 0, 0).u(0, 0, 0).ue(0, 0, 0).u(1, 0, 0)
    fields = [field(number, bottom) for number in range(60) for bottom in (0, 1)]
    raw = tmp_path / "a.h264"
    raw.write_bytes(sequence.unit(0x67) + picture.unit(0x68) + b"".join(fields))
    path = tmp_path / "a.mkv"
    mux(path, raw, packets_of(raw), ms=20)
    assert len(packets_of(path)) == 120
    every = list(read_pictures(path, Tally()))
    assert len(every) == 60
    for number, timed in enumerate(every):
        column = timed.picture.to_ndarray(format="yuv420p")[:32, 0]
        levels = [20 + (7 * number + 100 * bottom) % 200 for bottom in (0, 1)]
        assert column.tolist() == levels * 16
    for rate_hz in (Fraction(1), Fraction(25, 4), Fraction(1, 3), Fraction(25)):
        check_taken(path, rate_hz)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mpg", "mpeg2video"), ("a.avi", "mjpeg"), ("a.ts", "libx264")]
)
def test_needed_pictures_without_a_whole_clock_or_such_a_decoder_are_all(
    tmp_path: Path, name: str, codec: str
) -> None:
    """Where the container does not tell the whole time line, every picture is decoded."""
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = write_movie(tmp_path / name, map(striped, range(30)), codec=codec, pix_fmt=pix_fmt)
    assert Movie(path).timeline.needed(Fraction(2)) is None


@pytest.mark.parametrize(
    ("name", "options"), [("a.avi", {"bf": "3"}), ("a.wmv", {"bf": "3"}), ("a.mp4", {"bf": "0"})]
)
def test_needed_pictures_in_the_order_of_decoding_are_all(
    tmp_path: Path, name: str, options: dict[str, str]
) -> None:
    """AVI and ASF do not store when a picture appears; without B pictures none is passed over."""
    path = write_movie(tmp_path / name, map(striped, range(30)), options=options)
    assert Movie(path).timeline.needed(Fraction(2)) is None


@pytest.mark.parametrize("rate_hz", [0.3, 2.0, 7.3, 50.0])
@pytest.mark.parametrize(
    ("name", "codec", "how"),
    [
        ("a.mp4", "libx264", {"options": {"bf": "3"}}),
        ("a.mp4", "libx264", {"options": {"bf": "0"}, "sound_from_ms": 0}),
        ("a.mov", "mpeg4", {}),
        ("a.mkv", "ffv1", {"times_ms": [0, 100, 450, 560, 2400, 2440, 2480, 2990, 3030]}),
        ("a.mkv", "libx264", {"times_ms": [500 + 40 * n for n in range(60)], "sound_from_ms": 0}),
    ],
)
def test_n_frames_is_the_number_of_frames(
    tmp_path: Path, name: str, codec: str, how: dict[str, Any], rate_hz: float
) -> None:
    """The packets tell how many frames there will be, however pictures are spaced."""
    pictures = map(striped, range(len(how.get("times_ms", range(60)))))
    path = write_movie(tmp_path / name, pictures, codec=codec, **how)
    movie = Movie(path)
    assert movie.n_frames(rate_hz) == sum(1 for _ in movie.frames(rate_hz))
    assert movie.expected_frames(rate_hz) == movie.n_frames(rate_hz)


def test_n_frames_is_unknown_where_only_decoding_tells(tmp_path: Path) -> None:
    """Containers without the pictures' times, and a movie that was cut short, are not counted."""
    for name in ("a.avi", "a.ts"):
        movie = Movie(write_movie(tmp_path / name, map(striped, range(100))))
        assert movie.n_frames() is None
        assert movie.expected_frames() == 8  # By the header.
    whole = write_movie(tmp_path / "whole.mkv", map(striped, range(250)), codec="mpeg4")
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert (Movie(whole).n_frames(), Movie(cut).n_frames()) == (20, None)
    with pytest.raises(OptionError, match="rate_hz must be above 0"):
        Movie(whole).n_frames(0.0)


def test_movie_is_opened_once_for_what_it_is_and_once_to_decode_it(
    tmp_path: Path, opened: list[str]
) -> None:
    """However often it is asked, its file is looked at once; making it opens nothing."""
    path = write_movie(tmp_path / "a.mp4", map(striped, range(60)))
    opened.clear()
    movie = Movie(path)
    assert not opened
    for rate_hz in (2.0, 5.0):
        assert movie.n_frames(rate_hz) == movie.expected_frames(rate_hz)
        assert movie.info.n_frames == 60
    assert opened == [f"file:{path}"]
    assert Movie.of(movie) is movie
    assert [len(list(movie.frames(rate_hz))) for rate_hz in (2.0, 5.0)] == [5, 12]
    assert opened == [f"file:{path}"] * 3


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_read_pictures_of_a_damaged_movie_do_not_depend_on_threads(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, codec: str
) -> None:
    """Wherever bytes are wrong, eight threads give the pictures that one gives."""
    texture = rng.integers(0, 256, (HEIGHT, 4 * WIDTH, 3), dtype=np.uint8)
    pictures = [np.ascontiguousarray(texture[:, 3 * i : 3 * i + WIDTH]) for i in range(60)]
    options = {"bf": "0", "g": "20"}
    whole = write_movie(tmp_path / "a.mkv", pictures, codec=codec, options=options).read_bytes()
    path = tmp_path / "b.mkv"
    for _ in range(12):
        data = bytearray(whole)
        for place in rng.integers(len(data) // 10, len(data) * 9 // 10, 3):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        given = []
        for n in (1, 16):
            monkeypatch.setattr("imgtofmri.stimuli.containers.n_processors", lambda n=n: n)
            pairs = ((each.time, each.picture) for each in read_pictures(path, Tally()))
            given.append([(time, picture.to_ndarray().tobytes()) for time, picture in pairs])
        assert given[0] == given[1]


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("name", ["a.avi", "a.wmv"])
def test_frames_reordered_pictures_without_times_are_all_given(
    tmp_path: Path, name: str, codec: str
) -> None:
    """AVI and ASF number pictures as they are decoded: each still appears once, at its time."""
    options = {"bf": "3" if codec == "libx264" else "2"}
    path = write_movie(tmp_path / name, map(striped, range(60)), codec=codec, options=options)
    given = list(read_pictures(path, Tally()))
    assert [number_of_picture(each) for each in given] == list(range(60))
    times_s = [float(each.time * each.tick_s) for each in given]
    np.testing.assert_allclose(np.diff(times_s), 1 / 25, atol=1e-3)
    assert numbers(path) == [0, 12, 25, 37, 50]


def test_clock_a_long_picture_is_no_joint_and_a_gap_is() -> None:
    """Where no header tells, half a minute without a picture is kept, and over a minute closed."""
    clock = Clock(Fraction(1, 1000), 0, 40, None)
    assert [clock.place(pts) for pts in (0, 30_000, 100_000, 100_040)] == [
        0,
        30_000,
        30_040,
        30_080,
    ]


def test_movie_title_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    """A title in another encoding, as old files have it, says nothing against the pictures."""
    path = write_movie(tmp_path / "a.avi", map(striped, range(25)), title="Caf#")
    path.write_bytes(path.read_bytes().replace(b"Caf#", b"Caf\xe9"))
    assert b"Caf\xe9" in path.read_bytes()
    assert numbers(path) == [0, 12]


@pytest.mark.parametrize("ratio", [None, Fraction(0), getattr(av, "AVRational", Fraction)(0)])
def test_exact_ratio_that_is_not_set_is_none(ratio: object) -> None:
    """A rate or clock of 0 says nothing, whichever way the release of PyAV puts it."""
    assert exact(ratio) is None


def test_exact_ratio_is_a_fraction() -> None:
    """Products of libav's own ratios are rounded to 32 bits; those of fractions are not."""
    ratio = getattr(av, "AVRational", Fraction)(1, 90_001)
    assert type(exact(ratio)) is Fraction
    assert exact(ratio) ** 3 == Fraction(1, 90_001**3)


def test_frames_short_clip_without_its_end_is_refused(tmp_path: Path) -> None:
    """A clip of two seconds that lost a third is not whole, though less than a second is gone."""
    options = {"movflags": "faststart"}
    path = write_movie(tmp_path / "a.mp4", map(striped, range(50)), container_options=options)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(StimulusError, match=r"a whole movie; got .* ends at .* of 2\.0 s"):
        numbers(path)


def test_frames_damage_is_the_same_with_pictures_passed_over(tmp_path: Path) -> None:
    """Where a picture that is needed is damaged, the nearest of all pictures stands for it."""
    path = write_movie(
        tmp_path / "a.mp4", map(striped, range(100)), options={"bf": "3", "b_strategy": "0"}
    )
    with av.open(str(path)) as container:
        wanted = [
            (packet.pos, packet.size)
            for packet in container.demux(video=0)
            if packet.pts is not None and round(packet.pts * packet.time_base * 25) == 50
        ]
    (place, size) = wanted[0]
    data = bytearray(path.read_bytes())
    data[place + 4 : place + size] = bytes(size - 4)
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StimulusWarning)
        taken = numbers(path)
    decoded = {
        round(timed.time * timed.tick_s * 25): number_of_picture(timed)
        for timed in read_pictures(path, Tally())
    }
    assert 50 not in decoded
    expected = [
        decoded[min(decoded, key=lambda number, onset=onset: (abs(number - onset), number))]
        for onset in (0, 12.5, 25, 37.5, 50, 62.5, 75, 87.5)
    ]
    assert taken == expected


def test_frames_last_picture_damaged_is_told_though_others_were_passed_over(
    tmp_path: Path,
) -> None:
    """A last picture that does not come is found missing when the film ends."""
    path = write_movie(
        tmp_path / "a.mp4", map(striped, range(50)), options={"bf": "3", "b_strategy": "0"}
    )
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.pts is not None]
        last = max(packets, key=lambda packet: packet.pts)
        place, size = last.pos, last.size
    data = bytearray(path.read_bytes())
    data[place + 4 : place + size] = bytes(size - 4)
    path.write_bytes(data)
    with pytest.warns(StimulusWarning, match="1 of 50 pictures"):
        list(Movie(path).frames())


def test_clock_gap_of_less_than_a_minute_is_kept_and_a_longer_one_closed() -> None:
    """Without a declared length, a leap beyond a minute is where two recordings were joined."""
    clock = Clock(Fraction(1, 1000), 0, 40, None)
    assert [clock.place(time) for time in (0, 59_000, 59_040)] == [0, 59_000, 59_040]
    assert clock.place(59_040 + 61_000) == 59_080


def test_pick_nearest_random_times_equals_brute_force(rng: np.random.Generator) -> None:
    """On random times, ties included, the choice is that of a search over all."""
    for _ in range(300):
        steps = rng.integers(1, 9, rng.integers(1, 12))
        times = [int(time) for time in np.cumsum(steps) - steps[0]]
        period = Fraction(int(rng.integers(1, 12)), int(rng.integers(1, 4)))
        lasts = int(rng.integers(1, 12))
        got = list(pick_nearest([(time, lasts, i) for i, time in enumerate(times)], period))
        expected, k = [], 0
        while k * period < times[-1] + lasts:
            distances = [abs(time - k * period) for time in times]
            expected.append((k, distances.index(min(distances))))
            k += 1
        assert got == expected


def test_frames_names_digest_and_source(tmp_path: Path) -> None:
    """Frames are named so that sorting keeps their order, and carry the file's digest."""
    path = write_movie(tmp_path / "ä b.mp4", map(striped, range(30)))
    frames = list(Movie(Source(path, "one__ä b.mp4", "movie")).frames())
    names = [frame.name for frame in frames]
    assert names[:2] == ["one__ä b.mp4_t00000.000s", "one__ä b.mp4_t00000.500s"]
    assert names == sorted(names)
    assert {frame.sha256 for frame in frames} == {hashlib.sha256(path.read_bytes()).hexdigest()}
    assert {frame.source for frame in frames} == {path}


@pytest.mark.parametrize("pixel_aspect", [None, Fraction(2)])
def test_stills_are_the_pictures_of_frames_before_the_resize(
    tmp_path: Path, pixel_aspect: Fraction | None
) -> None:
    """Same names, times and digests; stored size, also where pixels are not square."""
    path = write_movie(
        tmp_path / "a b.mp4", map(striped, range(40)), rate=10, pixel_aspect=pixel_aspect
    )
    stills, frames = (list(take(3.0)) for take in (Movie(path).stills, Movie(path).frames))
    assert len(stills) == len(frames) == 12
    for still, frame in zip(stills, frames, strict=True):
        assert still.pixels.shape == (HEIGHT, WIDTH, 3)
        np.testing.assert_array_equal(prepare_image(still.pixels), frame.pixels)
        assert (still.name, still.onset_s, still.sha256) == (
            frame.name,
            frame.onset_s,
            frame.sha256,
        )
    for wrong in ({"rate_hz": 0.0}, {"ahead": 0}):
        with pytest.raises(OptionError, match="must be"):
            Movie(path).stills(**wrong)


def test_frames_undecodable_name(tmp_path: Path) -> None:
    """A movie whose name is not text is read all the same."""
    plain = write_movie(tmp_path / "a.mp4", map(striped, range(20)))
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/b\xff %d#?.mp4"))
    plain.rename(odd)
    assert numbers(odd) == [0, 12]


@pytest.mark.parametrize("sound_from_ms", [None, 0])
def test_frames_sound_changes_nothing(tmp_path: Path, sound_from_ms: int | None) -> None:
    """Silent movies and those with sound give the same frames."""
    path = write_movie(tmp_path / "a.mkv", map(striped, range(50)), sound_from_ms=sound_from_ms)
    assert numbers(path) == [0, 12, 25, 37]


def test_frames_late_pictures_keep_their_time(tmp_path: Path) -> None:
    """Where sound begins 1.2 s before the pictures, the first picture stands for that time."""
    path = write_movie(
        tmp_path / "late.mkv", map(striped, range(25)), codec="ffv1", sound_from_ms=0,
        times_ms=[1200 + 40 * i for i in range(25)],
    )  # fmt: skip
    # 1.5 s is 7.5 pictures after 1.2 s; the end is at 2.2 s.
    assert numbers(path) == [0, 0, 0, 7, 20]


@pytest.mark.parametrize(("suffix", "begins_ms"), [("ts", 9000), ("mkv", 60), ("mkv", 5000)])
def test_frames_clock_that_does_not_begin_at_zero(
    tmp_path: Path, suffix: str, begins_ms: int
) -> None:
    """A clock that begins anywhere changes nothing where nothing else plays before."""
    path = write_movie(
        tmp_path / f"a.{suffix}", map(striped, range(50)),
        times_ms=[begins_ms + 40 * i for i in range(50)],
    )  # fmt: skip
    assert numbers(path) == [0, 12, 25, 37]


def test_frames_codec_run_in_of_sound_does_not_count(tmp_path: Path) -> None:
    """Sound that begins 40 ms early, as AAC does, does not move the pictures."""
    path = write_movie(
        tmp_path / "a.mkv", map(striped, range(50)), sound_from_ms=0,
        times_ms=[40 + 40 * i for i in range(50)],
    )  # fmt: skip
    assert numbers(path) == [0, 12, 25, 37]


def test_frames_of_one_of_several_streams_are_told(tmp_path: Path) -> None:
    """Cameras with two lenses write two films into one file; a cover is no second one."""
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("mpeg4", rate=25) for _ in range(2)]
        for scale, stream in enumerate(streams, 1):
            stream.width, stream.height, stream.pix_fmt = scale * WIDTH, scale * HEIGHT, "yuv420p"
        for number in range(25):
            for scale, stream in enumerate(streams, 1):
                picture = striped(number).repeat(scale, 0).repeat(scale, 1)
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame.reformat(format="yuv420p")))
        for stream in streams:
            container.mux(stream.encode(None))
    with pytest.warns(StimulusWarning, match=r"holds 2 streams .* \((128 x 64|256 x 128)\)"):
        assert numbers(path) == [0, 12]


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
def test_frames_of_a_bare_stream_appear_at_the_rate_of_its_own_header(
    tmp_path: Path, codec: str
) -> None:
    """Without a container a stream's header alone tells the rate, be the file's name .mp4."""
    path = tmp_path / "bare.mp4"
    with av.open(str(path), "w", format={"libx265": "hevc"}.get(codec, "h264")) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(40):
            frame = av.VideoFrame.from_ndarray(striped(number), format="rgb24")
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert numbers(path) == [0, 5, 10, 15, 20, 25, 30, 35]
    assert Movie(path).info.fps == 10


def test_frames_of_a_bare_stream_without_a_rate_are_told_to_be_at_an_assumed_one(
    tmp_path: Path,
) -> None:
    """JPEGs one after another, as small cameras write them, hold no time at all."""
    path = tmp_path / "camera.mjpeg"
    pictures = map(Image.fromarray, map(striped, range(50)))
    with path.open("wb") as file:
        for picture in pictures:
            picture.save(file, "JPEG")
    with pytest.warns(StimulusWarning, match="does not say how fast.*25 a second were assumed"):
        assert numbers(path) == [0, 12, 25, 37]
    assert Movie(path).info.fps is None


def test_frames_joined_recordings_go_on(tmp_path: Path) -> None:
    """Where the clock jumps back, the second recording follows the first."""
    first = write_movie(tmp_path / "a.ts", map(striped, range(50)))
    second = write_movie(tmp_path / "b.ts", map(striped, range(100, 150)))
    joined = tmp_path / "joined.ts"
    joined.write_bytes(first.read_bytes() + second.read_bytes())
    assert numbers(joined) == [0, 12, 25, 37, 100, 112, 125, 137]


@pytest.mark.parametrize("suffix", ["ts", "mkv"])
def test_frames_clock_that_leaps_makes_no_endless_frames(tmp_path: Path, suffix: str) -> None:
    """A leap of 26 hours is a joint; and where the header says how long it is, damage."""
    times_ms = [40 * i for i in range(50)]
    path = tmp_path / f"a.{suffix}"
    if suffix == "ts":
        times_ms[25:] = [95_000_000 + time for time in times_ms[25:]]
    write_movie(path, map(striped, range(50)), times_ms=times_ms)
    if suffix == "mkv":
        # The last cluster's blocks count from its own time: leave the header, move one block.
        data = bytearray(path.read_bytes())
        cluster = data.rindex(b"\x1f\x43\xb6\x75")
        place = data.index(b"\xa3", cluster)  # SimpleBlock: size, track, then a 16-bit time
        width = 9 - data[place + 1].bit_length()
        struct.pack_into(">h", data, place + 2 + width, 32_000)
        path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StimulusWarning)
        assert len(numbers(path)) == 4


def test_frames_after_the_end_that_the_header_tells_are_counted(tmp_path: Path) -> None:
    """A recording that was appended to has the header of its first part."""
    path = write_movie(tmp_path / "a.flv", map(striped, range(100)), codec="flv")
    data = bytearray(path.read_bytes())
    place = data.index(b"duration\0") + len(b"duration\0")
    assert struct.unpack_from(">d", data, place) == (4.0,)
    struct.pack_into(">d", data, place, 1.0)
    path.write_bytes(data)
    # Up to a second more than the header says is kept: pictures at 0 to 2 s.
    with pytest.warns(StimulusWarning, match="^49 pictures of 'a.flv' come after the end"):
        assert len(numbers(path)) == 5


# The first five numbers of the display matrix that matter (a, b, c, d), and what they mean.
TURNS = {
    "none": ((1, 0, 0, 1), lambda x: x, 0),
    "clockwise": ((0, 1, -1, 0), lambda x: np.rot90(x, -1), 90),
    "half": ((-1, 0, 0, -1), lambda x: np.rot90(x, 2), 180),
    "anticlockwise": ((0, -1, 1, 0), lambda x: np.rot90(x, 1), 270),
    "mirrored": ((-1, 0, 0, 1), lambda x: x[:, ::-1], 0),
    "upside-down": ((1, 0, 0, -1), lambda x: x[::-1], 0),
}


def test_frames_leaves_no_pictures_to_the_garbage_collector(tmp_path: Path) -> None:
    """A frame's picture is freed when the frame is made: it may take megabytes."""
    path = write_movie(tmp_path / "film.mp4", map(striped, range(50)))
    gc.collect()
    gc.disable()
    try:
        assert sum(1 for _ in Movie(path).frames(rate_hz=25.0)) == 50
        left = [item for item in gc.get_objects() if isinstance(item, av.VideoFrame)]
    finally:
        gc.enable()
    assert not left


@pytest.mark.parametrize("turn", TURNS)
def test_frames_rotation_metadata_is_applied(tmp_path: Path, turn: str) -> None:
    """The matrix in an MP4's track header, patched by hand, turns the pictures as it says."""
    (a, b, c, d), expected_of, rotation_deg = TURNS[turn]
    picture = np.full((HEIGHT, WIDTH, 3), 20, np.uint8)
    picture[: HEIGHT // 2, : WIDTH // 4] = 230
    path = write_movie(tmp_path / "phone.mp4", [picture] * 5)
    data = bytearray(path.read_bytes())
    # ISO 14496-12: in version 0 the matrix lies 40 bytes after the box's type.
    place = data.index(b"tkhd") + 44
    unit = 1 << 16
    struct.pack_into(
        ">9i", data, place, a * unit, b * unit, 0, c * unit, d * unit, 0, 0, 0, 1 << 30
    )
    path.write_bytes(data)
    upright = expected_of(picture)
    (frame,) = Movie(path).frames()
    difference = np.abs(frame.pixels.astype(int) - prepare_image(np.ascontiguousarray(upright)))
    assert difference.mean() < 3
    info = Movie(path).info
    assert info.rotation_deg == rotation_deg
    assert (info.height, info.width) == upright.shape[:2]


COLOURS = [(200, 30, 40), (30, 180, 60), (40, 50, 210), (128, 128, 128)]


@pytest.mark.parametrize("color", COLOURS)
@pytest.mark.parametrize(
    ("matrix", "kr", "kb"), [(1, 0.2126, 0.0722), (5, 0.299, 0.114), (2, 0.299, 0.114)]
)
@pytest.mark.parametrize("full_range", [False, True])
def test_frames_colours_follow_stated_matrix_and_range(
    tmp_path: Path, color: tuple[int, int, int], matrix: int, kr: float, kb: float, full_range: bool
) -> None:
    """YUV that was made by a standard's equations comes back as the RGB that it was made from.

    BT.709 and BT.601 where stated; BT.601 where nothing is.
    """
    red, green, blue = (channel / 255 for channel in color)
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    scale, offset, chroma_scale = (255, 0, 255) if full_range else (219, 16, 224)
    levels = [luma * scale + offset, *(part * chroma_scale + 128 for part in chroma)]

    def planes(_: av.VideoFrame) -> av.VideoFrame:
        frame = av.VideoFrame(WIDTH, HEIGHT, "yuv420p")
        for plane, level in zip(frame.planes, levels, strict=True):
            plane.update(bytes([round(level)]) * plane.buffer_size)
        frame.colorspace, frame.color_range = matrix, 2 if full_range else 1
        return frame

    path = tmp_path / "colour.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.colorspace = matrix
        stream.codec_context.color_range = 2 if full_range else 1
        for i in range(3):
            frame = planes(av.VideoFrame())
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (frame,) = Movie(path).frames()
    assert np.abs(frame.pixels[112, 112].astype(int) - color).max() <= 4


def test_frames_transparency_is_over_white(tmp_path: Path) -> None:
    """Movies with an alpha channel are shown over white, as pictures are."""

    def half_clear(_: av.VideoFrame) -> av.VideoFrame:
        picture = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
        picture[:, WIDTH // 2 :, 3] = 255
        return av.VideoFrame.from_ndarray(picture, format="rgba")

    path = write_movie(
        tmp_path / "a.mov", [striped(0)], codec="png", pix_fmt="rgba", prepare=half_clear
    )
    (frame,) = Movie(path).frames()
    assert frame.pixels[:, :100].min() == 255
    assert frame.pixels[:, -100:].max() == 0


@pytest.mark.parametrize(
    ("codec", "options"),
    [("libvpx-vp9", {}), ("libvpx", {"auto-alt-ref": "0"})],
)
def test_frames_transparency_of_webm_is_over_white(
    tmp_path: Path, codec: str, options: dict[str, str]
) -> None:
    """WebM keeps transparency beside the pictures, where FFmpeg's own decoders pass over it."""

    def half_clear(_: av.VideoFrame) -> av.VideoFrame:
        picture = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
        picture[:, WIDTH // 2 :, 3] = 255
        return av.VideoFrame.from_ndarray(picture, format="rgba").reformat(format="yuva420p")

    path = write_movie(
        tmp_path / "a.webm",
        [striped(0)] * 30,
        codec=codec,
        pix_fmt="yuva420p",
        prepare=half_clear,
        options=options,
    )
    frames = [frame.pixels for frame in Movie(path).frames()]
    assert len(frames) == 3
    for pixels in frames:
        assert pixels[:, :100].min() >= 253
        assert pixels[:, -100:].max() <= 2


def test_frames_center_crop_accounts_for_wide_pixels(tmp_path: Path) -> None:
    """With pixels twice as wide as high, the crop takes the middle quarter of the columns."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[:, 48:80] = 255
    path = write_movie(tmp_path / "square.mp4", [picture])
    wide = write_movie(tmp_path / "wide.mp4", [picture], pixel_aspect=Fraction(2))
    assert [frame.pixels[112, 20, 0] for frame in Movie(path).frames(center_crop=True)] == [0]
    (cropped,) = Movie(wide).frames(center_crop=True)
    (whole,) = Movie(wide).frames()
    assert cropped.pixels[:, 8:-8].min() > 245
    assert whole.pixels[:, :80].max() < 10


def test_frames_broken_pictures_are_passed_over_with_a_warning(tmp_path: Path) -> None:
    """Pictures that cannot be decoded are replaced by the nearest, and their number is told."""
    path = write_movie(tmp_path / "a.avi", map(striped, range(60)), codec="png", pix_fmt="rgb24")
    data = bytearray(path.read_bytes())
    places = []
    place = -1
    while (place := data.find(b"\x89PNG\r\n\x1a\n", place + 1)) >= 0:
        places.append(place)
    assert len(places) == 60
    for i in (24, 25, 26):
        data[places[i] + 16 : places[i] + 24] = bytes(8)  # width and height
    path.write_bytes(data)
    with pytest.warns(StimulusWarning, match="3 of 60 pictures of 'a.avi' could not be decoded"):
        assert numbers(path) == [0, 12, 23, 37, 50]


@pytest.mark.parametrize(("suffix", "options"), [("mp4", {"movflags": "faststart"}), ("mkv", {})])
def test_frames_truncated_file_is_an_error_at_its_end(
    tmp_path: Path, rng: np.random.Generator, suffix: str, options: dict[str, str]
) -> None:
    """A file that ends before its header says raises, and is not taken for a shorter movie."""
    noise = rng.integers(0, 256, (120, HEIGHT, WIDTH, 3), dtype=np.uint8)
    path = write_movie(tmp_path / f"cut.{suffix}", noise, container_options=options)
    whole = path.read_bytes()
    assert len(list(Movie(path).frames())) == 10
    path.write_bytes(whole[: len(whole) // 2])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StimulusWarning)
        frames = Movie(path).frames()
        assert next(frames).onset_s == 0
        with pytest.raises(
            StimulusError, match=f"cut.{suffix}', which ends at .* s of 4.8 s.*copy"
        ):
            list(frames)


def make_cut_mp4(path: Path) -> None:
    """Write an MP4 whose index, at the end, is missing."""
    data = write_movie(path, map(striped, range(50))).read_bytes()
    path.write_bytes(data[: len(data) // 2])


def make_sound_only(path: Path) -> None:
    """Write a file with sound and no pictures."""
    with av.open(str(path), "w") as container:
        add_sound(container, 0)


def make_without_pictures(path: Path) -> None:
    """Write a file whose video stream has no pictures."""
    with av.open(str(path), "w", format="matroska") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        add_sound(container, 0)


def make_cover_only(path: Path) -> None:
    """Write sound with a cover picture, which is no movie: an MP3 with an ID3 picture frame."""
    cover = io.BytesIO()
    Image.fromarray(striped(3)).save(cover, "JPEG")
    body = b"\x00image/jpeg\x00\x03\x00" + cover.getvalue()
    frame = b"APIC" + struct.pack(">I", len(body)) + b"\x00\x00" + body
    size = bytes((len(frame) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    sound = path.with_suffix(".mp3")
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("mp3", rate=44100)
        for i in range(20):
            part = av.AudioFrame.from_ndarray(
                np.zeros((2, 1152), np.float32), format="fltp", layout="stereo"
            )
            part.sample_rate, part.time_base, part.pts = 44100, Fraction(1, 44100), i * 1152
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    path.write_bytes(b"ID3\x03\x00\x00" + size + frame + sound.read_bytes())


def make_photograph(path: Path) -> None:
    """Write a photograph under a movie's name."""
    Image.fromarray(striped(5)).save(path, "JPEG")


BAD_MOVIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut.mp4": (make_cut_mp4, "cut.mp4', which cannot be opened.*cut short"),
    "sound.mkv": (make_sound_only, "sound.mkv', which holds audio and no video stream"),
    "cover.mp4": (make_cover_only, "cover.mp4', which holds audio, video and no video stream"),
    "none.mkv": (make_without_pictures, "none.mkv', which has a video stream but no picture"),
    "photo.mp4": (make_photograph, "photo.mp4', which is a single picture.*as an image"),
    "text.mp4": (lambda path: path.write_text("hello " * 99), "text.mp4', which cannot be opened"),
    "zeros.mp4": (lambda path: path.write_bytes(bytes(5000)), "zeros.mp4', which cannot be opened"),
    "empty.mp4": (Path.touch, r"empty.mp4', which is empty \(0 bytes\)"),
    "folder.mp4": (Path.mkdir, "folder.mp4', which is not a file"),
    "missing.mp4": (lambda path: None, "missing.mp4', which does not exist.*spelling"),
    "list.mp4": (
        lambda path: path.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n"),
        "list.mp4', which cannot be opened",
    ),
    "concat.mp4": (
        lambda path: path.write_text("ffconcat version 1.0\nfile 'http://127.0.0.1:9/a.ts'\n"),
        "concat.mp4', which cannot be opened",
    ),
}


@pytest.mark.parametrize("name", BAD_MOVIES)
def test_frames_bad_file_is_refused_at_once(tmp_path: Path, name: str) -> None:
    """What is no whole movie is refused before the first frame, in one line that names it."""
    make, message = BAD_MOVIES[name]
    make(tmp_path / name)
    with pytest.raises(StimulusError, match=message) as caught:
        Movie(tmp_path / name).frames()
    assert "\n" not in str(caught.value)
    with pytest.raises(StimulusError, match=name):
        _ = Movie(tmp_path / name).info


@pytest.mark.parametrize("rate_hz", [0, -2, float("nan"), float("inf"), 501])
def test_frames_bad_rate_is_refused_at_once(tmp_path: Path, rate_hz: float) -> None:
    """A rate that is no rate is refused before the file is looked at."""
    with pytest.raises(OptionError, match="rate_hz must be above 0 and at most 500"):
        Movie(tmp_path / "missing.mp4").frames(rate_hz=rate_hz)


@pytest.mark.parametrize("kind", [int, float, np.int64, np.float32, np.float64, Fraction])
def test_check_rate_takes_numbers_of_any_kind(kind: type) -> None:
    """A rate out of an array is a rate."""
    assert check_rate(kind(4)) == Fraction(4)


@pytest.mark.parametrize("option", ["size", "ahead"])
def test_frames_option_below_one_is_refused_at_once(tmp_path: Path, option: str) -> None:
    """Bad settings are refused before the file is looked at."""
    with pytest.raises(OptionError, match=f"{option} must be 1 or more; got 0"):
        Movie(tmp_path / "missing.mp4").frames(**{option: 0})  # type: ignore[arg-type]


def test_movie_info_is_what_the_header_says(tmp_path: Path) -> None:
    """Length, number of pictures, rate, size and codec are those of the movie that was written."""
    path = write_movie(tmp_path / "a.mp4", map(striped, range(50)), codec="mpeg4")
    info = Movie(path).info
    assert (info.duration_s, info.n_frames, info.fps) == (2.0, 50, 25.0)
    assert (info.width, info.height, info.rotation_deg, info.codec) == (WIDTH, HEIGHT, 0, "mpeg4")


def test_movie_info_length_is_the_container_s_where_its_stream_has_none(tmp_path: Path) -> None:
    """Matroska tells the length of the whole alone: 50 pictures at 25 a second last 2 s."""
    path = write_movie(tmp_path / "a.mkv", map(striped, range(50)), codec="mpeg4")
    with av.open(str(path)) as container:
        assert container.streams.video[0].duration is None
    assert Movie(path).info.duration_s == pytest.approx(2.0, abs=0.001)


@pytest.mark.parametrize("option", ["size", "ahead"])
def test_frames_option_of_one_is_taken(tmp_path: Path, option: str) -> None:
    """One pixel, or one frame ahead, is the least that there is."""
    path = write_movie(tmp_path / "a.mp4", map(striped, range(25)), codec="mpeg4")
    found = list(Movie(path).frames(**{option: 1}))  # type: ignore[arg-type]
    assert [frame.onset_s for frame in found] == [0.0, 0.5]


def test_frames_closed_early_ends_its_thread(tmp_path: Path) -> None:
    """A movie that is not read to its end leaves no thread behind."""
    path = write_movie(tmp_path / "a.mp4", map(striped, range(200)))
    before = threading.active_count()
    frames = Movie(path).frames(25, ahead=2)
    next(frames)
    assert threading.active_count() == before + 1
    frames.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_run_ahead_is_bounded_and_keeps_order() -> None:
    """The thread works no further ahead than asked: what waits, and one in its hands."""
    taken = 0

    def count() -> Iterable[int]:
        nonlocal taken
        for i in range(1000):
            taken += 1
            yield i

    items = run_ahead(count(), ahead=3)  # type: ignore[arg-type]
    for expected in range(50):
        assert next(items) == expected
        assert taken <= expected + 1 + 3 + 1
    items.close()  # type: ignore[attr-defined]
    assert taken < 60


def test_run_ahead_error_comes_at_its_place() -> None:
    """What the generator raises reaches the consumer after the items before it."""

    def failing() -> Iterable[int]:
        yield 1
        message = "two is bad"
        raise StimulusError(message)

    items = run_ahead(failing(), ahead=5)  # type: ignore[arg-type]
    assert next(items) == 1
    with pytest.raises(StimulusError, match="two is bad"):
        next(items)


@pytest.mark.network
def test_frames_published_film_gives_its_fifteen_frames(
    tmp_path: Path, published_wheel: Path
) -> None:
    """The film of 7.09 s gives frames at 0, 0.5 ... 7.0 s, each the nearest of its 170 pictures."""
    with zipfile.ZipFile(published_wheel) as wheel:
        path = Path(wheel.extract("img2fmri/tests/test_data/landscape.mp4", tmp_path))
    info = Movie(path).info
    assert info.n_frames == 170
    assert info.duration_s == pytest.approx(7.09, abs=0.001)
    frames = list(Movie(path).frames())
    assert [frame.onset_s for frame in frames] == [k / 2 for k in range(15)]
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
        pictures = [picture.to_ndarray(format="rgb24") for picture in decoded]
        times = np.array([picture.time for picture in decoded])
    for frame in frames:
        nearest = int(np.argmin(np.abs(times - frame.onset_s)))
        np.testing.assert_array_equal(frame.pixels, prepare_image(pictures[nearest]))


def mux_picture(container: Any, stream: Any, data: bytes, number: int) -> None:
    """Write an encoded picture of a film of two a second, each of which stands alone."""
    packet = av.Packet(data)
    packet.stream, packet.is_keyframe = stream, True
    packet.pts = packet.dts = number
    packet.time_base, packet.duration = Fraction(1, 2), 1
    container.mux(packet)


def camera_jpegs(path: Path, orientation: int, n_pictures: int = 6) -> Path:
    """Write cameras' JPEGs, EXIF and all, as a movie without encoding them anew."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=2)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number in range(n_pictures):
            pixels = np.zeros((48, 64, 3), np.uint8)
            pixels[:24, :32] = 40 * number + 40
            exif, data = Image.Exif(), io.BytesIO()
            exif[0x010F], exif[0x0112] = "maker", orientation
            Image.fromarray(pixels).save(data, "JPEG", quality=95, exif=exif)
            mux_picture(container, stream, data.getvalue(), number)
    return path


@pytest.mark.parametrize("suffix", ["mov", "avi", "mkv"])
@pytest.mark.parametrize("orientation", [1, 2, 3])
def test_frames_of_cameras_jpegs_are_read_and_upright(
    tmp_path: Path, suffix: str, orientation: int
) -> None:
    """Side data that PyAV has no name for, EXIF here, hide neither the picture nor its turn."""
    path = camera_jpegs(tmp_path / f"lapse.{suffix}", orientation)
    frames = [frame.pixels for frame in Movie(path).frames(2)]
    assert len(frames) == 6
    # Newer decoders turn by EXIF, older ones leave it: the patch is where one of them has it.
    corner = {1: (0, 0), 2: (0, 1), 3: (1, 1)}[orientation]
    for number, pixels in enumerate(frames):
        quarters = pixels.reshape(2, 112, 2, 112, 3).mean(axis=(1, 3, 4))
        row, column = np.unravel_index(quarters.argmax(), (2, 2))
        assert (row, column) in {corner, (0, 0)}
        assert quarters[row, column] == pytest.approx(40 * number + 40, abs=6)


def profiled_pngs(path: Path, orientation: int | None, n_pictures: int = 6) -> Path:
    """Write PNGs with a colour profile, as screens and painters save them, as a movie."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112] = orientation or 1
    pictures = []
    for number in range(n_pictures):
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[:24, :32] = 40 * number + 40
        pictures.append(Image.fromarray(pixels))
    if path.suffix == ".apng":
        first, *others = pictures
        options = {"append_images": others, "duration": 500, "icc_profile": profile}
        first.save(path, "PNG", save_all=True, **options)
        return path
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=2)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        for number, picture in enumerate(pictures):
            data = io.BytesIO()
            more = {} if orientation is None else {"exif": exif}
            picture.save(data, "PNG", icc_profile=profile, **more)
            mux_picture(container, stream, data.getvalue(), number)
    return path


@pytest.mark.parametrize(
    ("suffix", "orientation"),
    [("mov", None), ("mov", 3), ("avi", None), ("avi", 3), ("apng", None)],
)
def test_frames_of_pictures_with_colour_profiles_do_not_end_python(
    tmp_path: Path, suffix: str, orientation: int | None
) -> None:
    """A profile has a name, which is freed once: in a process of its own, as it would die."""
    path = profiled_pngs(tmp_path / f"screen.{suffix}", orientation)
    code = (
        "import sys; from imgtofmri.stimuli import Movie\n"
        "for each in Movie(sys.argv[1]).frames(2):\n"
        "    quarters = each.pixels.reshape(2, 112, 2, 112, 3).mean(axis=(1, 3, 4))\n"
        "    print(quarters.argmax(), round(quarters.max() / 40))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True
    )
    frames = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert [light for _, light in frames] == [1, 2, 3, 4, 5, 6]
    # Newer decoders turn by EXIF, older ones leave it.
    assert {quarter for quarter, _ in frames} <= {0, 3 if orientation == 3 else 0}


def test_unknown_kind_of_side_data_is_a_kind() -> None:
    """PyAV raises nothing for numbers of side data that only newer libraries know."""
    from av.sidedata.sidedata import Type

    orientation(av.VideoFrame(16, 16, "rgb24"))
    assert [Type(number).value for number in (28, 29, 31, 999)] == [28, 29, 31, 999]
    assert Type["DISPLAYMATRIX"] == Type(Type.DISPLAYMATRIX.value)


PLAY_LISTS = {
    "ffconcat": "ffconcat version 1.0\nfile secret.mp4\n",
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3.0,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "dash": '<?xml version="1.0"?>\n<MPD><Period><BaseURL>secret.mp4</BaseURL></Period></MPD>',
    "ffconcat, marked": "\ufeffffconcat version 1.0\nfile secret.mp4\n",
}


@pytest.mark.parametrize("name", ["list.mp4", "list.mkv", "list.ts", "list.avi"])
@pytest.mark.parametrize("kind", PLAY_LISTS)
def test_play_lists_are_not_films(tmp_path: Path, kind: str, name: str) -> None:
    """A text that names another file is refused as what it is; the other file is not played."""
    write_movie(tmp_path / "secret.mp4", [striped(3)] * 5)
    (tmp_path / name).write_text(PLAY_LISTS[kind], encoding="utf-8")
    with pytest.raises(
        StimulusError, match=f"{name}', .*a text; play lists are not followed.*Give"
    ):
        list(Movie(tmp_path / name).frames())


def test_movies_too_large_or_too_long_are_refused_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the header says is enough: its pictures' sides, and how long it would be."""
    path = write_movie(
        tmp_path / "film.avi", map(striped, range(50)), codec="mjpeg", pix_fmt="yuvj420p"
    )
    assert len(list(Movie(path).frames(5))) == 10
    monkeypatch.setenv("IMGTOFMRI_MAX_SIDE", str(WIDTH - 1))
    with pytest.raises(
        StimulusError, match=f"sides of at most {WIDTH - 1} pixels; got '.*film.avi"
    ):
        Movie(path).frames(5)
    monkeypatch.delenv("IMGTOFMRI_MAX_SIDE")
    monkeypatch.setenv("IMGTOFMRI_MAX_FRAMES", "9")
    with pytest.raises(StimulusError, match="at most 9 frames; got .*about 10 or more.*MAX_FRAMES"):
        Movie(path).frames(5)
    # An AVI that says it lasts 59 days: 50 pictures, one every 28 hours.
    monkeypatch.delenv("IMGTOFMRI_MAX_FRAMES")
    data = bytearray(path.read_bytes())
    header = data.index(b"strh") + 8
    data[header + 20 : header + 28] = struct.pack("<II", 101_952, 1)
    data[data.index(b"avih") + 8 :][:4] = struct.pack("<I", 2**32 - 1)
    (tmp_path / "days.avi").write_bytes(data)
    for ask in (Movie.frames, Movie.n_frames):
        with pytest.raises(
            StimulusError, match="at most 1,000,000 frames; got '.*days.avi', which"
        ):
            ask(Movie(tmp_path / "days.avi"))


def test_frames_beyond_the_limit_end_a_movie_without_a_length(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no header tells, the count does."""
    path = write_movie(tmp_path / "film.ts", map(striped, range(50)))
    monkeypatch.setenv("IMGTOFMRI_MAX_FRAMES", "7")
    with pytest.raises(StimulusError, match="at most 7 frames; got .*about 8 or more"):
        list(Movie(path).frames(5))


def test_center_crop_of_absurdly_wide_pixels_is_refused() -> None:
    """A shape of pixels that would make a picture of gigabytes is a mistake of the file."""
    picture = av.VideoFrame.from_ndarray(striped(3), format="rgb24")
    assert prepare_picture(picture, Fraction(30_000), 224, False).shape == (224, 224, 3)
    with pytest.raises(StimulusError, match="a movie's picture, as its pixels' shape has it"):
        prepare_picture(picture, Fraction(30_000), 224, True)


@pytest.mark.parametrize("step", ["prepare_picture", "_info"])
def test_whatever_one_movie_raises_is_its_own_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """An error that nobody foresaw names the movie, so that other inputs of a run are not lost."""
    path = write_movie(tmp_path / "film.mp4", [striped(3)] * 5)

    def fail(*args: object) -> None:
        message = "28 is not a valid Type"
        raise ValueError(message)

    monkeypatch.setattr(f"imgtofmri.stimuli.movie.{step}", fail)
    with pytest.raises(StimulusError, match=r"film.mp4', .*decoded \(28 is not a valid Type\)"):
        list(Movie(path).frames())
