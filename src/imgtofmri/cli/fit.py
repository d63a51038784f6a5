"""``imgtofmri fit``: an encoder of your own, from a study file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.say import say

if TYPE_CHECKING:
    from imgtofmri.training.study import Study


def fit(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study file, in TOML.")],
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
        bool,
        typer.Option("--check", help="Only open what would be read, and say what files hold."),
    ] = False,
    overwrite: options.Overwrite = False,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Keep features on disk for the next fit.")
    ] = True,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="ENGINE", help="numpy, or torch where it is installed. Default: the study's."
        ),
    ] = None,
    network_engine: options.StudyEngine = None,
    network_precision: Annotated[
        str | None,
        typer.Option(metavar="fp32|bf16|fp16", help="Of the network's engine."),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="DEVICE",
            help="Of the engine torch: cpu, cuda, cuda:1. Default: the study's, or the best.",
        ),
    ] = None,
    quiet: options.Quiet = False,
) -> None:
    """Fit an encoder to stimuli and measured responses, and report how well it does.

    The study file names stimuli, responses, ROI masks, the way to the template, the network and the
    penalties. What it writes goes into `predict --encoder FILE` like the published encoder.

    **Examples**

    imgtofmri fit study.toml --check

    imgtofmri fit study.toml -o my-encoder.safetensors

    imgtofmri fit bold5000.toml --fetch

    imgtofmri fit study.toml --engine torch --device cuda
    """
    from imgtofmri.training.study import read_study

    described = _with_engine(read_study(study), engine, device)
    if network_engine is not None or network_precision is not None:
        described = _with_network_engine(described, network_engine, network_precision)
    target = output or Path(f"{described.id}.safetensors")
    if check:
        names = ", ".join(subject.name for subject in described.subjects)
        say(f"{study}: a valid study of {len(described.subjects)} subjects ({names})")
        _check(described, quiet=quiet)
        return

    from imgtofmri.backbones import features_folder
    from imgtofmri.bundle import write_bundle
    from imgtofmri.encoder import load_encoder
    from imgtofmri.encoder.description import accuracy_lines
    from imgtofmri.files import claim_file, write_or_keep
    from imgtofmri.training import fetch_downloads, fit_study

    claim_file(target, overwrite=overwrite)
    if fetch:
        fetch_downloads(described, progress=not quiet)
    bundle = fit_study(
        described,
        lambda name: load_encoder(name, progress=not quiet).bundle,
        progress=not quiet,
        cache=features_folder() if cache else None,
        target=target,
    )
    write_or_keep(lambda path: write_bundle(bundle, path), target)
    for line in accuracy_lines(bundle):
        say(line)
    say(f"written {target}")


def _check(study: Study, *, quiet: bool) -> None:
    """Print what each file holds; refuse the study if one cannot be used."""
    from imgtofmri.encoder import load_encoder
    from imgtofmri.exceptions import DataError
    from imgtofmri.training import check_files

    lines: dict[str, None] = {}
    wrong: dict[str, None] = {}
    for report in check_files(study, lambda name: load_encoder(name, progress=not quiet).bundle):
        said = "still to be fetched" if report.is_awaited else report.found
        line = f"  {report.what}: {said or 'cannot be used'}"
        if line not in lines:
            say(line)
        lines[line] = None
        if report.problem:
            wrong[report.problem] = None
    if wrong:
        first, *others = wrong
        for problem in others:
            say(f"imgtofmri: {problem}", err=True)
        raise DataError(first)


def _with_network_engine(study: Study, engine: str | None, precision: str | None) -> Study:
    """Return the study with another engine of its network, whose options have names of their own.

    Raises
    ------
    OptionError
        Of ``network_engine`` and ``network_precision``: ``engine`` is what fits.
    """
    from imgtofmri.exceptions import OptionError

    try:
        return study.on_engine(engine or study.backbone.engine, precision)
    except OptionError as error:
        message = f"network_{error}".replace("`engine`", "`network_engine`")
        raise OptionError(message, f"network_{error.option}") from error


def _with_engine(study: Study, engine: str | None, device: str | None) -> Study:
    """Return the study with another engine, or another device of its engine."""
    from dataclasses import replace

    from imgtofmri.exceptions import OptionError
    from imgtofmri.regression import engine_problem

    said = study.fit
    # Another engine than the study's does not know the study's device.
    kept = said.device if engine in (None, said.engine) else None
    chosen = replace(said, engine=engine or said.engine, device=device or kept)
    problem = engine_problem(chosen.engine, chosen.device)
    if problem:
        raise OptionError(problem, problem.partition(" ")[0])
    return replace(study, fit=chosen)
