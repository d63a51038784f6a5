"""``imgtofmri contrast``: an experiment in silico, like a localiser scan."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.codes import report_failures
from imgtofmri.exceptions import DataError, OptionError

if TYPE_CHECKING:
    import pandas as pd

    from imgtofmri.analyses.contrast import Contrast
    from imgtofmri.encoder import Settings
    from imgtofmri.stimuli import Failure, Source

TABLE_SUFFIXES = (".tsv", ".csv")


@options.takes_settings(average="mean")
def contrast(
    *,
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="FOLDER|TABLE",
            help="One folder for each condition, or a TSV or CSV with stim_file and condition.",
        ),
    ],
    output: options.Output,
    contrasts: Annotated[
        list[str] | None,
        typer.Option(
            "--contrast",
            "-c",
            metavar="CONTRAST",
            help="Such as 'house - face' or 'house > face + tool'; repeat for several. "
            "By default the first of two conditions minus the second.",
        ),
    ] = None,
    permutations: Annotated[
        int, typer.Option("--permutations", min=1, help="Exchanges of images for max-t.")
    ] = 1000,
    alpha: Annotated[
        float, typer.Option("--alpha", min=0.0, max=1.0, help="Level of marks and conjunction.")
    ] = 0.05,
    threshold: Annotated[
        str,
        typer.Option(
            "--threshold", metavar="p_fdr|p_max|conjunction|none", help="Voxels in the figure."
        ),
    ] = "p_fdr",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the exchanges.")] = 0,
    control: options.Control = None,
    settings: Settings,
    encoder: options.EncoderId = "bold5000-resnet18",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> int:
    """Contrast predicted responses between kinds of images, as a localiser scan does.

    Images are the random factor. Each contrast gives maps (difference, t, 1 - p corrected, and
    where all subjects agree), tables for ROIs and a figure; contrast.json records what made them.
    --control says whether an untrained network, or the images' luminance, would show it, too.

    **Examples**

    imgtofmri contrast house/ face/ -o out/

    imgtofmri contrast stimuli.tsv -o out/ -c "scene > face + object" -c "face - object"

    imgtofmri contrast house/ face/ -o out/ --control untrained --control luminance
    """
    from imgtofmri.analyses.contrast import compute_contrast, contrast_properties, contrast_weights
    from imgtofmri.analyses.contrast.figures import THRESHOLDS
    from imgtofmri.encoder import load_encoder
    from imgtofmri.encoder.controls import ENCODER, check_controls
    from imgtofmri.outputs import OutputFolder
    from imgtofmri.stimuli import image_properties

    if threshold not in THRESHOLDS:
        message = (
            f"contrast: --threshold must be one of {', '.join(THRESHOLDS)}; got {threshold!r}."
        )
        raise OptionError(message)
    check_controls(control)
    folder = OutputFolder(output, "contrast")
    folder.claim(overwrite=overwrite)
    sources, conditions, unusable = find_conditions(inputs)
    kinds = list(dict.fromkeys(conditions))
    wanted = contrasts or _default_contrast(kinds)
    for text in wanted:
        contrast_weights(text, kinds)
    loaded = load_encoder(encoder, progress=not quiet)
    controls = loaded.controls(control or (), settings)
    failures = list(unusable)
    own = loaded.predict(sources, settings, on_failure=failures.append, progress=not quiet)
    of_name = dict(zip((source.name for source in sources), conditions, strict=True))
    labels = [of_name[name] for name in own.names]
    shown = [source for source in sources if source.name in own.names]
    models = {ENCODER: own}
    properties = None
    for one in controls.predict(shown, progress=not quiet):
        if one.prediction is not None:
            models[one.name] = one.prediction
        else:
            paths = [source.path for source in shown]
            properties = image_properties(paths, one.center_crop).drop(columns="size")
    for text in wanted:
        results = {
            model: compute_contrast(prediction, labels, text, permutations, seed, alpha)
            for model, prediction in models.items()
        }
        images = None
        if properties is not None:
            images = contrast_properties(properties, labels, text, permutations, seed)
        write_contrast(results, images, output, threshold)
        _report(results, images)
    details = {
        "contrasts": list(wanted),
        "conditions": {kind: labels.count(kind) for kind in kinds},
        "n_permutations": permutations,
        "alpha": alpha,
        "seed": seed,
    }
    folder.begin(details, own.provenance.to_dict(), controls.to_dict())
    folder.used(own.names, own.sha256, own.sources)
    for failure in failures:
        folder.fail(failure.name, str(failure.error))
    folder.close()
    typer.echo(f"{len(wanted)} contrasts of {len(labels)} images: {output}", err=True)
    return report_failures(failures, len(own))


def find_conditions(inputs: list[str]) -> tuple[list[Source], list[str], list[Failure]]:
    """Find image files and the condition of each, from folders or from one table.

    Raises
    ------
    OptionError
        If there are fewer than two folders, or two have one name.
    DataError
        If a folder has no images, or the table cannot be read or lacks a column or a value.
    """
    from imgtofmri.stimuli import find_images, find_sources

    missing: list[Failure] = []
    if len(inputs) == 1 and Path(inputs[0]).suffix.lower() in TABLE_SUFFIXES:
        paths, conditions = read_conditions(Path(inputs[0]))
    elif len(inputs) > 1:
        paths, conditions = [], []
        for entry in inputs:
            name = Path(entry).resolve().name
            if name in conditions:
                message = (
                    f"contrast: each folder's name is its condition; got {name!r} twice. Rename "
                    "one, or give a table with columns stim_file and condition."
                )
                raise OptionError(message)
            found, unusable = find_images([entry])
            paths += [source.path for source in found]
            conditions += [name] * len(found)
            missing += unusable
    else:
        message = (
            "contrast: expected two folders or more, or one .tsv or .csv table; got "
            f"{', '.join(inputs)}. Give one folder for each condition."
        )
        raise OptionError(message)
    sources, failures = find_sources(paths)
    of_path = dict(zip(map(str, paths), conditions, strict=True))
    labels = [of_path[str(source.path)] for source in sources]
    return sources, labels, [*missing, *failures]


def read_conditions(path: Path) -> tuple[list[Path], list[str]]:
    """Read a table of stim_file and condition; files are relative to the table's folder."""
    import pandas as pd

    try:
        table = pd.read_csv(path, sep=None, engine="python", dtype=str)
    except (OSError, ValueError) as error:
        message = f"contrast: {path} must be a table that can be read ({error}). Check it."
        raise DataError(message) from error
    for column in ("stim_file", "condition"):
        if column not in table.columns:
            message = (
                f"contrast: {path} must have the columns stim_file and condition; got "
                f"{', '.join(map(str, table.columns))}. Name the column {column}."
            )
            raise DataError(message)
        missing = table.index[table[column].isna()]
        if len(missing):
            message = (
                f"contrast: {path} must have a {column} in each row; row {missing[0] + 2} has none."
                " Fill it in or delete the row."
            )
            raise DataError(message)
    twice = table["stim_file"][table["stim_file"].duplicated()]
    if len(twice):
        message = (
            f"contrast: {path} must name each image once; got {twice.iloc[0]!r} twice. Images are "
            "the random factor: keep one row."
        )
        raise DataError(message)
    paths = [path.parent / name for name in table["stim_file"]]
    return paths, table["condition"].tolist()


def write_contrast(
    results: dict[str, Contrast], images: pd.DataFrame | None, folder: Path, threshold: str
) -> None:
    """Write one contrast's maps, tables and figures, and those of its controls.

    Parameters
    ----------
    results : dict of str to Contrast
        The encoder's, and each untrained control's, whose files have its name in theirs.
    images : pandas.DataFrame or None
        The contrast of the images' luminance.
    folder : Path
    threshold : str
        Which voxels the figures show.
    """
    import numpy as np
    import pandas as pd

    from imgtofmri.analyses.contrast.figures import plot_contrast, plot_controls
    from imgtofmri.encoder.controls import ENCODER
    from imgtofmri.figures.style import save_figure
    from imgtofmri.outputs import VolumeWriter
    from imgtofmri.tables import write_table

    label = slug(results[ENCODER].name)
    for model, result in results.items():
        own = label if model == ENCODER else f"{label}_{slug(model)}"
        writer = VolumeWriter(result.mask, result.affine)
        maps = {
            "difference": result.test.difference,
            "t": result.test.t,
            "fdr1p": 1.0 - result.p_fdr,
            "maxt1p": 1.0 - result.p_max,
            "conjunction": result.conjunction.astype(np.float64),
        }
        for name, values in maps.items():
            writer.write(folder / f"{own}_{name}.nii.gz", np.nan_to_num(values))
        title = "" if model == ENCODER else f"control {model}: "
        save_figure(plot_contrast(result, threshold, result.alpha, title), folder / own)
    rois = pd.concat(_of_model(model, result.roi_table) for model, result in results.items())
    means = pd.concat(_of_model(model, one.condition_table) for model, one in results.items())
    write_table(rois, folder / f"{label}_rois.tsv")
    write_table(means, folder / f"{label}_conditions.tsv")
    if images is not None:
        write_table(images, folder / f"{label}_luminance.tsv")
    if images is not None or len(results) > 1:
        save_figure(plot_controls(rois, images), folder / f"{label}_controls")


def _of_model(model: str, table: pd.DataFrame) -> pd.DataFrame:
    """Say in a first column whose rows these are."""
    named = table.copy()
    named.insert(0, "model", model)
    return named


def slug(text: str) -> str:
    """Turn a contrast into a file name.

    Examples
    --------
    >>> slug("scene > face + 0.5*object")
    'scene-gt-face-plus-0.5-object'
    """
    words = text.replace(">", " gt ").replace("+", " plus ").replace(" - ", " minus ")
    return re.sub(r"[^\w.]+", "-", words).strip("-.") or "contrast"


def _default_contrast(kinds: list[str]) -> list[str]:
    if len(kinds) != 2:
        message = (
            f"contrast: with {len(kinds)} conditions ({', '.join(kinds)}) --contrast must say which"
            " to compare; got none. Write one such as "
            f"--contrast '{kinds[0]} - {kinds[-1]}'."
        )
        raise OptionError(message)
    return [f"{kinds[0]} - {kinds[1]}"]


def _report(results: dict[str, Contrast], images: pd.DataFrame | None) -> None:
    """Print one line for each ROI, for the encoder and then for each control."""
    from imgtofmri.encoder.controls import ENCODER

    result = results[ENCODER]
    typer.echo(f"{result.name}  (images: {result.counts})")
    for model, one in results.items():
        if model != ENCODER:
            typer.echo(f"  control {model}")
        rows = one.roi_table.query("subject == 'group' and hemi == 'both'")
        for row in rows.to_dict("records"):
            typer.echo(
                f"  {row['roi']:<10} difference {row['difference']:+.4f}  t({row['dof']:.0f}) = "
                f"{row['t']:+.2f}  p_max = {row['p_max']:.4f}  {row['n_agree']} of "
                f"{len(one.subject_names)} subjects agree"
            )
    if images is not None:
        typer.echo("  control luminance")
        for row in images.to_dict("records"):
            typer.echo(
                f"  {row['property']:<10} difference {row['difference']:+.4f}  t({row['dof']:.0f})"
                f" = {row['t']:+.2f}  p_max = {row['p_max']:.4f}  d = {row['d']:+.2f}"
            )
