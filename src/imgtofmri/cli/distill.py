"""``imgtofmri distill``: a network learns to stand in for an encoder's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imgtofmri.cli import options
from imgtofmri.cli.codes import report_failures
from imgtofmri.cli.say import say
from imgtofmri.exceptions import OptionError, choice_message


def distill(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="IMAGE", help="Unlabelled images: files, folders or globs."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The head's file (.safetensors).")],
    student: Annotated[
        str, typer.Option("--student", metavar="NAME", help="The network that learns.")
    ] = "efficientnet-lite0",
    layers: Annotated[
        list[str] | None,
        typer.Option(
            "--layer",
            metavar="LAYER",
            help="A layer of the student's, or LAYER/sd; repeat for several. All by default.",
        ),
    ] = None,
    encoder: options.EncoderId = "bold5000-resnet18",
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="Weights of the encoder's own network. By default those that IMGTOFMRI_WEIGHTS "
            "names, else the published ones.",
        ),
    ] = None,
    student_weights: Annotated[
        Path | None,
        typer.Option("--student-weights", metavar="FILE", help="Weights of the student."),
    ] = None,
    engine: options.Engine = "onnxruntime",
    precision: options.Precision = None,
    views: Annotated[
        int, typer.Option("--views", min=1, help="Views of each image: whole, mirrored, parts.")
    ] = 8,
    penalty: Annotated[float, typer.Option("--penalty", help="Ridge penalty.")] = 20_000.0,
    rank: Annotated[
        int | None, typer.Option("--rank", help="Components to keep, for a smaller file.")
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Seed of the split and of the views.")
    ] = 0,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> int:
    """Teach a network to stand in for an encoder's own, on images without responses.

    The encoder's network labels the images; the student learns to estimate its features. A fifth of
    the images is held out: the agreement of group maps on them is printed, and kept on the head's
    card. Use the head with `--backbone HEAD.safetensors` wherever images are predicted.

    **Examples**

    imgtofmri distill photos/ -o head.safetensors

    imgtofmri predict new/ -o out/ --backbone head.safetensors
    """
    from imgtofmri.backbones import load_backbone, write_head
    from imgtofmri.backbones.architectures import ARCHITECTURES
    from imgtofmri.backbones.names import PUBLISHED
    from imgtofmri.distillation import distil_head
    from imgtofmri.encoder import load_encoder
    from imgtofmri.files import claim_file, write_or_keep
    from imgtofmri.stimuli import find_images

    if student not in ARCHITECTURES:
        message = choice_message("", "student", student, ARCHITECTURES)
        message += " Heads are for the package's own networks."
        raise OptionError(message, "student")
    if output.suffix != ".safetensors":
        message = f"output must end in .safetensors, as a head's file; got {output}. Rename it."
        raise OptionError(message, "output")
    claim_file(output, overwrite=overwrite)
    images, failures = find_images(inputs)
    names = layers or list(ARCHITECTURES[student].layers)
    taught = load_backbone(
        student,
        weights=student_weights or PUBLISHED,
        layers=names,
        progress=not quiet,
        engine=engine,
        precision=precision,
    )
    head = distil_head(
        load_encoder(encoder, progress=not quiet),
        taught,
        images,
        weights=weights,
        engine=engine,
        precision=precision,
        n_views=views,
        penalty=penalty,
        rank=rank,
        seed=seed,
        on_failure=failures.append,
        progress=not quiet,
    )
    write_or_keep(lambda path: write_head(head, path), output)
    for name, r in head.card["fidelity"].items():
        say(f"{name.replace('_', ' ')}: {r:.3f}")
    say(f"head: {output}")
    return report_failures(failures, head.card["n_images"])
