"""One subject's data: rows of stimuli, responses by ROI, and the way to the template."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri import spaces
from imgtofmri.bundle import HEMIS, Bundle, SubjectModel, read_bundle
from imgtofmri.exceptions import DataError, OptionError, choice_message
from imgtofmri.measured import (
    StimulusRows,
    estimate_responses,
    list_images,
    read_arrays,
    read_image_rows,
    read_mask,
    read_stimulus_rows,
    volume_rows,
)
from imgtofmri.spaces import Grid, VoxelMap
from imgtofmri.training.study import ArraySource, Study, SubjectSettings

Geometry = Callable[[str], Bundle]
IndexArray = npt.NDArray[np.intp]
Places = dict[str, tuple[IndexArray, npt.NDArray[np.uint8]]]
"""Each ROI's voxels, as flat indices, and the hemisphere of each."""


@dataclass(frozen=True, slots=True, eq=False)
class RoiData:
    """Measured responses of one ROI.

    Attributes
    ----------
    voxels : array of shape (n_voxels,), int
        Flat indices into the native grid, left hemisphere first.
    hemi : array of shape (n_voxels,), uint8
        Index into `imgtofmri.bundle.HEMIS`.
    responses : array of shape (n_rows, n_voxels)
        As measured.
    layers : tuple of str or None
        The layers to model the ROI with; None for all.
    """

    voxels: IndexArray
    hemi: npt.NDArray[np.uint8]
    responses: npt.NDArray[Any]
    layers: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SubjectData:
    """One subject's data.

    Attributes
    ----------
    name : str
        The subject.
    rows : StimulusRows
        The stimulus of each row of the responses.
    native : Grid
        The grid that voxels are counted in.
    to_template : VoxelMap
        From there to the template.
    rois : dict of str to RoiData
        In the study's order.
    """

    name: str
    rows: StimulusRows
    native: Grid
    to_template: VoxelMap
    rois: Mapping[str, RoiData]


def read_geometry(name: str) -> Bundle:
    """Return the bundle at a path."""
    return read_bundle(Path(name))


def load_subject(
    study: Study, settings: SubjectSettings, template: Grid, geometry: Geometry
) -> SubjectData:
    """Load all of one subject's data.

    Parameters
    ----------
    study : Study
        The study.
    settings : SubjectSettings
        Which of its subjects.
    template : Grid
        The template grid.
    geometry : callable
        Returns the bundle of an id or path, where the study takes masks from one.

    Returns
    -------
    SubjectData
        Checked for shapes, not yet for values.

    Raises
    ------
    DataError
        If files do not hold what the study says.
    OptionError
        If the geometry has no such subject or ROI.
    """
    layers = {roi.name: roi.layers for roi in settings.rois}
    native, places, to_template = load_places(study, settings, template, geometry)
    rows, responses = _responses(study, settings, native, places)
    lines = {roi.name: roi.responses.line for roi in settings.rois if roi.responses is not None}
    for name, values in responses.items():
        line = lines.get(name, settings.line)
        expected = (len(rows.names), len(places[name][0]))
        if values.shape != expected:
            hint = (
                "Set transposed = true."
                if values.T.shape == expected
                else (
                    "Check the stimuli table against the responses, and the mask against the "
                    "voxels."
                )
            )
            message = (
                f"{line}: responses of {name} must have shape (n_rows, n_voxels) = "
                f"{expected}; got {values.shape}. {hint}"
            )
            raise DataError(message)
    _check_rows(rows.names, responses, settings.line)
    rois = {
        name: RoiData(voxels, hemi, responses[name], layers.get(name))
        for name, (voxels, hemi) in places.items()
    }
    return SubjectData(settings.name, rows, native, to_template, rois)


def _check_rows(
    names: Sequence[str], responses: Mapping[str, npt.NDArray[Any]], where: str
) -> None:
    """Refuse rows that are 0 everywhere, as of trials that could not be estimated."""
    empty = ~np.any([values.any(axis=1) for values in responses.values()], axis=0)
    if empty.any() and not empty.all():
        row = int(np.flatnonzero(empty)[0])
        message = (
            f"{where}: each row of responses must have values; got 0 in all voxels in "
            f"{int(empty.sum())} of {len(empty)}, first in row {row} ({names[row]}), as programs "
            "write of trials that were censored or not measured. Leave these rows out of the "
            "responses and of the table."
        )
        raise DataError(message)


def load_places(
    study: Study, settings: SubjectSettings, template: Grid, geometry: Geometry
) -> tuple[Grid, Places, VoxelMap]:
    """Return the native grid, each ROI's voxels and hemispheres, and the way to the template."""
    if settings.geometry is not None:
        model = _geometry_subject(study, settings, geometry(settings.geometry), template)
        native, to_template = model.native, model.to_template
        places = {
            name: (np.asarray(roi.voxels, dtype=np.intp), roi.hemi)
            for name, roi in model.rois.items()
        }
        wanted = [roi.name for roi in settings.rois]
        for name in wanted:
            if name not in places:
                raise OptionError(choice_message(settings.line, "its ROI", name, places))
        return native, {name: places[name] for name in wanted or places}, to_template
    native, places = read_places(settings)
    assert settings.transform is not None
    said = settings.transform
    other = spaces.other_space(native, study.template.space)
    if said.kind == "same" and other is not None and other not in said.spaces:
        message = (
            f"{settings.line}: the images must lie in {study.template.space}; their grid has the "
            f"size and place of {other}, which differs by millimetres. Give the transform, or say "
            f'that both are one: transform = {{ kind = "same", space = "{other}" }}.'
        )
        raise DataError(message)
    to_template = spaces.map_to_template(
        said.kind,
        said.files,
        native,
        template,
        anatomical=said.anatomical,
        cropped=said.cropped,
        where=settings.line,
    )
    return native, places, to_template


def template_grid(study: Study) -> Grid:
    """Return the template's grid, and warn where it is the one of another space.

    Parameters
    ----------
    study : Study
        Names the space, and an image on its grid if it is not the default one.

    Returns
    -------
    Grid
        By default the 2 mm grid of MNI152NLin6Asym.

    Raises
    ------
    DataError
        If the grid is not an image.
    """
    if study.template.grid is None:
        return spaces.MNI152_2MM
    where = f"{study.path}: template.grid"
    grid = spaces.read_grid(study.template.grid, where)
    other = spaces.other_space(grid, study.template.space)
    if other is not None:
        message = (
            f"{where} has the size and place of {other}, but template.space says "
            f"{study.template.space}; these differ by millimetres. Look which one it is."
        )
        warnings.warn(message, stacklevel=2)
    return grid


def _geometry_subject(
    study: Study, settings: SubjectSettings, bundle: Bundle, template: Grid
) -> SubjectModel:
    if bundle.space != study.template.space:
        message = (
            f"{settings.line}: the geometry must lead to {study.template.space}, as template.space "
            f"says; it leads to {bundle.space}. Correct template.space, or give masks."
        )
        raise OptionError(message)
    if bundle.template != template:
        message = (
            f"{settings.line}: the geometry's template grid is {bundle.template.shape}; the "
            f"study's is {template.shape} or has another affine. Leave template.grid out, or "
            "give masks."
        )
        raise OptionError(message)
    names = [subject.name for subject in bundle.subjects]
    if settings.name not in names:
        raise OptionError(choice_message(settings.line, "the subject", settings.name, names))
    return bundle.subjects[names.index(settings.name)]


def said_grid(settings: SubjectSettings) -> Grid | None:
    """Return the grid that a study says images without an orientation have, if it does."""
    return None if settings.grid is None else spaces.read_grid(settings.grid, settings.line)


def read_places(settings: SubjectSettings) -> tuple[Grid, Places]:
    """Return the native grid and each ROI's voxels and hemispheres, left first."""
    unoriented, native = said_grid(settings), None
    places = {}
    for roi in settings.rois:
        parts = []
        for hemi in HEMIS:
            if hemi not in roi.masks:
                continue
            where = f"{settings.line}: {roi.name}"
            mask = read_mask(
                roi.masks[hemi],
                roi.value,
                where,
                threshold=roi.threshold,
                unoriented=unoriented,
            )
            native = native or mask.grid
            if mask.grid != native:
                message = (
                    f"{where}: all masks must lie on one grid, {native.shape}; {roi.masks[hemi]} "
                    f"has shape {mask.grid.shape} or another affine. Resample it."
                )
                raise DataError(message)
            voxels = mask.voxels
            parts.append((voxels, np.full(len(voxels), HEMIS.index(hemi), dtype=np.uint8)))
        voxels = np.concatenate([part[0] for part in parts])
        if len(np.unique(voxels)) < len(voxels):
            n_both = len(voxels) - len(np.unique(voxels))
            message = (
                f"{settings.line}: the hemispheres of {roi.name} share {n_both} voxels; each voxel "
                "must lie in one. Correct the masks, or give one mask for both."
            )
            raise DataError(message)
        places[roi.name] = (voxels, np.concatenate([part[1] for part in parts]))
    assert native is not None
    return native, places


def _responses(
    study: Study, settings: SubjectSettings, native: Grid, places: Places
) -> tuple[StimulusRows, dict[str, npt.NDArray[Any]]]:
    """Return the stimulus rows, and the responses of each ROI."""
    everywhere = np.unique(np.concatenate([voxels for voxels, _ in places.values()]))
    if settings.derivatives is not None:
        said = settings.derivatives
        names, values = estimate_responses(
            said.find_runs(), everywhere, native, **said.model, unoriented=said_grid(settings)
        )
        return run_rows(study, names), _columns(values, everywhere, places, settings.line)
    rows = read_rows(study, settings)
    if settings.responses is None:
        return rows, _by_roi(settings, native, places)
    source = settings.responses
    if spaces.is_image(source.file):
        values = read_image_rows(
            source.file, everywhere, native, source.line, unoriented=said_grid(settings)
        )
        return rows, _columns(values, everywhere, places, settings.line)
    (array,) = _load([source])
    if array.ndim not in (2, 4):
        message = (
            f"{source.line}: responses must have two axes, rows and voxels, or four, those of "
            f"volumes; got {array.shape}. Name the array of single rows with key, or save it so."
        )
        raise DataError(message)
    if settings.mask is None and array.ndim != 4:
        message = (
            f"{source.line}: an array needs a mask that says which voxels its columns are. Add "
            "mask to the subject, or give responses for each ROI."
        )
        raise OptionError(message)
    if settings.mask is not None:
        mask = read_mask(
            settings.mask.file,
            settings.mask.value,
            settings.line,
            threshold=settings.mask.threshold,
            unoriented=said_grid(settings),
        )
        everywhere = mask.voxels
        fits = array.ndim == 4 or (array.ndim == 2 and array.shape[1] == len(everywhere))
        if mask.grid != native or not fits:
            message = (
                f"{source.line}: responses must have a column for each of the {len(everywhere)} "
                f"voxels of the mask, or be volumes, on the ROIs' grid {native.shape}; got "
                f"{array.shape} and a mask of shape {mask.grid.shape}. Give the mask that the "
                "array was made with; set transposed = true if voxels are rows."
            )
            raise DataError(message)
    if array.ndim == 4:
        array = volume_rows(array, native, everywhere, source.axes, source.line)
    else:
        array = _in_c_order(array, source, native, [everywhere])
    return rows, _columns(_single(array), everywhere, places, settings.line)


def _by_roi(
    settings: SubjectSettings, native: Grid, places: Places
) -> dict[str, npt.NDArray[np.float32]]:
    """Return the responses of ROIs that have a file each: of their voxels, or of volumes."""
    found = {}
    sources = {roi.name: roi.responses for roi in settings.rois if roi.responses is not None}
    images = {name: source for name, source in sources.items() if spaces.is_image(source.file)}
    for name, source in images.items():
        found[name] = read_image_rows(
            source.file, places[name][0], native, source.line, unoriented=said_grid(settings)
        )
    arrays = {name: source for name, source in sources.items() if name not in images}
    for (name, source), array in zip(arrays.items(), _load([*arrays.values()]), strict=True):
        if array.ndim == 4:
            found[name] = _single(
                volume_rows(array, native, places[name][0], source.axes, source.line)
            )
        else:
            voxels, hemis = places[name]
            parts = [voxels[hemis == hemi] for hemi in np.unique(hemis)]
            found[name] = _single(_in_c_order(array, source, native, parts))
    return {name: found[name] for name in sources}


def _in_c_order(
    array: npt.NDArray[Any], source: ArraySource, native: Grid, parts: Sequence[IndexArray]
) -> npt.NDArray[Any]:
    """Return the columns of lists of voxels, one after another, each list in C order.

    Raises
    ------
    OptionError
        If nobody says the order of a list that MATLAB, whose own is another, may have written.
    """
    sizes = [len(part) for part in parts]
    if array.ndim != 2 or array.shape[1] != sum(sizes) or max(sizes) < 2:
        return array
    if source.voxel_order is None and source.file.suffix.lower() == ".mat":
        message = (
            f"{source.line}: a list of voxels in a .mat file must be told its order. Say "
            'voxel_order = "F" where MATLAB took the voxels out of a volume, as vol(mask) and '
            'find(mask) do (the first axis changes first), or voxel_order = "C" where NumPy did.'
        )
        raise OptionError(message)
    if source.voxel_order != "F":
        return array
    columns = []
    for begin, part in zip(np.cumsum([0, *sizes]), parts, strict=False):
        fortran = np.ravel_multi_index(
            np.unravel_index(part, native.shape), native.shape, order="F"
        )
        columns.append(begin + np.argsort(np.argsort(fortran)))
    return array[:, np.concatenate(columns)]


def run_rows(study: Study, names: Sequence[str]) -> StimulusRows:
    """Return the rows of presentations in runs, with the folds that a table gives to stimuli."""
    stimuli = study.stimuli
    if stimuli.fold_column is None or stimuli.table is None:
        return StimulusRows(tuple(names))
    listed = read_stimulus_rows(stimuli.table, stimuli.column, stimuli.fold_column)
    assert listed.folds is not None
    folds = dict(zip(listed.names, listed.folds, strict=True))
    odd = [
        name for name, fold in zip(listed.names, listed.folds, strict=True) if folds[name] != fold
    ]
    absent = [name for name in names if name not in folds]
    if odd or absent:
        what = f"{odd[0]!r} in two" if odd else f"none for {absent[0]!r}"
        message = (
            f"{stimuli.table}: each stimulus of the events must have one fold; got {what}. Correct "
            "the table."
        )
        raise DataError(message)
    return StimulusRows(tuple(names), tuple(folds[name] for name in names))


def read_rows(study: Study, settings: SubjectSettings) -> StimulusRows:
    """Return the stimulus of each row, from the subject's table, the study's or its folder."""
    stimuli = study.stimuli
    table = settings.table or stimuli.table
    if table is not None:
        return read_stimulus_rows(table, stimuli.column, stimuli.fold_column)
    assert stimuli.folder is not None
    return list_images(stimuli.folder, stimuli.order)


def _load(sources: Sequence[ArraySource]) -> list[npt.NDArray[Any]]:
    """Return arrays of rows and voxels, or of volumes, as stored."""
    arrays = read_arrays((source.file, source.key, source.line) for source in sources)
    return [_turned(array, source) for array, source in zip(arrays, sources, strict=True)]


def _turned(array: npt.NDArray[Any], source: ArraySource) -> npt.NDArray[Any]:
    if array.ndim == 4 and array.shape[1:3] == (1, 1) and source.axes is None:
        # GLMsingle's betas of voxels that came as a list; out of HDF5 they may come reversed.
        array = array[:, 0, 0].T
    if source.transposed is not None and array.ndim == 4:
        message = (
            f"{source.line}: transposed is of arrays with two axes; got {array.shape}. Say axes "
            'instead, such as "nzyx".'
        )
        raise OptionError(message)
    if source.voxel_order is not None and array.ndim == 4:
        message = (
            f"{source.line}: voxel_order is of lists of voxels; got volumes of {array.shape}. Say "
            'axes instead, such as "nzyx".'
        )
        raise OptionError(message)
    if source.axes is not None and array.ndim != 4:
        message = (
            f"{source.line}: axes are of arrays with four; got {array.shape}. Leave it out, or set "
            "transposed = true if voxels are rows."
        )
        raise OptionError(message)
    return source.turned(array, "rows", "voxels")


def _single(array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return responses in single precision, which exceeds the scanner's by far."""
    return array.astype(np.float32, copy=False)


def _columns(
    values: npt.NDArray[Any],
    everywhere: IndexArray,
    places: Places,
    where: str,
) -> dict[str, npt.NDArray[Any]]:
    """Take each ROI's columns out of the responses of many voxels, given in ascending order."""
    found = {}
    for name, (voxels, _) in places.items():
        missing = np.setdiff1d(voxels, everywhere)
        if missing.size:
            message = (
                f"{where}: every voxel of {name} must be among the measured ones; {missing.size} "
                f"of {len(voxels)} are not in the mask. Restrict the ROI to the mask."
            )
            raise DataError(message)
        found[name] = values[:, np.searchsorted(everywhere, voxels)]
    return found
