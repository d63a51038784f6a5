"""The published training's study file, end to end on a miniature of its data."""

from __future__ import annotations

import http.server
import io
import pickle
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV

from imgtofmri.bundle import Bundle, RoiModel, SubjectModel
from imgtofmri.encoder import Encoder
from imgtofmri.exceptions import AssetError, WeightsError
from imgtofmri.spaces import MNI152_2MM, affine_map
from imgtofmri.training import fetch_downloads, fit_study
from imgtofmri.training.study import Study, read_study

pytestmark = pytest.mark.filterwarnings("ignore::imgtofmri.backbones.UnverifiedWeightsWarning")

STUDY = Path(__file__).parent.parent / "studies" / "bold5000.toml"
ROIS = ("EarlyVis", "OPA", "LOC", "RSC", "PPA")
SUBJECTS = ("CSI1", "CSI2", "CSI3")
N_IMAGES = 36


@pytest.fixture
def site() -> Iterator[tuple[str, dict[str, bytes]]]:
    """Serve files by name on loopback while one test runs."""
    files: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            content = files.get(self.path.strip("/"))
            self.send_response(200 if content is not None else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            """Keep the test's output quiet."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
    )
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", files
    server.shutdown()
    server.server_close()
    thread.join()


def geometry() -> Bundle:
    """Return an encoder with the published one's subjects and ROIs, and a few voxels of each."""
    subjects = []
    for number, name in enumerate(SUBJECTS):
        models = {}
        for column, roi in enumerate(ROIS):
            n_voxels = 4 + number + column
            models[roi] = RoiModel(
                np.arange(400_000 + 50 * column, 400_000 + 50 * column + n_voxels, dtype=np.int32),
                np.repeat(np.array([0, 1], np.uint8), [2, n_voxels - 2]),
                np.zeros((512, n_voxels), np.float32),
                np.zeros(n_voxels, np.float32),
            )
        voxels = np.unique(np.concatenate([model.voxels for model in models.values()]))
        to_template = affine_map(MNI152_2MM, MNI152_2MM, np.eye(4)).restrict(voxels)
        subjects.append(SubjectModel(name, MNI152_2MM, to_template, models))
    features = {"id": "a/b", "backbone": "a", "layers": ["b"], "n_features": 512}
    card: dict[str, Any] = dict.fromkeys(("id", "title", "licence", "citation"), "geometry")
    card |= {"features": features, "template": {"space": "MNI152NLin6Asym"}}
    return Bundle(card, MNI152_2MM, tuple(subjects))


def pictures(rng: np.random.Generator) -> bytes:
    """Return an archive of folders of pictures, not in sorted order."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number in rng.permutation(N_IMAGES):
            folder = ("COCO", "ImageNet", "Scene")[number % 3]
            pixels = rng.integers(0, 256, size=(20, 30, 3), dtype=np.uint8)
            pixels[: number % 20] //= 3
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "png")
            archive.writestr(f"presented_stimuli/{folder}/{number:04d}.png", file.getvalue())
    return buffer.getvalue()


def responses(rng: np.random.Generator, bundle: Bundle) -> npt.NDArray[Any]:
    """Return an object array [subject][ROI] of rows of z-scores, one row for each voxel."""
    found = np.empty((len(SUBJECTS), len(ROIS)), dtype=object)
    for row, subject in enumerate(bundle.subjects):
        for column, model in enumerate(subject.rois.values()):
            values = rng.standard_normal((model.n_voxels, N_IMAGES))
            values -= values.mean(axis=1, keepdims=True)
            values /= values.std(axis=1, keepdims=True)
            found[row, column] = list(values)
    return found


@pytest.fixture
def miniature(
    site: tuple[str, dict[str, bytes]],
    random_weights: Path,
    rng: np.random.Generator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> tuple[Study, npt.NDArray[Any], dict[str, bytes]]:
    """Return the study with its downloads on loopback, its responses, and what is served."""
    monkeypatch.setenv("IMGTOFMRI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("IMGTOFMRI_OFFLINE", raising=False)
    url, files = site
    measured = responses(rng, geometry())
    buffer = io.BytesIO()
    np.save(buffer, measured, allow_pickle=True)
    files |= {"36563031": pictures(rng), "34907763": buffer.getvalue()}
    study = read_study(STUDY)
    downloads = tuple(
        replace(item, url=f"{url}/{name}", size=len(files[name]))
        for item in study.downloads
        for name in (item.url.rpartition("/")[2],)
    )
    backbones = (replace(study.backbone, weights=random_weights),)
    return replace(study, downloads=downloads, backbones=backbones), measured, files


@pytest.mark.slow
def test_bold5000_fetched_and_fitted_equals_grid_search(
    miniature: tuple[Study, npt.NDArray[Any], dict[str, bytes]], random_weights: Path
) -> None:
    """Fetched, unpacked and fitted, each ROI has the penalty and weights of a grid search."""
    study, measured, _ = miniature
    folder, file = fetch_downloads(study, progress=False)
    assert file.is_file()
    bundle = fit_study(study, lambda _: geometry(), progress=False)
    images = sorted(folder.rglob("*.png"), key=lambda path: (path.parent.parts, path.name))
    assert len(images) == N_IMAGES
    features = Encoder(bundle).features(images, weights=random_weights)
    assert [subject.name for subject in bundle.subjects] == list(SUBJECTS)
    for row, subject in enumerate(bundle.subjects):
        assert list(subject.rois) == list(ROIS)
        for column, model in enumerate(subject.rois.values()):
            search = GridSearchCV(Ridge(), {"alpha": np.logspace(1, 5, 10)}, cv=5)
            search.fit(features.astype(float), np.array(list(measured[row, column])).T)
            np.testing.assert_allclose(
                model.extras["alpha"], search.best_params_["alpha"], rtol=1e-6
            )
            expected = search.best_estimator_.coef_.T
            np.testing.assert_allclose(model.weights, expected, atol=1e-4)
            np.testing.assert_allclose(
                model.intercept, search.best_estimator_.intercept_, atol=1e-4
            )


def test_bold5000_download_of_another_size_is_refused(
    miniature: tuple[Study, npt.NDArray[Any], dict[str, bytes]],
) -> None:
    """A file that is not as long as the study says does not enter the cache."""
    study, _, files = miniature
    files["34907763"] += b"x"
    with pytest.raises(AssetError, match=r"bold5000_reordered_data.npy of bold5000-resnet18-refit"):
        fetch_downloads(study, progress=False)


class Loud:
    """What an unpickler would run."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (Path("executed"),)


def test_bold5000_hostile_responses_are_refused_and_not_executed(
    miniature: tuple[Study, npt.NDArray[Any], dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An object array whose pickle would call something is refused by the name of that."""
    monkeypatch.chdir(tmp_path)
    study, _, files = miniature
    hostile = np.empty((3, 5), dtype=object)
    hostile[1, 2] = Loud()
    buffer = io.BytesIO()
    np.save(buffer, hostile, allow_pickle=True)
    assert b"touch" in pickle.dumps(Loud())
    files["34907763"] = buffer.getvalue()
    archive, data = study.downloads
    fetched = replace(study, downloads=(archive, replace(data, size=len(buffer.getvalue()))))
    fetch_downloads(fetched, progress=False)
    with pytest.raises(WeightsError, match=r"reordered_data.npy: .*not allowed.*nothing of it was"):
        fit_study(fetched, lambda _: geometry(), progress=False)
    assert not Path("executed").exists()
