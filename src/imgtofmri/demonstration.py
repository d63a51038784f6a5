"""The published samples, predicted and shown on a page: what ``imgtofmri demo`` makes."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from imgtofmri.assets import atomic_path
from imgtofmri.backbones import load_backbone
from imgtofmri.encoder import Encoder, load_encoder
from imgtofmri.exceptions import WeightsUnavailableError
from imgtofmri.outputs import NiftiLayout, RunRecord, predict_images, run_settings
from imgtofmri.pipeline import RunSettings
from imgtofmri.plotting.brains import plot_response
from imgtofmri.progress import track
from imgtofmri.reference import extract_samples, reference_wheel
from imgtofmri.stimuli import Frame, find_sources, read_movie

DEFAULT_BACKBONE, OFFLINE_BACKBONE = "resnet18", "efficientnet-lite0"
MOVIE_RATE_HZ = 2.0
PICTURE_SIZE = 448


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What a demonstration made.

    Attributes
    ----------
    page : Path
        The HTML page.
    n_stimuli : int
    """

    page: Path
    n_stimuli: int


def make_demonstration(
    folder: Path,
    backbone: str | None = None,
    weights: str | Path | None = None,
    say: Callable[[str], None] = lambda _: None,
    progress: bool = True,
) -> Demonstration:
    """Predict the sample photographs and film frames of the published wheel, and show them.

    Parameters
    ----------
    folder : Path
        Where to write; what an earlier demonstration left there is replaced.
    backbone, weights : optional
        As for `Encoder.predict`. By default ResNet-18 if its weights can be had, else the network
        that works offline, which is said.
    say : callable
        Called with lines for the user.
    progress : bool
        Whether to report progress on standard error.

    Returns
    -------
    Demonstration
    """
    encoder = load_encoder(progress=progress)
    if backbone is None and weights is None:
        backbone = _reachable_backbone(say, progress)
    settings: RunSettings = {"backbone": backbone, "weights": weights}
    note = _network_note(encoder, settings)
    stimuli = folder / "stimuli"
    samples = extract_samples(reference_wheel(progress), stimuli)
    frames = [_save_frame(frame, stimuli) for movie in samples[-1:] for frame in _frames(movie)]
    sources, _ = find_sources([*samples[:-1], *frames])
    record = RunRecord.start(
        folder, run_settings(encoder, settings, False, "nifti"), overwrite=True
    )
    summary = predict_images(encoder, sources, record, NiftiLayout(), settings, progress=progress)
    record.finish("complete")
    names = summary.done
    pictures = {source.name: source.path for source in sources}
    with track("Drawing", len(names), "figures", enabled=progress) as advance:
        for name in names:
            _draw(folder, name, pictures[name], note)
            advance(1)
    page = folder / "index.html"
    with atomic_path(page) as temporary:
        temporary.write_text(_page(encoder, names, note), encoding="utf-8")
    return Demonstration(page, len(names))


def _reachable_backbone(say: Callable[[str], None], progress: bool) -> str:
    try:
        load_backbone(DEFAULT_BACKBONE, progress=progress)
    except WeightsUnavailableError:
        say(
            "the weights of ResNet-18 cannot be had from here; using EfficientNet-Lite0, whose "
            "features estimate ResNet-18's: the predictions are approximate"
        )
        return OFFLINE_BACKBONE
    return DEFAULT_BACKBONE


def _network_note(encoder: Encoder, settings: RunSettings) -> str:
    spec = encoder.backbone(settings.get("backbone"), settings.get("weights")).spec
    verified = "" if spec.weights_verified else ", not the published weights"
    note = f"network: {spec.id} ({spec.weights_name}{verified})"
    return f"{note}; {spec.note}" if spec.note else note


def _frames(movie: Path) -> list[Frame]:
    return list(read_movie(movie, rate_hz=MOVIE_RATE_HZ))


def _save_frame(frame: Frame, folder: Path) -> Path:
    """Keep a film frame as a picture that can be shown, and predicted like any other."""
    from PIL import Image

    path = folder / f"{frame.name}.png"
    with atomic_path(path) as temporary:
        Image.fromarray(frame.pixels).save(temporary, format="PNG")
    return path


def _draw(folder: Path, name: str, picture: Path, note: str) -> None:
    import nibabel as nib

    image = nib.Nifti1Image.from_filename(folder / NiftiLayout().volume(name))
    plot_response(folder / "figures" / f"{name}.png", _pixels(picture), image, name, note)


def _pixels(path: Path) -> npt.NDArray[np.uint8]:
    from PIL import Image

    with Image.open(path) as picture:
        picture.thumbnail((PICTURE_SIZE, PICTURE_SIZE))
        return np.asarray(picture.convert("RGB"))


def _page(encoder: Encoder, names: Sequence[str], note: str) -> str:
    figures = "\n".join(
        f'<figure><img src="figures/{html.escape(name)}.png" '
        f'alt="{html.escape(name)} and its predicted response on a glass brain">'
        f'<figcaption>{html.escape(name)} · <a href="{html.escape(NiftiLayout().volume(name))}">'
        "NIfTI volume</a></figcaption></figure>"
        for name in names
    )
    citations = "".join(f"<li>{html.escape(text)}</li>" for text in encoder.card["citation"])
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>imgtofmri: predicted responses</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; }}
figure {{ margin: 2rem 0; }}
img {{ width: 100%; }}
figcaption, .note {{ color: #555; font-size: 14px; }}
</style>
<h1>Predicted responses of visual cortex</h1>
<p>The group-level response of {len(encoder.subjects)} people's {", ".join(encoder.rois)} to each
picture, predicted, not measured; in standard deviations over the voxels of the group mask, in
{encoder.bundle.space} space. Red is above the mean of the mask, blue below it.</p>
<p class="note">{html.escape(note)}.
Settings and digests: <a href="predictions.json">predictions.json</a>.</p>
{figures}
<h2>Please cite</h2>
<ul>{citations}</ul>
</html>
"""
