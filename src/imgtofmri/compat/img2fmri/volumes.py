"""`predict`: a folder of images, or a movie, to volumes named as the published package did."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from imgtofmri.compat.img2fmri.frames import RATE_HZ, stream_jpegs
from imgtofmri.compat.img2fmri.model import ALL_ROIS, is_true, published_encoder
from imgtofmri.encoder import Predictor, Settings
from imgtofmri.exceptions import OptionError, StimulusError
from imgtofmri.files import atomic_path, claim_file, is_there, write_all
from imgtofmri.outputs import NiftiLayout, SeriesWriter, VolumeWriter, check_distinct
from imgtofmri.outputs.series import MAX_VOLUMES
from imgtofmri.progress import track
from imgtofmri.stimuli import Failure, Movie, Source, StimulusWarning, find_sources, suffix_kind


class NotAFolderError(StimulusError, NotADirectoryError):
    """Images were to be predicted, and the input is no folder of them."""


class StemLayout(NiftiLayout):
    """One file for each stimulus, named without the stimulus' suffix."""

    def volume(
        self, name: str, subject: str | None = None, bound: str = "", *, movie: bool = False
    ) -> str:
        """Return ``horse.nii.gz`` for ``horse.jpg``."""
        return super().volume(Path(name).stem, subject, bound, movie=movie)


def predict(
    input_data: str | Path,
    output_dir: str | Path = ".",
    roi_list: Sequence[str] | None = ALL_ROIS,
    predict_movie: bool = False,
    sigma: float = 1,
    center_crop: bool = False,
    *,
    jpeg_frames: bool = False,
    **settings: Any,
) -> list[Path]:
    """Predict the response to each image of a folder, or to a movie, and save it as NIfTI.

    Parameters
    ----------
    input_data : path
        A folder of images; with ``predict_movie`` a movie file.
    output_dir : path
        Where to write; made where it is missing.
    roi_list : sequence of str
        Which ROIs, of the five.
    predict_movie : bool
        Predict a movie, two frames of each second, each as an image.
    sigma : float
        Standard deviation of the smoothing in millimetres.
    center_crop : bool
        Crop the centre, instead of squeezing the whole picture.
    jpeg_frames : bool
        Pass a movie's frames through a JPEG at the movie's own size, as the published package did.
    **settings
        Further `imgtofmri.Settings` by their names: mask, average, backbone, weights.

    Returns
    -------
    list of Path
        The files: STEM.nii.gz of each image, in natural order, 3-D; or STEM.nii.gz of the movie,
        4-D, with 0.5 s between volumes in its header. What was there is replaced, whole.

    Raises
    ------
    NotAFolderError
        If images are to be predicted and the input is no folder: a `StimulusError` that is a
        NotADirectoryError, too.
    StimulusError
        If the movie is missing or cannot be read; or if an image cannot be used, once all others
        are predicted and saved.
    OptionError
        If an option is not valid, the folder holds no image, or two of its images would have one
        file, as ``a.jpg`` and ``a.png``. Nothing is predicted.
    OutputError
        If a file cannot be written.

    Warns
    -----
    StimulusWarning
        If the folder holds movies, or pictures of formats that are not read.

    Examples
    --------
    >>> predict("photos/", "out", roi_list=["LOC"])  # doctest: +SKIP
    """
    written, failures = predict_files(
        input_data,
        output_dir,
        roi_list,
        predict_movie,
        sigma,
        center_crop,
        jpeg_frames=jpeg_frames,
        **settings,
    )
    if failures:
        more = f" And {len(failures) - 1} more could not be used." if len(failures) > 1 else ""
        message = f"{failures[0].error}{more} {len(written)} were predicted and saved."
        raise StimulusError(message)
    return written


def predict_files(
    input_data: str | Path,
    output_dir: str | Path,
    roi_list: Sequence[str] | None,
    predict_movie: bool | str,
    sigma: float,
    center_crop: bool | str,
    *,
    jpeg_frames: bool | str = False,
    **settings: Any,
) -> tuple[list[Path], list[Failure]]:
    """Predict as `predict` does, and return the files and the images that could not be used."""
    chosen = Settings.of(
        rois=roi_list,
        sigma_mm=sigma,
        center_crop=is_true("center_crop", center_crop),
        **settings,
    )
    folder, through_jpeg = Path(output_dir), is_true("jpeg_frames", jpeg_frames)
    if is_true("predict_movie", predict_movie):
        return [_predict_movie(Movie(input_data), folder, chosen, through_jpeg)], []
    return _predict_folder(Path(input_data), folder, chosen)


def _predict_movie(movie: Movie, folder: Path, settings: Settings, through_jpeg: bool) -> Path:
    """Predict a movie, and write its volumes as they come."""
    # What is no movie, or too long a one, is refused before anything is loaded for it.
    movie.check_length(RATE_HZ, MAX_VOLUMES, "NIfTI-1 files hold no more volumes.")
    target = folder / StemLayout().volume(movie.path.name, movie=True)
    claim_file(target, overwrite=True)
    predictor = published_encoder().predictor(settings)
    stream = (
        stream_jpegs(predictor, movie) if through_jpeg else predictor.stream_movie(movie, RATE_HZ)
    )
    what, total = f"Predicting {movie.name}", movie.expected_frames(RATE_HZ)
    with (
        track(what, total, "frames") as advance,
        atomic_path(target) as temporary,
        SeriesWriter(temporary, predictor.spatial.mask, _affine(predictor), 1 / RATE_HZ) as writer,
    ):
        for part in stream:
            writer.append(part.group)
            advance(len(part))
    return target


def _predict_folder(
    source: Path, folder: Path, settings: Settings
) -> tuple[list[Path], list[Failure]]:
    """Predict the images of a folder, each to a file of its own."""
    images, failures = _images_in(source)
    layout = StemLayout()
    check_distinct(layout, [each.path.name for each in images])
    targets = {each.path: folder / layout.volume(each.path.name) for each in images}
    claim_file(targets[images[0].path], overwrite=True)
    predictor = published_encoder().predictor(settings)
    writer = VolumeWriter(predictor.spatial.mask, _affine(predictor))
    written: list[Path] = []
    with track("Predicting", len(images), "images") as advance:
        for part in predictor.stream(images, failures.append):
            paths = [targets[path] for path in part.sources if path is not None]
            volumes = (writer.encode(values) for values in part.group)
            write_all(dict(zip(paths, volumes, strict=True)))
            written += paths
            advance(len(part))
    return written, failures


def _images_in(source: Path) -> tuple[list[Source], list[Failure]]:
    """Find the images of a folder, and say what else in it may have been meant."""
    if not source.is_dir():
        remedy = "Name the folder that holds them."
        if suffix_kind(source) == "movie":
            remedy = "For a movie set `predict_movie`."
        what = "no folder" if is_there(source) else "not there"
        message = (
            f"input_data must be a folder of images; got '{source}', which is {what}. {remedy}"
        )
        raise NotAFolderError(message)
    found, failures = find_sources([source])
    images = [each for each in found if each.kind == "image"]
    movies = [each for each in found if each.kind == "movie"]
    if not images and not movies:
        raise failures[0].error
    if not images:
        message = (
            f"input_data must be a folder of images; got '{source}', which holds none but "
            f"{len(movies)} movies. Name one of them and set `predict_movie`."
        )
        raise OptionError(message, "input_data")
    if movies:
        message = (
            f"passed over {len(movies)} movies in '{source}', such as '{movies[0].name}': name "
            "each by itself, with `predict_movie`."
        )
        warnings.warn(message, StimulusWarning, stacklevel=5)
    return images, failures


def _affine(predictor: Predictor) -> NDArray[np.float64]:
    """Return the template's, voxel indices to millimetres."""
    return predictor.readout.bundle.template.affine
