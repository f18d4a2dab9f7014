"""Any store as a ``pyarrow.fs`` filesystem, so that Parquet and ``pyarrow.dataset`` work on it.

Owns: the handler that maps files and directories to keys and prefixes. Must not know: which store.

Directories are prefixes: making one does nothing, a prefix with objects is one. A file that is left by an
exception is published as far as it was written, because pyarrow closes it; ``Store.open_writer`` aborts.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.fs as pafs

from s3dlio.errors import NotFoundError

if TYPE_CHECKING:
    from s3dlio.storage.protocol import ObjectMeta, ObjectWriter, Store

__all__ = ["StoreHandler", "store_filesystem"]


def store_filesystem(store: Store) -> pafs.PyFileSystem:
    """A ``pyarrow.fs.PyFileSystem`` whose paths are keys of ``store``."""
    return pafs.PyFileSystem(StoreHandler(store))


class StoreHandler(pafs.FileSystemHandler):  # type: ignore[misc] # pyarrow ships no types
    """What ``pyarrow.fs.PyFileSystem`` asks of a filesystem, by a store's verbs."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __eq__(self, other: object) -> bool:
        # Not by the URI alone: it does not say at which endpoint, and pyarrow copies inside of what is equal.
        return isinstance(other, StoreHandler) and (
            other._store is self._store or other._store.__reduce__() == self._store.__reduce__()
        )

    def __hash__(self) -> int:
        return hash(self._store.uri(""))

    def get_type_name(self) -> str:
        """How pyarrow names the filesystem in messages."""
        return "s3dlio"

    def normalize_path(self, path: str) -> str:
        """The key: pyarrow joins and strips slashes, keys have none at the ends."""
        return path.strip("/")

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        """One head a path, and one listing where there is no object."""
        return [self._info(path) for path in paths]

    def get_file_info_selector(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        """Everything below ``selector.base_dir``, by one listing."""
        base = self.normalize_path(selector.base_dir)
        root = f"{base}/" if base else ""
        found: dict[str, pafs.FileInfo] = {}
        for batch in self._store.list(base):
            for row in batch.to_pylist():
                parts = row["key"][len(root) :].split("/")
                for depth in range(1, len(parts)):
                    directory = root + "/".join(parts[:depth])
                    found.setdefault(directory, pafs.FileInfo(directory, pafs.FileType.Directory))
                found[row["key"]] = pafs.FileInfo(row["key"], pafs.FileType.File, size=row["size"], mtime=row["mtime"])
        if not found and base and not selector.allow_not_found:
            raise FileNotFoundError(f"list {self._store.uri(base)}: nothing below this prefix, expected objects.")
        if selector.recursive:
            return list(found.values())
        return [info for path, info in found.items() if "/" not in path[len(root) :]]

    def create_dir(self, path: str, recursive: bool) -> None:
        """Nothing: a prefix needs no making."""

    def delete_dir(self, path: str) -> None:
        """Delete every object below ``path``."""
        for batch in self._store.list(self.normalize_path(path)):
            for key in batch.column("key").to_pylist():
                self._store.delete(key)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:  # noqa: ARG002 - pyarrow's
        """As ``delete_dir``: a prefix without objects is gone."""
        self.delete_dir(path)

    def delete_root_dir_contents(self) -> None:
        """Delete every object of the container."""
        self.delete_dir("")

    def delete_file(self, path: str) -> None:
        """Delete one object, which must exist."""
        key = self.normalize_path(path)
        self._store.head(key)
        self._store.delete(key)

    def move(self, src: str, dest: str) -> None:
        """Copy and delete: not atomic. Onto itself it does nothing."""
        source, target = self.normalize_path(src), self.normalize_path(dest)
        if source == target:
            self._store.head(source)
            return
        self._store.copy(source, target)
        self._store.delete(source)

    def copy_file(self, src: str, dest: str) -> None:
        """A copy by the store."""
        self._store.copy(self.normalize_path(src), self.normalize_path(dest))

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """The object read from the start."""
        return self.open_input_file(path)

    def open_input_file(self, path: str) -> pa.NativeFile:
        """The object with random access: one head, then one range a read."""
        meta = self._store.head(self.normalize_path(path))
        return pa.PythonFile(_RangeReader(self._store, meta), mode="r")

    def open_output_stream(self, path: str, metadata: object) -> pa.NativeFile:  # noqa: ARG002 - pyarrow's
        """A new object, published on close."""
        return pa.PythonFile(_WriterFile(self._store.open_writer(self.normalize_path(path))), mode="w")

    def open_append_stream(self, path: str, metadata: object) -> pa.NativeFile:
        """Objects cannot be appended to."""
        raise NotImplementedError(f"append {self._store.uri(path)}: objects are written whole. Write a new one.")

    def _info(self, path: str) -> pafs.FileInfo:
        key = self.normalize_path(path)
        if not key:
            return pafs.FileInfo(path, pafs.FileType.Directory)
        try:
            meta = self._store.head(key)
        except NotFoundError:
            below = next(iter(self._store.list(key)), None)
            kind = pafs.FileType.NotFound if below is None else pafs.FileType.Directory
            return pafs.FileInfo(path, kind)
        return pafs.FileInfo(path, pafs.FileType.File, size=meta.size, mtime=meta.mtime)


class _RangeReader(io.RawIOBase):
    """An object as a seekable file; every read is one range of the version that was opened."""

    def __init__(self, store: Store, meta: ObjectMeta) -> None:
        super().__init__()
        self._store = store
        self._meta = meta
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._meta.size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def read(self, size: int | None = -1) -> bytes:
        return bytes(memoryview(self.read_buffer(size)))

    def read_buffer(self, size: int | None = -1) -> pa.Buffer:
        """The next ``size`` bytes, without the copy of ``read``; pyarrow looks for this name."""
        start = min(self._position, self._meta.size)
        end = self._meta.size if size is None or size < 0 else min(start + size, self._meta.size)
        data = self._store.get_range(self._meta.key, start, end, etag=self._meta.etag)
        self._position = end
        return data

    def readall(self) -> bytes:
        return self.read()

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = memoryview(self.read_buffer(len(view))).cast("B")
        view[: len(data)] = data
        return len(data)


class _WriterFile(io.RawIOBase):
    """An object writer as a file."""

    def __init__(self, writer: ObjectWriter) -> None:
        super().__init__()
        self._writer = writer
        self._position = 0
        self._failed = False
        self._pid = os.getpid()

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        try:
            count = self._writer.write(data)
        except BaseException:
            self._failed = True  # the writer has dropped everything
            raise
        self._position += count
        return count

    def close(self) -> None:
        if self.closed:
            return
        try:
            # What failed has been reported, and what a forked child inherited is not its own to publish.
            if not self._failed and self._pid == os.getpid():
                self._writer.close()
        finally:
            super().close()
