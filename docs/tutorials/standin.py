"""Generated data in the layouts of the published archives, so that the tutorials run anywhere.

Nothing here was measured. Pictures are drawings; responses are what an encoder predicts to them,
plus noise. Whatever a tutorial finds in them was put there.

- What predicts: `find_encoder`, `find_network`
- What is shown: `find_samples`, `draw`, `write_film`
- What stands for measurements: `write_twinset`, `write_partly_cloudy`, `write_bold5000`
- How figures and tables are shown: `marked`, `tabled`
"""

from __future__ import annotations

import colorsys
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from imgtofmri import Bundle, Encoder, load_backbone, load_encoder
from imgtofmri.backbones import UnverifiedWeightsWarning
from imgtofmri.bundle import RoiModel, SubjectModel
from imgtofmri.datasets.partly_cloudy import PARTLY_CLOUDY_BOUNDARIES
from imgtofmri.datasets.twinset import CATEGORIES, STIMULUS_FOLDER
from imgtofmri.encoder.reference import CARD, SUBJECTS, extract_samples, reference_wheel
from imgtofmri.exceptions import AssetError, WeightsUnavailableError
from imgtofmri.outputs import VolumeWriter
from imgtofmri.spaces import MNI152_2MM, Grid, affine_map, transform, voxel_coordinates
from imgtofmri.timeseries import convolve, hrf, remove_mean, sample_to_volumes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure
    from pandas.io.formats.style import Styler

    from imgtofmri.backbones import Backbone

SIDE = 160
"""Of a drawing, in pixels."""

FRAME_STEP_S, N_FRAMES, N_VOLUMES, TR_S = 0.5, 691, 168, 2.0
"""Partly Cloudy as the published analysis took it: frames of the film, volumes of the run."""

VOLUMES_APART = 8
"""Volume k of the published prediction is set against k + 8 of the run: 2 and 10 are dropped."""

PEAK_S = 4.7
"""When the haemodynamic response to a frame is largest."""

CENTRES_MM = {
    "EarlyVis": (10, -92, 0),
    "OPA": (34, -82, 20),
    "LOC": (44, -74, -6),
    "RSC": (16, -54, 12),
    "PPA": (26, -44, -12),
}
"""Roughly where the right ROIs lie, for an encoder that is generated."""


def find_encoder() -> tuple[Encoder, str]:
    """Return the published encoder, or a generated one where its wheel cannot be had.

    Returns
    -------
    encoder : Encoder
    said : str
        Which it is.
    """
    try:
        return load_encoder(progress=False), "the published encoder, bold5000-resnet18"
    except AssetError:
        said = "a GENERATED encoder of random weights, as the published wheel cannot be had here"
        return Encoder(_generated_bundle()), said


def find_network(
    layers: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> tuple[Backbone, str]:
    """Return the network of the encoder, or the nearest to it that can be had here.

    ResNet-18, with the file that ``IMGTOFMRI_WEIGHTS`` names or the published weights;
    EfficientNet-Lite0, which estimates its features; ResNet-18 with random weights.

    Parameters
    ----------
    layers : dict of str to sequence of str
        Layers to take of each network instead of the encoder's features.

    Returns
    -------
    network : Backbone
    said : str
        Which it is.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UnverifiedWeightsWarning)  # It is said below.
            network = load_backbone(
                "resnet18",
                weights=os.environ.get("IMGTOFMRI_WEIGHTS") or None,
                layers=layers.get("resnet18"),
            )
    except WeightsUnavailableError:
        pass
    else:
        which = "the published weights" if network.spec.weights_verified else "OTHER weights"
        return network, f"ResNet-18 with {which} (SHA-256 {network.spec.weights_sha256[:12]}...)"
    try:
        student = "efficientnet-lite0"
        network = load_backbone(student, layers=layers.get(student))
    except (AssetError, WeightsUnavailableError):
        network = load_backbone("resnet18", weights="untrained:0", layers=layers.get("resnet18"))
        return network, "ResNet-18 with RANDOM weights, as no others can be had here"
    return network, "EfficientNet-Lite0, which ESTIMATES the features of ResNet-18"


def find_samples(folder: Path) -> tuple[list[Path], str]:
    """Write the published package's sample photographs, or drawings, into a folder.

    Returns
    -------
    pictures : list of Path
        Four of them.
    said : str
        Which they are.
    """
    try:
        found = extract_samples(reference_wheel(progress=False), folder)
        photographs = [path for path in found if path.suffix == ".jpg"]
        return photographs, "the published package's sample photographs"
    except AssetError:
        folder.mkdir(parents=True)
        pictures = [folder / f"{kind}.jpg" for kind in ("animals", "scenes", "objects", "people")]
        for number, path in enumerate(pictures):
            draw(path.stem, np.random.default_rng(number)).save(path)
        return pictures, "DRAWINGS, as the sample photographs cannot be had here"


def draw(kind: str, rng: np.random.Generator) -> Image.Image:
    """Draw a picture of a category of Twinset's.

    Parameters
    ----------
    kind : {"animals", "objects", "scenes", "people", "faces"}
    rng : numpy.random.Generator
        Places, sizes and colours are drawn from it.
    """
    picture = _ground(rng, outdoors=kind in ("animals", "scenes", "people"))
    pen = ImageDraw.Draw(picture)
    {
        "animals": _draw_animal,
        "objects": _draw_object,
        "scenes": _draw_scene,
        "people": _draw_person,
        "faces": _draw_face,
    }[kind](pen, rng)
    return _grained(picture, rng)


def _colour(rng: np.random.Generator, value: float = 0.7) -> tuple[int, ...]:
    hue, saturation, light = rng.random(), rng.uniform(0.1, 0.65), value * rng.uniform(0.6, 1.3)
    return tuple(int(255 * c) for c in colorsys.hsv_to_rgb(hue, saturation, min(1.0, light)))


def _ground(rng: np.random.Generator, outdoors: bool) -> Image.Image:
    """Return a sky over a ground, or one plain colour."""
    picture = Image.new("RGB", (SIDE, SIDE), _colour(rng, 0.9))
    if outdoors:
        horizon = int(SIDE * rng.uniform(0.35, 0.65))
        ImageDraw.Draw(picture).rectangle((0, horizon, SIDE, SIDE), fill=_colour(rng, 0.5))
    return picture


def _grained(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Soften edges and add grain, so that nothing is plain."""
    pixels = np.asarray(picture.filter(ImageFilter.GaussianBlur(0.7)), dtype=np.float32)
    grain = rng.normal(0, 7, (SIDE, SIDE, 1))
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


def _oval(x: float, y: float, width: float, height: float) -> tuple[float, ...]:
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2)


def _draw_animal(pen: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    x, y, long = rng.uniform(60, 100), rng.uniform(85, 110), rng.uniform(45, 80)
    tall, fur, facing = long * rng.uniform(0.35, 0.6), _colour(rng, 0.6), rng.choice([-1, 1])
    for step in (-0.4, -0.2, 0.2, 0.4):
        foot = (x + step * long, y, x + step * long + rng.uniform(-5, 5), y + tall)
        pen.line(foot, fill=fur, width=6)
    pen.line((x - facing * long / 2, y, x - facing * long * 0.7, y - tall / 2), fill=fur, width=4)
    pen.ellipse(_oval(x, y, long, tall), fill=fur)
    head_x, head_y, head = x + facing * long / 2, y - tall * 0.6, tall * rng.uniform(0.6, 0.9)
    for side in (-0.35, 0.35):
        pen.ellipse(_oval(head_x + side * head, head_y - head / 2, 7, head * 0.6), fill=fur)
    pen.ellipse(_oval(head_x, head_y, head, head), fill=fur)
    pen.ellipse(_oval(head_x + facing * head / 5, head_y - head / 8, 4, 4), fill=(20, 20, 20))


def _draw_object(pen: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    x, y, size = rng.uniform(65, 95), rng.uniform(65, 95), rng.uniform(35, 60)
    corners, turn = int(rng.integers(3, 9)), rng.uniform(0, 2 * np.pi)
    angles = turn + 2 * np.pi * np.arange(2 * corners) / (2 * corners)
    radii = size * np.where(np.arange(2 * corners) % 2, rng.uniform(0.5, 1), 1)
    points = np.stack([x + radii * np.cos(angles), y + radii * np.sin(angles)], axis=1)
    pen.polygon([tuple(point) for point in points], fill=_colour(rng), outline=_colour(rng, 0.3))
    for _ in range(int(rng.integers(1, 4))):
        part = size * rng.uniform(0.2, 0.7)
        pen.ellipse(_oval(*rng.normal([x, y], 10), part, part), fill=_colour(rng))


def _draw_scene(pen: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    for _ in range(int(rng.integers(2, 6))):
        left, wide, top = rng.uniform(-20, 140), rng.uniform(20, 60), rng.uniform(20, 90)
        wall, pane, foot = _colour(rng, 0.6), _colour(rng), rng.uniform(105, 130)
        if rng.random() < 0.3:
            pen.polygon([(left - wide, foot), (left + wide, foot), (left, top)], fill=wall)
            continue
        pen.rectangle((left, top, left + wide, foot), fill=wall)
        for column in np.arange(left + 5, left + wide - 8, 13):
            for row in np.arange(top + 6, foot - 12, 16):
                pen.rectangle((column, row, column + 6, row + 8), fill=pane)
    middle = rng.uniform(50, 110)
    pen.polygon([(middle - 4, 115), (middle + 4, 115), (130, SIDE), (30, SIDE)], fill=_colour(rng))


def _draw_person(pen: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    x, top, tall = rng.uniform(50, 110), rng.uniform(15, 35), rng.uniform(90, 115)
    skin, coat, cloth = _skin(rng), _colour(rng), _colour(rng, 0.4)
    hips, shoulders = top + 0.58 * tall, top + 0.24 * tall
    for side in (-1, 1):
        foot = (x + side * rng.uniform(4, 20), top + tall)
        pen.line((x + side * 5, hips, *foot), fill=cloth, width=9)
        hand = (x + side * rng.uniform(18, 34), rng.uniform(shoulders, hips))
        pen.line((x + side * 10, shoulders, *hand), fill=coat, width=7)
        pen.ellipse(_oval(*hand, 8, 8), fill=skin)
    pen.rounded_rectangle((x - 13, shoulders - 4, x + 13, hips + 4), 8, fill=coat)
    pen.ellipse(_oval(x, top + 0.1 * tall, 19, 23), fill=skin)


def _draw_face(pen: ImageDraw.ImageDraw, rng: np.random.Generator) -> None:
    x, y, wide = rng.uniform(72, 88), rng.uniform(74, 90), rng.uniform(70, 92)
    skin, hair, tall = _skin(rng), _colour(rng, 0.35), wide * rng.uniform(1.15, 1.4)
    pen.ellipse(_oval(x, y - tall * 0.12, wide * 1.15, tall), fill=hair)
    pen.ellipse(_oval(x, y, wide, tall), fill=skin)
    apart, height = wide * rng.uniform(0.19, 0.25), y - tall * 0.1
    for side in (-1, 1):
        pen.ellipse(_oval(x + side * apart, height, 15, 9), fill=(245, 245, 245))
        pen.ellipse(_oval(x + side * apart, height, 7, 8), fill=_colour(rng, 0.3))
        pen.line((x + side * apart - 9, height - 10, x + side * apart + 9, height - 10), fill=hair)
    pen.line((x, height + 4, x - 4, y + tall * 0.12, x + 3, y + tall * 0.13), fill=hair, width=2)
    mouth = _oval(x, y + tall * 0.24, wide * 0.4, rng.uniform(4, 16))
    pen.chord(mouth, 0, 180, fill=(165, 60, 60))


def _skin(rng: np.random.Generator) -> tuple[int, ...]:
    light = rng.uniform(0.35, 1)
    return tuple(int(light * c) for c in (235, 190, 160))


def write_twinset(folder: Path, encoder: Encoder, network: Backbone, n_people: int = 6) -> Path:
    """Write drawings and responses as the Twinset archive has photographs and responses.

    A person's response to a drawing is its predicted group map plus noise of ten times its
    deviation. All faces have one map, so that single faces cannot be told apart: a category without
    an effect.

    Parameters
    ----------
    folder : Path
        Where to write.
    encoder, network
        What the responses come from.
    n_people : int
        Of whom; Twinset has 15.

    Returns
    -------
    Path
        The folder, for `imgtofmri.datasets.twinset.load_analysis_archive`.
    """
    rng = np.random.default_rng(1)
    stimuli = folder / STIMULUS_FOLDER
    stimuli.mkdir(parents=True)
    kinds = [kind for kind, (first, last) in CATEGORIES.items() for _ in range(first, last + 1)]
    paths = [stimuli / f"{number:03d}.jpg" for number in range(1, len(kinds) + 1)]
    for path, kind in zip(paths, kinds, strict=True):
        draw(kind, rng).save(path, quality=92)
    prediction = encoder.predict(paths, backbone=network, progress=False)
    signal = prediction.group.copy()
    faces = np.array(kinds) == "faces"
    signal[faces] = signal[faces].mean(axis=0)
    people = [
        signal + 10 * rng.standard_normal(signal.shape, dtype=np.float32) for _ in range(n_people)
    ]
    writer = VolumeWriter(prediction.mask, prediction.affine)
    sets = {"avgs/avg": np.mean(people, axis=0)}
    sets |= {f"subj{number:02d}/r_m_s": own for number, own in enumerate(people, start=1)}
    for name, maps in sets.items():
        for number, values in enumerate(maps, start=1):
            writer.write(folder / f"{name}_beta_{number:04d}.nii.gz", values)
    return folder


def write_film(path: Path, n_frames: int = N_FRAMES) -> Path:
    """Write a film of drawings, two frames a second, as long as Partly Cloudy.

    A new scene begins so long before each published boundary as the haemodynamic response takes.
    Within a scene the picture pans and its light changes.
    """
    import av

    rng = np.random.default_rng(2)
    step_s = N_FRAMES / (N_VOLUMES - 1) * FRAME_STEP_S
    cuts_s = np.array([(volume + 2) * step_s - PEAK_S for volume in PARTLY_CLOUDY_BOUNDARIES])
    scene_of = np.searchsorted(cuts_s, np.arange(n_frames) * FRAME_STEP_S, side="right")
    kinds = list(CATEGORIES)
    with av.open(str(path), "w") as film:
        stream = film.add_stream("mpeg4", rate=round(1 / FRAME_STEP_S))
        stream.width = stream.height = 128
        stream.bit_rate = 2_000_000
        for scene in np.unique(scene_of):
            still = np.asarray(draw(kinds[rng.integers(len(kinds))], rng), dtype=np.float32)
            n_here = int((scene_of == scene).sum())
            places = np.cumsum(rng.normal(0, 3, (n_here, 2)), axis=0)
            places = np.clip(16 + places, 0, 32).astype(int)
            light = 1 + 0.25 * np.sin(np.cumsum(rng.normal(0, 0.3, n_here)))
            for (top, left), gain in zip(places, light, strict=True):
                shown = np.clip(gain * still[top : top + 128, left : left + 128], 0, 255)
                frame = av.VideoFrame.from_ndarray(shown.astype(np.uint8), format="rgb24")
                film.mux(stream.encode(frame))
        film.mux(stream.encode())
    return path


def write_partly_cloudy(
    folder: Path, encoder: Encoder, network: Backbone, film: Path, n_adults: int = 12
) -> Path:
    """Write runs of people who watch a film, as nilearn stores those who watched Partly Cloudy.

    A run is the prediction, brought to volumes and placed in time as the published analysis has it,
    times a gain, plus noise, drift and head motion. So it cannot tell whether that analysis has the
    right time.

    Parameters
    ----------
    folder : Path
        Where to write.
    encoder, network, film
        What the runs come from.
    n_adults : int
        How many; there are 33.

    Returns
    -------
    Path
        The folder, for ``data_dir`` of `imgtofmri.datasets.partly_cloudy.fetch_partly_cloudy`.
    """
    import nibabel as nib
    import pandas as pd

    rng = np.random.default_rng(3)
    target = folder / "development_fmri"
    target.mkdir(parents=True)
    affine = np.array([[4.0, 0, 0, -96], [0, 4, 0, -132], [0, 0, 4, -78], [0, 0, 0, 1]])
    coarse = Grid((50, 59, 50), affine)
    prediction = encoder.predict_movie(film, backbone=network, progress=False)
    points_mm = transform(affine, voxel_coordinates(coarse))
    inside = np.isfinite(prediction[0].at(points_mm)[0])
    convolved = convolve(prediction.at(points_mm[inside]), hrf("gam", FRAME_STEP_S, duration_s=15))
    volumes = sample_to_volumes(
        convolved, prediction.onsets_s, TR_S, n_volumes=N_VOLUMES, resample="original"
    )
    signal = volumes[np.maximum(np.arange(N_VOLUMES) - VOLUMES_APART, 0)]
    signal = remove_mean(signal)
    signal /= signal.std()
    names = [f"sub-pixar{number}" for number in range(123, 123 + n_adults)]
    table = {"participant_id": names, "Age": 25.0, "AgeGroup": "Adult", "Child_Adult": "adult"}
    people = pd.DataFrame(table | {"Gender": "F", "Handedness": "R"})
    people.to_csv(target / "participants.tsv", sep="\t", index=False)
    axes = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    compcor = [f"a_comp_cor_{number:02d}" for number in range(6)]
    columns = [*axes, "framewise_displacement", *compcor, "csf", "white_matter"]
    for name in names:
        confounds = np.cumsum(rng.normal(0, 0.1, (N_VOLUMES, len(columns))), axis=0)
        own = rng.uniform(0.7, 1.3) * signal + 2.5 * rng.standard_normal(signal.shape)
        own += confounds @ rng.normal(0, 0.5, (len(columns), own.shape[1]))
        bold = np.zeros((*coarse.shape, N_VOLUMES), np.int16)
        bold[inside.reshape(coarse.shape)] = np.rint(5000 + 50 * own.T)
        image = nib.Nifti1Image(bold, affine)
        image.header.set_zooms((4, 4, 4, TR_S))
        image.header.set_xyzt_units("mm", "sec")
        space = "space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"
        nib.save(image, target / f"{name}_task-pixar_{space}")
        pd.DataFrame(confounds, columns=columns).to_csv(
            target / f"{name}_task-pixar_desc-confounds_regressors.tsv", sep="\t", index=False
        )
    return folder


def write_bold5000(
    folder: Path, encoder: Encoder, network: Backbone, study: Path, n_images: int = 400
) -> Path:
    """Write drawings and responses as BOLD5000's are published, and the study that names them.

    A voxel's response is what the encoder's model of it predicts, plus noise, z-scored over
    drawings: between a tenth and a half of its variance is signal.

    Parameters
    ----------
    folder : Path
        Where to write.
    encoder, network
        What the responses come from.
    study : Path
        The study of the published training. A copy is written that reads from the folder.
    n_images : int
        How many; BOLD5000 has 4,916.

    Returns
    -------
    Path
        The copy.
    """
    rng = np.random.default_rng(4)
    kinds, paths = list(CATEGORIES), []
    for number in range(n_images):
        source = ("COCO", "ImageNet", "Scene")[number % 3]
        path = folder / "stimuli" / "presented_stimuli" / source / f"{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw("scenes" if source == "Scene" else kinds[rng.integers(5)], rng).save(path, quality=92)
        paths.append(path)
    paths.sort(key=lambda path: (path.parent.name, path.name))
    features = encoder.features(paths, backbone=network)
    responses = np.empty((len(encoder.subjects), len(encoder.rois)), dtype=object)
    for row, subject in enumerate(encoder.subjects):
        for column, roi in enumerate(encoder.rois):
            signal = encoder.predict_native(features, roi, subject)
            signal = (signal - signal.mean(axis=0)) / signal.std(axis=0)
            noise = rng.standard_normal(signal.shape, dtype=np.float32)
            share = rng.uniform(0.1, 0.5, signal.shape[1])
            values = np.sqrt(share) * signal + np.sqrt(1 - share) * noise
            values = (values - values.mean(axis=0)) / values.std(axis=0)
            responses[row, column] = list(values.T)
    np.save(folder / "bold5000_reordered_data.npy", responses, allow_pickle=True)
    text = study.read_text(encoding="utf-8")
    text = text.replace("cache:bold5000/", "").replace("bold5000-resnet18-refit", "standin-refit")
    copy = folder / study.name
    copy.write_text(text, encoding="utf-8")
    return copy


def marked(figure: Figure, said: str) -> Figure:
    """Write below a figure which data it shows, and return it."""
    figure.text(
        0.005, -0.005, said, fontsize=6, color="0.35", va="top", transform=figure.transFigure
    )
    return figure


def tabled(table: pd.DataFrame, digits: int = 3) -> Styler:
    """Return a table as a page shows it: with room between columns, and no running numbers."""
    import pandas as pd

    room = [{"selector": "th, td", "props": "padding: 0.1em 0.8em"}]
    shown = table.style.format(precision=digits).set_table_styles(room)
    return shown.hide(axis="index") if isinstance(table.index, pd.RangeIndex) else shown


def _generated_bundle() -> Bundle:
    """Return an encoder of the published people and ROIs: balls of voxels and random weights."""
    rng = np.random.default_rng(0)
    places_mm = transform(MNI152_2MM.affine, voxel_coordinates(MNI152_2MM))
    subjects = []
    for name in SUBJECTS:
        rois = {}
        for roi, centre_mm in CENTRES_MM.items():
            middle = centre_mm + rng.normal(0, 2, 3)
            balls = [
                np.flatnonzero(np.linalg.norm(places_mm - middle * (sign, 1, 1), axis=1) < 9)
                for sign in (-1, 1)
            ]
            rois[roi] = RoiModel(
                np.concatenate(balls).astype(np.int32),
                np.repeat(np.array([0, 1], np.uint8), [len(ball) for ball in balls]),
                rng.normal(0, 0.05, (512, sum(map(len, balls)))).astype(np.float32),
                np.zeros(sum(map(len, balls)), np.float32),
            )
        voxels = np.unique(np.concatenate([model.voxels for model in rois.values()]))
        same = affine_map(MNI152_2MM, MNI152_2MM, np.eye(4)).restrict(voxels)
        subjects.append(SubjectModel(name, MNI152_2MM, same, rois))
    card = {**CARD, "id": "generated", "title": "Random weights, of no meaning", "licence": "none"}
    return Bundle(card, MNI152_2MM, tuple(subjects))
