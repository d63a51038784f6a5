"""Streaming stimuli through a backbone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from imgtofmri.backbones import FeatureBatch, stream_features
from imgtofmri.backbones.stream import AHEAD
from imgtofmri.exceptions import OptionError, ShapeError, StimulusError
from imgtofmri.stimuli import Failure, Frame, read_images


@dataclass(frozen=True)
class Preprocessing:
    """The part of a backbone's recipe that streaming needs."""

    size: int = 8


@dataclass(frozen=True)
class Spec:
    """The part of a backbone's description that streaming needs."""

    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    n_features: int = 6
    parallel_calls: int = 1
    images_per_call: int = 32


@dataclass
class ChannelStatistics:
    """A backbone whose features are the mean and the standard deviation of each channel."""

    spec: Spec = field(default_factory=Spec)
    batches: list[int] = field(default_factory=list)

    def __call__(self, pixels: npt.NDArray[np.uint8], /) -> npt.NDArray[np.float32]:
        """Return the statistics, and keep how many frames came together."""
        self.batches.append(len(pixels))
        flat = pixels.reshape(len(pixels), -1, 3).astype(float)
        return np.hstack([flat.mean(axis=1), flat.std(axis=1)]).astype(np.float32)


def make_frames(rng: np.random.Generator, n: int) -> list[Frame]:
    """Return frames of noise with all that a frame of a movie carries."""
    pixels = rng.integers(0, 256, (n, 8, 8, 3), dtype=np.uint8)
    return [Frame(f"f{i}", pixels[i], f"digest{i}", i / 2) for i in range(n)]


def fail(name: str) -> Failure:
    """Return a failure."""
    return Failure(name, StimulusError(f"{name} is bad"))


def joined(batches: list[FeatureBatch]) -> npt.NDArray[np.float32]:
    """Return all features, one row for each frame."""
    return np.concatenate([batch.features for batch in batches])


@pytest.mark.parametrize("images_per_call", [1, 2, 4, 32])
@pytest.mark.parametrize("batch_size", [1, 3, 7, 13, 64])
def test_stream_features_equals_one_call_for_any_batch_size(
    rng: np.random.Generator, batch_size: int, images_per_call: int
) -> None:
    """Batches change neither the features nor their order nor what goes with them."""
    frames = make_frames(rng, 13)
    backbone = ChannelStatistics(Spec(images_per_call=images_per_call))
    batches = list(stream_features(frames, backbone, batch_size))
    expected = ChannelStatistics()(np.stack([frame.pixels for frame in frames]))
    np.testing.assert_allclose(joined(batches), expected, rtol=1e-6)
    assert [name for batch in batches for name in batch.names] == [frame.name for frame in frames]
    assert [d for batch in batches for d in batch.sha256] == [frame.sha256 for frame in frames]
    assert [t for batch in batches for t in batch.onsets_s] == [frame.onset_s for frame in frames]
    full, left = divmod(13, batch_size)
    assert [len(batch.names) for batch in batches] == [batch_size] * full + [left] * (left > 0)
    assert max(backbone.batches) == min(images_per_call, batch_size, 13)
    assert all(batch.failures == () for batch in batches)


@pytest.mark.parametrize("images_per_call", [1, 2, 32])
def test_stream_features_failures_go_with_their_batch(
    rng: np.random.Generator, images_per_call: int
) -> None:
    """Failures take no place in a batch and are handed on in order, the last ones alone."""
    a, b, c = make_frames(rng, 3)
    items = [fail("x"), a, b, c, fail("y")]
    backbone = ChannelStatistics(Spec(images_per_call=images_per_call))
    first, second = stream_features(items, backbone, 2)
    assert (first.names, [f.name for f in first.failures]) == (("f0", "f1"), ["x"])
    assert (second.names, [f.name for f in second.failures]) == (("f2",), ["y"])


def test_stream_features_that_are_not_finite_fail_alone(rng: np.random.Generator) -> None:
    """A picture that a network makes NaN or infinity of is no stimulus; the others keep theirs."""

    class Logarithms(ChannelStatistics):
        def __call__(self, pixels: npt.NDArray[np.uint8], /) -> npt.NDArray[np.float32]:
            with np.errstate(divide="ignore"):
                return np.asarray(np.log(super().__call__(pixels)))

    frames = make_frames(rng, 5)
    frames[1].pixels[:], frames[4].pixels[..., 2] = 0, 0
    first, second = stream_features(frames, Logarithms(), 4)
    assert [first.names, second.names] == [("f0", "f2", "f3"), ()]
    assert (first.sha256, first.onsets_s) == (("digest0", "digest2", "digest3"), (0.0, 1.0, 1.5))
    good = Logarithms()(np.stack([frames[i].pixels for i in (0, 2, 3)]))
    np.testing.assert_array_equal(first.features, good)
    assert [failure.name for batch in (first, second) for failure in batch.failures] == ["f1", "f4"]
    assert "got NaN or infinity from the network for f4" in str(second.failures[0].error)


def test_stream_features_nothing_but_failures_gives_rows_of_none(rng: np.random.Generator) -> None:
    """Failures without end are handed on in bounded numbers, with features of no rows."""
    batches = list(stream_features([fail(f"x{i}") for i in range(5)], ChannelStatistics(), 2))
    assert [len(batch.failures) for batch in batches] == [2, 2, 1]
    assert joined(batches).shape == (0, 6)


def test_stream_features_nothing_in_nothing_out() -> None:
    """No stimuli give no batch."""
    assert list(stream_features([], ChannelStatistics())) == []


@pytest.mark.parametrize(("images_per_call", "parallel_calls"), [(32, 1), (1, 2), (2, 3)])
def test_stream_features_runs_ahead_by_few_batches(
    rng: np.random.Generator, images_per_call: int, parallel_calls: int
) -> None:
    """However many frames there are, few wait, so that memory does not grow with their number."""
    taken = 0

    def endless() -> Iterator[Frame]:
        nonlocal taken
        (frame,) = make_frames(rng, 1)
        while True:
            taken += 1
            yield frame

    backbone = ChannelStatistics(
        Spec(images_per_call=images_per_call, parallel_calls=parallel_calls)
    )
    stream = stream_features(endless(), backbone, 4)
    for done in range(1, 6):
        next(stream)
        # Batches waiting and being put, and the parts at work, with one more.
        parts = min(images_per_call, 4) * (parallel_calls + 1)
        assert taken <= 4 * (done + AHEAD + 1) + parts


def test_stream_features_decoding_goes_on_while_the_network_works(
    rng: np.random.Generator,
) -> None:
    """While the first batch is in the network, the images of the next one are decoded."""
    decoded = threading.Semaphore(0)
    seen: set[int] = set()

    class Picture(Image.Image):
        """A picture that tells when it is first decoded."""

        def load(self) -> Image.core.PixelAccess | None:
            if id(self) not in seen:
                seen.add(id(self))
                decoded.release()
            return super().load()

    @dataclass
    class Waiting(ChannelStatistics):
        """A backbone that does not answer before the pictures of the next batch are decoded."""

        def __call__(self, pixels: npt.NDArray[np.uint8], /) -> npt.NDArray[np.float32]:
            if not self.batches:
                for _ in range(8):
                    assert decoded.acquire(timeout=30)
            return super().__call__(pixels)

    stack = rng.integers(0, 256, (8, 9, 9, 3), dtype=np.uint8)
    pictures = [Image.fromarray(picture) for picture in stack]
    for picture in pictures:
        picture.__class__ = Picture
    batches = list(stream_features(read_images(pictures, size=8), Waiting(), 4))
    assert [len(batch.names) for batch in batches] == [4, 4]


@pytest.mark.parametrize("batch_size", [2, 6])
@pytest.mark.parametrize("parallel_calls", [1, 2, 3])
def test_stream_features_runs_as_many_calls_as_the_backbone_takes(
    rng: np.random.Generator, parallel_calls: int, batch_size: int
) -> None:
    """Calls overlap, within a batch too, as many as the backbone allows; batches stay in order."""
    together = threading.Barrier(parallel_calls, timeout=30)
    lock = threading.Lock()
    running, most = 0, 0

    @dataclass
    class Counting(ChannelStatistics):
        """A backbone that waits until as many calls run as are allowed, and counts them."""

        def __call__(self, pixels: npt.NDArray[np.uint8], /) -> npt.NDArray[np.float32]:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            together.wait()
            features = super().__call__(pixels)
            with lock:
                running -= 1
            return features

    frames = make_frames(rng, 12)
    spec = Spec(parallel_calls=parallel_calls, images_per_call=2)
    batches = list(stream_features(frames, Counting(spec), batch_size))
    assert most == parallel_calls
    assert [name for batch in batches for name in batch.names] == [frame.name for frame in frames]
    expected = ChannelStatistics()(np.stack([frame.pixels for frame in frames]))
    np.testing.assert_allclose(joined(batches), expected, rtol=1e-6)


def test_stream_features_wrong_frame_size_names_frame_and_remedy(rng: np.random.Generator) -> None:
    """Frames of another size are refused before the network sees them."""
    frame = Frame("tall", rng.integers(0, 256, (9, 8, 3), dtype=np.uint8))
    with pytest.raises(ShapeError, match=r"\(8, 8, 3\); 'tall' has \(9, 8, 3\).*size=8"):
        list(stream_features([frame], ChannelStatistics()))


def test_stream_features_wrong_feature_shape_is_refused(rng: np.random.Generator) -> None:
    """A backbone that gives something else than it says is refused."""
    backbone = ChannelStatistics(Spec(n_features=512))
    with pytest.raises(ShapeError, match=r"of shape \(2, 512\); it gave \(2, 6\)"):
        list(stream_features(make_frames(rng, 2), backbone))


def test_stream_features_bad_batch_size_is_refused_at_once() -> None:
    """A batch size below 1 is refused when asked."""
    with pytest.raises(OptionError, match="batch_size must be 1 or more; got 0"):
        stream_features([], ChannelStatistics(), 0)
