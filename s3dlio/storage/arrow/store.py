"""``arrow``: any ``pyarrow.fs.FileSystem`` as a store; works in a forked child.

Weaker than the native engine where pyarrow has no means:
- ``put(mode="create")`` looks and then writes: two racing creators may both succeed
- an object that is overwritten between the two requests of a read (HEAD, GET) is not noticed: the bytes are of
  the new version, in the size of the old one; a read with an ``etag`` asks once more behind it, and notices
- a writer keeps the bytes aside (memory, then a temporary file) and sends them on ``close``, because
  pyarrow publishes what it has when it is left by an exception
- listings have no ETag and arrive whole
- pyarrow writes in place on local files, and on Azure makes an empty blob first: readers may see that meanwhile
- on Google a range that begins beyond 8 MiB holds up all threads until its first byte comes (``google``)
- deleting the last object of a directory leaves a directory marker, which listings leave out
"""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import functools
import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.fs as pafs

from s3dlio.concurrency import in_main_thread
from s3dlio.errors import ClosedError, StorageError
from s3dlio.storage.arguments import check_mode, check_range, check_size_hint, directory, payload, target
from s3dlio.storage.arrow.client import make_filesystem
from s3dlio.storage.arrow.errors import read_failure, translating_arrow
from s3dlio.storage.arrow.google import SKIPPED_BYTES, GoogleObject, open_object, version_of
from s3dlio.storage.arrow.read import read_into
from s3dlio.storage.configuration.container import Container
from s3dlio.storage.listing import batches, from_nanoseconds
from s3dlio.storage.protocol import ObjectMeta
from s3dlio.storage.requests.failure import Failure, storage_error
from s3dlio.storage.requests.fork_gate import passing
from s3dlio.storage.requests.inheritance import claim, lost
from s3dlio.storage.spool import SpoolSink
from s3dlio.storage.translate import changed, exists, past_end, replaced, short
from s3dlio.storage.writer import SinkWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from s3dlio.storage.configuration.options import StorageOptions
    from s3dlio.storage.protocol import BufferLike, ObjectWriter, PutMode
    from s3dlio.uri import Uri

__all__ = ["ArrowStore"]

_WINDOW_BYTES = 80 << 20
"""What is handed to pyarrow before it is waited for: its S3 client copies whatever is on its way, and takes all that it
is given. Eight parts of 10 MiB, as many as it sends at a time."""


class ArrowStore:
    """A directory of a pyarrow filesystem.

    Args:
        filesystem: any ``pyarrow.fs.FileSystem``. In a forked child a fresh copy takes its place, because
            connections must not be shared with the parent.
        container: bucket, container or directory in it, without a slash at the end; empty for the root, "/" for
            the root of a filesystem whose paths start with a slash.
        root: what URIs of this store start with; by default pyarrow's type name and the container.
    """

    atomic_create = False

    def __init__(self, filesystem: pafs.FileSystem, container: str, *, root: str | None = None) -> None:
        name = container.rstrip("/")
        shown = f"{filesystem.type_name}://{name}" if root is None else root.rstrip("/")
        self._container = Container(shown, name)
        self._base = f"{name}/" if name else container
        self._origin: tuple[Uri, StorageOptions] | None = None
        self._filesystem: Any = filesystem
        self._pid = os.getpid()

    @classmethod
    def of(cls, uri: Uri, options: StorageOptions) -> ArrowStore:
        """The store of ``uri``'s container, reached as ``options`` say.

        Raises:
            OptionError: pyarrow refuses the options.
        """
        with passing():
            store = cls(make_filesystem(uri, options), uri.container)
        store._container = Container.of(uri, options)
        store._origin = uri.with_key(""), options
        return store

    @property
    def filesystem(self) -> Any:
        """The pyarrow filesystem itself."""
        with passing():
            return self._usable("open", self.uri(""))

    def path(self, key: str) -> str:
        """``container/key``."""
        return self._base + key

    def uri(self, key: str) -> str:
        """``root/key``."""
        return self._container.uri(key)

    def head(self, key: str) -> ObjectMeta:
        """As ``Store.head``."""
        with self._opened("head", key, reading=False) as (_, meta):
            return meta

    def get(self, key: str) -> pa.Buffer:
        """As ``Store.get``. Two requests, on Google three."""
        with self._opened("get", key) as (file, meta):
            return self._read("get", key, file, 0, meta.size)

    def get_range(self, key: str, start: int, end: int, *, etag: str | None = None) -> pa.Buffer:
        """As ``Store.get_range``. Two requests, three with ``etag`` and on Google."""
        check_range(start, end, self.uri(key))
        with self._opened("get_range", key, start) as (file, meta):
            self._check_version("get_range", meta, start, end, etag)
            data = self._read("get_range", key, file, start, end)
        self._check_unchanged("get_range", key, etag)
        return data

    def get_clipped(self, key: str, start: int, end: int) -> tuple[ObjectMeta, pa.Buffer]:
        """As ``Store.get_clipped``. Two requests, or one where nothing lies at ``start``; on Google three."""
        check_range(start, end, self.uri(key))
        with self._opened("get", key, start) as (file, meta):
            return meta, self._read("get", key, file, start, max(start, min(end, meta.size)))

    def get_into(self, key: str, buffer: BufferLike, start: int = 0, *, etag: str | None = None) -> None:
        """As ``Store.get_into``. pyarrow writes into ``buffer`` itself."""
        uri = self.uri(key)
        view = target(buffer, uri)
        end = start + len(view)
        check_range(start, end, uri)
        with self._opened("get_into", key, start) as (file, meta):
            self._check_version("get_into", meta, start, end, etag)
            done = _read_into(file, view, start) if end > start else 0
            if done < len(view):
                raise short("get_into", uri, start, end, done)
        self._check_unchanged("get_into", key, etag)

    def put(self, key: str, data: BufferLike, *, mode: PutMode = "overwrite") -> ObjectMeta:
        """As ``Store.put``. One request up to 10 MiB, parts of 10 MiB above; one more for ``mode="create"``."""
        with self._verb("put", key, reading=False) as filesystem:
            check_mode(mode, self.uri(key))
            view = payload(data, "put", self.uri(key))
            if mode == "create" and filesystem.get_file_info(self.path(key)).is_file:
                raise exists("put", self.uri(key))
            self._send(filesystem, key, view)
            return ObjectMeta(key=key, size=view.size, etag=None, mtime=None)

    def open_writer(self, key: str, *, size_hint: int | None = None) -> ObjectWriter:
        """As ``Store.open_writer``. Sends nothing before ``close``."""
        return self.writer(key, self.put, size_hint=size_hint)

    def writer(
        self, key: str, put: Callable[[str, pa.Buffer], ObjectMeta], *, size_hint: int | None = None
    ) -> ObjectWriter:
        """As ``open_writer``, for a store on top of this one, whose ``put`` repeats what fails."""
        check_size_hint(size_hint, self.uri(key))
        with self._verb("open_writer", key, reading=False):
            return SinkWriter(self.uri(key), SpoolSink(self.uri(key), functools.partial(put, key)))

    def list(self, prefix: str = "") -> Iterator[pa.RecordBatch]:
        """As ``Store.list``. pyarrow gathers the whole listing before the first batch."""
        uri = self.uri(prefix)
        self._check_open("list", uri)
        return self._list(directory(prefix, uri))

    def delete(self, key: str) -> None:
        """As ``Store.delete``. Two or three requests."""
        with self._verb("delete", key, reading=False) as filesystem:
            try:
                filesystem.delete_file(self.path(key))
            except OSError as error:
                if read_failure(error).status != 404:
                    raise

    def copy(self, source: str, target: str) -> None:
        """As ``Store.copy``."""
        self._container.check(target, "copy", reading=False)
        with self._verb("copy", source) as filesystem:
            try:
                filesystem.copy_file(self.path(source), self.path(target))
            except FileNotFoundError:
                if self._flat(filesystem) or not filesystem.get_file_info(self.path(source)).is_file:
                    raise
                _make_parent(filesystem, self.path(target))
                filesystem.copy_file(self.path(source), self.path(target))

    def close(self) -> None:
        """Drop the filesystem; pyarrow closes its connections with it."""
        self._filesystem = None

    def _send(self, filesystem: Any, key: str, data: pa.Buffer) -> None:
        path = self.path(key)  # whose suffix would make pyarrow compress the bytes
        try:
            stream = filesystem.open_output_stream(path, compression=None)
        except FileNotFoundError:
            if self._flat(filesystem):
                raise
            _make_parent(filesystem, path)
            stream = filesystem.open_output_stream(path, compression=None)
        # No ``with``: closing publishes, so nothing of ours may fail in between. Ctrl-C can, in the main thread alone;
        # and on Azure a flush publishes.
        windows = filesystem.type_name == "s3" and not in_main_thread()
        step = _WINDOW_BYTES if windows else max(data.size, 1)
        for start in range(0, max(data.size, 1), step):
            if start:
                stream.flush()
            stream.write(data.slice(start, min(step, data.size - start)))
        stream.close()

    @staticmethod
    def _flat(filesystem: Any) -> bool:
        """Whether directories are not real, and what is missing can only be the bucket, which is not ours to make."""
        return filesystem.type_name == "gcs"

    def _read(self, operation: str, key: str, file: Any, start: int, end: int) -> pa.Buffer:
        if start == end:  # Google refuses to seek to the end
            return pa.py_buffer(b"")
        data = pa.allocate_buffer(end - start)
        done = _read_into(file, memoryview(data).cast("B"), start)
        if done < data.size:
            raise short(operation, self.uri(key), start, end, done)
        return pa.py_buffer(memoryview(data).toreadonly())

    def _check_version(self, operation: str, meta: ObjectMeta, start: int, end: int, etag: str | None) -> None:
        uri = self.uri(meta.key)
        if etag is not None and meta.etag != etag:
            raise changed(operation, uri, etag)
        if end > meta.size:
            raise past_end(operation, uri, start, end, meta.size)

    def _check_unchanged(self, operation: str, key: str, etag: str | None) -> None:
        """The object has its ``etag`` still: pyarrow cannot ask for it in the read itself."""
        if etag is None or (self._filesystem is not None and self._flat(self._filesystem)):
            return  # on Google a read is one of a version
        with self._opened(operation, key) as (_, meta):
            if meta.etag != etag:
                raise changed(operation, self.uri(key), etag)

    def _list(self, below: str) -> Iterator[pa.RecordBatch]:
        uri = self.uri(below)
        base = self.path(below).rstrip("/") or self._base
        with passing(), translating_arrow("list", uri, self._container):
            filesystem = self._usable("list", uri)
            try:
                found = filesystem.get_file_info(pafs.FileSelector(base, recursive=True, allow_not_found=True))
            except NotADirectoryError:
                return  # an object: nothing is below it
            if not found and self._container.name:
                # A missing container looks like an empty one.
                info = filesystem.get_file_info(self._container.name)
                if info.type == pafs.FileType.NotFound:
                    raise storage_error(Failure(code="NoSuchBucket"), "list", uri, self._container)
        skip = len(self.path(""))
        yield from batches(
            ObjectMeta(
                key=info.path[skip:],
                size=info.size,
                etag=None,
                mtime=None if info.mtime_ns is None else from_nanoseconds(info.mtime_ns),
            )
            for info in found
            if info.is_file and not info.path.endswith("/")
        )

    @contextlib.contextmanager
    def _opened(
        self, operation: str, key: str, start: int = 0, *, reading: bool = True
    ) -> Iterator[tuple[Any, ObjectMeta]]:
        """The object opened (one HEAD) and its metadata, to read from ``start`` on if at all."""
        with self._verb(operation, key) as filesystem:
            if self._flat(filesystem) and start <= SKIPPED_BYTES:
                with open_object(filesystem, self.path(key), reading=reading) as found:
                    if found is None:
                        raise replaced(operation, self.uri(key))
                    file, (size, etag, mtime) = found
                    yield file, ObjectMeta(key=key, size=size, etag=etag, mtime=mtime)
                return
            with filesystem.open_input_file(self.path(key)) as file:
                # Google's client reads the generation that the open saw, and fails where it has been replaced.
                if file.closed:
                    raise replaced(operation, self.uri(key))
                try:
                    yield file, self._meta(filesystem, key, file)
                except FileNotFoundError as error:
                    raise replaced(operation, self.uri(key)) from error

    def _meta(self, filesystem: Any, key: str, file: Any) -> ObjectMeta:
        said = file.metadata() or {}
        if self._flat(filesystem):
            size, etag, mtime = version_of(said)
            return ObjectMeta(key=key, size=size, etag=etag, mtime=mtime)
        etag, modified = said.get("ETag"), said.get("Last-Modified")
        if modified is not None:
            mtime = dt.datetime.fromisoformat(modified.decode())
        else:
            mtime = filesystem.get_file_info(self.path(key)).mtime
        return ObjectMeta(
            key=key, size=file.size(), etag=None if etag is None else etag.decode().strip('"'), mtime=mtime
        )

    @contextlib.contextmanager
    def _verb(self, operation: str, key: str, *, reading: bool = True) -> Iterator[Any]:
        """The filesystem, with the arguments checked and errors translated."""
        uri = self.uri(key)
        self._check_open(operation, uri)
        self._container.check(key, operation, reading=reading)
        with passing(), translating_arrow(operation, uri, self._container):
            yield self._usable(operation, uri)

    def _check_open(self, operation: str, uri: str) -> None:
        if self._filesystem is None:
            raise ClosedError(f"{operation} {uri}: the store is closed, expected an open one. Open it again.")

    def _usable(self, operation: str, uri: str) -> Any:
        """The filesystem, made anew in a forked child. Only called inside ``passing``."""
        filesystem = self._filesystem  # once: another thread may close the store
        if filesystem is None:
            self._check_open(operation, uri)
        if filesystem.type_name == "abfs":
            if lost("azure"):
                raise StorageError(
                    f"{operation} {uri}: pyarrow's Azure client was used before this process was forked, and its "
                    "connections cannot be shared, expected a fresh process. Start workers by 'spawn' or 'forkserver'.",
                    uri=uri,
                    operation=operation,
                    attempts=0,
                )
            claim("azure")
        elif filesystem.type_name == "s3" and lost("s3"):
            raise StorageError(
                f"{operation} {uri}: this process was forked while a request of pyarrow's S3 client hung, which holds "
                "its lock for ever, expected a fresh process. Start workers by 'spawn' or 'forkserver'.",
                uri=uri,
                operation=operation,
                attempts=0,
            )
        if self._pid != os.getpid():
            filesystem = make_filesystem(*self._origin) if self._origin else copy.copy(filesystem)
            self._filesystem = filesystem
            self._pid = os.getpid()
        return filesystem

    def __repr__(self) -> str:
        return f"ArrowStore({self._container.root!r})"

    def __reduce__(self) -> tuple[object, ...]:
        if self._origin is not None:
            return ArrowStore.of, self._origin
        return _restore, (self._filesystem, self._base, self._container)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _read_into(file: Any, view: memoryview, start: int) -> int:
    """Fill ``view`` from ``start`` on; how many bytes came."""
    return file.read_into(view, start) if isinstance(file, GoogleObject) else read_into(file, view, start)


def _make_parent(filesystem: Any, path: str) -> None:
    """Make the directory of ``path``, where directories are real."""
    filesystem.create_dir(path.rpartition("/")[0], recursive=True)


def _restore(filesystem: Any, base: str, container: Container) -> ArrowStore:
    return ArrowStore(filesystem, base, root=container.root)
