"""Which versions of what numbers depend on are installed; nothing is imported to find out."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

NUMBERS = ("numpy", "scipy", "onnxruntime", "openvino", "nilearn", "pillow", "av")
"""What predictions are computed and read with: records name the versions of these."""

FILES = ("nibabel", "pandas", "scikit-learn", "matplotlib", "fslpy", "isal", "safetensors")
"""What else takes part in a result or in its files."""

OPTIONAL = ("h5py", "starlette", "torch", "timm", "torchvision")
"""What the extras bring, or people who use networks of their own."""


def versions(packages: Iterable[str] = NUMBERS) -> dict[str, str]:
    """Return the versions of Python and of packages, those that are not installed left out.

    Parameters
    ----------
    packages : iterable of str
        Names of distributions.

    Returns
    -------
    dict of str
        By name, ``"python"`` first.

    Examples
    --------
    >>> list(versions(["numpy", "no-such-package"]))
    ['python', 'numpy']
    """
    import platform

    found = {package: _version(package) for package in packages}
    return {"python": platform.python_version()} | {
        package: version for package, version in found.items() if version is not None
    }


@cache
def _version(package: str) -> str | None:
    """Return a package's version, which is looked up once: every record names some."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None
