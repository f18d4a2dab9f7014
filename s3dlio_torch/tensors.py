"""Arrays as torch tensors and back, without copying where torch can."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from s3dlio.errors import MissingExtraError

if TYPE_CHECKING:
    from s3dlio.arrays import Array, Batch

__all__ = ["from_array", "to_array", "to_tensors"]


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


def to_array(tensor: torch.Tensor) -> Array:
    """The tensor's values in host memory; shared with the tensor if it is there already and contiguous.

    Raises:
        MissingExtraError: a bfloat16 or float8 tensor, and ml_dtypes, which has these types for NumPy, is missing.
    """
    host = tensor.detach().cpu().contiguous()
    if host.dtype not in _EXTENDED:
        return host.numpy()
    bits, name = _EXTENDED[host.dtype]
    return host.view(bits).numpy().view(_extended_dtype(name))


def from_array(array: Array) -> torch.Tensor:
    """The array as a tensor, sharing its memory; bfloat16 and float8 of ml_dtypes become torch's own."""
    for dtype, (bits, name) in _EXTENDED.items():
        if array.dtype.name == name:
            return torch.from_numpy(array.view(_BITS[bits])).view(dtype)
    return torch.from_numpy(array)


_EXTENDED = {
    torch.bfloat16: (torch.int16, "bfloat16"),
    torch.float8_e4m3fn: (torch.uint8, "float8_e4m3fn"),
    torch.float8_e5m2: (torch.uint8, "float8_e5m2"),
}
_BITS = {torch.int16: "int16", torch.uint8: "uint8"}


def _extended_dtype(name: str) -> Any:
    try:
        import ml_dtypes  # noqa: PLC0415  # needed for these types alone
    except ImportError as error:
        raise MissingExtraError(
            f"convert a {name} tensor: ml_dtypes is not installed. Install it with: pip install ml-dtypes."
        ) from error
    return getattr(ml_dtypes, name)
