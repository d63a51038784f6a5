"""Maps on surfaces, and values at points."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import scipy.interpolate
from nilearn.datasets import load_fsaverage
from nilearn.surface import SurfaceImage

from imgtofmri import assets
from imgtofmri.bundle import Bundle
from imgtofmri.encoder import Encoder, Prediction
from imgtofmri.encoder.surface import WHEEL_PROJECT, WHEEL_SHA256, WHEEL_VERSION, read_tables
from imgtofmri.exceptions import AssetError, DataError, OptionError, ShapeError
from imgtofmri.spaces import MNI152_2MM
from imgtofmri.spaces.surface import fsaverage5_places, sample, sampling_matrix

Places = npt.NDArray[np.float64]


def test_sampling_of_a_full_grid_is_scipys_interpolation(rng: np.random.Generator) -> None:
    """Where all voxels are known the weights are those of trilinear interpolation."""
    known = np.ones((5, 6, 7), bool)
    affine = np.array([[-2.0, 0, 0, 4], [0, 2, 0, -3], [0, 0, 2, 1], [0, 0, 0, 1]])
    maps = rng.normal(size=(3, known.size)).astype(np.float32)
    index = rng.uniform(0, [4, 5, 6], size=(50, 3))
    places = index @ affine[:3, :3].T + affine[:3, 3]
    got = sample(sampling_matrix(places, known, affine), maps)
    axes = [np.arange(n) for n in known.shape]
    for values, row in zip(maps, got, strict=True):
        expected = scipy.interpolate.interpn(axes, values.reshape(known.shape), index)
        np.testing.assert_allclose(row, expected, atol=1e-5)


def test_sampling_leaves_out_what_is_not_known(rng: np.random.Generator) -> None:
    """Weights of known neighbours are made to sum to 1; with less than half of them, no value."""
    known = rng.random((5, 6, 7)) < 0.6
    volume = np.where(known, rng.normal(size=known.shape), 0)
    index = rng.uniform(-0.5, [4.5, 5.5, 6.5], size=(200, 3))
    got = sample(sampling_matrix(index, known, np.eye(4)), volume[known][None].astype(np.float32))[
        0
    ]
    weight, total = np.zeros(200), np.zeros(200)
    for number, point in enumerate(index):
        for corner in np.ndindex(2, 2, 2):
            voxel = np.floor(point).astype(int) + corner
            share = np.prod(1 - abs(point - voxel))
            if ((voxel >= 0) & (voxel < known.shape)).all() and known[tuple(voxel)]:
                weight[number] += share
                total[number] += share * volume[tuple(voxel)]
    valued = weight >= 0.5
    assert 20 < valued.sum() < 180
    np.testing.assert_array_equal(np.isnan(got), ~valued)
    np.testing.assert_allclose(got[valued], total[valued] / weight[valued], atol=1e-5)


@pytest.fixture
def prediction(small_bundle: Bundle, rng: np.random.Generator) -> Prediction:
    """Return a prediction of three stimuli."""
    return Encoder(small_bundle).predict_features(rng.normal(size=(3, 6)), average="mean")


@pytest.fixture
def brain(prediction: Prediction, rng: np.random.Generator) -> Prediction:
    """Return the prediction as if its voxels were a slab of the 2 mm grid of MNI152."""
    from dataclasses import replace

    mask = np.zeros(MNI152_2MM.shape, bool)
    mask[:, 20:40, 30:50] = True
    n_voxels = int(mask.sum())
    return replace(
        prediction,
        group=rng.normal(size=(3, n_voxels)).astype(np.float32),
        subjects=rng.normal(size=(2, 3, n_voxels)).astype(np.float32),
        mask=mask,
        affine=MNI152_2MM.affine,
        provenance=replace(prediction.provenance, space="MNI152NLin6Asym"),
    )


def test_to_surface_is_an_image_that_nilearn_saves(brain: Prediction, tmp_path: Path) -> None:
    """fsaverage5's vertices, NaN off the slab, one column a stimulus; GIFTI on disk."""
    image = brain.to_surface()
    assert isinstance(image, SurfaceImage)
    assert image.shape == (20484, 3)
    left = image.data.parts["left"]
    assert 0.02 < np.isfinite(left).mean() < 0.5
    places = fsaverage5_places()["L"]
    inside = np.isfinite(left[:, 0])
    assert (abs(places[inside, 1] + 66) < 22).all()
    assert brain[0].to_surface().shape == (20484,)
    assert brain.to_surface(subject="S2").shape == (20484, 3)
    image.data.to_filename(tmp_path / "map.gii")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "map_hemi-L.gii",
        "map_hemi-R.gii",
    ]


def test_to_surface_left_is_left(brain: Prediction) -> None:
    """A voxel left of the midline shows on the left hemisphere alone."""
    from dataclasses import replace

    x_mm = 90 - 2 * np.nonzero(brain.mask)[0]
    group = np.where(x_mm < -10, np.float32(1), np.float32(0))[None].repeat(3, axis=0)
    image = replace(brain, group=group).to_surface()
    left, right = (image.data.parts[side] for side in ("left", "right"))
    assert np.nanmean(left) > 0.6
    assert np.nanmax(right) == 0


def test_to_surface_of_own_meshes_takes_their_coordinates(brain: Prediction) -> None:
    """A mesh whose vertices are voxel centres gives the voxels' values."""
    pial = load_fsaverage("fsaverage5")["pial"]
    from nilearn.surface import InMemoryMesh, PolyMesh

    centres = np.argwhere(brain.mask)[:10242] @ brain.affine[:3, :3].T + brain.affine[:3, 3]
    mesh = PolyMesh(left=InMemoryMesh(centres, pial.parts["left"].faces), right=pial.parts["right"])
    image = brain.to_surface(mesh)
    np.testing.assert_allclose(image.data.parts["left"], brain.group[:, :10242].T, atol=1e-5)


@pytest.mark.parametrize("name", ["lh.surf.gii", "lh.surf.gii.gz"])
def test_to_surface_of_freesurfers_coordinates_in_gifti_is_refused(
    brain: Prediction, tmp_path: Path, name: str
) -> None:
    """Values came from 25 mm beside; of FreeSurfer's own file the centre is added."""
    import nibabel as nib
    from nibabel.gifti.gifti import GiftiDataArray, GiftiImage, GiftiMetaData

    centre = np.array([-1.0, -17, 19])
    places = np.argwhere(brain.mask)[::500] @ brain.affine[:3, :3].T + brain.affine[:3, 3]
    places = np.asarray(places, np.float32)
    faces = np.array([[0, 1, 2]], np.int32)

    def write(places: npt.NDArray[np.float32], **meta: str) -> Path:
        points, triangles = (
            GiftiDataArray(values, intent=f"NIFTI_INTENT_{what}", datatype=f"NIFTI_TYPE_{kind}")
            for values, what, kind in (
                (places, "POINTSET", "FLOAT32"),
                (faces, "TRIANGLE", "INT32"),
            )
        )
        points.meta = GiftiMetaData(meta)
        content = GiftiImage(darrays=[points, triangles]).to_bytes()
        file = tmp_path / name
        file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return file

    wanted = brain.group[:, ::500]
    said = {f"VolGeomC_{axis}": f"{mm:f}" for axis, mm in zip("RAS", centre, strict=True)}
    file = write(np.asarray(places - centre, np.float32), **said)
    with pytest.raises(DataError, match=rf"{name}: .* FreeSurfer's.*\(-1, -17, 19\) mm"):
        brain.to_surface({"left": file})
    for plain in ({}, dict.fromkeys(said, "0.000000")):
        got = brain.to_surface({"left": write(places, **plain)}).data.parts["left"]
        np.testing.assert_allclose(got, wanted.T, atol=1e-4)
    volume = {
        "head": np.array([2, 0, 20]),
        "valid": "1  # volume info valid",
        "filename": "orig.mgz",
        "volume": np.array([256, 256, 256]),
        "voxelsize": np.ones(3),
        "xras": np.array([-1.0, 0, 0]),
        "yras": np.array([0, 0, -1.0]),
        "zras": np.array([0, 1.0, 0]),
        "cras": centre,
    }
    nib.freesurfer.write_geometry(tmp_path / "lh.pial", places - centre, faces, volume_info=volume)
    got = brain.to_surface({"left": tmp_path / "lh.pial"}).data.parts["left"]
    np.testing.assert_allclose(got, wanted.T, atol=1e-4)


@pytest.mark.parametrize("mesh", ["fsaverage6", "lh.pial"])
def test_to_surface_unknown_mesh_says_what_there_is(brain: Prediction, mesh: str) -> None:
    """The name of no published mesh."""
    with pytest.raises(OptionError, match="mesh must be fsaverage5, fsaverage, or a mesh of your"):
        brain.to_surface(mesh)


def test_to_surface_of_a_mesh_that_cannot_be_had_says_what_to_do(
    brain: Prediction, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What nilearn cannot fetch is one error, and its progress is no result."""

    def refuse(mesh: str) -> None:
        print(f"[load_fsaverage] Downloading {mesh} ...")  # noqa: T201
        message = "no route to host"
        raise OSError(message)

    places = {hemi: np.zeros((3, 3)) for hemi in "LR"}
    monkeypatch.delenv(assets.OFFLINE_VARIABLE, raising=False)
    monkeypatch.setattr("imgtofmri.encoder.surface._published_places", lambda _: places)
    monkeypatch.setattr("nilearn.datasets.load_fsaverage", refuse)
    said = r"not download mesh fsaverage \(no route.* copy of fsaverage lies, or use fsaverage5"
    with pytest.raises(AssetError, match=said):
        brain.to_surface("fsaverage")
    assert capsys.readouterr() == ("", "[load_fsaverage] Downloading fsaverage ...\n")


def test_to_surface_of_another_space_is_refused(prediction: Prediction) -> None:
    """Fsaverage's vertices are known in one space alone."""
    from dataclasses import replace

    other = replace(
        prediction, provenance=replace(prediction.provenance, space="MNI152NLin2009cAsym")
    )
    with pytest.raises(OptionError, match="needs predictions in MNI152NLin6Asym, .* these are in"):
        other.to_surface()


def test_at_is_the_volume(prediction: Prediction) -> None:
    """The value at each voxel's centre, and near it, is the volume's; NaN outside the mask."""
    data = np.asarray(prediction.to_img().dataobj)
    voxels = np.argwhere(np.ones(prediction.mask.shape, bool))
    places = voxels @ prediction.affine[:3, :3].T + prediction.affine[:3, 3]
    got = prediction.at(places + 0.9)
    assert got.shape == (3, len(places))
    inside = prediction.mask.ravel()
    assert np.isnan(got[:, ~inside]).all()
    np.testing.assert_array_equal(got[:, inside].T, data[prediction.mask])
    np.testing.assert_array_equal(prediction.at(places[7]), got[:, 7])
    assert np.isnan(prediction.at([1e6, 0, 0])).all()


@pytest.mark.parametrize("points", [[1, 2], [[1, 2]], [np.nan, 0, 0], 3.0])
def test_at_refuses_what_are_no_points(prediction: Prediction, points: object) -> None:
    """Three finite numbers each."""
    with pytest.raises(ShapeError, match=r"points_mm must be finite, of shape \(3,\)"):
        prediction.at(points)  # type: ignore[arg-type]


@pytest.mark.network
@pytest.mark.slow
def test_fsaverage5_places_are_registration_fusions() -> None:
    """To half a hundredth of a millimetre, those of the published tables."""
    wheel = assets.fetch_wheel(WHEEL_PROJECT, WHEEL_VERSION, sha256=WHEEL_SHA256)
    tables = read_tables(wheel)
    for hemi, places in fsaverage5_places().items():
        assert tables[hemi].shape == (163842, 3)
        np.testing.assert_allclose(places, tables[hemi][:10242], atol=0.00501)
