"""``imgtofmri dynamics``: a movie's predicted dynamics against measured ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.report import make_page
from imgtofmri.exceptions import OptionError

if TYPE_CHECKING:
    from imgtofmri.encoder import Settings


@options.takes_settings()
def dynamics(
    *,
    movie: Annotated[Path, typer.Argument(metavar="MOVIE", help="The movie that was shown.")],
    measured: Annotated[
        list[str],
        typer.Option(
            "--measured",
            "-m",
            metavar="partly-cloudy|FILE",
            help="Measured responses: a public data set, one .npz of save_measured, or 4-D NIfTI "
            "files in template space, one for each subject (repeat).",
        ),
    ],
    output: options.Output,
    confounds: Annotated[
        list[Path] | None,
        typer.Option("--confounds", metavar="TSV", help="One for each NIfTI file, in its order."),
    ] = None,
    tr_s: Annotated[
        float | None,
        typer.Option("--tr-s", help="Repetition time in seconds; by default the files'."),
    ] = None,
    boundaries: Annotated[
        str | None,
        typer.Option(
            "--boundaries",
            metavar="LIST|FILE|METHOD",
            help="Volumes at which events begin, counted from 0 after trimming: 12,26,44 or a text "
            "file of them; partly-cloudy; or found in the measured group: hmm, gsbs, hmm:14, "
            "gsbs:14, optimal:14.",
        ),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            "--baseline",
            metavar="luminance|motion|untrained|none",
            help="What frames alone predict; repeat for several. luminance (luma: of the values "
            "as stored) by default.",
        ),
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            "--features",
            metavar="NAME=FILE.npy",
            help="A model of yours: features of the same frames, (n_frames, n_features).",
        ),
    ] = None,
    rate_hz: options.RateHz = 2.0,
    settings: Settings,
    encoder: options.EncoderId = "bold5000-resnet18",
    hrf: Annotated[
        str, typer.Option("--hrf", metavar="gam|glover|spm", help="Haemodynamic response.")
    ] = "gam",
    resample: Annotated[
        str,
        typer.Option("--resample", metavar="interp|nearest|original", help="Frames to volumes."),
    ] = "interp",
    slice_time_ref: Annotated[
        float | None,
        typer.Option(
            "--slice-time-ref",
            help="Where in its TR a volume samples: 0 start, 0.5 middle; by default as the "
            "measured files' sidecars say.",
        ),
    ] = None,
    movie_start_s: Annotated[
        float, typer.Option("--movie-start-s", help="When the movie starts in the run, in seconds.")
    ] = 0.0,
    cutoff_s: Annotated[
        float, typer.Option("--cutoff-s", help="Longest period kept, in seconds; 0 keeps all.")
    ] = 128.0,
    n_volumes: Annotated[
        int | None, typer.Option("--n-volumes", help="Use so many volumes, from the run's start.")
    ] = None,
    skip_volumes: Annotated[
        int | None,
        typer.Option(
            "--skip-volumes", help="Drop so many at the start; 10 for partly-cloudy, else 0."
        ),
    ] = None,
    band: Annotated[
        int | None,
        typer.Option("--band", help="Compare volumes at most so far apart; by default all."),
    ] = None,
    window: Annotated[
        str, typer.Option("--window", metavar="FIRST:LAST", help="Volumes around a boundary.")
    ] = "-5:10",
    exclusion: Annotated[
        int,
        typer.Option(
            "--exclusion", help="Skip volumes so near to another boundary; -1 skips none."
        ),
    ] = 2,
    n_brains: Annotated[
        int, typer.Option("--n-brains", help="Bootstrap samples of subjects.")
    ] = 100,
    n_resamples: Annotated[
        int, typer.Option("--n-resamples", help="Samples of boundaries for each of those.")
    ] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of all random draws.")] = 0,
    report: options.Report = True,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Compare a movie's predicted dynamics with measured ones, region by region.

    Frames are predicted, convolved with a haemodynamic response, sampled at the volumes and
    filtered; the similarity of all pairs of volumes is compared with the measured one, over the
    movie and around event boundaries, beside baselines. Writes figures (PNG and SVG), the table
    behind each (TSV), summary.tsv and dynamics.json.

    **Examples**

    imgtofmri dynamics partly_cloudy.mp4 --measured partly-cloudy -o dynamics/

    imgtofmri dynamics film.mp4 --measured sub-01_bold.nii.gz --measured sub-02_bold.nii.gz
    --boundaries hmm:12 --baseline luminance --baseline motion -o dynamics/
    """
    from imgtofmri.analyses.dynamics import RunSettings, compare_movie, save_dynamics
    from imgtofmri.outputs import OutputFolder

    folder = OutputFolder(output, "dynamics")
    folder.claim(overwrite=overwrite)
    result = compare_movie(
        encoder,
        movie,
        measured,
        confounds=confounds,
        tr_s=tr_s,
        boundaries=boundaries,
        baselines=[name for name in baseline or ["luminance"] if name != "none"],
        features=_parse_features(features or []),
        rate_hz=rate_hz,
        run=RunSettings(
            hrf=hrf,
            resample=resample,  # type: ignore[arg-type]
            slice_time_ref=slice_time_ref,
            movie_start_s=movie_start_s,
            cutoff_s=cutoff_s or None,
            n_volumes=n_volumes,
            skip_volumes=skip_volumes,
        ),
        band=band,
        window=_parse_window(window),
        exclusion=exclusion,
        n_brains=n_brains,
        n_resamples=n_resamples,
        seed=seed,
        progress=not quiet,
        settings=settings,
    )
    files = save_dynamics(result, folder)
    for region in result.regions:
        pairs = zip(region.models, region.mean_agreement, strict=True)
        values = ", ".join(f"{name} {value:.3f}" for name, value in pairs)
        typer.echo(f"{region.roi}: mean agreement r: {values}")
    typer.echo(f"{len(files)} files written: {output}", err=True)
    make_page(output, report)


def _parse_window(text: str) -> tuple[int, int]:
    """Read the window around boundaries, FIRST:LAST."""
    first, colon, last = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return int(first), int(last)
    except ValueError:
        message = (
            f"window must be FIRST:LAST in volumes; got {text!r}. Give for example --window=-5:10."
        )
        raise OptionError(message, "window") from None


def _parse_features(given: list[str]) -> dict[str, Path]:
    """Read NAME=FILE.npy."""
    found = {}
    for entry in given:
        name, equals, file = entry.partition("=")
        if not (name and equals and file):
            message = (
                f"features must be NAME=FILE.npy; got {entry!r}. Give for example --features "
                "gist=gist.npy."
            )
            raise OptionError(message, "features")
        if name in found:
            message = f"features must have names of their own; got {name} twice. Rename one."
            raise OptionError(message, "features")
        found[name] = Path(file)
    return found
