"""Open a movie file and its stream of pictures, or say clearly why not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imgtofmri.exceptions import ImgToFmriError, StimulusError
from imgtofmri.processors import n_processors
from imgtofmri.stimuli.items import check_dimensions, refuse

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

# FFmpeg's readers of files that hold all of a movie themselves. Play lists, patterns of file names
# and descriptions of streams, which would open others, are not among them.
_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,asf_o,flv,live_flv,ogg,"
    "mxf,mjpeg,mpjpeg,smjpeg,mjpeg_2000,gif,apng,m4v,h261,h263,h264,hevc,vvc,evc,obu,av1,ivf,vc1,"
    "vc1test,dv,nut,rm,swf,wtv,gxf,nsv,yuv4mpegpipe,dirac,cavsvideo,dnxhd,lmlm4,dhav,roq,smk,bink,"
    "mp3,wav,aac,flac"
)
# Readers of single pictures, whose names say so.
_PICTURES = "jpeg_pipe,png_pipe,bmp_pipe,webp_pipe,tiff_pipe,gif_pipe,ppm_pipe,pgm_pipe"

# FFmpeg's own decoders of these pass over their transparency, which WebM keeps beside the pictures.
_WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}

_MAX_DECODE_THREADS = 8

# Pixels from which on decoding takes longer than the network and gets all processors.
_LARGE = 1_000_000


@contextmanager
def open_pictures(
    path: Path, threaded: bool = False
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a movie and its stream of pictures, ready to decode.

    Parameters
    ----------
    path : Path
        Nothing but this file is ever read (no network, no playlists).
    threaded : bool, default False
        Whether several threads decode. They raise where a single one passes over damage.

    Raises
    ------
    StimulusError
        If the file is missing, not a movie, or without a stream of pictures.
    """
    with _open(path) as container:
        yield container, _stream(container, path, threaded)


@contextmanager
def one_movies_fault(path: Path) -> Iterator[None]:
    """Turn whatever a movie makes decoders raise into the error of that movie.

    Raises
    ------
    StimulusError
        If anything but one of this package's own errors is raised inside the block.
    """
    try:
        yield
    except (ImgToFmriError, GeneratorExit, MemoryError):
        raise
    # Damaged and rare files make decoders raise nearly anything; the other inputs must not suffer.
    except Exception as error:
        reason = str(error) or type(error).__name__
        got = f"'{path}', which cannot be decoded ({reason})"
        expected, remedy = "a movie", "Export it again as MP4 (H.264), or leave it out."
        raise refuse(expected, got, remedy) from error


def _open(path: Path) -> InputContainer:
    import av

    expected = "a movie"
    if not path.exists():
        got = f"'{path}', which does not exist"
        raise refuse(expected, got, "Check its spelling and where links lead.")
    if not path.is_file():
        raise refuse(expected, f"'{path}', which is not a file", "Name the movie's file.")
    if path.stat().st_size == 0:
        got = f"'{path}', which is empty (0 bytes)"
        raise refuse(expected, got, "Copy it again or leave it out.")
    try:
        path.open("rb").close()
    except OSError as error:
        got = f"'{path}', which cannot be read ({error.strerror})"
        raise refuse(expected, got, "Check its permissions and its disk.") from error
    # Titles in old files are not always UTF-8; nobody reads them here. From 19 on PyAV takes any
    # title, and no longer this argument.
    before_19 = int(av.__version__.partition(".")[0]) < 19
    titles: dict[str, Any] = {"metadata_errors": "replace"} if before_19 else {}
    try:
        options = {"protocol_whitelist": "file", "format_whitelist": f"{_FORMATS},{_PICTURES}"}
        container: InputContainer = av.open(f"file:{path}", options=options, **titles)
    except (av.FFmpegError, OSError, ValueError) as error:
        if _is_text(path):
            got = f"'{path}', which cannot be opened (it is a text; play lists are not followed)"
            raise refuse(expected, got, "Give the movie itself that it names.") from error
        reason = getattr(error, "strerror", None) or str(error)
        got = f"'{path}', which cannot be opened ({reason})"
        remedy = "It is not a movie or was cut short: copy it again, or leave it out."
        raise refuse(expected, got, remedy) from error
    if container.format.name in _PICTURES.split(","):
        container.close()
        remedy = "Give it as an image."
        raise refuse(expected, f"'{path}', which is a single picture", remedy)
    return container


def moving_streams(container: InputContainer) -> list[VideoStream]:
    """Return the streams of pictures that move: all but covers."""
    from av.stream import Disposition

    return [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]


def _stream(container: InputContainer, path: Path, threaded: bool) -> VideoStream:
    movies = moving_streams(container)
    if not movies:
        kinds = ", ".join(sorted({stream.type for stream in container.streams}))
        got = f"'{path}', which holds {kinds or 'nothing'} and no video stream"
        expected = "a movie"
        raise refuse(expected, got, "Leave it out.")
    if all(stream.codec_context is None for stream in movies):
        raise no_pictures(path)
    movies = [stream for stream in movies if stream.codec_context is not None]
    best = container.streams.best("video")
    stream = next((s for s in movies if best is not None and s.index == best.index), movies[0])
    context = stream.codec_context
    if context.width and context.height:  # Else the first picture tells.
        check_dimensions((context.width, context.height), f"'{path}'")
    stream.thread_type = "AUTO"
    # Small pictures cost threads a third more time, while the network needs the processors.
    few = max(1, n_processors() // 2) if context.width * context.height < _LARGE else n_processors()
    context.thread_count = min(few, _MAX_DECODE_THREADS) if threaded else 1
    if threaded:
        # Threads conceal damage in silence, and differently: have decoders tell, to begin anew.
        context.options = {"err_detect": "explode"}
    return stream


def decoder_of(stream: VideoStream, path: Path) -> VideoCodecContext:
    """Return what decodes a stream's pictures with the transparency that they have.

    Raises
    ------
    StimulusError
        If they have one that this build of FFmpeg cannot decode.
    """
    from av import CodecContext
    from av.codec.codec import UnknownCodecError

    name = _WITH_ALPHA.get(stream.codec_context.name)
    tags = {tag.lower(): value for tag, value in stream.metadata.items()}
    if name is None or tags.get("alpha_mode") != "1":
        return stream.codec_context
    try:
        decoder: Any = CodecContext.create(name, "r")
    except UnknownCodecError as error:
        got = f"'{path}', whose transparency takes the decoder {name}"
        remedy = "Put it over its background, or export it as MOV (ProRes 4444)."
        expected = "a movie that this build of FFmpeg can decode"
        raise refuse(expected, got, remedy) from error
    decoder.thread_count = stream.codec_context.thread_count
    found: VideoCodecContext = decoder
    return found


def _is_text(path: Path) -> bool:
    """Tell whether a file begins as texts do, and no movie does."""
    with path.open("rb") as file:
        head = file.read(256)
    return all(byte in b"\t\n\r" or 32 <= byte != 127 for byte in head)


def no_pictures(path: Path) -> StimulusError:
    """Return the error for a movie without a single picture."""
    got = f"'{path}', which has a video stream but no picture that can be decoded"
    remedy = "It was cut short or its codec is not known: export it again as MP4 (H.264)."
    return refuse("a movie", got, remedy)
