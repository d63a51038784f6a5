"""``imgtofmri merge``: check and close what the tasks of a job array made."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.codes import report_failures
from imgtofmri.cli.say import say


def merge(
    *,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where predict --shard wrote to.")
    ],
    quiet: options.Quiet = False,
) -> int:
    """Check all that the tasks of a job array made, and write the record of their run.

    Each shard of FOLDER/predictions.zarr is read and compared with its digests. Where some are
    missing or damaged they are named, with the command that makes them, and nothing is written.
    Otherwise predictions.json says what was made of what, as after any other run; inputs that could
    not be used are named.

    **Examples**

    imgtofmri merge out/
    """
    from imgtofmri.analyses.predict import merge_shards

    summary = merge_shards(folder, progress=not quiet)
    code = report_failures(summary.failures, len(summary.kept))
    failed = f", {len(summary.failures)} failed (named above)" if summary.failures else ""
    say(f"{len(summary.kept)} stimuli are there and whole{failed}: {folder}", err=True)
    return code
