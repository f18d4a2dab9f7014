"""The operation log's format: MinIO warp's benchmark data, tab-separated lines, compressed with Zstandard.

Owns: columns, quoting and times, and reading a log back. Must not know: who writes records, or when.

Guarantees: one record is one line, whatever is in its names and errors; Go's ``encoding/csv``, Python's ``csv`` and
pyarrow read the same fields back.

Source: ``Operations.CSV`` and ``OperationsFromCSV`` in https://github.com/minio/warp, pkg/bench/ops.go.
"""

from __future__ import annotations

import contextlib
import re
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa

from s3dlio.errors import FormatError
from s3dlio.storage.translate import translating_os

if TYPE_CHECKING:
    import os

__all__ = ["HEADER", "OP_LOG_SCHEMA", "Lines", "Operation", "read_op_log"]

_TIME = pa.timestamp("ns", tz="UTC")

OP_LOG_SCHEMA = pa.schema(
    [
        ("idx", pa.int64()),
        ("thread", pa.int32()),
        ("op", pa.string()),
        ("client_id", pa.string()),
        ("n_objects", pa.int64()),
        ("bytes", pa.int64()),
        ("endpoint", pa.string()),
        ("file", pa.string()),
        ("error", pa.string()),
        ("start", _TIME),
        ("first_byte", _TIME),
        ("end", _TIME),
        ("duration_ns", pa.int64()),
    ]
)
"""Columns of an operation log, in warp's order. ``error`` is empty for success, ``first_byte`` null where unknown."""

HEADER = "\t".join(OP_LOG_SCHEMA.names) + "\n"

_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_STEPS_BYTES = (1 << 16, 1)
"""How a log that is cut short is read: pyarrow gives nothing of a step that it cannot give whole."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")  # with all that str.splitlines takes for a line's end
_QUOTED = re.compile(r'^\s|"')
_MAX_THREAD = 1 << 16
"""warp reads thread numbers into 16 bits."""


class Operation(NamedTuple):
    """One operation, as it is handed to the log."""

    thread: int
    """Identity of the thread, as the system numbers it."""
    op: str
    """GET, PUT, DELETE, STAT, LIST or COPY."""
    n_objects: int
    bytes: int
    endpoint: str
    file: str
    error: str
    start_ns: int
    """Since the epoch."""
    first_byte_ns: int
    """Since the epoch; 0 for unknown."""
    end_ns: int
    """Since the epoch."""


class Lines:
    """Numbers records and writes them as lines. For one thread at a time.

    Args:
        client_id: of this process, in every line.
    """

    def __init__(self, client_id: str) -> None:
        self._client_id = _field(client_id)
        self._count = 0
        self._threads: dict[int, int] = {}
        self._second = -1
        self._second_text = ""

    def of(self, operations: list[Operation]) -> bytes:
        """The lines of ``operations``, numbered on from those before."""
        return "".join(map(self._line, operations)).encode(errors="backslashreplace")

    def _line(self, one: Operation) -> str:
        number = self._count
        self._count += 1
        thread = self._threads.setdefault(one.thread, len(self._threads) % _MAX_THREAD)
        first_byte = self._time(one.first_byte_ns) if one.first_byte_ns else ""
        return (
            f"{number}\t{thread}\t{one.op}\t{self._client_id}\t{one.n_objects}\t{one.bytes}\t{_field(one.endpoint)}\t"
            f"{_field(one.file)}\t{_field(one.error)}\t{self._time(one.start_ns)}\t{first_byte}\t"
            f"{self._time(one.end_ns)}\t{one.end_ns - one.start_ns}\n"
        )

    def _time(self, since_epoch_ns: int) -> str:
        """RFC 3339 with nanoseconds, in UTC."""
        second, rest = divmod(since_epoch_ns, 1_000_000_000)
        if second != self._second:  # neighbouring records share it
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._second_text}.{rest:09d}Z"


def read_op_log(path: str | os.PathLike[str]) -> pa.Table:
    """An operation log as a table with ``OP_LOG_SCHEMA``, in the order in which operations ended.

    Reads what s3dlio, its Rust namesake and warp write, compressed or not. Of a log whose writer was killed it gives
    the complete records, with a warning. Times have nanoseconds: pandas and polars take them as they are.

    Args:
        path: of the file.

    Raises:
        NotFoundError: there is no such file.
        FormatError: it is no operation log.
    """
    uri = str(path)
    with translating_os("read op log", uri):
        data = Path(path).read_bytes()
    text = _decompressed(data, uri) if data.startswith(_ZSTD_MAGIC) else data
    if not text.startswith(HEADER.encode()):
        raise FormatError(
            f"read op log {uri}: begins with {text[:60]!r}, expected the line {HEADER!r}. It is no operation log.",
            uri=uri,
            offset=0,
        )
    complete = text[: text.rindex(b"\n") + 1]
    if len(complete) < len(text):
        _warn_cut(uri)
    return _table(complete, uri)


def _table(text: bytes, uri: str) -> pa.Table:
    from pyarrow import csv  # noqa: PLC0415 - who writes a log does not need it

    if len(text) == len(HEADER):  # pyarrow makes nothing but nulls of it
        return OP_LOG_SCHEMA.empty_table()
    options: Any = csv.ConvertOptions(
        column_types=OP_LOG_SCHEMA, strings_can_be_null=False, include_columns=OP_LOG_SCHEMA.names
    )
    try:
        return csv.read_csv(
            pa.BufferReader(text), parse_options=csv.ParseOptions(delimiter="\t"), convert_options=options
        )
    except pa.ArrowInvalid as error:
        raise FormatError(
            f"read op log {uri}: {error}, expected lines of an operation log. The file is damaged.", uri=uri
        ) from error


def _decompressed(data: bytes, uri: str) -> bytes:
    """The text of all frames; where they are cut short or damaged, what comes before that place."""
    try:
        return pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()
    except OSError as error:
        found = bytearray()
        for step in _STEPS_BYTES:
            stream = pa.CompressedInputStream(pa.BufferReader(data), "zstd")
            stream.read(len(found))
            with contextlib.suppress(OSError):  # the place where it is cut, which is why we are here
                while piece := stream.read(step):
                    found += piece
        if not found:
            raise FormatError(
                f"read op log {uri}: {error}, expected Zstandard data. The file is damaged.", uri=uri, offset=0
            ) from error
        _warn_cut(uri)
        return bytes(found)


def _warn_cut(uri: str) -> None:
    warnings.warn(
        f"read op log {uri}: the end is missing, its writer was stopped. The complete records are there.",
        stacklevel=3,
    )


def _field(text: str) -> str:
    """``text`` as a field: control characters become blanks, quotes are doubled inside quotes."""
    if not text.isprintable():
        text = _CONTROL.sub(" ", text)
    return '"' + text.replace('"', '""') + '"' if _QUOTED.search(text) else text
