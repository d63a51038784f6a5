"""Data for tutorials, of known truth: pictures, and scans as fMRIPrep leaves them.

Nothing here was measured, but for what `find_pictures` and `find_92` find in folders of others.

- What is shown: `find_pictures`
- What a laboratory has: `scan`, with the truth that went in: `Truth`
- What stands for 92 images and 15 people: `find_92`
- Maps beside each other: `plot_slices`
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pandas as pd
import standin
from PIL import Image, ImageDraw
from scipy.ndimage import map_coordinates

from imgtofmri.analyses.simulate import Events, Noise, simulate_bold
from imgtofmri.rsa import calculate_rdm, to_square
from imgtofmri.spaces import Grid, transform, voxel_coordinates

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[np.floating[Any]]

# Photographs of the shared test data by what they show; what is in neither is the pool's.
_PLACES = (423, 435, 439, 446, 479, 494, 534, 544, 619, 643,
           658, 663, 691, 699, 755, 812, 823, 842, 875, 896)  # fmt: skip
_OBJECTS = (416, 444, 475, 499, 508, 509, 510, 542, 568, 585,
            600, 601, 625, 630, 631, 741, 752, 776, 850, 959)  # fmt: skip
_POOL = tuple(number for number in range(400, 970, 3) if number not in _PLACES + _OBJECTS)
N_POOL = 160


def find_pictures(folder: Path) -> str:
    """Fill ``place``, ``object`` and ``pool`` below a folder with 20, 20 and 160 pictures.

    Photographs where ``IMGTOFMRI_TEST_DATA`` names a folder that has some, drawings elsewhere.

    Returns
    -------
    str
        Which they are.
    """
    numbers = {"place": _PLACES, "object": _OBJECTS, "pool": _POOL[:N_POOL]}
    for kind in numbers:
        (folder / kind).mkdir(parents=True)
    photographs = Path(os.environ.get("IMGTOFMRI_TEST_DATA", "")) / "photos"
    if photographs.is_dir():
        for kind, chosen in numbers.items():
            for number in chosen:
                shutil.copy(photographs / f"object_{number:04d}.jpg", folder / kind)
        return "photographs"
    kinds = {"place": ["scenes"], "object": ["objects"]}
    kinds["pool"] = ["scenes", "objects", "animals", "people"]
    for kind, chosen in numbers.items():
        for number in chosen:
            rng = np.random.default_rng(number)
            drawing = standin.draw(kinds[kind][number % len(kinds[kind])], rng)
            drawing.save(folder / kind / f"drawing_{number:04d}.png")
    return "DRAWINGS, as there are no photographs here"


TASK, TR_S, N_RUNS, N_REPEATS = "pictures", 2.0, 4, 2
ROIS_MM = {"EarlyVis": (10.0, -92.0, 0.0), "LOC": (44.0, -74.0, -6.0), "PPA": (26.0, -44.0, -12.0)}
"""Where the right ROIs lie in MNI152NLin6Asym; each person's own lie some millimetres away."""
RADIUS_MM = 9.0

_BOLD_GRID = Grid((47, 34, 22), nib.affines.from_matvec(3 * np.eye(3), (-69, -118, -36)))
_T1W_GRID = Grid((91, 109, 91), nib.affines.from_matvec(2 * np.eye(3), (-90, -126, -72)))
_TO_LPS = np.array([-1.0, -1.0, 1.0])
_N_TUNED = 10


@dataclass(frozen=True)
class Truth:
    """What one person's scans were made of.

    Attributes
    ----------
    name : str
    centres_mm : dict of str to array of shape (2, 3)
        Of each ROI, left and right, in millimetres of the template.
    voxels : dict of str to array of shape (n_voxels,), int
        Of each ROI in native space: flat indices, C order, left before right.
    weights : dict of str to array of shape (n_features + 1, n_voxels)
        From features, and a constant, to percent signal change.
    """

    name: str
    centres_mm: dict[str, Array]
    voxels: dict[str, npt.NDArray[np.intp]]
    weights: dict[str, Array]

    def responses(self, features: Array, roi: str) -> Array:
        """Return the true responses in percent, shape (n_stimuli, n_voxels)."""
        weights = self.weights[roi]
        return features @ weights[:-1] + weights[-1]


@dataclass(frozen=True)
class _Head:
    """How a person's head lies beside the template: an affine after a smooth warp, in RAS."""

    matrix: Array
    shift_mm: Array
    bend_mm: Array
    phase: Array

    def warp(self, points_mm: Array) -> Array:
        waves = np.sin(2 * np.pi * np.roll(points_mm, 1, axis=-1) / 90 + self.phase)
        return self.bend_mm * waves

    def to_template(self, points_mm: Array) -> Array:
        """Take T1w points to the template, by fixed-point iteration against the warp."""
        bent = (points_mm - self.shift_mm) @ np.linalg.inv(self.matrix).T
        found = bent
        for _ in range(20):
            found = bent - self.warp(found)
        return found


def scan(
    folder: Path, shown: Sequence[Path], features: Array, kinds: Sequence[str], n_people: int = 3
) -> list[Truth]:
    """Write a BIDS data set with fMRIPrep's results, as a laboratory has it after scanning.

    Each person sees each picture twice, for 2 s, one every 4 to 6 s. A voxel of an ROI responds to
    a mixture of the ten strongest directions in the features: what its ROI likes, and a taste of
    its own. PPA likes places more than objects, LOC the reverse. BOLD has smooth AR(1) noise, drift
    and an effect of head motion.

    Parameters
    ----------
    folder : Path
        Of the data set; ``derivatives/fmriprep`` and ``derivatives/rois`` go below it.
    shown : sequence of Path
        The pictures; they are copied to ``stimuli``.
    features : array of shape (n_pictures, n_features)
        What responses depend on.
    kinds : sequence of str
        Of each picture: "place", "object" or anything else.
    n_people : int

    Returns
    -------
    list of Truth
    """
    rng = np.random.default_rng(11)
    (folder / "stimuli").mkdir(parents=True)
    for path in shown:
        shutil.copy(path, folder / "stimuli")
    prep = folder / "derivatives" / "fmriprep"
    people = [f"sub-{number:02d}" for number in range(1, n_people + 1)]
    _describe(folder, prep, people)
    tuning = _Tuning(features, np.asarray(kinds), rng)
    return [
        _scan_person(folder, prep, name, [path.name for path in shown], features, tuning, rng)
        for name in people
    ]


class _Tuning:
    """What ROIs like: directions in the space of the features' strongest components."""

    def __init__(self, features: Array, kinds: npt.NDArray[Any], rng: np.random.Generator) -> None:
        self.mean = features.mean(axis=0)
        _, sizes, axes = np.linalg.svd(features - self.mean, full_matrices=False)
        self.axes = axes[:_N_TUNED].T * np.sqrt(len(features)) / sizes[:_N_TUNED]
        scores = (features - self.mean) @ self.axes
        of_kind = {kind: scores[kinds == kind].mean(axis=0) for kind in ("place", "object")}
        scenic = _unit(of_kind["place"] - of_kind["object"])
        self.of_roi = {
            "EarlyVis": _unit(rng.normal(size=_N_TUNED)),
            "LOC": _unit(-0.8 * scenic + 0.6 * _unit(rng.normal(size=_N_TUNED))),
            "PPA": scenic,
        }

    def weights(self, roi: str, n_voxels: int, rng: np.random.Generator) -> Array:
        """Return weights of features, and a constant, for the voxels of one person's ROI."""
        liked = _unit(self.of_roi[roi] + 0.3 * _unit(rng.normal(size=_N_TUNED)))
        own = rng.normal(size=(_N_TUNED, n_voxels)) / np.sqrt(_N_TUNED)
        gains = rng.uniform(0.2, 1.0, n_voxels)
        weights = self.axes @ (gains * (0.8 * liked[:, None] + 0.6 * own))
        return np.vstack([weights, 1.2 - self.mean @ weights])


def _unit(vector: Array) -> Array:
    return vector / np.linalg.norm(vector)


def _scan_person(
    folder: Path,
    prep: Path,
    name: str,
    files: Sequence[str],
    features: Array,
    tuning: _Tuning,
    rng: np.random.Generator,
) -> Truth:
    for home in (prep / name / "anat", prep / name / "func", folder / name / "func"):
        home.mkdir(parents=True)
    head = _draw_head(rng)
    _write_anatomy(prep / name / "anat" / name, head)
    at_mm = head.to_template(transform(_BOLD_GRID.affine, voxel_coordinates(_BOLD_GRID)))
    brain = _sample_template(at_mm, "mask") > 0.5
    truth = _write_rois(folder / "derivatives" / "rois" / name, name, at_mm, brain, tuning, rng)
    inside = np.flatnonzero(brain)
    amplitudes = np.zeros((len(files), len(inside)), np.float32)
    for roi, voxels in truth.voxels.items():
        amplitudes[:, np.searchsorted(inside, voxels)] = truth.responses(features, roi)
    rows = np.concatenate([rng.permutation(len(files)) for _ in range(N_REPEATS)])
    for run, seen in enumerate(np.split(rows, N_RUNS), start=1):
        stem = f"{name}_task-{TASK}_run-{run}"
        onsets_s = 4.0 + np.cumsum(rng.choice([4.0, 5.0, 6.0], len(seen))) - 4.0
        events = pd.DataFrame(
            {
                "onset": onsets_s,
                "duration": 2.0,
                "trial_type": "picture",
                "stim_file": [files[row] for row in seen],
            }
        )
        events.to_csv(folder / name / "func" / f"{stem}_events.tsv", sep="\t", index=False)
        n_volumes = int(np.ceil((onsets_s[-1] + 18) / TR_S))
        series = simulate_bold(
            amplitudes,
            Events(onsets_s, np.full(len(seen), 2.0), seen.tolist()),
            TR_S,
            n_volumes,
            slice_time_ref=0.5,
            percent_per_unit=1.0,
            noise=Noise(tsnr=60.0, fwhm_mm=5.0),
            seed=int(rng.integers(2**31)),
            mask=brain.reshape(_BOLD_GRID.shape),
            affine=_BOLD_GRID.affine,
        )
        _write_run(prep / name / "func" / stem, series, brain, at_mm, rng)
    return truth


def _draw_head(rng: np.random.Generator) -> _Head:
    turns = rng.normal(0, 0.05, 3)
    matrix = np.diag(rng.uniform(0.94, 1.04, 3))
    for axis, turn in enumerate(turns):
        first, second = [other for other in range(3) if other != axis]
        rotation = np.eye(3)
        rotation[[first, second], [first, second]] = np.cos(turn)
        rotation[first, second], rotation[second, first] = -np.sin(turn), np.sin(turn)
        matrix = rotation @ matrix
    return _Head(matrix, rng.normal(0, 3, 3), rng.uniform(1, 3, 3), rng.uniform(0, 6, 3))


def _sample_template(points_mm: Array, what: str) -> Array:
    """Sample nilearn's MNI152 template, or its brain mask, at points of the template."""
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    load = {"mask": load_mni152_brain_mask, "t1w": load_mni152_template}[what]
    image = load(resolution=2)
    index = transform(np.linalg.inv(image.affine), points_mm)
    return map_coordinates(np.asarray(image.dataobj, dtype=np.float32), index.T, order=1)


def _write_image(path: Path, data: npt.NDArray[Any], grid: Grid) -> None:
    image = nib.Nifti1Image(data.reshape(*grid.shape, *data.shape[1:]), grid.affine)
    image.header.set_xyzt_units("mm", "sec")
    for mark in (image.header.set_qform, image.header.set_sform):
        mark(grid.affine, code="scanner")
    if data.ndim > 1:
        image.header["pixdim"][4] = TR_S
    nib.save(image, path)


def _write_anatomy(stem: Path, head: _Head) -> None:
    """Write the T1w image, and ITK's composite of the affine and the warp, last part first."""
    import h5py

    at_mm = head.to_template(transform(_T1W_GRID.affine, voxel_coordinates(_T1W_GRID)))
    t1w = (1000 * _sample_template(at_mm, "t1w")).astype(np.int16)
    _write_image(Path(f"{stem}_desc-preproc_T1w.nii.gz"), t1w, _T1W_GRID)
    size, origin, step = np.array([33, 39, 33]), np.array([-96.0, -96.0, -78.0]), 6.0
    nodes = np.stack(np.meshgrid(*map(np.arange, size), indexing="ij"), axis=-1)
    field = _TO_LPS * head.warp((origin + step * nodes) * _TO_LPS)
    # ITK runs through x first, and through the three components of a point before the next.
    values = field.transpose(2, 1, 0, 3).ravel()
    lps = _TO_LPS[:, None] * head.matrix * _TO_LPS
    parts = [
        ("CompositeTransform_double_3_3", None, None),
        ("AffineTransform_double_3_3", np.r_[lps.ravel(), _TO_LPS * head.shift_mm], np.zeros(3)),
        (
            "DisplacementFieldTransform_float_3_3",
            values.astype(np.float32),
            np.r_[size, origin, np.full(3, step), np.eye(3).ravel()],
        ),
    ]
    path = f"{stem}_from-T1w_to-MNI152NLin6Asym_mode-image_xfm.h5"
    with h5py.File(path, "w") as file:
        for number, (kind, parameters, fixed) in enumerate(parts):
            group = file.create_group(f"TransformGroup/{number}")
            group.create_dataset("TransformType", data=[kind.encode()])
            if parameters is not None:
                group.create_dataset("TransformParameters", data=parameters)
                group.create_dataset("TransformFixedParameters", data=fixed)


def _write_rois(
    home: Path,
    name: str,
    at_mm: Array,
    brain: npt.NDArray[np.bool_],
    tuning: _Tuning,
    rng: np.random.Generator,
) -> Truth:
    home.mkdir(parents=True)
    centres_mm, found, weights = {}, {}, {}
    for roi, right_mm in ROIS_MM.items():
        centres_mm[roi] = np.array([right_mm, right_mm]) * [[-1, 1, 1], [1, 1, 1]]
        centres_mm[roi] = centres_mm[roi] + rng.normal(0, 2, (2, 3))
        sides = []
        for hemi, centre_mm in zip("LR", centres_mm[roi], strict=True):
            mask = brain & (np.linalg.norm(at_mm - centre_mm, axis=1) < RADIUS_MM)
            file = home / f"{name}_space-T1w_hemi-{hemi}_label-{roi}_mask.nii.gz"
            _write_image(file, mask.astype(np.uint8), _BOLD_GRID)
            sides.append(np.flatnonzero(mask))
        found[roi] = np.concatenate(sides)
        weights[roi] = tuning.weights(roi, len(found[roi]), rng)
    return Truth(name, centres_mm, found, weights)


def _write_run(
    stem: Path, series: Array, brain: npt.NDArray[np.bool_], at_mm: Array, rng: np.random.Generator
) -> None:
    """Write a run's images, sidecar and confounds, with an effect of motion in the images."""
    n_volumes = len(series)
    moves = np.cumsum(rng.normal(0, 0.02, (n_volumes, 6)), axis=0)
    confounds = pd.DataFrame(
        moves * [1, 1, 1, 0.01, 0.01, 0.01],
        columns=[f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"],
    )
    confounds["framewise_displacement"] = np.abs(np.diff(moves, axis=0, prepend=np.nan)).sum(axis=1)
    confounds.loc[0, "framewise_displacement"] = np.nan
    for tissue in ("csf", "white_matter"):
        confounds[tissue] = 800 + np.cumsum(rng.normal(0, 1, n_volumes))
    table = f"{stem}_desc-confounds_timeseries"
    confounds.to_csv(f"{table}.tsv", sep="\t", index=False, na_rep="n/a")
    effect = moves @ rng.normal(0, 1.5, (6, series.shape[1]))
    # Tissues differ in their signal at rest; percent of it is what is simulated.
    rest = 4.0 + 8.0 * _sample_template(at_mm[brain], "t1w")
    volumes = np.zeros((brain.size, n_volumes), np.int16)
    volumes[brain] = np.rint((series + effect).T * 10 * rest[:, None])
    base = f"{stem}_space-T1w"
    _write_image(Path(f"{base}_desc-preproc_bold.nii.gz"), volumes, _BOLD_GRID)
    _write_image(Path(f"{base}_boldref.nii.gz"), volumes.mean(axis=1).astype(np.int16), _BOLD_GRID)
    _write_image(Path(f"{base}_desc-brain_mask.nii.gz"), brain.astype(np.uint8), _BOLD_GRID)
    said = {"RepetitionTime": TR_S, "StartTime": TR_S / 2, "SliceTimingCorrected": True}
    _write_json(Path(f"{base}_desc-preproc_bold.json"), {"TaskName": TASK, **said})


def _describe(folder: Path, prep: Path, people: Sequence[str]) -> None:
    prep.mkdir(parents=True)
    said = {"Name": "Generated", "BIDSVersion": "1.9.0", "License": "CC0", "DatasetType": "raw"}
    _write_json(folder / "dataset_description.json", said)
    said = {**said, "DatasetType": "derivative", "GeneratedBy": [{"Name": "lab.py"}]}
    _write_json(prep / "dataset_description.json", said)
    _write_json(folder / f"task-{TASK}_bold.json", {"TaskName": TASK, "RepetitionTime": TR_S})
    pd.DataFrame({"participant_id": people}).to_csv(
        folder / "participants.tsv", sep="\t", index=False
    )
    (folder / "README").write_text("Generated: nobody was scanned.\n", encoding="utf-8")


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


N_92, N_ANIMATE, N_SCANNED = 92, 48, 15
_SIDE, _GREY = 175, (128, 128, 128)


def find_92(folder: Path, downloaded: Path | None = None) -> str:
    """Write 92 images, and 15 people's dissimilarity matrices, as `compare_geometry` takes them.

    Parameters
    ----------
    folder : Path
        ``images``, ``EVC.npz`` and ``IT.npz`` are written here; images 1 to 48 are animate.
    downloaded : Path, optional
        The folder of the measured set: ``92_Image_Set`` of the Algonauts challenge of 2019, or
        ``92images`` of Net2Brain. By default what ``IMGTOFMRI_TEST_DATA`` holds, if anything.

    Returns
    -------
    str
        Which data they are.
    """
    (folder / "images").mkdir(parents=True)
    shared = Path(os.environ.get("IMGTOFMRI_TEST_DATA", "")) / "real" / "set92.npz"
    if downloaded is not None:
        pictures, matrices = _read_downloaded(downloaded)
    elif shared.is_file():
        with np.load(shared) as arrays:
            pictures = [Image.fromarray(pixels) for pixels in arrays["images"]]
            matrices = {name: arrays[name] for name in ("EVC", "IT")}
    else:
        pictures, matrices = _generate_92()
    names = [f"image{number:02d}.png" for number in range(1, N_92 + 1)]
    for name, picture in zip(names, pictures, strict=True):
        picture.save(folder / "images" / name)
    for area, squares in matrices.items():
        np.savez(folder / f"{area}.npz", dissimilarities=squares, conditions=names)
    if downloaded is None and not shared.is_file():
        return "GENERATED stand-in: drawings, and matrices made of their outlines and kinds"
    return "measured: 92 images, 15 people (Cichy et al. 2014)"


def _read_downloaded(folder: Path) -> tuple[list[Image.Image], dict[str, Array]]:
    from imgtofmri.files import natural_key
    from imgtofmri.measured.rdms import load_rdms

    images = folder / ("92images" if (folder / "92images").is_dir() else "stimuli_data")
    files = sorted(images.glob("*.jpg"), key=lambda path: natural_key(path.name))
    of_challenge = folder / "target_fmri.mat"
    matrices = {}
    for area in ("EVC", "IT"):
        if of_challenge.is_file():
            found = load_rdms(of_challenge, key=f"{area}_RDMs")
        else:
            found = load_rdms(folder / "brain_data" / f"fmri_{area}_RDMs.npz")
        matrices[area] = found.squares
    return [Image.open(path).convert("RGB") for path in files], matrices


def _generate_92() -> tuple[list[Image.Image], dict[str, Array]]:
    """Draw round figures and angular ones, and make matrices of their outlines and their kinds."""
    rng = np.random.default_rng(92)
    pictures = [_draw_figure(number < N_ANIMATE, rng) for number in range(N_92)]
    coarse = [np.asarray(picture.resize((16, 16)), dtype=np.float64) for picture in pictures]
    outlines = [(np.abs(pixels - _GREY[0]).max(axis=-1) > 8).ravel() for pixels in coarse]
    outline = calculate_rdm(np.array(outlines, dtype=np.float64), remove_voxel_mean=False)
    animate = np.arange(N_92) < N_ANIMATE
    apart = (animate[:, None] != animate)[np.triu_indices(N_92, 1)]
    standard = {"EVC": outline, "IT": outline + apart}
    # So much noise that people agree as little as measured people do.
    noise = {"EVC": 3.1, "IT": 1.8}
    matrices = {}
    for area, values in standard.items():
        people = (values - values.mean()) / values.std() + noise[area] * rng.normal(
            size=(N_SCANNED, len(values))
        )
        matrices[area] = to_square(1 + 0.05 * people)
    return pictures, matrices


def _draw_figure(animate: bool, rng: np.random.Generator) -> Image.Image:
    picture = Image.new("RGB", (_SIDE, _SIDE), _GREY)
    pen = ImageDraw.Draw(picture)
    middle, size = rng.uniform(75, 100, 2), rng.uniform(25, 60)
    base = rng.integers(30, 230, 3)
    for part in range(5):
        x, y = middle + (part > 0) * rng.normal(0, size / 2, 2)
        wide, tall = size * rng.uniform(0.3, 1.0, 2) * (1.0 if part == 0 else 0.6)
        colour = tuple(int(c) for c in np.clip(base + rng.normal(0, 25, 3), 0, 255))
        box = (x - wide, y - tall, x + wide, y + tall)
        if animate:
            pen.ellipse(box, fill=colour)
        else:
            pen.rectangle(box, fill=colour, outline=(20, 20, 20))
    return picture


def plot_slices(
    maps: Mapping[str, nib.Nifti1Image],
    cuts_mm: Sequence[float],
    vmax: float,
    background: nib.Nifti1Image | None = None,
    unit: str = "%",
) -> Figure:
    """Draw maps below each other on the same slices, cut to where they are not 0.

    Parameters
    ----------
    maps : dict of str to nibabel.Nifti1Image
        By their titles; of one grid.
    cuts_mm : sequence of float
        Heights.
    vmax : float
        Where the colours end, on both sides of 0.
    background : nibabel.Nifti1Image, optional
        What lies below; by default nilearn's MNI152 template.
    unit : str
        Of the colours.
    """
    import matplotlib.pyplot as plt
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from nilearn import plotting

    from imgtofmri.figures.style import DIVERGING, journal_style

    below = {} if background is None else {"bg_img": background}
    everything = sum(np.abs(np.asarray(image.dataobj)) for image in maps.values())
    affine = next(iter(maps.values())).affine
    places_mm = transform(affine, np.argwhere(everything > 0).astype(np.float64))
    (left, front), (right, back) = places_mm[:, :2].min(axis=0), places_mm[:, :2].max(axis=0)
    tall, gap = 1.0, 0.24
    with journal_style():
        height = len(maps) * (tall + gap)
        figure = plt.figure(figsize=(7.2, height), layout="none")
        for row, (title, image) in enumerate(maps.items()):
            top = 1 - (row * (tall + gap) + gap) / height
            axes = figure.add_axes((0.0, top - tall / height, 0.92, tall / height))
            display = plotting.plot_stat_map(
                image, axes=axes, figure=figure, display_mode="z", cut_coords=list(cuts_mm),
                vmax=vmax, threshold=1e-6, cmap=DIVERGING, colorbar=False, annotate=False,
                draw_cross=False, black_bg=False, **below,
            )  # fmt: skip
            display.annotate(size=6)
            for cut in display.axes.values():
                cut.ax.set_xlim(left - 12, right + 12)
                cut.ax.set_ylim(front - 12, back + 12)
            figure.text(0.01, top + 0.05 / height, title, fontsize=8)
        bar = figure.add_axes((0.94, 0.2, 0.012, 0.6))
        figure.colorbar(ScalarMappable(Normalize(-vmax, vmax), DIVERGING), cax=bar, label=unit)
    return figure
