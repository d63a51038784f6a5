"""What a study may say: each section as a frozen dataclass with its defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ALPHA_MODES = ("shared", "per_voxel")
REPEAT_MODES = ("average", "separate")
INVALID_MODES = ("refuse", "drop")
TRANSFORM_KINDS = ("same", "affine", "fnirt", "itk")


@dataclass(frozen=True, slots=True)
class Download:
    """A file that the study needs and that can be fetched.

    Attributes
    ----------
    url : str
        Where from.
    file : str
        Its name below ``studies/`` in the cache; other sections call it ``cache:NAME``.
    size : int or None
        Bytes.
    sha256 : str or None
        Digest.
    unpack : bool
        Whether it is a zip archive to unpack into a folder of the same name without ``.zip``.
    """

    url: str
    file: str
    size: int | None
    sha256: str | None
    unpack: bool


@dataclass(frozen=True, slots=True)
class ArraySource:
    """Where an array lies.

    Attributes
    ----------
    file : Path
        ``.npy``, ``.npz``, ``.h5``, ``.mat``, ``.zarr`` or a NIfTI image.
    key : str or None
        The array inside a file that holds several; ``"0/2"`` is item 2 of item 0 of an array of
        arrays.
    transposed : bool
        True where voxels are rows.
    line : str
        Where the study names it, for messages.
    """

    file: Path
    key: str | None
    transposed: bool
    line: str


@dataclass(frozen=True, slots=True)
class StimuliSettings:
    """Which stimulus each row of the responses was measured with.

    Attributes
    ----------
    table : Path or None
        TSV or CSV with one row for each row of the responses. None: every image of ``folder``, in
        sorted order, is one row.
    column, fold_column : str, str or None
        The table's columns.
    folder : Path or None
        What the stimuli's paths are relative to.
    features : ArraySource or None
        Features of each row, where they are known already.
    """

    table: Path | None
    column: str
    fold_column: str | None
    folder: Path | None
    features: ArraySource | None


@dataclass(frozen=True, slots=True)
class BackboneSettings:
    """The network whose features are used.

    Attributes
    ----------
    name : str
        A name that `imgtofmri.backbones` knows, or an ONNX file.
    layers : tuple of str or None
        The network's layers; None for its default.
    layer_widths : tuple of int or None
        Features of each layer, needed with features from a file that several layers gave.
    weights : Path, str or None
        A weights file, or ``"untrained"`` or ``"untrained:SEED"``.
    center_crop : bool
        Crop the centre instead of squeezing the whole image.
    preprocessing : mapping or None
        ``size``, ``mean`` and ``std`` of an ONNX file's input.
    label : str
        What ROIs call it where a study has several networks; else empty.
    """

    name: str
    layers: tuple[str, ...] | None
    layer_widths: tuple[int, ...] | None
    weights: Path | str | None
    center_crop: bool
    preprocessing: Mapping[str, Any] | None
    label: str = ""


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How the models are fitted.

    Attributes
    ----------
    alphas : tuple of float
        Penalties to choose from.
    alpha : {"shared", "per_voxel"}
        One penalty for each subject and ROI, or one for each voxel.
    folds : int
        Folds of the cross-validation.
    nested : bool
        Whether accuracy is measured with penalties chosen on the other folds alone.
    seed : int or None
        Shuffles stimuli before they are dealt into folds; also draws band scales.
    repeats : {"average", "separate"}
        Average a stimulus' presentations before the fit, or fit each one.
    zscore : bool
        Z-score each voxel over rows before anything else.
    invalid_voxels : {"refuse", "drop"}
        What to do about voxels that are not finite or never vary.
    banded : bool
        One scale for each layer besides the penalty.
    band_candidates : int
        How many combinations of scales to try.
    max_memory_gb : float
        Memory of the fit, beyond features and responses.
    engine : {"numpy", "torch"}
        What does the arithmetic.
    device : str or None
        Of the engine torch, such as ``"cuda"``; None for a CUDA device where there is one.
    """

    alphas: tuple[float, ...]
    alpha: str
    folds: int
    nested: bool
    seed: int | None
    repeats: str
    zscore: bool
    invalid_voxels: str
    banded: bool
    band_candidates: int
    max_memory_gb: float
    engine: str
    device: str | None


@dataclass(frozen=True, slots=True)
class RoiSettings:
    """One ROI of one subject.

    Attributes
    ----------
    name : str
        The ROI.
    masks : mapping of hemisphere ("L", "R" or "B" for both) to Path
        Images on the native grid, above 0 inside the ROI. Empty where ``geometry`` gives the ROI.
    value : int or None
        The label of the ROI where the images are atlases.
    responses : ArraySource or None
        Responses of this ROI's voxels alone, left hemisphere first, each in C order.
    layers : tuple of str or None
        The layers that this ROI is modelled with; None for all. Where a study has several networks,
        ``"LABEL/LAYER"``, or ``"LABEL"`` for all layers of a network.
    """

    name: str
    masks: Mapping[str, Path]
    value: int | None
    responses: ArraySource | None
    layers: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class TransformSettings:
    """How native space reaches the template.

    Attributes
    ----------
    kind : {"same", "affine", "fnirt", "itk"}
        What follows.
    files : tuple of Path
        "affine": a 4 x 4 text file, native to template millimetres. "fnirt": the coefficient
        field. "itk": transforms in the order in which they are applied to the template's points.
    anatomical : Path or None
        "fnirt": the full anatomical image.
    cropped : Path or None
        "fnirt": FLIRT's matrix from the full to the cropped anatomical image. None: not cropped.
    """

    kind: str
    files: tuple[Path, ...]
    anatomical: Path | None
    cropped: Path | None


@dataclass(frozen=True, slots=True)
class DerivativesSettings:
    """A folder of fMRIPrep's results, from which responses are estimated.

    Attributes
    ----------
    folder : Path
        Where ``sub-*`` folders lie.
    raw : Path
        The BIDS data set that holds the events.
    subject, task : str
        BIDS labels.
    space : str
        The space of the images, e.g. ``"T1w"``.
    stimulus_column : str
        The column of the events that names the stimulus.
    hrf : str
        Any of nilearn's models.
    confounds : tuple of str
        Columns of fMRIPrep's confounds that are regressed out, or shell patterns.
    estimator : {"lsa", "lss"}
        All presentations in one model, or a model for each.
    high_pass_hz : float
        Drifts slower than this are regressed out; 0 for none.
    """

    folder: Path
    raw: Path
    subject: str
    task: str
    space: str
    stimulus_column: str
    hrf: str
    confounds: tuple[str, ...]
    estimator: str
    high_pass_hz: float


@dataclass(frozen=True, slots=True)
class SubjectSettings:
    """One subject's data.

    Attributes
    ----------
    name : str
        The subject.
    table : Path or None
        A stimuli table of the subject's own.
    responses : ArraySource or None
        All voxels' responses: an image of all rows, or an array of the voxels in ``mask``.
    mask : Path or None
        The voxels that an array's columns stand for, in C order.
    derivatives : DerivativesSettings or None
        fMRIPrep's results, from which responses are estimated.
    rois : tuple of RoiSettings
        The ROIs.
    transform : TransformSettings or None
        To the template; None where ``geometry`` gives it.
    geometry : str or None
        A bundle whose ROIs, native grid and transform are taken over for the subject.
    line : str
        Where the study describes the subject.
    """

    name: str
    table: Path | None
    responses: ArraySource | None
    mask: Path | None
    derivatives: DerivativesSettings | None
    rois: tuple[RoiSettings, ...]
    transform: TransformSettings | None
    geometry: str | None
    line: str


@dataclass(frozen=True, slots=True)
class Study:
    """A whole study: what was measured, on whom, and how it is to be modelled.

    Attributes
    ----------
    path : Path
        The study file.
    id, title, licence : str
        What the encoder will be called, in short and in full, and its licence.
    citation : tuple of str
        What to cite.
    limits : str
        What users of the encoder must know.
    space : str
        Identifier of the template space.
    template : Path or None
        An image on the template grid; None for the 2 mm grid of MNI152NLin6Asym.
    downloads, stimuli, backbones, fit, subjects
        The sections; one backbone, or several with labels.
    """

    path: Path
    id: str
    title: str
    licence: str
    citation: tuple[str, ...]
    limits: str
    space: str
    template: Path | None
    downloads: tuple[Download, ...]
    stimuli: StimuliSettings
    backbones: tuple[BackboneSettings, ...]
    fit: FitSettings
    subjects: tuple[SubjectSettings, ...]

    @property
    def backbone(self) -> BackboneSettings:
        """The only network, or the first."""
        return self.backbones[0]
