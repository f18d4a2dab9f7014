"""The manifest: which objects a dataset is made of, in a fixed order.

An Arrow table (key, size, etag), sorted by key, with a fingerprint of keys and sizes. It is made by one
listing, and saved as Arrow IPC, which processes on a machine map into memory together.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import pyarrow as pa

from s3dlio.errors import FormatError, NotFoundError, OptionError

if TYPE_CHECKING:
    import os

    from s3dlio.storage.protocol import Store

__all__ = ["Manifest"]

_SCHEMA = pa.schema(
    [
        pa.field("key", pa.large_string(), nullable=False),
        pa.field("size", pa.int64(), nullable=False),
        pa.field("etag", pa.large_string()),
    ]
)
_VERSION = b"1"
_HIDDEN = r"(^|/)[._]"
"""Names that start with "." or "_" are not data, nor is what is below such a directory: _SUCCESS, .crc,
_temporary/0/part. The convention of Hive and Spark, and the default of pyarrow.dataset."""


class Manifest:
    """The objects of a dataset, sorted by key.

    Args:
        table: columns key, size and etag, sorted by key; see ``from_listing`` and ``load``.
        root: the directory that the fingerprint leaves out of the keys, so that a copy of a dataset in
            another place has the same one. Empty, or ending in a slash.
    """

    __slots__ = ("_fingerprint", "_sizes", "root", "table")

    def __init__(self, table: pa.Table, *, root: str) -> None:
        self.table = table.combine_chunks()
        self.root = root
        self._fingerprint: str | None = None
        self._sizes = self.table["size"].to_numpy()  # asked for with every sample: a scalar of Arrow's costs 4 us

    @classmethod
    def from_listing(cls, store: Store, prefix: str, *, pattern: str | None = None) -> Manifest:
        """List the objects below ``prefix``, or take the one object of that name.

        One listing and no request an object. Objects whose name below the prefix, or
        that of a directory there, starts with "." or "_" are left out.

        Args:
            store: the container to list.
            prefix: a directory, with or without its final slash, or one object's key.
            pattern: regular expression that must be found in the key below the prefix.

        Raises:
            NotFoundError: nothing is there, or nothing that matches.
        """
        root = f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""
        batches = [batch.select(_SCHEMA.names).cast(_SCHEMA) for batch in store.list(root)]
        table = pa.Table.from_batches(batches, schema=_SCHEMA)
        listed = table.num_rows
        if listed == 0 and prefix and not prefix.endswith("/"):
            table, root = _single(store, prefix), prefix[: prefix.rfind("/") + 1]
            listed = table.num_rows
        import pyarrow.compute as pc  # noqa: PLC0415  # 30 ms that only a listing needs

        below = pc.utf8_slice_codeunits(table["key"], len(root))
        keep = pc.invert(pc.match_substring_regex(below, _HIDDEN))
        if pattern is not None:
            try:
                re.compile(pattern)
                keep = pc.and_(keep, pc.match_substring_regex(below, pattern))
            except (re.error, pa.ArrowInvalid) as error:
                raise OptionError(
                    f"pattern: got {pattern!r}, expected a regular expression: {error}.", field="pattern"
                ) from error
        table = table.filter(keep)
        if table.num_rows == 0:
            found = f"{listed} objects, none that match" if listed else "no objects"
            raise NotFoundError(
                f"list {store.uri(root or prefix)}: found {found}, expected at least one. "
                "Check the prefix, and that the data has been written.",
                uri=store.uri(root or prefix),
                operation="list",
            )
        return cls(table.sort_by("key"), root=root)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Manifest:
        """Map a saved manifest into memory; its pages are shared with every other process that does.

        Raises:
            FormatError: the file is not a manifest of this version.
        """
        with pa.memory_map(str(path)) as source:
            try:
                table = pa.ipc.open_file(source).read_all()
            except (pa.ArrowInvalid, OSError) as error:  # Arrow calls damaged metadata an I/O error
                raise FormatError(f"load manifest {path}: {error}, expected Arrow IPC.", uri=str(path)) from error
        metadata = table.schema.metadata or {}
        found = metadata.get(b"s3dlio.manifest")
        if found != _VERSION or b"s3dlio.root" not in metadata or not table.schema.equals(_SCHEMA):
            raise FormatError(
                f"load manifest {path}: version {found!r}, columns {table.schema.names}, expected version "
                f"{_VERSION!r}, columns {_SCHEMA.names}. Build it again.",
                uri=str(path),
            )
        return cls(table, root=metadata[b"s3dlio.root"].decode())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the manifest to a local file as Arrow IPC."""
        metadata = {b"s3dlio.manifest": _VERSION, b"s3dlio.root": self.root.encode()}
        table = self.table.replace_schema_metadata(metadata)
        with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)

    def __len__(self) -> int:
        return self.table.num_rows

    def key(self, index: int) -> str:
        """Key of object ``index``."""
        return self.table["key"][index].as_py()

    def size(self, index: int) -> int:
        """Bytes of object ``index`` when it was listed."""
        return int(self._sizes[index])

    def sizes(self) -> list[int]:
        """Bytes of every object, in order."""
        return self.table["size"].to_pylist()

    @property
    def fingerprint(self) -> str:
        """32 hex digits over keys below the root and sizes: the same data, in the same order.

        ETags are not in it: engines differ in what they list, and a copy has others.
        """
        if self._fingerprint is None:
            import pyarrow.compute as pc  # noqa: PLC0415  # 30 ms that only a listing needs

            below = pc.utf8_slice_codeunits(self.table["key"], len(self.root))
            digest = hashlib.blake2b(digest_size=16, person=b"s3dlio-manifest")
            for batch in pa.table({"key": below, "size": self.table["size"]}).to_batches(max_chunksize=1 << 16):
                lines = zip(batch["key"].to_pylist(), batch["size"].to_pylist(), strict=True)
                digest.update("".join(f"{size}\t{key}\n" for key, size in lines).encode())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def __repr__(self) -> str:
        return f"Manifest({len(self)} objects below {self.root!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.table, self.root, self._fingerprint)


def _single(store: Store, key: str) -> pa.Table:
    """One object as a table; none if there is no such object."""
    try:
        meta = store.head(key)
    except NotFoundError:
        return _SCHEMA.empty_table()
    return pa.table({"key": [meta.key], "size": [meta.size], "etag": [meta.etag]}, schema=_SCHEMA)


def _rebuild(table: pa.Table, root: str, fingerprint: str | None) -> Manifest:
    manifest = Manifest(table, root=root)
    manifest._fingerprint = fingerprint  # noqa: SLF001  # its own module
    return manifest
