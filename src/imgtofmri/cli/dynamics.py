"""``imgtofmri dynamics``: a movie's predicted dynamics against measured ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.exceptions import DataError, OptionError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgtofmri.encoder import Settings
    from imgtofmri.encoder.spatial import SpatialModel
    from imgtofmri.measured.movie import MeasuredMovie

PARTLY_CLOUDY = "partly-cloudy"
METHODS = ("hmm", "gsbs", "optimal")


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
        typer.Option("--tr-s", help="Repetition time in seconds; by default the header's."),
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
    baselines: Annotated[
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
        float,
        typer.Option(
            "--slice-time-ref", help="Where in its TR a volume samples: 0 start, 0.5 middle."
        ),
    ] = 0.0,
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
    from imgtofmri.analyses.dynamics import (
        BASELINES,
        ScanSettings,
        analyse_movie,
        check_movie_length,
        filter_measured,
        find_boundaries,
        movie_models,
    )
    from imgtofmri.analyses.dynamics.files import RECORD_NAME, write_dynamics
    from imgtofmri.encoder import load_encoder
    from imgtofmri.events import boundary_windows
    from imgtofmri.exceptions import choice_message
    from imgtofmri.stimuli import Movie, check_rate
    from imgtofmri.timeseries import HRF_NAMES, RESAMPLINGS

    if (output / RECORD_NAME).exists() and not overwrite:
        message = (
            f"dynamics: {output} must not hold an earlier comparison; got {RECORD_NAME} there. "
            "Name another folder, or give --overwrite."
        )
        raise OptionError(message)
    public = measured == [PARTLY_CLOUDY]
    chosen = [name for name in baselines or ["luminance"] if name != "none"]
    for name in chosen:
        if name not in BASELINES:
            raise OptionError(choice_message("dynamics", "--baseline", name, [*BASELINES, "none"]))
    if hrf not in HRF_NAMES:
        raise OptionError(choice_message("dynamics", "--hrf", hrf, HRF_NAMES))
    if resample not in RESAMPLINGS:
        raise OptionError(choice_message("dynamics", "--resample", resample, RESAMPLINGS))
    check_rate(rate_hz)
    for option, value, least in (
        ("--n-brains", n_brains, 1),
        ("--n-resamples", n_resamples, 1),
        ("--exclusion", exclusion, -1),
        ("--band", band, 3),
    ):
        if value is not None and value < least:
            message = f"dynamics: {option} must be {least} or more; got {value}. Leave it out."
            raise OptionError(message)
    starts, n_events = _parse_boundaries(boundaries or (PARTLY_CLOUDY if public else None))
    extra = _read_features(features or [])
    lags = _parse_window(window)
    loaded = load_encoder(encoder, progress=not quiet)
    film = Movie(movie)
    n_frames = film.n_frames(rate_hz)
    spatial = loaded.spatial_model(settings)
    brains = _load_measured(
        measured, spatial, loaded.bundle.template.affine, confounds, tr_s, cutoff_s or None, quiet
    )
    scan = ScanSettings(
        tr_s=brains.tr_s,
        hrf=hrf,
        resample=resample,  # type: ignore[arg-type]
        slice_time_ref=slice_time_ref,
        movie_start_s=movie_start_s,
        cutoff_s=cutoff_s or None,
        n_volumes=n_volumes,
        skip_volumes=_skip(skip_volumes, public),
    )
    if brains.n_subjects < 2:
        message = (
            "dynamics: measured responses of 2 subjects or more are needed; got "
            f"{brains.n_subjects}. Limits and p values come from drawing subjects anew."
        )
        raise DataError(message)
    volumes = filter_measured(brains.data, scan)
    if isinstance(starts, str):
        starts = find_boundaries(volumes.mean(axis=0), starts, n_events=n_events).tolist()
    if starts is not None:
        boundary_windows(volumes.shape[1], starts, window=lags, exclusion=exclusion)
    if n_frames is not None:
        check_movie_length(n_frames, rate_hz, brains.data.shape[1], scan)
    # The movie takes longest: all that can be refused without it has been.
    models = movie_models(
        loaded,
        film,
        baselines=chosen,
        rate_hz=rate_hz,
        untrained_seed=seed,
        progress=not quiet,
        settings=settings,
    )
    analysis = analyse_movie(
        models,
        brains,
        settings=scan,
        extra=extra,
        boundaries=starts,
        band=band,
        window=lags,
        exclusion=exclusion,
        n_brains=n_brains,
        n_resamples=n_resamples,
        seed=seed,
    )
    record = {
        **models.made_with,
        "measured": [Path(name).name for name in measured],
        "rate_hz": rate_hz,
        "sigma_mm": settings.sigma_mm,
        "mask": settings.mask,
        "average": settings.average,
        "center_crop": models.prediction.settings.center_crop,
        "boundaries_from": boundaries or (PARTLY_CLOUDY if public else None),
        "band": band,
        "window": list(lags),
        "exclusion": exclusion,
        "n_boundary_samples": n_resamples,
        "seed": seed,
    }
    files = write_dynamics(analysis, output, record=record)
    for region in analysis.regions:
        pairs = zip(region.models, region.mean_agreement, strict=True)
        values = ", ".join(f"{name} {value:.3f}" for name, value in pairs)
        typer.echo(f"{region.roi}: mean agreement r: {values}")
    typer.echo(f"{len(files)} files written: {output}", err=True)


def _skip(skip_volumes: int | None, public: bool) -> int:
    """Return how many volumes to drop: as asked for, else as the data set was published."""
    from imgtofmri.datasets.partly_cloudy import PARTLY_CLOUDY_SKIP_VOLUMES

    if skip_volumes is not None:
        return skip_volumes
    return PARTLY_CLOUDY_SKIP_VOLUMES if public else 0


def _parse_boundaries(text: str | None) -> tuple[Sequence[int] | str | None, int | None]:
    """Read boundaries: a list, a file, a data set's name, or how to find them."""
    from imgtofmri.datasets.partly_cloudy import PARTLY_CLOUDY_BOUNDARIES

    if text is None:
        return None, None
    if text == PARTLY_CLOUDY:
        return PARTLY_CLOUDY_BOUNDARIES, None
    method, _, number = text.partition(":")
    if method in METHODS:
        if number and not number.isdecimal():
            message = (
                f"dynamics: --boundaries {method}:N needs a number of events; got {number!r}. "
                f"Give for example {method}:14."
            )
            raise OptionError(message)
        return method, int(number) if number else None
    path = Path(text)
    is_list = all(_is_whole(part.strip()) for part in text.split(","))
    if not is_list and not path.is_file():
        message = (
            "dynamics: --boundaries must be volumes separated by commas, a file of them, "
            f"{PARTLY_CLOUDY}, or {', '.join(METHODS)}; got {text!r}, which is none of these. "
            "See that the file is there."
        )
        raise OptionError(message)
    content = text if is_list else path.read_text(encoding="utf-8", errors="replace")
    parts = content.replace(",", " ").split()
    if not all(map(_is_whole, parts)):
        message = (
            f"dynamics: {text} must hold volumes, whole numbers separated by commas or lines; got "
            f"{next(part for part in parts if not _is_whole(part))!r}. "
            "Divide times in seconds by the TR and round them."
        )
        raise OptionError(message)
    return [int(part) for part in parts], None


def _is_whole(text: str) -> bool:
    """Return whether a text is a whole number."""
    return text.removeprefix("-").isdecimal()


def _parse_window(text: str) -> tuple[int, int]:
    """Read the window around boundaries, FIRST:LAST."""
    first, colon, last = text.partition(":")
    try:
        if not colon:
            raise ValueError
        return int(first), int(last)
    except ValueError:
        message = (
            f"dynamics: --window must be FIRST:LAST in volumes; got {text!r}. "
            "Give for example --window=-5:10."
        )
        raise OptionError(message) from None


def _read_features(given: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    """Read features of the user's from NAME=FILE.npy."""
    import numpy as np

    found = {}
    for entry in given:
        name, equals, file = entry.partition("=")
        if not (name and equals and file):
            message = (
                f"dynamics: --features must be NAME=FILE.npy; got {entry!r}. "
                "Give for example --features gist=gist.npy."
            )
            raise OptionError(message)
        if name in found:
            message = (
                f"dynamics: --features must have names of their own; got {name} twice. Rename one."
            )
            raise OptionError(message)
        try:
            with Path(file).open("rb") as stream:
                values = np.lib.format.read_array(stream, allow_pickle=False)
            found[name] = values.astype(np.float32)
        except (OSError, ValueError, EOFError) as error:
            message = (
                f"dynamics: --features {name}: {file} must be an .npy file of numbers; got one "
                f"that cannot be read ({error}). Write it with numpy.save."
            )
            raise DataError(message) from error
    return found


def _load_measured(
    given: Sequence[str],
    spatial: SpatialModel,
    affine: NDArray[np.float64],
    confounds: Sequence[Path] | None,
    tr_s: float | None,
    cutoff_s: float | None,
    quiet: bool,
) -> MeasuredMovie:
    """Load measured responses in the voxels of the prediction's ROIs."""
    import numpy as np

    from imgtofmri.datasets.partly_cloudy import fetch_partly_cloudy
    from imgtofmri.measured.movie import read_measured
    from imgtofmri.measured.runs import read_runs

    if len(given) == 1 and given[0].endswith(".npz"):
        if confounds or tr_s is not None:
            message = (
                f"dynamics: --confounds and --tr-s go with NIfTI files; got them with {given[0]}, "
                "which is cleaned and has a TR. Leave them out."
            )
            raise OptionError(message)
        return read_measured(given[0])
    masks: dict[str, NDArray[np.bool_]] = {}
    for (roi, _), voxels in spatial.roi_masks.items():
        volume = masks.setdefault(roi, np.zeros(spatial.mask.shape, dtype=bool))
        volume[spatial.mask] |= voxels
    if list(given) == [PARTLY_CLOUDY]:
        return fetch_partly_cloudy(masks, affine, cutoff_s=cutoff_s, progress=not quiet)
    return read_runs(
        given,
        masks,
        affine,
        confounds=confounds,
        tr_s=tr_s,
        cutoff_s=cutoff_s,
        progress=not quiet,
    )
