"""One subject's data: rows of stimuli, responses by ROI, and the way to the template."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri import spaces
from imgtofmri.bundle import HEMIS, Bundle, SubjectModel
from imgtofmri.exceptions import DataError, OptionError, choice_message
from imgtofmri.measured import (
    StimulusRows,
    estimate_responses,
    find_runs,
    list_images,
    read_arrays,
    read_image_rows,
    read_mask,
    read_stimulus_rows,
)
from imgtofmri.spaces import Grid, VoxelMap
from imgtofmri.training.study import ArraySource, Study, SubjectSettings

Geometry = Callable[[str], Bundle]
IndexArray = npt.NDArray[np.intp]


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
    if settings.geometry is not None:
        model = _geometry_subject(settings, geometry(settings.geometry), template)
        native, to_template = model.native, model.to_template
        places = {
            name: (np.asarray(roi.voxels, dtype=np.intp), roi.hemi)
            for name, roi in model.rois.items()
        }
        for name in layers:
            if name not in places:
                raise OptionError(choice_message(settings.line, "its ROI", name, places))
        places = {name: places[name] for name in layers or places}
    else:
        native, places = _read_places(settings)
        assert settings.transform is not None
        said = settings.transform
        to_template = spaces.map_to_template(
            said.kind,
            said.files,
            native,
            template,
            anatomical=said.anatomical,
            cropped=said.cropped,
            where=settings.line,
        )
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
    rois = {
        name: RoiData(voxels, hemi, responses[name], layers.get(name))
        for name, (voxels, hemi) in places.items()
    }
    return SubjectData(settings.name, rows, native, to_template, rois)


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


def _geometry_subject(settings: SubjectSettings, bundle: Bundle, template: Grid) -> SubjectModel:
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


def _read_places(
    settings: SubjectSettings,
) -> tuple[Grid, dict[str, tuple[IndexArray, npt.NDArray[np.uint8]]]]:
    """Return the native grid and each ROI's voxels and hemispheres, left first."""
    native: Grid | None = None
    places = {}
    for roi in settings.rois:
        parts = []
        for hemi in HEMIS:
            if hemi not in roi.masks:
                continue
            where = f"{settings.line}: {roi.name}"
            mask = read_mask(roi.masks[hemi], roi.value, where)
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
    study: Study,
    settings: SubjectSettings,
    native: Grid,
    places: Mapping[str, tuple[IndexArray, npt.NDArray[np.uint8]]],
) -> tuple[StimulusRows, dict[str, npt.NDArray[Any]]]:
    """Return the stimulus rows, and the responses of each ROI."""
    if settings.derivatives is not None:
        said = settings.derivatives
        everywhere = np.unique(np.concatenate([voxels for voxels, _ in places.values()]))
        names, values = estimate_responses(
            find_runs(said.folder, said.raw, said.subject, said.task, said.space),
            everywhere,
            native,
            stimulus_column=said.stimulus_column,
            hrf=said.hrf,
            confounds=said.confounds,
            estimator=said.estimator,
            high_pass_hz=said.high_pass_hz,
        )
        rows = StimulusRows(tuple(names))
        return rows, _columns(values, everywhere, places, settings.line)
    rows = read_rows(study, settings)
    if settings.responses is None:
        sources = [roi.responses for roi in settings.rois if roi.responses is not None]
        loaded = _load(sources)
        return rows, dict(zip([roi.name for roi in settings.rois], loaded, strict=True))
    source = settings.responses
    if source.file.name.endswith((".nii", ".nii.gz")):
        everywhere = np.unique(np.concatenate([voxels for voxels, _ in places.values()]))
        values = read_image_rows(source.file, everywhere, native, source.line)
        return rows, _columns(values, everywhere, places, settings.line)
    if settings.mask is None:
        message = (
            f"{source.line}: an array needs a mask that says which voxels its columns are. Add "
            "mask to the subject, or give responses for each ROI."
        )
        raise OptionError(message)
    mask = read_mask(settings.mask, where=settings.line)
    everywhere = mask.voxels
    (array,) = _load([source])
    if mask.grid != native or array.ndim != 2 or array.shape[1] != len(everywhere):
        message = (
            f"{source.line}: responses must have a column for each of the {len(everywhere)} voxels "
            f"of the mask, on the ROIs' grid {native.shape}; got {array.shape} and a mask of shape "
            f"{mask.grid.shape}. Give the mask that the array was made with; set transposed = true "
            "if voxels are rows."
        )
        raise DataError(message)
    return rows, _columns(array, everywhere, places, settings.line)


def read_rows(study: Study, settings: SubjectSettings) -> StimulusRows:
    """Return the stimulus of each row, from the subject's table, the study's or its folder."""
    stimuli = study.stimuli
    table = settings.table or stimuli.table
    if table is not None:
        return read_stimulus_rows(table, stimuli.column, stimuli.fold_column)
    assert stimuli.folder is not None
    return list_images(stimuli.folder)


def _load(sources: Sequence[ArraySource]) -> list[npt.NDArray[np.float32]]:
    """Return responses in single precision, which exceeds the scanner's by far."""
    arrays = read_arrays((source.file, source.key, source.line) for source in sources)
    return [
        (array.T if source.transposed else array).astype(np.float32, copy=False)
        for array, source in zip(arrays, sources, strict=True)
    ]


def _columns(
    values: npt.NDArray[Any],
    everywhere: IndexArray,
    places: Mapping[str, tuple[IndexArray, npt.NDArray[np.uint8]]],
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
