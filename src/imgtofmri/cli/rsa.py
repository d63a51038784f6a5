"""``imgtofmri rsa``: predicted and measured representational geometry compared."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, cast, get_args

import typer

from imgtofmri.cli import options
from imgtofmri.cli.codes import report_failures
from imgtofmri.cli.report import make_page
from imgtofmri.cli.say import say

if TYPE_CHECKING:
    from imgtofmri.analyses.rsa import GeometryComparison, ModelComparison
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
    unmatched: options.Unmatched = "error",
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
        int, typer.Option("--bootstraps", min=1, help="Resamples of people and images.")
    ] = 1000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of both.")] = 0,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            metavar="NETWORK/LAYER[@HxW]",
            help="A further model: any layer of any network, averaged over the blocks of a grid, "
            "such as resnet18/layer2@7x7; repeatable.",
        ),
    ] = None,
    control: options.Control = None,
    settings: Settings,
    encoder: options.EncoderId = "bold5000-resnet18",
    report: options.Report = True,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> int:
    """Compare the geometry of predicted patterns with measured ones, ROI by ROI.

    Each ROI's prediction is a model of each set of measured matrices, judged beside the noise
    ceiling of the measured subjects. Without --measured the models are written and drawn.
    --model puts a layer of a network beside the ROIs; --control an untrained network's models, or
    what is in the pictures themselves: luminance, Gabor energy, the outline of a figure.

    **Examples**

    imgtofmri rsa photos/ -o out/ --measured subjects.npz

    imgtofmri rsa photos/ -o out/ -m PPA=ppa.h5 -m LOC=loc.h5 --comparison kendall

    imgtofmri rsa photos/ -o out/ -m subjects.npz --control untrained --control energy

    imgtofmri rsa photos/ -o out/ -m subjects.npz --model resnet18/layer2@7x7
    """
    from imgtofmri.analyses.rsa import (
        check_layers,
        check_measures,
        compare_geometry,
        layer_models,
        read_matrices,
        save_geometry,
    )
    from imgtofmri.encoder import load_encoder
    from imgtofmri.encoder.controls import check_controls
    from imgtofmri.exceptions import check_choice
    from imgtofmri.measured.patterns import Missing
    from imgtofmri.outputs import OutputFolder
    from imgtofmri.stimuli import find_images

    check_measures(dissimilarity, comparison)
    check_choice("unmatched", unmatched, get_args(Missing))
    check_controls(control)
    check_layers(model)
    if not measured:
        of_comparison = {
            "comparison": comparison,
            "in_order": in_order,
            "unmatched": unmatched,
            "descriptor": descriptor,
            "key": key,
            "permutations": permutations,
            "bootstraps": bootstraps,
        }
        why = "goes with measured matrices; got none. Name them with `measured`, or leave it out."
        options.refuse_idle(rsa, of_comparison, why)
    folder = OutputFolder.of(output, "rsa", overwrite=overwrite)
    matrices = read_matrices(measured or (), key=key, descriptor=descriptor)
    sources, failures = find_images(inputs)
    loaded = load_encoder(encoder, progress=not quiet)
    controls = loaded.controls(control or (), settings)
    layers = layer_models(
        model,
        weights=settings.weights,
        weights_of=str(settings.backbone or loaded.card["features"].get("backbone")),
        controls=control or (),
        center_crop=bool(loaded.settings(settings).center_crop),
        engine=settings.engine,
        precision=settings.precision,
    )
    own = loaded.predict(sources, settings, on_failure=failures.append, progress=not quiet)
    shown = [source for source in sources if source.name in own.names]
    result = compare_geometry(
        own,
        matrices,
        layers=layers.predict(shown, progress=not quiet),
        controls=controls.predict(shown, progress=not quiet),
        failures=failures,
        in_order=in_order,
        unmatched=cast("Missing", unmatched),
        dissimilarity=dissimilarity,
        comparison=comparison,
        n_permutations=permutations,
        n_bootstraps=bootstraps,
        seed=seed,
    )
    _report(result)
    save_geometry(result, folder)
    n_models = sum(len(of.names) for name, of in result.models.items() if result.is_model(name))
    say(f"{n_models} models of {len(own)} images: {output}", err=True)
    code = report_failures(failures, len(own))
    make_page(output, report)
    return code


def _report(result: GeometryComparison) -> None:
    """Print what each set's ceiling is, and a line for each model, its controls below."""
    from imgtofmri.encoder.controls import ENCODER

    table = result.tables()["rsa"]
    for name, compared in result.compared.items():
        say(_heading(name, compared[ENCODER]))
        rows = table[table["measured"] == name].to_dict("records")
        labels = [_label(row, result.is_model(row["model"])) for row in rows]
        width = max(map(len, labels))
        # Models first: a layer's untrained twin stands beside it in the tables.
        lines = zip(labels, rows, strict=True)
        for label, row in sorted(lines, key=lambda line: not result.is_model(line[1]["model"])):
            say(f"  {label:<{width}} {_line(row)}")


def _heading(name: str, compared: ModelComparison) -> str:
    """Say what was measured and how high its ceiling is."""
    n_people = len(compared.subjects)
    row = compared.table.iloc[0]
    people = "1 person" if n_people == 1 else f"{n_people} people"
    said = f"{name}: {people}, {row['n_conditions']} images, {compared.method}; "
    if compared.ceiling is None:
        return said + "no ceiling, and intervals over images alone, as there is one person"
    lower = (
        f"{row['ceiling_lower']:.3f} [{row['ceiling_ci_low']:.3f}, {row['ceiling_ci_high']:.3f}]"
    )
    said += f"ceiling {lower} to {row['ceiling_upper']:.3f}"
    if not compared.ceiling_is_reliable:
        said += "; UNRELIABLE, as the lower bound is not above chance: no share of it is given"
    return said


def _label(row: Mapping[Hashable, Any], is_model: bool) -> str:
    """Call a row by its ROI, or by its model where that is of none."""
    import pandas as pd

    of_none = pd.isna(row["roi"])
    if is_model:
        return str(row["model"] if of_none else row["roi"])
    return f"control {row['model']}" + ("" if of_none else f" {row['roi']}")


def _line(row: Mapping[Hashable, Any]) -> str:
    """Say how good a model is: its score, its share of the ceiling, its best control."""
    import pandas as pd

    said = f"{row['score']:+.3f} [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}]"
    if not pd.isna(row["share_of_ceiling"]):
        said += f"  {100 * row['share_of_ceiling']:.0f} % of the ceiling"
        p = row["p_below_ceiling"]
        said += f" (p below it {'< 0.0001' if p < 1e-4 else f'= {p:.4f}'})"
    if not pd.isna(row["best_control"]):
        said += f"  best control {row['best_control']} {row['best_control_score']:+.3f}"
    return said
