"""ITK's transforms against nitransforms and against a written-out interpolation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import nitransforms
import numpy as np
import numpy.typing as npt
import pytest

from imgtofmri.exceptions import DataError
from imgtofmri.spaces import Grid, map_to_template
from imgtofmri.spaces.itk import Affine, DisplacementField, apply_all, read_itk

NITRANSFORMS_DATA = Path(nitransforms.__file__).parent / "tests" / "data"
LPS = np.array([-1.0, -1.0, 1.0])


def write_composite(
    path: Path,
    field: npt.NDArray[Any],
    origin: npt.NDArray[Any],
    spacing: npt.NDArray[Any],
    direction: npt.NDArray[Any],
    matrix: npt.NDArray[Any],
    translation: npt.NDArray[Any],
    centre: npt.NDArray[Any],
    spelled: str = "Transform",
) -> None:
    """Write an affine and then a field as ITK does; all vectors and coordinates are LPS."""
    with h5py.File(path, "w") as file:
        group = file.create_group("TransformGroup")
        kinds = [
            ("CompositeTransform_double_3_3", None, None),
            ("AffineTransform_double_3_3", np.r_[matrix.ravel(), translation], centre),
            (
                "DisplacementFieldTransform_float_3_3",
                field.transpose(2, 1, 0, 3).ravel(),
                np.r_[field.shape[:3], origin, spacing, direction.ravel()],
            ),
        ]
        for number, (kind, parameters, fixed) in enumerate(kinds):
            part = group.create_group(str(number))
            part.create_dataset("TransformType", data=[kind.encode()])
            if parameters is not None:
                part.create_dataset(f"{spelled}Parameters", data=parameters)
                part.create_dataset(f"{spelled}FixedParameters", data=fixed)


def rotation(angle: float) -> npt.NDArray[np.float64]:
    """Return a rotation about two axes."""
    c, s = np.cos(angle), np.sin(angle)
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    return np.asarray(about_z @ about_x)


@pytest.fixture
def composite(tmp_path: Path, rng: np.random.Generator) -> dict[str, Any]:
    """Return the parts of an oblique, anisotropic composite and the file that holds them."""
    parts: dict[str, Any] = {
        "field": rng.normal(scale=2.0, size=(6, 7, 8, 3)),
        "origin": np.array([20.0, -15.0, 5.0]),
        "spacing": np.array([2.0, 2.5, 3.0]),
        "direction": rotation(0.3),
        "matrix": rotation(-0.2) * 1.1,
        "translation": np.array([3.0, -2.0, 1.0]),
        "centre": np.array([5.0, 6.0, -7.0]),
    }
    write_composite(tmp_path / "composite.h5", **parts)
    return {"path": tmp_path / "composite.h5", **parts}


def apply_by_hand(parts: dict[str, Any], point_ras: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Move one point as ITK's documentation says: field first, trilinear, then the affine."""
    point = point_ras * LPS
    index = np.linalg.solve(parts["direction"] * parts["spacing"], point - parts["origin"])
    low = np.floor(index).astype(int)
    size = parts["field"].shape[:3]
    if (index >= 0).all() and (index <= np.array(size) - 1).all():
        shift = np.zeros(3)
        for corner in np.ndindex(2, 2, 2):
            at = low + corner
            weight = np.prod(np.where(np.array(corner) == 1, index - low, 1 - (index - low)))
            if weight > 0:
                shift += weight * parts["field"][tuple(at)]
        point = point + shift
    moved = parts["matrix"] @ (point - parts["centre"]) + parts["centre"] + parts["translation"]
    return np.asarray(moved * LPS)


def test_read_itk_composite_equals_written_out_transform(
    composite: dict[str, Any], rng: np.random.Generator
) -> None:
    """Points inside and outside the field move as a loop over ITK's definition moves them."""
    inside = rng.uniform(0, [5, 6, 7], size=(60, 3))
    lps = inside @ (composite["direction"] * composite["spacing"]).T + composite["origin"]
    points = np.concatenate([lps * LPS, rng.normal(scale=100, size=(20, 3))])
    moved = apply_all(read_itk([composite["path"]]), points)
    expected = np.array([apply_by_hand(composite, point) for point in points])
    np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_read_itk_composite_equals_nitransforms_on_the_grid(composite: dict[str, Any]) -> None:
    """On the field's grid points, where both interpolate nothing, nitransforms agrees."""
    from nitransforms.manip import load

    index = np.stack(np.unravel_index(np.arange(6 * 7 * 8), (6, 7, 8)), axis=1).astype(float)
    lps = index @ (composite["direction"] * composite["spacing"]).T + composite["origin"]
    expected = load(composite["path"], fmt="itk").map(lps * LPS)
    moved = apply_all(read_itk([composite["path"]]), lps * LPS)
    np.testing.assert_allclose(moved, expected, atol=1e-4)


def test_read_itk_4_spelling_is_read_alike(composite: dict[str, Any], tmp_path: Path) -> None:
    """ITK 4 wrote 'Tranform'; the content is the same."""
    parts = {key: value for key, value in composite.items() if key != "path"}
    write_composite(tmp_path / "old.h5", **parts, spelled="Tranform")
    points = np.array([[-20.0, 10, 8], [0, 0, 0]])
    np.testing.assert_array_equal(
        apply_all(read_itk([tmp_path / "old.h5"]), points),
        apply_all(read_itk([composite["path"]]), points),
    )


def test_read_itk_parts_one_by_one_equal_the_composite(
    composite: dict[str, Any], tmp_path: Path, rng: np.random.Generator
) -> None:
    """A field in NIfTI and an affine in text, in order, do what the composite does."""
    affine = np.eye(4)
    affine[:3, :3] = composite["direction"] * composite["spacing"]
    affine[:3, 3] = composite["origin"]
    affine = np.diag([-1.0, -1, 1, 1]) @ affine
    field = composite["field"][..., None, :].astype(np.float32)
    image = nib.Nifti1Image(field, affine)
    image.header.set_intent("vector")
    nib.save(image, tmp_path / "1Warp.nii.gz")
    numbers = " ".join(map(repr, map(float, composite["matrix"].ravel())))
    shift = " ".join(map(repr, map(float, composite["translation"])))
    centre = " ".join(map(repr, map(float, composite["centre"])))
    (tmp_path / "0Affine.txt").write_text(
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {numbers} {shift}\nFixedParameters: {centre}\n"
    )
    points = rng.normal(scale=20, size=(200, 3))
    parts = read_itk([tmp_path / "1Warp.nii.gz", tmp_path / "0Affine.txt"])
    assert [type(part) for part in parts] == [DisplacementField, Affine]
    np.testing.assert_allclose(
        apply_all(parts, points), apply_all(read_itk([composite["path"]]), points), atol=1e-4
    )


def test_read_itk_ants_files_equal_nitransforms() -> None:
    """Files that ANTs itself wrote give the matrices that nitransforms reads from them."""
    from nitransforms.io.itk import ITKCompositeH5, ITKLinearTransform

    for name in ("affine-RAS.itk.tfm", "affine-LAS.itk.tfm", "affine-oblique.itk.tfm"):
        path = NITRANSFORMS_DATA / name
        (found,) = read_itk([path])
        assert isinstance(found, Affine)
        expected = ITKLinearTransform.from_filename(path).to_ras()
        np.testing.assert_allclose(found.matrix, expected, atol=1e-6)
    path = NITRANSFORMS_DATA / "affine-antsComposite.h5"
    expected_parts = ITKCompositeH5.from_filename(path)
    points = np.array([[1.0, 2, 3], [-40, 50, 60]])
    expected_points = points
    for part in reversed(expected_parts):
        matrix = part.to_ras()
        expected_points = expected_points @ matrix[:3, :3].T + matrix[:3, 3]
    np.testing.assert_allclose(apply_all(read_itk([path]), points), expected_points, atol=1e-4)


def test_map_to_template_itk_takes_the_voxel_under_the_moved_point(
    composite: dict[str, Any],
) -> None:
    """Each template voxel's native voxel is the one nearest to its moved centre."""
    template = Grid(
        (9, 8, 7), np.array([[3.0, 0, 0, -45], [0, 3, 0, 0], [0, 0, 3, -5], [0] * 3 + [1]])
    )
    native = Grid(
        (30, 30, 30),
        np.diag([2.5, 2.5, 2.5, 1.0]) + np.pad([[-60.0], [-30], [-40]], ((0, 1), (3, 0))),
    )
    found = map_to_template("itk", [composite["path"]], native, template)
    expected = {}
    for flat, index in enumerate(np.ndindex(template.shape)):
        point = template.affine[:3, :3] @ index + template.affine[:3, 3]
        voxel = np.linalg.solve(
            native.affine[:3, :3], apply_by_hand(composite, point) - native.affine[:3, 3]
        )
        nearest = np.floor(voxel + 0.5).astype(int)
        if (nearest >= 0).all() and (nearest < 30).all():
            expected[flat] = int(np.ravel_multi_index(tuple(nearest), native.shape))
    assert len(expected) > 100
    assert dict(zip(found.template.tolist(), found.native.tolist(), strict=True)) == expected


def test_map_to_template_affine_and_same(tmp_path: Path) -> None:
    """An affine given as text moves voxels; 'same' leaves them where they are."""
    grid = Grid((5, 5, 5), np.eye(4))
    same = map_to_template("same", [], grid, grid)
    np.testing.assert_array_equal(same.template, same.native)
    shift = np.eye(4)
    shift[0, 3] = 2
    np.savetxt(tmp_path / "shift.txt", shift)
    file = tmp_path / "shift.txt"
    moved = map_to_template("affine", [file], grid, grid)
    np.testing.assert_array_equal(moved.template - moved.native, 50)
    shift[0, 3] = 1e6
    np.savetxt(tmp_path / "shift.txt", shift)
    with pytest.raises(DataError, match=r"^S1: .* no template voxel falls .* Check its direction"):
        map_to_template("affine", [file], grid, grid, where="S1")
    np.savetxt(tmp_path / "shift.txt", np.eye(3))
    with pytest.raises(DataError, match=r"expected 4 x 4 numbers; got \(3, 3\)"):
        map_to_template("affine", [file], grid, grid)


def test_read_itk_foreign_files_are_refused(tmp_path: Path, composite: dict[str, Any]) -> None:
    """Files of another kind, damaged or unsupported, have a message each."""
    with pytest.raises(DataError, match=r"expected an ITK transform .*got '.lta'"):
        read_itk([tmp_path / "a.lta"])
    (tmp_path / "a.h5").write_bytes(b"not hdf5")
    with pytest.raises(DataError, match=r"expected an ITK composite transform; it cannot be read"):
        read_itk([tmp_path / "a.h5"])
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file.create_group("other")
    with pytest.raises(DataError, match=r"cannot be read as one .*TransformGroup"):
        read_itk([tmp_path / "empty.h5"])
    with h5py.File(composite["path"], "a") as file:
        del file["TransformGroup/1/TransformType"]
        file["TransformGroup/1/TransformType"] = [b"BSplineTransform_double_3_3"]
    with pytest.raises(DataError, match=r"type BSplineTransform_double_3_3 are not supported"):
        read_itk([composite["path"]])
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3, 3), np.float32), np.eye(4)), tmp_path / "b.nii.gz")
    with pytest.raises(DataError, match=r"shape \(X, Y, Z, 1, 3\); got \(3, 3, 3, 3\)"):
        read_itk([tmp_path / "b.nii.gz"])
    (tmp_path / "d.nii").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"d.nii must be a NIfTI image; got one that cannot be"):
        read_itk([tmp_path / "d.nii"])
    (tmp_path / "c.txt").write_text("1 0 0 0\n")
    with pytest.raises(DataError, match=r"expected one ITK affine transform"):
        read_itk([tmp_path / "c.txt"])
