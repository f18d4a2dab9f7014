"""A store whose verbs are written to an operation log.

Owns: what of each verb is recorded. Must not know: stores, or where records go.

One line a verb, whatever requests and retries that took: GET (get, get_range, get_into, get_clipped), PUT (put, and
a writer when it ends), STAT (head), LIST (a whole listing), DELETE, COPY (under the target's name).
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, cast

from s3dlio.concurrency import get_ident
from s3dlio.storage.arguments import payload
from s3dlio.storage.arrow.filesystem import store_filesystem
from s3dlio.storage.object_read import get_clipped
from s3dlio.storage.operation_log.format import Operation
from s3dlio.uri import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType
    from typing import Self

    import pyarrow as pa

    from s3dlio.storage.operation_log.log import OpLog
    from s3dlio.storage.protocol import BufferLike, BulkStore, ObjectMeta, ObjectWriter, PutMode, Store

__all__ = ["LoggedStore"]


_WEB = ("http://", "https://")


class LoggedStore:
    """``store``, with a record of every verb in ``log``. Whatever else ``store`` has is there, too.

    Args:
        store: does the work; closed with this one.
        log: takes the records; not closed with this store, which goes on without records after the log is closed.
    """

    def __init__(self, store: Store, log: OpLog) -> None:
        self._store = store
        self._log = log
        root = shown(store.uri(""))
        self._container = root.partition("://")[2] if "://" in root else root
        self._is_web = root.startswith(_WEB)
        url = getattr(getattr(store, "options", None), "endpoint_url", None)
        self._endpoint = url or root.removesuffix("/")  # of files "file://"

    @property
    def atomic_create(self) -> bool:
        """As ``Store.atomic_create``."""
        return self._store.atomic_create

    @property
    def filesystem(self) -> object:
        """A ``pyarrow.fs.PyFileSystem`` over this store, so that what goes through it is recorded."""
        return store_filesystem(self)

    def path(self, key: str) -> str:
        """The key itself."""
        return key

    def uri(self, key: str) -> str:
        """As ``Store.uri``."""
        return self._store.uri(key)

    def file(self, key: str) -> str:
        """How the log names ``key``: its URI without the scheme, and without the secrets that a URL may hold."""
        return shown(self._store.uri(key)).partition("://")[2] if self._is_web else self._container + key

    def head(self, key: str) -> ObjectMeta:
        """As ``Store.head``."""
        with _Record(self, "STAT", key):
            return self._store.head(key)

    def get(self, key: str) -> pa.Buffer:
        """As ``Store.get``."""
        with _Record(self, "GET", key) as record:
            data = self._store.get(key)
            record.bytes = data.size
            return data

    def get_range(self, key: str, start: int, end: int, *, etag: str | None = None) -> pa.Buffer:
        """As ``Store.get_range``."""
        with _Record(self, "GET", key) as record:
            data = self._store.get_range(key, start, end, etag=etag)
            record.bytes = data.size
            return data

    def get_clipped(self, key: str, start: int, end: int) -> tuple[ObjectMeta, pa.Buffer]:
        """As ``Store.get_clipped``."""
        with _Record(self, "GET", key) as record:
            meta, data = get_clipped(self._store, key, start, end)
            record.bytes = data.size
            return meta, data

    def get_into(self, key: str, buffer: BufferLike, start: int = 0, *, etag: str | None = None) -> None:
        """As ``Store.get_into``."""
        with _Record(self, "GET", key) as record:
            self._store.get_into(key, buffer, start, etag=etag)
            record.bytes = payload(buffer, "get_into", key).size

    def put(self, key: str, data: BufferLike, *, mode: PutMode = "overwrite") -> ObjectMeta:
        """As ``Store.put``."""
        with _Record(self, "PUT", key) as record:
            meta = self._store.put(key, data, mode=mode)
            record.bytes = meta.size
            return meta

    def open_writer(self, key: str, *, size_hint: int | None = None) -> ObjectWriter:
        """As ``Store.open_writer``. Recorded when the writer is closed or aborted."""
        record = _Record(self, "PUT", key)
        try:
            return _LoggedWriter(self._store.open_writer(key, size_hint=size_hint), record)
        except BaseException as error:
            record.write(_said(error))
            raise

    def list(self, prefix: str = "") -> Iterator[pa.RecordBatch]:
        """As ``Store.list``. Recorded when the listing ends, or is given up; its first byte is its first batch."""
        record = _Record(self, "LIST", prefix)
        record.n_objects = 0
        try:
            return _listed(self._store.list(prefix), record)
        except BaseException as error:
            record.write(_said(error))
            raise

    def delete(self, key: str) -> None:
        """As ``Store.delete``."""
        with _Record(self, "DELETE", key):
            self._store.delete(key)

    def delete_many(self, keys: Sequence[str]) -> None:
        """As ``RemoteStore.delete_many``. One record with the number of objects, under the first one's name."""
        with _Record(self, "DELETE", keys[0]) as record:
            record.n_objects = len(keys)
            cast("BulkStore", self._store).delete_many(keys)  # called only where ``deletes_at_once`` says so

    def copy(self, source: str, target: str) -> None:
        """As ``Store.copy``."""
        with _Record(self, "COPY", target):
            self._store.copy(source, target)

    def close(self) -> None:
        """As ``Store.close``."""
        self._store.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._store, name)

    def __repr__(self) -> str:
        return f"LoggedStore({self._store!r}, {self._log!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return LoggedStore, (self._store, self._log)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Record:
    """One operation under way. Leaving the block writes it; an exception is its error."""

    __slots__ = ("_began_ns", "_key", "_op", "_start_ns", "_store", "bytes", "first_byte_ns", "n_objects")

    def __init__(self, store: LoggedStore, op: str, key: str) -> None:
        self._store = store
        self._op = op
        self._key = key
        self.bytes = 0
        self.n_objects = 1
        self.first_byte_ns = 0
        self._start_ns = time.time_ns()
        self._began_ns = time.perf_counter_ns()  # durations do not jump with the clock

    def now_ns(self) -> int:
        """Since the epoch, by the steady clock."""
        return self._start_ns + time.perf_counter_ns() - self._began_ns

    def write(self, said: str = "") -> None:
        """Hand the record over; what ``said`` says went wrong."""
        end_ns = self.now_ns()
        store = self._store
        file, endpoint = store.file(self._key), store._endpoint  # noqa: SLF001 - one module
        store._log.record(  # noqa: SLF001
            Operation(
                get_ident(), self._op, self.n_objects, self.bytes, endpoint, file,
                said, self._start_ns, self.first_byte_ns, end_ns,
            )
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.write(_said(error))


def _listed(batches: Iterator[pa.RecordBatch], record: _Record) -> Iterator[pa.RecordBatch]:
    try:
        for batch in batches:
            if not record.n_objects:
                record.first_byte_ns = record.now_ns()
            record.n_objects += batch.num_rows
            yield batch
    except GeneratorExit:
        record.write()
        raise
    except BaseException as error:
        record.write(_said(error))
        raise
    record.write()


class _LoggedWriter:
    """``writer``, recorded once: when it is closed, aborted or fails."""

    def __init__(self, writer: ObjectWriter, record: _Record) -> None:
        self._writer = writer
        self._record: _Record | None = record

    def write(self, data: BufferLike) -> int:
        """As ``ObjectWriter.write``."""
        with self._ending_on_failure():
            count = self._writer.write(data)
        if self._record is not None:
            self._record.bytes += count
        return count

    def flush(self) -> None:
        """As ``ObjectWriter.flush``."""
        with self._ending_on_failure():
            self._writer.flush()

    def close(self) -> Any:
        """As ``ObjectWriter.close``."""
        with self._ending_on_failure():
            result = self._writer.close()
        self._end()
        return result

    def abort(self) -> None:
        """As ``ObjectWriter.abort``."""
        try:
            self._writer.abort()
        finally:
            self._end("aborted")

    @contextlib.contextmanager
    def _ending_on_failure(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:
            self._end(_said(error))
            raise

    def _end(self, said: str = "") -> None:
        record, self._record = self._record, None
        if record is not None:
            record.write(said)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._writer, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._ending_on_failure():
            self._writer.__exit__(kind, error, trace)
        self._end("" if kind is None else _said(error))


def _said(error: BaseException | None) -> str:
    return "" if error is None else str(error) or type(error).__name__
