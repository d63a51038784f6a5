"""``imgtofmri rsa``: predicted and measured representational geometry compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.codes import report_failures

if TYPE_CHECKING:
    from imgtofmri.analyses.rsa import ModelComparison
    from imgtofmri.encoder import Settings


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
    from imgtofmri.analyses.rsa import (
        check_measures,
        compare_geometry,
        read_matrices,
        save_geometry,
    )
    from imgtofmri.encoder import load_encoder
    from imgtofmri.encoder.controls import ENCODER, check_controls
    from imgtofmri.outputs import OutputFolder
    from imgtofmri.stimuli import find_images

    check_measures(dissimilarity, comparison)
    check_controls(control)
    folder = OutputFolder(output, "rsa")
    folder.claim(overwrite=overwrite)
    matrices = read_matrices(measured or (), key=key, descriptor=descriptor)
    sources, failures = find_images(inputs)
    loaded = load_encoder(encoder, progress=not quiet)
    controls = loaded.controls(control or (), settings)
    own = loaded.predict(sources, settings, on_failure=failures.append, progress=not quiet)
    shown = [source for source in sources if source.name in own.names]
    result = compare_geometry(
        own,
        matrices,
        controls=controls.predict(shown, progress=not quiet),
        failures=failures,
        in_order=in_order,
        dissimilarity=dissimilarity,
        comparison=comparison,
        n_permutations=permutations,
        n_bootstraps=bootstraps,
        seed=seed,
    )
    for name, compared in result.compared.items():
        _report(name, compared)
    save_geometry(result, folder)
    n_models = len(result.models[ENCODER].names)
    typer.echo(f"{n_models} models of {len(own)} images: {output}", err=True)
    return report_failures(failures, len(own))


def _report(name: str, compared: Mapping[str, ModelComparison]) -> None:
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
