"""``file://``: the local file tree by POSIX calls.

Owns: what a file is as an object: key, ETag, metadata. Must not know: object servers.

Guarantees beyond ``Store``:
- the key is the absolute path without its leading slash; listings are sorted by key
- an object is published by fsync and rename: also after a crash it is whole or not there
- temporary files are never listed; a killed writer leaves one behind, an aborted one does not
- a file whose inode, mtime and size are unchanged has the same ETag
- directories that deletes leave empty stay
"""

from __future__ import annotations

import contextlib
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.fs as pafs

from s3dlio.errors import ClosedError, StorageError
from s3dlio.storage.arguments import check_key, check_mode, check_range, check_size_hint, directory, payload, target
from s3dlio.storage.listing import batches, from_nanoseconds
from s3dlio.storage.posix import OpenFile, PendingFile, opened, walk
from s3dlio.storage.protocol import ObjectMeta
from s3dlio.storage.translate import changed, past_end, short, translating_os
from s3dlio.storage.writer import SinkWriter
from s3dlio.uri import Uri

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator
    from typing import Self

    from s3dlio.storage.protocol import BufferLike, ObjectWriter, PutMode

__all__ = ["LocalStore"]


class LocalStore:
    """All files that this process may reach, as objects of one container."""

    atomic_create = True
    _scheme = "file"

    def __init__(self) -> None:
        self._closed = False

    @property
    def filesystem(self) -> object:
        """A ``pyarrow.fs.LocalFileSystem``. Its writes are not atomic; ``put`` and ``open_writer`` are."""
        return pafs.LocalFileSystem()

    def path(self, key: str) -> str:
        """The absolute path of ``key``."""
        return f"/{key}"

    def uri(self, key: str) -> str:
        """``file:///path``."""
        return str(Uri(self._scheme, "", key))

    def head(self, key: str) -> ObjectMeta:
        """As ``Store.head``. One stat."""
        with self._verb("head", key) as path:
            status = Path(path).stat()
            if not stat.S_ISREG(status.st_mode):
                raise IsADirectoryError(path)
            return _meta(key, status)

    def get(self, key: str) -> pa.Buffer:
        """As ``Store.get``. Reads into new Arrow memory without holding the GIL."""
        with self._verb("get", key) as path, self._opened(path) as file:
            return self._read("get", key, file, 0, file.status.st_size)

    def get_range(self, key: str, start: int, end: int, *, etag: str | None = None) -> pa.Buffer:
        """As ``Store.get_range``."""
        check_range(start, end, self.uri(key))
        with self._verb("get_range", key) as path, self._opened(path) as file:
            self._check_version("get_range", key, file.status, start, end, etag)
            return self._read("get_range", key, file, start, end)

    def get_into(self, key: str, buffer: BufferLike, start: int = 0, *, etag: str | None = None) -> None:
        """As ``Store.get_into``. The kernel writes into ``buffer`` itself."""
        uri = self.uri(key)
        view = target(buffer, uri)
        end = start + len(view)
        check_range(start, end, uri)
        with self._verb("get_into", key) as path, self._opened(path) as file:
            self._check_version("get_into", key, file.status, start, end, etag)
            if (got := file.read_into(view, start)) < len(view):
                raise short("get_into", uri, start, end, got)

    def get_clipped(self, key: str, start: int, end: int) -> tuple[ObjectMeta, pa.Buffer]:
        """As ``Store.get_clipped``."""
        check_range(start, end, self.uri(key))
        with self._verb("get", key) as path, self._opened(path) as file:
            last = max(start, min(end, file.status.st_size))
            return _meta(key, file.status), self._read("get", key, file, start, last)

    def put(self, key: str, data: BufferLike, *, mode: PutMode = "overwrite") -> ObjectMeta:
        """As ``Store.put``. Makes missing directories. Two fsyncs, which is most of what a small put costs."""
        uri = self.uri(key)
        with self._verb("put", key, reading=False) as path:
            check_mode(mode, uri)
            view = memoryview(payload(data, "put", uri)).cast("B")
            pending = self._pending(path)
            try:
                pending.write(view)
                return _meta(key, pending.publish(create=mode == "create"))
            finally:
                pending.discard()

    def open_writer(self, key: str, *, size_hint: int | None = None) -> ObjectWriter:
        """As ``Store.open_writer``. Holds an open file until closed or aborted."""
        check_size_hint(size_hint, self.uri(key))
        with self._verb("open_writer", key, reading=False) as path:
            return SinkWriter(self.uri(key), _Sink(self.uri(key), key, self._pending(path)))

    def list(self, prefix: str = "") -> Iterator[pa.RecordBatch]:
        """As ``Store.list``, sorted by key. Follows symbolic links, leaves out pending files."""
        self._check_open("list")
        below = directory(prefix, self.uri(prefix))
        return batches(self._walk(below))

    def delete(self, key: str) -> None:
        """As ``Store.delete``. A directory is not an object, so nothing happens to it."""
        with self._verb("delete", key, reading=False) as path:
            target_path = Path(path)
            try:
                target_path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                return
            except (IsADirectoryError, PermissionError):
                if not target_path.is_dir():  # unlink of a directory is EISDIR on Linux, EPERM elsewhere
                    raise

    def copy(self, source: str, target: str) -> None:
        """As ``Store.copy``."""
        with self._verb("copy", target, reading=False) as path, contextlib.ExitStack() as stack:
            with self._verb("copy", source) as source_path:
                file = stack.enter_context(self._opened(source_path))
            pending = self._pending(path)
            try:
                for piece in self._pieces(source, file):
                    pending.write(piece)
                pending.publish()
            finally:
                pending.discard()

    def close(self) -> None:
        """Refuse further verbs. There is nothing to give up."""
        self._closed = True

    def _walk(self, below: str) -> Iterator[ObjectMeta]:
        uri = self.uri(below)
        try:
            for name, status in walk(f"/{below}"):
                name.encode()  # an Arrow string is UTF-8
                yield _meta(below + name, status)
        except (FileNotFoundError, NotADirectoryError):
            return  # no such directory: a prefix without objects
        except UnicodeEncodeError as error:
            raise StorageError(
                f"list {uri}: found a file whose name is not UTF-8 ({error.object!r}), expected UTF-8. Rename it.",
                uri=uri,
                operation="list",
            ) from error
        except OSError as error:
            with translating_os("list", uri):
                raise error from None

    def _opened(self, path: str) -> contextlib.AbstractContextManager[OpenFile]:
        return opened(path)

    def _pending(self, path: str) -> PendingFile:
        return PendingFile(path)

    def _read(self, operation: str, key: str, file: OpenFile, start: int, end: int) -> pa.Buffer:
        data = file.read(start, end)
        if data.size < end - start:
            raise short(operation, self.uri(key), start, end, data.size)
        return data

    def _pieces(self, key: str, file: OpenFile) -> Iterator[memoryview]:
        """The content of ``file``; only what goes wrong with reading it is said of ``key``."""
        with translating_os("copy", self.uri(key)):
            yield from file.pieces()

    def _check_version(
        self, operation: str, key: str, status: os.stat_result, start: int, end: int, etag: str | None
    ) -> None:
        if etag is not None and etag != _etag(status):
            raise changed(operation, self.uri(key), etag)
        if end > status.st_size:
            raise past_end(operation, self.uri(key), start, end, status.st_size)

    @contextlib.contextmanager
    def _verb(self, operation: str, key: str, *, reading: bool = True) -> Iterator[str]:
        """The path of ``key``, with the arguments checked and errors translated."""
        self._check_open(operation)
        uri = self.uri(key)
        check_key(key, operation, uri, reading=reading)
        with translating_os(operation, uri):
            yield self.path(key)

    def _check_open(self, operation: str) -> None:
        if self._closed:
            raise ClosedError(
                f"{operation} {self._scheme}://: the store is closed, expected an open one. Open it again."
            )

    def __repr__(self) -> str:
        return "LocalStore()"

    def __reduce__(self) -> tuple[object, ...]:
        return LocalStore, ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _Sink:
    """A writer's bytes on their way into a pending file."""

    parts = 1

    def __init__(self, uri: str, key: str, pending: PendingFile) -> None:
        self._uri = uri
        self._key = key
        self._pending = pending

    def write(self, data: bytes | pa.Buffer) -> None:
        with translating_os("write", self._uri):
            self._pending.write(memoryview(data).cast("B"))

    def flush(self) -> None:
        """Nothing waits here: the system has it."""

    def publish(self) -> ObjectMeta:
        with translating_os("close", self._uri):
            return _meta(self._key, self._pending.publish())

    def discard(self) -> None:
        with translating_os("abort", self._uri):
            self._pending.discard()


def _meta(key: str, status: os.stat_result) -> ObjectMeta:
    return ObjectMeta(key=key, size=status.st_size, etag=_etag(status), mtime=from_nanoseconds(status.st_mtime_ns))


def _etag(status: os.stat_result) -> str:
    return f"{status.st_ino:x}-{status.st_mtime_ns:x}-{status.st_size:x}"
