"""``imgtofmri simulate``: an events table or a movie to simulated BOLD runs, as a BIDS dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from imgtofmri.cli import options
from imgtofmri.exceptions import OptionError, choice_message

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from imgtofmri.analyses.simulate import Run, Scan
    from imgtofmri.backbones import FeatureExtractor
    from imgtofmri.encoder import Settings
    from imgtofmri.stimuli import Movie

VOXELS = ("brain", "predicted")
# The step at which a haemodynamic response from a file is sampled, in seconds.
KERNEL_STEP_S = 0.05


@options.takes_settings(average="mean")
def simulate(
    *,
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT", help="Events tables (one a run), or one movie."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the new dataset.")],
    tr_s: Annotated[float, typer.Option("--tr-s", help="Repetition time, in seconds.")],
    stimuli: Annotated[
        Path | None,
        typer.Option("--stimuli", metavar="FOLDER", help="Where the tables' stim_file starts."),
    ] = None,
    n_volumes: Annotated[
        int | None,
        typer.Option("--n-volumes", help="Length of a run; by default to 16 s after its events."),
    ] = None,
    subjects: Annotated[
        str,
        typer.Option(
            metavar="each|group|N",
            help="The encoder's subjects, their mean, or N new ones that differ as they do.",
        ),
    ] = "each",
    runs: Annotated[int, typer.Option("--runs", help="Repeat each run, with noise anew.")] = 1,
    hrf: Annotated[
        str,
        typer.Option(
            "--hrf",
            metavar="gam|glover|spm|FILE",
            help="Haemodynamic response; a file holds seconds and response in two columns.",
        ),
    ] = "glover",
    slice_time_ref: Annotated[
        float,
        typer.Option(
            "--slice-time-ref", help="Where in its TR a volume samples: 0 start, 0.5 middle."
        ),
    ] = 0.0,
    tsnr: Annotated[
        float | None,
        typer.Option("--tsnr", help="Add noise of this temporal SNR (mean / standard deviation)."),
    ] = None,
    ar1: Annotated[
        float, typer.Option("--ar1", help="Lag-1 autocorrelation of the AR(1) noise.")
    ] = 0.4,
    ar1_share: Annotated[
        float, typer.Option("--ar1-share", help="AR(1)'s share of the noise variance.")
    ] = 0.5,
    drift_share: Annotated[
        float, typer.Option("--drift-share", help="Slow drift's share of it; the rest is white.")
    ] = 0.1,
    drift_cutoff_s: Annotated[
        float, typer.Option("--drift-cutoff-s", help="Shortest period of the drift, in seconds.")
    ] = 128.0,
    noise_fwhm_mm: Annotated[
        float,
        typer.Option(
            "--noise-fwhm-mm", help="Smoothness of the noise in space; 0: voxels are independent."
        ),
    ] = 0.0,
    seed: Annotated[int, typer.Option("--seed", help="Seed of noise and of drawn subjects.")] = 0,
    baseline: Annotated[
        float, typer.Option("--baseline", help="Value of a voxel at rest.")
    ] = 100.0,
    peak_percent: Annotated[
        float,
        typer.Option(
            "--peak-percent", help="Scale signals so that the strong ones reach this, in percent."
        ),
    ] = 2.0,
    percent_per_unit: Annotated[
        float | None,
        typer.Option(
            "--percent-per-unit",
            help="Instead: percent of signal change for a response of 1 in the models' units.",
        ),
    ] = None,
    voxels: Annotated[
        str,
        typer.Option(
            "--voxels", metavar="brain|predicted", help="Which voxels have a baseline and noise."
        ),
    ] = "brain",
    dtype: Annotated[
        str, typer.Option("--dtype", metavar="float32|int16", help="How volumes are stored.")
    ] = "float32",
    task: Annotated[
        str, typer.Option("--task", help="The task's label: letters and digits.")
    ] = "simulation",
    copy_stimuli: Annotated[
        bool, typer.Option(help="Copy the stimuli into the dataset, as BIDS wants it.")
    ] = True,
    rate_hz: options.RateHz = 2.0,
    settings: Settings,
    encoder: options.EncoderId = "bold5000-resnet18",
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> int:
    """Simulate the BOLD runs of an experiment, as a BIDS dataset in the encoder's space.

    An events table is BIDS's: tab-separated, with the columns onset, duration (seconds) and
    stim_file, and amplitude or modulation if responses shall be scaled. Each table is a run.
    Nothing is at OUTPUT until all is written; nilearn's first_level_from_bids takes it as it is.

    **Examples**

    imgtofmri simulate events.tsv --stimuli photos/ --tr-s 2 --tsnr 60 -o sim/

    imgtofmri simulate run1.tsv run2.tsv --stimuli photos/ --tr-s 1.5 --subjects 20 -o sim/

    imgtofmri simulate film.mp4 --tr-s 2 --hrf gam --voxels predicted -o sim/
    """
    from imgtofmri.analyses.simulate import (
        Noise,
        Scan,
        check_storage,
        encoded_subjects,
        percent_per_unit_for,
        read_kernel,
        subject_weights,
        write_dataset,
    )
    from imgtofmri.analyses.simulate.noise import check_positive, check_seed
    from imgtofmri.analyses.simulate.responses import check_subjects
    from imgtofmri.encoder import load_encoder
    from imgtofmri.outputs.staging import check_target
    from imgtofmri.spaces import brain_mask
    from imgtofmri.timeseries import HRF_NAMES

    _check_choices(voxels, runs)
    chosen = int(subjects) if subjects.isdecimal() else subjects
    check_subjects(chosen)
    check_seed(seed)
    check_storage(task, dtype)
    kernel = hrf if hrf in HRF_NAMES or not Path(hrf).is_file() else read_kernel(hrf, KERNEL_STEP_S)
    noise = None
    if noise_fwhm_mm and tsnr is None:
        message = (
            "simulate: --noise-fwhm-mm goes with --tsnr, which adds the noise; got it alone. "
            "Give for example --tsnr 60."
        )
        raise OptionError(message)
    if tsnr is not None:
        noise = Noise(tsnr, ar1, ar1_share, drift_share, drift_cutoff_s, noise_fwhm_mm)
    scan = Scan(
        tr_s,
        hrf=kernel,
        hrf_step_s=KERNEL_STEP_S,
        slice_time_ref=slice_time_ref,
        baseline=baseline,
        percent_per_unit=1.0 if percent_per_unit is None else percent_per_unit,
        noise=noise,
    )
    check_positive("simulate", "peak_percent", peak_percent)
    check_target(output, overwrite=overwrite)
    experiment = _read_experiment(inputs, stimuli, scan, n_volumes)
    loaded = load_encoder(encoder, progress=not quiet)
    predictor = loaded.predictor(settings)
    spatial = predictor.spatial
    source = predictor.provenance.to_dict()
    shares = subject_weights(spatial.subject_names, chosen, seed=seed)
    features, planned = _encode(
        experiment, predictor.extractor, scan, n_volumes, rate_hz, not quiet
    )
    responses = encoded_subjects(spatial, features, shares)
    if percent_per_unit is None:
        shown = [(run.events, run.n_volumes) for run in planned]
        unit = percent_per_unit_for(peak_percent, responses.values(), shown, scan)
        scan = replace(scan, percent_per_unit=unit)
    template, space = loaded.bundle.template, loaded.bundle.space
    write_dataset(
        output,
        responses,
        planned * runs,
        scan,
        mask=spatial.mask,
        affine=template.affine,
        brain=brain_mask(template.shape, template.affine, space) if voxels == "brain" else None,
        task=task,
        space=space,
        seed=seed,
        dtype=cast("Literal['float32', 'int16']", dtype),
        stimuli=experiment.files if copy_stimuli else None,
        source=source,
        overwrite=overwrite,
        progress=not quiet,
    )
    counts = f"runs: {len(planned) * runs * len(responses)}, subjects: {len(responses)}"
    typer.echo(f"simulated ({counts}): {output}", err=True)
    return 0


@dataclass(frozen=True)
class _Experiment:
    """What shall be shown: stimuli by name, with the runs that show them, or a movie."""

    files: Mapping[str, Path]
    runs: tuple[Run, ...] = ()
    movie: Movie | None = None


def _check_choices(voxels: str, runs: int) -> None:
    if voxels not in VOXELS:
        raise OptionError(choice_message("simulate", "--voxels", voxels, VOXELS))
    if runs < 1:
        message = f"simulate: --runs must be 1 or more; got {runs}. Leave it out for one."
        raise OptionError(message)


def _read_experiment(
    inputs: Sequence[Path], stimuli: Path | None, scan: Scan, n_volumes: int | None
) -> _Experiment:
    """Read and check the tables, or say which movie it is, before anything is loaded."""
    from imgtofmri.analyses.simulate import (
        check_length,
        check_run,
        find_stimuli,
        read_events,
        run_of_table,
    )
    from imgtofmri.stimuli import Movie, suffix_kind

    movies = [path for path in inputs if suffix_kind(path) == "movie"]
    if movies:
        if len(inputs) > 1 or stimuli is not None:
            message = (
                "simulate: INPUT must be events tables with --stimuli FOLDER, or one movie alone; "
                f"got the movie {movies[0]} and more. Simulate them one at a time."
            )
            raise OptionError(message)
        movie = Movie(movies[0])
        _ = movie.info  # Refuses what is no movie.
        return _Experiment({movie.path.name: movie.path}, movie=movie)
    if stimuli is None:
        message = (
            "simulate: events tables need --stimuli FOLDER, from which their stim_file starts; got "
            "none. Name the folder of the images."
        )
        raise OptionError(message)
    tables = [read_events(path) for path in inputs]
    files = find_stimuli(tables, stimuli)
    index = {name: row for row, name in enumerate(files)}
    runs = tuple(run_of_table(table, index, scan.tr_s, n_volumes) for table in tables)
    for table, run in zip(tables, runs, strict=True):
        name = f"events file {table.path}"
        check_length(run, name)
        check_run(run.events, scan, run.n_volumes, name=name, lines=table.shown_lines)
    return _Experiment(files, runs)


def _encode(
    experiment: _Experiment,
    extractor: FeatureExtractor,
    scan: Scan,
    n_volumes: int | None,
    rate_hz: float,
    progress: bool,
) -> tuple[NDArray[np.float32], list[Run]]:
    """Return the features of what is shown, and the runs that show it."""
    from imgtofmri.analyses.simulate import encode_images, encode_movie, run_of_movie

    if experiment.movie is None:
        features = encode_images(extractor, list(experiment.files.values()), progress=progress)
        return features, list(experiment.runs)
    movie = experiment.movie
    features, events = encode_movie(extractor, movie, rate_hz, progress=progress)
    return features, [run_of_movie(events, movie.path.name, scan.tr_s, n_volumes)]
