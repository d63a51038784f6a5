"""Predictions as figures: what `Prediction.plot` draws."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from imgtofmri.encoder.regions import BOTH
from imgtofmri.exceptions import ImgToFmriError, OptionError, check_choice
from imgtofmri.stimuli import Frame, Pixels, Source, read_images

if TYPE_CHECKING:
    from imgtofmri.encoder.prediction import Prediction
    from imgtofmri.figures.style import Figure

KINDS = ("glass", "slices", "surface", "rois")

MOST_BARS = 8
"""How many pictures bars can show side by side."""

_PICTURE_SIDE = 448


def plot_prediction(
    prediction: Prediction,
    kind: str = "glass",
    stimulus: int | str | None = None,
    *,
    subject: str | None = None,
    vmax: float | None = None,
) -> Figure:
    """Draw a prediction; see `Prediction.plot`."""
    from imgtofmri.encoder.regions import GROUP, MODEL_UNIT
    from imgtofmri.figures import maps

    check_choice("kind", kind, KINDS)
    note = prediction.provenance.note
    if kind == "rois":
        some = prediction if stimulus is None else prediction[stimulus]
        means = some.roi_means()
        both = [number for number, (_, hemi) in enumerate(means.places) if hemi == BOTH]
        people = zip(means.subjects, np.moveaxis(means.values, 1, 0), strict=True)
        values = {GROUP: means.group[both]} | {name: found[both] for name, found in people}
        rois = [means.places[number][0] for number in both]
        label = f"predicted response ({MODEL_UNIT})"
        note = f"{note}; means over each person's own ROIs, the group's over people"
        if some.onsets_s is not None and len(some) > 1:
            return maps.plot_roi_lines(values, rois, some.onsets_s, "ROIs over time", label, note)
        if len(some) > MOST_BARS:
            message = (
                f"stimulus must be named where there are more than {MOST_BARS}, as bars stand side "
                f"by side; got none of {len(some)}. Name one, or take some: prediction[:4].plot()."
            )
            raise OptionError(message, "stimulus")
        title = some.names[0] if len(some) == 1 else f"{len(some)} pictures"
        return maps.plot_roi_bars(values, rois, some.names, title, label, note)
    one = prediction[0 if stimulus is None else stimulus]
    if len(one) != 1:
        message = f"stimulus must be one of the stimuli; got {stimulus!r}. Draw one after another."
        raise OptionError(message, "stimulus")
    unit = MODEL_UNIT if subject is not None else one.unit
    label = f"predicted response ({unit if unit != 'z' else 'z over the mask'})"
    title = f"{one.names[0]}: {subject or 'group'}"
    if kind == "surface":
        return maps.plot_surface(one.to_surface(subject=subject), title, label, note, vmax=vmax)
    image = one.to_img(subject=subject)
    note = f"{note}; {one.space}"
    if kind == "slices":
        in_mni = one.space.startswith("MNI152")
        return maps.plot_slices(image, title, label, note, in_mni=in_mni, vmax=vmax)
    picture = thumbnail(one, _PICTURE_SIDE)
    shown = None if picture is None else np.asarray(picture)
    return maps.plot_glass(image, title, label, note, picture=shown, vmax=vmax)


def read_pictures(
    prediction: Prediction, names: Iterable[str] | None = None, size: int = 224
) -> dict[str, Pixels]:
    """Read the pictures of stimuli that are files which can still be read.

    Parameters
    ----------
    prediction : Prediction
    names : iterable of str, optional
        Which; all by default.
    size : int
        Side of the square that they are squeezed into.

    Returns
    -------
    dict of str to array of shape (size, size, 3), uint8
    """
    file_of = dict(zip(prediction.names, prediction.sources, strict=True))
    wanted = prediction.names if names is None else names
    files = ((name, file_of[name]) for name in wanted)
    sources = [Source(path, name, "image") for name, path in files if path is not None]
    frames = read_images(sources, size=size)
    return {frame.name: frame.pixels for frame in frames if isinstance(frame, Frame)}


def thumbnail(one: Prediction, side: int) -> Any:
    """Return the picture of one stimulus as a PIL image of at most some pixels, None if none."""
    from imgtofmri.stimuli.images import open_image

    source = one.sources[0]
    if source is None or one.onsets_s is not None or not source.is_file():
        return None
    try:
        picture = open_image(source)
    except ImgToFmriError:
        return None
    picture.thumbnail((side, side))
    return picture
