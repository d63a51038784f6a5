"""Which versions of what numbers depend on are installed; nothing is imported to find out."""

from __future__ import annotations

from collections.abc import Iterable

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
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
