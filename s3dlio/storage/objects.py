"""One object or listing by its URI: the function API.

Each function borrows an open store (``loans``) and works as ``open_store`` says; many objects at a time, file objects
and trees are in ``s3dlio.transfer``.

Must not know: engines, or how a store does what it does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3dlio.errors import NotFoundError, OptionError
from s3dlio.storage.delete import delete
from s3dlio.storage.entries import ObjectEntry, entries, selected
from s3dlio.storage.loans import Loans
from s3dlio.storage.object_read import PART_BYTES, read
from s3dlio.storage.translate import naming
from s3dlio.uri import Uri

if TYPE_CHECKING:
    import builtins
    import datetime as dt

    import pyarrow as pa

    from s3dlio.storage.loans import Reach, UriLike
    from s3dlio.storage.protocol import BufferLike, ObjectMeta, PutMode, Store

__all__ = [
    "ObjectBytes",
    "ObjectEntry",
    "delete",
    "exists",
    "get",
    "get_buffer",
    "get_into",
    "get_range",
    "list",
    "list_keys",
    "put_bytes",
    "stat",
]


class ObjectBytes(bytes):
    """An object's content: ``bytes`` that can also be viewed."""

    __slots__ = ()

    def memoryview(self) -> memoryview:
        """A read-only view of the bytes, without copying."""
        return memoryview(self)

    def to_bytes(self) -> bytes:
        """The content as plain ``bytes``; a copy."""
        return bytes(memoryview(self))


def get(uri: UriLike, *, storage_options: Reach = None, filesystem: object | None = None) -> ObjectBytes:
    """The whole object as bytes. Copies once; ``get_buffer`` does not.

    One request up to 8 MiB (two for an object of zero bytes, and on the ``arrow`` engine); above, the rest comes as
    parallel parts of the same version, on threads that end with the call.

    Args:
        uri: of the object.
        storage_options: how to reach it, as ``open_store``.
        filesystem: one of the caller's own, as ``open_store``; ``uri`` is then a path in it.

    Raises:
        NotFoundError: there is no such object.
        PreconditionError: a large object was overwritten while it was read.
    """
    return ObjectBytes(memoryview(get_buffer(uri, storage_options=storage_options, filesystem=filesystem)))


def get_buffer(uri: UriLike, *, storage_options: Reach = None, filesystem: object | None = None) -> pa.Buffer:
    """The whole object as a read-only ``pyarrow.Buffer``, the memory that it was received in.

    Requests, Args, Raises: as ``get``.
    """
    with Loans(storage_options, filesystem) as loans:
        return read(*loans.find_object(uri, "get")).result()


def get_range(
    uri: UriLike,
    offset: int,
    length: int | None = None,
    *,
    storage_options: Reach = None,
    filesystem: object | None = None,
) -> ObjectBytes:
    """Bytes of an object from ``offset`` on. Requests: as ``get`` of an object of that length.

    Args:
        uri: of the object.
        offset: first byte. A negative one counts from the end, at most back to the first byte, as ``data[-n:]``
            does, and costs one request more.
        length: bytes, >= 0. None: to the end of the object.
        storage_options: as ``get``.
        filesystem: as ``get``.

    Raises:
        ShortReadError: the object ends before the range does; never fewer bytes than asked for.
        OptionError: a negative length.
        NotFoundError, PreconditionError: as ``get``.
    """
    with Loans(storage_options, filesystem) as loans:
        store, key = loans.find_object(uri, "get_range")
        if length is not None and length < 0:
            raise OptionError(
                f"get_range {loans.shown(uri)}: length is {length}, expected 0 or more, or None for all of the rest.",
                field="length",
            )
        etag = None
        if offset < 0:
            with naming("get_range"):
                meta = store.head(key)
            offset, etag = max(0, meta.size + offset), meta.etag
            if length is None:
                length = meta.size - offset
        if length is not None and length <= PART_BYTES:
            return ObjectBytes(memoryview(store.get_range(key, offset, offset + length, etag=etag)))
        end = None if length is None else offset + length
        return ObjectBytes(
            memoryview(read(store, key, start=offset, end=end, etag=etag, operation="get_range").result())
        )


def get_into(
    uri: UriLike, buffer: BufferLike, *, storage_options: Reach = None, filesystem: object | None = None
) -> int:
    """Read the whole object into the start of ``buffer``; what follows in it stays as it was. Requests: as ``get``.

    Args:
        uri: of the object.
        buffer: writable and contiguous: a ``bytearray``, a NumPy array, ... After an error its content is arbitrary.
        storage_options: as ``get``.
        filesystem: as ``get``.

    Returns: the object's size, which is how many bytes of ``buffer`` were written.

    Raises:
        OptionError: the object is larger than ``buffer``, or ``buffer`` cannot be written to.
        NotFoundError, PreconditionError: as ``get``.
    """
    with Loans(storage_options, filesystem) as loans:
        return read(*loans.find_object(uri, "get_into"), into=buffer, operation="get_into").size


def put_bytes(
    uri: UriLike,
    data: BufferLike,
    *,
    mode: PutMode = "overwrite",
    storage_options: Reach = None,
    filesystem: object | None = None,
) -> ObjectMeta:
    """Store ``data`` as one object, all or nothing.

    Args:
        uri: of the object.
        data: anything contiguous with the buffer protocol.
        mode: "create" refuses to overwrite.
        storage_options: as ``get``.
        filesystem: as ``get``.

    Returns: what the store said of the object: key, size, ETag.

    Raises:
        ExistsError: mode is "create" and the object exists.
    """
    with Loans(storage_options, filesystem) as loans:
        store, key = loans.find_object(uri, "put")
        return store.put(key, data, mode=mode)


def list(  # noqa: A001
    uri: UriLike,
    recursive: bool = True,
    pattern: str | None = None,
    *,
    storage_options: Reach = None,
    filesystem: object | None = None,
) -> builtins.list[ObjectEntry]:
    """The objects below ``uri``, sorted by URI; an empty list if there are none.

    Args:
        uri: of a container or directory. Of an object, it gives nothing: list its directory.
        recursive: also what lies in directories below. Everything is listed and the rest dropped.
        pattern: a regular expression that must match somewhere in the key.
        storage_options: as ``get``.
        filesystem: as ``get``. Entries are then paths in it.

    Raises:
        NotFoundError: the container does not exist.
        OptionError: ``pattern`` is no regular expression.
    """
    with Loans(storage_options, filesystem) as loans:
        store, key = loans.find(uri)
        found = _listed(store, key, recursive=recursive, pattern=pattern)
        if filesystem is not None:
            return entries(found, store.path(""), escape_percent=False)
        parsed = Uri.parse(uri)
        return entries(found, str(parsed.with_key("")), escape_percent=parsed.scheme in {"file", "direct"})


def list_keys(
    uri: UriLike,
    recursive: bool = True,
    pattern: str | None = None,
    *,
    storage_options: Reach = None,
    filesystem: object | None = None,
) -> builtins.list[str]:
    """The keys of the objects below ``uri``, relative to the container, sorted. The cheapest listing.

    Args, Raises: as ``list``.
    """
    with Loans(storage_options, filesystem) as loans:
        store, key = loans.find(uri)
        return _listed(store, key, recursive=recursive, pattern=pattern).column("key").to_pylist()


def stat(
    uri: UriLike, *, storage_options: Reach = None, filesystem: object | None = None
) -> dict[str, str | int | dt.datetime | None]:
    """Metadata of one object: ``key``, ``size`` (bytes), ``etag``, ``last_modified`` (aware, or None). One request.

    Raises:
        NotFoundError: there is no such object; a directory is none.
    """
    with Loans(storage_options, filesystem) as loans:
        store, key = loans.find_object(uri, "stat")
        with naming("stat"):
            return as_dict(store.head(key))


def exists(uri: UriLike, *, storage_options: Reach = None, filesystem: object | None = None) -> bool:
    """Whether there is such an object. Only "not found" is False: no access and no answer are errors."""
    with Loans(storage_options, filesystem) as loans:
        store, key = loans.find_object(uri, "stat")
        try:
            with naming("stat"):
                store.head(key)
        except NotFoundError:
            return False
        return True


def as_dict(meta: ObjectMeta) -> dict[str, str | int | dt.datetime | None]:
    """What ``stat`` gives."""
    return {"key": meta.key, "size": meta.size, "etag": meta.etag, "last_modified": meta.mtime}


def _listed(store: Store, key: str, *, recursive: bool, pattern: str | None) -> pa.RecordBatch:
    base = key.rstrip("/")
    prefix = f"{base}/" if base else ""
    return selected(store.list(key), prefix, recursive=recursive, pattern=pattern, uri=store.uri(key))
