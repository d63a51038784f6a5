"""Arrays out of pickles, with no code executed.

A pickle is a small program; Python's own reader runs it and thereby whatever function it names.
This reader never calls what a pickle names. It interprets the opcodes that array pickles are made
of, and a global (``module.name``) is only ever a key into a table of constructors of ours: NumPy
arrays, scalars and dtypes, and inert holders that keep an object's attributes and have no
behaviour. Any other global, and any other opcode, is refused by name. Nothing here costs more
memory than the pickle is long: arrays are views of its bytes.

References
----------
The opcodes are those of Python's ``pickletools``; the shape of array pickles is NumPy's
``ndarray.__reduce__``.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import WeightsError

Constructor = Callable[..., object]
"""What stands in for a global: a function of ours, called with the pickle's arguments."""

RIDGE_CLASSES = frozenset(
    {
        "sklearn.linear_model._ridge.Ridge",
        "sklearn.linear_model.ridge.Ridge",
        "sklearn.linear_model._ridge.RidgeCV",
        "sklearn.linear_model._base.LinearRegression",
    }
)
"""scikit-learn's linear models, which become `InertObject`."""


@dataclass(slots=True)
class InertObject:
    """What an object of a pickle had as attributes, with none of its behaviour.

    Attributes
    ----------
    class_name : str
        ``module.name`` of the class that the pickle names.
    attributes : dict of str to object
        The attributes, also to be read as ``holder.coef_``.
    """

    class_name: str
    attributes: dict[str, object] = field(default_factory=dict)

    def __getattr__(self, name: str) -> object:
        """Return an attribute that the pickle set."""
        # `attributes` itself comes here only on a half-made instance, as when copying.
        if name == "attributes" or name not in self.attributes:
            message = f"{type(self).__name__} has no attribute {name!r}"
            raise AttributeError(message)
        return self.attributes[name]


def load_arrays_pickle(
    data: bytes,
    inert: frozenset[str] = RIDGE_CLASSES,
    *,
    nested: bool = False,
    what: str = "pickle",
) -> object:
    """Read one pickle that holds NumPy arrays, plain values and inert objects.

    Parameters
    ----------
    data : bytes
        The pickle, protocols 2 to 5.
    inert : frozenset of str, optional
        Classes, as ``module.name``, to read as `InertObject`.
    nested : bool, optional
        Whether to read arrays of objects too, such as ragged arrays of arrays. Their items are
        subject to the same rules.
    what : str, optional
        What the bytes are, for messages: a file's name.

    Returns
    -------
    object
        An `InertObject`, array, dict, list or plain value. Arrays are read-only views of ``data``.

    Raises
    ------
    WeightsError
        If the pickle names anything else, or is damaged.

    Examples
    --------
    >>> import pickle
    >>> load_arrays_pickle(pickle.dumps({"alpha": 1.0}))
    {'alpha': 1.0}
    """
    constructors: dict[str, Constructor] = dict(NUMPY_CONSTRUCTORS)
    constructors |= {name: _inert_constructor(name) for name in inert}
    if nested:
        constructors["numpy.dtype"] = _make_any_dtype
    return read_pickle(io.BytesIO(data), constructors, what=what)


def read_pickle(
    stream: BinaryIO,
    constructors: Mapping[str, Constructor],
    *,
    persistent: Callable[[object], object] | None = None,
    what: str = "pickle",
) -> object:
    """Read the pickle that begins at the stream's position and leave the stream right behind it.

    Parameters
    ----------
    stream : binary file
        Best in memory (`io.BytesIO`), so that a length that lies reserves nothing.
    constructors : mapping of str to callable
        What stands in for each global that may occur.
    persistent : callable, optional
        Resolves persistent ids (torch's storages); without it they are refused.
    what : str, optional
        What the stream is, for messages.

    Returns
    -------
    object
        What the pickle describes.

    Raises
    ------
    WeightsError
        If a global or an opcode is not allowed, or the pickle is damaged.
    """
    machine = _Machine(constructors, persistent, what)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            machine.step(opcode.name, argument)
        return machine.result()
    except WeightsError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        message = (
            f"{what}: expected a whole pickle of arrays; it is damaged ({error}). "
            "Get the file again, and compare its size and SHA-256 with the source's."
        )
        raise WeightsError(message) from error


@dataclass(frozen=True, slots=True)
class GlobalName:
    """A name that a pickle refers to; never the thing itself."""

    name: str


class _Mark:
    """The place on the stack where a collection begins."""


@dataclass(slots=True, eq=False)
class _Dtype:
    """A dtype under construction: NumPy pickles its byte order separately."""

    code: str
    order: str = "="

    def numpy(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


@dataclass(slots=True, eq=False)
class _EmptyArray:
    """An array before its state is set; the memo's keys under which the pickle keeps it."""

    memo_keys: list[int] = field(default_factory=list)


_OBJECT_DTYPE = "O"
_PLAIN_DTYPE = re.compile(r"b1|[iu][1248]|f[248]|c(8|16)")

_CONSTANTS: dict[str, object] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_ARGUMENTS = frozenset(
    {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE"}
    | {"BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"}
)
_PUTS = frozenset({"BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"BINGET", "LONG_BINGET"})
_FRAMING = frozenset({"PROTO", "FRAME", "STOP"})
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(
        self,
        constructors: Mapping[str, Constructor],
        persistent: Callable[[object], object] | None,
        what: str,
    ) -> None:
        self.constructors = constructors
        self.persistent = persistent
        self.what = what
        self.stack: list[object] = []
        self.memo: dict[int, object] = {}

    def result(self) -> object:
        """Return what is left when the pickle has ended."""
        (value,) = self.stack
        return value

    def step(self, name: str, argument: Any) -> None:
        """Carry out one opcode."""
        if name in _ARGUMENTS:
            self.stack.append(argument)
        elif name in _PUTS:
            self.remember(argument)
        elif name == "MEMOIZE":
            self.remember(len(self.memo))
        elif name in _GETS:
            self.stack.append(self.memo[argument])
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            self.stack.append(tuple(self.pop(_TUPLES[name])))
        elif name in _FRAMING:
            pass
        else:
            handler = _HANDLERS.get(name)
            if handler is None:
                self.refuse(f"the opcode {name}")
            else:
                handler(self, argument)

    def refuse(self, thing: str) -> None:
        """Stop at something that a pickle of arrays has no need of."""
        message = (
            f"{self.what}: expected a pickle of arrays and plain values; it uses {thing}, which is "
            "not allowed, and nothing of it was executed. Use a file from its own source."
        )
        raise WeightsError(message)

    def pop(self, n_items: int) -> list[object]:
        """Take the last items off the stack, in order."""
        if n_items == 0:
            return []
        items = self.stack[-n_items:]
        if len(items) < n_items or any(isinstance(item, _Mark) for item in items):
            message = "its stack ran out"
            raise ValueError(message)
        del self.stack[-n_items:]
        return items

    def pop_to_mark(self) -> list[object]:
        """Take everything above the last mark off the stack, and the mark."""
        items: list[object] = []
        while not isinstance(item := self.stack.pop(), _Mark):
            items.append(item)
        return items[::-1]

    def remember(self, key: int) -> None:
        value = self.stack[-1]
        if isinstance(value, _EmptyArray):
            value.memo_keys.append(key)
        self.memo[key] = value

    def push_global(self, argument: str) -> None:
        self.push_name(*argument.split(" ", 1))

    def push_stack_global(self, _: object) -> None:
        module, name = self.pop(2)
        self.push_name(str(module), str(name))

    def push_name(self, module: str, name: str) -> None:
        full = f"{module}.{name}"
        if full not in self.constructors:
            self.refuse(f"the global {full!r}")
        self.stack.append(GlobalName(full))

    def call(self, _: object) -> None:
        function, arguments = self.pop(2)
        if not isinstance(function, GlobalName) or not isinstance(arguments, tuple):
            self.refuse("a call of something other than a named global")
        else:
            self.stack.append(self.constructors[function.name](*arguments))

    def build(self, _: object) -> None:
        """Give the object on the stack its state."""
        target, state = self.pop(2)
        if isinstance(target, _EmptyArray):
            array = _array_from_state(state)
            for key in target.memo_keys:
                self.memo[key] = array
            self.stack.append(array)
            return
        if isinstance(target, _Dtype) and isinstance(state, tuple):
            target.order = _byte_order(state[1])
        elif isinstance(target, InertObject) and isinstance(state, dict):
            target.attributes.update((str(key), value) for key, value in state.items())
        elif not isinstance(target, dict):
            # A state dict (an OrderedDict) carries `_metadata` as state, of no use here.
            self.refuse(f"a state for a {type(target).__name__}")
        self.stack.append(target)

    def push_persistent(self, _: object) -> None:
        (key,) = self.pop(1)
        if self.persistent is None:
            self.refuse("a persistent id")
        else:
            self.stack.append(self.persistent(key))

    def set_items(self, items: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            self.refuse(f"items set on a {type(target).__name__}")
        else:
            for key, value in zip(items[::2], items[1::2], strict=True):
                if not isinstance(key, str | int):
                    self.refuse(f"a {type(key).__name__} as a key")
                target[key] = value

    def extend(self, items: list[object]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            self.refuse(f"items appended to a {type(target).__name__}")
        else:
            target.extend(items)


_HANDLERS: dict[str, Callable[[_Machine, Any], None]] = {
    "MARK": lambda machine, _: machine.stack.append(_Mark()),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.extend(machine.pop(1)),
    "APPENDS": lambda machine, _: machine.extend(machine.pop_to_mark()),
    "GLOBAL": _Machine.push_global,
    "STACK_GLOBAL": _Machine.push_stack_global,
    "REDUCE": _Machine.call,
    "NEWOBJ": _Machine.call,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.push_persistent,
}


def _inert_constructor(name: str) -> Constructor:
    def construct(*_: object) -> InertObject:
        return InertObject(name)

    return construct


def _byte_order(mark: object) -> str:
    if mark not in ("<", ">", "=", "|"):
        message = f"a byte order of {mark!r}"
        raise ValueError(message)
    return str(mark)


def _make_dtype(code: object, *_: object) -> _Dtype:
    """Stand in for `numpy.dtype`: numbers and booleans only, so never objects."""
    if not isinstance(code, str) or not _PLAIN_DTYPE.fullmatch(code):
        message = f"a dtype of {code!r}, not of plain numbers"
        raise ValueError(message)
    return _Dtype(code)


def _make_any_dtype(code: object, *_: object) -> _Dtype:
    """Stand in for `numpy.dtype` where arrays of objects are allowed."""
    return _Dtype(_OBJECT_DTYPE) if code in ("O", "O8") else _make_dtype(code)


def _make_array(subtype: object, *_: object) -> _EmptyArray:
    """Stand in for NumPy's `_reconstruct`."""
    if not isinstance(subtype, GlobalName) or subtype.name != "numpy.ndarray":
        message = "an array of a subclass"
        raise ValueError(message)
    return _EmptyArray()


def _view(data: object, dtype: object, shape: object, order: str) -> NDArray[Any]:
    """Show bytes as an array, once shape and length agree."""
    if not isinstance(data, bytes | bytearray) or not isinstance(dtype, _Dtype):
        message = "an array without bytes or dtype"
        raise ValueError(message)
    sizes = cast("tuple[int, ...]", shape if isinstance(shape, tuple) else (-1,))
    if not all(isinstance(size, int) and size >= 0 for size in sizes):
        message = f"an array of shape {shape!r}"
        raise ValueError(message)
    kind = dtype.numpy()
    if math.prod(sizes) * kind.itemsize != len(data):
        message = f"an array of shape {sizes} and type {kind} in {len(data)} bytes"
        raise ValueError(message)
    array = np.frombuffer(data, kind).reshape(sizes, order="F" if order == "F" else "C")
    array.flags.writeable = False
    return array


def _array_from_state(state: object) -> NDArray[Any]:
    """Read the state of `ndarray.__setstate__`: version, shape, dtype, Fortran order, bytes."""
    _, shape, dtype, fortran, data = cast("tuple[object, ...]", state)
    if isinstance(dtype, _Dtype) and dtype.code == _OBJECT_DTYPE:
        return _array_of_objects(shape, data)
    return _view(data, dtype, shape, "F" if fortran else "C")


def _array_of_objects(shape: object, items: object) -> NDArray[Any]:
    """Arrange a list's items in an array, one to a place, whatever they are.

    NumPy lists the items in C order, also those of an array in Fortran order.
    """
    if not isinstance(items, list) or not isinstance(shape, tuple):
        message = "an array of objects without its items"
        raise ValueError(message)
    array = np.empty(len(items), dtype=object)
    for place, item in enumerate(items):
        array[place] = item
    return array.reshape(shape)


def _array_from_buffer(data: object, dtype: object, shape: object, order: str) -> NDArray[Any]:
    """Stand in for NumPy's `_frombuffer`, which protocol 5 uses."""
    return _view(data, dtype, shape, order)


def _make_scalar(dtype: object, data: object) -> object:
    """Stand in for NumPy's `scalar`."""
    return _view(data, dtype, (), "C")[()]


def _refuse_type(*_: object) -> object:
    message = "a call of numpy.ndarray itself"
    raise ValueError(message)


NUMPY_CONSTRUCTORS: dict[str, Constructor] = {
    "numpy.dtype": _make_dtype,
    "numpy.ndarray": _refuse_type,
    **{
        f"numpy.{core}.{name}": constructor
        for core in ("core", "_core")
        for name, constructor in (
            ("multiarray._reconstruct", _make_array),
            ("multiarray.scalar", _make_scalar),
            ("numeric._frombuffer", _array_from_buffer),
        )
    },
}
"""The globals that pickles of NumPy arrays, scalars and dtypes use."""
