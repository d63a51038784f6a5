"""What the parameters of ITK's linear transforms mean: each becomes x -> matrix x + offset.

Every kind moves points by ``matrix (x - centre) + centre + translation``. They differ in how the
matrix is told: by its nine numbers, by three angles, or by a versor, the vector part of a unit
quaternion. Names, order and defaults are those of the ITK Software Guide (Johnson, McCormick and
Ibanez, 2015, book 2, section 3.9) and of ITK's own code, which adds some scales rather than
multiplying by them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

# What fixes a transform beside its matrix: (matrix, translation, centre).
_Parts = tuple[FloatArray, FloatArray, FloatArray]

_ORIGIN = np.zeros(3)
_STILL = np.eye(3)


def linear_matrix(kind: str, parameters: FloatArray, fixed: FloatArray) -> FloatArray | None:
    """Return the matrix of one of ITK's linear transforms.

    Parameters
    ----------
    kind : str
        ITK's name of the class, without its precision and dimensions: ``"Euler3DTransform"``.
    parameters, fixed : arrays of shape (n,)
        As ITK writes them.

    Returns
    -------
    array of shape (4, 4) or None
        In ITK's own coordinates, LPS millimetres. None where the kind is not a linear one.

    Raises
    ------
    ValueError
        If there are not as many parameters as the kind has, or they are impossible.
    """
    if kind not in _KINDS:
        return None
    n_parameters, n_fixed, parts = _KINDS[kind]
    if len(parameters) != n_parameters or len(fixed) < n_fixed:
        message = (
            f"a {kind} has {n_parameters} parameters and {n_fixed} fixed ones; got "
            f"{len(parameters)} and {len(fixed)}"
        )
        raise ValueError(message)
    if not (np.isfinite(parameters).all() and np.isfinite(fixed).all()):
        message = f"a {kind} with parameters that are not finite"
        raise ValueError(message)
    matrix, translation, centre = parts(parameters, fixed)
    if not abs(np.linalg.det(matrix)) > 1e-9:
        message = f"a {kind} that cannot be inverted"
        raise ValueError(message)
    found = np.eye(4)
    found[:3, :3] = matrix
    found[:3, 3] = translation + centre - matrix @ centre
    return found


def _affine(p: FloatArray, fixed: FloatArray) -> _Parts:
    return p[:9].reshape(3, 3), p[9:12], fixed[:3]


def _centered_affine(p: FloatArray, _: FloatArray) -> _Parts:
    return p[:9].reshape(3, 3), p[12:15], p[9:12]


def _euler(p: FloatArray, fixed: FloatArray) -> _Parts:
    """Turn about y, then x, then z; where a fourth fixed number says so about x, y, z."""
    return _turned(p[:3], len(fixed) > 3 and bool(fixed[3])), p[3:6], fixed[:3]


def _centered_euler(p: FloatArray, fixed: FloatArray) -> _Parts:
    return _turned(p[:3], len(fixed) > 3 and bool(fixed[3])), p[6:9], p[3:6]


def _turned(angles: FloatArray, zyx: bool) -> FloatArray:
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    turned: FloatArray = about_z @ (about_y @ about_x if zyx else about_x @ about_y)
    return turned


def _versor(p: FloatArray) -> FloatArray:
    """Return the rotation of a unit quaternion's vector part."""
    squares = float(p @ p)
    if squares > 1 + 1e-9:
        message = f"a versor of length {squares**0.5:g}, above 1"
        raise ValueError(message)
    return _quaternion(np.append(p, np.sqrt(max(0.0, 1 - squares))))


def _unit(q: FloatArray) -> FloatArray:
    """Return the rotation of a quaternion, which ITK would let scale as well."""
    length = float(np.linalg.norm(q))
    if not abs(length - 1) < 1e-6:
        message = f"a quaternion of length {length:.6g}, not 1"
        raise ValueError(message)
    return _quaternion(q)


def _quaternion(q: FloatArray) -> FloatArray:
    from scipy.spatial.transform import Rotation

    return np.asarray(Rotation.from_quat(q).as_matrix())


def _scale_skew(p: FloatArray, fixed: FloatArray) -> _Parts:
    """Add scales, less 1, to the rotation's diagonal and skews to the rest of it, row by row."""
    matrix = _versor(p[:3]) + np.diag(p[6:9] - 1)
    if len(p) > 9:
        matrix[~np.eye(3, dtype=bool)] += p[9:15]
    return matrix, p[3:6], fixed[:3]


def _compose_scale_skew(p: FloatArray, fixed: FloatArray) -> _Parts:
    """Skew, then scale, then turn."""
    skew = np.array([[1, p[9], p[10]], [0, 1, p[11]], [0, 0, 1]])
    return _versor(p[:3]) @ np.diag(p[6:9]) @ skew, p[3:6], fixed[:3]


# The number of parameters, the least number of fixed ones, and what they come to.
_KINDS: dict[str, tuple[int, int, Callable[[FloatArray, FloatArray], _Parts]]] = {
    "AffineTransform": (12, 3, _affine),
    "MatrixOffsetTransformBase": (12, 3, _affine),
    "FixedCenterOfRotationAffineTransform": (12, 3, _affine),
    "ScalableAffineTransform": (12, 3, _affine),
    "Rigid3DTransform": (12, 3, _affine),
    "CenteredAffineTransform": (15, 0, _centered_affine),
    "Euler3DTransform": (6, 3, _euler),
    "CenteredEuler3DTransform": (9, 0, _centered_euler),
    "VersorTransform": (3, 3, lambda p, f: (_versor(p), _ORIGIN, f[:3])),
    "VersorRigid3DTransform": (6, 3, lambda p, f: (_versor(p[:3]), p[3:6], f[:3])),
    "QuaternionRigidTransform": (7, 3, lambda p, f: (_unit(p[:4]), p[4:7], f[:3])),
    "Similarity3DTransform": (7, 3, lambda p, f: (p[6] * _versor(p[:3]), p[3:6], f[:3])),
    "ScaleVersor3DTransform": (9, 3, _scale_skew),
    "ScaleSkewVersor3DTransform": (15, 3, _scale_skew),
    "ComposeScaleSkewVersor3DTransform": (12, 3, _compose_scale_skew),
    "TranslationTransform": (3, 0, lambda p, _: (_STILL, p, _ORIGIN)),
    "ScaleTransform": (3, 3, lambda p, f: (np.diag(p), _ORIGIN, f[:3])),
    "IdentityTransform": (0, 0, lambda *_: (_STILL, _ORIGIN, _ORIGIN)),
}
