"""The published wheel, compiled: its own derivatives are the oracle."""

from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest

from imgtofmri import assets, spaces
from imgtofmri.bundle import HEMIS, Bundle, SubjectModel
from imgtofmri.encoder import reference
from imgtofmri.exceptions import AssetError

pytestmark = pytest.mark.network


def _read(wheel: Path, entry: str) -> npt.NDArray[np.float64]:
    with zipfile.ZipFile(wheel) as archive:
        image = nib.Nifti1Image.from_bytes(gzip.decompress(archive.read(entry)))
    return np.asarray(image.dataobj, dtype=float).ravel()


def _moved_mask(subject: SubjectModel, roi: str, hemi: str) -> npt.NDArray[np.float64]:
    model = subject.rois[roi]
    voxels = np.sort(model.voxels[model.hemi == HEMIS.index(hemi)])
    reached, matrix = spaces.map_matrix(subject.to_template, voxels)
    volume = np.zeros(spaces.MNI152_2MM.n_voxels)
    volume[reached] = matrix @ np.ones(len(voxels))
    return volume


def test_all_masks_move_to_the_published_voxels(
    published_wheel: Path, published_bundle: Bundle
) -> None:
    """All 30 masks equal the wheel's own after its warp: 0 of 8,805 voxels differ."""
    n_voxels = n_different = 0
    for number, subject in enumerate(published_bundle.subjects, start=1):
        for roi in reference.ROIS:
            for hemi in "LR":
                entry = f"img2fmri/derivatives/mni_bool_masks/sub{number}_{hemi}H{roi}_MNI.nii.gz"
                expected = _read(published_wheel, entry) > 0
                got = _moved_mask(subject, roi, hemi) > 0
                n_voxels += int(expected.sum())
                n_different += int((got != expected).sum())
    assert (n_voxels, n_different) == (8805, 0)


def test_all_smoothed_masks_equal_the_published_ones(
    published_wheel: Path, published_bundle: Bundle
) -> None:
    """All 30 moved masks, smoothed by 1 mm, equal the wheel's own to 1e-6."""
    worst = 0.0
    for number, subject in enumerate(published_bundle.subjects, start=1):
        for roi in reference.ROIS:
            for hemi in "LR":
                entry = f"img2fmri/derivatives/s_bool_masks/s_sub{number}_{hemi}H{roi}_MNI.nii.gz"
                mask = _moved_mask(subject, roi, hemi)
                sources = np.flatnonzero(mask)
                matrix = spaces.smoothing_matrix(sources, spaces.MNI152_2MM, 1.0)
                difference = matrix @ mask[sources] - _read(published_wheel, entry)
                worst = max(worst, float(np.abs(difference).max()))
    assert worst < 1e-6


def test_compile_bundle_keeps_the_models_weights(published_bundle: Bundle) -> None:
    """Three subjects, five ROIs, 7,059 voxels of 512 features."""
    models = [m for subject in published_bundle.subjects for m in subject.rois.values()]
    assert sum(model.n_voxels for model in models) == 7059
    assert {model.n_features for model in models} == {512}
    assert published_bundle.rois == reference.ROIS


def test_compile_bundle_of_another_file_says_so(tmp_path: Path) -> None:
    """A file that is not the wheel is one clear error."""
    other = tmp_path / "other.whl"
    other.write_bytes(b"not a zip")
    with pytest.raises(AssetError, match="expected the wheel of img2fmri 1.0"):
        reference.compile_bundle(other)


@pytest.mark.slow
def test_reference_bundle_is_compiled_once_and_mended(
    published_wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second call reads what the first compiled; a damaged cache is compiled again."""
    monkeypatch.setenv(assets.CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setenv(assets.OFFLINE_VARIABLE, "1")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / published_wheel.name).symlink_to(published_wheel)
    first = reference.reference_bundle(progress=False)
    compiled = reference.bundle_path()
    written = compiled.stat().st_mtime_ns
    again = reference.reference_bundle(progress=False)
    assert compiled.stat().st_mtime_ns == written
    np.testing.assert_array_equal(
        again.subjects[2].rois["PPA"].weights, first.subjects[2].rois["PPA"].weights
    )
    compiled.write_bytes(compiled.read_bytes()[:-1000])
    assert reference.reference_bundle(progress=False).rois == reference.ROIS


def test_extract_samples_gives_four_photographs_and_a_film(
    published_wheel: Path, tmp_path: Path
) -> None:
    """The wheel's sample stimuli lie in the folder, photographs first."""
    names = [
        path.name for path in reference.extract_samples(published_wheel, tmp_path / "a" / "new")
    ]
    assert names == [
        "amusement1.jpg",
        "amusement2.jpg",
        "horse1.jpg",
        "horse2.jpg",
        "landscape.mp4",
    ]
