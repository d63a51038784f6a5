"""Compile the published img2fmri wheel into the bundle ``bold5000-resnet18``.

The wheel is data: its models' weights, its masks and its registrations are read, none of its code
is imported or run. Everything that does not depend on a stimulus is worked out here, once.

References
----------
Bennett, Baldassano (2023). img2fmri: a Python package for predicting group-level fMRI responses to
visual stimuli using deep neural networks. Aperture Neuro. doi 10.52294/001c.87545

Chang et al. (2019). BOLD5000, a public fMRI dataset while viewing 5000 visual images. Scientific
Data 6. doi 10.1038/s41597-019-0052-3
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.assets import cache_dir, fetch_wheel
from imgtofmri.bundle import Bundle, RoiModel, SubjectModel, read_bundle, write_bundle
from imgtofmri.exceptions import AssetError, BundleError
from imgtofmri.progress import track
from imgtofmri.spaces import MNI152_2MM, Grid, VoxelMap, fnirt_map
from imgtofmri.unpickle import InertObject, load_arrays_pickle

BUNDLE_ID = "bold5000-resnet18"
COMPILATION = 2
"""Counts changes of what `compile_bundle` gives, so that a cache made by another is not used."""
WHEEL_PROJECT, WHEEL_VERSION = "img2fmri", "1.0"
WHEEL_SHA256 = "b830383d191c4edcae0eef54e045bb6290abbc5b5e436ae674951bff8fb6d6be"
ROIS = ("EarlyVis", "OPA", "LOC", "RSC", "PPA")
SUBJECTS = ("CSI1", "CSI2", "CSI3")
SAMPLE_SUFFIXES = (".jpg", ".mp4")

CARD: dict[str, Any] = {
    "id": BUNDLE_ID,
    "title": "Responses of five visual ROIs of three people to natural images (BOLD5000)",
    "licence": "MIT, as the img2fmri wheel that it is compiled from",
    "citation": [
        "Bennett & Baldassano (2023). img2fmri: a Python package for predicting group-level fMRI "
        "responses to visual stimuli using deep neural networks. Aperture Neuro. "
        "doi 10.52294/001c.87545",
        "Chang et al. (2019). BOLD5000, a public fMRI dataset while viewing 5000 visual images. "
        "Scientific Data 6:49. doi 10.1038/s41597-019-0052-3",
    ],
    "source": f"{WHEEL_PROJECT} {WHEEL_VERSION} wheel, SHA-256 {WHEEL_SHA256}",
    "features": {
        "id": "resnet18/avgpool",
        "backbone": "resnet18",
        "layers": ["avgpool"],
        "n_features": 512,
        "preprocessing": {
            "size": 224,
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        },
    },
    "template": {"space": "MNI152NLin6Asym"},
    "model": "ridge regression, one penalty for each subject and ROI",
    "units": "BOLD response, z-scored over images for each voxel",
    "limits": (
        "Three people, five ROIs, natural photographs. A prediction is not a measurement: it "
        "carries what a linear readout of an object-recognition network can carry. Its features "
        "are averages over space and have no retinotopy, so that EarlyVis is weak, and the "
        "geometries of the five ROIs resemble each other (Spearman .82 to .93). Faces were not "
        "told apart. Not measured by anyone: accuracy in single voxels of other people, "
        "drawings and other pictures that are no photographs, whether amplitudes are to scale, how "
        "people differ."
    ),
    "accuracy": (
        "Published (Bennett and Baldassano 2023): group maps against responses of 15 people to 155 "
        "images (Twinset), mean r of matching images above that of others .086, p = .0001, in "
        "every person; for objects, scenes, people and animals, not for faces. Measured with this "
        "package (geometry of 92 object images in 15 other people, Spearman, each person's own "
        "ROI; ResNet-18 with its last convolutions approximated): IT from LOC .28 (.20 to .37; "
        "lower noise ceiling .45, untrained network .06); EVC from EarlyVis .06 (.01 to .10; "
        "ceiling .24, the pictures' silhouettes .17). See docs/explanation/validity.md."
    ),
    "trust": (
        "The three people's agreement over 300 photographs, r: means of their own ROIs .73 to .95; "
        "voxels that two of them cover (1,581 of 9,641), median, PPA .67, RSC .50, EarlyVis .35, "
        "LOC .20, OPA .01. Maps are a mosaic of three people; ROI means are not."
    ),
}


def reference_bundle(progress: bool = True) -> Bundle:
    """Return the published encoder, compiled on first use and cached.

    Parameters
    ----------
    progress : bool
        Whether to report the download and the compilation on standard error.

    Raises
    ------
    AssetError
        If the wheel is not in the cache and cannot be downloaded, or is not the published one.
    """
    path = bundle_path()
    if path.exists():
        try:
            return read_bundle(path)
        except BundleError:
            # A cache may be lost or damaged at any time; what made it can make it again.
            path.unlink()
    wheel = reference_wheel(progress)
    with track("Compiling the encoder", len(SUBJECTS), "subjects", enabled=progress) as advance:
        bundle = compile_bundle(wheel, advance)
    write_bundle(bundle, path)
    return bundle


def bundle_path() -> Path:
    """Return where the compiled encoder is cached."""
    return cache_dir() / "bundles" / f"{BUNDLE_ID}.{COMPILATION}.safetensors"


def reference_wheel(progress: bool = True) -> Path:
    """Return the published wheel, downloaded with pip on first use."""
    return fetch_wheel(WHEEL_PROJECT, WHEEL_VERSION, sha256=WHEEL_SHA256, progress=progress)


def extract_samples(wheel: Path, folder: Path) -> list[Path]:
    """Write the published sample photographs and film into a folder.

    Returns
    -------
    list of Path
        The files, photographs first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if "/tests/test_data/" in name and name.endswith(SAMPLE_SUFFIXES):
                target = folder / Path(name).name
                target.write_bytes(archive.read(name))
                found.append(target)
    return sorted(found, key=lambda path: (SAMPLE_SUFFIXES.index(path.suffix), path.name))


def compile_bundle(wheel: Path, advance: Callable[[float], None] = lambda _: None) -> Bundle:
    """Compile the published wheel into a bundle.

    Parameters
    ----------
    wheel : Path
    advance : callable
        Called with 1 after each subject.

    Raises
    ------
    AssetError
        If the file is not the published wheel.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            subjects = []
            for number, name in enumerate(SUBJECTS, start=1):
                subjects.append(_compile_subject(archive, number, name))
                advance(1)
    except (KeyError, zipfile.BadZipFile) as error:
        message = (
            f"{wheel}: expected the wheel of {WHEEL_PROJECT} {WHEEL_VERSION}; {error}. "
            "Remove the file and fetch it again."
        )
        raise AssetError(message) from error
    return Bundle(CARD, MNI152_2MM, tuple(subjects))


def _compile_subject(archive: zipfile.ZipFile, number: int, name: str) -> SubjectModel:
    native: Grid | None = None
    rois = {}
    for roi in ROIS:
        masks = []
        for hemi in "LR":
            mask, grid = _read_volume(archive, mask_entry(name, hemi, roi))
            native = native or grid
            # Some masks were resampled and hold fractions; any share of a voxel counts.
            masks.append(np.flatnonzero(mask > 0))
        rois[roi] = _read_model(archive, number, roi, *masks)
    assert native is not None
    voxels = np.concatenate([model.voxels for model in rois.values()])
    voxel_map = _read_registration(archive, number, name, native).restrict(voxels)
    return SubjectModel(name, native, voxel_map, rois)


def mask_entry(subject: str, hemi: str, roi: str) -> str:
    """Return the wheel's entry with an ROI's mask on a subject's native grid."""
    folder = "img2fmri/derivatives/bool_masks"
    return f"{folder}/derivatives_spm_sub-{subject}_sub-{subject}_mask-{hemi}H{roi}.nii.gz"


def _read_model(
    archive: zipfile.ZipFile,
    number: int,
    roi: str,
    left: npt.NDArray[np.intp],
    right: npt.NDArray[np.intp],
) -> RoiModel:
    entry = f"img2fmri/models/subj{number}_{roi}_model.pkl"
    ridge = load_arrays_pickle(archive.read(entry), what=entry)
    if not isinstance(ridge, InertObject):
        message = f"expected a ridge model in {entry}, got {type(ridge).__name__}"
        raise KeyError(message)
    weights = np.asarray(ridge.coef_, dtype=np.float32)
    voxels = np.concatenate([left, right])
    if weights.shape != (len(voxels), CARD["features"]["n_features"]):
        message = f"expected {len(voxels)} voxels of 512 features in {entry}, got {weights.shape}"
        raise KeyError(message)
    return RoiModel(
        voxels=voxels.astype(np.int32),
        hemi=np.repeat(np.array([0, 1], dtype=np.uint8), [len(left), len(right)]),
        weights=np.ascontiguousarray(weights.T),
        intercept=np.asarray(ridge.intercept_, dtype=np.float32),
    )


def _read_registration(archive: zipfile.ZipFile, number: int, name: str, native: Grid) -> VoxelMap:
    derivatives = "img2fmri/derivatives"
    anatomical = _read_grid(
        archive, f"{derivatives}/T1/sub-{name}_ses-16_anat_sub-{name}_ses-16_T1w.nii.gz"
    )
    folder = f"{derivatives}/sub{number}.anat"
    matrix = archive.read(f"{folder}/T1_nonroi2roi.mat").decode()
    with tempfile.TemporaryDirectory() as scratch:
        field = Path(scratch) / "coefficients.nii.gz"
        field.write_bytes(archive.read(f"{folder}/T1_to_MNI_nonlin_coeff.nii.gz"))
        return fnirt_map(native, anatomical, field, np.loadtxt(io.StringIO(matrix)), MNI152_2MM)


def _read_volume(archive: zipfile.ZipFile, entry: str) -> tuple[npt.NDArray[Any], Grid]:
    import gzip

    import nibabel as nib

    image = nib.Nifti1Image.from_bytes(gzip.decompress(archive.read(entry)))
    x, y, z = image.shape
    return np.asarray(image.dataobj), Grid((x, y, z), np.asarray(image.affine, dtype=float))


def _read_grid(archive: zipfile.ZipFile, entry: str) -> Grid:
    """Read an image's grid from its header alone: the T1s are large and their values not needed."""
    import gzip

    import nibabel as nib

    with archive.open(entry) as raw, gzip.open(raw) as file:
        header = nib.Nifti1Header.from_fileobj(io.BytesIO(file.read(352)), check=False)
    x, y, z = header.get_data_shape()
    return Grid((x, y, z), np.asarray(header.get_best_affine(), dtype=float))
