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
    Input,
    Noise,
    Run,
    Scan,
    Simulation,
    brain_mask,
    movie_events,
    read_events,
    run_of_movie,
    run_of_table,
    save_simulation,
    simulate_bold,
)
from imgtofmri.encoder import Provenance
from imgtofmri.exceptions import OptionError, OutputError, ShapeError
from imgtofmri.files import sha256_of

AFFINE = np.array([[-4.0, 0, 0, 20], [0, 4, 0, -90], [0, 0, 4, -30], [0, 0, 0, 1]])
SHAPE = (9, 11, 8)
RECORD = "simulate.json"


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


def saved(target: Path, **planned: Any) -> Path:
    """Save a simulation and return where."""
    saving = {name: planned.pop(name) for name in ("task", "dtype", "overwrite") if name in planned}
    save_simulation(Simulation(**planned), target, **saving)
    return target


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


def test_save_simulation_planted_contrast_is_recovered_by_nilearn(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """first_level_from_bids takes the dataset as it is and finds each subject's effects."""
    root = saved(tmp_path / "sim", **planned)
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


def test_save_simulation_noiseless_effects_are_exact_for_first_level_model(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """Without noise FirstLevelModel's effects are the responses, voxel for voxel."""
    planned |= {"scan": Scan(1.5, hrf="spm"), "runs": planned["runs"][:1]}
    root = saved(tmp_path / "sim", **planned)
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


def test_save_simulation_image_holds_what_simulate_bold_returns(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """Each voxel's course is in its place; the header has grid, space, TR and units."""
    planned["scan"] = Scan(1.5, baseline=2000.0)
    root = saved(tmp_path / "sim", **planned)
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


def test_save_simulation_int16_is_float32_within_half_a_step(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """int16 holds every value, noise included, to half of its step."""
    planned["scan"] = Scan(1.5, noise=Noise(tsnr=20.0))
    exact = nib.load(bold_path(saved(tmp_path / "a", **planned)))
    scaled = nib.load(bold_path(saved(tmp_path / "b", **planned, dtype="int16")))
    assert scaled.get_data_dtype() == np.int16
    step = float(scaled.dataobj.slope)
    assert step < 0.01
    np.testing.assert_allclose(scaled.get_fdata(), exact.get_fdata(), atol=0.51 * step)


def test_save_simulation_brain_voxels_without_response_hold_baseline_and_noise(
    tmp_path: Path, planned: dict[str, Any], rng: np.random.Generator
) -> None:
    """A brain mask adds voxels; responses stay in theirs, and tSNR is met in the file."""
    brain = rng.random(SHAPE) < 0.5
    quiet = dict.fromkeys(planned["subjects"], np.zeros((4, planned["mask"].sum())))
    planned |= {"scan": Scan(1.5, noise=Noise(tsnr=30.0)), "subjects": quiet}
    root = saved(tmp_path / "sim", **planned, brain=brain)
    data = nib.load(bold_path(root)).get_fdata()
    inside = brain | planned["mask"]
    np.testing.assert_array_equal(data.any(axis=-1), inside)
    tsnr = data[inside].mean(axis=-1) / data[inside].std(axis=-1)
    assert np.median(tsnr) == pytest.approx(30.0, rel=0.03)


def test_save_simulation_smooth_noise_is_smooth_where_the_file_has_it(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """Neighbouring voxels of the written volumes correlate as a Gaussian of that width says."""
    quiet = dict.fromkeys(planned["subjects"], np.zeros((4, planned["mask"].sum())))
    noise = Noise(tsnr=30.0, drift_share=0.0, fwhm_mm=12.0)
    planned |= {"scan": Scan(1.5, noise=noise), "subjects": quiet}
    root = saved(tmp_path / "sim", **planned, brain=np.ones(SHAPE, dtype=bool))
    data = nib.load(bold_path(root)).get_fdata()
    assert np.median(data.mean(axis=-1) / data.std(axis=-1)) == pytest.approx(30.0, rel=0.03)
    noisy = (data - 100.0) * 0.3
    sd_mm = 12.0 / 2.3548
    for step in (1, 2):
        r = (noisy[step:] * noisy[:-step]).mean()
        assert r == pytest.approx(np.exp(-((4.0 * step) ** 2) / (4 * sd_mm**2)), abs=0.05)


def test_save_simulation_same_seed_same_bytes_and_every_run_its_own_noise(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """The seed decides every byte; runs and subjects do not share noise; fewer change none."""
    first = saved(tmp_path / "a", **planned)
    again = saved(tmp_path / "b", **planned)
    assert contents(first).keys() == contents(again).keys()
    for name, content in contents(first).items():
        # The record names the time.
        assert name == RECORD or contents(again)[name] == content
    data = [
        nib.load(bold_path(first, subject, run)).get_fdata()[planned["mask"]].ravel()
        - simulate_bold(
            planned["subjects"][name], planned["runs"][0].events, 1.5, 188, slice_time_ref=0.5
        ).T.ravel()
        for name, subject in (("S-1", "S1"), ("S-2", "S2"))
        for run in (1, 2)
    ]
    assert np.abs(np.corrcoef(data) - np.eye(4)).max() < 0.03
    other = saved(tmp_path / "c", **(planned | {"seed": 6}))
    assert bold_path(other).read_bytes() != bold_path(first).read_bytes()
    shorter = saved(tmp_path / "d", **(planned | {"runs": planned["runs"][:1]}))
    alone, among = (bold_path(root, "S2") for root in (shorter, first))
    # The values first: where bytes differ, it is to be known whether they or their packing do.
    np.testing.assert_array_equal(nib.load(alone).get_fdata(), nib.load(among).get_fdata())
    assert alone.read_bytes() == among.read_bytes()


def test_save_simulation_describes_itself(tmp_path: Path, planned: dict[str, Any]) -> None:
    """Names, sidecars and tables are a BIDS derivative dataset's, and say what it is."""
    stimulus = tmp_path / "x.jpg"
    stimulus.write_bytes(b"image")
    root = saved(
        tmp_path / "sim",
        **planned,
        stimuli=[Input("sub/x.jpg", stimulus, "a digest")],
        provenance=Provenance(encoder="E"),
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
    assert len(names) == 7 + 4 * 5
    assert (root / ".bidsignore").read_text("utf-8") == f"{RECORD}\n"
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


def test_save_simulation_given_kernel_is_in_the_sidecar(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """A kernel of one's own can be read back from the file's sidecar."""
    planned["scan"] = Scan(1.5, hrf=[0.0, 0.5, 1.0, 0.25], hrf_step_s=1.0)
    root = saved(tmp_path / "sim", **planned)
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


def test_save_simulation_failure_leaves_nothing(tmp_path: Path, planned: dict[str, Any]) -> None:
    """An error while the dataset is written leaves neither it nor a temporary folder."""
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OutputError, match=r"could not be read or written \(No such file"):
        saved(tmp_path / "sim", **planned, stimuli=[Input("x.jpg", tmp_path / "none.jpg", None)])
    assert sorted(tmp_path.iterdir()) == before


def test_save_simulation_event_outside_its_run_writes_nothing(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """Every run is checked before the first is written."""
    before = sorted(tmp_path.iterdir())
    short = planned["runs"][0]
    planned["runs"].append(Run(short.events, 10, short.columns, short.rows))
    with pytest.raises(OptionError, match="within the run, 0 to 15 s"):
        saved(tmp_path / "sim", **planned)
    assert sorted(tmp_path.iterdir()) == before


def test_save_simulation_existing_files_are_not_touched(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """A folder with files is refused, to overwrite or not; an empty one is used, once."""
    target = tmp_path / "sim"
    target.mkdir()
    (target / "mine.txt").write_text("mine", encoding="utf-8")
    for overwrite in (False, True):
        with pytest.raises(OptionError, match=rf"sim: .*it holds files and no {RECORD}"):
            saved(target, **planned, overwrite=overwrite)
    assert contents(target) == {"mine.txt": b"mine"}
    (target / "mine.txt").unlink()
    assert bold_path(saved(target, **planned)).is_file()
    before = contents(target)
    with pytest.raises(OptionError, match=f"it holds {RECORD}. Use `overwrite` to do all again"):
        saved(target, **planned)
    assert contents(target) == before


def test_save_simulation_record_lists_every_file_and_what_made_it(
    tmp_path: Path, planned: dict[str, Any], table_path: Path
) -> None:
    """The one schema: inputs with digests, settings, and each file of the dataset but itself."""
    stimulus = tmp_path / "x.jpg"
    stimulus.write_bytes(b"image")
    tables = [Input(str(table_path), table_path, sha256_of(table_path))]
    shown = [Input("x.jpg", stimulus, sha256_of(stimulus))]
    target = saved(tmp_path / "sim", **planned, stimuli=shown, tables=tables)
    record = json.loads((target / RECORD).read_text("utf-8"))
    assert (record["command"], record["state"]) == ("simulate", "complete")
    listed = {output["file"]: output["sha256"] for output in record["outputs"]}
    assert listed == {
        path.relative_to(target).as_posix(): sha256_of(path)
        for path in target.rglob("*")
        if path.is_file() and path.name != RECORD
    }
    digests = {entry["name"]: entry["sha256"] for entry in record["inputs"]}
    assert digests == {str(table_path): sha256_of(table_path), "x.jpg": sha256_of(stimulus)}
    assert record["settings"]["seed"] == 5
    assert record["settings"]["noise"]["tsnr"] == 500.0


def test_save_simulation_overwrite_replaces_only_what_it_wrote(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """Old runs go, new ones come, and files beside them stay."""
    target = saved(tmp_path / "sim", **planned)
    (target / "glm").mkdir()
    (target / "glm" / "map.txt").write_text("mine", encoding="utf-8")
    fewer = {"S-1": planned["subjects"]["S-1"]}
    fresh = saved(tmp_path / "fresh", **(planned | {"subjects": fewer, "seed": 9}))
    saved(target, **(planned | {"subjects": fewer, "seed": 9}), overwrite=True)
    found, wanted = contents(target), contents(fresh) | {"glm/map.txt": b"mine"}
    assert found.keys() == wanted.keys()
    assert all(found[name] == wanted[name] for name in wanted if name != RECORD)
    assert not (target / "sub-S2").exists()


def test_save_simulation_overwrite_spares_a_file_of_another(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """A new file never takes the place of one that no simulation wrote."""
    fewer = {"S-1": planned["subjects"]["S-1"]}
    target = saved(tmp_path / "sim", **(planned | {"subjects": fewer}))
    foreign = bold_path(target, "S2")
    foreign.parent.mkdir(parents=True)
    foreign.write_text("measured", encoding="utf-8")
    before = contents(target)
    with pytest.raises(OutputError, match="no files of others where new ones go; there are 1"):
        saved(target, **planned, overwrite=True)
    assert contents(target) == before


def test_save_simulation_record_that_leads_outside_is_refused(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """A record cannot make the writer delete files elsewhere, and one that is damaged none."""
    target = tmp_path / "sim"
    target.mkdir()
    for listed in ("../mine.txt", "/mine.txt"):
        content = {"outputs": [{"file": listed, "sha256": ""}]}
        (target / RECORD).write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(OutputError, match="expected files of its own folder; it names"):
            saved(target, **planned, overwrite=True)
    (target / RECORD).write_text("{}", encoding="utf-8")
    with pytest.raises(OutputError, match=r"says what may be replaced; it cannot be read"):
        saved(target, **planned, overwrite=True)


def test_save_simulation_target_that_is_a_file_is_refused(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """A dataset is a folder."""
    (tmp_path / "sim").touch()
    with pytest.raises(OutputError, match="expected a folder to write to; it is a file"):
        saved(tmp_path / "sim", **planned)


def test_save_simulation_folder_that_cannot_be_made_is_refused(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """A target below a file cannot be made."""
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file is a file. Choose a folder to write to"):
        saved(tmp_path / "file" / "sim", **planned)


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"task": "my task"}, OptionError, "task must be a label of .* Use 'mytask'"),
        ({"task": "-"}, OptionError, "task must be a label of .* Choose a name"),
        ({"runs": []}, OptionError, "got 0 runs and 2 subjects"),
        ({"subjects": {}}, OptionError, "got 2 runs and 0 subjects"),
        ({"subjects": {"S1": np.zeros((4, 3))}}, ShapeError, "responses of S1 .*; got 3"),
        ({"dtype": "int8"}, OptionError, "dtype must be one of float32, int16; got 'int8'"),
    ],
)
def test_save_simulation_bad_argument_is_refused(
    tmp_path: Path,
    planned: dict[str, Any],
    change: dict[str, Any],
    error: type[Exception],
    match: str,
) -> None:
    """Each bad argument is refused, with nothing written."""
    with pytest.raises(error, match=match):
        saved(tmp_path / "sim", **(planned | change))
    assert not (tmp_path / "sim").exists()


def test_save_simulation_names_that_bids_cannot_tell_apart_are_refused(
    tmp_path: Path, planned: dict[str, Any]
) -> None:
    """S1 and S-1 have one label."""
    planned["subjects"] = dict.fromkeys(("S1", "S-1"), planned["subjects"]["S-1"])
    with pytest.raises(OptionError, match="names that differ in their letters .* got S1, S-1"):
        saved(tmp_path / "sim", **planned)
    assert not (tmp_path / "sim").exists()


def test_simulation_bold_is_what_its_file_holds(tmp_path: Path, planned: dict[str, Any]) -> None:
    """A run asked for in Python and one written are the same numbers; no such subject is said."""
    simulation = Simulation(**{key: planned[key] for key in planned if key != "task"})
    root = saved(tmp_path / "sim", **planned)
    data = np.asarray(nib.load(bold_path(root, "S2", 2)).dataobj)
    np.testing.assert_array_equal(data[simulation.inside].T, simulation.bold("S-2", 1))
    with pytest.raises(OptionError, match="subject must be one of S-1, S-2; got 'S2'"):
        simulation.bold("S2")


def test_brain_mask_covers_the_template_brain() -> None:
    """On the 2 mm grid of MNI152 the mask has a brain's volume and holds its centre."""
    affine = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
    brain = brain_mask((91, 109, 91), affine)
    assert brain.shape == (91, 109, 91)
    assert 1.7e6 < brain.sum() * 8 < 2.0e6
    centre = np.rint(np.linalg.inv(affine) @ [20, -20, 10, 1])[:3].astype(int)
    assert brain[tuple(centre)]
    assert not brain[0].any()


def test_events_may_overlap_in_a_run(tmp_path: Path, planned: dict[str, Any]) -> None:
    """Overlapping events are simulated, their responses added."""
    events = Events([1.0, 2.0], [10.0, 10.0], [0, 1])
    run = Run(events, 20, ("onset", "duration"), (("1", "10"), ("2", "10")))
    planned |= {"runs": [run], "scan": Scan(1.5)}
    data = nib.load(bold_path(saved(tmp_path / "sim", **planned))).get_fdata()
    responses = planned["subjects"]["S-1"]
    alone = [
        simulate_bold(responses, Events([k + 1.0], [10.0], [k]), 1.5, 20) - 100.0 for k in (0, 1)
    ]
    np.testing.assert_allclose(data[planned["mask"]].T, 100.0 + alone[0] + alone[1], atol=2e-5)
