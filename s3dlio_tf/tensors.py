"""Batches as TensorFlow tensors, without copying where TensorFlow can, and tensors as arrays.

Owns: which dtype becomes which tensor. Must not know: loaders, tf.data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

if TYPE_CHECKING:
    from s3dlio.arrays import Array

__all__ = ["from_array", "tensor_dtype", "to_array", "to_ragged"]


def tensor_dtype(dtype: np.dtype[Any]) -> tf.DType | None:
    """The dtype of a tensor that holds an array of this dtype; None if TensorFlow has none, as for dates."""
    if dtype.kind in "SU":
        return tf.string
    try:
        return tf.dtypes.as_dtype(dtype.newbyteorder("="))
    except TypeError:
        return None


def from_array(array: Array) -> tf.Tensor:
    """The array as a tensor of the same shape.

    Numbers and booleans share the array's memory, which TensorFlow keeps alive, and which nobody may write to
    any more. Text, read-only arrays and the types of ml_dtypes (bfloat16, float8) are copied: DLPack has no
    room for them.
    """
    plain = array.dtype.kind in "biufc" and array.dtype.isbuiltin == 1  # native, and not of ml_dtypes
    if plain and array.flags.writeable:
        return tf.experimental.dlpack.from_dlpack(array.__dlpack__())
    return tf.constant(array)


def to_ragged(rows: Array | list[Array]) -> tf.RaggedTensor:
    """Vectors of unequal lengths as a ragged tensor (rows, None); an array (rows, length) is not copied."""
    if isinstance(rows, np.ndarray):
        values, lengths = rows.reshape(-1), np.full(len(rows), rows.shape[1], np.int64)
    else:
        values, lengths = np.concatenate(rows), np.array([len(row) for row in rows], np.int64)
    return tf.RaggedTensor.from_row_lengths(from_array(values), tf.constant(lengths), validate=False)


def to_array(leaf: Any) -> Any:
    """The values of a tensor or variable, also one of Keras, in host memory; anything else as it is."""
    if isinstance(leaf, (tf.Tensor, tf.Variable)) or (hasattr(leaf, "numpy") and hasattr(leaf, "assign")):
        return np.asarray(leaf.numpy())
    return leaf
