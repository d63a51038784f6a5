"""The time line of a movie: when each picture appears after playing begins."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Sound that begins this much before the pictures is the codec's run-in, not a late picture.
_RUN_IN_S = Fraction(1, 10)

# A step back in time beyond this, or a gap beyond that, is where two recordings were joined.
_JOINT_S = Fraction(1)
_GAP_S = Fraction(60)

# Containers whose header says how long the whole is, so that a missing end can be noticed.
_HEADED_FORMATS = ("mov", "matroska", "avi", "asf", "flv")

# Pictures one after another, without a container: no time stands with them. libav takes 25 a second
# for all of these, whatever the pictures' own header says.
_BARE_FORMATS = frozenset(
    (
        "mjpeg mpjpeg mjpeg_2000 h261 h263 h264 hevc vvc evc obu m4v mpegvideo vc1 dirac cavsvideo "
        "dnxhd"
    ).split()
)
_ASSUMED_HZ = Fraction(25)


class Clock:
    """Puts pictures on the time line that begins when playing does, in ticks.

    Parameters
    ----------
    tick_s : Fraction
        Seconds in a tick.
    origin : int or None
        When playing begins; None where the first picture tells.
    usual : int
        Time between pictures where nothing else is known.
    declared_s : Fraction or None
        How long the movie is, by its header.

    Attributes
    ----------
    n_beyond : int
        How many pictures were not placed, as the header says that the movie is over by then.
    """

    def __init__(
        self, tick_s: Fraction, origin: int | None, usual: int, declared_s: Fraction | None
    ) -> None:
        self.tick_s, self.declared_s = tick_s, declared_s
        self.usual = self.longest = usual
        self.n_beyond = 0
        self._origin = origin
        self._last = -1
        self._joint, self._gap = round(_JOINT_S / tick_s), round(_GAP_S / tick_s)
        self._latest = None if declared_s is None else round(declared_s / tick_s) + self._joint

    def place(self, pts: int | None) -> int | None:
        """Return when a picture appears, or None if its clock is damaged.

        Times rise strictly. The neighbours stand for a picture that cannot be placed.
        """
        last, following = self._last, self._last + self.usual
        if pts is None:
            pts = following + (self._origin or 0) if last >= 0 else self._origin or 0
        if self._origin is None or (last < 0 and pts < self._origin):
            self._origin = pts  # The header did not know the beginning.
        time = pts - self._origin
        if self._latest is not None and time > self._latest:
            self.n_beyond += 1
            return None  # The header says that there is no such time.
        if time <= last and last - time < self._joint:
            return None  # The clock stumbles.
        if time <= last or (last >= 0 and self._latest is None and time - last > self._gap):
            self._origin += time - following  # Two recordings were joined here.
            time = following
        self.longest = max(self.longest, time - last)
        self._last = time
        return time

    @classmethod
    def of(cls, container: InputContainer, stream: VideoStream) -> Clock:
        """Return the clock of a stream, as its header sets it."""
        tick_s = exact(stream.time_base) or Fraction(1, 90_000)
        rate = rate_of(container, stream) or _ASSUMED_HZ
        usual = max(1, round(1 / (rate * tick_s)))
        return cls(tick_s, _origin(container, stream, tick_s), usual, _declared_s(container))


def rate_of(container: InputContainer, stream: VideoStream) -> Fraction | None:
    """Return the mean rate of a stream's pictures in Hz, None if nothing says it."""
    if _is_bare(container):
        return exact(stream.codec_context.framerate)
    return exact(stream.average_rate) or exact(stream.guessed_rate)


def assumes_rate(container: InputContainer, stream: VideoStream) -> bool:
    """Tell whether nothing but an assumption says when a stream's pictures appear."""
    return _is_bare(container) and rate_of(container, stream) is None


def _is_bare(container: InputContainer) -> bool:
    return container.format.name in _BARE_FORMATS


def exact(ratio: Any) -> Fraction | None:
    """Return one of libav's ratios, None where it is not set.

    From PyAV 19 on ratios have a type of their own, whose products are rounded, and one that is not
    set is 0, no longer None.
    """
    return Fraction(ratio.numerator, ratio.denominator) if ratio else None


def _origin(container: InputContainer, stream: VideoStream, tick_s: Fraction) -> int | None:
    """Return when playing begins, on the pictures' clock; None if the header does not say."""
    if container.format.name == "avi":
        return None  # It begins with decoding, which is ahead of the first picture.

    def start_s(of: Any) -> Fraction | None:
        unit_s = exact(of.time_base)
        return None if of.start_time is None or unit_s is None else of.start_time * unit_s

    pictures_s = start_s(stream)
    if pictures_s is None:
        return None
    sounds = [start_s(audio) for audio in container.streams.audio]
    first_s = min([pictures_s, *(sound for sound in sounds if sound is not None)])
    return round((pictures_s if pictures_s - first_s < _RUN_IN_S else first_s) / tick_s)


def _declared_s(container: InputContainer) -> Fraction | None:
    """Return the length of the whole, if the header is one that knows it."""
    if not container.duration or not container.format.name.startswith(_HEADED_FORMATS):
        return None
    return Fraction(container.duration, 1_000_000)
