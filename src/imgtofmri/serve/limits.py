"""`Limits`: how much a server takes, keeps and waits for."""

from __future__ import annotations

from dataclasses import dataclass, fields

from imgtofmri.exceptions import OptionError


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a server takes, keeps and waits for.

    Parameters
    ----------
    max_mb : float
        Largest body of a request, in millions of bytes; they are counted as they come.
    max_files : int
        How many images and movies one job may have.
    max_megapixels : float
        Largest image, or picture of a movie, in millions of pixels.
    max_minutes : float
        Length of the longest movie.
    max_rate_hz : float
        How many frames a second may be asked for.
    queue : int
        How many jobs may be received, wait and run at the same time.
    kept : int
        How many jobs' results are kept; the oldest go first.
    keep_minutes : float
        How long results are kept after they were last asked for.
    idle_s : float
        How long a request may pause on its way.
    receive_s : float
        How long a whole request may take to arrive.
    events_s : float
        How long one stream of progress lasts; whoever listens then asks again.
    streams : int
        How many such streams there may be at the same time.

    Raises
    ------
    OptionError
        If one is not above 0.
    """

    max_mb: float = 200.0
    max_files: int = 200
    max_megapixels: float = 50.0
    max_minutes: float = 10.0
    max_rate_hz: float = 10.0
    queue: int = 8
    kept: int = 16
    keep_minutes: float = 30.0
    idle_s: float = 20.0
    receive_s: float = 600.0
    events_s: float = 600.0
    streams: int = 64

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                message = f"{field.name} must be above 0; got {value}. Leave it out."
                raise OptionError(message, field.name)

    @property
    def max_bytes(self) -> int:
        """Largest body of a request, in bytes."""
        return int(self.max_mb * 1e6)

    @property
    def max_pixels(self) -> int:
        """Largest image, in pixels."""
        return int(self.max_megapixels * 1e6)
