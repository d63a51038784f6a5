"""Simulated datasets: valid, whole or not there, and what was planted is found in them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nilearn.glm.first_level import FirstLevelModel, first_level_from_bids

from imgtofmri.analyses.simulate import (
    Events,
    Noise,
    Run,
    Scan,
    movie_events,
    read_events,
    run_of_movie,
    run_of_table,
    simulate_bold,
    write_dataset,
)
from imgtofmri.exceptions import OptionError, OutputError, ShapeError
from imgtofmri.outputs.staging import MANIFEST

AFFINE = np.array([[-4.0, 0, 0, 20], [0, 4, 0, -90], [0, 0, 4, -30], [0, 0, 0, 1]])
SHAPE = (9, 11, 8)


@pytest.fixture
def mask(rng: np.random.Generator) -> np.ndarray:
    """Return a mask of scattered voxels, so that the order of voxels shows."""
    return rng.random(SHAPE) < 0.3


@pytest.fixture
def table_path(tmp_path: Path) -> Path:
    """Return an events file of two conditions, 12 events each, with a column of its own."""
    lines = ["trial_type\tonset\tduration\tstim_file\tnote"]
    for number in range(24):
        name = "face" if number % 2 else "place"
        lines.append(f"{name}\t{3.1 + 11.3 * number:.4f}\t2.5\t{name}{number % 4}.jpg\tx")
    lines.append("rest\t290\tn/a\tn/a\tend")
    path = tmp_path / "events.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def planned(table_path: Path, mask: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """Return arguments of a dataset: two subjects, two runs."""
    table = read_events(table_path)
    index = {name: row for row, name in enumerate(table.stim_files)}
    run = run_of_table(table, index, tr_s=1.5)
    # Both exemplars of a condition have one response, so that a condition has one effect.
    effects = {name: rng.normal(size=(2, mask.sum())) for name in ("face", "place")}
    subjects = {
        f"S-{s + 1}": np.stack([effects[name.rstrip("0123.jpg")][s] for name in table.stim_files])
        for s in range(2)
    }
    return {
        "subjects": subjects,
        "runs": [run, run],
        "scan": Scan(1.5, slice_time_ref=0.5, noise=Noise(tsnr=500.0)),
        "mask": mask,
        "affine": AFFINE,
        "task": "look",
        "seed": 5,
    }


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def bold_path(root: Path, subject: str = "S1", run: int = 1) -> Path:
    """Return the path of a run."""
    name = f"sub-{subject}_task-look_run-{run}_space-MNI152NLin6Asym_desc-simulated_bold.nii.gz"
    return root / f"sub-{subject}" / "func" / name


def test_write_dataset_planted_contrast_is_recovered_by_nilearn(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """first_level_from_bids takes the dataset as it is and finds each subject's effects."""
    root = write_dataset(tmp_path / "sim", **planned)
    models, images, events, _ = first_level_from_bids(
        root,
        "look",
        space_label="MNI152NLin6Asym",
        derivatives_folder=".",
        mask_img="derivatives",
        drift_model="cosine",
        high_pass=1 / 128,
        hrf_model="glover",
        noise_model="ar1",
        minimize_memory=True,
        confounds_strategy=None,
    )
    assert [model.subject_label for model in models] == ["S1", "S2"]
    for model, runs, tables, responses in zip(
        models, images, events, planned["subjects"].values(), strict=True
    ):
        assert (model.t_r, model.slice_time_ref) == (1.5, 0.5)
        shown = [table[["onset", "duration", "trial_type"]].dropna() for table in tables]
        with warnings.catch_warnings():
            # nilearn remarks that a mask was given to it, and that runs share a contrast.
            warnings.simplefilter("ignore", RuntimeWarning)
            model.fit(runs, shown)
            contrast = model.compute_contrast("face - place", output_type="effect_size")
        found = contrast.get_fdata()[planned["mask"]]
        # The table's first event shows place0, then face1: rows 0 and 1 of the responses.
        expected = responses[1] - responses[0]
        slope = found @ expected / (expected @ expected)
        assert slope == pytest.approx(1.0, abs=0.02)
        # 0.2 % noise and 24 events a condition leave a standard error below 0.1 %.
        np.testing.assert_allclose(found, expected, atol=0.35)
        assert np.corrcoef(found, expected)[0, 1] > 0.995


def test_write_dataset_noiseless_effects_are_exact_for_first_level_model(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """Without noise FirstLevelModel's effects are the responses, voxel for voxel."""
    planned |= {"scan": Scan(1.5, hrf="spm"), "runs": planned["runs"][:1]}
    root = write_dataset(tmp_path / "sim", **planned)
    path = bold_path(root)
    mask_img = nib.load(str(path).replace("desc-simulated_bold", "desc-brain_mask"))
    events = planned["runs"][0].events
    model = FirstLevelModel(
        t_r=1.5, hrf_model="spm", noise_model="ols", drift_model=None, mask_img=mask_img
    )
    import pandas as pd

    frame = pd.DataFrame(
        {
            "onset": events.onsets_s,
            "duration": events.durations_s,
            "trial_type": [f"s{k}" for k in events.stimuli],
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        model.fit(path, frame)
        for stimulus in range(4):
            effect = model.compute_contrast(f"s{stimulus}", output_type="effect_size")
            np.testing.assert_allclose(
                effect.get_fdata()[planned["mask"]],
                planned["subjects"]["S-1"][stimulus],
                atol=0.03,
            )


def test_write_dataset_image_holds_what_simulate_bold_returns(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """Each voxel's course is in its place; the header has grid, space, TR and units."""
    planned["scan"] = Scan(1.5, baseline=2000.0)
    root = write_dataset(tmp_path / "sim", **planned)
    image = nib.load(bold_path(root))
    run = planned["runs"][0]
    expected = simulate_bold(
        planned["subjects"]["S-1"], run.events, 1.5, run.n_volumes, baseline=2000.0
    )
    data = np.asarray(image.dataobj)
    np.testing.assert_array_equal(data[planned["mask"]].T, expected)
    assert not data[~planned["mask"]].any()
    assert image.shape == (*SHAPE, run.n_volumes)
    assert image.get_data_dtype() == np.float32
    np.testing.assert_array_equal(image.affine, AFFINE)
    assert image.header.get_zooms() == (4.0, 4.0, 4.0, 1.5)
    assert image.header.get_xyzt_units() == ("mm", "sec")
    assert int(image.header["sform_code"]) == int(image.header["qform_code"]) == 4


def test_write_dataset_int16_is_float32_within_half_a_step(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """int16 holds every value, noise included, to half of its step."""
    planned["scan"] = Scan(1.5, noise=Noise(tsnr=20.0))
    exact = nib.load(bold_path(write_dataset(tmp_path / "a", **planned)))
    scaled = nib.load(bold_path(write_dataset(tmp_path / "b", **planned, dtype="int16")))
    assert scaled.get_data_dtype() == np.int16
    step = float(scaled.dataobj.slope)
    assert step < 0.01
    np.testing.assert_allclose(scaled.get_fdata(), exact.get_fdata(), atol=0.51 * step)


def test_write_dataset_brain_voxels_without_response_hold_baseline_and_noise(
    tmp_path: Path, planned: dict[str, Any], rng: np.random.Generator
) -> None:
    """A brain mask adds voxels; responses stay in theirs, and tSNR is met in the file."""
    brain = rng.random(SHAPE) < 0.5
    quiet = dict.fromkeys(planned["subjects"], np.zeros((4, planned["mask"].sum())))
    planned |= {"scan": Scan(1.5, noise=Noise(tsnr=30.0)), "subjects": quiet}
    root = write_dataset(tmp_path / "sim", **planned, brain=brain)
    data = nib.load(bold_path(root)).get_fdata()
    inside = brain | planned["mask"]
    np.testing.assert_array_equal(data.any(axis=-1), inside)
    tsnr = data[inside].mean(axis=-1) / data[inside].std(axis=-1)
    assert np.median(tsnr) == pytest.approx(30.0, rel=0.03)


def test_write_dataset_smooth_noise_is_smooth_where_the_file_has_it(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """Neighbouring voxels of the written volumes correlate as a Gaussian of that width says."""
    quiet = dict.fromkeys(planned["subjects"], np.zeros((4, planned["mask"].sum())))
    noise = Noise(tsnr=30.0, drift_share=0.0, fwhm_mm=12.0)
    planned |= {"scan": Scan(1.5, noise=noise), "subjects": quiet}
    root = write_dataset(tmp_path / "sim", **planned, brain=np.ones(SHAPE, dtype=bool))
    data = nib.load(bold_path(root)).get_fdata()
    assert np.median(data.mean(axis=-1) / data.std(axis=-1)) == pytest.approx(30.0, rel=0.03)
    noisy = (data - 100.0) * 0.3
    sd_mm = 12.0 / 2.3548
    for step in (1, 2):
        r = (noisy[step:] * noisy[:-step]).mean()
        assert r == pytest.approx(np.exp(-((4.0 * step) ** 2) / (4 * sd_mm**2)), abs=0.05)


def test_write_dataset_same_seed_same_bytes_and_every_run_its_own_noise(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """The seed decides every byte; runs and subjects do not share noise; fewer change none."""
    first = write_dataset(tmp_path / "a", **planned)
    assert contents(first) == contents(write_dataset(tmp_path / "b", **planned))
    data = [
        nib.load(bold_path(first, subject, run)).get_fdata()[planned["mask"]].ravel()
        - simulate_bold(
            planned["subjects"][name], planned["runs"][0].events, 1.5, 188, slice_time_ref=0.5
        ).T.ravel()
        for name, subject in (("S-1", "S1"), ("S-2", "S2"))
        for run in (1, 2)
    ]
    assert np.abs(np.corrcoef(data) - np.eye(4)).max() < 0.03
    other = write_dataset(tmp_path / "c", **(planned | {"seed": 6}))
    assert bold_path(other).read_bytes() != bold_path(first).read_bytes()
    shorter = write_dataset(tmp_path / "d", **(planned | {"runs": planned["runs"][:1]}))
    alone, among = (bold_path(root, "S2") for root in (shorter, first))
    # The values first: where bytes differ, it is to be known whether they or their packing do.
    np.testing.assert_array_equal(nib.load(alone).get_fdata(), nib.load(among).get_fdata())
    assert alone.read_bytes() == among.read_bytes()


def test_write_dataset_describes_itself(tmp_path: Path, planned: dict[str, Any]) -> None:
    """Names, sidecars and tables are a BIDS derivative dataset's, and say what it is."""
    stimulus = tmp_path / "x.jpg"
    stimulus.write_bytes(b"image")
    root = write_dataset(
        tmp_path / "sim", **planned, stimuli={"sub/x.jpg": stimulus}, source={"encoder": "E"}
    )
    stem = "sub-S1/func/sub-S1_task-look_run-1"
    names = set(contents(root))
    assert {
        "dataset_description.json",
        "participants.tsv",
        "README.md",
        "task-look_events.json",
        "stimuli/sub/x.jpg",
        f"{stem}_events.tsv",
        f"{stem}_space-MNI152NLin6Asym_desc-simulated_bold.json",
        f"{stem}_space-MNI152NLin6Asym_desc-simulated_bold.nii.gz",
        f"{stem}_space-MNI152NLin6Asym_desc-brain_mask.json",
        f"{stem}_space-MNI152NLin6Asym_desc-brain_mask.nii.gz",
    } <= names
    assert len(names) == 6 + 4 * 5
    description = json.loads((root / "dataset_description.json").read_text("utf-8"))
    assert description["DatasetType"] == "derivative"
    assert description["GeneratedBy"][0]["Name"] == "imgtofmri"
    assert (root / "participants.tsv").read_text("utf-8") == "participant_id\nsub-S1\nsub-S2\n"
    sidecar = json.loads(bold_path(root).with_suffix("").with_suffix(".json").read_text("utf-8"))
    assert sidecar["RepetitionTime"] == 1.5
    assert sidecar["StartTime"] == 0.75
    assert sidecar["TaskName"] == "look"
    assert sidecar["SkullStripped"] is True
    assert sidecar["Simulation"]["Noise"]["tsnr"] == 500.0
    assert sidecar["Simulation"]["encoder"] == "E"
    lines = (root / f"{stem}_events.tsv").read_text("utf-8").splitlines()
    assert lines[0].split("\t") == [
        "onset",
        "duration",
        "trial_type",
        "stim_file",
        "note",
        "amplitude",
    ]
    assert lines[1].split("\t") == ["3.1000", "2.5", "place", "place0.jpg", "x", "1"]
    assert lines[-1].split("\t") == ["290", "n/a", "rest", "n/a", "end", "n/a"]


def test_write_dataset_given_kernel_is_in_the_sidecar(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """A kernel of one's own can be read back from the file's sidecar."""
    planned["scan"] = Scan(1.5, hrf=[0.0, 0.5, 1.0, 0.25], hrf_step_s=1.0)
    root = write_dataset(tmp_path / "sim", **planned)
    sidecar = json.loads(bold_path(root).with_suffix("").with_suffix(".json").read_text("utf-8"))
    assert sidecar["Simulation"]["HaemodynamicResponse"] == {
        "StepSeconds": 1.0,
        "Samples": [0.0, 0.5, 1.0, 0.25],
    }


def test_run_of_table_lasts_until_the_response_has_run() -> None:
    """By default a run ends 16 s after the last event, rounded up to a volume."""
    run = run_of_movie(movie_events(np.arange(14) / 2, end_s=7.09), "film.mp4", tr_s=2.0)
    assert run.n_volumes == 12
    assert run.rows == (("0", "7.09", "movie", "film.mp4"),)


def test_write_dataset_failure_leaves_nothing(tmp_path: Path, planned: dict[str, Any]) -> None:
    """An error while the dataset is written leaves neither it nor a temporary folder."""
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OutputError, match=r"could not be read or written \(No such file"):
        write_dataset(tmp_path / "sim", **planned, stimuli={"x.jpg": tmp_path / "none.jpg"})
    assert sorted(tmp_path.iterdir()) == before


def test_write_dataset_event_outside_its_run_writes_nothing(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """Every run is checked before the first is written."""
    before = sorted(tmp_path.iterdir())
    short = planned["runs"][0]
    planned["runs"].append(Run(short.events, 10, short.columns, short.rows))
    with pytest.raises(OptionError, match="within the run, 0 to 15 s"):
        write_dataset(tmp_path / "sim", **planned)
    assert sorted(tmp_path.iterdir()) == before


def test_write_dataset_existing_files_are_not_touched(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """A folder with files is refused; an empty one is used."""
    target = tmp_path / "sim"
    target.mkdir()
    (target / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(OutputError, match="an empty or new folder is needed, and it holds files"):
        write_dataset(target, **planned)
    with pytest.raises(OutputError, match=f"it holds no readable {MANIFEST}"):
        write_dataset(target, **planned, overwrite=True)
    assert contents(target) == {"mine.txt": b"mine"}
    (target / "mine.txt").unlink()
    assert bold_path(write_dataset(target, **planned)).is_file()


def test_write_dataset_overwrite_replaces_only_what_it_wrote(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """Old runs go, new ones come, and files beside them stay."""
    target = write_dataset(tmp_path / "sim", **planned)
    (target / "glm").mkdir()
    (target / "glm" / "map.txt").write_text("mine", encoding="utf-8")
    fewer = {"S-1": planned["subjects"]["S-1"]}
    fresh = write_dataset(tmp_path / "fresh", **(planned | {"subjects": fewer, "seed": 9}))
    write_dataset(target, **(planned | {"subjects": fewer, "seed": 9}), overwrite=True)
    assert contents(target) == contents(fresh) | {"glm/map.txt": b"mine"}
    assert not (target / "sub-S2").exists()


def test_write_dataset_overwrite_spares_a_file_of_another(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """A new file never takes the place of one that no simulation wrote."""
    fewer = {"S-1": planned["subjects"]["S-1"]}
    target = write_dataset(tmp_path / "sim", **(planned | {"subjects": fewer}))
    foreign = bold_path(target, "S2")
    foreign.parent.mkdir(parents=True)
    foreign.write_text("measured", encoding="utf-8")
    before = contents(target)
    with pytest.raises(OutputError, match="were not written by a simulation"):
        write_dataset(target, **planned, overwrite=True)
    assert contents(target) == before


def test_write_dataset_manifest_that_leads_outside_is_refused(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """A manifest cannot make the writer delete files elsewhere."""
    target = tmp_path / "sim"
    target.mkdir()
    (target / MANIFEST).write_text(json.dumps({"files": ["../mine.txt"]}), encoding="utf-8")
    with pytest.raises(OutputError, match="names files outside the folder"):
        write_dataset(target, **planned, overwrite=True)


def test_write_dataset_target_that_is_a_file_is_refused(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """A dataset is a folder."""
    (tmp_path / "sim").touch()
    with pytest.raises(OutputError, match="it is a file"):
        write_dataset(tmp_path / "sim", **planned)


def test_write_dataset_folder_that_cannot_be_made_is_refused(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """A target below a file cannot be made."""
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Choose a folder that exists or can be made"):
        write_dataset(tmp_path / "file" / "sim", **planned)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"task": "my task"}, OptionError, "task label must consist of .* Use 'mytask'"),
        ({"task": "-"}, OptionError, "task label must consist of .* Choose a name"),
        ({"runs": []}, OptionError, "got 0 runs"),
        ({"subjects": {}}, OptionError, "the subjects none"),
        (
            {"subjects": {"S1": np.zeros((4, 3)), "S-1": np.zeros((4, 3))}},
            OptionError,
            "names differ in their letters and digits; .* S1, S-1",
        ),
        ({"subjects": {"S1": np.zeros((4, 3))}}, ShapeError, "responses of S1 .*; got 3"),
        ({"dtype": "int8"}, OptionError, "dtype must be one of float32, int16; got 'int8'"),
    ],
)
def test_write_dataset_bad_argument_is_refused(
    tmp_path: Path,
    planned: dict[str, Any],
    change: dict[str, Any],
    error: type[Exception],
    match: str,
) -> None:
    """Each bad argument is refused, with nothing written."""
    with pytest.raises(error, match=match):
        write_dataset(tmp_path / "sim", **(planned | change))
    assert not (tmp_path / "sim").exists()


def test_events_may_overlap_in_a_run(tmp_path: Path, planned: dict[str, Any]) -> None:
    """Overlapping events are simulated, their responses added."""
    events = Events([1.0, 2.0], [10.0, 10.0], [0, 1])
    run = Run(events, 20, ("onset", "duration"), (("1", "10"), ("2", "10")))
    planned |= {"runs": [run], "scan": Scan(1.5)}
    data = nib.load(bold_path(write_dataset(tmp_path / "sim", **planned))).get_fdata()
    responses = planned["subjects"]["S-1"]
    alone = [
        simulate_bold(responses, Events([k + 1.0], [10.0], [k]), 1.5, 20) - 100.0 for k in (0, 1)
    ]
    np.testing.assert_allclose(data[planned["mask"]].T, 100.0 + alone[0] + alone[1], atol=2e-5)
