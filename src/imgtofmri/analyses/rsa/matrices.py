"""Matrices: of models, from predictions and controls; of measured subjects, from files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imgtofmri.encoder import Control, Prediction
from imgtofmri.encoder.controls import LUMINANCE
from imgtofmri.encoder.regions import own_columns
from imgtofmri.exceptions import DataError, OptionError, ShapeError
from imgtofmri.measured.rdms import load_rdms
from imgtofmri.rsa import RDMs, calculate_rdm

Measured = RDMs | str | Path | Sequence[RDMs | str | Path] | Mapping[str, RDMs | str | Path]
"""Measured matrices, or what `read_matrices` finds them by."""

MEASURED = "measured"
"""What matrices are called that have no name and no file."""


def model_rdms(prediction: Prediction, method: str = "correlation") -> RDMs:
    """Make one model matrix for each ROI: the mean of those of each person's own ROI.

    A person's matrix is of the voxels of that person's own ROI, in native space, so that neither
    people nor regions are mixed before patterns are compared (subject-specific ROIs: Nieto-Castanon
    and Fedorenko 2012, doi:10.1016/j.neuroimage.2012.06.065). Smoothing, mask and average of the
    prediction play no part.

    Parameters
    ----------
    prediction : Prediction
    method : {"correlation", "euclidean"}
        As in `imgtofmri.rsa.calculate_rdm`; each voxel's mean over images is removed.

    Returns
    -------
    RDMs
        Named after the ROIs, hemispheres together, over the stimuli.

    Raises
    ------
    OptionError
        If the method is unknown.
    ShapeError, DataError
        If there are too few images or voxels, a pattern is NaN or constant, or an ROI responds
        alike to all images; the message names the ROI and the person.
    """
    rows = []
    for roi in prediction.rois:
        people = [
            _own_rdm(prediction, roi, subject, method)
            for subject, own in zip(prediction.subject_names, prediction.own_rois, strict=True)
            if len(own_columns(own, roi))
        ]
        if not people:
            message = (
                f"{roi}: a model needs one person or more who has the ROI; got none. Leave it out "
                "with `rois`."
            )
            raise DataError(message)
        rows.append(np.mean(people, axis=0))
    return RDMs(np.stack(rows), prediction.names, prediction.rois, method)


def _own_rdm(prediction: Prediction, roi: str, subject: str, method: str) -> NDArray[np.float64]:
    """Make the matrix of one person's own ROI, saying whose it is where that fails."""
    responses = prediction.roi_responses(roi, subject).astype(np.float64)
    spread, size = np.ptp(responses, axis=0), np.abs(responses).max(axis=0)
    if not (spread > 1e-6 * size).any() and np.isfinite(responses).all():
        message = (
            f"{roi} of {subject}: predicted responses must differ between images; got the same to "
            f"all {len(responses)}. Leave the ROI out with `rois`, or give images that differ."
        )
        raise DataError(message)
    try:
        return calculate_rdm(responses, method, conditions=prediction.names)
    except (DataError, ShapeError) as error:
        message = f"{roi} of {subject}: {error}"
        raise type(error)(message) from error


def control_rdms(control: Control, method: str = "correlation") -> RDMs:
    """Make a control's model matrices: one for each ROI, but only one for one of `PICTURES`.

    Features on a grid are treated as a pattern over voxels is. Where their 0 means that there is
    nothing (no edge, no figure), what all images share is left in: two images without anything at a
    place are alike there.
    """
    if control.prediction is not None:
        return model_rdms(control.prediction, method)
    names, features = control.features()
    centre = control.name == LUMINANCE
    vector = calculate_rdm(features, method, remove_voxel_mean=centre, conditions=names)
    return RDMs(vector[None], names, (control.name,), method)


def read_matrices(
    measured: Measured, *, key: str | None = None, descriptor: str | None = None
) -> dict[str, RDMs]:
    """Return measured matrices by their names, those of files read.

    Parameters
    ----------
    measured : RDMs, path, "NAME=FILE", a sequence of these, or a dict of str to RDMs or path
        Files as `imgtofmri.measured.rdms.load_rdms` reads them; one without a name is called by
        its file.
    key : str, optional
        The variable of an .npz or .mat file.
    descriptor : str, optional
        rsatoolbox's descriptor that names the conditions.

    Raises
    ------
    OptionError
        If two have one name.
    DataError
        If a file does not hold matrices.
    """
    entries: list[tuple[str, RDMs | str | Path]]
    if isinstance(measured, Mapping):
        entries = list(measured.items())
    elif isinstance(measured, RDMs | str | Path):
        entries = [_named(measured)]
    else:
        entries = [_named(entry) for entry in measured]
    found: dict[str, RDMs] = {}
    for name, matrices in entries:
        if name in found:
            message = (
                f"measured matrices must have different names; got {name!r} twice. Write NAME=FILE."
            )
            raise OptionError(message)
        if not isinstance(matrices, RDMs):
            matrices = load_rdms(matrices, key=key, pattern_descriptor=descriptor)
        found[name] = matrices
    return found


def _named(entry: RDMs | str | Path) -> tuple[str, RDMs | Path]:
    """Return what a set of measured matrices is called, and the set or its file."""
    if isinstance(entry, RDMs):
        return MEASURED if entry.source is None else entry.source.stem, entry
    name, separator, file = str(entry).partition("=")
    return (name, Path(file)) if separator else (Path(entry).stem, Path(entry))


def name_in_order(measured: RDMs, names: tuple[str, ...], n_failed: int, name: str) -> RDMs:
    """Give measured rows the names of the images, refusing another number or missing images."""
    if n_failed or len(measured.conditions) != len(names):
        message = (
            f"{name}: with `in_order` there must be one row for each image; got "
            f"{len(measured.conditions)} rows for {len(names)} images, {n_failed} having failed. "
            "Give the images that were shown, all of them."
        )
        raise DataError(message)
    return replace(measured, conditions=names)


def match_conditions(models: RDMs, measured: RDMs) -> tuple[RDMs, RDMs]:
    """Keep the conditions that both have, in the models' order and under the models' names.

    Names are compared whole, and then without folders and suffixes (``set/dog.jpg`` is ``dog``).

    Raises
    ------
    DataError
        If fewer than 3 conditions have a partner, or a name without its suffix has two.
    """
    if set(models.conditions) & set(measured.conditions):
        partner = {name: name for name in measured.conditions}
        pairs = [(name, partner[name]) for name in models.conditions if name in partner]
    else:
        ours, theirs = (_by_stem(rdms.conditions) for rdms in (models, measured))
        pairs = [(ours[stem], theirs[stem]) for stem in ours if stem in theirs]
    if len(pairs) < 3:
        message = (
            "at least 3 conditions must be named alike in the images and in the measured matrices; "
            f"got {len(pairs)} (images: {', '.join(models.conditions[:3])} ...; measured: "
            f"{', '.join(measured.conditions[:3])} ...). Name the measured conditions after the "
            "images."
        )
        raise DataError(message)
    ours_chosen = models.select([name for name, _ in pairs])
    theirs_chosen = measured.select([name for _, name in pairs])
    return ours_chosen, replace(theirs_chosen, conditions=ours_chosen.conditions)


def _by_stem(names: Sequence[str]) -> dict[str, str]:
    """Map names without folders and suffixes to whole names, refusing what becomes ambiguous."""
    stems: dict[str, str] = {}
    for name in names:
        file = name.replace("\\", "/").rsplit("/", 1)[-1]
        stem = file.rsplit(".", 1)[0] if "." in file[1:] else file
        if stem in stems:
            message = (
                f"names must differ without folders and suffixes; {name!r} and {stems[stem]!r} are "
                f"both {stem!r}. Name the measured conditions as the images are named, whole."
            )
            raise DataError(message)
        stems[stem] = name
    return stems
