"""The published samples, predicted and shown on a page: what ``imgtofmri demo`` makes."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from imgtofmri.analyses.predict import predict_images
from imgtofmri.backbones import BackboneSpec, load_backbone
from imgtofmri.encoder import Encoder, load_encoder
from imgtofmri.encoder.reference import extract_samples, reference_wheel
from imgtofmri.exceptions import WeightsUnavailableError
from imgtofmri.figures.brains import plot_response, robust_maximum
from imgtofmri.files import atomic_path
from imgtofmri.outputs import NiftiLayout, OutputFolder
from imgtofmri.progress import track
from imgtofmri.stimuli import Frame, Movie, find_sources

if TYPE_CHECKING:
    import nibabel as nib

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
    output = OutputFolder(folder, "demo", "predictions.json")
    output.claim(overwrite=True)
    encoder = load_encoder(progress=progress)
    if backbone is None and weights is None:
        backbone = _reachable_backbone(say, progress)
    predictor = encoder.predictor(backbone=backbone, weights=weights)
    note = _network_note(predictor.extractor.network.spec)
    stimuli = folder / "stimuli"
    samples = extract_samples(reference_wheel(progress), stimuli)
    frames = [_save_frame(frame, stimuli) for movie in samples[-1:] for frame in _frames(movie)]
    sources, _ = find_sources([*samples[:-1], *frames])
    with output.begin({}, predictor.provenance.to_dict()):
        names = predict_images(predictor, sources, output, NiftiLayout(), progress=progress).done
    titles = _titles(names, frames, samples[-1].name)
    pictures = {source.name: source.path for source in sources}
    vmax = max(robust_maximum(_volume(folder, name)) for name in names)
    with track("Drawing", len(names), "figures", enabled=progress) as advance:
        for name, title in titles.items():
            path = folder / "figures" / f"{name}.png"
            image = _volume(folder, name)
            plot_response(path, _pixels(pictures[name]), image, title, note, vmax=vmax)
            advance(1)
    page = folder / "index.html"
    with atomic_path(page) as temporary:
        temporary.write_text(_page(encoder, titles, len(frames), note), encoding="utf-8")
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


def _network_note(spec: BackboneSpec) -> str:
    verified = "" if spec.weights_verified else ", not the published weights"
    note = f"network: {spec.id} ({spec.weights_name}{verified})"
    return f"{note}; {spec.note}" if spec.note else note


def _frames(movie: Path) -> list[Frame]:
    return list(Movie(movie).frames(MOVIE_RATE_HZ))


def _save_frame(frame: Frame, folder: Path) -> Path:
    """Keep a film frame as a picture that can be shown, and predicted like any other."""
    from PIL import Image

    path = folder / f"{frame.name}.png"
    with atomic_path(path) as temporary:
        Image.fromarray(frame.pixels).save(temporary, format="PNG")
    return path


def _titles(names: Sequence[str], frames: Sequence[Path], movie: str) -> dict[str, str]:
    """Return what people read for each stimulus; frames of the film are told by their time."""
    shown = {path.name: f"{movie} at {i / MOVIE_RATE_HZ:.1f} s" for i, path in enumerate(frames)}
    return {name: shown.get(name, name) for name in names}


def _volume(folder: Path, name: str) -> nib.Nifti1Image:
    import nibabel as nib

    return nib.Nifti1Image.from_filename(folder / NiftiLayout().volume(name))


def _pixels(path: Path) -> npt.NDArray[np.uint8]:
    from PIL import Image

    with Image.open(path) as picture:
        picture.thumbnail((PICTURE_SIZE, PICTURE_SIZE))
        return np.asarray(picture.convert("RGB"))


def _page(encoder: Encoder, titles: dict[str, str], n_frames: int, note: str) -> str:
    figures = [_figure(name, title) for name, title in titles.items()]
    photographs = "\n".join(figures[: len(figures) - n_frames])
    film = "\n".join(figures[len(figures) - n_frames :])
    citations = "".join(f"<li>{html.escape(text)}</li>" for text in encoder.card["citation"])
    said = [
        str(encoder.card[key]) for key in ("accuracy", "trust", "limits") if key in encoder.card
    ]
    good = "\n".join(f"<p>{html.escape(text)}</p>" for text in said)
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>imgtofmri: predicted responses</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto;
  padding: 0 1rem; color: #222; }}
h2 {{ margin-top: 3rem; }}
figure {{ margin: 1.5rem 0; }}
img {{ width: 100%; height: auto; }}
figcaption, .note {{ color: #555; font-size: 14px; }}
</style>
<h1>Predicted responses of visual cortex</h1>
<p>Each picture beside the fMRI response to it that the encoding model
{html.escape(encoder.card["id"])} predicts for a group of {len(encoder.subjects)} people, in the
regions {html.escape(", ".join(encoder.rois))}. These are predictions, not
measurements.</p>
<p>Brains are seen from the left, from behind, from the right and from above, in
{html.escape(encoder.bundle.space)} space. Colours are standard deviations over the voxels of the
group mask, on one scale for all figures: red is above the mask's mean, blue below it. They tell
where a response is high, not how high.</p>
<p class="note">{html.escape(note[:1].upper() + note[1:])}.
Settings and digests: <a href="predictions.json">predictions.json</a>.</p>
<h2>Photographs</h2>
{photographs}
<h2>A film, {MOVIE_RATE_HZ:g} frames a second</h2>
{film}
<h2>How good is it?</h2>
{good}
<h2>Please cite</h2>
<ul>{citations}</ul>
</html>
"""


def _figure(name: str, title: str) -> str:
    picture, volume = html.escape(f"figures/{name}.png"), html.escape(NiftiLayout().volume(name))
    return (
        f'<figure><img src="{picture}" width="1200" height="348" loading="lazy" '
        f'alt="{html.escape(title)} and its predicted response on a glass brain">'
        f'<figcaption>{html.escape(title)} · <a href="{volume}">NIfTI volume</a></figcaption>'
        "</figure>"
    )
