"""ITK's transforms against nitransforms and against a written-out interpolation."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import nitransforms
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io

from imgtofmri.exceptions import DataError
from imgtofmri.spaces import MNI152_2MM, Grid, map_to_template, transform, voxel_coordinates
from imgtofmri.spaces.itk import Affine, DisplacementField, apply_all, read_itk

NITRANSFORMS_DATA = Path(nitransforms.__file__).parent / "tests" / "data"
LPS = np.array([-1.0, -1.0, 1.0])
LPS_TO_RAS = np.diag([*LPS, 1.0])


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
    size = parts["field"].shape[:3]
    if (index >= -0.5).all() and (index < np.array(size) - 0.5).all():
        index = np.clip(index, 0, np.array(size) - 1)
        low = np.floor(index).astype(int)
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


@pytest.mark.parametrize(
    "wrong",
    [
        {"direction": np.zeros((3, 3))},
        {"direction": np.ones((3, 3))},
        {"spacing": np.array([2.0, 0, 3])},
        {"origin": np.array([np.nan, 0, 0])},
        {"spacing": np.array([2.0, 1e300, 3])},
    ],
)
def test_fields_on_no_grid_are_refused(
    composite: dict[str, Any], wrong: dict[str, Any], tmp_path: Path
) -> None:
    """NumPy's error of a singular matrix came when points were moved, without the file's name."""
    parts = {name: value for name, value in composite.items() if name != "path"}
    write_composite(tmp_path / "none.h5", **parts | wrong)
    with pytest.raises(DataError, match=r"none\.h5: expected the affine of a displacement field's"):
        read_itk([tmp_path / "none.h5"])


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


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "expected 4 x 4 numbers; got "),
        (b"# a comment\n", "expected 4 x 4 numbers; got "),
        (b"1 0 0\n0 1 0\n0 0 1\n", r"got \(3, 3\)"),
        (b"1 0 0 0\n0 1 0\n0 0 1 0\n0 0 0 1\n", "expected a text file of 4 x 4 numbers"),
        (b"1 0 0 0\n0 1 0 0\n0 0 1 x\n0 0 0 1\n", "expected a text file of 4 x 4 numbers"),
        (b"\xff\xfe1 0 0 0", "expected a text file of 4 x 4 numbers"),
        (b"1 0 0 0\n0 1 0 0\n0 0 0 0\n0 0 0 1\n", "that can be inverted"),
        (b"1 0 0 nan\n0 1 0 0\n0 0 1 0\n0 0 0 1\n", "that can be inverted"),
        (b"1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 2\n", "whose last row is 0 0 0 1"),
        (gzip.compress(b"1 0 0 0\n" * 4, mtime=0), "expected a text file of 4 x 4 numbers"),
    ],
)
def test_affine_that_is_none_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    """Numbers that are too few, no numbers, or no affine; nothing is unpacked."""
    file = tmp_path / ("affine.txt.gz" if content[:2] == b"\x1f\x8b" else "affine.txt")
    file.write_bytes(content)
    grid = Grid((3, 3, 3), np.eye(4))
    with pytest.raises(DataError, match=said):
        map_to_template("affine", [file], grid, grid)


def test_affine_may_have_comments_and_a_byte_order_mark(tmp_path: Path) -> None:
    """Text is read as any other text of the package is."""
    rows = "# native to template\n1 0 0 1 # to the right\n\n0 1 0 0\n0 0 1 0\n0 0 0 1\n"
    (tmp_path / "a.txt").write_text(rows, "utf-8-sig")
    grid = Grid((3, 3, 3), np.eye(4))
    found = map_to_template("affine", [tmp_path / "a.txt"], grid, grid)
    np.testing.assert_array_equal(found.template - found.native, 9)


def test_fnirt_fields_are_read_within_limits(tmp_path: Path) -> None:
    """A header that promises more than the file can hold is refused before it is believed."""
    grid = Grid((5, 5, 5), np.eye(4))
    nib.save(nib.Nifti1Image(np.ones((5, 5, 5), np.float32), np.eye(4)), tmp_path / "t1.nii.gz")
    field = nib.Nifti1Image(np.ones((4, 4, 4, 3), np.float32), np.eye(4))
    raw = bytearray(field.to_bytes())
    raw[42:50] = np.array([4000, 4000, 4000, 3], "<i2").tobytes()
    (tmp_path / "field.nii.gz").write_bytes(gzip.compress(bytes(raw)))
    (tmp_path / "none.nii.gz").write_bytes(gzip.compress(field.to_bytes()))
    whole = {"anatomical": tmp_path / "t1.nii.gz", "where": "S1"}
    with pytest.raises(DataError, match=r"^S1: .*field.nii.gz"):
        map_to_template("fnirt", [tmp_path / "field.nii.gz"], grid, grid, **whole)
    with pytest.raises(DataError, match=r"^S1: .*none.nii.gz must hold FNIRT's coefficients"):
        map_to_template("fnirt", [tmp_path / "none.nii.gz"], grid, grid, **whole)


def write_coefficients(path: Path, intent: int = 2007) -> None:
    """Write FNIRT's coefficients, 4 mm along y, of a reference that is FSL's template of 2 mm."""
    knots = np.zeros((13, 15, 13, 3), np.float32)
    knots[..., 1] = 4
    image = nib.Nifti1Image(knots, np.eye(4))
    image.header.set_zooms((10, 10, 10, 1))
    image.header["intent_code"] = intent
    for axis, letter in enumerate("xyz"):
        image.header[f"intent_p{axis + 1}"] = 2.0
        image.header[f"qoffset_{letter}"] = MNI152_2MM.shape[axis]
    path.write_bytes(gzip.compress(image.to_bytes()))


@pytest.mark.slow
def test_fnirt_takes_templates_of_its_references_extent_alone(tmp_path: Path) -> None:
    """On nilearn's grid of 2 mm, which begins elsewhere, values came from 8 mm beside."""
    write_coefficients(tmp_path / "coeff.nii.gz")
    t1 = np.diag([-1.0, 1, 1, 1])
    t1[:3, 3] = 90, -126, -72
    nib.save(nib.Nifti1Image(np.zeros((182, 218, 182), np.uint8), t1), tmp_path / "t1.nii")

    def found(template: Grid, name: str = "coeff.nii.gz") -> npt.NDArray[np.float64]:
        way = map_to_template(
            "fnirt",
            [tmp_path / name],
            MNI152_2MM,
            template,
            anatomical=tmp_path / "t1.nii",
            where="S1",
        )
        ends = (template, way.template), (MNI152_2MM, way.native)
        places = [transform(grid.affine, voxel_coordinates(grid)[voxels]) for grid, voxels in ends]
        return np.asarray(places[1] - places[0])

    assert np.median(found(MNI152_2MM), axis=0).tolist() == [0, 4, 0]
    nilearn = np.diag([2.0, 2, 2, 1])
    nilearn[:3, 3] = -98, -134, -72
    beyond = np.diag([2.0, 2, 2, 1])
    beyond[:3, 3] = -90, -106, -52
    for grid in (Grid((99, 117, 95), nilearn), Grid((91, 89, 71), beyond)):
        with pytest.raises(DataError, match=r"^S1: .*coeff.*91 x 109 x 91 voxels of 2 mm"):
            found(grid)
    # FSL's template turned to the right begins at the other side, and its coordinates with it.
    turned = np.diag([2.0, 2, 2, 1])
    turned[:3, 3] = -90, -126, -72
    assert np.median(found(Grid(MNI152_2MM.shape, turned)), axis=0).tolist() == [0, 4, 0]
    # Cosines were taken for cubic splines, with a line from another package as the only sign.
    write_coefficients(tmp_path / "cosines.nii.gz", 2008)
    with pytest.raises(DataError, match=r"^S1: .*cosines.*expected cubic splines.* got code 2008"):
        found(MNI152_2MM, "cosines.nii.gz")


def test_read_itk_foreign_files_are_refused(tmp_path: Path, composite: dict[str, Any]) -> None:
    """Files of another kind, damaged or unsupported, have a message each."""
    with pytest.raises(DataError, match=r"expected an ITK transform .*got '.lta'"):
        read_itk([tmp_path / "a.lta"])
    (tmp_path / "a.h5").write_bytes(b"not hdf5")
    with pytest.raises(DataError, match=r"a.h5: expected an ITK transform; it cannot be read"):
        read_itk([tmp_path / "a.h5"])
    with h5py.File(tmp_path / "empty.h5", "w") as file:
        file.create_group("other")
    with pytest.raises(DataError, match=r"cannot be read .*TransformGroup"):
        read_itk([tmp_path / "empty.h5"])
    with h5py.File(composite["path"], "a") as file:
        del file["TransformGroup/1/TransformType"]
        file["TransformGroup/1/TransformType"] = [b"BSplineTransform_double_3_3"]
    with pytest.raises(
        DataError, match=r"type BSplineTransform_double_3_3 are not supported"
    ) as no:
        read_itk([composite["path"]])
    assert str(no.value).count("composite.h5") == 1  # one message, not one in another
    nib.save(nib.Nifti1Image(np.zeros((3, 3, 3, 3), np.float32), np.eye(4)), tmp_path / "b.nii.gz")
    with pytest.raises(DataError, match=r"shape \(X, Y, Z, 1, 3\); got \(3, 3, 3, 3\)"):
        read_itk([tmp_path / "b.nii.gz"])
    (tmp_path / "d.nii").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"d.nii must be a NIfTI image; got one that cannot be"):
        read_itk([tmp_path / "d.nii"])
    (tmp_path / "c.txt").write_text("1 0 0 0\n")
    with pytest.raises(
        DataError, match=r"c.txt: expected an ITK transform; .* \(the line '1 0 0 0'"
    ):
        read_itk([tmp_path / "c.txt"])


# SPM's y_*.nii and others of places look as a field of displacements does, and every point would
# come out near a line.
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("kind", ["places", "displacements", "growing"])
def test_read_itk_fields_of_places_are_refused(
    tmp_path: Path, rng: np.random.Generator, kind: str, sign: float
) -> None:
    """A field of where points come from is not added to where they are."""
    affine = np.array([[-3.0, 0, 0, 30], [0, 3, 0, -40], [0, 0, 3, -20], [0, 0, 0, 1]])
    grid = np.stack(np.meshgrid(*map(np.arange, (9, 10, 11)), indexing="ij"), axis=-1)
    own = grid @ affine[:3, :3].T + affine[:3, 3]
    shift = rng.normal(scale=3, size=own.shape)
    # What grows by a fifth is as much as brains differ, and still a displacement.
    field = {"places": sign * 1.1 * own + 5 + shift, "displacements": shift, "growing": 0.2 * own}
    image = nib.Nifti1Image(field[kind][..., None, :].astype(np.float32), affine)
    nib.save(image, tmp_path / "y_anat.nii")
    if kind == "places":
        with pytest.raises(DataError, match=r"expected displacements.*; got places, in mill.*SPM"):
            read_itk([tmp_path / "y_anat.nii"])
    else:
        assert len(read_itk([tmp_path / "y_anat.nii"])) == 1


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        # reg_transform -disp; the files' names and codes of intent are as ITK's.
        ("intent_name", "NREG_TRANS", "NiftyReg's, whose vectors are RAS"),
        ("intent_name", "Mapping", "places"),
        ("descrip", "Flow Field", "DARTEL"),
        ("descrip", "Velocity (1 0.0001 0.08 0.8)", "velocities"),
    ],
)
def test_read_itk_fields_of_other_programs_are_refused(
    tmp_path: Path, rng: np.random.Generator, key: str, text: str, said: str
) -> None:
    """NiftyReg's x and y came out with the other sign, and velocities as displacements."""
    field = rng.normal(size=(6, 5, 4, 1, 3)).astype(np.float32)
    image = nib.Nifti1Image(field, np.diag([2.0, 2, 2, 1]))
    image.header.set_intent("vector")
    image.header[key] = text
    nib.save(image, tmp_path / "field.nii.gz")
    with pytest.raises(DataError, match=rf"field.nii.gz: expected displacements.*{said}.*LPS"):
        read_itk([tmp_path / "field.nii.gz"])


def test_read_itk_fields_end_half_a_voxel_beyond_their_centres(tmp_path: Path) -> None:
    """What SimpleITK 2.5 gives, from the outermost centres on the value there, then 0."""
    x, y, z = np.meshgrid(np.arange(3), np.arange(4), np.arange(5), indexing="ij")
    field = np.stack([1 + 0.5 * x, -2 + 0.25 * y, 0.5 * z - x], axis=-1)
    affine = LPS_TO_RAS @ np.array([[2.0, 0, 0, -1], [0, 2, 0, 4], [0, 0, 3, 6], [0, 0, 0, 1]])
    nib.save(nib.Nifti1Image(field[..., None, :].astype(np.float32), affine), tmp_path / "f.nii.gz")
    moved = {
        (-0.5, 1, 2): (1, -1.75, 1),
        (2.49, 1.3, 2): (2, -1.675, -1),
        (1, -0.4, 4.4): (1.5, -2, 1),
        (1.2, 3.49, -0.3): (1.6, -1.25, -1.2),
        (-0.51, 1, 1): (0, 0, 0),
        (1, 1, 4.5): (0, 0, 0),
        (1.5, 2.5, 3.5): (1.75, -1.375, 0.25),
    }
    points = np.array(list(moved)) @ affine[:3, :3].T + affine[:3, 3]
    got = apply_all(read_itk([tmp_path / "f.nii.gz"]), points) - points
    np.testing.assert_allclose(got * LPS, list(moved.values()), atol=1e-5)


def test_read_itk_displacements_that_are_not_finite_are_refused(
    tmp_path: Path, composite: dict[str, Any]
) -> None:
    """Template voxels would be lost where a field says NaN, in either format."""
    parts = {key: value for key, value in composite.items() if key != "path"}
    parts["field"][2, 3, 4, 1] = np.nan
    parts["field"][2, 3, 5] = np.inf
    write_composite(tmp_path / "c.h5", **parts)
    nib.save(
        nib.Nifti1Image(parts["field"][..., None, :].astype(np.float32), np.eye(4)),
        tmp_path / "w.nii.gz",
    )
    for name in ("c.h5", "w.nii.gz"):
        with pytest.raises(DataError, match=rf"{name}: displacements must be finite; got 2 voxels"):
            read_itk([tmp_path / name])


@pytest.mark.parametrize("kind", ["affine", "itk"])
def test_matrices_of_flirt_are_not_taken_for_others(tmp_path: Path, kind: str) -> None:
    """FLIRT counts from a corner of each image; as millimetres of a space its numbers are wrong."""
    (tmp_path / "func2standard.mat").write_text("1 0 0 3  \n0 1 0 -5  \n0 0 1 4  \n0 0 0 1  \n")
    grid = Grid((9, 9, 9), np.eye(4))
    with pytest.raises(DataError, match=r"standard.mat: expected .*FLIRT.* -fsl2ras -oitk .*\"itk"):
        map_to_template(kind, [tmp_path / "func2standard.mat"], grid, grid)


@pytest.mark.parametrize(
    "text",
    [
        "#Insight Transform File V1.0\n#Transform 0\nTransform: Euler3DTransform_double_3_3\n",
        "type = 1\n",
        "1 0 0 3 0 1 0 -5 0 0 1 4\n",
    ],
)
def test_transforms_of_other_programs_as_affine_say_what_to_give(tmp_path: Path, text: str) -> None:
    """ITK's text, FreeSurfer's LTA and AFNI's twelve numbers are there, and not what is wanted."""
    (tmp_path / "x.txt").write_text(text)
    grid = Grid((9, 9, 9), np.eye(4))
    with pytest.raises(DataError, match=r"Give four lines of four numbers.*are of kind = \"itk\""):
        map_to_template("affine", [tmp_path / "x.txt"], grid, grid)


# Written by ITK 5.4 through SimpleITK 2.5: the kind, its parameters, the fixed ones, and where
# TransformPoint takes (10, 20, 30), (-40, 5, 60) and (0, 0, 0), in LPS millimetres.
VERSOR, SHIFT, CENTRE = [0.1, -0.2, 0.3], [5.0, 6, 7], [1.0, 2, 3]
LINEAR: dict[str, tuple[list[float], list[float], list[list[float]]]] = {
    "Euler3DTransform": (
        [0.1, 0.2, 0.3, *SHIFT],
        [*CENTRE, 0.0],
        [
            [14.9862900699, 26.9487561264, 36.3475090292],
            [-20.563332726, -3.7814509187, 73.9889581783],
            [5.0015233256, 5.8945826526, 7.0724989968],
        ],
    ),
    "Euler3DTransform about z, y, x": (
        [0.1, 0.2, 0.3, *SHIFT],
        [*CENTRE, 1.0],
        [
            [15.3703829255, 26.8244774788, 36.3027559674],
            [-20.7673276496, -3.112083096, 74.0236813981],
            [4.9588463416, 5.9083913912, 7.0774715592],
        ],
    ),
    "CenteredEuler3DTransform": (
        [0.1, 0.2, 0.3, *CENTRE, *SHIFT],
        [*CENTRE, 0.0],
        [
            [14.9862900699, 26.9487561264, 36.3475090292],
            [-20.563332726, -3.7814509187, 73.9889581783],
            [5.0015233256, 5.8945826526, 7.0724989968],
        ],
    ),
    "CenteredEuler3DTransform of an order that is not said": (
        [0.1, 0.2, 0.3, *CENTRE, *SHIFT],
        CENTRE,
        [
            [14.9862900699, 26.9487561264, 36.3475090292],
            [-20.563332726, -3.7814509187, 73.9889581783],
            [5.0015233256, 5.8945826526, 7.0724989968],
        ],
    ),
    "CenteredEuler3DTransform about z, y, x": (
        [0.1, 0.2, 0.3, *CENTRE, *SHIFT],
        [0.0, 0.0, 0.0, 1.0],
        [
            [15.3703829255, 26.8244774788, 36.3027559674],
            [-20.7673276496, -3.112083096, 74.0236813981],
            [4.9588463416, 5.9083913912, 7.0774715592],
        ],
    ),
    "CenteredAffineTransform": (
        [1.0, 0.1, 0.2, 0.3, 1.1, 0.1, 0.0, 0.2, 0.9, *CENTRE, *SHIFT],
        [0.0, 0.0, 0.0],
        [[22.2, 33.2, 37.9], [-23.3, 4.7, 61.9], [4.2, 5.2, 6.9]],
    ),
    "VersorTransform": (
        VERSOR,
        CENTRE,
        [
            [-11.4710159503, 12.8, 32.3570053168],
            [-48.8531014989, -34.1850265838, 36.8276827771],
            [2.3856684389, 0.8, -0.2618894796],
        ],
    ),
    "VersorRigid3DTransform": (
        [*VERSOR, *SHIFT],
        CENTRE,
        [
            [-6.4710159503, 18.8, 39.3570053168],
            [-43.8531014989, -28.1850265838, 43.8276827771],
            [7.3856684389, 6.8, 6.7381105204],
        ],
    ),
    "Similarity3DTransform": (
        [*VERSOR, *SHIFT, 1.2],
        CENTRE,
        [
            [-8.9652191403, 20.96, 45.2284063801],
            [-53.8237217987, -35.4220319005, 50.5932193325],
            [7.6628021267, 6.56, 6.0857326244],
        ],
    ),
    "ScaleVersor3DTransform": (
        [*VERSOR, *SHIFT, 1.2, 0.9, 1.1],
        CENTRE,
        [
            [-4.6710159503, 17.0, 42.0570053168],
            [-52.0531014989, -28.4850265838, 49.5276827771],
            [7.1856684389, 7.0, 6.4381105204],
        ],
    ),
    "ScaleSkewVersor3DTransform": (
        [*VERSOR, *SHIFT, 1.2, 0.9, 1.1, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06],
        CENTRE,
        [
            [-3.9510159503, 18.35, 43.5870053168],
            [-50.8831014989, -27.4350265838, 47.6576827771],
            [7.1056684389, 6.85, 6.2681105204],
        ],
    ),
    "ComposeScaleSkewVersor3DTransform": (
        [*VERSOR, *SHIFT, 1.2, 0.9, 1.1, 0.01, 0.02, 0.03],
        CENTRE,
        [
            [-4.7004440233, 18.4941597816, 42.8649211955],
            [-51.3934873148, -32.44458977, 46.1101025916],
            [7.1889382248, 6.8339822465, 6.3483420894],
        ],
    ),
    "TranslationTransform": (SHIFT, [], [[15.0, 26.0, 37.0], [-35.0, 11.0, 67.0], [5.0, 6.0, 7.0]]),
    "ScaleTransform": (
        [1.2, 0.9, 1.1],
        CENTRE,
        [[11.8, 18.2, 32.7], [-48.2, 4.7, 65.7], [-0.2, 0.2, -0.3]],
    ),
    "AffineTransform": (
        [1.0, 0.1, 0.2, 0.3, 1.1, 0.1, 0.0, 0.2, 0.9, *SHIFT],
        CENTRE,
        [[22.2, 33.2, 37.9], [-23.3, 4.7, 61.9], [4.2, 5.2, 6.9]],
    ),
    "ScalableAffineTransform": (
        [1.0, 0.1, 0.2, 0.3, 1.1, 0.1, 0.0, 0.2, 0.9, *SHIFT],
        CENTRE,
        [[22.2, 33.2, 37.9], [-23.3, 4.7, 61.9], [4.2, 5.2, 6.9]],
    ),
    "FixedCenterOfRotationAffineTransform": (
        [1.0, 0.1, 0.2, 0.3, 1.1, 0.1, 0.0, 0.2, 0.9, *SHIFT],
        CENTRE,
        [[22.2, 33.2, 37.9], [-23.3, 4.7, 61.9], [4.2, 5.2, 6.9]],
    ),
    "QuaternionRigidTransform": (
        [*VERSOR, 0.9273618495495703, *SHIFT],
        CENTRE,
        [
            [-6.4710159503, 18.8, 39.3570053168],
            [-43.8531014989, -28.1850265838, 43.8276827771],
            [7.3856684389, 6.8, 6.7381105204],
        ],
    ),
    "IdentityTransform": ([], [], [[10.0, 20.0, 30.0], [-40.0, 5.0, 60.0], [0.0, 0.0, 0.0]]),
}
COMPOSITE = [
    [-2.6889706316, 36.9253209311, 72.565900237],
    [-10.6799318873, -33.1894401187, 72.0137941453],
    [9.8499790907, 17.9575379819, 22.943748431],
]
POINTS_LPS = np.array([[10.0, 20, 30], [-40, 5, 60], [0, 0, 0]])


def write_linear(path: Path, kinds: Sequence[tuple[str, Sequence[float], Sequence[float]]]) -> Path:
    """Write transforms as ITK does, in the format that the file's name says."""
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            for number, (kind, parameters, fixed) in enumerate(kinds):
                part = file.create_group(f"TransformGroup/{number}")
                part["TransformType"] = [f"{kind}_double_3_3"]
                part["TransformParameters"] = np.array(parameters, dtype=float)
                part["TransformFixedParameters"] = np.array(fixed, dtype=float)
    elif path.suffix == ".mat":
        ((kind, parameters, fixed),) = kinds
        columns = {f"{kind}_double_3_3": np.array([parameters], dtype=float).T}
        columns["fixed"] = np.array([fixed], dtype=float).T
        scipy.io.savemat(path, columns, format="4")
    else:
        lines = ["#Insight Transform File V1.0"]
        for number, (kind, parameters, fixed) in enumerate(kinds):
            lines += [f"#Transform {number}", f"Transform: {kind}_double_3_3"]
            if not kind.startswith("Composite"):
                lines += ["Parameters: " + " ".join(map(repr, parameters))]
                lines += ["FixedParameters: " + " ".join(map(repr, fixed))]
        path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".txt", ".tfm", ".mat", ".h5"])
@pytest.mark.parametrize("name", LINEAR)
def test_read_itk_linear_kinds_equal_itk(tmp_path: Path, name: str, suffix: str) -> None:
    """Every linear kind moves points as ITK itself moves them, out of every format."""
    parameters, fixed, expected = LINEAR[name]
    path = write_linear(tmp_path / f"x{suffix}", [(name.split(" ")[0], parameters, fixed)])
    moved = apply_all(read_itk([path]), POINTS_LPS * LPS) * LPS
    np.testing.assert_allclose(moved, expected, atol=1e-9)


@pytest.mark.parametrize("suffix", [".txt", ".h5"])
def test_read_itk_linear_composites_apply_their_last_transform_first(
    tmp_path: Path, suffix: str
) -> None:
    """A composite of kinds moves points as ITK moves them, and as its parts do one by one."""
    names = ("Euler3DTransform", "Similarity3DTransform", "AffineTransform")
    parts = [(name, *LINEAR[name][:2]) for name in names]
    whole = write_linear(tmp_path / f"c{suffix}", [("CompositeTransform", [], []), *parts])
    moved = apply_all(read_itk([whole]), POINTS_LPS * LPS) * LPS
    np.testing.assert_allclose(moved, COMPOSITE, atol=1e-9)
    singles = [
        write_linear(tmp_path / f"{number}.mat", [part]) for number, part in enumerate(parts)
    ]
    np.testing.assert_allclose(
        apply_all(read_itk(singles[::-1]), POINTS_LPS * LPS) * LPS, moved, atol=1e-9
    )


@pytest.mark.parametrize(
    ("name", "kinds", "said"),
    [
        ("a.txt", ["Euler3DTransform", "AffineTransform"], "or a composite; got a list of 2"),
        ("a.h5", ["Euler3DTransform", "AffineTransform"], "or a composite; got a list of 2"),
        ("a.mat", ["CompositeTransform"], "got a composite without its parts"),
        ("a.txt", [], "expected an ITK transform; got no transform"),
    ],
)
def test_read_itk_lists_without_a_composite_are_refused(
    tmp_path: Path, name: str, kinds: list[str], said: str
) -> None:
    """Of a mere list ITK's programs take the first; nothing is guessed."""
    parts = [(kind, *LINEAR.get(kind, ([1.0] * 12, CENTRE))[:2]) for kind in kinds]
    with pytest.raises(DataError, match=said):
        read_itk([write_linear(tmp_path / name, parts)])


@pytest.mark.parametrize(
    ("kind", "parameters", "said"),
    [
        ("Euler3DTransform", [0.1, 0.2, 0.3], "has 6 parameters and 3 fixed ones; got 3 and 3"),
        ("VersorRigid3DTransform", [0.9, 0.9, 0, 0, 0, 0], "a versor of length 1.27"),
        ("QuaternionRigidTransform", [0.2, 0, 0, 1.8, 0, 0, 0], "a quaternion of length 1.8"),
        ("ScaleTransform", [1.0, 0, 1], "that cannot be inverted"),
        ("TranslationTransform", [1.0, np.nan, 1], "parameters that are not finite"),
        ("BSplineTransform", [1.0, 0, 1], "are not supported; expected linear transforms"),
    ],
)
def test_read_itk_impossible_parameters_are_refused(
    tmp_path: Path, kind: str, parameters: list[float], said: str
) -> None:
    """Too few numbers, impossible ones and kinds that are not linear have one message each."""
    for suffix in (".txt", ".h5"):
        path = write_linear(tmp_path / f"x{suffix}", [(kind, parameters, CENTRE)])
        with pytest.raises(DataError, match=said) as caught:
            read_itk([path])
        assert str(caught.value).count(path.name) == 1
    flat = tmp_path / "flat.txt"
    flat.write_text("Transform: Euler2DTransform_double_2_2\nParameters: 0 1 2\n")
    with pytest.raises(DataError, match=r"a transform of three dimensions; got Euler2DTransform"):
        read_itk([flat])
