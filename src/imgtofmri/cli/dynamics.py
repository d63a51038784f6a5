"""``imgtofmri dynamics``: a movie's predicted dynamics, against measured ones if there are any."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imgtofmri.cli import options
from imgtofmri.cli.report import make_page
from imgtofmri.cli.say import say
from imgtofmri.exceptions import OptionError

if TYPE_CHECKING:
    from imgtofmri.analyses.dynamics import DynamicsAnalysis
    from imgtofmri.encoder import Settings


@options.takes_settings(default_average="mean")
def dynamics(
    *,
    movie: Annotated[Path, typer.Argument(metavar="MOVIE", help="The movie that was shown.")],
    output: options.Output,
    measured: Annotated[
        list[str] | None,
        typer.Option(
            "--measured",
            "-m",
            metavar="partly-cloudy|FILE",
            help="Measured responses: a public data set, one .npz of save_measured, or 4-D NIfTI "
            "files in template space, one for each subject (repeat). Without any, what is "
            "predicted is written.",
        ),
    ] = None,
    confounds: Annotated[
        list[Path] | None,
        typer.Option("--confounds", metavar="TSV", help="One for each NIfTI file, in its order."),
    ] = None,
    tr_s: Annotated[
        float | None,
        typer.Option("--tr-s", help="Repetition time in seconds; by default the files', or 2."),
    ] = None,
    boundaries: Annotated[
        str | None,
        typer.Option(
            "--boundaries",
            metavar="LIST|FILE|METHOD",
            help="Volumes at which events begin, counted from 0 after trimming: 12,26,44 or a text "
            "file of them; partly-cloudy; or found in the measured group, or in the prediction "
            "where nothing was measured (gsbs by default): hmm, gsbs, hmm:14, gsbs:14, optimal:14.",
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
        str | None,
        typer.Option(
            "--hrf",
            metavar="gam|glover|spm",
            help="Haemodynamic response; glover by default, gam with --resample original.",
        ),
    ] = None,
    resample: Annotated[
        str,
        typer.Option(
            "--resample",
            metavar="interp|nearest|original",
            help="Frames to volumes; original is the published analysis, mistakes and all.",
        ),
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
        float | None,
        typer.Option(
            "--cutoff-s",
            help="Longest period kept, in seconds; 0 keeps all. 128 by default, 120 with "
            "--resample original.",
        ),
    ] = None,
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
    min_lag_s: Annotated[
        float,
        typer.Option(
            "--min-lag-s",
            help="Leave out pairs of volumes nearer than this, in seconds: 12 leaves out what one "
            "haemodynamic response joins.",
        ),
    ] = 0.0,
    keep_lag_means: Annotated[
        bool | None,
        typer.Option(
            "--keep-lag-means/--remove-lag-means",
            help="Leave in what all pairs of volumes equally far apart have in common, as "
            "published; agreement is not tested then. Removed by default, but with --resample "
            "original.",
        ),
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
    n_surrogates: Annotated[
        int,
        typer.Option(
            "--n-surrogates",
            help="Surrogates of each model, for p: as many with random phases, as many shifted.",
        ),
    ] = 1000,
    n_brains: Annotated[
        int, typer.Option("--n-brains", help="Bootstrap samples of people, for intervals.")
    ] = 100,
    n_resamples: Annotated[
        int, typer.Option("--n-resamples", help="Samples of boundaries for each of those.")
    ] = 10,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of all random draws.")] = 0,
    report: options.Report = True,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Predict a movie's dynamics and compare them with measured ones, region by region.

    Frames are predicted, convolved with a haemodynamic response, sampled at the volumes and
    filtered. Without measured responses: time courses, similarities of all pairs of volumes, and
    event boundaries of what is predicted. With them, these similarities are compared with the
    measured ones, over the movie and around event boundaries, beside baselines; p is against
    surrogates of the models, intervals are over people. Writes figures (PNG and SVG), the table
    behind each (TSV), summary.tsv and dynamics.json.

    **Examples**

    imgtofmri dynamics film.mp4 -o dynamics/

    imgtofmri dynamics partly_cloudy.mp4 --measured partly-cloudy -o dynamics/

    imgtofmri dynamics film.mp4 --measured sub-01_bold.nii.gz --measured sub-02_bold.nii.gz
    --measured sub-03_bold.nii.gz --boundaries hmm:12 --baseline luminance --baseline motion
    -o dynamics/
    """
    from imgtofmri.analyses.dynamics import (
        RunSettings,
        compare_movie,
        predict_dynamics,
        save_dynamics,
    )
    from imgtofmri.outputs import OutputFolder

    folder = OutputFolder.of(output, "dynamics", overwrite=overwrite)
    shared: dict[str, Any] = {
        "baselines": [name for name in baseline or ["luminance"] if name != "none"],
        "features": _parse_features(features or []),
        "rate_hz": rate_hz,
        "run": RunSettings(
            hrf=hrf,
            resample=resample,  # type: ignore[arg-type]
            slice_time_ref=slice_time_ref,
            movie_start_s=movie_start_s,
            cutoff_s=cutoff_s,
            n_volumes=n_volumes,
            skip_volumes=skip_volumes,
        ),
        "seed": seed,
        "progress": not quiet,
        "settings": settings,
    }
    if not measured:
        of_comparison = {
            "confounds": confounds,
            "band": band,
            "min_lag_s": min_lag_s,
            "keep_lag_means": keep_lag_means,
            "window": window,
            "exclusion": exclusion,
            "n_surrogates": n_surrogates,
            "n_brains": n_brains,
            "n_resamples": n_resamples,
        }
        why = "goes with measured responses; got none. Name them with --measured, or leave it out."
        options.refuse_idle(dynamics, of_comparison, why)
        own = {"boundaries": boundaries, "tr_s": tr_s}
        shared |= {name: value for name, value in own.items() if value is not None}
        predicted = predict_dynamics(encoder, movie, **shared)
        files = save_dynamics(predicted, folder)
        for roi, starts in predicted.boundaries.items():
            say(f"{roi}: {len(starts) + 1} events predicted")
    else:
        result = compare_movie(
            encoder,
            movie,
            measured,
            confounds=confounds,
            tr_s=tr_s,
            boundaries=boundaries,
            band=band,
            min_lag_s=min_lag_s,
            keep_lag_means=keep_lag_means,
            window=_parse_window(window),
            exclusion=exclusion,
            n_surrogates=n_surrogates,
            n_brains=n_brains,
            n_resamples=n_resamples,
            **shared,
        )
        files = save_dynamics(result, folder)
        for line in _lines(result):
            say(line)
    say(f"{len(files)} files written: {output}", err=True)
    make_page(output, report)


def _lines(result: DynamicsAnalysis) -> Iterator[str]:
    """Say what was found, a region a line."""
    from imgtofmri.analyses.dynamics.comparison import LEAST_FOR_INTERVAL

    first = result.regions[0]
    for region in result.regions:
        parts = []
        for name, value, p in zip(region.names, region.mean_agreement, region.mean_p, strict=True):
            tested = "" if math.isnan(p) else f" (p = {p:.2g})"
            parts.append(f"{name} {value:.3f}{tested}")
        yield f"{region.roi}: mean agreement r: {', '.join(parts)}"
    if not first.is_tested:
        yield "not tested: near volumes are alike in any film where the means at each lag are kept"
    if not first.brains.shape[1]:
        yield (
            f"no interval over people: {first.n_subjects} are too few, {LEAST_FOR_INTERVAL} are "
            "needed"
        )


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
