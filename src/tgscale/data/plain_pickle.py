"""Read a pickle that holds nothing but numbers, text, containers and NumPy arrays; nothing in it is ever run.

A pickle is a program: it may name any function and call it. Here the names that arrays of numbers need are known, each
stands for a function of this file that checks what it is given, and any other name ends the reading.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from tgscale.errors import DataError

_NUMBERS = "biuf"


def load_plain_pickle(path: Path) -> Any:
    """The object in a pickle file.

    Raises:
        DataError: no such file; it is cut short or no pickle; it asks for more than containers and
            arrays of numbers.
    """
    try:
        with path.open("rb") as file:
            return _finish(_PlainUnpickler(file).load())
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except Exception as error:  # a broken pickle may raise anything
        raise DataError(f"{path} is no pickle that can be read ({type(error).__name__}: {error}).") from None


class _Array:
    """An array while its pickle is being read: made empty, then given its state."""

    def __init__(self) -> None:
        self.array: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        if not isinstance(data, bytes):
            raise DataError("it holds an array of objects; only arrays of numbers are read.")
        array = np.frombuffer(data, _number_type(dtype)).reshape(shape, order="F" if fortran else "C")
        self.array = array


class _DType:
    """A dtype: its name, then the byte order from its state."""

    def __init__(self, name: str, *_: Any) -> None:
        self.name, self.order = name, "="

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.order = state[1]


def _number_type(dtype: Any) -> np.dtype:
    if not isinstance(dtype, _DType) or not isinstance(dtype.name, str):
        raise DataError("it holds an array whose type is not a number.")
    found = np.dtype(dtype.name)
    if found.kind not in _NUMBERS:
        raise DataError(f"it holds an array of {found}; only numbers are read.")
    return found.newbyteorder("<" if dtype.order == "<" else ">" if dtype.order == ">" else "=")


def _scalar(dtype: Any, data: Any) -> int | float | bool:
    number = np.frombuffer(data, _number_type(dtype))
    if number.shape != (1,):
        raise DataError("it holds a number of the wrong length.")
    return number[0].item()


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    made = _Array()
    made.array = np.frombuffer(bytes(data), _number_type(dtype)).reshape(shape, order=order)
    return made


def _encode(text: Any, encoding: Any) -> bytes:  # how protocols 0 to 2 write bytes
    if not isinstance(text, str) or encoding != "latin1":
        raise DataError("it encodes something else than bytes.")
    return text.encode("latin1")


def _no_bytes() -> bytes:  # how they write none
    return b""


_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): _Array,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
}
for _core in ("numpy.core", "numpy._core"):  # the one before, the other since NumPy 2
    _KNOWN[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _KNOWN[f"{_core}.multiarray", "scalar"] = _scalar
    _KNOWN[f"{_core}.numeric", "_frombuffer"] = _from_buffer


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise DataError(
                f"it asks for {module}.{name}, which is more than numbers, text, containers and NumPy arrays. It was "
                "not run."
            ) from None


def _finish(value: Any) -> Any:
    """Replace what stood for arrays by the arrays."""
    if isinstance(value, _Array):
        if value.array is None:
            raise DataError("it holds an array without its numbers.")
        return value.array
    if isinstance(value, dict):
        return {key: _finish(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_finish(each) for each in value)
    return value
