"""The reader of array pickles: right about arrays, deaf to everything else."""

from __future__ import annotations

import builtins
import contextlib
import os
import pickle
import pickletools
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtofmri.exceptions import WeightsError
from imgtofmri.unpickle import InertObject, load_arrays_pickle


class Ridge:
    """An object with attributes, pickled under the name of scikit-learn's class."""


class Calls:
    """An object whose pickle calls a function when Python's own reader loads it."""

    def __init__(self, function: Any, *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[object, ...]]:
        return self.function, self.arguments


DTYPES = ["?", "<f4", ">f4", "<f8", "<f2", "|u1", "<i8", ">i2", "<c16"]


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_load_arrays_pickle_array_equals_pickle_loads(
    rng: np.random.Generator, protocol: int, dtype: str, order: str
) -> None:
    """Arrays of every plain dtype and either order come out as Python's own reader gives them."""
    array = np.asarray(rng.normal(size=(3, 4, 2)) * 50).astype(dtype, order=order)  # type: ignore[call-overload]
    data = pickle.dumps({"a": array, "same": [array, array]}, protocol=protocol)
    ours: Any = load_arrays_pickle(data)
    for got in (ours["a"], *ours["same"]):
        assert type(got) is np.ndarray
        assert got.dtype == array.dtype
        np.testing.assert_array_equal(got, array)
    assert ours["same"][0] is ours["same"][1] is ours["a"]


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.floats(allow_nan=False)
    | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    | st.lists(inner).map(tuple),
    max_leaves=20,
)  # fmt: skip


@given(value=plain, protocol=st.sampled_from([3, 4, 5]))
def test_load_arrays_pickle_plain_values_equal_pickle_loads(value: object, protocol: int) -> None:
    """Nested plain values come out equal to what went in."""
    assert load_arrays_pickle(pickle.dumps(value, protocol=protocol)) == value


@given(data=st.binary(max_size=200))
def test_load_arrays_pickle_any_bytes_give_a_value_or_one_error(data: bytes) -> None:
    """Whatever the bytes, the outcome is a value or a WeightsError."""
    with contextlib.suppress(WeightsError):
        load_arrays_pickle(b"\x80\x04" + data)


def test_load_arrays_pickle_object_becomes_attribute_holder(
    rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named class yields a holder of its attributes, without the class."""
    model = Ridge()
    coef = rng.normal(size=(5, 3)).astype(np.float32)
    model.__dict__ |= {"coef_": coef, "intercept_": coef[:, 0].copy(), "alpha": np.float64(2.5)}
    name = f"{Ridge.__module__}.Ridge"
    holder = load_arrays_pickle(pickle.dumps(model), inert=frozenset({name}))
    assert isinstance(holder, InertObject)
    assert holder.class_name == name
    np.testing.assert_array_equal(holder.coef_, coef)  # type: ignore[arg-type]
    np.testing.assert_array_equal(holder.attributes["intercept_"], coef[:, 0])  # type: ignore[arg-type]
    assert holder.alpha == 2.5
    with pytest.raises(AttributeError, match="no attribute 'predict'"):
        _ = holder.predict


def test_load_arrays_pickle_class_outside_the_list_is_named() -> None:
    """An object of a class that was not asked for is refused by its name."""
    with pytest.raises(WeightsError, match=r"model\.pkl: .*global '.*Ridge'.*not allowed"):
        load_arrays_pickle(pickle.dumps(Ridge()), what="model.pkl")


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        (os.system, ("touch MARKER",)),
        (builtins.eval, ("open('MARKER', 'w')",)),
        (builtins.exec, ("open('MARKER', 'w')",)),
        (builtins.getattr, (os, "system")),
        (builtins.__import__, ("os",)),
        (np.load, ("MARKER",)),
        (np.fromfile, ("MARKER",)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_load_arrays_pickle_hostile_call_is_refused_and_not_executed(
    function: Any,
    arguments: tuple[object, ...],
    protocol: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A pickle that would run code names its function in the error and runs nothing."""
    monkeypatch.chdir(tmp_path)
    if function is builtins.getattr:
        arguments = ("text", "encode")
    data = pickle.dumps(Calls(function, *arguments), protocol=protocol)
    with pytest.raises(WeightsError, match="not allowed, and nothing of it was executed"):
        load_arrays_pickle(data)
    assert list(tmp_path.iterdir()) == []


HOSTILE = {
    # A dotted name walks through an allowed module to a function of another.
    "dotted": (b"\x80\x04\x8c\x05numpy\x8c\x0ecore.os.system\x93\x8c\x02id\x85R.", "global"),
    "inst": (b"(S'id'\nios\nsystem\n.", "opcode|damaged"),
    "extension": (b"\x80\x02\x82\x01.", "opcode EXT1"),
    "persistent": (b"\x80\x02X\x01\x00\x00\x00aQ.", "persistent id"),
    "call_a_string": (b"\x80\x02X\x01\x00\x00\x00a)R.", "a call of something other"),
    "state_on_tuple": (b"\x80\x02)}b.", "a state for a tuple"),
    "items_on_tuple": (b"\x80\x02)K\x01K\x01s.", "items set on a tuple"),
    "append_to_dict": (b"\x80\x02}K\x01a.", "items appended to a dict"),
    "tuple_as_key": (b"\x80\x02})K\x01s.", "a tuple as a key"),
    "huge_memo_index": (b"\x80\x02}r\xff\xff\xff\xff.", None),
    "huge_string": (b"\x80\x04\x8d" + struct.pack("<Q", 2**62) + b"x.", "damaged"),
    "huge_bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"x.", "damaged"),
    "state_on_global": (b"\x80\x02cnumpy\ndtype\n}b.", "a state for a global"),
    "state_on_argument": (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R)b.", "damaged"),
    "call_of_a_call": (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85R)R.", "a call of some"),
    "huge_bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b"x.", "damaged"),
    "stack_underflow": (b"\x80\x02\x86.", "damaged.*stack ran out"),
    "missing_memo": (b"\x80\x02h\x05.", "damaged"),
    "pop_without_mark": (b"\x80\x02t.", "damaged"),
    "two_values": (b"\x80\x02}}.", "damaged"),
    "empty": (b"", "damaged"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_load_arrays_pickle_hostile_bytes_are_refused_by_name(name: str) -> None:
    """Opcodes and tricks that arrays do not need are refused; a huge memo index costs nothing."""
    data, match = HOSTILE[name]
    if match is None:
        assert load_arrays_pickle(data) == {}
    else:
        with pytest.raises(WeightsError, match=match):
            load_arrays_pickle(data)


TOWER = b"\x80\x02)" + b"".join(b"q%ch%c\x86" % (i, i) for i in range(100))
"""Pairs of pairs, 100 levels deep: 2**100 ways from the top to the ground."""


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"\x80\x02}" + TOWER[2:] + b"K\x01s.", "a tuple as a key"),
        (b"\x80\x02cnumpy\ndtype\n" + TOWER[2:] + b"\x85R.", "damaged"),
        (
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01" + TOWER[2:] + b"NNNtb.",
            "damaged",
        ),
    ],
    ids=["key", "dtype", "shape"],
)
def test_load_arrays_pickle_value_of_endless_length_is_refused_at_once(
    data: bytes, match: str
) -> None:
    """What would take for ever to hash or to write out is neither hashed nor written out."""
    with pytest.raises(WeightsError, match=match) as caught:
        load_arrays_pickle(data)
    assert len(str(caught.value)) < 300


def test_load_arrays_pickle_huge_memo_index_in_use_reserves_nothing() -> None:
    """A memo index near 2**32, which would have Python's reader reserve 64 GiB, costs nothing."""
    data = b"\x80\x02]r\xff\xff\xff\xffj\xff\xff\xff\xff\x86."
    tracemalloc.start()
    value: Any = load_arrays_pickle(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert value == ([], [])
    assert value[0] is value[1]
    assert peak < 2**20


@pytest.mark.parametrize("length", [0, 1, 3, 9, 11, 100, 2**62])
def test_load_arrays_pickle_frame_that_lies_hides_nothing(length: int) -> None:
    """What is read are the opcodes that were checked, wherever a frame claims to end."""
    hidden = b"cos\nsystem\nX\x02\x00\x00\x00ida."
    data = b"\x80\x04\x95" + struct.pack("<Q", length) + b"C" + bytes([len(hidden)]) + hidden + b"."
    assert load_arrays_pickle(data) == hidden


def test_load_arrays_pickle_deep_nesting_is_one_clear_error() -> None:
    """Lists in lists, deeper than Python can follow, are refused."""
    with pytest.raises(WeightsError, match="damaged"):
        load_arrays_pickle(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".")


def test_load_arrays_pickle_protocol_2_reads_plain_values_and_refuses_arrays() -> None:
    """Protocol 2 writes an array's bytes as a call of a codec, which is refused by its name."""
    assert load_arrays_pickle(pickle.dumps({"a": [1.5, "b"]}, protocol=2)) == {"a": [1.5, "b"]}
    with pytest.raises(WeightsError, match=r"global '_codecs\.encode'"):
        load_arrays_pickle(pickle.dumps(np.arange(3), protocol=2))


def test_load_arrays_pickle_object_array_is_refused() -> None:
    """An array of Python objects, which could hold anything, is refused."""
    with pytest.raises(WeightsError, match="dtype of 'O8'"):
        load_arrays_pickle(pickle.dumps(np.array([{}], dtype=object), protocol=4))


def test_load_arrays_pickle_shape_that_lies_is_refused() -> None:
    """An array whose shape claims more than its bytes is refused before it is made."""
    data = pickle.dumps(np.zeros(3, np.float32), protocol=4)
    position = next(
        at for op, value, at in pickletools.genops(data) if op.name == "BININT1" and value == 3
    )
    lying = data[: position + 1] + b"\xf0" + data[position + 2 :]
    with pytest.raises(WeightsError, match=r"shape \(240,\).*in 12 bytes"):
        load_arrays_pickle(lying)


def test_load_arrays_pickle_truncated_anywhere_is_one_clear_error(rng: np.random.Generator) -> None:
    """Cut at any byte, a pickle gives the same error and never a value."""
    data = pickle.dumps({"coef_": rng.normal(size=(4, 3))}, protocol=4)
    for length in range(len(data)):
        with pytest.raises(WeightsError, match=r"cut\.pkl: expected a whole pickle of arrays"):
            load_arrays_pickle(data[:length], what="cut.pkl")


def test_load_arrays_pickle_sharing_does_not_multiply_memory() -> None:
    """A pickle that pairs each value with itself, 100 levels deep, is read as the pairs it is."""
    value: Any = load_arrays_pickle(TOWER + b".")
    assert value[0] is value[1]
    assert value[0][0] is value[1][1]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_load_arrays_pickle_nested_arrays_equal_pickles_own(
    rng: np.random.Generator, protocol: int
) -> None:
    """Ragged arrays of arrays come out as Python's own reader gives them, when asked for."""
    nested = np.empty((2, 3), dtype=object, order="F")
    for place in np.ndindex(2, 3):
        nested[place] = rng.normal(size=(sum(place) + 1, 4))
    nested[1, 2] = [np.arange(3), np.arange(3) * 2]
    data = pickle.dumps(nested, protocol=protocol)
    got = load_arrays_pickle(data, nested=True)
    assert isinstance(got, np.ndarray)
    assert got.shape == (2, 3)
    for place in np.ndindex(2, 3):
        np.testing.assert_array_equal(np.asarray(got[place]), np.asarray(nested[place]))


def test_load_arrays_pickle_nested_hostile_items_are_refused() -> None:
    """An object array is no way round: what its items name is refused all the same."""
    hostile = np.array([os.system], dtype=object)
    with pytest.raises(WeightsError, match="system"):
        load_arrays_pickle(pickle.dumps(hostile, protocol=4), nested=True)
