"""Arrow buffers seen as NumPy arrays, and back, without copying.

Owns: the memory that batches live in (Arrow's pool: 64-byte aligned, so TensorFlow and JAX can alias it)
and the two-way view between an array and an Arrow column. Must not know: formats, stores, frameworks.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from s3dlio.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Allocator", "Array", "Batch", "Sample", "allocate", "from_tensor_array", "to_tensor_array"]

Array: TypeAlias = np.ndarray[Any, Any]
"""A NumPy array of any shape and dtype."""

Sample: TypeAlias = dict[str, Array]
"""One sample: field name -> array of the field's own shape."""

Batch: TypeAlias = dict[str, Any]
"""Field name -> array (batch, *field shape), or a list of arrays where the shapes of a field differ."""

Allocator: TypeAlias = "Callable[[tuple[int, ...], np.dtype[Any]], Array]"
"""Gives writable, C-contiguous memory of a shape and dtype; its content is arbitrary."""


def allocate(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Writable memory from Arrow's pool, C-contiguous and 64-byte aligned; its content is arbitrary.

    Args:
        shape: of the array.
        dtype: a fixed-size dtype without Python objects, in native byte order.

    Returns: an array that owns its memory: the pool gets it back when the last view of it dies.
    """
    if dtype.hasobject:
        raise OptionError(f"allocate {shape}: dtype {dtype}, expected one without Python objects.", field="dtype")
    count = math.prod(shape)
    if count * dtype.itemsize == 0:
        return np.empty(shape, dtype)
    return np.frombuffer(pa.allocate_buffer(count * dtype.itemsize), np.uint8).view(dtype).reshape(shape)


def to_tensor_array(array: Array) -> pa.FixedShapeTensorArray:
    """The array (rows, *shape) as an Arrow fixed-shape tensor column of ``rows`` values, sharing memory.

    Args:
        array: (rows, *shape) of integers or floats in native byte order, C-contiguous, no axis but rows empty.

    Raises:
        OptionError: the array has no rows axis, an empty other axis, is not C-contiguous, or has a dtype that
            Arrow does not lay out as NumPy does: text, booleans (bits there), dates, the other byte order.
    """
    if array.ndim == 0 or not array.flags.c_contiguous:
        raise OptionError(
            f"tensor column: shape {array.shape}, strides {array.strides}, expected a C-contiguous array "
            "with a rows axis. Pass np.ascontiguousarray(array).",
            field="array",
        )
    if array.dtype.kind not in "iuf" or not array.dtype.isnative or array.dtype.itemsize > 8:
        raise OptionError(
            f"tensor column: dtype {array.dtype.str}, expected integers or floats of up to 64 bits in native byte "
            "order. Convert it first.",
            field="array",
        )
    shape = array.shape[1:]
    width = math.prod(shape)
    if width == 0:
        raise OptionError(
            f"tensor column: shape {array.shape}, expected values in each row. Arrow has no empty tensors.",
            field="array",
        )
    value_type = pa.from_numpy_dtype(array.dtype)
    values = pa.Array.from_buffers(value_type, array.size, [None, pa.py_buffer(array)])
    storage = pa.FixedSizeListArray.from_arrays(values, width)
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(value_type, shape), storage)


def from_tensor_array(column: pa.FixedShapeTensorArray) -> Array:
    """The values of a fixed-shape tensor column as an array (rows, *shape), sharing memory, read-only."""
    values = column.storage.values.slice(column.offset * math.prod(column.type.shape))
    flat = values.to_numpy(zero_copy_only=True)[: len(column) * math.prod(column.type.shape)]
    return flat.reshape(len(column), *column.type.shape)
