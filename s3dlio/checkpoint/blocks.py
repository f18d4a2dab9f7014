"""Blocks: the unit in which files are read and checked.

Owns: cutting a file's bytes into blocks with a CRC32C each, and reading blocks back. A block never spans two
arrays, so an array is read and checked without its neighbours; neighbouring small blocks are read together.
Several requests are under way at a time. Must not know: manifests, dtypes.

Guarantee: bytes that were not checked are never given to the caller as data.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import google_crc32c
import numpy as np

from s3dlio.concurrency import ReadAhead
from s3dlio.errors import CheckpointError, NotFoundError, ShortReadError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from s3dlio.arrays import Array
    from s3dlio.storage.protocol import Store

__all__ = ["BLOCK_BYTES", "BlockRead", "Checksums", "pieces", "read_blocks", "read_runs"]

BLOCK_BYTES = 16 << 20
"""Largest block, bytes. Large enough that a request's latency is small beside its transfer, small enough that
a few in flight fill a network link."""

_READ_THREADS = 8
"""Most requests under way at a time."""

_READ_BUDGET_BYTES = 256 << 20
"""Most bytes of requests under way at a time; what is not read straight into its target waits in memory."""


class Checksums:
    """The blocks of one file while it is written."""

    def __init__(self) -> None:
        self.ends: list[int] = []
        """One past the last byte of each block; a block begins where the one before it ends."""
        self.crc32c: list[int] = []
        self._size = 0
        self._crc = 0

    def update(self, data: Array) -> None:
        """Take in the next bytes of the file, a contiguous uint8 array."""
        while data.size:
            part = data[: BLOCK_BYTES - (self._size - self._begin)]
            self._crc = google_crc32c.extend(self._crc, part)
            self._size += part.size
            data = data[part.size :]
            if self._size - self._begin == BLOCK_BYTES:
                self.cut()

    def cut(self) -> None:
        """End the block here, unless it is empty."""
        if self._size > self._begin:
            self.ends.append(self._size)
            self.crc32c.append(self._crc)
            self._crc = 0

    @property
    def _begin(self) -> int:
        return self.ends[-1] if self.ends else 0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class BlockRead:
    """One block to be read."""

    key: str
    index: int
    """Number of the block in its file."""
    begin: int
    end: int
    crc32c: int
    file_bytes: int
    """Size that the file should have."""
    arrays: tuple[str, ...]
    """Names of the arrays with bytes in it, for errors."""
    target: Array | None
    """Where to put the bytes: writable contiguous uint8 of the block's length; None only to check them."""


_COPIED_ITEMS = 1 << 16
"""Items gathered at a time from an array that is not contiguous: what is copied twice fits the cache."""


def pieces(array: Array) -> Iterator[Array]:
    """The bytes of ``array`` in C order and little-endian, as uint8 arrays of at most a block.

    A C-contiguous little-endian array is not copied; of any other, one block at a time is, and each piece is
    then valid until the next one is taken.
    """
    if array.size == 0:
        return
    little = array.dtype.newbyteorder("<")
    if array.flags.c_contiguous and array.dtype == little:
        flat = array.reshape(-1).view(np.uint8)
        yield from (flat[at : at + BLOCK_BYTES] for at in range(0, flat.size, BLOCK_BYTES))
        return
    # not np.nditer: before NumPy 2.3 its buffers hold garbage for a 0-d array of the other byte order
    items, step = array.flat, max(1, BLOCK_BYTES // array.itemsize)
    block = np.empty(min(step, array.size), little)
    for begin in range(0, array.size, step):
        end = min(begin + step, array.size)
        for at in range(begin, end, _COPIED_ITEMS):
            copied = items[at : min(at + _COPIED_ITEMS, end)]
            block[at - begin : at - begin + copied.size] = copied
        yield block[: end - begin].view(np.uint8)


def read_runs(reads: Iterable[BlockRead]) -> list[list[BlockRead]]:
    """The blocks grouped into requests: neighbours in a file together, up to the size of one block."""
    runs: list[list[BlockRead]] = []
    for read in sorted(reads, key=lambda read: (read.key, read.begin)):
        run = runs[-1] if runs else None
        if (
            run is not None
            and run[-1].key == read.key
            and run[-1].end == read.begin
            and read.end - run[0].begin <= BLOCK_BYTES
        ):
            run.append(read)
        else:
            runs.append([read])
    return runs


def read_blocks(store: Store, reads: Iterable[BlockRead]) -> None:
    """Fill the targets and check every block: the one place where a checkpoint's data are read.

    Where several requests are needed they are made side by side, on threads that live as long as this call. Of
    several errors the one of the lowest block is raised. After an error a request that was under way may still
    fill its target.

    Raises:
        CheckpointError: a file is missing, shorter than it should be, or a block has another checksum.
        StorageError: anything else that the store says.
    """
    runs = [_Run(store, run) for run in read_runs(reads)]
    threads = min(_READ_THREADS, len(runs))
    if threads <= 1:
        for run in runs:
            run.run(0)
        return
    with ReadAhead(
        iter(runs), threads=threads, budget=_READ_BUDGET_BYTES, max_groups=2 * threads, name="checkpoint"
    ) as ahead:
        for _ in ahead:  # each is checked and in its target when it comes out; errors come in the order of the blocks
            pass


class _Run:
    """One request as a group of read-ahead."""

    __slots__ = ("_blocks", "_store")

    def __init__(self, store: Store, blocks: list[BlockRead]) -> None:
        self._store = store
        self._blocks = blocks

    @property
    def cost(self) -> int:
        return self._blocks[-1].end - self._blocks[0].begin

    def __len__(self) -> int:
        return 1

    def run(self, task: int) -> None:  # noqa: ARG002  # there is one task, the request
        _read_run(self._store, self._blocks)


def _read_run(store: Store, run: list[BlockRead]) -> None:
    """One request: a lone block straight into its target, several through one buffer."""
    first, last = run[0], run[-1]
    try:
        if len(run) == 1 and first.target is not None:
            store.get_into(first.key, first.target, first.begin)
            _check(store, first, first.target)
            return
        buffer = store.get_range(first.key, first.begin, last.end)
    except NotFoundError as error:
        raise CheckpointError(
            f"load {_where(store, run)}: the file is missing, expected {first.file_bytes} bytes. "
            "Load another checkpoint, or put the file back."
        ) from error
    except ShortReadError as error:
        found = store.head(first.key).size
        if found == first.file_bytes:
            raise  # the file is whole: the transfer failed, and a retry may help
        raise CheckpointError(
            f"load {_where(store, run)}: the file has {found} bytes, expected {first.file_bytes}. "
            "It was truncated; load another checkpoint."
        ) from error
    data = np.frombuffer(buffer, np.uint8)
    for read in run:
        part = data[read.begin - first.begin : read.end - first.begin]
        _check(store, read, part)
        if read.target is not None:
            read.target[:] = part


def _check(store: Store, read: BlockRead, data: Array) -> None:
    found = google_crc32c.value(data)
    if found != read.crc32c:
        raise CheckpointError(
            f"load {_where(store, [read])}: CRC32C {found:#010x}, expected {read.crc32c:#010x}. "
            "The file was changed or damaged; load another checkpoint."
        )


def _where(store: Store, run: list[BlockRead]) -> str:
    names = list(dict.fromkeys(name for read in run for name in read.arrays))
    shown = ", ".join(repr(name) for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    blocks = str(run[0].index) if len(run) == 1 else f"{run[0].index}-{run[-1].index}"
    arrays = f"{shown} from " if shown else ""
    return f"{arrays}{store.uri(run[0].key)} at block {blocks} [{run[0].begin}, {run[-1].end})"
