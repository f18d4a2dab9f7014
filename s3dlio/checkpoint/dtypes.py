"""Which dtypes a checkpoint holds, under which names.

Owns: the two names of a dtype. The logical one is in the manifest and decides what a reader gets; the stored
one is in the safetensors header, for other tools. A dtype that safetensors lacks is stored as "U8", its raw
bytes. Values are little-endian in the file whatever the machine.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from s3dlio.errors import CheckpointError, MissingExtraError

if TYPE_CHECKING:
    from s3dlio.arrays import Array

__all__ = ["RAW", "as_array", "dtype_name", "named_dtype", "stored_name"]

RAW = "U8"
"""Stored name of a dtype that safetensors lacks; the shape in the shard is then its length in bytes."""

# Source: `Dtype` of the safetensors crate, 0.8. Sub-byte types are left out: NumPy spends a byte on each value.
_STORED = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "uint32": "U32",
    "int32": "I32",
    "uint64": "U64",
    "int64": "I64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2": "F8_E5M2",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
}

# Names that only ml_dtypes gives to NumPy.
_ML_DTYPES = re.compile(r"bfloat16|float[468]_\w+|u?int[124]|b?complex32")


def stored_name(name: str) -> str:
    """The safetensors name of the dtype with this logical name."""
    return _STORED.get(name, RAW)


def dtype_name(dtype: np.dtype[Any]) -> str | None:
    """The logical name of ``dtype``, from which ``named_dtype`` gives it back; None if a checkpoint cannot hold it."""
    if dtype.type.__module__.partition(".")[0] == "ml_dtypes":
        return dtype.name
    if dtype.kind in "biufc":
        return dtype.name
    if dtype.kind in "mMSUV" and dtype.names is None and dtype.itemsize:
        little = dtype.newbyteorder("<")
        return little.str if np.dtype(little.str) == little else None
    return None


def named_dtype(name: str) -> np.dtype[Any]:
    """The dtype with this logical name, little-endian.

    Raises:
        MissingExtraError: only ml_dtypes has it, and that is not installed or too old.
        CheckpointError: this machine's NumPy has no such dtype.
    """
    if _ML_DTYPES.fullmatch(name):
        try:
            import ml_dtypes  # noqa: PLC0415 - optional, and asked for by few checkpoints

            return np.dtype(getattr(ml_dtypes, name))
        except (ImportError, AttributeError) as error:
            raise MissingExtraError(
                f"load dtype {name}: {error}, expected ml_dtypes to have it. "
                "Install it: pip install --upgrade ml-dtypes"
            ) from error
    try:
        dtype = np.dtype(name).newbyteorder("<")
    except (TypeError, ValueError, SyntaxError) as error:
        raise CheckpointError(f"load dtype {name!r}: {error}, expected one that NumPy has on this machine.") from error
    if dtype_name(dtype) != name:
        raise CheckpointError(f"load dtype {name!r}: it means {dtype}, expected the name of a plain dtype.")
    return dtype


def as_array(value: object, name: str) -> Array:
    """``value`` as a NumPy array that shares its memory where it can.

    Raises:
        CheckpointError: it is no array, or of a dtype that a checkpoint cannot hold.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise CheckpointError(f"save_array {name!r}: got a masked array, expected a plain one. Save data and mask.")
    try:
        array = _viewed(value)
    except (TypeError, ValueError, RuntimeError, BufferError) as error:
        raise CheckpointError(
            f"save_array {name!r}: cannot see {type(value).__name__} as an array ({error}), expected the buffer "
            "protocol, __array__ or DLPack. Convert it to a NumPy array."
        ) from error
    if array is None:
        raise CheckpointError(
            f"save_array {name!r}: got {type(value).__name__}, expected an array. "
            "Use save_object for JSON values and save_tree for nested ones."
        )
    if dtype_name(array.dtype) is None:
        raise CheckpointError(
            f"save_array {name!r}: dtype {array.dtype}, expected a plain one of numbers, times or fixed-length bytes. "
            "Save fields as arrays of their own, and Python objects as JSON with save_object."
        )
    return array


def _viewed(value: object) -> Array | None:
    """``value`` as an array, None if it is of no kind that holds one."""
    if isinstance(value, (bytes, pa.Buffer)) and not isinstance(value, np.generic):
        # NumPy would see one string, or signed bytes.
        return np.asarray(memoryview(value).cast("B"))
    if hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
        return np.asarray(value)
    if hasattr(value, "__dlpack__"):
        return np.from_dlpack(value)
    try:
        return np.asarray(memoryview(value))  # type: ignore[arg-type] # not a buffer: TypeError, caught below
    except TypeError:
        return None
