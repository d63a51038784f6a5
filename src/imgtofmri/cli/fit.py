"""``imgtofmri fit``: an encoder of your own, from a study file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.cli.options import Quiet

if TYPE_CHECKING:
    from imgtofmri.bundle import Bundle


def fit(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study file: .toml or .yaml.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to write the encoder. Default: the study's id, here.",
        ),
    ] = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="First fetch the downloads that the study names.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only check the study file; load and fit nothing.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Keep features on disk for the next fit.")
    ] = True,
    quiet: Quiet = False,
) -> None:
    """Fit an encoder to stimuli and measured responses, and report how well it does.

    The study file names stimuli, responses, ROI masks, the way to the template, the network and the
    penalties. What it writes goes into `predict --encoder FILE` like the published encoder.

    **Examples**

    imgtofmri fit study.toml --check

    imgtofmri fit study.toml -o my-encoder.safetensors

    imgtofmri fit bold5000.toml --fetch
    """
    from imgtofmri.exceptions import OutputError
    from imgtofmri.study import read_study

    described = read_study(study)
    target = output or Path(f"{described.id}.safetensors")
    if target.exists() and not (overwrite or check):
        message = f"fit: {target} exists already. Give another -o, or --overwrite to replace it."
        raise OutputError(message)
    if check:
        names = ", ".join(subject.name for subject in described.subjects)
        typer.echo(f"{study}: a valid study of {len(described.subjects)} subjects ({names})")
        return

    from imgtofmri.bundle import write_bundle
    from imgtofmri.encoder import load_encoder
    from imgtofmri.features import features_folder
    from imgtofmri.training import fetch_downloads, fit_study

    if fetch:
        fetch_downloads(described, progress=not quiet)
    bundle = fit_study(
        described,
        lambda name: load_encoder(name, progress=not quiet).bundle,
        progress=not quiet,
        cache=features_folder() if cache else None,
    )
    write_bundle(bundle, target)
    for line in accuracy_lines(bundle):
        typer.echo(line)
    typer.echo(f"written {target}")


def accuracy_lines(bundle: Bundle) -> list[str]:
    """Return a fitted bundle's accuracy by subject and ROI as lines of text.

    Parameters
    ----------
    bundle : Bundle
        As `imgtofmri.training.fit_study` returns it.

    Returns
    -------
    list of str
        A table of voxels, median cross-validated r, median noise ceiling and penalty; empty for a
        bundle that does not record them.
    """
    models = bundle.card.get("fit", {}).get("models", {})
    rows = []
    for subject, rois in models.items():
        for roi, said in rois.items():
            ceiling = said.get("noise_ceiling")
            alphas = said["alpha"]
            rows.append(
                (
                    subject,
                    roi,
                    str(said["n_voxels"]),
                    f"{said['cv_r']['median']:.3f}",
                    f"{ceiling['median']:.3f}" if ceiling else "-",
                    f"{alphas[0]:g}" if len(alphas) == 1 else f"{alphas[0]:g} to {alphas[-1]:g}",
                )
            )
    if not rows:
        return []
    header = ("subject", "roi", "voxels", "cv r", "ceiling r", "penalty")
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in (header, *rows)
    ]
