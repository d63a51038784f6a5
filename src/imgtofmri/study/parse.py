"""From a study file to checked settings."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from imgtofmri.regression import ENGINES, engine_problem
from imgtofmri.study.document import Table, cached_file, read_document
from imgtofmri.study.settings import (
    ALPHA_MODES,
    INVALID_MODES,
    REPEAT_MODES,
    TRANSFORM_KINDS,
    ArraySource,
    BackboneSettings,
    DerivativesSettings,
    Download,
    FitSettings,
    RoiSettings,
    StimuliSettings,
    Study,
    SubjectSettings,
    TransformSettings,
)
from imgtofmri.timeseries import ESTIMATORS, HRFS

_TEXTS = ("id", "title", "licence", "citation", "limits")
_TABLES = (
    "template",
    "downloads",
    "stimuli",
    "backbone",
    "backbones",
    "fit",
    "subject",
    "subjects",
)
MOTION = ("trans_x", "trans_y", "trans_z", "rot_x", "rot_y", "rot_z")
"""fMRIPrep's estimates of head motion, which are regressed out if a study does not say."""
IMAGES = (".nii", ".nii.gz")
_BACKBONE_KEYS = tuple(name for name in BackboneSettings.__slots__ if name != "label")


def read_study(path: Path | str) -> Study:
    """Read and check a study file.

    Every setting is checked before any data is loaded, and every file but downloads must exist.

    Parameters
    ----------
    path : path
        A ``.toml`` file. Paths in it are relative to its folder.

    Returns
    -------
    Study
        What it says, with defaults filled in.

    Raises
    ------
    OptionError
        If something is missing, misspelt or impossible; the message names file, line and key.
    """
    root = read_document(Path(path))
    root.only(_TEXTS + _TABLES)
    template = _section(root, "template", ("space", "grid"))
    fit = _fit(_section(root, "fit", FitSettings.__slots__))
    backbones = _backbones(root)
    stimuli = _stimuli(_section(root, "stimuli", StimuliSettings.__slots__))
    tables = _subject_tables(root)
    names = [table.label("name") for table in tables]
    for number, name in enumerate(names):
        if name in names[:number]:
            tables[number].fail("name", f"must be of one subject only; {name!r} stands twice.")
    subjects = tuple(_subject(table) for table in tables)
    study = Study(
        path=Path(path),
        id=root.label("id"),
        title=root.text("title"),
        licence=root.text("licence"),
        citation=root.items("citation", str, "texts", ()),
        limits=root.text("limits", ""),
        space=_space(template),
        template=template.file("grid", None),
        downloads=_downloads(root),
        stimuli=stimuli,
        backbones=backbones,
        fit=fit,
        subjects=subjects,
    )
    _check_together(root, tables, study)
    return study


def _space(template: Table) -> str:
    """Return the template's name, which becomes part of BIDS file names."""
    space: str = template.text("space", "MNI152NLin6Asym")
    if not re.fullmatch(r"[A-Za-z0-9+]+", space):
        problem = "must be a name of letters and digits, such as MNI152NLin2009cAsym"
        template.fail("space", f"{problem}; got {space!r}. Leave the resolution out of it.")
    return space


def _section(root: Table, name: str, keys: tuple[str, ...] | Any) -> Table:
    table = root.table(name) or Table(root.path, {}, (name,), root.lines)
    table.only(keys)
    return table


def _downloads(root: Table) -> tuple[Download, ...]:
    found = []
    for table in root.tables("downloads") if "downloads" in root.values else []:
        table.only(Download.__slots__)
        file = table.text("file")
        if cached_file(file) is None:
            table.fail("file", f"must stay inside the cache; got {file!r}. Drop the '..'.")
        unpack = table.flag("unpack", False)
        if unpack and not file.endswith(".zip"):
            table.fail("file", f"must end in .zip to be unpacked; got {file!r}. Rename it.")
        url = table.text("url")
        if not url.startswith("https://"):
            table.fail("url", f"must begin with https://; got {url!r}. Correct it.")
        found.append(
            Download(
                url,
                file,
                table.whole("size", None, least=1),
                table.text("sha256", None),
                unpack,
            )
        )
    return tuple(found)


def _stimuli(table: Table) -> StimuliSettings:
    settings = StimuliSettings(
        table=table.file("table", None),
        column=table.text("column", "stimulus"),
        fold_column=table.text("fold_column", None),
        folder=table.file("folder", None, folder=True),
        features=_array(table, "features"),
    )
    if settings.fold_column is not None and settings.table is None:
        table.fail("fold_column", "needs a table. Add table, or leave fold_column out.")
    return settings


def _backbones(root: Table) -> tuple[BackboneSettings, ...]:
    """Return the only network, or each of several with its label."""
    several = root.table("backbones")
    if several is None:
        return (_backbone(_section(root, "backbone", _BACKBONE_KEYS)),)
    if "backbone" in root.values:
        root.fail("backbones", "and backbone are both given. Leave one of them out.")
    if not several.values:
        several.fail(None, "must name networks: [backbones.NAME]. Add one, or leave it out.")
    found = []
    for label in several.values:
        if "/" in label:
            several.fail(label, "must not contain a slash. Rename the network.")
        table = several.table(label)
        assert table is not None
        table.only(_BACKBONE_KEYS)
        found.append(_backbone(table, label))
        if found[-1].center_crop != found[0].center_crop:
            problem = "must be the same for all networks, which see the same pictures."
            table.fail("center_crop", f"{problem} Correct it.")
    return tuple(found)


def _backbone(table: Table, label: str = "") -> BackboneSettings:
    name = table.text("name", "resnet18")
    if name.endswith(".onnx"):
        name = str(table.file("name"))
    preprocessing = table.table("preprocessing")
    if preprocessing is not None:
        preprocessing.only(("size", "mean", "std"))
        preprocessing.whole("size", least=1)
        for key in ("mean", "std"):
            if len(preprocessing.items(key, (int, float), "3 numbers")) != 3:
                preprocessing.fail(key, "must be 3 numbers, for red, green and blue.")
    layers = table.items("layers", str, "layer names", None)
    if layers is not None and len(set(layers)) < len(layers):
        table.fail("layers", f"must be different ones; got {list(layers)}. Name each once.")
    widths = table.items("layer_widths", int, "whole numbers", None)
    if widths is not None and min(widths) < 1:
        table.fail("layer_widths", f"must be above 0; got {list(widths)}. Correct it.")
    if widths is not None and (layers is None or len(widths) != len(layers)):
        table.fail("layer_widths", "must have one number for each of layers. Correct it.")
    return BackboneSettings(
        name=name,
        layers=layers,
        layer_widths=widths,
        weights=_weights(table),
        center_crop=table.flag("center_crop", False),
        preprocessing=None if preprocessing is None else dict(preprocessing.values),
        label=label,
    )


def _weights(table: Table) -> Path | str | None:
    if str(table.values.get("weights", "")).partition(":")[0] != "untrained":
        found: Path | None = table.file("weights", None)
        return found
    value: str = table.text("weights")
    seed = value.partition(":")[2]
    if value != "untrained" and not seed.isdecimal():
        table.fail("weights", f"must have a whole number as its seed; got {value!r}. Correct it.")
    return value


def _fit(table: Table) -> FitSettings:
    settings = FitSettings(
        alphas=_alphas(table),
        alpha=table.choice("alpha", ALPHA_MODES, "shared"),
        folds=table.whole("folds", 5, least=2),
        nested=table.flag("nested", True),
        seed=table.whole("seed", None),
        repeats=table.choice("repeats", REPEAT_MODES, "average"),
        zscore=table.flag("zscore", False),
        invalid_voxels=table.choice("invalid_voxels", INVALID_MODES, "refuse"),
        banded=table.flag("banded", False),
        band_candidates=table.whole("band_candidates", 20, least=1),
        max_memory_gb=float(table.number("max_memory_gb", 1.5, above=0.0)),
        engine=table.choice("engine", ENGINES, "numpy"),
        device=table.text("device", None),
    )
    problem = engine_problem(settings.engine, settings.device)
    if problem:
        table.fail("device", problem.removeprefix("device "))
    if settings.nested and settings.folds < 3:
        table.fail("folds", "must be at least 3 with nested = true. Use 5, for example.")
    return settings


def _alphas(table: Table) -> tuple[float, ...]:
    value = table.values.get("alphas")
    if isinstance(value, dict):
        grid = Table(table.path, value, (*table.key, "alphas"), table.lines)
        grid.only(("from", "to", "count"))
        low, high = grid.number("from", above=0.0), grid.number("to", above=0.0)
        return tuple(np.geomspace(low, high, grid.whole("count", least=1)).tolist())
    alphas = table.items("alphas", (int, float), "numbers, or {from, to, count}", None)
    if alphas is None:
        return tuple(np.geomspace(10.0, 1e5, 10).tolist())
    wrong = [alpha for alpha in alphas if not 0 < alpha < math.inf]
    if wrong:
        table.fail("alphas", f"must be above 0; got {wrong[0]}. Correct it.")
    return tuple(float(alpha) for alpha in alphas)


def _array(table: Table, name: str) -> ArraySource | None:
    if name not in table.values:
        return None
    value = table.values[name]
    if isinstance(value, str):
        return ArraySource(table.file(name), None, False, _place(table, name))
    source = table.table(name)
    assert source is not None
    source.only(("file", "key", "transposed"))
    return ArraySource(
        source.file("file"),
        source.text("key", None),
        source.flag("transposed", False),
        _place(table, name),
    )


def _place(table: Table, name: str) -> str:
    """Return the beginning of a message about a value that later proves wrong."""
    return str(table.error(name, ""))


def _subject_tables(root: Table) -> list[Table]:
    """Return each subject's table, laid over the ``[subject]`` section that all share."""
    shared = root.table("subject")
    tables = root.tables("subjects")
    if shared is None:
        return tables
    merged = []
    for index, table in enumerate(tables):
        marks = {"{name}": str(table.values.get("name", "")), "{index}": str(index)}
        values = _overlay(_fill(shared.values, marks), table.values)
        lines = {
            (*table.key, *key[1:]): line for key, line in root.lines.items() if key[0] == "subject"
        }
        merged.append(Table(root.path, values, table.key, {**lines, **root.lines}))
    return merged


def _fill(value: Any, marks: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, marks) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, marks) for item in value]
    if isinstance(value, str):
        for mark, text in marks.items():
            value = value.replace(mark, text)
    return value


def _overlay(below: Any, above: Any) -> Any:
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    both = {key: _overlay(below[key], above[key]) for key in below.keys() & above.keys()}
    return {**below, **above, **both}


def _subject(table: Table) -> SubjectSettings:
    keys = ("name", "table", "responses", "mask", "derivatives", "rois", "transform", "geometry")
    table.only(keys)
    name = table.label("name")
    geometry = table.text("geometry", None)
    rois = table.table("rois")
    if geometry is None and (rois is None or not rois.values):
        table.fail(None, "lacks rois: expected a table of ROI masks. Add it, or geometry.")
    transform = table.table("transform")
    if geometry is None and transform is None:
        problem = (
            'lacks transform: expected how native space reaches the template. Add kind = "same" '
        )
        table.fail(None, problem + "if the responses lie on a grid in template space.")
    if geometry is not None and transform is not None:
        table.fail("transform", "is given by geometry already. Leave one of them out.")
    derivatives = table.table("derivatives")
    settings = SubjectSettings(
        name=name,
        table=table.file("table", None),
        responses=_array(table, "responses"),
        mask=table.file("mask", None),
        derivatives=None if derivatives is None else _derivatives(derivatives),
        rois=tuple(_roi(rois, roi, geometry) for roi in rois.values) if rois else (),
        transform=None if transform is None else _transform(transform),
        geometry=geometry,
        line=_place(table, "name"),
    )
    _check_responses(table, settings)
    return settings


def _check_responses(table: Table, settings: SubjectSettings) -> None:
    """Refuse a subject whose responses are given twice, or not at all for some ROI."""
    whole = settings.responses is not None or settings.derivatives is not None
    if settings.responses is not None and settings.derivatives is not None:
        table.fail("derivatives", "and responses are both given. Leave one of them out.")
    for roi in settings.rois:
        if whole and roi.responses is not None:
            table.fail("responses", f"are given for the subject and for {roi.name}. Keep one.")
        if not whole and roi.responses is None:
            problem = f"lacks responses for {roi.name}. Add them to the subject or to the ROI."
            table.fail("rois", problem)
    if not whole and not settings.rois:
        table.fail(None, "lacks responses. Add them to the subject or to its ROIs.")
    image = settings.responses is not None and settings.responses.file.name.endswith(IMAGES)
    if settings.mask is not None and (settings.responses is None or image):
        problem = "says which voxels the columns of an array of responses are; there is none here."
        table.fail("mask", f"{problem} Leave it out.")


def _roi(rois: Table, name: str, geometry: str | None) -> RoiSettings:
    Table(rois.path, {name: name}, rois.key, rois.lines).label(name)
    if isinstance(rois.values[name], str):
        return RoiSettings(name, {"B": rois.file(name)}, None, None, None)
    table = rois.table(name)
    assert table is not None
    table.only(("mask", "left", "right", "value", "responses", "layers"))
    masks = {
        hemi: table.file(key)
        for key, hemi in (("left", "L"), ("right", "R"), ("mask", "B"))
        if key in table.values
    }
    if "B" in masks and len(masks) > 1:
        table.fail("mask", "stands beside left or right. Give mask, or left and right.")
    if geometry is None and not masks:
        table.fail(None, "lacks a mask: expected mask, or left and right. Add it.")
    if geometry is not None and masks:
        table.fail(None, "has masks, but geometry gives them already. Leave one out.")
    return RoiSettings(
        name,
        masks,
        table.whole("value", None, least=1),
        _array(table, "responses"),
        table.items("layers", str, "layer names", None),
    )


def _transform(table: Table) -> TransformSettings:
    kind = table.choice("kind", TRANSFORM_KINDS)
    table.only(
        {"same": ("kind",), "affine": ("kind", "file"), "itk": ("kind", "file", "files")}.get(
            kind, ("kind", "file", "anatomical", "cropped")
        )
    )
    files: tuple[Path, ...] = ()
    if "file" in table.values and "files" in table.values:
        table.fail("files", "and file are both given. Leave one of them out.")
    if kind == "itk" and "files" in table.values:
        names = table.items("files", str, "file names")
        values = {str(number): name for number, name in enumerate(names)}
        inner = Table(table.path, values, (*table.key, "files"), table.lines)
        files = tuple(inner.file(str(number)) for number in range(len(names)))
    elif kind != "same":
        files = (table.file("file"),)
    return TransformSettings(
        kind,
        files,
        table.file("anatomical") if kind == "fnirt" else None,
        table.file("cropped", None) if kind == "fnirt" else None,
    )


def _derivatives(table: Table) -> DerivativesSettings:
    table.only(DerivativesSettings.__slots__)
    high_pass_hz = table.number("high_pass_hz", 0.01)
    if not 0 <= high_pass_hz < 1:
        table.fail(
            "high_pass_hz", f"must be a frequency in Hz, 0 for none; got {high_pass_hz}. Use 0.01."
        )
    no_confounds = table.values.get("confounds") == []
    return DerivativesSettings(
        folder=table.file("folder", folder=True),
        raw=table.file("raw", folder=True),
        subject=table.text("subject"),
        task=table.text("task"),
        space=table.text("space", "T1w"),
        stimulus_column=table.text("stimulus_column", "stim_file"),
        hrf=table.choice("hrf", HRFS, "glover"),
        confounds=() if no_confounds else table.items("confounds", str, "column names", MOTION),
        estimator=table.choice("estimator", ESTIMATORS, "lsa"),
        high_pass_hz=float(high_pass_hz),
    )


def _check_together(root: Table, tables: list[Table], study: Study) -> None:
    """Refuse what each section allows and the whole does not."""
    if study.template is None and study.space != "MNI152NLin6Asym":
        template = root.table("template")
        assert template is not None
        template.fail(
            None, f"lacks grid: expected an image on the grid of {study.space}. Add grid."
        )
    stimuli = root.table("stimuli") or Table(root.path, {}, ("stimuli",), root.lines)
    settings = study.stimuli
    for subject in study.subjects:
        no_rows = subject.table is None and subject.derivatives is None
        if no_rows and settings.table is None and settings.folder is None:
            stimuli.fail(
                None,
                "lacks table: expected a TSV or CSV file with a row for each response. Add it.",
            )
    if settings.features is not None and "backbones" in root.values:
        root.fail("backbones", "cannot go with stimuli.features. Use backbone with layer_widths.")
    if settings.features is not None and study.backbone.layers is None:
        backbone = root.table("backbone") or Table(root.path, {}, ("backbone",), root.lines)
        problem = "lacks layers: features from a file must say which layers they are of. Add them."
        backbone.fail(None, problem)
    if study.fit.banded and sum(len(item.layers or ("",)) for item in study.backbones) < 2:
        fit = root.table("fit")
        assert fit is not None
        fit.fail("banded", "needs two or more backbone.layers. Name them.")
    for table, subject in zip(tables, study.subjects, strict=True):
        for roi in subject.rois:
            problem = next(
                filter(None, (_layer_problem(study, key) for key in roi.layers or ())), ""
            )
            if problem:
                inner = Table(root.path, {}, (*table.key, "rois", roi.name), table.lines)
                inner.fail("layers", problem)


def _layer_problem(study: Study, key: str) -> str:
    """Return what is wrong with the name of a layer that an ROI uses, if anything."""
    if not study.backbone.label:
        known = key in (study.backbone.layers or ())
        return "" if known else f"must be among backbone.layers; got {key!r}. Add it."
    label, _, layer = key.partition("/")
    networks = {settings.label: settings for settings in study.backbones}
    if label not in networks:
        names = ", ".join(networks)
        return f'must be "NETWORK" or "NETWORK/LAYER", the networks being {names}; got {key!r}.'
    if layer and layer not in (networks[label].layers or ()):
        return f"must be among backbones.{label}.layers; got {layer!r}. Add it."
    return ""
