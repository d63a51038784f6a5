"""When each volume of a run was measured, out of sidecars, header and what the user says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from imgtofmri.documents import parse_json, read_text
from imgtofmri.exceptions import DataError

FloatArray = npt.NDArray[np.float64]

LEAST_TR_S, MOST_TR_S = 0.05, 30.0
"""What repetition times there are, in seconds."""

# JSON's whole numbers have no end; nothing of a run takes thirty years.
_MOST_S = 1e9
_SECONDS = {"sec": 1.0, "msec": 1e-3, "usec": 1e-6}
# Repetition times that differ by more, as a share, are not one; times of one slice and another may
# differ by more of a repetition, since what fMRIPrep writes counts from first to last slice.
_SAME_TR, _SAME_START = 1e-3, 0.1
# Times that differ by less are one, in seconds.
_SAME_S = 0.002


def read_sidecars(paths: Sequence[Path]) -> dict[str, Any]:
    """Return what JSON sidecars say together, the later ones above the earlier.

    Raises
    ------
    DataError
        If one cannot be read.
    """
    said: dict[str, Any] = {}
    for path in paths:
        try:
            held = parse_json(read_text(path))
        except (OSError, ValueError) as error:
            raise _unreadable(path, str(error)) from error
        if not isinstance(held, dict):
            raise _unreadable(path, f"it holds a {type(held).__name__}")
        said |= held
    return said


def _unreadable(path: Path, reason: str) -> DataError:
    return DataError(
        f"{path}: expected JSON with RepetitionTime and StartTime in seconds ({reason}). Correct "
        "it, or copy it from fMRIPrep's results."
    )


def header_tr_s(image: Any) -> float | None:
    """Return the repetition time in seconds that a header gives with its unit, if it does."""
    unit = _header_unit(image)
    step = float(image.header.get_zooms()[3]) if len(image.shape) > 3 else 0.0
    return step * _SECONDS[unit] if unit in _SECONDS and step > 0 else None


# AFNI's units of time, by the third of its TAXIS_NUMS.
_AFNI_UNITS = {77001: "msec", 77002: "sec"}


def _header_unit(image: Any) -> str:
    header = image.header
    if get := getattr(header, "get_xyzt_units", None):
        return str(get()[1])
    if axis := getattr(header, "info", {}).get("TAXIS_NUMS"):
        return _AFNI_UNITS.get(int(axis[2]), "unknown")
    # FreeSurfer's files count milliseconds; nobody knows of others.
    return "msec" if hasattr(header, "get_ras2vox") else "unknown"


def volume_times(
    where: str,
    image: Any,
    said: Mapping[str, Any],
    *,
    raw: Mapping[str, Any] | None = None,
    tr_s: float | None = None,
    slice_time_ref: float | None = None,
) -> FloatArray:
    """Return when each volume of a run was measured, in seconds from the first one's beginning.

    Parameters
    ----------
    where : str
        What a message begins with.
    image : nibabel image
        The run, 4-D.
    said : mapping
        Its sidecars: ``RepetitionTime``, ``StartTime``, ``SliceTimingCorrected``,
        ``VolumeTiming``, ``AcquisitionDuration``, ``DelayTime``, as BIDS and fMRIPrep have them.
    raw : mapping, optional
        Those of the run that it was made from.
    tr_s : float, optional
        The repetition time, where files do not say it or contradict each other.
    slice_time_ref : float, optional
        When within a volume its values are of, as a share of the repetition time, or of what a
        volume takes where there is a pause before the next (``AcquisitionDuration``,
        ``DelayTime``): 0.5 where slices were corrected to the middle, as fMRIPrep does unless told
        otherwise. Needed where no sidecar says ``StartTime``, or that slices were not corrected.

    Returns
    -------
    array of shape (n_volumes,), float64

    Raises
    ------
    DataError
        If a time is missing, impossible, or differs between sidecar, header and what was said.
    """
    n_volumes = int(image.shape[3])
    raw = raw or {}
    starts = _volume_timing(where, {**raw, **said}.get("VolumeTiming"), n_volumes)
    tr = _repetition_time(where, image, said, raw, tr_s, starts)
    if starts is None or tr_s is not None:
        # A repetition time that settles what files contradict stands above VolumeTiming, too.
        assert tr is not None
        starts = tr * np.arange(n_volumes, dtype=np.float64)
    step_s = _acquisition(where, {**raw, **said}, tr)
    most_s = float(np.diff(starts).max()) if n_volumes > 1 else step_s or math.inf
    return starts + _start(where, said, step_s, most_s, slice_time_ref)


def _acquisition(where: str, said: Mapping[str, Any], tr_s: float | None) -> float | None:
    """Return how long a volume takes, of which `slice_time_ref` is a share, if that is known.

    Where volumes are sparse it is less than what lies between them.
    """
    duration_s, delay_s = (
        _number(where, said, name) for name in ("AcquisitionDuration", "DelayTime")
    )
    if duration_s is None and tr_s is not None:
        duration_s = tr_s - (delay_s or 0.0)
    if duration_s is None:
        return None
    if not 0 < duration_s <= (tr_s or math.inf) * (1 + _SAME_TR):
        told = f"; volumes are {tr_s:g} s apart" if tr_s else ""
        message = (
            f"{where}: a volume must take some time, and no more than there is until the next; got "
            f"{duration_s:g} s by AcquisitionDuration or DelayTime{told}. Correct the sidecar."
        )
        raise DataError(message)
    return duration_s


def _number(where: str, said: Mapping[str, Any], name: str) -> float | None:
    """Return a number of a sidecar; None where it is not there."""
    value = said.get(name)
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) < _MOST_S:
        message = (
            f"{where}: {name} must be a number of seconds; got {value!r:.80}. Correct the sidecar."
        )
        raise DataError(message)
    return float(value)


def _volume_timing(where: str, value: Any, n_volumes: int) -> FloatArray | None:
    if value is None:
        return None
    remedy = "Correct VolumeTiming in the sidecar."
    try:
        times: FloatArray = np.array(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        times = np.empty(0)
    if times.shape != (n_volumes,) or not np.isfinite(times).all():
        message = (
            f"{where}: VolumeTiming must be a time for each of {n_volumes} volumes; got "
            f"{np.size(times)}. {remedy}"
        )
        raise DataError(message)
    if n_volumes > 1 and not LEAST_TR_S <= np.diff(times).min() <= np.diff(times).max() < 600:
        message = (
            f"{where}: VolumeTiming must ascend, in seconds; got gaps between "
            f"{np.diff(times).min():g} and {np.diff(times).max():g}. {remedy}"
        )
        raise DataError(message)
    if abs(times[0]) > _SAME_S:
        message = (
            f"{where}: VolumeTiming must begin at 0, as films and events count from the first "
            f"volume; got {times[0]:g} s. Take it off all times, after seeing that what was shown "
            "does count from there and not from volumes that were cut off."
        )
        raise DataError(message)
    return times


def _repetition_time(
    where: str,
    image: Any,
    said: Mapping[str, Any],
    raw: Mapping[str, Any],
    tr_s: float | None,
    starts: FloatArray | None,
) -> float | None:
    """Return the one repetition time that all who say it agree on; None for uneven volumes."""
    told = {
        "the sidecar": _number(where, said, "RepetitionTime"),
        "the raw run's sidecar": _number(where, raw, "RepetitionTime"),
        "the header": header_tr_s(image),
    }
    if starts is not None and len(starts) > 1:
        gaps = np.diff(starts)
        even = bool(np.ptp(gaps) <= max(_SAME_S, _SAME_TR * gaps.mean()))
        if not even:
            # Of uneven volumes the header cannot tell the times.
            told.pop("the header")
        told["VolumeTiming"] = float(gaps.mean()) if even else None
        if not even and not any(told.values()) and tr_s is None:
            return None
        if not even:
            stated = tr_s or next(filter(None, told.values()))
            message = (
                f"{where}: volumes must be {stated:g} s apart, as is said; got VolumeTiming with "
                f"gaps from {gaps.min():g} to {gaps.max():g} s. Leave out the repetition time, or "
                "VolumeTiming."
            )
            raise DataError(message)
    known = {name: value for name, value in told.items() if value is not None}
    if tr_s is not None:
        if known and not any(_is_same(tr_s, value) for value in known.values()):
            raise _at_odds(where, {"`tr_s`": tr_s, **known})
        return _within(where, "`tr_s`", tr_s)
    if not known:
        step, unit = float(image.header.get_zooms()[3]), _header_unit(image)
        of_header = f"{step:g} {unit}" if unit in _SECONDS else f"{step:g} without a unit of time"
        message = (
            f"{where}: the repetition time must be known; got no RepetitionTime in a sidecar, and "
            f"{of_header} in the header. Give `tr_s` in seconds, or add RepetitionTime."
        )
        raise DataError(message)
    for name, value in known.items():
        _within(where, name, value)
    first = next(iter(known.values()))
    bare = float(image.header.get_zooms()[3])
    # A header without a unit of time that says 1, nibabel's default, says nothing.
    if "the header" in told and _header_unit(image) not in _SECONDS and bare not in (0, 1):
        if not any(_is_same(first, bare * scale) for scale in _SECONDS.values()):
            known["the header, without a unit"] = bare
    if not all(_is_same(first, value) for value in known.values()):
        raise _at_odds(where, known)
    return first


def _is_same(one: float, two: float) -> bool:
    return abs(one - two) <= _SAME_TR * max(one, two)


def _within(where: str, name: str, value: float) -> float:
    if not LEAST_TR_S <= value <= MOST_TR_S:
        message = (
            f"{where}: the repetition time must be between {LEAST_TR_S:g} and {MOST_TR_S:g} s; got "
            f"{value:g} s from {name}. Correct it, in seconds, or the header's unit."
        )
        raise DataError(message)
    return value


def _at_odds(where: str, told: Mapping[str, float]) -> DataError:
    got = ", ".join(f"{value:g} s from {name}" for name, value in told.items())
    settle = "." if "`tr_s`" in told else ", or settle it with `tr_s`."
    return DataError(
        f"{where}: the repetition time must be one; got {got}. Correct what is wrong{settle}"
    )


def _start(
    where: str,
    said: Mapping[str, Any],
    step_s: float | None,
    most_s: float,
    slice_time_ref: float | None,
) -> float:
    """Return the time within the first volume that it stands for."""
    if slice_time_ref is not None and not 0 <= slice_time_ref <= 1:
        message = (
            f"{where}: `slice_time_ref` must be a share of the repetition time from 0 to 1; got "
            f"{slice_time_ref:g}. Use 0 for the start of a volume, 0.5 for its middle."
        )
        raise DataError(message)
    start_s = _number(where, said, "StartTime")
    if start_s is not None and not 0 <= start_s <= most_s * (1 + _SAME_TR):
        message = (
            f"{where}: StartTime must lie between 0 and the repetition time, {most_s:g} s; got "
            f"{start_s:g}. Correct it, in seconds."
        )
        raise DataError(message)
    if slice_time_ref is None:
        if start_s is not None:
            return start_s
        if said.get("SliceTimingCorrected") is False:
            return 0.0
        got = (
            "that slices were corrected (SliceTimingCorrected), but no StartTime"
            if said.get("SliceTimingCorrected")
            else "neither StartTime nor SliceTimingCorrected in its sidecar"
        )
        message = (
            f"{where}: what time of a volume its values are of must be known; got {got}. Give "
            "`slice_time_ref`: 0.5 where slices were corrected to the middle, as fMRIPrep does "
            "unless told otherwise; 0 where to the first, or not at all."
        )
        raise DataError(message)
    if step_s is None:
        if start_s is not None:
            return start_s
        message = (
            f"{where}: `slice_time_ref` is a share of a repetition time; got uneven volumes "
            "without AcquisitionDuration. Add AcquisitionDuration or StartTime to the sidecar."
        )
        raise DataError(message)
    if start_s is not None and abs(start_s - slice_time_ref * step_s) > _SAME_START * step_s:
        message = (
            f"{where}: `slice_time_ref` must be what the sidecar says; got {slice_time_ref:g} of "
            f"{step_s:g} s, and StartTime {start_s:g}. Leave it out, or correct the sidecar."
        )
        raise DataError(message)
    return slice_time_ref * step_s if start_s is None else start_s
