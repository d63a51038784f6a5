"""``imgtofmri rsa``: predicted and measured representational geometry compared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.analysis import claim_output, predict_pool, write_record
from imgtofmri.exceptions import DataError, OptionError, choice_message

if TYPE_CHECKING:
    import pandas as pd

    from imgtofmri.cli.analysis import Pool
    from imgtofmri.geometry import GeometryComparison
    from imgtofmri.rsa import RDMs

RECORD = "rsa.json"

#: With more images thumbnails hide each other.
MAX_THUMBNAILS = 120


def rsa(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help="The images that were shown: files, folders."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write to.")],
    measured: Annotated[
        list[str] | None,
        typer.Option(
            "--measured",
            "-m",
            metavar="[NAME=]FILE",
            help="Measured matrices: .npz, .npy, .mat or rsatoolbox's .h5; repeat for several.",
        ),
    ] = None,
    dissimilarity: Annotated[
        str, typer.Option("--dissimilarity", metavar="correlation|euclidean", help="Of the models.")
    ] = "correlation",
    comparison: Annotated[
        str,
        typer.Option(
            "--comparison", metavar="spearman|kendall|pearson|cosine", help="Of matrices."
        ),
    ] = "spearman",
    in_order: Annotated[
        bool,
        typer.Option("--in-order", help="Measured rows have no names: they follow the images."),
    ] = False,
    descriptor: Annotated[
        str | None,
        typer.Option("--descriptor", help="rsatoolbox's descriptor that names the conditions."),
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="The variable of an .npz or .mat file.")
    ] = None,
    permutations: Annotated[
        int, typer.Option("--permutations", min=1, help="Relabellings of conditions.")
    ] = 1000,
    bootstraps: Annotated[
        int, typer.Option("--bootstraps", min=1, help="Resamplings of subjects.")
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", help="Of both.")] = 0,
    rois: options.Rois = None,
    sigma_mm: options.SigmaMm = 1.0,
    mask: options.Mask = "overlap",
    center_crop: options.CenterCrop = None,
    backbone: options.BackboneName = None,
    weights: options.Weights = None,
    encoder: options.EncoderId = "bold5000-resnet18",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    quiet: options.Quiet = False,
) -> int:
    """Compare the geometry of predicted patterns with measured ones, ROI by ROI.

    Each ROI's prediction is a model of each set of measured matrices, judged beside the noise
    ceiling of the measured subjects. Without --measured the models are written and drawn.

    **Examples**

    imgtofmri rsa photos/ -o out/ --measured subjects.npz

    imgtofmri rsa photos/ -o out/ -m PPA=ppa.h5 -m LOC=loc.h5 --comparison kendall
    """
    from imgtofmri.encoder import load_encoder
    from imgtofmri.geometry import compare_geometry, match_conditions, model_rdms
    from imgtofmri.outputs import run_settings
    from imgtofmri.pipeline import RunSettings
    from imgtofmri.plotting.style import save_table
    from imgtofmri.rsa import COMPARISONS, DISSIMILARITIES
    from imgtofmri.stimuli import find_sources

    for option, value, valid in (
        ("--dissimilarity", dissimilarity, DISSIMILARITIES),
        ("--comparison", comparison, COMPARISONS),
    ):
        if value not in valid:
            raise OptionError(choice_message("rsa", option, value, valid))
    claim_output(output, RECORD, overwrite)
    stacks = load_measured(measured or [], descriptor, key)
    sources, unusable = find_sources(inputs)
    loaded = load_encoder(encoder, progress=not quiet)
    settings: RunSettings = {
        "rois": rois or None,
        "sigma_mm": sigma_mm,
        "mask": mask,
        "average": "mean",
        "center_crop": center_crop,
        "backbone": backbone,
        "weights": weights,
    }
    recorded = run_settings(loaded, settings, False, "rsa")
    pool = predict_pool(loaded, sources, unusable, settings, not quiet)
    models = model_rdms(pool.prediction, method=dissimilarity)
    write_models(models, pool, output)
    results = {}
    for name, stack in stacks.items():
        renamed = _named_in_order(stack, pool, name) if in_order else stack
        pair = match_conditions(models, renamed)
        results[name] = compare_geometry(*pair, comparison, permutations, bootstraps, seed=seed)
        _report(name, results[name])
    if results:
        for kind, table in tables(results).items():
            save_table(table, output / f"{kind}.tsv")
    for name, result in results.items():
        _draw(result, output / f"comparison_{name}")
    details = {
        "measured": list(measured or []),
        "dissimilarity": dissimilarity,
        "comparison": comparison,
        "n_permutations": permutations,
        "n_bootstraps": bootstraps,
        "seed": seed,
    }
    write_record(output / RECORD, pool, recorded, details)
    typer.echo(f"{len(models.names)} models of {len(models.conditions)} images: {output}", err=True)
    return pool.report()


def load_measured(
    entries: list[str], descriptor: str | None = None, key: str | None = None
) -> dict[str, RDMs]:
    """Read measured matrices, each named by what stands before ``=`` or by its file.

    Raises
    ------
    OptionError
        If two have one name.
    """
    from imgtofmri.datasets.rdms import load_rdms

    stacks: dict[str, RDMs] = {}
    for entry in entries:
        name, separator, file = entry.partition("=")
        path = Path(file if separator else entry)
        label = name if separator else path.stem
        if label in stacks:
            message = (
                f"rsa: measured matrices must have different names; got {label!r} twice. Write "
                "--measured NAME=FILE."
            )
            raise OptionError(message)
        stacks[label] = load_rdms(path, key=key, pattern_descriptor=descriptor)
    return stacks


def write_models(models: RDMs, pool: Pool, folder: Path) -> None:
    """Write the model matrices as .npz and as figures."""
    import numpy as np

    from imgtofmri.assets import atomic_path
    from imgtofmri.plotting.rsa import plot_mds, plot_rdms
    from imgtofmri.plotting.style import save_figure
    from imgtofmri.stimuli import Frame, read_images

    with atomic_path(folder / "models.npz") as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            dissimilarities=models.dissimilarities,
            conditions=np.array(models.conditions),
            names=np.array(models.names),
        )
    save_figure(plot_rdms(models), folder / "models")
    pictures = {}
    if len(pool.sources) <= MAX_THUMBNAILS:
        frames = read_images(list(pool.sources), size=64)
        pictures = {frame.name: frame.pixels for frame in frames if isinstance(frame, Frame)}
    save_figure(plot_mds(models, pictures), folder / "mds", ("png",))


def tables(results: dict[str, GeometryComparison]) -> dict[str, pd.DataFrame]:
    """Join the comparisons with all measured sets into tidy tables: rsa, pairs, subjects."""
    import pandas as pd

    models, pairs, subjects = [], [], []
    for name, result in results.items():
        models.append(result.table.assign(measured=name))
        pairs.append(result.pairs.assign(measured=name))
        wide = pd.DataFrame(result.similarity, columns=list(result.subjects))
        wide.insert(0, "model", list(result.models))
        tidy = wide.melt("model", var_name="subject", value_name="similarity")
        subjects.append(tidy.assign(measured=name))
    joined = {"rsa": models, "pairs": pairs, "subjects": subjects}
    return {
        kind: pd.concat(parts, ignore_index=True)[
            ["measured", *(column for column in parts[0].columns if column != "measured")]
        ]
        for kind, parts in joined.items()
    }


def _named_in_order(stack: RDMs, pool: Pool, name: str) -> RDMs:
    """Give measured rows the names of the images, refusing another number or missing images."""
    from imgtofmri.rsa import RDMs

    names = pool.prediction.names
    if pool.failures or len(stack.conditions) != len(names):
        message = (
            f"rsa: with --in-order {name} must have one row for each image; got "
            f"{len(stack.conditions)} rows for {len(names)} images, {len(pool.failures)} having "
            "failed. Give the images that were shown, all of them."
        )
        raise DataError(message)
    return RDMs(stack.dissimilarities, names, stack.names, stack.measure)


def _draw(result: GeometryComparison, stem: Path) -> None:
    from imgtofmri.plotting.rsa import plot_comparison
    from imgtofmri.plotting.style import save_figure

    save_figure(plot_comparison(result), stem)


def _report(name: str, result: GeometryComparison) -> None:
    """Print one line for each model."""
    ceiling = result.ceiling
    bounds = f"; ceiling {ceiling.lower:.3f} to {ceiling.upper:.3f}" if ceiling else ""
    typer.echo(f"{name}: {len(result.subjects)} measured, {result.method}{bounds}")
    for row in result.table.to_dict("records"):
        typer.echo(f"  {row['model']:<10} {row['mean']:+.3f}  p_max = {row['p_max']:.4f}")
