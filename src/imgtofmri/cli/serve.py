"""``imgtofmri serve``: predictions in a browser."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.say import say

if TYPE_CHECKING:
    from imgtofmri.encoder import Encoder, Settings


@options.takes_settings()
def serve(
    *,
    host: Annotated[
        str,
        typer.Option(
            "--host", metavar="HOST", help="Where to listen; by default for this computer only."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", metavar="PORT", help="0 takes any that is free.")
    ] = 8000,
    show: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the page in your browser.")
    ] = False,
    max_mb: Annotated[
        float, typer.Option("--max-mb", metavar="MB", help="Most that one job may send.")
    ] = 200.0,
    max_files: Annotated[
        int, typer.Option("--max-files", metavar="N", help="Most images and movies in one job.")
    ] = 200,
    max_megapixels: Annotated[
        float, typer.Option("--max-megapixels", metavar="MP", help="Largest picture.")
    ] = 50.0,
    max_minutes: Annotated[
        float, typer.Option("--max-minutes", metavar="MIN", help="Longest movie.")
    ] = 10.0,
    queue: Annotated[
        int,
        typer.Option("--queue", metavar="N", help="Most jobs that run and wait."),
    ] = 8,
    keep_minutes: Annotated[
        float,
        typer.Option(
            "--keep-minutes", metavar="MIN", help="Remove results that nobody asked for so long."
        ),
    ] = 30.0,
    settings: Settings,
    encoder: options.EncoderId = options.ENCODER_ID,
    quiet: options.Quiet = False,
) -> None:
    """Predict in a browser: drop, paste or pick images or a movie on a page of this computer.

    The page shows progress, the maps, the means of ROIs and any comparison, and gives the NIfTI
    volumes, tables and report to keep. Under it is a JSON interface: POST files to /predict, follow
    /jobs/ID/events, take /jobs/ID/results.zip; /api describes it, /openapi.json in OpenAPI.

    Only this computer is answered, and only its own page, unless --host says otherwise. What is
    sent and made lies in a private temporary folder, and is removed when it expires and at the
    end. --rois, --average and other settings are those of jobs that ask for no others.

    **Examples**

    imgtofmri serve --open

    imgtofmri serve --backbone efficientnet-lite0 --port 0

    imgtofmri serve --encoder my-encoder.safetensors --average mean --max-mb 500

    curl -F files=@horse.jpg http://127.0.0.1:8000/predict
    """
    from imgtofmri.serve import Limits
    from imgtofmri.serve import serve as serve_encoder

    limits = Limits(
        max_mb=max_mb,
        max_files=max_files,
        max_megapixels=max_megapixels,
        max_minutes=max_minutes,
        queue=queue,
        keep_minutes=keep_minutes,
    )

    def load() -> Encoder:
        from imgtofmri.encoder import load_encoder

        return load_encoder(encoder, progress=not quiet)

    def tell(line: str) -> None:
        if not quiet or line.startswith("serving"):
            say(line, err=True)

    serve_encoder(
        load,
        settings,
        host=host,
        port=port,
        limits=limits,
        show=show,
        say=tell,
    )
