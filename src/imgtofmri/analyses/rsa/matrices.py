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
from imgtofmri.measured.labels import counts_from
from imgtofmri.measured.patterns import Missing, bare_name, matching_rows, pair_names
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
    prediction.check_whole(native=True)
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
        _check_read(matrices)
        if name in found:
            message = (
                f"measured matrices must have different names; got {name!r} twice. Write NAME=FILE."
            )
            raise OptionError(message)
        if not isinstance(matrices, RDMs):
            matrices = load_rdms(matrices, key=key, pattern_descriptor=descriptor)
        found[name] = matrices
    return found


def _check_read(entry: object) -> None:
    if not isinstance(entry, RDMs | str | Path):
        message = (
            f"measured matrices must be files or RDMs; got a {type(entry).__name__}. Make "
            "imgtofmri.rsa.RDMs of their upper triangles, with the images' names as conditions."
        )
        raise DataError(message)


def _named(entry: RDMs | str | Path) -> tuple[str, RDMs | Path]:
    """Return what a set of measured matrices is called, and the set or its file."""
    _check_read(entry)
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
    if measured.named and not _is_other_numbering(measured.conditions, names):
        rows, others = matching_rows(names, measured.conditions)
        if rows != others:
            message = (
                f"{name}: with `in_order` rows that have names must stand as the images do; got "
                f"another order, from {measured.conditions[0]!r} on. Leave out `in_order`: they "
                "are paired by name."
            )
            raise DataError(message)
    return replace(measured, conditions=names, named=True)


def _is_other_numbering(conditions: Sequence[str], names: Sequence[str]) -> bool:
    """Tell whether conditions number their rows, from another number on than the images do."""
    numbers = [bare_name(name) for name in conditions]
    begun = counts_from(numbers), counts_from([bare_name(name) for name in names])
    rising = None not in begun and numbers == sorted(numbers, key=int)
    return rising and begun[0] != begun[1]


def match_conditions(
    models: RDMs, measured: RDMs, unmatched: Missing = "error", where: str = MEASURED
) -> tuple[RDMs, RDMs]:
    """Bring measured matrices to the models' conditions, by name, and under the models' names.

    Names are compared whole, then without endings such as .jpg, then without folders as well
    (``set/dog.jpg`` is ``dog``), as in `imgtofmri.measured.pair`.

    Parameters
    ----------
    models, measured : RDMs
    unmatched : {"error", "drop"}
        What to do with a condition that only one of them has.
    where : str
        What messages begin with.

    Returns
    -------
    models, measured : RDMs
        Of the same conditions in the models' order.

    Warns
    -----
    UserWarning
        If conditions are dropped: how many.

    Raises
    ------
    DataError
        If measured conditions have no names, one has no partner and is not to be dropped, or fewer
        than 3 have one.
    """
    if not measured.named:
        message = (
            f"{where}: measured conditions must have names to be paired with images; got "
            f"{len(measured.conditions)} rows without any. Set `in_order` if they follow the "
            "images, or save the names with the matrices."
        )
        raise DataError(message)
    try:
        rows, others = pair_names(models.conditions, measured.conditions, unmatched=unmatched)
    except DataError as error:
        message = f"{where}: {error}"
        if counts_from([bare_name(name) for name in measured.conditions]) is not None:
            message += " Or set `in_order` if they follow the images."
        raise DataError(message) from error
    if len(rows) < 3:
        message = (
            f"{where}: at least 3 conditions must be named alike in the images and in the measured "
            f"matrices; got {len(rows)} (images: {', '.join(models.conditions[:3])} ...; measured: "
            f"{', '.join(measured.conditions[:3])} ...). Name the measured conditions after the "
            "images."
        )
        raise DataError(message)
    ours_chosen = models.select([models.conditions[row] for row in rows])
    theirs_chosen = measured.select([measured.conditions[row] for row in others])
    return ours_chosen, replace(theirs_chosen, conditions=ours_chosen.conditions)
