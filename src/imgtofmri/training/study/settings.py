"""What a study may say: each section declares its keys once, as the fields of a dataclass.

What each key means is told in ``docs/reference/study.md``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from imgtofmri.backbones import NetworkName, Untrained
from imgtofmri.backbones.base import wrong_scale
from imgtofmri.backbones.engines import check_engine
from imgtofmri.exceptions import OptionError
from imgtofmri.limits import check_limit
from imgtofmri.measured import BoldRun, find_runs
from imgtofmri.measured.tables import ORDERS
from imgtofmri.regression import ENGINES, engine_problem
from imgtofmri.spaces import is_image
from imgtofmri.timeseries import ESTIMATORS, HRFS
from imgtofmri.training.study.document import Table, cached_file

ALPHA_MODES = ("shared", "per_voxel")
REPEAT_MODES = ("average", "separate")
INVALID_MODES = ("refuse", "drop")
TRANSFORM_KEYS = {
    "same": ("kind", "space"),
    "affine": ("kind", "file", "space"),
    "fnirt": ("kind", "file", "anatomical", "cropped", "space"),
    "itk": ("kind", "file", "files", "space"),
}
MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
"""fMRIPrep's estimates of head motion, which are regressed out if a study does not say."""


def setting(read: Callable[..., Any], default: Any = MISSING, **limits: Any) -> Any:
    """Declare a key of a section.

    Parameters
    ----------
    read : callable
        A method of `Table`, or a function like one: reads the key of a name, or gives the default.
    default : object, optional
        What it is where the study does not say. Without a default the study must.
    **limits
        What else ``read`` takes.

    Returns
    -------
    object
        A dataclass field that `Section.read` understands.
    """
    return field(default=default, metadata={"read": read, "limits": limits})


class Section:
    """A table of the study file, with `setting` fields for its keys."""

    __slots__ = ()

    @classmethod
    def read(cls, table: Table, **given: Any) -> Self:
        """Read and check the section; ``given`` are fields that are not keys of it."""
        keys: Any = {item.name: item for item in fields(cls) if item.metadata}  # type: ignore[arg-type]
        table.only(keys)
        for name, key in keys.items():
            default = ... if key.default is MISSING else key.default
            given[name] = key.metadata["read"](table, name, default, **key.metadata["limits"])
        section = cls(**given)
        section.check(table)
        return section

    def check(self, table: Table) -> None:
        """Refuse what each key allows and the section does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Download(Section):
    """A file that the study needs and that can be fetched."""

    url: str = setting(Table.text)
    file: str = setting(Table.text)
    size: int | None = setting(Table.whole, None, least=1)
    sha256: str | None = setting(Table.text, None)
    unpack: bool = setting(Table.flag, False)

    def check(self, table: Table) -> None:
        """Refuse names that lead out of the cache, and addresses that are not https."""
        if cached_file(self.file) is None:
            table.fail("file", f"must stay inside the cache; got {self.file!r}. Drop the '..'.")
        if self.unpack and not self.file.endswith(".zip"):
            table.fail("file", f"must end in .zip to be unpacked; got {self.file!r}. Rename it.")
        if not self.url.startswith("https://"):
            table.fail("url", f"must begin with https://; got {self.url!r}. Correct it.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateSettings(Section):
    """The space and the grid of the encoder's maps."""

    space: str = setting(Table.text, "MNI152NLin6Asym")
    grid: Path | None = setting(Table.file, None)

    def check(self, table: Table) -> None:
        """Refuse names that cannot be part of BIDS file names."""
        if not re.fullmatch(r"[A-Za-z0-9+]+", self.space):
            problem = "must be a name of letters and digits, such as MNI152NLin2009cAsym"
            table.fail("space", f"{problem}; got {self.space!r}. Leave the resolution out of it.")


VOXEL_ORDERS = ("C", "F")
"""Which axis of the grid changes first from one voxel of a list to the next: the last, the first.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArraySource(Section):
    """Where an array lies; ``line`` is where the study names it, for messages."""

    file: Path = setting(Table.file)
    key: str | None = setting(Table.text, None)
    transposed: bool | None = setting(Table.flag, None)
    axes: str | None = setting(Table.text, None)
    voxel_order: str | None = setting(Table.text, None)
    line: str

    def check(self, table: Table) -> None:
        """Refuse axes that are not those of volumes, and what an image has no need of."""
        for key in ("key", "transposed", "axes", "voxel_order"):
            if key in table.values and is_image(self.file):
                problem = f"is of arrays; {self.file.name} is an image, whose volumes are its rows."
                table.fail(key, f"{problem} Leave it out.")
        if self.axes is not None and sorted(self.axes) != sorted("xyzn"):
            problem = 'must be the letters of x, y, z and n, the volumes, as in "xyzn"'
            table.fail("axes", f"{problem}; got {self.axes!r}. Correct it.")
        if self.axes is not None and self.transposed:
            table.fail(
                "transposed", "is of arrays with two axes, axes of those with four. Keep one."
            )
        if self.voxel_order not in (None, *VOXEL_ORDERS):
            problem = 'must be "F", as of vol(mask) in MATLAB, or "C", as of vol[mask] in NumPy'
            table.fail("voxel_order", f"{problem}; got {self.voxel_order!r}. Correct it.")

    def turned(self, array: npt.NDArray[Any], rows: str, columns: str) -> npt.NDArray[Any]:
        """Return an array with its rows first.

        Raises
        ------
        OptionError
            If it is as high as it is wide, and nobody says which are the rows.
        """
        if self.transposed is None and array.ndim == 2 and len(set(array.shape)) == 1:
            message = (
                f"{self.line}: an array of as many {rows} as {columns} must be told which are "
                f"its rows; got {array.shape}. Say transposed = false where {rows} are, or "
                f"transposed = true where {columns} are."
            )
            raise OptionError(message)
        return array.T if self.transposed else array


def _array(table: Table, name: str, default: ArraySource | None) -> ArraySource | None:
    """Read the path of an array, or the table that says more."""
    if name not in table.values:
        return default
    line = place(table, name)
    if isinstance(table.values[name], str):
        return ArraySource(file=table.file(name), line=line)
    return ArraySource.read(table.section(name), line=line)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskSource(Section):
    """The image that says which voxels the columns of an array are."""

    file: Path = setting(Table.file)
    value: int | None = setting(Table.whole, None, least=1)
    threshold: float | None = setting(Table.number, None)

    def check(self, table: Table) -> None:
        """Refuse a label beside a threshold."""
        _one_rule(self, table)


def _mask(table: Table, name: str, default: None) -> MaskSource | None:
    """Read the path of a mask, or the table that says more."""
    if name not in table.values:
        return default
    if isinstance(table.values[name], str):
        return MaskSource(file=table.file(name))
    return MaskSource.read(table.section(name))


def _one_rule(mask: MaskSource | RoiSettings, table: Table) -> None:
    if mask.value is not None and mask.threshold is not None:
        table.fail("threshold", "and value both say which voxels are inside. Keep one.")


def place(table: Table, name: str) -> str:
    """Return the beginning of a message about a value that later proves wrong."""
    return str(table.error(name, ""))


@dataclass(frozen=True, slots=True, kw_only=True)
class StimuliSettings(Section):
    """Which stimulus each row of the responses was measured with."""

    table: Path | None = setting(Table.file, None)
    column: str = setting(Table.text, "stimulus")
    fold_column: str | None = setting(Table.text, None)
    folder: Path | None = setting(Table.file, None, folder=True)
    order: str = setting(Table.choice, "natural", valid=ORDERS)
    features: ArraySource | None = setting(_array, None)

    def check(self, table: Table) -> None:
        """Refuse an order of what is not listed."""
        if "order" in table.values and (self.folder is None or self.table is not None):
            table.fail("order", "is that of a folder's pictures without a table. Leave it out.")


def _network(table: Table, name: str, default: str) -> str:
    """Read a network's name, or the path of its file."""
    value = table.text(name, default)
    return str(table.file(name) if NetworkName.parse(value).is_file else value)


def _weights(table: Table, name: str, default: None) -> Path | Untrained | None:
    """Read the path of a weights file, or how random weights are drawn."""
    try:
        untrained = Untrained.parse(str(table.values.get(name)))
    except OptionError as error:
        table.fail(name, str(error).removeprefix("weights "))
    return untrained or table.file(name, default)


def _preprocessing(table: Table, name: str, default: None) -> Mapping[str, Any] | None:
    """Read the size of a network's input, and the mean and deviation of its colours."""
    if (said := table.table(name)) is None:
        return default
    said.only(("size", "mean", "std"))
    side = said.whole("size", least=1)
    check_limit("pixels", side**2, str(said.error("size", "")), "pixels", OptionError)
    for key in ("mean", "std"):
        if len(said.items(key, kind=(int, float), what="3 numbers")) != 3:
            said.fail(key, "must be 3 numbers, for red, green and blue.")
    if problem := wrong_scale(said.values["mean"], said.values["std"]):
        key, _, what = problem.partition(" ")
        said.fail(key, what)
    return dict(said.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSettings(Section):
    """The network whose features are used; ``label`` names it where a study has several."""

    name: str = setting(_network, "resnet18")
    layers: tuple[str, ...] | None = setting(Table.items, None, kind=str, what="layer names")
    layer_widths: tuple[int, ...] | None = setting(
        Table.items, None, kind=int, what="whole numbers"
    )
    weights: Path | Untrained | None = setting(_weights, None)
    center_crop: bool = setting(Table.flag, False)
    preprocessing: Mapping[str, Any] | None = setting(_preprocessing, None)
    engine: str = setting(Table.text, "onnxruntime")
    precision: str | None = setting(Table.text, None)
    label: str = ""

    def check(self, table: Table) -> None:
        """Refuse layers that stand twice, widths that are not theirs, and engines there are not."""
        try:
            check_engine(self.engine, self.precision)
        except OptionError as error:
            table.fail(error.option, str(error).removeprefix(f"{error.option} "))
        layers, widths = self.layers, self.layer_widths
        if layers is not None and len(set(layers)) < len(layers):
            table.fail("layers", f"must be different ones; got {list(layers)}. Name each once.")
        if widths is not None and min(widths) < 1:
            table.fail("layer_widths", f"must be above 0; got {list(widths)}. Correct it.")
        if widths is not None and (layers is None or len(widths) != len(layers)):
            table.fail("layer_widths", "must have one number for each of layers. Correct it.")


def _penalties(table: Table, name: str, default: tuple[float, ...]) -> tuple[float, ...]:
    """Read a list of penalties, or the ends and the length of one on a log scale."""
    if isinstance(table.values.get(name), dict):
        grid = table.section(name)
        grid.only(("from", "to", "count"))
        low, high = grid.number("from", above=0.0), grid.number("to", above=0.0)
        count = grid.whole("count", least=1)
        check_limit("penalties", count, str(grid.error("count", "")), "penalties", OptionError)
        return tuple(np.geomspace(low, high, count).tolist())
    what = "numbers, or {from, to, count}"
    penalties = table.items(name, default, kind=(int, float), what=what)
    check_limit("penalties", len(penalties), str(table.error(name, "")), "penalties", OptionError)
    for penalty in penalties:
        if not 0 < penalty < math.inf:
            table.fail(name, f"must be above 0; got {penalty}. Correct it.")
    return tuple(float(penalty) for penalty in penalties)


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings(Section):
    """How the models are fitted."""

    alphas: tuple[float, ...] = setting(_penalties, tuple(np.geomspace(10.0, 1e5, 10).tolist()))
    alpha: str = setting(Table.choice, "shared", valid=ALPHA_MODES)
    folds: int = setting(Table.whole, 5, least=2)
    nested: bool = setting(Table.flag, True)
    seed: int | None = setting(Table.whole, None)
    repeats: str = setting(Table.choice, "average", valid=REPEAT_MODES)
    zscore: bool = setting(Table.flag, False)
    invalid_voxels: str = setting(Table.choice, "refuse", valid=INVALID_MODES)
    banded: bool = setting(Table.flag, False)
    band_candidates: int = setting(Table.whole, 20, least=1)
    max_memory_gb: float = setting(Table.number, 1.5, above=0.0)
    engine: str = setting(Table.choice, "numpy", valid=ENGINES)
    device: str | None = setting(Table.text, None)

    def check(self, table: Table) -> None:
        """Refuse a device that the engine lacks, candidates of no bands, and too few folds."""
        if "band_candidates" in table.values and not self.banded:
            table.fail("band_candidates", "needs banded = true. Add it, or leave this out.")
        problem = engine_problem(self.engine, self.device)
        if problem:
            table.fail("device", problem.removeprefix("device "))
        if self.nested and self.folds < 3:
            table.fail("folds", "must be at least 3 with nested = true. Use 5, for example.")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiSettings(Section):
    """One ROI of one subject."""

    name: str
    mask: Path | None = setting(Table.file, None)
    left: Path | None = setting(Table.file, None)
    right: Path | None = setting(Table.file, None)
    value: int | None = setting(Table.whole, None, least=1)
    threshold: float | None = setting(Table.number, None)
    responses: ArraySource | None = setting(_array, None)
    layers: tuple[str, ...] | None = setting(Table.items, None, kind=str, what="layer names")

    @property
    def masks(self) -> dict[str, Path]:
        """The images by hemisphere, "B" for both; none where ``geometry`` gives the ROI."""
        said = {"L": self.left, "R": self.right, "B": self.mask}
        return {hemi: path for hemi, path in said.items() if path is not None}

    def check(self, table: Table) -> None:
        """Refuse a mask of both hemispheres beside one of either, and labels in no image."""
        for key in ("value", "threshold"):
            if key in table.values and not self.masks:
                table.fail(key, "is of a mask; there is none here. Leave it out, or add mask.")
        if self.mask is not None and len(self.masks) > 1:
            table.fail("mask", "stands beside left or right. Give mask, or left and right.")
        _one_rule(self, table)


def _rois(table: Table, name: str, default: tuple[RoiSettings, ...]) -> tuple[RoiSettings, ...]:
    """Read a table of ROIs, each the path of a mask or a table."""
    rois = table.table(name)
    if rois is None:
        return default
    found = []
    for roi, said in rois.values.items():
        Table(rois.path, {roi: roi}, rois.key, rois.lines).label(roi)
        if isinstance(said, str):
            found.append(RoiSettings(name=roi, mask=rois.file(roi)))
        else:
            found.append(RoiSettings.read(rois.section(roi), name=roi))
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
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
    spaces : tuple of str
        Names of spaces that are one with that of the images; "same": with the template's.
    """

    kind: str
    files: tuple[Path, ...] = ()
    anatomical: Path | None = None
    cropped: Path | None = None
    spaces: tuple[str, ...] = ()


def _transform(table: Table, name: str, default: None) -> TransformSettings | None:
    """Read how native space reaches the template; each kind has keys of its own."""
    if (said := table.table(name)) is None:
        return default
    kind = said.choice("kind", valid=TRANSFORM_KEYS)
    said.only(TRANSFORM_KEYS[kind])
    if "file" in said.values and "files" in said.values:
        said.fail("files", "and file are both given. Leave one of them out.")
    files: tuple[Path, ...] = ()
    if "files" in said.values:
        names = said.items("files", kind=str, what="file names")
        values = {str(number): item for number, item in enumerate(names)}
        inner = Table(said.path, values, (*said.key, "files"), said.lines)
        files = tuple(inner.file(number) for number in values)
    elif kind != "same":
        files = (said.file("file"),)
    anatomical = said.file("anatomical") if kind == "fnirt" else None
    spaces: tuple[str, ...] = ()
    if isinstance(said.values.get("space"), str):
        spaces = (said.text("space"),)
    elif "space" in said.values:
        spaces = said.items("space", kind=str, what="names of spaces")
    return TransformSettings(
        kind=kind,
        files=files,
        anatomical=anatomical,
        cropped=said.file("cropped", None),
        spaces=spaces,
    )


def _confounds(table: Table, name: str, default: tuple[str, ...]) -> tuple[str, ...]:
    """Read a list of columns, which may be empty."""
    if table.values.get(name) == []:
        return ()
    found: tuple[str, ...] = table.items(name, default, kind=str, what="column names")
    return found


def _label(table: Table, name: str, default: Any, entity: str) -> str:
    """Read a label of a BIDS entity, which may stand as in names of files: ``sub-01`` for 01."""
    label: str = table.text(name, default)
    return label.removeprefix(f"{entity}-")


def _labels(table: Table, name: str, default: None) -> Mapping[str, str] | None:
    """Read labels of BIDS entities; an empty one wants none of its kind."""
    said = table.table(name)
    if said is None:
        return default
    for key, label in said.values.items():
        if not isinstance(label, str) or not re.fullmatch(r"[A-Za-z0-9+]*", label):
            said.fail(key, f'must be a label in quotes, such as "2"; got {label!r}. Correct it.')
    return dict(said.values)


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivativesSettings(Section):
    """A folder of fMRIPrep's results, from which responses are estimated."""

    folder: Path = setting(Table.file, folder=True)
    raw: Path = setting(Table.file, folder=True)
    subject: str = setting(_label, entity="sub")
    task: str = setting(_label, entity="task")
    space: str = setting(_label, "T1w", entity="space")
    entities: Mapping[str, str] | None = setting(_labels, None)
    stimulus_column: str = setting(Table.text, "stim_file")
    hrf: str = setting(Table.choice, "glover", valid=HRFS)
    confounds: tuple[str, ...] = setting(_confounds, MOTION)
    estimator: str = setting(Table.choice, "lsa", valid=ESTIMATORS)
    high_pass_hz: float = setting(Table.number, 0.01)
    tr_s: float | None = setting(Table.number, None, above=0.0)
    slice_time_ref: float | None = setting(Table.number, None)

    def find_runs(self) -> list[BoldRun]:
        """Return the files of each run, as `imgtofmri.measured.find_runs` does."""
        return find_runs(self.folder, self.raw, self.subject, self.task, self.space, self.entities)

    @property
    def model(self) -> dict[str, Any]:
        """What `imgtofmri.measured.estimate_responses` takes beside files and voxels."""
        names = ("stimulus_column", "hrf", "confounds", "estimator", "high_pass_hz")
        return {name: getattr(self, name) for name in (*names, "tr_s", "slice_time_ref")}

    def check(self, table: Table) -> None:
        """Refuse what is no frequency of drifts, and no share of a repetition time."""
        if self.slice_time_ref is not None and not 0 <= self.slice_time_ref <= 1:
            problem = "must be a share of the repetition time, from 0 to 1"
            table.fail("slice_time_ref", f"{problem}; got {self.slice_time_ref:g}. Use 0.5.")
        if not 0 <= self.high_pass_hz < 1:
            got = table.values["high_pass_hz"]
            problem = f"must be a frequency in Hz, 0 for none; got {got}. Use 0.01."
            table.fail("high_pass_hz", problem)


def _derivatives(table: Table, name: str, default: None) -> DerivativesSettings | None:
    return default if table.table(name) is None else DerivativesSettings.read(table.section(name))


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectSettings(Section):
    """One subject's data; ``line`` is where the study describes the subject."""

    name: str = setting(Table.label)
    table: Path | None = setting(Table.file, None)
    responses: ArraySource | None = setting(_array, None)
    mask: MaskSource | None = setting(_mask, None)
    grid: Path | None = setting(Table.file, None)
    derivatives: DerivativesSettings | None = setting(_derivatives, None)
    rois: tuple[RoiSettings, ...] = setting(_rois, ())
    transform: TransformSettings | None = setting(_transform, None)
    geometry: str | None = setting(Table.text, None)
    line: str

    def check(self, table: Table) -> None:
        """Refuse a subject of whom something is given twice, or not at all."""
        if self.geometry is None:
            if not self.rois:
                table.fail(None, "lacks rois: expected a table of ROI masks. Add it, or geometry.")
            if self.transform is None:
                problem = "lacks transform: expected how native space reaches the template. Add "
                problem += 'kind = "same" if the responses lie on a grid in template space.'
                table.fail(None, problem)
        elif self.transform is not None:
            table.fail("transform", "is given by geometry already. Leave one of them out.")
        rois = table.section("rois")
        for roi in self.rois:
            said = Table(rois.path, {}, (*rois.key, roi.name), rois.lines)
            if self.geometry is None and not roi.masks:
                said.fail(None, "lacks a mask: expected mask, or left and right. Add it.")
            if self.geometry is not None and roi.masks:
                said.fail(None, "has masks, but geometry gives them already. Leave one out.")
        whole = self.responses is not None or self.derivatives is not None
        if self.responses is not None and self.derivatives is not None:
            table.fail("derivatives", "and responses are both given. Leave one of them out.")
        for roi in self.rois:
            if whole and roi.responses is not None:
                table.fail("responses", f"are given for the subject and for {roi.name}. Keep one.")
            if not whole and roi.responses is None:
                problem = f"lacks responses for {roi.name}. Add them to the subject or to the ROI."
                table.fail("rois", problem)
        if not whole and not self.rois:
            table.fail(None, "lacks responses. Add them to the subject or to its ROIs.")
        if self.table is not None and self.derivatives is not None:
            problem = "is not read beside derivatives, whose events name stimuli. Leave it out."
            table.fail("table", problem)
        image = self.responses is not None and is_image(self.responses.file)
        if self.mask is not None and (self.responses is None or image):
            problem = "says which voxels the columns of an array of responses are; there is none "
            table.fail("mask", f"{problem}here. Leave it out.")


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
    template, downloads, stimuli, backbones, fit, subjects
        The sections; one backbone, or several with labels.
    """

    path: Path
    id: str
    title: str
    licence: str
    citation: tuple[str, ...]
    limits: str
    template: TemplateSettings
    downloads: tuple[Download, ...]
    stimuli: StimuliSettings
    backbones: tuple[BackboneSettings, ...]
    fit: FitSettings
    subjects: tuple[SubjectSettings, ...]

    @property
    def backbone(self) -> BackboneSettings:
        """The only network, or the first."""
        return self.backbones[0]

    def on_engine(self, engine: str, precision: str | None = None) -> Study:
        """Return the study with its networks on another engine.

        Raises
        ------
        OptionError
            If there is no such engine, or not in that precision.
        """
        check_engine(engine, precision)
        networks = (replace(one, engine=engine, precision=precision) for one in self.backbones)
        return replace(self, backbones=tuple(networks))
