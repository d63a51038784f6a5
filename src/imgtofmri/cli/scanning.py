"""Options that say what is shown and how it is scanned, for what simulates and what plans."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.files import is_file

if TYPE_CHECKING:
    from imgtofmri.experiments import Noise, Scan

TrS = Annotated[float, typer.Option("--tr-s", help="Repetition time, in seconds.")]
Stimuli = Annotated[
    Path | None,
    typer.Option("--stimuli", metavar="FOLDER", help="Where the tables' stim_file starts."),
]
NVolumes = Annotated[
    int | None,
    typer.Option("--n-volumes", help="Length of a run; by default to 16 s after its events."),
]
Hrf = Annotated[
    str,
    typer.Option(
        "--hrf",
        metavar="gam|glover|spm|FILE",
        help="Haemodynamic response; a file holds seconds and response in two columns.",
    ),
]
SliceTimeRef = Annotated[
    float,
    typer.Option("--slice-time-ref", help="Where in its TR a volume samples: 0 start, 0.5 middle."),
]
Ar1 = Annotated[float, typer.Option("--ar1", help="Lag-1 autocorrelation of the AR(1) noise.")]
Ar1Share = Annotated[
    float, typer.Option("--ar1-share", help="AR(1)'s share of the noise variance.")
]
DriftShare = Annotated[
    float, typer.Option("--drift-share", help="Slow drift's share of it; the rest is white.")
]
DriftCutoffS = Annotated[
    float, typer.Option("--drift-cutoff-s", help="Shortest period of the drift, in seconds.")
]
NoiseFwhmMm = Annotated[
    float,
    typer.Option(
        "--noise-fwhm-mm", help="Smoothness of the noise in space; 0: voxels are independent."
    ),
]
Scale = Annotated[
    str,
    typer.Option(
        "--scale",
        metavar="PERCENT[:CONTRAST:ROI]",
        help="Size of signals: '1:place - object:PPA' makes that contrast 1 percent of the "
        "baseline there; a number alone is the percent of one model unit.",
    ),
]

# The step at which a haemodynamic response from a file is sampled, in seconds.
_KERNEL_STEP_S = 0.05


def scan_of(
    tr_s: float,
    hrf: str,
    slice_time_ref: float,
    noise: Noise | None,
    baseline: float = 100.0,
) -> Scan:
    """Return the scan that options describe; ``hrf`` may be a file."""
    from imgtofmri.experiments import Scan, read_kernel
    from imgtofmri.timeseries import HRF_NAMES

    in_file = hrf not in HRF_NAMES and is_file(hrf)
    return Scan(
        tr_s,
        hrf=read_kernel(hrf, _KERNEL_STEP_S) if in_file else hrf,
        hrf_step_s=_KERNEL_STEP_S,
        slice_time_ref=slice_time_ref,
        baseline=baseline,
        noise=noise,
    )
