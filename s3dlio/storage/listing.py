"""Rows of a listing gathered into record batches of ``LIST_SCHEMA``.

Owns: batch size and time units. Must not know: where the rows come from.
"""

from __future__ import annotations

import datetime as dt
import itertools
from typing import TYPE_CHECKING

import pyarrow as pa

from s3dlio.storage.protocol import LIST_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from s3dlio.storage.protocol import ObjectMeta

__all__ = ["EPOCH", "batches", "columns", "from_microseconds", "from_nanoseconds"]

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)

_BATCH_ROWS = 8192
"""Large enough that a batch costs little a row, small enough that the first one comes soon."""


def from_microseconds(value: int) -> dt.datetime:
    """The aware datetime of microseconds since the epoch, without the rounding of floats."""
    return EPOCH + dt.timedelta(microseconds=value)


def from_nanoseconds(value: int) -> dt.datetime:
    """As ``from_microseconds``; what is below a microsecond is cut off."""
    return from_microseconds(value // 1000)


def batches(rows: Iterable[ObjectMeta]) -> Iterator[pa.RecordBatch]:
    """Record batches of ``LIST_SCHEMA`` with up to 8192 rows each; none for no rows."""
    remaining = iter(rows)
    while chunk := list(itertools.islice(remaining, _BATCH_ROWS)):
        yield columns(
            [row.key for row in chunk],
            [row.size for row in chunk],
            [row.etag for row in chunk],
            [row.mtime for row in chunk],
        )


def columns(
    keys: Sequence[str],
    sizes: Sequence[int],
    etags: Sequence[str | None],
    mtimes: Sequence[dt.datetime | None],
) -> pa.RecordBatch:
    """One record batch of ``LIST_SCHEMA``."""
    return pa.record_batch(
        [
            pa.array(keys, pa.string()),
            pa.array(sizes, pa.int64()),
            pa.array(etags, pa.string()),
            pa.array(mtimes, pa.timestamp("us", tz="UTC")),
        ],
        schema=LIST_SCHEMA,
    )
