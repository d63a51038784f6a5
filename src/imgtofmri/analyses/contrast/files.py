"""Files of contrasts: which image is of which condition, and what the results are written to."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from imgtofmri.analyses.contrast.analysis import Contrast
from imgtofmri.analyses.contrast.figures import THRESHOLDS, plot_contrast
from imgtofmri.analyses.contrast.maps import FILES, statistic_of, values_of
from imgtofmri.encoder.controls import ENCODER, describe_controls
from imgtofmri.exceptions import DataError, OptionError, check_choice
from imgtofmri.figures.style import save_figure
from imgtofmri.outputs import OutputFolder, VolumeWriter
from imgtofmri.stimuli import Failure, Source, find_images
from imgtofmri.tables import is_missing, read_table, write_table

TABLE_SUFFIXES = (".tsv", ".csv")


def find_conditions(
    inputs: Sequence[str | Path],
) -> tuple[list[Source], dict[str, str], list[Failure]]:
    """Find image files and the condition of each, from folders or from one table.

    Parameters
    ----------
    inputs : sequence of str or Path
        One folder for each condition, which is named after it; or one table, as `read_conditions`
        reads it.

    Returns
    -------
    images : list of Source
    conditions : dict of str to str
        The condition of each image, by the image's name.
    failures : list of Failure
        What is there and is not an image.

    Raises
    ------
    OptionError
        If there are fewer than two folders, or two have one name.
    StimulusError
        If a folder or the table has no images.
    DataError
        If an image is of two conditions, or the table cannot be read, or lacks a column or a value.
    """
    of_path: dict[Path, str] = {}
    of_file: dict[str, str] = {}
    failures: list[Failure] = []
    if len(inputs) == 1 and Path(inputs[0]).suffix.lower() in TABLE_SUFFIXES:
        of_path = read_conditions(inputs[0])
    elif len(inputs) > 1:
        for entry in inputs:
            name = Path(entry).resolve().name
            if name in of_path.values():
                message = (
                    f"{entry}: expected a folder of another name, as it names the condition; got "
                    f"{name!r} twice. Rename one, or give a table with columns stim_file and "
                    "condition."
                )
                raise OptionError(message)
            found, unusable = find_images([entry])
            for image in found:
                # Folders of links are sorted out of one pool, so that one picture may be in two.
                other = of_file.setdefault(os.path.realpath(image.path), name)
                if other != name:
                    message = (
                        f"{image.path}: expected an image of one condition; got one of {other!r} "
                        f"and of {name!r}. Images are the random factor: take it out of one folder."
                    )
                    raise DataError(message)
            of_path |= {image.path: name for image in found}
            failures += unusable
    else:
        message = (
            "expected two folders or more, or one .tsv or .csv table; got "
            f"{', '.join(map(str, inputs))}. Give one folder for each condition."
        )
        raise OptionError(message)
    images, unusable = find_images(of_path)
    for image in images:
        if image.path not in of_path:
            message = (
                f"{inputs[0]}: expected the name of one image in each row; got a folder or pattern "
                f"that {image.path} is of. Name the images one by one."
            )
            raise DataError(message)
    conditions = {image.name: of_path[image.path] for image in images}
    return images, conditions, [*failures, *unusable]


def read_conditions(path: str | Path) -> dict[Path, str]:
    """Read a table of images and their conditions.

    Parameters
    ----------
    path : str or Path
        TSV or CSV with the columns stim_file, relative to the table's folder, and condition.

    Returns
    -------
    dict of Path to str
        The condition of each image file, in the table's order.

    Raises
    ------
    DataError
        If the table cannot be read, lacks a column or a value, or names an image twice.
    """
    table = read_table(path)
    files, conditions = table.column("stim_file"), table.column("condition")
    seen: dict[str, int] = {}
    for row, (file, condition) in enumerate(zip(files, conditions, strict=True)):
        if is_missing(file) or is_missing(condition):
            message = (
                f"{table.place(row)}: expected a stim_file and a condition; got {file!r} and "
                f"{condition!r}. Fill it in or delete the row."
            )
            raise DataError(message)
        first = seen.setdefault(os.path.realpath(table.path.parent / file), row)
        if first != row:
            also = "" if files[first] == file else f", the first time as {files[first]!r}"
            message = (
                f"{table.place(row)}: expected each image once; got {file!r} twice{also}. Images "
                "are the random factor: keep one row."
            )
            raise DataError(message)
    return {table.path.parent / file: of for file, of in zip(files, conditions, strict=True)}


def save_contrast(
    results: Contrast | Sequence[Contrast],
    folder: OutputFolder | str | Path,
    *,
    threshold: str = "p_fdr",
    failures: Iterable[Failure] = (),
    overwrite: bool = False,
) -> list[Path]:
    """Write contrasts' maps, tables and figures, those of their controls, and the record.

    Parameters
    ----------
    results : Contrast or sequence of Contrast
        Of one prediction, several from `compute_contrasts`. Files are named after each, and a
        control's have its name in theirs.
    folder : OutputFolder, str or Path
    threshold : {"p_fdr", "p_max", "conjunction", "none"}
        Which voxels the figures show; see `plot_contrast`.
    failures : iterable of Failure
        Images that could not be used, for the record.
    overwrite : bool
        Replace what an earlier run wrote there.

    Returns
    -------
    list of Path
        The files, without the record, ``contrast.json``.

    Raises
    ------
    OptionError
        If the folder holds results of an earlier run, two contrasts would share their files, or
        there is no such threshold.
    DataError
        If the contrasts were not made alike.
    OutputError
        If the folder cannot be written to.
    """
    check_choice("threshold", threshold, THRESHOLDS)
    several = [results] if isinstance(results, Contrast) else list(results)
    made = {(id(one.prediction), one.n_permutations, one.seed, one.alpha) for one in several}
    if len(made) != 1:
        message = (
            "results must be contrasts of one prediction, with the same permutations, seed and "
            f"alpha, as one record tells them; got {len(made)} kinds. Give each a folder of its "
            "own."
        )
        raise DataError(message)
    check_distinct_files([one.name for one in several])
    first = several[0]
    prediction = first.prediction
    out = OutputFolder.of(folder, "contrast", overwrite=overwrite)
    details = {
        "contrasts": [one.name for one in several],
        "conditions": dict(Counter(first.conditions)),
        "n_permutations": first.n_permutations,
        "alpha": first.alpha,
        "threshold": threshold,
        "seed": first.seed,
    }
    with out.begin(details, prediction.provenance.to_dict(), describe_controls(first.controls)):
        out.used(prediction.names, prediction.sha256, prediction.sources)
        for failure in failures:
            out.fail(failure.name, str(failure.error))
        files = [file for one in several for file in _save_one(one, out.path, threshold)]
        out.wrote(*files)
    return files


def check_distinct_files(contrasts: Sequence[str]) -> None:
    """Refuse contrasts of which two would share their files, before anything is predicted.

    Raises
    ------
    OptionError
        Naming both.
    """
    seen: dict[str, str] = {}
    for number, contrast in enumerate(contrasts):
        # Some file systems hold but one of two names that differ in case.
        other = seen.setdefault(slug(contrast).casefold(), contrast)
        if other != contrast or contrast in contrasts[:number]:
            message = (
                f"contrasts must have files of their own; {other!r} and {contrast!r} would share "
                f"{slug(contrast)}_t.nii.gz. Drop one, or rename a condition."
            )
            raise OptionError(message, "contrast")


def _save_one(result: Contrast, folder: Path, threshold: str) -> list[Path]:
    """Write one contrast's files."""
    label, models = slug(result.name), result.models
    files: list[Path] = []
    for model, one in models.items():
        own = label if model == ENCODER else f"{label}_{slug(model)}"
        writer = VolumeWriter(one.prediction.mask, one.prediction.affine)
        for name in FILES:
            files.append(folder / f"{own}_{name}.nii.gz")
            writer.write(files[-1], values_of(one, name), statistic_of(one, name))
        title = "" if model == ENCODER else f"control {model}: "
        files += save_figure(plot_contrast(one, threshold, one.alpha, title), folder / own)
    tables = {
        "rois": result.joined("roi_table"),
        "conditions": result.joined("condition_table"),
        "luminance": result.of_images,
    }
    for name, table in tables.items():
        if table is not None:
            files.append(write_table(table, folder / f"{label}_{name}.tsv"))
    if result.controls:
        note = result.prediction.provenance.note
        files += save_figure(result.plot_controls(), folder / f"{label}_controls", note=note)
    return files


def slug(text: str) -> str:
    """Turn a contrast into a file name.

    Examples
    --------
    >>> slug("scene > face + 0.5*object")
    'scene-gt-face-plus-0.5-object'
    """
    words = text.replace(">", " gt ").replace("+", " plus ").replace(" - ", " minus ")
    return re.sub(r"[^\w.]+", "-", words).strip("-.") or "contrast"
