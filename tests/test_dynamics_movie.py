"""A movie through an encoder to figures and tables: models, drawing, writing, the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import av
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from imgtofmri.analyses.dynamics import (
    DynamicsAnalysis,
    MovieModels,
    RunSettings,
    analyse_movie,
    compare_movie,
    luma,
    motion_energy,
    movie_models,
    predict_dynamics,
    predicted_dynamics,
    save_dynamics,
    to_volumes,
)
from imgtofmri.analyses.dynamics.figures import (
    plot_agreement,
    plot_boundary_averages,
    plot_courses,
    plot_similarity,
)
from imgtofmri.analyses.dynamics.tables import event_table
from imgtofmri.backbones import load_backbone
from imgtofmri.bundle import Bundle, write_bundle
from imgtofmri.cli import main
from imgtofmri.datasets.partly_cloudy import PARTLY_CLOUDY_EVENT_STARTS
from imgtofmri.encoder import Encoder
from imgtofmri.exceptions import (
    DataError,
    OptionError,
    OutputError,
    ShapeError,
    StimulusError,
)
from imgtofmri.figures.style import FOOTNOTE, save_figure, significance_mark
from imgtofmri.files import sha256_of
from imgtofmri.measured.movie import MeasuredMovie, save_measured
from imgtofmri.stimuli import Movie

pytestmark = pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")

TR_S, RATE_HZ = 1.0, 2.0
SCENES_S = (6, 5, 4, 5)
BASELINES = ("luminance", "motion", "untrained")

Run = Callable[..., tuple[int, str]]


def make_movie(
    path: Path, still: bool = False, scenes_s: tuple[int, ...] = SCENES_S, fps: int = 4
) -> Path:
    """Write scenes that drift sideways; by default 20 s of four scenes, 4 frames a second."""
    rng = np.random.default_rng(3)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=fps)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        frames = []
        for seconds in scenes_s:
            small = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
            scene = np.asarray(Image.fromarray(small).resize((128, 64), Image.Resampling.BILINEAR))
            frames += [scene[:, step : step + 64] for step in range(fps * seconds)]
        for pixels in [frames[0]] * len(frames) if still else frames:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    """Return an encoder of ResNet-18's features with two ROIs on a small grid."""
    return make_bundle(np.random.default_rng(5), n_voxels=40)


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a movie."""
    return make_movie(tmp_path_factory.mktemp("film") / "film.mkv")


@pytest.fixture(scope="module")
def models(bundle: Bundle, film: Path, random_weights: Path) -> MovieModels:
    """Return the movie's models."""
    encoder = Encoder(bundle)
    options = {"baselines": BASELINES, "average": "mean", "progress": False}
    return movie_models(encoder, film, weights=random_weights, **options)


@pytest.fixture(scope="module")
def measured(models: MovieModels) -> MeasuredMovie:
    """Return eight subjects: the prediction in noise, on the prediction's own grid."""
    rng = np.random.default_rng(8)
    run = RunSettings(cutoff_s=0.0)
    maps = models.prediction.subjects.mean(axis=0)
    volumes = to_volumes(maps, models.onsets_s, TR_S, run)
    noise = rng.standard_normal((8, *volumes.shape)) * volumes.std() / 4
    prediction = models.prediction
    return MeasuredMovie(
        data=(volumes + noise).astype(np.float32),
        subject_names=tuple(f"sub-{index}" for index in range(8)),
        tr_s=TR_S,
        mask=prediction.mask,
        affine=prediction.affine,
        rois={roi: prediction.roi_mask(roi) for roi in prediction.rois},
        slice_time_ref=0.0,
    )


@pytest.fixture(scope="module")
def analysis(models: MovieModels, measured: MeasuredMovie) -> DynamicsAnalysis:
    """Return the comparison of the two."""
    run = RunSettings(cutoff_s=0.0)
    return analyse_movie(
        models,
        measured,
        run=run,
        boundaries=[6, 11, 15],
        n_brains=20,
        n_surrogates=99,
        window=(-3, 5),
    )


@pytest.mark.slow
def test_movie_models_are_what_each_gives_alone(
    models: MovieModels, film: Path, bundle: Bundle, random_weights: Path
) -> None:
    """One pass over the movie gives what the encoder and each baseline give by themselves."""
    pixels = np.stack([frame.pixels for frame in Movie(film).frames(RATE_HZ)])
    lights = luma(pixels)
    np.testing.assert_array_equal(models.baselines["luminance"], lights.reshape(len(lights), -1))
    energy = motion_energy(lights).reshape(len(lights), -1)
    np.testing.assert_array_equal(models.baselines["motion"], energy)
    untrained = load_backbone("resnet18", weights="untrained")(pixels)
    np.testing.assert_allclose(models.baselines["untrained"], untrained, rtol=1e-3, atol=1e-4)
    alone = Encoder(bundle).predict_movie(
        film, weights=random_weights, average="mean", progress=False
    )
    np.testing.assert_allclose(models.prediction.group, alone.group, atol=1e-4)
    np.testing.assert_array_equal(models.onsets_s, alone.onsets_s)
    assert not models.prediction.provenance.to_dict()["weights_verified"]
    assert models.made_of["untrained"]["weights"] == "untrained (seed 0)"


def test_movie_models_bad_input_is_named(
    bundle: Bundle, tmp_path: Path, random_weights: Path
) -> None:
    """An unknown baseline, a missing movie and one in which nothing moves have an error."""
    encoder = Encoder(bundle)
    with pytest.raises(OptionError, match="baseline must be one of luminance, motion, untrained"):
        movie_models(encoder, "film.mp4", baselines=["light"])
    with pytest.raises(StimulusError, match=r"gone.mp4"):
        movie_models(encoder, tmp_path / "gone.mp4", weights=random_weights, progress=False)
    still = make_movie(tmp_path / "still.mkv", still=True)
    with pytest.raises(DataError, match="the prediction must change over the movie; got the same"):
        movie_models(encoder, still, baselines=["motion"], weights=random_weights, progress=False)


@pytest.mark.slow
def test_analysis_finds_that_the_prediction_agrees_best(analysis: DynamicsAnalysis) -> None:
    """With the prediction planted in the measurement, it beats luminance and motion everywhere."""
    assert [region.roi for region in analysis.regions] == ["all", "LOC", "PPA"]
    for region in analysis.regions:
        assert region.models == ("predicted", *BASELINES)
        assert region.mean_agreement[0] > region.mean_agreement[1:3].max()
        assert region.mean_p[0] < region.mean_p[1:3].min()


def lines_of(panel: object, colour: str) -> list[NDArray]:
    """Return the data of a panel's lines of a colour."""
    return [
        line.get_ydata()
        for line in panel.lines  # type: ignore[attr-defined]
        if line.get_color() == colour and len(line.get_ydata()) > 2
    ]


def test_plot_agreement_draws_the_courses(analysis: DynamicsAnalysis) -> None:
    """Each region's panel holds each model's course, and a line at each boundary."""
    figure = plot_agreement(analysis.regions, TR_S, analysis.boundaries)
    assert isinstance(figure, Figure)
    assert len(figure.axes) == 6
    for row, region in enumerate(analysis.regions):
        panel = figure.axes[2 * row]
        np.testing.assert_array_equal(lines_of(panel, "#0072B2")[0], region.agreement[0])
        dashed = [line.get_xdata()[0] for line in panel.lines if line.is_dashed()]
        assert dashed == [6.0, 11.0, 15.0]


def test_plot_boundary_averages_marks_what_is_significant(analysis: DynamicsAnalysis) -> None:
    """Panels hold averages and differences, and a mark wherever corrected p is below .10."""
    figure = plot_boundary_averages(analysis.effects, TR_S)
    assert len(figure.axes) == 6
    effect = analysis.effects[0]
    top, bottom = figure.axes[0], figure.axes[3]
    np.testing.assert_array_equal(lines_of(top, "#0072B2")[0], effect.average.mean[0])
    np.testing.assert_array_equal(lines_of(bottom, "#E69F00")[0], effect.average.mean[4])
    drawn = [text.get_text().replace("\n", "") for text in bottom.texts]
    due = [significance_mark(p) for p in effect.p_max[4:].ravel()]
    assert sorted(mark for mark in drawn if set(mark) <= set("*†")) == sorted(filter(None, due))


def test_plot_similarity_draws_the_matrices(analysis: DynamicsAnalysis) -> None:
    """The measured matrix comes first, then each model's, with a frame for each event."""
    region = analysis.regions[0]
    figure = plot_similarity(region.similarity, TR_S, analysis.boundaries)
    panels = [axes for axes in figure.axes if axes.images]
    names = ["measured", "predicted", *BASELINES]
    assert [panel.get_title(loc="left").lower() for panel in panels] == names
    for panel, name in zip(panels, names, strict=True):
        np.testing.assert_array_equal(panel.images[0].get_array(), region.similarity[name])
        assert len(panel.patches) == 4


def test_plots_without_boundaries_and_baselines(analysis: DynamicsAnalysis) -> None:
    """One model alone, without boundaries, is drawn too."""
    region = analysis.regions[0]
    alone = replace(
        region,
        models=("predicted",),
        agreement=region.agreement[:1],
        brains=region.brains[:1],
        null=region.null[:, :1],
    )
    assert len(plot_agreement([alone], TR_S).axes) == 2
    assert (
        len([axes for axes in plot_similarity({"predicted": np.eye(9)}, TR_S).axes if axes.images])
        == 1
    )


def test_significance_marks_are_the_published_ones() -> None:
    """A dagger under .10, one star under .05, two under .01, and so on; NaN has none."""
    given = [0.5, 0.1, 0.0999, 0.05, 0.049, 0.01, 0.0099, 0.0009, 0.00009, float("nan")]
    marks = ["", "", "†", "†", "*", "*", "**", "***", "****", ""]
    assert [significance_mark(p) for p in given] == marks


@pytest.mark.slow
def test_save_figure_is_reproducible_and_whole(tmp_path: Path, analysis: DynamicsAnalysis) -> None:
    """The same figure gives the same SVG, which is XML, a PNG that opens, and no leftovers."""
    for folder in ("one", "two"):
        save_figure(plot_boundary_averages(analysis.effects, TR_S), tmp_path / folder / "b", dpi=60)
    one, two = ((tmp_path / folder / "b.svg").read_bytes() for folder in ("one", "two"))
    assert one == two
    assert "Time from boundary (s)" in "".join(ElementTree.fromstring(one).itertext())
    with Image.open(tmp_path / "one" / "b.png") as picture:
        assert picture.size[0] > 300
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["b.png", "b.svg"]
    with pytest.raises(OptionError, match="formats must be one of png, svg, pdf; got 'gif'"):
        save_figure(Figure(), tmp_path / "c", ["gif"])


@pytest.mark.parametrize("width", [1.5, 6.0])
def test_save_figure_has_a_footnote_on_a_strip_of_its_own(tmp_path: Path, width: float) -> None:
    """Where to read how good predictions are stands below the figure, which stays what it was."""
    figure = Figure(figsize=(width, 2.0))
    figure.subplots().plot([1, 2])
    heights = {}
    for name, footnote in (("with", FOOTNOTE), ("without", "")):
        save_figure(figure, tmp_path / name, dpi=100, footnote=footnote)
        text = "".join(ElementTree.parse(tmp_path / f"{name}.svg").getroot().itertext())
        assert ("validity.md" in text) == bool(footnote)
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.size[0] == round(100 * width)
            heights[name] = picture.size[1]
            pixels = np.asarray(picture.convert("L"), dtype=int)
        if footnote:
            strip = pixels[200:]
            assert (strip < 200).any()  # it is written,
            assert (strip[:, -2:] > 250).all()  # ends before the edge,
            assert (strip[-1] > 250).all()
            assert len(figure.texts) == 0  # and is not left on the figure.
    assert heights["without"] == 200 < heights["with"]


@pytest.mark.slow
def test_save_dynamics_tables_hold_the_figures_numbers(
    tmp_path: Path, analysis: DynamicsAnalysis, film: Path
) -> None:
    """Each figure has its table, the tables hold its numbers, the record names all files."""
    files = save_dynamics(analysis, tmp_path / "out")
    assert {path.name for path in files} == {path.name for path in (tmp_path / "out").iterdir()}
    stems = {"agreement", "boundaries", "timecourses", "similarity_roi-all", "similarity_roi-LOC"}
    for stem in stems:
        assert {f"{stem}.png", f"{stem}.svg", f"{stem}.tsv"} <= {path.name for path in files}
    table = pd.read_csv(tmp_path / "out" / "boundaries.tsv", sep="\t", na_values="n/a")
    rows = table[(table.roi == "PPA") & (table.model == "predicted - motion")]
    average = analysis.effects[2].average
    np.testing.assert_allclose(rows.agreement, average.mean[5], rtol=1e-5)
    np.testing.assert_allclose(rows.p_max, analysis.effects[2].p_max[5], rtol=1e-5)
    record = json.loads((tmp_path / "out" / "dynamics.json").read_text("utf-8"))
    page = Path(__file__).parents[1] / "docs" / "how-to" / "compare-movie-dynamics.md"
    explained = page.read_text("utf-8")
    for values in (*analysis.tables().values(), event_table({"all": np.arange(2)}, TR_S)):
        assert all(f"`{column}`" in explained for column in values.columns), values.columns
    settings = record["settings"]
    assert settings["boundaries"] == [6, 11, 15]
    assert (settings["run"]["tr_s"], settings["run"]["hrf"]) == (TR_S, "glover")
    assert (settings["tested"], settings["interval"]) == (True, True)
    assert (settings["seed"], settings["window"]) == (0, [-3, 5])
    (entry,) = record["inputs"]
    assert (entry["name"], entry["sha256"]) == (film.name, sha256_of(film))
    assert set(record["controls"]) == set(BASELINES)
    names = {path.name for path in files} - {"dynamics.json"}
    assert {entry["file"] for entry in record["outputs"]} == names


@pytest.mark.parametrize("resample", ["interp", "original"])
def test_predicted_maps_are_in_step_with_the_film(
    tmp_path: Path, models: MovieModels, resample: str
) -> None:
    """The maps are those that `to_volumes` gives of the group; their times are the volumes'."""
    chosen = {"n_volumes": 18} if resample == "original" else {"slice_time_ref": 0.5}
    chosen |= {} if resample == "original" else {"skip_volumes": 2, "movie_start_s": 3.0}
    run = RunSettings(resample=resample, **chosen)
    result = predicted_dynamics(models, TR_S, run=run, boundaries="hmm:3")
    result.maps.save(tmp_path, {})
    saved = nib.load(tmp_path / "predicted.nii.gz")
    prediction = models.prediction
    known = np.isfinite(prediction.group).all(axis=0)
    expected = to_volumes(prediction.group[:, known], models.onsets_s, TR_S, run)
    maps = np.asarray(saved.dataobj)[prediction.mask].T
    largest = float(np.abs(expected).max())
    assert maps[:, known] == pytest.approx(expected, abs=1e-6 * largest)
    assert np.isnan(maps[:, ~known]).all()
    assert saved.header.get_zooms()[3] == pytest.approx(TR_S)
    said = json.loads((tmp_path / "predicted.json").read_text("utf-8"))["OnsetsSeconds"]
    # Time itself, brought to the volumes as responses are but for haemodynamics.
    if resample == "original":
        stretched = np.linspace(0, len(models.onsets_s), 18)[2:10] / RATE_HZ
        assert said == pytest.approx(stretched, abs=1e-5)
    else:
        assert said == pytest.approx([(k + 2.5) * TR_S - 3 for k in range(len(said))])


@pytest.mark.slow
def test_save_dynamics_replaces_an_earlier_comparison(
    tmp_path: Path, analysis: DynamicsAnalysis
) -> None:
    """Files of an earlier comparison go, other people's stay, within the folder and outside."""
    out = tmp_path / "out"
    one = replace(analysis, regions=analysis.regions[:1], effects=())
    two = replace(analysis, regions=analysis.regions[:2], effects=())
    save_dynamics(two, out)
    (out / "notes.txt").write_text("mine")
    (tmp_path / "outside.txt").write_text("mine")
    record = json.loads((out / "dynamics.json").read_text("utf-8"))
    record["outputs"] += [{"file": "../outside.txt"}, {"file": 3}]
    (out / "dynamics.json").write_text(json.dumps(record))
    with pytest.raises(OptionError, match="without earlier results; it holds dynamics.json"):
        save_dynamics(one, out)
    save_dynamics(one, out, overwrite=True)
    kept = {f"{stem}.{kind}" for stem in ("agreement", "timecourses", "similarity_roi-all")
            for kind in ("tsv", "png", "svg")}  # fmt: skip
    names = {path.name for path in out.iterdir()}
    kept |= {"predicted.nii.gz", "predicted.json"}
    assert names == kept | {"summary.tsv", "dynamics.json", "notes.txt"}
    assert (tmp_path / "outside.txt").exists()
    (out / "dynamics.json").write_text("not json")
    save_dynamics(one, out, overwrite=True)
    record = json.loads((out / "dynamics.json").read_text("utf-8"))
    assert record["settings"]["n_subjects"] == 8


def test_save_dynamics_where_it_cannot_says_so(tmp_path: Path, analysis: DynamicsAnalysis) -> None:
    """A file where the folder should be is refused."""
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(OutputError, match="expected a folder to write to; it is a file"):
        save_dynamics(analysis, tmp_path / "out")


@pytest.mark.slow
def test_compare_movie_equals_its_steps(
    tmp_path: Path,
    film: Path,
    bundle: Bundle,
    random_weights: Path,
    models: MovieModels,
    measured: MeasuredMovie,
    opened: list[str],
) -> None:
    """One call gives what models and analysis give, of objects and of files."""
    saved = save_measured(measured, tmp_path / "film.npz")
    motion = models.baselines["motion"]
    np.save(tmp_path / "mine.npy", motion)
    options = {"n_brains": 4, "n_surrogates": 19, "seed": 3, "window": (-2, 3)}
    expected = analyse_movie(
        replace(models, baselines={"luminance": models.baselines["luminance"]}),
        measured,
        features={"mine": motion},
        boundaries="hmm:4",
        **options,
    )
    movie = Movie(film)
    for brains, mine in ((measured, motion), (saved, tmp_path / "mine.npy")):
        found = compare_movie(
            Encoder(bundle),
            movie,
            brains,
            boundaries="hmm:4",
            features={"mine": mine},
            weights=random_weights,
            progress=False,
            **options,
        )
        for name, table in expected.tables().items():
            pd.testing.assert_frame_equal(found.tables()[name], table)
    # To find out what it is, and then each time for its pictures.
    assert opened == [f"file:{film}"] * 3
    assert found.options["boundaries"] == "hmm:4"
    assert found.measured == (saved,)
    assert found.features == {"mine": tmp_path / "mine.npy"}


def test_compare_movie_refuses_before_the_movie_is_predicted(
    film: Path, bundle: Bundle, measured: MeasuredMovie, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features of another number of frames, and options of runs beside clean data, are named."""
    monkeypatch.setattr("imgtofmri.backbones.extractor.stream_features", _unreachable)
    encoder = Encoder(bundle)
    with pytest.raises(ShapeError, match=r"`features` of mine must .* 40 frames; got \(7, 3\)"):
        compare_movie(encoder, film, measured, features={"mine": np.zeros((7, 3))}, progress=False)
    features = {"luminance": np.zeros((40, 3))}
    with pytest.raises(OptionError, match="got 'luminance', which names another"):
        compare_movie(encoder, film, measured, features=features, progress=False)
    for option in ({"tr_s": 2.0}, {"confounds": ["a.tsv"]}):
        with pytest.raises(OptionError, match="go with NIfTI files; got them with data, which is"):
            compare_movie(encoder, film, measured, progress=False, **option)
    with pytest.raises(OptionError, match="confounds` and `tr_s` .* got them with partly-cloudy"):
        compare_movie(encoder, film, "partly-cloudy", tr_s=2.0, progress=False)
    with pytest.raises(OptionError, match="images must name one file or more; got none"):
        compare_movie(encoder, film, [], progress=False)


@pytest.fixture(scope="module")
def encoder_file(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the encoder."""
    path = tmp_path_factory.mktemp("encoder") / "small.safetensors"
    write_bundle(bundle, path)
    return path


@pytest.fixture
def runs(tmp_path: Path, measured: MeasuredMovie) -> list[Path]:
    """Write the subjects' runs as NIfTI."""
    paths = []
    for name, data in zip(measured.subject_names, measured.data, strict=True):
        volume = np.zeros((*measured.mask.shape, len(data)), np.float32)
        volume[measured.mask] = 100 + data.T
        image = nib.Nifti1Image(volume, measured.affine)
        image.header.set_zooms((2, 2, 2, TR_S))
        image.header.set_xyzt_units("mm", "sec")
        paths.append(tmp_path / f"{name}_bold.nii.gz")
        nib.save(image, paths[-1])
    (tmp_path / "bold.json").write_text('{"StartTime": 0.0}')
    return paths


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return what runs the command, and gives its exit code and what it said."""

    def call(*arguments: str | Path) -> tuple[int, str]:
        code = main(["dynamics", *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out + said.err

    return call


def test_dynamics_command_writes_figures_and_tables(
    tmp_path: Path, run: Run, film: Path, runs: list[Path], encoder_file: Path, random_weights: Path
) -> None:
    """From a movie and runs to all figures and tables, with the planted model on top."""
    np.save(tmp_path / "mine.npy", np.random.default_rng(0).standard_normal((20, 9)))
    tables = [path.with_suffix(".tsv") for path in runs]
    for table in tables:
        noise = np.random.default_rng(len(table.name)).standard_normal((20, 2))
        pd.DataFrame(noise, columns=["x", "y"]).to_csv(table, sep="\t", index=False)
    given = [argument for path in runs for argument in ("--measured", path)]
    given += [argument for path in tables for argument in ("--confounds", path)]
    given += ["--encoder", encoder_file, "--weights", random_weights, "--quiet"]
    given += ["--boundaries", "hmm:4", "--baseline", "motion", "--cutoff-s", "0"]
    given += ["--rate-hz", "1", "--features", f"mine={tmp_path / 'mine.npy'}", "--n-brains", "20"]
    given += ["--n-surrogates", "99"]
    out = tmp_path / "out"
    code, said = run(film, "-o", out, *given)
    assert code == 0, said
    assert "all: mean agreement r: predicted 0." in said
    assert ", predicted - motion " in said
    assert said.count("(p = ") == 3 * 5
    # All but the page, which is made of them.
    assert f"{len(list(out.iterdir())) - 1} files written: {out}" in said
    assert said.splitlines()[-1] == f"open {out / 'report.html'}"
    names = {path.name for path in out.iterdir()}
    assert {"summary.tsv", "agreement.png", "boundaries.svg", "similarity_roi-PPA.tsv"} <= names
    summary = pd.read_csv(out / "summary.tsv", sep="\t")
    names = ["predicted", "motion", "mine"]
    differences = ["predicted - motion", "predicted - mine"]
    assert summary.model.unique().tolist() == [*names, *differences]
    alone = summary[summary.model.isin(names)]
    best = alone.loc[alone.groupby("roi").agreement.idxmax()]
    assert (best.model == "predicted").all()
    record = json.loads((out / "dynamics.json").read_text("utf-8"))
    assert len(record["settings"]["boundaries"]) == 3
    assert record["settings"]["boundaries_from"] == "hmm:4"
    digests = [{"path": str(path), "sha256": sha256_of(path)} for path in [*runs, *tables]]
    assert record["measured"] == digests
    assert [entry["name"] for entry in record["inputs"]] == ["film.mkv", "mine"]
    assert [entry["sha256"] for entry in record["inputs"]] == [
        sha256_of(film), sha256_of(tmp_path / "mine.npy")
    ]  # fmt: skip
    code, said = run(film, "-o", out, *given)
    assert code == 2
    assert "it holds dynamics.json. Use --overwrite" in said


@pytest.mark.slow
def test_dynamics_command_takes_saved_responses(
    tmp_path: Path,
    run: Run,
    film: Path,
    measured: MeasuredMovie,
    encoder_file: Path,
    random_weights: Path,
    opened: list[str],
) -> None:
    """One file of save_measured stands for the runs, and a text file for the boundaries.

    The film is opened twice: to find out what it is, and to decode it. (A page shows it, too.)
    """
    saved = save_measured(measured, tmp_path / "film.npz")
    (tmp_path / "starts.txt").write_text("6\n11\n15\n")
    code, said = run(
        film, "-o", tmp_path / "out", "--measured", saved, "--boundaries", tmp_path / "starts.txt",
        "--encoder", encoder_file, "--weights", random_weights, "--baseline", "none",
        "--rate-hz", "1", "--n-brains", "5", "--n-surrogates", "19", "--rois", "PPA",
        "--skip-volumes", "2", "--no-report", "--quiet",
    )  # fmt: skip
    assert code == 0, said
    assert opened == [f"file:{film}"] * 2
    table = pd.read_csv(tmp_path / "out" / "agreement.tsv", sep="\t")
    assert table.roi.unique().tolist() == ["PPA"]
    assert table.volume.max() == 17
    assert sorted(table.volume[table.boundary].unique()) == [6, 11, 15]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--boundaries", "5,40"], 1, "between 1 and 19"),
        (["--boundaries", "9,5"], 1, "increasing order; got 5 after 9"),
        (["--boundaries", "5,5"], 1, "once each"),
        (["--boundaries", "hm"], 2, "which is none of these"),
        (["--boundaries", "hmm:many"], 2, "need a number of events; got 'many'"),
        (["--window", "5"], 2, "--window must be FIRST:LAST"),
        (["--window", "5:-5"], 2, "--window must be (first lag, last lag) in order"),
        (["--baseline", "light"], 2, "--baseline must be one of luminance"),
        (["--hrf", "cannonical"], 2, "--hrf must be one of gam, glover, spm"),
        (["--resample", "linear"], 2, "--resample must be one of interp"),
        (["--min-lag-s", "-1"], 2, "--min-lag-s must be 0 or more seconds; got -1"),
        (["--min-lag-s", "11"], 2, "compared with 3 others or more"),
        (["--n-surrogates", "5"], 2, "--n-surrogates must be 19 or more; got 5"),
        (["--resample", "original", "--hrf", "spm"], 2, "--hrf must be gam where --resample is"),
        (["--features", "mine"], 2, "--features must be NAME=FILE.npy"),
        (["--features", "mine=gone.npy"], 1, "gone.npy must be an .npy file"),
        (["--n-volumes", "21"], 2, "no more than the 20 volumes"),
        (["--movie-start-s", "4"], 1, "the 20 volumes that were measured; got 24"),
        (["--skip-volumes", "18"], 1, "at least 3 time points"),
        (["--rois", "FFA"], 2, "FFA"),
        (["--rate-hz", "0"], 2, "rate"),
        (["--boundaries=--7"], 2, "which is none of these"),
        (["--boundaries", "hmm:1"], 2, "n_events must be between 2"),
        (["--boundaries", "optimal"], 2, "'optimal' needs n_events"),
        (["--n-brains", "0"], 2, "--n-brains must be 1 or more; got 0"),
        (["--n-resamples", "0"], 2, "--n-resamples must be 1 or more; got 0"),
        (["--exclusion", "-2"], 2, "--exclusion must be -1 or more; got -2"),
        (["--band", "2"], 2, "--band must be 3 or more; got 2"),
        (["--resample", "original", "--movie-start-s", "2"], 2, "-start-s must be 0.0 where"),
        (["--slice-time-ref", "2"], 2, "fraction of the TR from 0 to 1; got 2.0"),
        (["--tr-s", "2"], 2, "--confounds and --tr-s go with NIfTI files"),
        (["--confounds", "a.tsv"], 2, "--confounds and --tr-s go with NIfTI files"),
    ],
)
def test_dynamics_command_bad_options_write_nothing(
    tmp_path: Path,
    run: Run,
    film: Path,
    measured: MeasuredMovie,
    encoder_file: Path,
    random_weights: Path,
    options: list[str],
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each bad option ends in one error that names it, before the movie, with nothing written."""
    monkeypatch.setattr("imgtofmri.backbones.extractor.stream_features", _unreachable)
    saved = save_measured(measured, tmp_path / "film.npz")
    ended, said = run(
        film, "-o", tmp_path / "out", "--measured", saved, "--encoder", encoder_file,
        "--weights", random_weights, "--n-brains", "2", "--boundaries", "6,11,15", "--quiet",
        *options,
    )  # fmt: skip
    assert ended == code, said
    assert words in said
    assert not (tmp_path / "out").exists()


def _unreachable(*_: object) -> None:
    pytest.fail("the movie was predicted before the options were checked")


@pytest.mark.parametrize("content", [b"", b"nothing", "archive", "twice"])
def test_dynamics_command_bad_features_write_nothing(
    tmp_path: Path, run: Run, film: Path, content: bytes | str
) -> None:
    """A file that is empty, no array or an archive, and a name given twice, are refused."""
    file = tmp_path / "mine.npy"
    options = ["--features", f"mine={file}"]
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content == "archive":
        with file.open("wb") as stream:
            np.savez(stream, a=np.zeros(3))
    else:
        np.save(file, np.zeros((20, 3)))
        options *= 2
    _, said = run(film, "--measured", "gone.npz", "-o", tmp_path / "out", *options)
    words = "got mine twice" if content == "twice" else "mine.npy must be an .npy file of numbers"
    assert words in said
    assert not (tmp_path / "out").exists()


def test_dynamics_command_two_subjects_are_refused(
    tmp_path: Path,
    run: Run,
    film: Path,
    measured: MeasuredMovie,
    encoder_file: Path,
) -> None:
    """Two people stand for nobody else; the message says how many do, and what to do."""
    two = replace(measured, data=measured.data[:2], subject_names=measured.subject_names[:2])
    saved = save_measured(two, tmp_path / "film.npz")
    code, words = run(
        film, "--measured", saved, "--encoder", encoder_file, "-o", tmp_path / "out", "--quiet"
    )
    assert code == 1
    assert "of 3 subjects or more; got 2" in words


@pytest.mark.slow
def test_dynamics_command_of_few_people_says_that_there_is_no_interval(
    tmp_path: Path,
    run: Run,
    film: Path,
    measured: MeasuredMovie,
    encoder_file: Path,
    random_weights: Path,
) -> None:
    """Three people are tested; no limits are written for them, and it is said."""
    three = replace(measured, data=measured.data[:3], subject_names=measured.subject_names[:3])
    saved = save_measured(three, tmp_path / "film.npz")
    code, said = run(
        film, "-o", tmp_path / "out", "--measured", saved, "--encoder", encoder_file,
        "--weights", random_weights, "--rate-hz", "1", "--n-surrogates", "19", "--quiet",
    )  # fmt: skip
    assert code == 0, said
    assert "no interval over people: 3 are too few, 8 are needed" in said
    table = pd.read_csv(tmp_path / "out" / "summary.tsv", sep="\t", na_values="n/a")
    assert table[["ci_lower", "ci_upper"]].isna().all(axis=None)
    assert table.p.notna().all()


@pytest.mark.slow
def test_dynamics_command_without_measured_responses(
    tmp_path: Path, run: Run, film: Path, encoder_file: Path, random_weights: Path
) -> None:
    """A film alone gives time courses, similarities, events and figures, and no agreement."""
    out = tmp_path / "out"
    given = [film, "-o", out, "--encoder", encoder_file, "--weights", random_weights, "--quiet"]
    code, said = run(*given, "--tr-s", "1", "--boundaries", "gsbs:4")
    assert code == 0, said
    assert "all: 4 events predicted" in said
    names = {path.name for path in out.iterdir()}
    assert {"timecourses.tsv", "timecourses.png", "events.tsv", "similarity_roi-PPA.svg"} <= names
    assert not {"summary.tsv", "agreement.tsv"} & names
    courses = pd.read_csv(out / "timecourses.tsv", sep="\t")
    assert set(courses.subject) == {"group", "S1", "S2"}
    assert courses.time_s.max() == 19.0
    events = pd.read_csv(out / "events.tsv", sep="\t")
    assert events.groupby("roi").size().to_dict() == {"LOC": 3, "PPA": 3, "all": 3}
    record = json.loads((out / "dynamics.json").read_text("utf-8"))
    assert record["settings"]["run"]["tr_s"] == 1.0
    assert record["settings"]["boundaries"]["all"] == events[events.roi == "all"].volume.tolist()
    code, said = run(*given, "--overwrite", "--boundaries", "6,9")
    assert code == 0, said
    assert pd.read_csv(out / "events.tsv", sep="\t").time_s.unique().tolist() == [12.0, 18.0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--confounds", "a.tsv"], "--confounds goes with measured responses; got none"),
        (["--band", "5"], "--band goes with measured responses; got none"),
        (["--min-lag-s", "12"], "--min-lag-s goes with measured responses; got none"),
        (["--window=-2:3"], "--window goes with measured responses; got none"),
        (["--exclusion", "-1"], "--exclusion goes with measured responses; got none"),
        (["--n-surrogates", "9"], "--n-surrogates goes with measured responses; got none"),
        (["--n-brains", "9"], "--n-brains goes with measured responses; got none"),
        (["--n-resamples", "9"], "--n-resamples goes with measured responses; got none"),
        (["--tr-s", "0"], "--tr-s must be a positive number of seconds"),
        (["--resample", "original"], "--n-volumes must be given where --resample is original"),
        (["--n-volumes", "99"], "no more than the 10 volumes of the movie; got 99"),
    ],
)
def test_dynamics_command_without_measured_responses_bad_options(
    tmp_path: Path,
    run: Run,
    film: Path,
    encoder_file: Path,
    options: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What needs a measurement, and a run that the film does not fill, are refused at once."""
    monkeypatch.setattr("imgtofmri.backbones.extractor.stream_features", _unreachable)
    code, said = run(film, "-o", tmp_path / "out", "--encoder", encoder_file, "--quiet", *options)
    assert code == 2
    assert words in said
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_predict_dynamics_courses_are_roi_means_through_haemodynamics(
    film: Path, bundle: Bundle, random_weights: Path, models: MovieModels
) -> None:
    """A course is the mean of a person's own ROI, brought to volumes as any response is."""
    found = predict_dynamics(
        Encoder(bundle), film, tr_s=TR_S, weights=random_weights, progress=False
    )
    means = models.prediction.roi_means()
    at = means.places.index(("PPA", "both"))
    courses = {"group": means.group[at], "S2": means.values[at, 1]}
    for subject, frames in courses.items():
        rows = found.courses.query(f"roi == 'PPA' and hemi == 'both' and subject == '{subject}'")
        expected = to_volumes(frames[:, None], models.onsets_s, TR_S, RunSettings())[:, 0]
        np.testing.assert_allclose(rows.response, expected, rtol=1e-3, atol=1e-4)
    (figure,) = [plot_courses(found.courses)]
    assert [panel.get_title(loc="left") for panel in figure.axes] == ["LOC", "PPA"]
    line = lines_of(figure.axes[1], "#0072B2")[0]
    np.testing.assert_allclose(line, found.courses.query(
        "roi == 'PPA' and hemi == 'both' and subject == 'group'").response)  # fmt: skip


@pytest.mark.slow
def test_film_simulated_from_the_encoder_is_won_by_it(
    tmp_path: Path,
    run: Run,
    film: Path,
    encoder_file: Path,
    random_weights: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`simulate` and `dynamics` as they come: the model that made the runs agrees best by far."""
    shared = ["--encoder", encoder_file, "--weights", random_weights, "--quiet"]
    simulated = ["simulate", film, "-o", tmp_path / "sim", "--tr-s", "1", "--subjects", "3",
                 "--voxels", "predicted", *shared]  # fmt: skip
    assert main(list(map(str, simulated))) == 0, capsys.readouterr().err
    runs = sorted((tmp_path / "sim").rglob("*_bold.nii.gz"))
    assert len(runs) == 3
    given = [argument for path in runs for argument in ("--measured", path)]
    code, said = run(
        film, "-o", tmp_path / "out", *given, "--n-volumes", "20", "--n-surrogates", "99",
        "--baseline", "luminance", "--baseline", "untrained", *shared,
    )  # fmt: skip
    assert code == 0, said
    table = pd.read_csv(tmp_path / "out" / "summary.tsv", sep="\t", na_values="n/a")
    agreement = table.pivot(index="roi", columns="model", values="agreement")
    assert (agreement.predicted > 0.95).all()
    assert (agreement.predicted > agreement[["luminance", "untrained"]].max(axis=1) + 0.1).all()
    p = table.pivot(index="roi", columns="model", values="p")
    # A film of 20 s has three or four shifts that tell of different things: p cannot be small.
    assert (p.predicted <= 0.25).all()
    assert (p.predicted < p[["luminance", "untrained"]].min(axis=1) / 2).all()


@pytest.mark.slow
def test_dynamics_command_bad_files_write_nothing(
    tmp_path: Path,
    run: Run,
    film: Path,
    measured: MeasuredMovie,
    encoder_file: Path,
    random_weights: Path,
) -> None:
    """A run of another length, responses with NaN and a missing movie each end in one error."""
    out, saved = tmp_path / "out", tmp_path / "film.npz"
    given = ["--measured", saved, "--encoder", encoder_file, "--weights", random_weights]
    given += ["--rate-hz", "1", "--baseline", "none", "-o", out, "--quiet"]
    save_measured(replace(measured, data=measured.data[:, :18]), saved)
    code, said = run(film, *given)
    assert code == 1
    assert "the 18 volumes that were measured; got 20, as it" in said
    # Where only decoding tells how many frames there are, the movie is predicted first.
    clip = film.with_suffix(".avi")
    make_movie(clip)
    code, said = run(clip, *given)
    assert code == 1
    assert "the 18 volumes that were measured; got 20 of predicted" in said
    save_measured(replace(measured, data=measured.data[:, :2]), saved)
    assert "at least 3 time points" in run(film, *given)[1]
    save_measured(measured, saved)
    assert "gone.mp4" in run(tmp_path / "gone.mp4", *given)[1]
    arrays = dict(np.load(saved))
    arrays["data"][1, 2, 3] = np.nan
    np.savez(saved, **arrays)
    assert "NaN or infinite in sub-1" in run(film, *given)[1]
    assert not out.exists()


@pytest.mark.slow
@pytest.mark.long
def test_dynamics_command_on_partly_cloudy(
    tmp_path: Path,
    run: Run,
    encoder_file: Path,
    random_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With data of the public set's layout in place, one command does all, at its boundaries."""
    starts = [*PARTLY_CLOUDY_EVENT_STARTS, 158]
    scenes_s = (20, *(2 * np.diff(starts)).tolist())
    film = make_movie(tmp_path / "film.mkv", scenes_s=scenes_s, fps=1)
    folder = tmp_path / "nilearn" / "development_fmri"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(2)
    affine = np.diag([4.0, 4, 4, 1])
    affine[:3, 3] = 1.0
    names = [f"sub-pixar{number:03d}" for number in range(123, 156)]
    people = {"participant_id": names, "Age": 25.0, "AgeGroup": "Adult", "Child_Adult": "adult"}
    table = pd.DataFrame({**people, "Gender": "F", "Handedness": "R"})
    table.to_csv(folder / "participants.tsv", sep="\t", index=False)
    columns = [f"{kind}_{axis}" for kind in ("trans", "rot") for axis in "xyz"]
    columns += [f"a_comp_cor_{number:02d}" for number in range(6)]
    columns += ["framewise_displacement", "csf", "white_matter"]
    for name in names:
        values = 100 + rng.standard_normal((7, 6, 5, 168)).astype(np.float32)
        path = folder / f"{name}_task-pixar_space-MNI152NLin2009cAsym_desc-preproc_bold.nii.gz"
        nib.save(nib.Nifti1Image(values, affine), path)
        confounds = pd.DataFrame(rng.standard_normal((168, len(columns))), columns=columns)
        path = folder / f"{name}_task-pixar_desc-confounds_regressors.tsv"
        confounds.to_csv(path, sep="\t", index=False)
    monkeypatch.setenv("IMGTOFMRI_OFFLINE", "1")
    monkeypatch.setenv("NILEARN_DATA", str(tmp_path / "nilearn"))
    code, said = run(
        film, "-o", tmp_path / "out", "--measured", "partly-cloudy", "--encoder", encoder_file,
        "--weights", random_weights, "--rate-hz", "0.5", "--quiet",
    )  # fmt: skip
    assert code == 0, said
    record = json.loads((tmp_path / "out" / "dynamics.json").read_text("utf-8"))
    settings = record["settings"]
    assert settings["boundaries"] == list(PARTLY_CLOUDY_EVENT_STARTS[1:])
    assert settings["boundaries_from"] == "partly-cloudy"
    assert (settings["n_subjects"], settings["n_volumes"]) == (33, 158)
    assert settings["run"]["skip_volumes"] == 10
    assert len(record["measured"]) == 66
