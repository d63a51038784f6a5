"""Reading image files: formats, damage, order, memory."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from imgtofmri.exceptions import OptionError
from imgtofmri.stimuli import (
    Failure,
    Frame,
    Source,
    StimulusWarning,
    find_sources,
    prepare_image,
    read_images,
)


@pytest.fixture
def photo(rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return a small smooth picture."""
    coarse = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((50, 40), Image.Resampling.BICUBIC))


def encode(picture: Image.Image, format_name: str, **options: object) -> bytes:
    """Return the bytes of a file of one format."""
    file = io.BytesIO()
    picture.save(file, format_name, **options)
    return file.getvalue()


def only(item: object) -> Frame | Failure:
    """Read one input."""
    (result,) = read_images([item])  # type: ignore[list-item]
    return result


LOSSLESS = ["PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP", "JPEG2000"]


@pytest.mark.parametrize("format_name", [*LOSSLESS, "JPEG", "AVIF"])
def test_read_images_format_gives_prepared_picture(
    tmp_path: Path, photo: npt.NDArray[np.uint8], format_name: str
) -> None:
    """Each format is read, whatever its suffix says, and gives what was saved."""
    picture = Image.fromarray(photo)
    if format_name == "GIF":
        picture = picture.quantize(64)
    options: dict[str, object] = {"lossless": True} if format_name == "WEBP" else {}
    path = tmp_path / "picture.img"
    path.write_bytes(encode(picture, format_name, **options))
    frame = only(path)
    assert isinstance(frame, Frame)
    expected = prepare_image(picture.convert("RGB"))
    tolerance = 0 if format_name in LOSSLESS else 40
    assert np.abs(frame.pixels.astype(int) - expected).max() <= tolerance
    assert frame.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (frame.name, frame.source, frame.onset_s) == ("picture.img", path, None)


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_read_images_animation_gives_first_frame(tmp_path: Path, format_name: str) -> None:
    """Of several frames or pages the first counts, and a warning says so."""
    first, second = Image.new("RGB", (20, 20), "white"), Image.new("RGB", (20, 20), "black")
    path, still = tmp_path / "moving", tmp_path / "still"
    path.write_bytes(encode(first, format_name, save_all=True, append_images=[second]))
    still.write_bytes(encode(first, format_name))
    with pytest.warns(StimulusWarning, match="^1 files hold several pictures .* is 'moving'"):
        frame, alone = read_images([path, still])
    assert isinstance(frame, Frame)
    assert isinstance(alone, Frame)
    assert (frame.is_first, alone.is_first) == (True, False)
    assert frame.pixels.min() >= 254


@pytest.mark.parametrize(("format_name", "options"), [("JPEG", {}), ("TIFF", {}), ("WEBP", {})])
@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_read_images_exif_rotation_is_applied_once(
    tmp_path: Path, format_name: str, options: dict[str, object], compression: str | None
) -> None:
    """A rotated photograph stands upright in every format that carries a rotation."""
    if compression and format_name != "TIFF":
        compression = None
    upright = np.zeros((30, 60, 3), np.uint8)
    upright[:15] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(upright)))
    if compression:
        options = {**options, "compression": compression}
    path = tmp_path / "turned"
    path.write_bytes(encode(stored, format_name, exif=exif, **options))
    frame = only(path)
    assert isinstance(frame, Frame)
    assert frame.pixels[:90].min() > 230
    assert frame.pixels[-90:].max() < 25


def png_of(width: int, height: int) -> bytes:
    """Return a PNG file whose header claims a size and whose pixels are missing."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    signature = b"\x89PNG\r\n\x1a\n"
    return (
        signature
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


BAD_FILES = {
    "empty.jpg": (b"", r"empty.jpg', which is empty \(0 bytes\).*Copy it again"),
    "text.jpg": (b"not a picture at all", "text.jpg', whose content is none of these.*Export"),
    "film.mp4": (
        b"\0\0\0\x20ftypisom" + bytes(99),
        "film.mp4', whose content.*`simulate` and `dynamics` take movies",
    ),
    "one.png": (b"P", "one.png', whose content is none of these"),
    "bomb.png": (
        png_of(10_000, 10_000),
        "fewer than 100 million.*bomb.png' of 10000",
    ),
    "huge.png": (png_of(2**31 - 1, 2**31 - 1), "fewer than 100 million pixels; got '.*huge.png'"),
    "flat.png": (png_of(0, 5), "flat.png"),
    "hollow.png": (png_of(40, 30), "hollow.png', which cannot be decoded"),
    "postscript.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "none of these"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_read_images_bad_file_is_one_line_that_names_it(
    tmp_path: Path, photo: npt.NDArray[np.uint8], name: str
) -> None:
    """A bad file is one failure of one line in its place, and the others are read."""
    content, message = BAD_FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    before, failure, after = read_images([photo, path, photo])
    assert isinstance(before, Frame)
    assert isinstance(after, Frame)
    assert isinstance(failure, Failure)
    assert failure.name == name
    assert "\n" not in str(failure.error)
    assert name in str(failure.error)
    with pytest.raises(ValueError, match=message):
        raise failure.error


@pytest.mark.parametrize("format_name", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000"])
@pytest.mark.parametrize("kept", [0.95, 0.5, 0.02])
def test_read_images_truncated_file_fails(
    tmp_path: Path, rng: np.random.Generator, format_name: str, kept: float
) -> None:
    """A file that was cut short is never read as if it were whole."""
    noise = rng.integers(0, 256, (120, 160, 3), dtype=np.uint8)
    whole = encode(Image.fromarray(noise), format_name)
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole[: int(len(whole) * kept)])
    failure = only(path)
    assert isinstance(failure, Failure)
    assert "cut.jpg" in str(failure.error)


# What is damaged may seem to have another page.
@pytest.mark.filterwarnings("ignore:.*hold several pictures or pages:UserWarning")
@pytest.mark.parametrize(
    "format_name", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM", "AVIF"]
)
def test_read_images_damaged_bytes_never_raise(
    photo: npt.NDArray[np.uint8], tmp_path: Path, rng: np.random.Generator, format_name: str
) -> None:
    """Whatever bytes are wrong, each input gives a frame or a failure that names it."""
    whole = np.frombuffer(encode(Image.fromarray(photo), format_name), np.uint8)
    paths = []
    for i in range(40):
        damaged = whole.copy()
        places = rng.integers(0, len(whole) if i % 2 else min(200, len(whole)), 4)
        damaged[places] = rng.integers(0, 256, 4)
        paths.append(tmp_path / f"damaged{i}.jpg")
        paths[-1].write_bytes(damaged.tobytes())
    results = list(read_images(paths))
    assert [result.name for result in results] == [path.name for path in paths]
    failures = [result for result in results if isinstance(result, Failure)]
    assert all(failure.name in str(failure.error) for failure in failures)


def test_read_images_folder_missing_and_link_and_pipe(tmp_path: Path) -> None:
    """What is no regular file is named, and nothing waits for a pipe."""
    folder, link, pipe = tmp_path / "folder.jpg", tmp_path / "link.jpg", tmp_path / "pipe.jpg"
    folder.mkdir()
    link.symlink_to(tmp_path / "nowhere")
    os.mkfifo(pipe)
    failures = list(read_images([folder, link, pipe, tmp_path / "nul\0.jpg", tmp_path / "no.jpg"]))
    messages = [str(item.error) for item in failures if isinstance(item, Failure)]
    assert "folder.jpg', which is a folder" in messages[0]
    assert "link.jpg', which does not exist" in messages[1]
    assert "pipe.jpg', which is a device or a pipe" in messages[2]
    assert "nul_.jpg', which cannot be read" in messages[3]
    assert "no.jpg', which does not exist" in messages[4]


def test_read_images_closed_file_is_a_failure(tmp_path: Path, photo: npt.NDArray[np.uint8]) -> None:
    """A file that may not be read is named with the reason."""
    path = tmp_path / "secret.png"
    path.write_bytes(encode(Image.fromarray(photo), "PNG"))
    path.chmod(0)
    if os.geteuid() == 0:
        # Root reads everything; another user may not, wherever on the way it is stopped.
        os.seteuid(65534)
        try:
            failure = only(path)
        finally:
            os.seteuid(0)
    else:
        failure = only(path)
    assert isinstance(failure, Failure)
    assert "secret.png', which cannot be read (Permission denied)" in str(failure.error)


def test_read_images_other_objects_are_failures() -> None:
    """An object that is no picture is named by its place and type."""
    failure = only(12)
    assert isinstance(failure, Failure)
    assert "got image-0000, of type int. Convert it" in str(failure.error)
    failure = only(io.BytesIO())
    assert isinstance(failure, Failure)
    assert "of type BytesIO. Convert it: PIL.Image.open takes" in str(failure.error)
    failure = only(np.zeros((4, 4)))
    assert isinstance(failure, Failure)
    assert "image-0000: expected a uint8 array" in str(failure.error)


def test_read_images_takes_one_lazily_opened_picture_many_times(
    tmp_path: Path, photo: npt.NDArray[np.uint8]
) -> None:
    """Threads that decode one picture of the caller's do so one after another."""
    Image.fromarray(photo).resize((900, 700)).save(tmp_path / "lazy.jpg")
    (expected,) = read_images(tmp_path / "lazy.jpg")
    for _ in range(10):
        with Image.open(tmp_path / "lazy.jpg") as picture:
            for frame in read_images([picture] * 6, n_workers=6):
                assert isinstance(frame, Frame), frame
                np.testing.assert_array_equal(frame.pixels, expected.pixels)
    with Image.open(tmp_path / "lazy.jpg") as closed:
        pass
    failure = only(closed)
    assert isinstance(failure, Failure)
    assert "Give its path, or leave it open" in str(failure.error)


def test_read_images_mixed_inputs_keep_order_and_names(
    tmp_path: Path, photo: npt.NDArray[np.uint8]
) -> None:
    """Sources, paths, PIL images and arrays come back in order, under their names."""
    path = tmp_path / "ü b.png"
    path.write_bytes(encode(Image.fromarray(photo), "PNG"))
    inputs = [photo, Source(path, "cats__ü b.png", "image"), str(path), Image.fromarray(photo)]
    frames = list(read_images(inputs))
    assert [f.name for f in frames] == ["image-0000", "cats__ü b.png", "ü b.png", "image-0003"]
    pixels = [frame.pixels for frame in frames if isinstance(frame, Frame)]
    for other in pixels:
        np.testing.assert_array_equal(other, pixels[0])
    assert isinstance(frames[0], Frame)
    assert frames[0].sha256 is None


@pytest.mark.parametrize("n_workers", [1, 2, 5])
@pytest.mark.parametrize("ahead", [1, 3, 100])
def test_read_images_same_for_any_number_of_threads(
    rng: np.random.Generator, n_workers: int, ahead: int
) -> None:
    """Threads and depth change nothing but time."""
    stack = rng.integers(0, 256, (17, 30, 40, 3), dtype=np.uint8)
    frames = list(read_images(stack, size=16, n_workers=n_workers, ahead=ahead))
    assert [frame.name for frame in frames] == [f"image-{i:04d}" for i in range(17)]
    for frame, picture in zip(frames, stack, strict=True):
        assert isinstance(frame, Frame)
        np.testing.assert_array_equal(frame.pixels, prepare_image(picture, 16))


def test_read_images_runs_ahead_by_a_bounded_number(photo: npt.NDArray[np.uint8]) -> None:
    """Inputs are taken no further ahead than asked, so memory does not grow with their number."""
    taken = 0

    def endless() -> Iterator[npt.NDArray[np.uint8]]:
        nonlocal taken
        while True:
            taken += 1
            yield photo

    reader = read_images(endless(), size=8, ahead=5)
    for done in range(1, 40):
        next(reader)
        assert taken <= done + 5
    before = threading.active_count()
    reader.close()  # type: ignore[attr-defined]
    assert threading.active_count() < before


def test_read_images_one_input_is_a_list_of_one(
    tmp_path: Path, photo: npt.NDArray[np.uint8]
) -> None:
    """A single path, picture or array is read as one image."""
    path = tmp_path / "a.png"
    path.write_bytes(encode(Image.fromarray(photo), "PNG"))
    for item in (path, str(path), Image.fromarray(photo), photo, photo[:, :, 0]):
        assert len(list(read_images(item))) == 1


@pytest.mark.parametrize("option", ["size", "n_workers", "ahead"])
def test_read_images_option_below_one_is_refused_at_once(option: str) -> None:
    """Bad settings are refused when asked, not when the first image is read."""
    with pytest.raises(OptionError, match=f"{option} must be 1 or more; got 0"):
        read_images([], **{option: 0})  # type: ignore[arg-type]


def test_read_images_center_crop_is_passed_on(photo: npt.NDArray[np.uint8]) -> None:
    """The crop is that of prepare_image."""
    (frame,) = read_images([photo], center_crop=True)
    assert isinstance(frame, Frame)
    np.testing.assert_array_equal(frame.pixels, prepare_image(photo, center_crop=True))


def test_read_images_real_photographs(test_data: Path) -> None:
    """Photographs as cameras and sites make them are all read."""
    sources, failures = find_sources([test_data / "photos"])
    assert failures == []
    frames = list(read_images(sources[::40]))
    assert all(isinstance(frame, Frame) for frame in frames)
    assert len(frames) > 10
