"""Images and movies into RGB frames with names and onsets; what counts as an input.

Find (`find_sources`), then read in order and ahead of time (`read_images`, `read_movie`). A bad
image never ends a run: it is a `Failure`, with one line that names it.
"""

from __future__ import annotations

from imgtofmri.stimuli.ahead import run_ahead
from imgtofmri.stimuli.discovery import (
    IMAGE_SUFFIXES,
    MOVIE_SUFFIXES,
    find_sources,
    suffix_kind,
    unique_names,
)
from imgtofmri.stimuli.images import ImageInput, read_images
from imgtofmri.stimuli.inputs import expand_images
from imgtofmri.stimuli.items import FRAME_SIZE, Failure, Frame, Pixels, Source
from imgtofmri.stimuli.movies import (
    MovieInfo,
    StimulusWarning,
    check_rate,
    count_frames,
    probe_movie,
    read_movie,
)
from imgtofmri.stimuli.pixels import MAX_PIXELS, prepare_image
from imgtofmri.stimuli.properties import (
    PROPERTIES,
    image_properties,
    luminance,
    luminance_features,
)

__all__ = [
    "FRAME_SIZE",
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "MOVIE_SUFFIXES",
    "PROPERTIES",
    "Failure",
    "Frame",
    "ImageInput",
    "MovieInfo",
    "Pixels",
    "Source",
    "StimulusWarning",
    "check_rate",
    "count_frames",
    "expand_images",
    "find_sources",
    "image_properties",
    "luminance",
    "luminance_features",
    "prepare_image",
    "probe_movie",
    "read_images",
    "read_movie",
    "run_ahead",
    "suffix_kind",
    "unique_names",
]
