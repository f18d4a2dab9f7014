"""``read_npz`` of the Rust s3dlio's Python guide: one object, its arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from s3dlio.errors import FormatError, OptionError
from s3dlio.formats import NpzFormat
from s3dlio.storage.objects import get_buffer
from s3dlio.uri import Uri

if TYPE_CHECKING:
    import numpy as np

    from s3dlio.arrays import Sample
    from s3dlio.storage.loans import Reach, UriLike

__all__ = ["read_npz"]


@overload
def read_npz(
    uri: UriLike, array_name: None = None, *, storage_options: Reach = None, filesystem: object | None = None
) -> Sample: ...


@overload
def read_npz(
    uri: UriLike, array_name: str, *, storage_options: Reach = None, filesystem: object | None = None
) -> np.ndarray[Any, Any]: ...


def read_npz(
    uri: UriLike, array_name: str | None = None, *, storage_options: Reach = None, filesystem: object | None = None
) -> Sample | np.ndarray[Any, Any]:
    """The arrays of an NPZ object by their names, or one of them.

    They are read-only. Stored ones (``numpy.savez``) are views of the object's bytes, maybe unaligned, and each keeps
    all of these alive; deflated ones have memory of their own. Checksums are compared. Nothing is unpickled.

    Requests: as ``get``; the whole object is read also for one array.

    Args:
        uri: of the object.
        array_name: the array wanted, without ".npy"; None: a dict of all, in the order of the archive.
        storage_options: as ``get``.
        filesystem: as ``get``.

    Raises:
        FormatError: the object is no NPZ, is truncated or corrupt, or holds Python objects; there is no such array.
        OptionError: an ``array_name`` that is no string.
        StorageError: as ``get``.
    """
    shown = Uri.parse(uri).masked() if filesystem is None else str(uri)  # without passwords and signatures
    if array_name is not None and not isinstance(array_name, str):
        raise OptionError(
            f"read_npz {shown}: array_name={array_name!r}, expected a string or None.", field="array_name"
        )
    data = get_buffer(uri, storage_options=storage_options, filesystem=filesystem)
    try:
        arrays = NpzFormat(fields=None if array_name is None else (array_name,)).decode(data)
    except FormatError as error:
        raise FormatError(f"read_npz {shown}: {error}", uri=shown, offset=error.offset) from error
    return arrays if array_name is None else arrays[array_name]
