"""Arrays out of pickles, with no code executed but this module's.

A pickle is a small program that calls the functions it names. `pickle.Unpickler` is given
stand-ins here in place of every name, as Python's documentation describes ("Restricting
Globals"): for NumPy's arrays, scalars and dtypes, for models of which the attributes alone are of
use, and for nothing else. Not even NumPy's own functions meet what a pickle says.

Before that, `pickletools.genops` goes through the pickle, which executes nothing: what pickles of
arrays do not need is refused, and so are lengths beyond the file. What is left is written anew by
`pickletools.optimize`, whose memo is as long as its entries and whose frames fit their opcodes.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from imgtofmri.exceptions import WeightsError

RIDGE_CLASSES = frozenset(
    {
        "sklearn.linear_model._ridge.Ridge",
        "sklearn.linear_model.ridge.Ridge",
        "sklearn.linear_model._ridge.RidgeCV",
        "sklearn.linear_model._base.LinearRegression",
    }
)
"""scikit-learn's linear models, which become `InertObject`."""


class InertObject:
    """What an object of a pickle had as attributes, with none of its behaviour.

    Attributes
    ----------
    class_name : str
        ``module.name`` of the class that the pickle names.
    attributes : dict of str to object
        The attributes, also to be read as ``holder.coef_``.
    """

    __slots__ = ("attributes",)
    class_name = ""
    attributes: dict[str, object]

    def __new__(cls, *_: object) -> InertObject:
        """Make an object without attributes, whatever the pickle would give the class."""
        holder = super().__new__(cls)
        holder.attributes = {}
        return holder

    def __setstate__(self, state: dict[object, object]) -> None:
        self.attributes.update((str(key), value) for key, value in state.items())

    def __getattr__(self, name: str) -> object:
        """Return an attribute that the pickle set."""
        if name not in self.attributes:
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
        The pickle. Plain values may be of protocols 2 to 5, arrays of 3 to 5: protocol 2 writes
        an array's bytes as a call of a text codec, which is refused.
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
        An `InertObject`, array, dict, list or plain value. Arrays of numbers are read-only.

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
    stand_ins = NUMPY_STAND_INS | {
        name: type("InertObject", (InertObject,), {"class_name": name, "__slots__": ()})
        for name in inert
    }
    if nested:
        stand_ins["numpy.dtype"] = _AnyDtype
    return read_pickle(io.BytesIO(data), stand_ins, what=what)


def read_pickle(
    stream: BinaryIO,
    stand_ins: Mapping[str, object],
    *,
    persistent: Callable[[object], object] | None = None,
    what: str = "pickle",
) -> object:
    """Read the pickle that begins at the stream's position and leave the stream right behind it.

    Parameters
    ----------
    stream : binary file
        In memory (`io.BytesIO`), so that a length that lies reserves nothing.
    stand_ins : mapping of str to object
        What stands in for each global that may occur, as ``module.name``. The pickle can call it
        with any arguments, and can give what the call returns a state (``__setstate__``).
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
    start = stream.tell()
    try:
        _check(stream, what)
        n_bytes = stream.tell() - start
        stream.seek(start)
        anew = io.BytesIO(pickletools.optimize(stream.read(n_bytes)))
        return _with_arrays(_Unpickler(anew, stand_ins, persistent, what).load(), {})
    except WeightsError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        EOFError,
        LookupError,
        MemoryError,
        RecursionError,
        TypeError,
        ValueError,
        pickle.UnpicklingError,
    ) as error:
        message = (
            f"{what}: expected a whole pickle of arrays; it is damaged ({error}). "
            "Get the file again, and compare its size and SHA-256 with the source's."
        )
        raise WeightsError(message) from error


class _Unpickler(pickle.Unpickler):
    """Python's own reader, with stand-ins for the only globals that a pickle may name."""

    def __init__(
        self,
        stream: BinaryIO,
        stand_ins: Mapping[str, object],
        persistent: Callable[[object], object] | None,
        what: str,
    ) -> None:
        super().__init__(stream)
        self.stand_ins, self.persistent, self.what = stand_ins, persistent, what

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in self.stand_ins:
            raise _refusal(self.what, f"the global {full!r}")
        return self.stand_ins[full]

    def persistent_load(self, key: object) -> object:
        if self.persistent is None:
            raise _refusal(self.what, "a persistent id")
        return self.persistent(key)


def _refusal(what: str, thing: str) -> WeightsError:
    """Return the error about something that a pickle of arrays has no need of."""
    return WeightsError(
        f"{what}: expected a pickle of arrays and plain values; it uses {thing}, which is "
        "not allowed, and nothing of it was executed. Use a file from its own source."
    )


_OPCODES = frozenset(
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT "
    "BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 BYTEARRAY8 "
    "EMPTY_TUPLE TUPLE1 TUPLE2 TUPLE3 TUPLE EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS "
    "BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET GLOBAL STACK_GLOBAL REDUCE NEWOBJ BUILD "
    "BINPERSID".split()
)


def _check(stream: BinaryIO, what: str) -> None:
    """Follow the types on the stack from opcode to opcode, and refuse what arrays do not need."""
    stack: list[str] = []
    marks: list[int] = []
    memo: dict[int, str] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(stream):
        name, before = opcode.name, [item.name for item in opcode.stack_before]
        if name not in _OPCODES:
            raise _refusal(what, f"the opcode {name}")
        if name == "MARK":
            marks.append(len(stack))
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        else:
            top = marks.pop() if "mark" in before else len(stack)
            begin = top - (before.index("mark") if "mark" in before else len(before))
            if begin < (marks[-1] if marks else 0):
                message = "its stack ran out"
                raise ValueError(message)
            taken = stack[begin:]
            if misuse := _misuse(name, taken):
                raise _refusal(what, misuse)
            if name in ("SETITEM", "SETITEMS", "APPEND", "APPENDS"):
                stack[begin:] = taken[:1]
            elif name in ("GLOBAL", "STACK_GLOBAL"):
                stack[begin:] = ["global"]
            else:
                stack[begin:] = [item.name for item in opcode.stack_after]
    if stack or marks:
        message = "it holds more than one value"
        raise ValueError(message)


def _misuse(name: str, types: list[str]) -> str:
    """Return what is wrong with an opcode's work on objects of these types, if anything."""
    if name in ("REDUCE", "NEWOBJ") and types != ["global", "tuple"]:
        return "a call of something other than a named global"
    # Only what a stand-in returned has a say in what its state does.
    if name == "BUILD" and types[0] != "any":
        return f"a state for a {types[0]}"
    if name in ("APPEND", "APPENDS") and types[0] != "list":
        return f"items appended to a {types[0]}"
    if name in ("SETITEM", "SETITEMS"):
        if types[0] not in ("dict", "any") or len(types) % 2 == 0:
            return f"items set on a {types[0]}"
        # Python hashes a tuple of tuples anew for each way to its parts, of which a short pickle
        # can make more than can ever be counted.
        for kind in types[1::2]:
            if kind not in ("str", "int", "bool"):
                return f"a {kind} as a key"
    return ""


class _Dtype:
    """Stands in for a dtype, whose byte order NumPy pickles as its state."""

    order = "="
    codes = re.compile(r"b1|[iu][1248]|f[248]|c(8|16)")

    def __init__(self, code: Any, *_: object) -> None:
        if not self.codes.fullmatch(code):
            message = f"a dtype of {code!r}, not of plain numbers"
            raise ValueError(message)
        self.code = code

    def __setstate__(self, state: Any) -> None:
        self.order = state[1]
        if self.order not in ("<", ">", "=", "|"):
            message = "an unknown byte order"
            raise ValueError(message)


class _AnyDtype(_Dtype):
    """Stands in for a dtype where arrays of objects are allowed."""

    codes = re.compile(rf"{_Dtype.codes.pattern}|O8?")


class _Array:
    """Stands in for an array or a scalar, until `_with_arrays` puts the real one there."""

    value: Any = None

    def __init__(self, *_: object) -> None:
        """Make what NumPy's `_reconstruct` makes: an array without content."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, data = state
        self.value = _view(data, dtype, shape, "F" if fortran else "C")


def _array_from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """Stand in for NumPy's `_frombuffer`, which protocol 5 uses."""
    array = _Array()
    array.value = _view(data, dtype, shape, order)
    return array


def _scalar(dtype: Any, data: Any) -> _Array:
    """Stand in for NumPy's `scalar`."""
    scalar = _array_from_buffer(data, dtype, (), "C")
    scalar.value = scalar.value[()]
    return scalar


NUMPY_STAND_INS: dict[str, object] = {
    "numpy.dtype": _Dtype,
    "numpy.ndarray": None,
    **{
        f"numpy.{core}.{name}": stand_in
        for core in ("core", "_core")
        for name, stand_in in (
            ("multiarray._reconstruct", _Array),
            ("multiarray.scalar", _scalar),
            ("numeric._frombuffer", _array_from_buffer),
        )
    },
}
"""For the globals that pickles of NumPy arrays, scalars and dtypes use."""


def _view(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    """Show bytes as an array, or arrange a list's items in one, once shape and length agree."""
    # No message shows a value of unknown type: a short pickle can describe one of endless length.
    if not isinstance(dtype, _Dtype) or not isinstance(shape, tuple) or len(shape) > 64:
        message = "an array without a dtype or shape"
        raise ValueError(message)
    if not all(isinstance(size, int) and size >= 0 for size in shape):
        message = "an array of an impossible shape"
        raise ValueError(message)
    kind = np.dtype(dtype.order + dtype.code)
    if not isinstance(data, list if kind.hasobject else bytes | bytearray):
        message = "an array without its content"
        raise ValueError(message)
    if math.prod(shape) * (1 if kind.hasobject else kind.itemsize) != len(data):
        message = f"an array of shape {shape} and type {kind} in {len(data)} bytes"
        raise ValueError(message)
    if isinstance(data, list):
        # NumPy lists the items in C order, also those of an array in Fortran order.
        objects = np.empty(len(data), dtype=object)
        for place, item in enumerate(data):
            objects[place] = item
        return objects.reshape(shape)
    array = np.frombuffer(data, kind).reshape(shape, order="F" if order == "F" else "C")
    array.flags.writeable = False
    return array


def _with_arrays(value: Any, done: dict[int, tuple[object, object]]) -> object:
    """Put arrays where their stand-ins are; what was shared stays shared."""
    if id(value) in done:
        return done[id(value)][1]
    found = value.value if isinstance(value, _Array) else value
    # The value is kept beside what it became, so that no other takes its id.
    done[id(value)] = value, found
    if isinstance(found, InertObject):
        _with_arrays(found.attributes, done)
    elif isinstance(found, dict):
        found.update([(key, _with_arrays(item, done)) for key, item in found.items()])
    elif isinstance(found, list):
        found[:] = [_with_arrays(item, done) for item in found]
    elif type(found) is tuple:
        found = tuple(_with_arrays(item, done) for item in found)
        done[id(value)] = value, found
    elif isinstance(found, np.ndarray) and found.dtype.hasobject:
        flat = found.reshape(-1)
        for place, item in enumerate(flat):
            flat[place] = _with_arrays(item, done)
    elif found is None and value is not None:
        message = "an array without its content"
        raise ValueError(message)
    return found
