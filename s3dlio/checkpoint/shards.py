"""Shards: the safetensors files that hold the arrays.

Owns: which arrays go into which file, the header of a file, and the memory that waits to be written. Must not
know: steps, manifests, when a checkpoint is committed.

The header stands first and names every array of its file, so a file is written when all its arrays are known:
small arrays are copied and gathered, large ones are written at once, out of the caller's memory.

Guarantees: an array is copied or written when ``add`` returns; a file is recorded when it is whole in the store.
Source: https://github.com/huggingface/safetensors (Format).
"""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from s3dlio.checkpoint.blocks import Checksums, pieces
from s3dlio.checkpoint.dtypes import RAW, dtype_name, stored_name
from s3dlio.checkpoint.layout import shard_path
from s3dlio.errors import CheckpointError, OptionError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from s3dlio.arrays import Array
    from s3dlio.checkpoint.layout import StepDirectory
    from s3dlio.storage.protocol import Store

__all__ = ["CheckpointOptions", "ShardWriter", "cut_shards", "shard_header"]

_HEADER_BYTES = 32 << 20  # the safetensors library refuses headers above 100 MB
_ALIGNMENT = 64  # of the first array in a file, so that a memory map of it can be used as it is


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointOptions:
    """How a checkpoint is written.

    Raises:
        OptionError: a value below its least legal one.
    """

    shard_bytes: int = 1 << 30
    """Most bytes of arrays in a file, >= 1; one larger array is a file of its own. Larger files are fewer
    requests, smaller ones can be written and read side by side."""
    buffer_bytes: int = 256 << 20
    """Most bytes of small arrays that wait as copies in memory until a file is written, >= 0. Arrays that do not
    fit are written at once. Saved one by one, small arrays make files of this size."""

    def __post_init__(self) -> None:
        for name, least in (("shard_bytes", 1), ("buffer_bytes", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise OptionError(
                    f"CheckpointOptions.{name}: got {value!r}, expected a whole number >= {least}.", field=name
                )


class ShardWriter:
    """Writes arrays as files of one attempt. For one thread at a time.

    Args:
        store: where to.
        directory: of the step.
        attempt: unique id of this try.
        rank: who writes.
        options: sizes.
    """

    def __init__(
        self, store: Store, directory: StepDirectory, *, attempt: str, rank: int, options: CheckpointOptions
    ) -> None:
        self.files: dict[str, dict[str, Any]] = {}
        """Path -> size and checksums of each file, as in the manifest."""
        self.entries: dict[str, dict[str, Any]] = {}
        """Array -> dtype, shape and place of each array that is in a file, as in the manifest."""
        self.keys: list[str] = []
        """Every key that was written to, also of files that failed."""
        self._store = store
        self._directory = directory
        self._attempt = attempt
        self._rank = rank
        self._options = options
        self._waiting: dict[str, Array] = {}
        self._waiting_bytes = 0

    def add(self, arrays: dict[str, Array]) -> None:
        """Take in arrays of names not used before; the caller may change them when this returns.

        Raises:
            StorageError: a file could not be written; what this writer holds is then incomplete for good.
            CheckpointError: the store kept fewer bytes than were written.
        """
        size_bytes = sum(array.nbytes for array in arrays.values())
        if self._waiting_bytes + size_bytes > self._options.buffer_bytes:
            self._write({**self._waiting, **arrays})
            self._waiting, self._waiting_bytes = {}, 0
            return
        for name, array in arrays.items():
            self._waiting[name] = np.array(array, dtype=array.dtype.newbyteorder("<"), order="C", copy=True)
        self._waiting_bytes += size_bytes

    def flush(self) -> None:
        """Write the arrays that wait. Raises as ``add``."""
        self._write(self._waiting)
        self._waiting, self._waiting_bytes = {}, 0

    def _write(self, arrays: dict[str, Array]) -> None:
        start = 0
        names = list(arrays)
        for end in cut_shards([(name, arrays[name].nbytes) for name in names], self._options.shard_bytes):
            self._write_shard({name: arrays[name] for name in names[start:end]})
            start = end

    def _write_shard(self, arrays: dict[str, Array]) -> None:
        path = shard_path(self._attempt, self._rank, len(self.files))
        key = self._directory.key(path)
        self.keys.append(key)
        # Larger items first: each array then begins at a multiple of its item size without holes.
        ordered = dict(sorted(arrays.items(), key=lambda item: -(item[1].itemsize & -item[1].itemsize)))
        header = shard_header(ordered, attempt=self._attempt)
        checksums = Checksums()
        entries: dict[str, dict[str, Any]] = {}
        begin = len(header)
        with self._store.open_writer(key) as out:
            out.write(header)
            checksums.update(np.frombuffer(header, np.uint8))
            checksums.cut()
            for name, array in ordered.items():
                for piece in pieces(array):
                    out.write(piece)
                    checksums.update(piece)
                checksums.cut()
                entries[name] = _entry(array, path, begin)
                begin += array.nbytes
            written = out.close().size
        if written != begin:
            raise CheckpointError(
                f"save {self._store.uri(key)}: the store has {written} bytes, expected {begin}. Save the step again."
            )
        self.files[path] = {"size": begin, "ends": checksums.ends, "crc32c": checksums.crc32c}
        self.entries.update(entries)


def cut_shards(sizes: Sequence[tuple[str, int]], shard_bytes: int) -> Iterable[int]:
    """Where to cut a row of (name, bytes) into files: the index one past the last array of each file.

    A file has at most ``shard_bytes`` of arrays, or one array that is larger, and a header that every reader takes.
    """
    data, header = 0, 0
    for index, (name, size) in enumerate(sizes):
        line = 6 * len(name) + 512  # no shorter than its part of the header
        if index and (data + size > shard_bytes or header + line > _HEADER_BYTES) and header:
            yield index
            data, header = 0, 0
        data, header = data + size, header + line
    if sizes:
        yield len(sizes)


def shard_header(arrays: dict[str, Array], *, attempt: str) -> bytes:
    """The bytes of a safetensors file before its data: the length of the JSON, the JSON, spaces to a multiple of 64."""
    header: dict[str, Any] = {"__metadata__": {"writer": "s3dlio", "attempt": attempt}}
    begin = 0
    for name, array in arrays.items():
        stored = stored_name(_name(array))
        shape = list(array.shape) if stored != RAW or array.dtype == np.uint8 else [array.nbytes]
        header[name] = {"dtype": stored, "shape": shape, "data_offsets": [begin, begin + array.nbytes]}
        begin += array.nbytes
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _entry(array: Array, path: str, begin: int) -> dict[str, Any]:
    name = _name(array)
    return {
        "dtype": name,
        "stored": stored_name(name),
        "shape": list(array.shape),
        "chunks": [
            {
                "offset": [0] * array.ndim,
                "shape": list(array.shape),
                "file": path,
                "begin": begin,
                "end": begin + array.nbytes,
            }
        ],
    }


def _name(array: Array) -> str:
    name = dtype_name(array.dtype)
    assert name is not None, "as_array refused it"
    return name
