"""Grids, voxel maps and smoothing."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import scipy.ndimage
from fsl.data.image import Image
from fsl.transform import fnirt, nonlinear

from imgtofmri import spaces
from imgtofmri.exceptions import OptionError, ShapeError
from imgtofmri.spaces import MNI152_2MM, Grid, maps


@pytest.fixture
def grid() -> Grid:
    """Return a small grid of uneven shape and voxels."""
    return Grid((7, 9, 8), np.array([[2.0, 0, 0, -5], [0, 2.5, 0, -7], [0, 0, 3, 4], [0, 0, 0, 1]]))


def test_the_template_s_grid_is_fsl_s() -> None:
    """FSL's 2 mm standard: the anterior commissure, 0 mm, is voxel (45, 63, 36); left is high."""
    assert MNI152_2MM.shape == (91, 109, 91)
    np.testing.assert_array_equal(MNI152_2MM.affine @ [45, 63, 36, 1], [0, 0, 0, 1])
    np.testing.assert_array_equal(MNI152_2MM.affine[:3, :3], np.diag([-2, 2, 2]))


def test_gaussian_kernel_has_the_published_taps_and_unit_sum() -> None:
    """5 taps at 1 mm, 7 at 1.25 mm on 2 mm voxels; the weights sum to 1 and are symmetric."""
    for sigma_mm, n_taps in ((1.0, 5), (1.25, 7), (3.0, 13)):
        kernel = spaces.gaussian_kernel(sigma_mm, 2.0)
        assert len(kernel) == n_taps
        np.testing.assert_allclose(kernel.sum(), 1, rtol=1e-15)
        np.testing.assert_allclose(kernel, kernel[::-1])


@pytest.mark.parametrize("sigma_mm", [0.0, -1.0, float("nan"), float("inf")])
def test_gaussian_kernel_wrong_sigma_says_what_is_valid(sigma_mm: float) -> None:
    """Only a positive number of millimetres is a smoothing."""
    with pytest.raises(OptionError, match="sigma_mm must be a positive number"):
        spaces.gaussian_kernel(sigma_mm, 2.0)


def test_smoothing_matrix_equals_separable_convolution(
    grid: Grid, rng: np.random.Generator
) -> None:
    """The sparse matrix does what SciPy's correlation along each axis does, edges included."""
    volume = rng.normal(size=grid.shape)
    sources = np.flatnonzero(rng.random(grid.n_voxels) < 0.4)
    sparse_volume = np.zeros(grid.n_voxels)
    sparse_volume[sources] = volume.ravel()[sources]
    expected = sparse_volume.reshape(grid.shape)
    for axis, edge in enumerate(grid.voxel_mm):
        kernel = spaces.gaussian_kernel(1.5, edge)
        expected = scipy.ndimage.correlate1d(expected, kernel, axis, mode="constant")
    got = spaces.smoothing_matrix(sources, grid, 1.5) @ sparse_volume[sources]
    np.testing.assert_allclose(got.reshape(grid.shape), expected, atol=1e-14)


def test_smoothed_mask_is_the_matrix_times_the_mask(grid: Grid, rng: np.random.Generator) -> None:
    """No matrix is made for it; at edges, too, and of nothing."""
    mask = np.where(rng.random(grid.n_voxels) < 0.4, rng.random(grid.n_voxels), 0)
    sources = np.flatnonzero(mask)
    expected = spaces.smoothing_matrix(sources, grid, 1.0) @ mask[sources]
    np.testing.assert_allclose(spaces.smoothed_mask(mask, grid), expected, rtol=1e-14)
    assert not spaces.smoothed_mask(np.zeros(grid.n_voxels), grid).any()


def test_nearest_voxels_half_way_takes_the_higher_index(grid: Grid) -> None:
    """Ties go up, noise does not decide them, and what is outside is -1."""
    points = np.array(
        [[0.5, 1.5, 2.5], [0.5 - 1e-9, 0, 0], [0.49, 0, 0], [-0.6, 0, 0], [6.6, 0, 0]]
    )
    got = spaces.nearest_voxels(points, grid)
    expected = [np.ravel_multi_index((1, 2, 3), grid.shape), 72, 0, -1, -1]
    assert got.tolist() == expected


def test_affine_map_of_a_grid_to_itself_is_the_identity(grid: Grid) -> None:
    """Every voxel comes from itself."""
    found = spaces.affine_map(grid, grid, np.eye(4))
    assert found.template.tolist() == found.native.tolist() == list(range(grid.n_voxels))


def test_affine_map_equals_a_written_out_loop(grid: Grid) -> None:
    """Through any affine, each template voxel takes the native voxel nearest in millimetres."""
    turn = np.array([[0.9, 0.1, 0, 2], [-0.1, 1.1, 0.2, -3], [0, 0, 1, 1], [0, 0, 0, 1.0]])
    template = Grid((6, 6, 6), np.diag([3.01, 3.03, 3.07, 1]))
    found = spaces.affine_map(grid, template, turn)
    sources = dict(zip(found.template.tolist(), found.native.tolist(), strict=True))
    for flat, index in enumerate(np.ndindex(template.shape)):
        template_mm = template.affine @ [*index, 1]
        voxel = np.linalg.solve(grid.affine, np.linalg.solve(turn, template_mm))[:3]
        nearest = np.rint(voxel).astype(int)
        if ((nearest >= 0) & (nearest < grid.shape)).all():
            assert sources[flat] == np.ravel_multi_index(tuple(nearest), grid.shape)
        else:
            assert flat not in sources


def test_affine_map_singular_matrix_is_refused(grid: Grid) -> None:
    """A matrix that cannot be inverted is one clear error."""
    with pytest.raises(ShapeError, match="must be an invertible matrix of shape"):
        spaces.affine_map(grid, grid, np.zeros((4, 4)))


def test_merge_matrix_follows_the_published_rule() -> None:
    """A voxel that is written again becomes the mean of what it held and what comes."""
    sets = [np.array([3, 5, 7]), np.array([5, 9]), np.array([7, 5])]
    values = [np.array([1.0, 2, 3]), np.array([10.0, 20]), np.array([100.0, 200])]
    image: dict[int, float] = {}
    for voxels, outputs in zip(sets, values, strict=True):
        for voxel, output in zip(voxels.tolist(), outputs.tolist(), strict=True):
            image[voxel] = (image[voxel] + output) / 2 if voxel in image else output
    voxels, matrix = spaces.merge_matrix(sets)
    merged = matrix @ np.concatenate(values)
    assert dict(zip(voxels.tolist(), merged.tolist(), strict=True)) == image


def test_map_matrix_fills_template_voxels_by_their_shares() -> None:
    """Fractions of several native voxels add up; voxels without a model count as nothing."""
    voxel_map = spaces.VoxelMap(
        np.array([4, 4, 6, 8], np.int32),
        np.array([1, 2, 2, 5], np.int32),
        np.array([0.25, 0.75, 1, 1], np.float32),
    )
    reached, matrix = spaces.map_matrix(voxel_map, np.array([1, 2]))
    assert reached.tolist() == [4, 6]
    assert (matrix @ [4.0, 8.0]).tolist() == [7.0, 8.0]


def test_fnirt_coordinates_equal_fslpy(tmp_path: Path, rng: np.random.Generator) -> None:
    """The separable spline gives what fslpy computes voxel by voxel."""
    template = Grid((9, 11, 8), np.diag([-2.0, 2, 2, 1]))
    knots = rng.normal(size=(7, 8, 6, 3)).astype(np.float32)
    header = nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    image = nib.Nifti1Image(knots, np.diag([2.0, 2, 2, 1]), header)
    premat = np.array([[1.1, 0.1, 0, 2], [0, 0.9, 0.1, -1], [0.1, 0, 1, 3], [0, 0, 0, 1]])
    image.set_sform(premat, code=1)
    image.header.set_zooms((2, 2, 2, 1))
    image.header["intent_code"] = 2007
    for axis in (1, 2, 3):
        image.header[f"intent_p{axis}"] = 2.0
        image.header[f"qoffset_{'xyz'[axis - 1]}"] = template.shape[axis - 1]
    nib.save(image, tmp_path / "field.nii.gz")

    volume = Image(nib.Nifti1Image(np.zeros(template.shape, np.uint8), template.affine))
    field = fnirt.readFnirt(str(tmp_path / "field.nii.gz"), volume, volume)
    expected = nonlinear.coefficientFieldToDeformationField(field, "absolute", premat=True)
    got = maps._fnirt_coordinates(tmp_path / "field.nii.gz", template)
    np.testing.assert_allclose(got, expected.data.reshape(-1, 3), atol=1e-4)


def test_roi_overlap_of_an_empty_mask_is_empty(grid: Grid) -> None:
    """An ROI that does not reach the template has no overlap mask."""
    assert not spaces.roi_overlap(np.zeros(grid.n_voxels), grid).any()


def test_grids_compare_by_shape_and_affine(grid: Grid) -> None:
    """Equality is by value."""
    assert grid == Grid(grid.shape, grid.affine.copy())
    assert grid != MNI152_2MM
    assert len({grid, Grid(grid.shape, grid.affine.copy())}) == 1


def test_grids_are_one_to_a_ten_thousandth_of_a_millimetre(grid: Grid) -> None:
    """Headers hold single precision, in entries that are 0, too."""
    for entry in ((0, 1), (2, 3)):
        near, far = grid.affine.copy(), grid.affine.copy()
        near[entry] += 5e-5
        far[entry] += 5e-3
        assert Grid(grid.shape, near) == grid
        assert Grid(grid.shape, far) != grid


def test_a_grid_that_leads_far_away_is_at_fault(grid: Grid) -> None:
    """No scanner is kilometres long."""
    affine = grid.affine.copy()
    affine[0, 3] = 1e9
    assert grid.fault == ""
    assert Grid(grid.shape, affine).fault.startswith("lead to less than")


def test_brain_mask_covers_the_template_brain() -> None:
    """On the 2 mm grid of MNI152 the mask has a brain's volume and holds its centre."""
    brain = spaces.brain_mask(MNI152_2MM.shape, MNI152_2MM.affine)
    assert brain.shape == MNI152_2MM.shape
    assert 1.7e6 < brain.sum() * 8 < 2.0e6
    centre = np.rint(np.linalg.inv(MNI152_2MM.affine) @ [20, -20, 10, 1])[:3].astype(int)
    assert brain[tuple(centre)]
    assert not brain[0].any()


def test_brain_mask_of_another_template_is_refused() -> None:
    """There is a brain for MNI152 alone."""
    with pytest.raises(OptionError, match="space must be one of MNI152, .*; got fsaverage"):
        spaces.brain_mask((2, 2, 2), np.eye(4), "fsaverage")
