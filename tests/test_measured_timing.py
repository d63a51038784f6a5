"""When volumes were measured: sidecars, headers and the study's word, and where they disagree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from imgtofmri.exceptions import DataError
from imgtofmri.measured.timing import read_sidecars, volume_times


def image(step: float, unit: str = "sec", n_volumes: int = 4) -> nib.Nifti1Image:
    """Return a run whose header says a time between volumes."""
    made = nib.Nifti1Image(np.zeros((1, 1, 1, n_volumes), np.uint8), np.eye(4))
    made.header.set_xyzt_units("mm", unit)
    made.header["pixdim"][4] = step
    return made


STARTED = {"StartTime": 0.5}
UNEVEN = [0.0, 2.0, 5.0, 9.0]


@pytest.mark.parametrize(
    ("header", "said", "more", "expected"),
    [
        ((2.0, "sec"), {}, {}, [0.5, 2.5, 4.5, 6.5]),
        ((2000.0, "msec"), {}, {}, [0.5, 2.5, 4.5, 6.5]),
        ((1.5e6, "usec"), {}, {}, [0.5, 2.0, 3.5, 5.0]),
        ((2000.0, "msec"), {"RepetitionTime": 2.0}, {}, [0.5, 2.5, 4.5, 6.5]),
        # A header that says nothing: nibabel's 1 without a unit, or another that agrees.
        ((1.0, "unknown"), {"RepetitionTime": 2.0}, {}, [0.5, 2.5, 4.5, 6.5]),
        ((2000.0, "unknown"), {"RepetitionTime": 2.0}, {}, [0.5, 2.5, 4.5, 6.5]),
        ((1.0, "unknown"), {}, {"tr_s": 2.0}, [0.5, 2.5, 4.5, 6.5]),
        ((1.7, "sec"), {"RepetitionTime": 2.0}, {"tr_s": 2.0}, [0.5, 2.5, 4.5, 6.5]),
        ((2.0, "sec"), {"VolumeTiming": [0.0, 3, 6, 9]}, {"tr_s": 2.0}, [0.5, 2.5, 4.5, 6.5]),
        ((2.0, "sec"), {"VolumeTiming": [0.0, 3, 6, 9]}, {"tr_s": 3.0}, [0.5, 3.5, 6.5, 9.5]),
        ((1.0, "unknown"), {}, {"raw": {"RepetitionTime": 2.0}}, [0.5, 2.5, 4.5, 6.5]),
        ((1.0, "unknown"), {"VolumeTiming": UNEVEN}, {}, [0.5, 2.5, 5.5, 9.5]),
        ((1.0, "unknown"), {}, {"raw": {"VolumeTiming": UNEVEN}}, [0.5, 2.5, 5.5, 9.5]),
        ((3.0, "sec"), {"VolumeTiming": [0.0, 3.0, 6.0, 9.0]}, {}, [0.5, 3.5, 6.5, 9.5]),
    ],
)
def test_volume_times_are_those_of_sidecar_and_header(
    header: tuple[float, str], said: dict[str, Any], more: dict[str, Any], expected: list[float]
) -> None:
    """Times come from where BIDS and NIfTI put them, in seconds whatever the unit."""
    np.testing.assert_allclose(
        volume_times("run", image(*header), said | STARTED, **more), expected, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("said", "more", "expected"),
    [
        ({"StartTime": 0.97}, {}, 0.97),
        ({"SliceTimingCorrected": False}, {}, 0.0),
        ({"SliceTimingCorrected": True}, {"slice_time_ref": 0.5}, 1.0),
        ({}, {"slice_time_ref": 0.0}, 0.0),
        # fMRIPrep counts from the first slice to the last: the sidecar is the nearer.
        ({"StartTime": 0.95}, {"slice_time_ref": 0.5}, 0.95),
    ],
)
def test_volume_times_start_where_the_slices_were_brought_to(
    said: dict[str, Any], more: dict[str, Any], expected: float
) -> None:
    """Half a repetition is lost only where somebody says so."""
    assert volume_times("run", image(2.0), said, **more)[0] == pytest.approx(expected)


def test_volume_times_of_one_volume_are_its_start() -> None:
    """A run of one volume has no gaps, and may start at any time within it."""
    one = image(2.0, n_volumes=1)
    np.testing.assert_array_equal(volume_times("run", one, {"StartTime": 0.5}), [0.5])
    with pytest.raises(DataError, match="between 0 and the repetition time, 2 s; got 3"):
        volume_times("run", one, {"StartTime": 3.0})


def test_volume_times_of_two_volumes_have_one_gap() -> None:
    """It is compared with what else is said of the time between volumes."""
    said = {"VolumeTiming": [0.0, 3.0], "RepetitionTime": 2.0} | STARTED
    with pytest.raises(DataError, match="got 2 s from the sidecar, .*3 s from VolumeTiming"):
        volume_times("run", image(2.0, n_volumes=2), said)


def test_volume_times_of_uneven_volumes_count_their_acquisition() -> None:
    """Where volumes are sparse, a share of a repetition is one of the acquisition."""
    said = {"VolumeTiming": UNEVEN, "AcquisitionDuration": 1.6}
    times = volume_times("run", image(1.0, "unknown"), said, slice_time_ref=0.5)
    np.testing.assert_allclose(times, np.array(UNEVEN) + 0.8)
    del said["AcquisitionDuration"]
    with pytest.raises(DataError, match=r"is a share of a repetition time; got uneven volumes"):
        volume_times("run", image(1.0, "unknown"), said, slice_time_ref=0.5)


@pytest.mark.parametrize(
    ("header", "said", "raw"),
    [
        ((10.0, "sec"), {"DelayTime": 8.0, "RepetitionTime": 10.0}, {}),
        ((10.0, "sec"), {"RepetitionTime": 10.0}, {"DelayTime": 8.0}),
        ((10.0, "sec"), {"AcquisitionDuration": 2.0}, {}),
        ((1.0, "unknown"), {"VolumeTiming": [0, 10, 20, 30], "AcquisitionDuration": 2.0}, {}),
    ],
)
def test_volume_times_of_sparse_volumes_are_a_share_of_their_acquisition(
    header: tuple[float, str], said: dict[str, Any], raw: dict[str, Any]
) -> None:
    """The middle of two seconds of slices is one second, however long the pause after them."""
    times = volume_times("run", image(*header), said, raw=raw, slice_time_ref=0.5)
    np.testing.assert_allclose(times, [1.0, 11.0, 21.0, 31.0])
    with pytest.raises(DataError, match=r"no more than there is until the next; got -?1[29]\d* s"):
        volume_times(
            "run",
            image(*header),
            said | {"AcquisitionDuration": 12.0},
            raw=raw,
            slice_time_ref=0.5,
        )


@pytest.mark.parametrize(
    ("header", "said", "more", "message"),
    [
        (
            (1.7, "sec"),
            {"RepetitionTime": 2.0},
            {},
            "one; got 2 s from the sidecar, 1.7 s from the h",
        ),
        ((1.7, "unknown"), {"RepetitionTime": 2.0}, {}, "2 s .* 1.7 s from the header, without a"),
        (
            (2.0, "msec"),
            {"RepetitionTime": 2.0},
            {},
            "between 0.05 and 30 s; got 0.002 s from the h",
        ),
        ((2.0, "msec"), {}, {}, "between 0.05 and 30 s; got 0.002 s from the header"),
        ((2000.0, "sec"), {}, {}, "between 0.05 and 30 s; got 2000 s from the header"),
        ((2.0, "sec"), {"RepetitionTime": 2000}, {}, "got 2000 s from the sidecar"),
        ((2.0, "sec"), {}, {"tr_s": 3.0}, r"got 3 s from `tr_s`, 2 s from the header.*wrong\.$"),
        ((2.0, "sec"), {}, {"raw": {"RepetitionTime": 2.5}}, "2.5 s from the raw run's sidecar, 2"),
        ((2.0, "unknown"), {}, {}, "must be known; got no Rep.* and 2 without a unit of time"),
        ((0.0, "sec"), {}, {}, "the repetition time must be known"),
        ((-2.0, "sec"), {}, {}, "must be known; got no Rep.*, and -2 sec in the header"),
        ((2.0, "hz"), {}, {}, "must be known; got no Rep.*, and 2 without a unit of time in the h"),
        ((0.002, "sec"), {}, {}, "between 0.05 and 30 s; got 0.002 s from the header"),
        ((2.0, "unknown"), {}, {"tr_s": 2000.0}, "got 2000 s from `tr_s`"),
        ((2.0, "sec"), {"RepetitionTime": "2"}, {}, "RepetitionTime must be a number of sec.*'2'"),
        ((2.0, "sec"), {"StartTime": float("nan")}, {}, "StartTime must be a number of sec.*nan"),
        (
            (2.0, "sec"),
            {"StartTime": 1000.0},
            {},
            "between 0 and the repetition time, 2 s; got 1000",
        ),
        ((2.0, "sec"), {"StartTime": 0.0}, {"slice_time_ref": 0.5}, "0.5 of 2 s, and StartTime 0"),
        ((2.0, "sec"), {"StartTime": None}, {"slice_time_ref": 1.5}, "share .* 0 to 1; got 1.5"),
        ((2.0, "sec"), {"StartTime": None}, {"slice_time_ref": -0.5}, "share .* 0 to 1; got -0.5"),
        ((2.0, "sec"), {"StartTime": None}, {}, "neither StartTime nor SliceTimingCorrected"),
        (
            (2.0, "sec"),
            {"StartTime": None, "SliceTimingCorrected": True},
            {},
            "slices were corrected .*, but no StartTime. Give `slice_time_ref`",
        ),
        ((2.0, "sec"), {"VolumeTiming": [0, 2, 4]}, {}, "a time for each of 4 volumes; got 3"),
        ((2.0, "sec"), {"VolumeTiming": [0, 2, 1, 4]}, {}, "must ascend, in seconds; got gaps bet"),
        ((2.0, "sec"), {"VolumeTiming": [0, 2000, 4000, 6000]}, {}, "must ascend, in seconds"),
        ((2.0, "sec"), {"VolumeTiming": [1, 3, 5, 7]}, {}, "must begin at 0, .*; got 1 s"),
        ((2.0, "sec"), {"VolumeTiming": [-8, -6, -4, -2]}, {}, "must begin at 0, .*; got -8 s"),
        ((3.0, "sec"), {"VolumeTiming": [0, 2, 4, 6]}, {}, "got 3 s from the header, 2 s from Vol"),
        (
            (2.0, "sec"),
            {"VolumeTiming": UNEVEN, "RepetitionTime": 2.0},
            {},
            "2 s apart, as is said; got VolumeTiming with gaps from 2 to 4 s",
        ),
    ],
)
def test_volume_times_that_contradict_or_lack_are_refused(
    header: tuple[float, str], said: dict[str, Any], more: dict[str, Any], message: str
) -> None:
    """What is missing is asked for, what is at odds is named, and nothing is guessed."""
    with pytest.raises(DataError, match=rf"^run: .*{message}"):
        volume_times("run", image(*header), STARTED | said, **more)


def test_read_sidecars_later_ones_win(tmp_path: Path) -> None:
    """Nearer sidecars override farther ones key by key; what is no sidecar is named."""
    for name, said in (("a.json", {"RepetitionTime": 1.0, "x": 1}), ("b.json", {"x": 2})):
        (tmp_path / name).write_text(json.dumps(said))
    found = read_sidecars([tmp_path / "a.json", tmp_path / "b.json"])
    assert found == {"RepetitionTime": 1.0, "x": 2}
    (tmp_path / "a.json").write_text("[2.0]")
    with pytest.raises(DataError, match=r"a.json: expected JSON with RepetitionTime .* a list"):
        read_sidecars([tmp_path / "a.json"])
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DataError, match=r"a.json: expected JSON with RepetitionTime and StartTime"):
        read_sidecars([tmp_path / "a.json"])


@pytest.mark.parametrize("name", ["RepetitionTime", "StartTime", "VolumeTiming"])
def test_volume_times_that_no_run_has_are_refused(name: str) -> None:
    """JSON's whole numbers have no end, and those of a computer have."""
    value: Any = [0, 2, 4, 10**400] if name == "VolumeTiming" else 10**400
    with pytest.raises(DataError, match=rf"run: {name} must be"):
        volume_times("run", image(2.0), {"StartTime": 0.0, name: value})
