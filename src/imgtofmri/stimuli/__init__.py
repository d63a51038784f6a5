"""Images and movies into RGB frames with names and onsets; what counts as an input.

Find (`find_sources`, or `read_list` where a list names the files), then read in order and ahead of
time (`read_images`, `Movie.frames`). A bad image never ends a run: it is a `Failure`, with one line
that names it.
"""

from __future__ import annotations

from imgtofmri.stimuli.ahead import run_ahead
from imgtofmri.stimuli.discovery import (
    IMAGE_SUFFIXES,
    MOVIE_SUFFIXES,
    find_images,
    find_sources,
    suffix_kind,
    unique_names,
)
from imgtofmri.stimuli.images import ImageInput, read_images
from imgtofmri.stimuli.inputs import expand_images
from imgtofmri.stimuli.items import FRAME_SIZE, Failure, Frame, Pixels, Source, StimulusWarning
from imgtofmri.stimuli.listed import SourceList, read_list
from imgtofmri.stimuli.low_level import (
    energy_features,
    luminance_features,
    silhouette_features,
)
from imgtofmri.stimuli.movie import Movie, MovieInfo, Shown
from imgtofmri.stimuli.pixels import prepare_image
from imgtofmri.stimuli.properties import (
    PROPERTIES,
    image_properties,
    luminance,
)
from imgtofmri.stimuli.sampling import check_rate

__all__ = [
    "FRAME_SIZE",
    "IMAGE_SUFFIXES",
    "MOVIE_SUFFIXES",
    "PROPERTIES",
    "Failure",
    "Frame",
    "ImageInput",
    "Movie",
    "MovieInfo",
    "Pixels",
    "Shown",
    "Source",
    "SourceList",
    "StimulusWarning",
    "check_rate",
    "energy_features",
    "expand_images",
    "find_images",
    "find_sources",
    "image_properties",
    "luminance",
    "luminance_features",
    "prepare_image",
    "read_images",
    "read_list",
    "run_ahead",
    "silhouette_features",
    "suffix_kind",
    "unique_names",
]
