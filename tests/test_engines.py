"""Engines: which there are, how they are tried, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from imgtofmri import load_backbone, load_encoder
from imgtofmri.backbones import EngineWarning, engines, trial
from imgtofmri.backbones.architectures import ARCHITECTURES, fold_preprocessing
from imgtofmri.backbones.cache import network_key
from imgtofmri.backbones.engines import REFERENCE, Engine, Graph, Trial, native_precisions
from imgtofmri.backbones.names import Untrained
from imgtofmri.backbones.onnx_graph import declare_outputs, with_values
from imgtofmri.backbones.untrained import untrained_weights
from imgtofmri.cli import main
from imgtofmri.encoder import Settings
from imgtofmri.exceptions import MissingDependencyError, OptionError

pytestmark = pytest.mark.filterwarnings(
    "ignore::imgtofmri.backbones.UnverifiedWeightsWarning",
    "ignore::imgtofmri.backbones.EngineWarning",
)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep what a trial remembers in a cache of its own."""
    monkeypatch.setenv("IMGTOFMRI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _needs_openvino(test: Callable[..., None]) -> Callable[..., None]:
    """Skip a test with the reason where OpenVINO is not installed."""
    missing = find_spec("openvino") is None
    skip = pytest.mark.skipif(missing, reason="needs the extra [openvino]: it is not installed")
    return pytest.mark.openvino(skip(test))


class OtherSession:
    """A session that answers as the reference, and then otherwise."""

    n_calls = 1
    images_per_call = 8

    def __init__(self, graph: Graph, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        self._session = engines.open_session(REFERENCE, graph, 1)
        self._change = change

    def __call__(self, images: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Return the reference's answers, changed."""
        return [self._change(output).astype(np.float32) for output in self._session(images)]


@pytest.fixture
def opens(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return what has an engine open sessions whose answers are changed."""

    def set_up(name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
        monkeypatch.setitem(
            engines._OPENERS, name, lambda engine, graph, n_threads: OtherSession(graph, change)
        )
        natives = engines.native_precisions

        def able(of: str) -> tuple[str, ...]:
            return ("fp32",) if of == name else () if of != "onnxruntime" else natives(of)

        for module in (engines, trial):
            monkeypatch.setattr(module, "native_precisions", able)

    return set_up


def noise(output: NDArray[Any]) -> NDArray[Any]:
    """Return noise instead of an answer."""
    return np.random.default_rng(output.size).random(output.shape)


def slightly(share: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Return what adds noise of a share of an answer's deviation."""

    def change(output: NDArray[Any]) -> NDArray[Any]:
        rng = np.random.default_rng(0)
        return output + share * output.std() * rng.standard_normal(output.shape)

    return change


# What there is.


@pytest.mark.parametrize(
    ("engine", "precision", "option", "match"),
    [
        ("tensorrt", None, "engine", "engine must be one of auto, onnxruntime, openvino"),
        ("openvinoo", None, "engine", "Did you mean openvino"),
        ("auto", "fp64", "precision", "precision must be one of fp32, bf16, fp16; got 'fp64'"),
        ("onnxruntime", "bf16", "precision", "take another `engine`: openvino"),
        ("cuda", "fp16", "precision", "precision of the engine cuda must be one of fp32"),
    ],
)
def test_settings_refuse_engines_there_are_not(
    engine: str, precision: str | None, option: str, match: str
) -> None:
    """Before anything is loaded, with what there is."""
    with pytest.raises(OptionError, match=match) as caught:
        Settings(engine=engine, precision=precision)
    assert caught.value.option == option


def test_settings_have_the_reference_by_default() -> None:
    """Nothing else is chosen in silence."""
    assert Engine(Settings().engine, Settings().precision or "fp32") == REFERENCE
    backbone = load_backbone("resnet18", weights="untrained")
    assert (backbone.spec.engine, backbone.spec.trial) == (REFERENCE, None)


@pytest.mark.parametrize(("name", "remedy"), [("cuda", "onnxruntime-gpu"), ("coreml", "macOS")])
def test_engines_whose_device_is_not_there_are_one_error(name: str, remedy: str) -> None:
    """A device that ONNX Runtime lacks is named, with what to install."""
    if native_precisions(name):
        pytest.skip(f"{name} is here")
    with pytest.raises(MissingDependencyError, match=f"engine {name} needs .*{remedy}"):
        load_backbone("resnet18", weights="untrained", engine=name)


def test_openvino_that_is_not_installed_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"Install imgtofmri\[openvino\]"):
        load_backbone("resnet18", weights="untrained", engine="openvino")


# The trial.


def test_trial_pictures_are_the_same_on_every_machine() -> None:
    """Whole numbers throughout: their digest is the one they were first made with."""
    pictures = trial.trial_pictures(224)
    assert pictures.shape == (16, 224, 224, 3)
    assert hashlib.sha256(pictures.tobytes()).hexdigest()[:16] == "7b2679e1ebc9f830"
    assert pictures.std(axis=(1, 2)).min() > 5


def test_an_engine_that_answers_with_noise_is_refused_with_the_numbers(
    opens: Callable[..., None],
) -> None:
    """It does not compute another picture."""
    opens("openvino", noise)
    message = r"openvino in fp32 is refused: its features .*mean r >= 0\.9999 .*got mean r .*lowest"
    with pytest.raises(OptionError, match=message) as caught:
        load_backbone("resnet18", weights="untrained", engine="openvino")
    assert caught.value.option == "engine"


@pytest.mark.parametrize("name", ["cuda", "coreml"])
def test_predict_refuses_a_wrong_engine_and_writes_nothing(
    name: str,
    opens: Callable[..., None],
    small_encoder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """On the command line it is bad usage, and group maps are what is compared."""
    opens(name, noise)
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(tmp_path / "a.png")
    arguments = ["predict", str(tmp_path / "a.png"), "-o", str(tmp_path / "out")]
    arguments += ["--encoder", str(small_encoder), "--weights", "untrained", "--engine", name]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert f"--engine {name} in fp32 is refused: its group maps of 16 test pictures" in said
    assert not (tmp_path / "out").exists()


def test_an_engine_whose_mean_is_right_and_lowest_is_not_is_refused() -> None:
    """Both are asked for, and each is of its own limit."""
    engine = Engine("cuda")
    assert Trial(engine, "features", 16, 0.99995, 0.9995).passed
    assert not Trial(engine, "features", 16, 0.99995, 0.9985).passed
    assert not Trial(engine, "features", 16, 0.99985, 0.9995).passed
    assert not Trial(engine, "features", 16, float("nan"), float("nan")).passed


def test_an_engine_that_answers_alike_is_used_and_recorded(
    opens: Callable[..., None], small_encoder: Path, tmp_path: Path
) -> None:
    """How it answered is said, and stands in the record with the engine."""
    opens("cuda", slightly(1e-4))
    Image.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(tmp_path / "a.png")
    encoder = load_encoder(small_encoder)
    with pytest.warns(
        EngineWarning, match=r"cuda in fp32: group maps of 16 .*lowest r (1 - |0\.9999)"
    ):
        prediction = encoder.predict(
            tmp_path / "a.png", weights="untrained", engine="cuda", progress=False
        )
    prediction.save(tmp_path / "out")
    made = json.loads((tmp_path / "out" / "predictions.json").read_text())["prediction"]
    assert (made["engine"], made["precision"]) == ("cuda", "fp32")
    assert made["engine_trial"]["compared"] == "group maps"
    assert made["engine_trial"]["with"] == "onnxruntime in fp32"
    assert 0.9999 < made["engine_trial"]["lowest_r"] <= made["engine_trial"]["mean_r"] < 1


def test_a_trial_compares_with_what_numpy_correlates(opens: Callable[..., None]) -> None:
    """The correlations are NumPy's, picture by picture."""
    opens("cuda", slightly(0.01))
    with pytest.warns(EngineWarning):
        backbone = load_backbone("resnet18", weights="untrained", engine="cuda")
    pictures = trial.trial_pictures(224)
    expected = load_backbone("resnet18", weights="untrained")(pictures)
    r = [np.corrcoef(x, y)[0, 1] for x, y in zip(backbone(pictures), expected, strict=True)]
    found = backbone.spec.trial
    assert found is not None
    assert found.mean_r == pytest.approx(np.mean(r), abs=1e-12)
    assert found.lowest_r == pytest.approx(np.min(r), abs=1e-12)


def test_the_reference_is_asked_once_for_each_network(
    opens: Callable[..., None], own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers are kept under the digest of the weights; other weights are asked anew."""
    opens("cuda", slightly(1e-4))
    asked = []
    ask = trial._Remembered.__call__

    def counted(self: Any, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        asked.append(self.spec.weights_sha256)
        return ask(self, pixels)

    monkeypatch.setattr(trial._Remembered, "__call__", counted)
    for weights in ("untrained", "untrained", "untrained:1", "untrained"):
        load_backbone("resnet18", weights=weights, engine="cuda")
    assert len(asked) == len(set(asked)) == 2
    assert list(own_cache.rglob("*.sqlite"))


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="folders are closed to no root")
def test_a_cache_that_cannot_be_written_to_is_no_reason_against_an_engine(
    opens: Callable[..., None], own_cache: Path
) -> None:
    """The reference is then asked each time."""
    opens("cuda", slightly(1e-4))
    own_cache.mkdir()
    own_cache.chmod(0o500)
    assert load_backbone("resnet18", weights="untrained", engine="cuda").spec.trial is not None


def test_features_of_engines_are_kept_apart() -> None:
    """The features cache tells the engine; that of the reference is as it was."""
    spec = load_backbone("resnet18", weights="untrained").spec
    keys = [
        network_key(replace(spec, engine=engine))
        for engine in (None, REFERENCE, Engine("openvino"), Engine("openvino", "bf16"))
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 3


# The fastest.


def test_auto_stays_with_the_reference_where_nothing_else_passes(
    opens: Callable[..., None],
) -> None:
    """What did not pass is said with its numbers."""
    opens("cuda", noise)
    with pytest.warns(EngineWarning, match="auto takes onnxruntime in fp32.*cuda.* is refused"):
        backbone = load_backbone("resnet18", weights="untrained", engine="auto")
    assert (backbone.spec.engine, backbone.spec.trial) == (REFERENCE, None)


@pytest.mark.parametrize(("speed", "name"), [(1.05, "onnxruntime"), (1.5, "cuda")])
def test_auto_leaves_the_reference_for_what_is_worth_it(
    speed: float, name: str, opens: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few percent are drift of the machine, and would change engines from run to run."""
    opens("cuda", slightly(1e-5))
    monkeypatch.setattr(trial, "_speed", lambda backbone, reference: speed)
    backbone = load_backbone("resnet18", weights="untrained", engine="auto")
    assert backbone.spec.engine is not None
    assert backbone.spec.engine.name == name
    assert (backbone.spec.trial is None) == (name == "onnxruntime")


# Loaded networks, and those of PyTorch.


def test_engine_goes_with_no_network_that_is_loaded(small_encoder: Path) -> None:
    """It would be left aside in silence."""
    network = load_backbone("resnet18", weights="untrained")
    with pytest.raises(OptionError, match="engine must be left out with a network that is loaded"):
        load_encoder(small_encoder).extractor(backbone=network, engine="openvino")


# OpenVINO itself.


@_needs_openvino
def test_openvino_in_fp32_computes_what_onnxruntime_does() -> None:
    """To the rounding of single precision, in all that can be a layer."""
    layers = ["layer2", "layer3/sd", "layer1/max", "layer3@2x2", "avgpool"]
    pictures = trial.trial_pictures(224)[:6]
    ours = load_backbone("resnet18", weights="untrained", layers=layers)(pictures)
    theirs = load_backbone("resnet18", weights="untrained", layers=layers, engine="openvino")
    np.testing.assert_allclose(theirs(pictures), ours, rtol=1e-3, atol=1e-4 * np.abs(ours).max())
    assert theirs.spec.engine == Engine("openvino", "fp32")


@_needs_openvino
def test_openvino_numbers_do_not_depend_on_batch_order_or_threads() -> None:
    """Not by a bit: alone, among others, in any order, with any number of threads."""
    pictures = trial.trial_pictures(224)[:11]
    network = load_backbone("resnet18", weights="untrained", engine="openvino", n_threads=2)
    whole = network(pictures)
    np.testing.assert_array_equal(network(pictures[::-1])[::-1], whole)
    np.testing.assert_array_equal(np.concatenate([network(one[None]) for one in pictures]), whole)
    alone = load_backbone("resnet18", weights="untrained", engine="openvino", n_threads=1)
    np.testing.assert_array_equal(alone(pictures), whole)


@_needs_openvino
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_openvino_runs_in_no_other_precision_than_was_asked_for(precision: str) -> None:
    """One that the processor lacks is refused, or said to be slow; never another in silence."""
    native, said, found = precision in native_precisions("openvino"), "", None
    try:
        backbone = load_backbone(
            "resnet18", weights="untrained", engine="openvino", precision=precision
        )
        found = backbone.spec.trial
    except OptionError as error:
        said = str(error)
    if found is None:
        lacking = f"precision {precision} is none that OpenVINO runs on this processor"
        assert "is refused" in said if native else lacking in said
    else:
        assert found.native == native
        assert ("slow" in str(found)) != native
        # Half precision leaves traces: what came out is not what single precision gives.
        assert found.mean_r < 1 - 1e-7


@_needs_openvino
def test_openvino_takes_onnx_files(tmp_path: Path) -> None:
    """Their layers too, with the values that the file holds."""
    path = _onnx_file(tmp_path)
    ours = load_backbone(path, layers=["features", "relu"])
    theirs = load_backbone(path, layers=["features", "relu"], engine="openvino")
    pictures = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    np.testing.assert_allclose(theirs(pictures), ours(pictures), rtol=1e-4, atol=1e-5)


@_needs_openvino
def test_openvino_opens_no_socket_and_tells_nobody(tmp_path: Path) -> None:
    """Its package would tell its maker that it was imported, and keep a number of this machine."""
    script = (
        "import sys; opened = []\n"
        "sys.addaudithook(lambda event, _: opened.append(event) if event[:7] == 'socket.' else 0)\n"
        "import warnings; warnings.simplefilter('ignore')\n"
        "from imgtofmri.backbones import load_backbone; import numpy as np\n"
        "network = load_backbone('resnet18', weights='untrained', engine='openvino')\n"
        "network(np.zeros((1, 224, 224, 3), np.uint8))\n"
        "assert network.spec.engine.name == 'openvino'\n"
        "assert not [e for e in opened if e != 'socket.gethostname'], opened\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
    )
    home = {name: str(tmp_path) for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    environment = os.environ | home | {"PYTHONPATH": os.pathsep.join(sys.path)}
    environment |= {"IMGTOFMRI_CACHE": str(tmp_path / "ours")}
    subprocess.run([sys.executable, "-P", "-c", script], env=environment, check=True, timeout=120)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert all(path.is_relative_to(tmp_path / "ours") for path in files)


@_needs_openvino
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork processes")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_openvino_in_a_forked_process_is_one_error() -> None:
    """Its threads are not there: without a word, a call would never come back."""
    network = load_backbone("resnet18", weights="untrained", engine="openvino")
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            network(np.zeros((1, 224, 224, 3), np.uint8))
            said = "an answer"
        except OptionError as error:
            said = str(error)
        os.write(writing, said.encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert "cannot be used in a process that was forked" in os.read(reading, 1000).decode()


_FIRST_CALLS = """
import sys, threading
import numpy as np
from onnx import TensorProto, helper
from imgtofmri.backbones.engines import Engine, Graph
from imgtofmri.backbones.openvino import OpenVinoSession

shape = ["n", 3, 8, 8]
ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
sys.setswitchinterval(1e-6)
graph = Graph(model.SerializeToString(), "x", (3, 8, 8), ("y",))
session = OpenVinoSession(Engine("openvino", "fp32"), graph, 2)
together = threading.Barrier(2)

def call():
    together.wait()
    session(np.ones((4, 3, 8, 8), np.float32))

threads = [threading.Thread(target=call) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


@_needs_openvino
def test_openvino_s_first_calls_do_not_wait_for_each_other() -> None:
    """Where two threads made the first calls at once, half of all processes never ended."""
    pytest.importorskip("onnx", reason="makes its network with onnx")
    for _ in range(6):
        subprocess.run([sys.executable, "-c", _FIRST_CALLS], check=True, timeout=60)


# Graphs with their values inside.


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_with_values_is_what_the_onnx_package_reads(name: str) -> None:
    """The same operations, and the values where the file named another; outputs may be added."""
    import onnx
    from onnx import numpy_helper

    architecture = ARCHITECTURES[name]
    tensors = untrained_weights(architecture, Untrained(0)).tensors
    values = fold_preprocessing(architecture, tensors)
    path = Path(engines.__file__).parent / "graphs" / f"{name}.onnx"
    graph = path.read_bytes() + declare_outputs(["maxpool"] if name == "resnet18" else [])
    bare, whole = (onnx.load_from_string(one) for one in (graph, with_values(graph, values)))
    assert list(whole.graph.node) == list(bare.graph.node)
    assert list(whole.graph.output) == list(bare.graph.output)
    found = {item.name: numpy_helper.to_array(item) for item in whole.graph.initializer}
    assert len(found) == len(whole.graph.initializer) == len(bare.graph.initializer)
    assert found.keys() == {item.name for item in bare.graph.initializer} >= values.keys()
    for tensor, value in values.items():
        np.testing.assert_array_equal(found[tensor], value)


def _onnx_file(folder: Path) -> Path:
    """Write a small network with its weights inside."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(5)
    weight = rng.normal(size=(7, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["image", "weight"], ["conv"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("GlobalAveragePool", ["relu"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 32, 32])
    features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 7])
    graph = helper.make_graph(
        nodes, "small", [image], [features], [numpy_helper.from_array(weight, "weight")]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    onnx.save(model, folder / "small.onnx")
    return folder / "small.onnx"
