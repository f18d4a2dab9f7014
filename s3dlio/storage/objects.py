"""One object or listing by its URI: the function API over ``open_store``.

Each call opens a store and closes it, so it pays for a connection. Loops are faster on a store that stays
open: ``with open_store(uri) as store: store.get(key)``.

Must not know: engines, or how a store does what it does.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, overload

from s3dlio.errors import NotFoundError, OptionError
from s3dlio.storage.open import open_store
from s3dlio.uri import Uri

if TYPE_CHECKING:
    import builtins
    import datetime as dt
    import os
    from typing import Self, SupportsIndex, TypeAlias

    import pyarrow as pa

    from s3dlio.storage.protocol import BufferLike, ObjectMeta, PutMode

    UriLike: TypeAlias = str | os.PathLike[str] | Uri

__all__ = ["ObjectBytes", "ObjectEntry", "delete", "exists", "get", "get_buffer", "list", "put_bytes", "stat"]


class ObjectBytes(bytes):
    """An object's content: ``bytes`` that can also be viewed."""

    __slots__ = ()

    def memoryview(self) -> memoryview:
        """A read-only view of the bytes, without copying."""
        return memoryview(self)

    def to_bytes(self) -> bytes:
        """The content as plain ``bytes``; a copy."""
        return bytes(memoryview(self))


class ObjectEntry(str):
    """One line of a listing: the object's full URI, which answers for its metadata too.

    ``entry["key"]`` (relative to the bucket), ``entry["size"]`` (bytes), ``entry["etag"]`` and
    ``entry["last_modified"]``, both None where the store does not list them. Indexing by numbers is that of ``str``.
    """

    __slots__ = ("_fields",)
    _fields: dict[str, Any]

    def __new__(cls, uri: str, fields: dict[str, Any]) -> Self:
        """Args: the full URI; the metadata by name."""
        entry = super().__new__(cls, uri)
        entry._fields = fields
        return entry

    @overload
    def __getitem__(self, key: SupportsIndex | slice) -> str: ...
    @overload
    def __getitem__(self, key: str) -> Any: ...
    def __getitem__(self, key: Any) -> Any:
        return self._fields[key] if isinstance(key, str) else super().__getitem__(key)

    def get(self, name: str, default: Any = None) -> Any:
        """The field ``name``, or ``default`` where the store does not list it."""
        value = self._fields.get(name)
        return default if value is None else value

    def keys(self) -> builtins.list[str]:
        """The names of the fields, so that ``dict(entry)`` works."""
        return [*self._fields]

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (str(self), self._fields)


def get(uri: UriLike) -> ObjectBytes:
    """The whole object as bytes. Copies once; ``get_buffer`` does not.

    Raises:
        NotFoundError: there is no such object.
    """
    return ObjectBytes(memoryview(get_buffer(uri)))


def get_buffer(uri: UriLike) -> pa.Buffer:
    """The whole object as a read-only ``pyarrow.Buffer``, the memory that it was received in.

    Raises:
        NotFoundError: there is no such object.
    """
    parsed = _object(uri, "get")
    with open_store(parsed) as store:
        return store.get(parsed.key)


def put_bytes(uri: UriLike, data: BufferLike, *, mode: PutMode = "overwrite") -> None:
    """Store ``data`` as one object, all or nothing.

    Args:
        uri: of the object.
        data: anything contiguous with the buffer protocol.
        mode: "create" refuses to overwrite.

    Raises:
        ExistsError: mode is "create" and the object exists.
    """
    parsed = _object(uri, "put")
    with open_store(parsed) as store:
        store.put(parsed.key, data, mode=mode)


def list(uri: UriLike, recursive: bool = True, pattern: str | None = None) -> builtins.list[ObjectEntry]:  # noqa: A001
    """The objects below ``uri``, sorted by URI; an empty list if there are none.

    Args:
        uri: of a container or directory. Of an object, it gives nothing: list its directory.
        recursive: also what lies in directories below. Everything is listed and the rest dropped.
        pattern: a regular expression that must match somewhere in the key.

    Raises:
        NotFoundError: the container does not exist.
        OptionError: ``pattern`` is no regular expression.
    """
    parsed = Uri.parse(uri)
    try:
        wanted = re.compile(pattern or "")
    except re.error as error:
        raise OptionError(
            f"list {parsed}: pattern {pattern!r} is no regular expression ({error}), expected one. "
            r"For all .npz files write r'\.npz$'.",
            field="pattern",
        ) from error
    entries = []
    with open_store(parsed) as store:
        for batch in store.list(parsed.key):
            for row in batch.to_pylist():
                key = row["key"]
                if not wanted.search(key) or (not recursive and "/" in key[len(parsed.prefix) :]):
                    continue
                fields = {
                    "key": key,
                    "size": row["size"],
                    "etag": row["etag"],
                    "last_modified": row["mtime"],
                }
                entries.append(ObjectEntry(str(parsed.with_key(key)), fields))
    return sorted(entries)


def stat(uri: UriLike) -> dict[str, str | int | dt.datetime | None]:
    """Metadata of one object: ``key``, ``size`` (bytes), ``etag``, ``last_modified`` (aware, or None).

    Raises:
        NotFoundError: there is no such object; a directory is none.
    """
    meta = _head(uri)
    return {"key": meta.key, "size": meta.size, "etag": meta.etag, "last_modified": meta.mtime}


def exists(uri: UriLike) -> bool:
    """Whether there is such an object. Only "not found" is False: no access and no answer are errors."""
    try:
        _head(uri)
    except NotFoundError:
        return False
    return True


def delete(uri: UriLike) -> None:
    """Remove one object. None there is no error."""
    parsed = _object(uri, "delete")
    with open_store(parsed) as store:
        store.delete(parsed.key)


def _head(uri: UriLike) -> ObjectMeta:
    parsed = _object(uri, "stat")
    with open_store(parsed) as store:
        return store.head(parsed.key)


def _object(uri: UriLike, operation: str) -> Uri:
    parsed = Uri.parse(uri)
    if not parsed.key:
        raise OptionError(
            f"{operation} {parsed}: the URI names a container, expected an object. Add its key.", field="uri"
        )
    return parsed
