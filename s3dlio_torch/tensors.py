"""Batches of arrays as torch tensors, without copying."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from s3dlio.arrays import Array, Batch

__all__ = ["to_tensors"]


def to_tensors(batch: Batch) -> dict[str, Any]:
    """The batch with a tensor in place of each array, sharing its memory.

    Args:
        batch: field -> array, or list of arrays where shapes differ.

    Returns: field -> tensor of the same shape and dtype; a list of tensors for a list; text, which torch
        has no tensors for, as (nested) lists of str or bytes.

    Raises:
        TypeError: a dtype that torch does not have, e.g. dates; leave the field out with ``fields=``.
    """
    return {
        field: [_tensor(row) for row in value] if isinstance(value, list) else _tensor(value)
        for field, value in batch.items()
    }


def _tensor(array: Array) -> Any:
    if array.dtype.kind in "SU":
        return array.tolist()
    if not array.flags.writeable:
        array = array.copy()  # a view of a fetched buffer; torch has no read-only tensors
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return torch.from_numpy(array)
