"""A batch being filled: samples are written straight into their rows by the threads that read them.

Owns: the batch's memory until it is handed over; it is never used again here. Must not know: storage, order.

Guarantees: fields whose shapes agree are one array (rows, *shape); a field whose shapes differ is a list of
arrays; all of them are writable, C-contiguous and in native byte order, whatever the objects hold; fields
that are missing, or whose dtype differs, are an error that names the object, and the same one whatever thread
came first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from s3dlio.concurrency import Lock
from s3dlio.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3dlio.arrays import Allocator, Array, Batch, Sample

__all__ = ["BatchSlot"]


class _Column:
    """One field of the batch: rows of the first shape seen, and the rows that had another."""

    __slots__ = ("filled", "odd", "rows")

    def __init__(self, rows: Array) -> None:
        self.rows = rows
        self.filled = bytearray(len(rows))
        self.odd: dict[int, Array] = {}


class BatchSlot:
    """Rows 0 .. n-1 of one batch.

    Args:
        rows: number of samples.
        allocate: gives the memory of each field.
        name: the object that a row comes from, for errors.
    """

    def __init__(self, rows: int, *, allocate: Allocator, name: Callable[[int], str]) -> None:
        self._rows = rows
        self._allocate = allocate
        self._name = name
        self._columns: dict[str, _Column] = {}
        self._lock = Lock()

    def place(self, row: int, sample: Sample) -> None:
        """Copy a sample into its row. Threads: any; one call a row."""
        for field, value in sample.items():
            column = self._columns.get(field) or self._column(field, value)
            if value.shape == column.rows.shape[1:] and _native(value.dtype) == column.rows.dtype:
                np.copyto(column.rows[row, ...], value)
            else:
                # copied as its neighbours are: which shape came first depends on the threads
                column.odd[row] = self._allocate(value.shape, _native(value.dtype))
                np.copyto(column.odd[row][...], value)
            column.filled[row] = 1

    def _column(self, field: str, like: Array) -> _Column:
        with self._lock:
            column = self._columns.get(field)
            if column is None:
                memory = self._allocate((self._rows, *like.shape), _native(like.dtype))
                column = self._columns[field] = _Column(memory)
            return column

    def batch(self) -> Batch:
        """The filled batch: field -> array (rows, *shape), or a list of ``rows`` arrays.

        Raises:
            FormatError: a sample lacks a field that another one of the batch has, or has another dtype.
        """
        self._check_fields()
        return {field: self._value(field, self._columns[field]) for field in sorted(self._columns)}

    def _check_fields(self) -> None:
        for row in range(self._rows):
            lacking = sorted(field for field, column in self._columns.items() if not column.filled[row])
            if lacking:
                found = sorted(set(self._columns) - set(lacking))
                other = self._columns[lacking[0]].filled.index(1)
                raise FormatError(
                    f"read {self._name(row)}: found fields {', '.join(found) or 'none'}, expected "
                    f"{', '.join(lacking)} too, as in {self._name(other)}. Rewrite the object, or leave the field "
                    "out of fields=.",
                    uri=self._name(row),
                )

    def _value(self, field: str, column: _Column) -> Any:
        if not column.odd:
            return column.rows
        rows = [column.odd[row] if row in column.odd else column.rows[row] for row in range(self._rows)]
        first = rows[0].dtype
        if first.kind in "SU" and all(value.dtype.kind == first.kind for value in rows):
            return np.stack(rows) if len({value.shape for value in rows}) == 1 else rows
        for row, value in enumerate(rows):
            if value.dtype != first:
                raise FormatError(
                    f"read {self._name(row)}: field {field!r} is {value.dtype}, expected {first} as in "
                    f"{self._name(0)}. Rewrite the object.",
                    uri=self._name(row),
                )
        return rows


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype if dtype.isnative else dtype.newbyteorder("=")
