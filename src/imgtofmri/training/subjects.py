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
    read_grid,
    read_image_rows,
    read_mask,
    read_stimulus_rows,
)
from imgtofmri.spaces import Grid, VoxelMap, itk
from imgtofmri.training.study import ArraySource, Study, SubjectSettings, TransformSettings

Geometry = Callable[[str], Bundle]
IndexArray = npt.NDArray[np.intp]

# Template points that go through a transform together: bounds the memory of fine templates.
_CHUNK = 500_000


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
        to_template = map_to_template(settings.transform, native, template, settings.line)
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
    grid = read_grid(study.template.grid, where)
    for space, (low_mm, size_mm) in _BOXES.items():
        corners = spaces.transform(
            grid.affine, np.array([[-0.5] * 3, np.subtract(grid.shape, 0.5)], dtype=float)
        )
        # Grids of some resolutions end up to a voxel beyond the box.
        margin = float(grid.voxel_mm.max())
        fits = np.abs(corners.min(axis=0) - low_mm).max() <= margin
        fits &= bool(np.abs(np.ptp(corners, axis=0) - size_mm).max() <= margin)
        if fits and study.template.space in _BOXES and study.template.space != space:
            message = (
                f"{where} has the size and place of {space}, but template.space says "
                f"{study.template.space}; these differ by millimetres. Look which one it is."
            )
            warnings.warn(message, stacklevel=2)
    return grid


# The lower corner and the size of the two usual templates, in millimetres, voxels' edges included.
_BOXES = {
    "MNI152NLin6Asym": ((-91.0, -127.0, -73.0), (182.0, 218.0, 182.0)),
    "MNI152NLin2009cAsym": ((-96.5, -132.5, -78.5), (193.0, 229.0, 193.0)),
}


def map_to_template(
    settings: TransformSettings, native: Grid, template: Grid, where: str = "map_to_template"
) -> VoxelMap:
    """Return which native voxel each template voxel takes its value from.

    Parameters
    ----------
    settings : TransformSettings
        Kind and files of the transform.
    native, template : Grid
        From and to.
    where : str
        What a message begins with.

    Returns
    -------
    VoxelMap
        By nearest neighbour.

    Raises
    ------
    DataError
        If a file is not such a transform, or the template misses the native grid altogether.
    """
    if settings.kind == "same":
        found = spaces.affine_map(native, template, np.eye(4))
    elif settings.kind == "affine":
        found = spaces.affine_map(native, template, _read_matrix(settings.files[0]))
    elif settings.kind == "fnirt":
        assert settings.anatomical is not None
        cropped = np.eye(4) if settings.cropped is None else _read_matrix(settings.cropped)
        anatomical = read_grid(settings.anatomical, where)
        try:
            found = spaces.fnirt_map(native, anatomical, settings.files[0], cropped, template)
        except Exception as error:  # fslpy raises many kinds for a file that is another thing
            message = (
                f"{where}: {settings.files[0]} must hold FNIRT's coefficients; it cannot be read "
                f"as these ({error}). Give what fnirt wrote with --cout."
            )
            raise DataError(message) from error
    else:
        found = _itk_map(itk.read_itk(settings.files), native, template)
    if not len(found.template):
        message = (
            f"{where}: the transform must bring the native grid onto the template; no template "
            "voxel "
            "falls inside it. Check its direction: resampling to the template needs the one that "
            "antsApplyTransforms or applywarp takes for that."
        )
        raise DataError(message)
    return found


def _itk_map(transforms: list[itk.Transform], native: Grid, template: Grid) -> VoxelMap:
    to_native = np.linalg.inv(native.affine)
    coordinates = spaces.voxel_coordinates(template)
    for start in range(0, len(coordinates), _CHUNK):
        points = spaces.transform(template.affine, coordinates[start : start + _CHUNK])
        moved = itk.apply_all(transforms, points)
        coordinates[start : start + _CHUNK] = spaces.transform(to_native, moved)
    return spaces.nearest_map(coordinates, native)


def _read_matrix(path: Any) -> npt.NDArray[np.float64]:
    try:
        matrix = np.loadtxt(path)
    except (OSError, ValueError) as error:
        message = f"{path}: expected a text file of 4 x 4 numbers ({error}). Correct the path."
        raise DataError(message) from error
    if matrix.shape != (4, 4):
        message = f"{path}: expected 4 x 4 numbers; got {matrix.shape}. Give a whole affine matrix."
        raise DataError(message)
    usual = np.isfinite(matrix).all() and matrix[3].tolist() == [0, 0, 0, 1]
    if not usual or not abs(np.linalg.det(matrix)) > 1e-9:
        message = (
            f"{path}: expected an affine that can be inverted and whose last row is 0 0 0 1; got "
            f"{matrix.tolist()}. Give the matrix from native to template millimetres."
        )
        raise DataError(message)
    return matrix


def _geometry_subject(settings: SubjectSettings, bundle: Bundle, template: Grid) -> SubjectModel:
    if bundle.template != template:
        message = (
            f"{settings.line}: the geometry's template grid is {bundle.template.shape}; the "
            "study's is "
            f"{template.shape} or has another affine. Leave template.grid out, or give masks."
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
            voxels, grid = read_mask(roi.masks[hemi], roi.value, where)
            native = native or grid
            if grid != native:
                message = (
                    f"{where}: all masks must lie on one grid, {native.shape}; {roi.masks[hemi]} "
                    "has "
                    f"shape {grid.shape} or another affine. Resample it."
                )
                raise DataError(message)
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
            "mask "
            "to the subject, or give responses for each ROI."
        )
        raise OptionError(message)
    everywhere, grid = read_mask(settings.mask, where=settings.line)
    (array,) = _load([source])
    if grid != native or array.ndim != 2 or array.shape[1] != len(everywhere):
        message = (
            f"{source.line}: responses must have a column for each of the {len(everywhere)} voxels "
            "of "
            f"the mask, on the ROIs' grid {native.shape}; got {array.shape} and a mask of shape "
            f"{grid.shape}. Give the mask that the array was made with; set transposed = true if "
            "voxels are rows."
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
                "of "
                f"{len(voxels)} are not in the mask. Restrict the ROI to the mask."
            )
            raise DataError(message)
        found[name] = values[:, np.searchsorted(everywhere, voxels)]
    return found
