"""Listings as people use them: every entry a URI that answers for its metadata.

Owns: turning record batches into entries a column at a time; an entry refers to its batch and looks a field up when
it is asked for. Must not know: where batches come from.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, overload

import pyarrow as pa

from s3dlio.errors import OptionError
from s3dlio.storage.listing import from_microseconds
from s3dlio.storage.protocol import LIST_SCHEMA

if TYPE_CHECKING:
    import builtins
    from collections.abc import Callable, Iterable
    from typing import Self, SupportsIndex

__all__ = ["ObjectEntry", "entries", "selected"]

_FIELDS = {"key": 0, "size": 1, "etag": 2, "last_modified": 3}
"""Names of an entry's fields, and the columns of ``LIST_SCHEMA`` that hold them."""


class ObjectEntry(str):
    """One line of a listing: the object's full URI, which answers for its metadata too.

    ``entry["key"]`` (relative to the bucket), ``entry["size"]`` (bytes), ``entry["etag"]`` and
    ``entry["last_modified"]``, both None where the store does not list them. Indexing by numbers is that of ``str``.

    Args:
        uri: of the object.
        batch: record batch of ``LIST_SCHEMA`` that has its metadata.
        row: where in it.
    """

    __slots__ = ("_batch", "_row")
    _batch: pa.RecordBatch
    _row: int

    def __new__(cls, uri: str, batch: pa.RecordBatch, row: int) -> Self:  # noqa: D102  # as the class says
        entry = super().__new__(cls, uri)
        entry._batch = batch
        entry._row = row
        return entry

    @overload
    def __getitem__(self, key: SupportsIndex | slice) -> str: ...
    @overload
    def __getitem__(self, key: str) -> Any: ...
    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, str):
            return super().__getitem__(key)
        value = self._batch.column(_FIELDS[key])[self._row]
        if key == "last_modified":
            return from_microseconds(value.value) if value.is_valid else None
        return value.as_py()

    def get(self, name: str, default: Any = None) -> Any:
        """The field ``name``, or ``default`` where the store does not list it."""
        value = self[name] if name in _FIELDS else None
        return default if value is None else value

    def keys(self) -> builtins.list[str]:
        """The names of the fields, so that ``dict(entry)`` works."""
        return [*_FIELDS]

    def __reduce__(self) -> tuple[object, ...]:
        # One row: not the batch, which may have thousands.
        return _restore, (str(self), *(self._batch.column(column)[self._row].as_py() for column in range(4)))


def _restore(uri: str, *row: Any) -> ObjectEntry:
    columns = [pa.array([value], field.type) for value, field in zip(row, LIST_SCHEMA, strict=True)]
    return ObjectEntry(uri, pa.record_batch(columns, schema=LIST_SCHEMA), 0)


def selected(
    batches: Iterable[pa.RecordBatch], prefix: str, *, recursive: bool, pattern: str | None, uri: str
) -> pa.RecordBatch:
    """The rows of a listing that were asked for, sorted by key, as one batch.

    Args:
        batches: of ``LIST_SCHEMA``.
        prefix: what all keys start with; empty, or a directory with its slash.
        recursive: also what lies in directories below ``prefix``.
        pattern: a regular expression that must match somewhere in the key; None: all.
        uri: what was listed, for the error.

    Raises:
        OptionError: ``pattern`` is no regular expression. No batch has been taken by then.
    """
    wanted = _matcher(pattern, uri)
    table = pa.Table.from_batches(batches, LIST_SCHEMA)
    if wanted is not None or not recursive:
        skip = len(prefix)
        keys = table.column("key").to_pylist()
        mask = [(wanted is None or wanted(key)) and (recursive or "/" not in key[skip:]) for key in keys]
        table = table.filter(pa.array(mask, pa.bool_()))
    table = table.sort_by("key")  # by UTF-8, which sorts as Python's text does
    return pa.RecordBatch.from_arrays([_joined(column) for column in table.columns], schema=LIST_SCHEMA)


def entries(batch: pa.RecordBatch, base: str, *, escape_percent: bool) -> builtins.list[ObjectEntry]:
    """The entries of a batch, in its order.

    Args:
        batch: of ``LIST_SCHEMA``.
        base: what turns a key into a URI when it is put before it.
        escape_percent: whether "%" in a key stands as "%25" in its URI, as in those of local files.
    """
    keys = batch.column("key").to_pylist()
    if escape_percent:
        keys = [key.replace("%", "%25") for key in keys]
    return [ObjectEntry(base + key, batch, row) for row, key in enumerate(keys)]


def _joined(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def _matcher(pattern: str | None, uri: str) -> Callable[[str], Any] | None:
    if not pattern:
        return None
    try:
        return re.compile(pattern).search
    except re.error as error:
        raise OptionError(
            f"list {uri}: pattern {pattern!r} is no regular expression ({error}), expected one. "
            r"For all .npz files write r'\.npz$'.",
            field="pattern",
        ) from error
