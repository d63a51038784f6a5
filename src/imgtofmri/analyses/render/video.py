"""Pictures with exact times into an .mp4 file."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

from imgtofmri.exceptions import MissingDependencyError
from imgtofmri.files import atomic_path
from imgtofmri.stimuli import Shown

CODECS = ("libx264", "libopenh264", "mpeg4")
"""Encoders, the best first: builds of FFmpeg have some of them."""

_FINEST_S = {"mpeg4": Fraction(1, 60_000)}
"""Ticks of encoders that take no finer ones; exact for usual rates of pictures."""


def find_codec(codecs: Iterable[str] = CODECS) -> str:
    """Return the first encoder that this build of FFmpeg has.

    Raises
    ------
    MissingDependencyError
        If it has none.
    """
    import av

    wanted = list(codecs)
    for name in wanted:
        try:
            av.Codec(name, "w")
        except ValueError:
            continue
        return name
    message = (
        f"render needs one of the encoders {', '.join(wanted)}; this build of PyAV has none. "
        "Install it from its wheel: pip install --force-reinstall av."
    )
    raise MissingDependencyError(message)


def write_video(path: Path, pictures: Iterable[Shown], codec: str | None = None) -> int:
    """Write pictures at their times, whole or not at all.

    Parameters
    ----------
    path : Path
    pictures : iterable of Shown
        Of one even width and height, times rising.
    codec : str, optional
        By default what `find_codec` finds.

    Returns
    -------
    int
        How many there were.

    Raises
    ------
    OutputError
        If the file cannot be written.
    MissingDependencyError
        If there is no encoder.
    """
    import av

    name = find_codec() if codec is None else codec
    durations: dict[int, int] = {}
    n_pictures = 0
    with (
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as container,
    ):
        stream: Any = None
        tick_s = finest_s = _FINEST_S.get(name, Fraction(1, 1_000_000))
        for shown in pictures:
            if stream is None:
                stream = container.add_stream(name, rate=30)
                stream.height, stream.width = shown.pixels.shape[:2]
                stream.pix_fmt = "yuv420p"
                tick_s = max(shown.tick_s, finest_s)
                stream.codec_context.time_base = tick_s
                if name == "libx264":
                    stream.codec_context.options = {"crf": "18", "preset": "fast"}
                else:
                    stream.codec_context.bit_rate = 4_000_000
            scale = shown.tick_s / tick_s
            frame = av.VideoFrame.from_ndarray(shown.pixels, format="rgb24")
            frame.pts, frame.time_base = round(shown.time * scale), tick_s
            durations[frame.pts] = max(1, round(shown.duration * scale))
            n_pictures += 1
            for packet in stream.encode(frame):
                packet.duration = durations.pop(packet.pts or 0, 0)
                container.mux(packet)
        if stream is not None:
            for packet in stream.encode(None):
                packet.duration = durations.pop(packet.pts or 0, 0)
                container.mux(packet)
    return n_pictures
