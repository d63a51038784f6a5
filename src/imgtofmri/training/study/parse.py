"""From a study file to checked settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imgtofmri.training.study.agreement import space_problem, template_problem
from imgtofmri.training.study.document import Table, read_document
from imgtofmri.training.study.settings import (
    BackboneSettings,
    Download,
    FitSettings,
    StimuliSettings,
    Study,
    SubjectSettings,
    TemplateSettings,
    place,
)

_KEYS = (
    *("id", "title", "licence", "citation", "limits", "template", "downloads", "stimuli"),
    *("backbone", "backbones", "fit", "subject", "subjects"),
)


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
    root.only(_KEYS)
    tables = _subject_tables(root)
    names = [table.label("name") for table in tables]
    for number, name in enumerate(names):
        if name in names[:number]:
            tables[number].fail("name", f"must be of one subject only; {name!r} stands twice.")
    downloads = root.tables("downloads") if "downloads" in root.values else []
    study = Study(
        path=Path(path),
        id=root.label("id"),
        title=root.text("title"),
        licence=root.text("licence"),
        citation=root.items("citation", (), kind=str, what="texts"),
        limits=root.text("limits", ""),
        template=TemplateSettings.read(root.section("template")),
        downloads=tuple(map(Download.read, downloads)),
        stimuli=StimuliSettings.read(root.section("stimuli")),
        backbones=_backbones(root),
        fit=FitSettings.read(root.section("fit")),
        subjects=tuple(SubjectSettings.read(table, line=place(table, "name")) for table in tables),
    )
    _check_together(root, tables, study)
    return study


def _backbones(root: Table) -> tuple[BackboneSettings, ...]:
    """Return the only network, or each of several with its label."""
    several = root.table("backbones")
    if several is None:
        return (BackboneSettings.read(root.section("backbone")),)
    if "backbone" in root.values:
        root.fail("backbones", "and backbone are both given. Leave one of them out.")
    if not several.values:
        several.fail(None, "must name networks: [backbones.NAME]. Add one, or leave it out.")
    found = []
    for label in several.values:
        if "/" in label:
            several.fail(label, "must not contain a slash. Rename the network.")
        table = several.section(label)
        found.append(BackboneSettings.read(table, label=label))
        if found[-1].center_crop != found[0].center_crop:
            problem = "must be the same for all networks, which see the same pictures."
            table.fail("center_crop", f"{problem} Correct it.")
    return tuple(found)


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


def _check_together(root: Table, tables: list[Table], study: Study) -> None:
    """Refuse what each section allows and the whole does not."""
    template, settings = study.template, study.stimuli
    if template.grid is None and template.space != "MNI152NLin6Asym":
        problem = f"lacks grid: expected an image on the grid of {template.space}. Add grid."
        root.section("template").fail(None, problem)
    if problem := template_problem(template):
        root.section("template").fail("grid", problem)
    for table, subject in zip(tables, study.subjects, strict=True):
        if wrong := space_problem(subject, template):
            table.fail(*wrong)
    _check_table_is_used(root, study)
    _check_folds_are_made(root, study)
    for subject in study.subjects:
        no_rows = subject.table is None and subject.derivatives is None
        if no_rows and settings.table is None and settings.folder is None:
            problem = (
                "lacks table: expected a TSV or CSV file with a row for each response. Add it."
            )
            root.section("stimuli").fail(None, problem)
    if settings.features is not None and "backbones" in root.values:
        root.fail("backbones", "cannot go with stimuli.features. Use backbone with layer_widths.")
    if settings.features is not None and study.backbone.layers is None:
        problem = "lacks layers: features from a file must say which layers they are of. Add them."
        root.section("backbone").fail(None, problem)
    if study.fit.banded and sum(len(item.layers or ("",)) for item in study.backbones) < 2:
        root.section("fit").fail("banded", "needs two or more backbone.layers. Name them.")
    for table, subject in zip(tables, study.subjects, strict=True):
        for roi in subject.rois:
            problem = next(
                filter(None, (_layer_problem(study, key) for key in roi.layers or ())), ""
            )
            if problem:
                inner = Table(root.path, {}, (*table.key, "rois", roi.name), table.lines)
                inner.fail("layers", problem)


def _check_table_is_used(root: Table, study: Study) -> None:
    """Refuse a table of stimuli that nothing would be read from."""
    stimuli, subjects = study.stimuli, study.subjects
    own = all(item.table is not None or item.derivatives is not None for item in subjects)
    folds = stimuli.fold_column is not None and any(item.derivatives for item in subjects)
    if stimuli.table is not None and own and stimuli.features is None and not folds:
        problem = (
            "names rows that every subject has of its own, from a table or from derivatives. Leave "
            "it out."
        )
        root.section("stimuli").fail("table", problem)


def _check_folds_are_made(root: Table, study: Study) -> None:
    """Refuse a column of folds without a table, and how to make folds beside one."""
    fit, column = root.section("fit"), study.stimuli.fold_column
    tables = [item.table or study.stimuli.table for item in study.subjects]
    if column is not None and None in tables:
        problem = "needs a table of every subject's rows. Add table, or leave fold_column out."
        root.section("stimuli").fail("fold_column", problem)
    for key in ("folds",) if study.fit.banded else ("folds", "seed"):
        if column is not None and key in fit.values:
            problem = f"is of folds that are made; stimuli.fold_column gives those of {column!r}."
            fit.fail(key, f"{problem} Leave one of them out.")


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
