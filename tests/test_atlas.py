"""The encoder's ROIs as an atlas of labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from nilearn.maskers import NiftiLabelsMasker

from imgtofmri.bundle import Bundle, write_bundle
from imgtofmri.cli import main
from imgtofmri.encoder import Encoder
from imgtofmri.encoder.regions import roi_mask
from imgtofmri.exceptions import OptionError


@pytest.fixture
def encoder(rng: np.random.Generator, make_bundle: Callable[..., Bundle]) -> Encoder:
    """Return an encoder whose two ROIs share voxels."""
    return Encoder(make_bundle(rng, n_features=3, firsts=(200, 210)))


def test_atlas_gives_each_voxel_of_the_mask_one_of_its_own_rois(encoder: Encoder) -> None:
    """Labels fill the group mask, lie in their ROI's mask, and are counted in the table."""
    atlas, spatial = encoder.atlas(), encoder.spatial_model()
    volume = np.asarray(atlas.image.dataobj)
    assert volume.dtype == np.int16
    np.testing.assert_array_equal(volume > 0, spatial.mask)
    np.testing.assert_array_equal(atlas.image.affine, encoder.bundle.template.affine)
    labels = volume[spatial.mask]
    for row in atlas.table.itertuples():
        mine, mask = labels == row.index, roi_mask(spatial.roi_masks, row.roi, row.hemi)
        assert mask[mine].all()
        assert (row.n_voxels, row.n_lost) == (mine.sum(), mask.sum() - mine.sum())
    assert list(atlas.table["name"]) == ["LOC_L", "LOC_R", "PPA_L", "PPA_R"]
    assert atlas.table["n_lost"].sum() > 0
    alone = encoder.atlas(rois=["PPA"]).table
    assert list(alone["index"]) == [1, 2]
    assert list(alone["roi"]) == ["PPA", "PPA"]


def test_atlas_of_two_masks_takes_the_one_that_is_nearer_to_its_maximum(encoder: Encoder) -> None:
    """Over voxels of both ROIs, the label is that of the larger smoothed mask, written out."""
    from scipy.ndimage import gaussian_filter

    bundle = encoder.bundle
    atlas = encoder.atlas()
    heights = []
    for row in atlas.table.itertuples():
        best = np.zeros(bundle.template.shape)
        for subject in bundle.subjects:
            model = subject.rois[row.roi]
            chosen = model.voxels[model.hemi == "LR".index(row.hemi)]
            moved = np.zeros(bundle.template.n_voxels)
            entries = np.isin(subject.to_template.native, chosen)
            moved[subject.to_template.template[entries]] = subject.to_template.weight[entries]
            # A sigma of 1 mm is half a voxel, and the kernel reaches 4 sigma.
            smooth = gaussian_filter(
                moved.reshape(bundle.template.shape), 0.5, mode="constant", radius=2
            )
            best = np.maximum(best, smooth / smooth.max())
        heights.append(best)
    stack = np.stack(heights)
    first, second = np.sort(stack, axis=0)[::-1][:2]
    clear = encoder.spatial_model().mask & (first - second > 1e-6)
    volume = np.asarray(atlas.image.dataobj)
    assert (clear & (second > 0.15)).any()
    np.testing.assert_array_equal(volume[clear], 1 + stack.argmax(axis=0)[clear])


def test_atlas_of_two_equal_masks_is_the_first_s_and_the_table_says_so(
    rng: np.random.Generator, make_bundle: Callable[..., Bundle]
) -> None:
    """An ROI all of whose voxels are another's stays in the table, with all of them lost."""
    table = Encoder(make_bundle(rng, n_features=3, firsts=(200, 200))).atlas().table
    first, second = (table[table["roi"] == roi] for roi in ("LOC", "PPA"))
    assert not first["n_lost"].any()
    assert list(second["n_lost"]) == list(first["n_voxels"])
    assert not second["n_voxels"].any()


def test_atlas_file_and_table_are_what_nilearn_reads(
    encoder: Encoder, rng: np.random.Generator, tmp_path: Path
) -> None:
    """`describe --atlas` writes both; nilearn's means by name are those of the labels' voxels."""
    write_bundle(encoder.bundle, tmp_path / "small.safetensors")
    path = tmp_path / "atlas.nii.gz"
    assert main(["describe", str(tmp_path / "small.safetensors"), "--atlas", str(path)]) == 0
    table = pd.read_csv(tmp_path / "atlas.tsv", sep="\t")
    pd.testing.assert_frame_equal(table, encoder.atlas().table)
    data = rng.normal(size=(*encoder.bundle.template.shape, 3))
    masker = NiftiLabelsMasker(path, lut=table[["index", "name"]], standardize=None)
    found = masker.fit_transform(nib.Nifti1Image(data, encoder.bundle.template.affine))
    assert [masker.region_names_[column] for column in range(len(table))] == list(table["name"])
    volume = np.asarray(nib.load(path).dataobj)
    for column, index in enumerate(table["index"]):
        np.testing.assert_allclose(found[:, column], data[volume == index].mean(axis=0), rtol=1e-5)


def test_atlas_other_names_and_rois_are_refused(encoder: Encoder, tmp_path: Path) -> None:
    """The image's name ends in .nii.gz; an ROI is one of the encoder's."""
    with pytest.raises(OptionError, match=r"atlas.tsv: expected the name of an image, .nii.gz"):
        encoder.atlas().save(tmp_path / "atlas.tsv")
    with pytest.raises(OptionError, match="rois must be one of LOC, PPA; got 'FFA'"):
        encoder.atlas(rois=["FFA"])
