"""``imgtofmri rsa``: predicted and measured representational geometry compared."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.codes import report_failures
from imgtofmri.exceptions import DataError, OptionError, choice_message

if TYPE_CHECKING:
    import pandas as pd

    from imgtofmri.analyses.rsa import GeometryComparison
    from imgtofmri.encoder import Control, Settings
    from imgtofmri.rsa import RDMs
    from imgtofmri.stimuli import Source

#: With more images thumbnails hide each other.
MAX_THUMBNAILS = 120


@options.takes_settings(average="mean")
def rsa(
    *,
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="The images that were shown: files, folders."),
    ],
    output: options.Output,
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
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of both.")] = 0,
    control: options.Control = None,
    settings: Settings,
    encoder: options.EncoderId = "bold5000-resnet18",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> int:
    """Compare the geometry of predicted patterns with measured ones, ROI by ROI.

    Each ROI's prediction is a model of each set of measured matrices, judged beside the noise
    ceiling of the measured subjects. Without --measured the models are written and drawn.
    --control puts an untrained network's models, or the images' luminance, beside them.

    **Examples**

    imgtofmri rsa photos/ -o out/ --measured subjects.npz

    imgtofmri rsa photos/ -o out/ -m PPA=ppa.h5 -m LOC=loc.h5 --comparison kendall

    imgtofmri rsa photos/ -o out/ -m subjects.npz --control untrained --control luminance
    """
    from imgtofmri.analyses.rsa import compare_geometry, match_conditions, model_rdms
    from imgtofmri.encoder import load_encoder
    from imgtofmri.encoder.controls import ENCODER, check_controls
    from imgtofmri.outputs import OutputFolder
    from imgtofmri.rsa import COMPARISONS, DISSIMILARITIES
    from imgtofmri.stimuli import find_images
    from imgtofmri.tables import write_table

    for option, value, valid in (
        ("--dissimilarity", dissimilarity, DISSIMILARITIES),
        ("--comparison", comparison, COMPARISONS),
    ):
        if value not in valid:
            raise OptionError(choice_message("rsa", option, value, valid))
    check_controls(control)
    folder = OutputFolder(output, "rsa")
    folder.claim(overwrite=overwrite)
    stacks = load_measured(measured or [], descriptor, key)
    sources, unusable = find_images(inputs)
    loaded = load_encoder(encoder, progress=not quiet)
    controls = loaded.controls(control or (), settings)
    failures = list(unusable)
    own = loaded.predict(sources, settings, on_failure=failures.append, progress=not quiet)
    shown = [source for source in sources if source.name in own.names]
    if len(own) < 3:
        message = (
            "rsa: a geometry needs at least 3 images; got "
            f"{', '.join(own.names)}. Give all images that were shown."
        )
        raise DataError(message)
    models = {ENCODER: model_rdms(own, method=dissimilarity)}
    models |= control_rdms(controls.predict(shown, progress=not quiet), dissimilarity)
    write_models(models, shown, output)
    results: dict[str, dict[str, GeometryComparison]] = {}
    for name, stack in stacks.items():
        renamed = _named_in_order(stack, own.names, len(failures), name) if in_order else stack
        # Each control is a family of its own: asking for one changes no p of the encoder's.
        results[name] = {
            model: compare_geometry(
                *match_conditions(rdms, renamed), comparison, permutations, bootstraps, seed=seed
            )
            for model, rdms in models.items()
        }
        _report(name, results[name])
    if results:
        for kind, table in tables(results).items():
            write_table(table, output / f"{kind}.tsv")
    for name, compared in results.items():
        _draw(compared, output / f"comparison_{name}")
    details = {
        "measured": list(measured or []),
        "dissimilarity": dissimilarity,
        "comparison": comparison,
        "n_permutations": permutations,
        "n_bootstraps": bootstraps,
        "seed": seed,
    }
    folder.begin(details, own.provenance.to_dict(), controls.to_dict())
    folder.used(own.names, own.sha256, own.sources)
    for failure in failures:
        folder.fail(failure.name, str(failure.error))
    folder.close()
    n_models = len(models[ENCODER].names)
    typer.echo(f"{n_models} models of {len(own)} images: {output}", err=True)
    return report_failures(failures, len(own))


def load_measured(
    entries: list[str], descriptor: str | None = None, key: str | None = None
) -> dict[str, RDMs]:
    """Read measured matrices, each named by what stands before ``=`` or by its file.

    Raises
    ------
    OptionError
        If two have one name.
    """
    from imgtofmri.measured.rdms import load_rdms

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


def control_rdms(controls: Sequence[Control], dissimilarity: str) -> dict[str, RDMs]:
    """Make the controls' model matrices: one for each ROI, but for luminance only one.

    Luminance is a pattern over a 16 x 16 grid, treated as a pattern over voxels is.
    """
    from imgtofmri.analyses.rsa import model_rdms
    from imgtofmri.encoder.controls import LUMINANCE
    from imgtofmri.rsa import RDMs, calculate_rdm

    found = {}
    for control in controls:
        if control.prediction is not None:
            found[control.name] = model_rdms(control.prediction, method=dissimilarity)
        else:
            names, features = control.luminance()
            vector = calculate_rdm(features, dissimilarity, conditions=names)
            found[control.name] = RDMs(vector[None], names, (LUMINANCE,), dissimilarity)
    return found


def write_models(models: dict[str, RDMs], sources: Sequence[Source], folder: Path) -> None:
    """Write the model matrices as .npz and as figures; the pictures are placed by the encoder's."""
    import numpy as np

    from imgtofmri.analyses.rsa.figures import plot_mds, plot_rdms
    from imgtofmri.encoder.controls import ENCODER, LUMINANCE
    from imgtofmri.figures.style import save_figure
    from imgtofmri.files import atomic_path
    from imgtofmri.rsa import RDMs
    from imgtofmri.stimuli import Frame, read_images

    own = models[ENCODER]
    labels = {
        name: rdms.names
        if name in (ENCODER, LUMINANCE)
        else tuple(f"{roi} {name}" for roi in rdms.names)
        for name, rdms in models.items()
    }
    everything = RDMs(
        np.concatenate([rdms.dissimilarities for rdms in models.values()]),
        own.conditions,
        tuple(label for name in models for label in labels[name]),
        own.measure,
    )
    with atomic_path(folder / "models.npz") as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            dissimilarities=everything.dissimilarities,
            conditions=np.array(everything.conditions),
            names=np.array(everything.names),
        )
    save_figure(plot_rdms(everything), folder / "models")
    pictures = {}
    if len(sources) <= MAX_THUMBNAILS:
        frames = read_images(list(sources), size=64)
        pictures = {frame.name: frame.pixels for frame in frames if isinstance(frame, Frame)}
    save_figure(plot_mds(own, pictures), folder / "mds", ("png",))


def tables(results: dict[str, dict[str, GeometryComparison]]) -> dict[str, pd.DataFrame]:
    """Join the comparisons with all measured sets into tidy tables: rsa, pairs, subjects.

    Parameters
    ----------
    results : dict of str to dict of str to GeometryComparison
        For each measured set, the encoder's and each control's.
    """
    import pandas as pd

    from imgtofmri.analyses.rsa import control_pairs
    from imgtofmri.encoder.controls import ENCODER

    joined: dict[str, list[pd.DataFrame]] = {"rsa": [], "pairs": [], "subjects": []}
    for name, compared in results.items():
        own = compared[ENCODER]
        joined["pairs"].append(_of_pairs(own.pairs, name, ENCODER))
        for model, result in compared.items():
            if model != ENCODER:
                joined["pairs"].append(_of_pairs(control_pairs(own, result), name, model))
            wide = pd.DataFrame(result.similarity, columns=list(result.subjects))
            wide.insert(0, "model", list(result.models))
            tidy = wide.melt("model", var_name="subject", value_name="similarity")
            for kind, table in (("rsa", result.table), ("subjects", tidy)):
                of_roi = table.rename(columns={"model": "roi"})
                of_roi["roi"] = _rois(of_roi["roi"])
                of_roi.insert(0, "model", model)
                of_roi.insert(0, "measured", name)
                joined[kind].append(of_roi)
    return {kind: _stacked(parts) for kind, parts in joined.items()}


def _of_pairs(pairs: pd.DataFrame, measured: str, control: str) -> pd.DataFrame:
    """Say of which measured set and of which models the two ROIs of each pair are."""
    from imgtofmri.encoder.controls import ENCODER

    table = pairs.rename(columns={"model_a": "roi_a", "model_b": "roi_b"})
    table["roi_b"] = _rois(table["roi_b"])
    table.insert(1, "model_b", control)
    table.insert(0, "model_a", ENCODER)
    table.insert(0, "measured", measured)
    return table


def _rois(names: pd.Series[str]) -> pd.Series[str]:
    """Leave the ROI empty where the model, luminance, is of none."""
    from imgtofmri.encoder.controls import LUMINANCE

    return names.where(names != LUMINANCE)


def _stacked(parts: list[pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    rows = [record for part in parts for record in part.to_dict("records")]
    return pd.DataFrame(rows, columns=parts[0].columns)


def _named_in_order(stack: RDMs, names: tuple[str, ...], n_failed: int, name: str) -> RDMs:
    """Give measured rows the names of the images, refusing another number or missing images."""
    from imgtofmri.rsa import RDMs

    if n_failed or len(stack.conditions) != len(names):
        message = (
            f"rsa: with --in-order {name} must have one row for each image; got "
            f"{len(stack.conditions)} rows for {len(names)} images, {n_failed} having "
            "failed. Give the images that were shown, all of them."
        )
        raise DataError(message)
    return RDMs(stack.dissimilarities, names, stack.names, stack.measure)


def _draw(compared: dict[str, GeometryComparison], stem: Path) -> None:
    from imgtofmri.analyses.rsa.figures import plot_comparison
    from imgtofmri.encoder.controls import ENCODER
    from imgtofmri.figures.style import save_figure

    controls = {name: result for name, result in compared.items() if name != ENCODER}
    save_figure(plot_comparison(compared[ENCODER], controls), stem)


def _report(name: str, compared: dict[str, GeometryComparison]) -> None:
    """Print one line for each model, its controls beside it."""
    from imgtofmri.encoder.controls import ENCODER

    result = compared[ENCODER]
    ceiling = result.ceiling
    bounds = f"; ceiling {ceiling.lower:.3f} to {ceiling.upper:.3f}" if ceiling else ""
    typer.echo(f"{name}: {len(result.subjects)} measured, {result.method}{bounds}")
    for row in result.table.to_dict("records"):
        typer.echo(f"  {row['model']:<10} {row['mean']:+.3f}  p_max = {row['p_max']:.4f}")
    for model, control in compared.items():
        if model != ENCODER:
            means = zip(control.models, control.table["mean"], strict=True)
            values = ", ".join(
                f"{mean:+.3f}" if roi == model else f"{roi} {mean:+.3f}" for roi, mean in means
            )
            typer.echo(f"  control {model}: {values}")
