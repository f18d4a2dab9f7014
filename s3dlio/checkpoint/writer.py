"""Writing a checkpoint: arrays, JSON values and trees, then one commit.

Owns: the names in a checkpoint and the writer's life: open, then committed or aborted. Must not know: frameworks.

Guarantees:
- nothing can be seen before ``finalize`` commits, and then everything
- a writer that failed to write something cannot commit
- the ``with`` statement commits when its block ends, and commits nothing when an exception ends it
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import uuid
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from s3dlio.checkpoint.blocks import Checksums
from s3dlio.checkpoint.commit import commit, remove, remove_replaced, replaced_files
from s3dlio.checkpoint.discovery import opened
from s3dlio.checkpoint.dtypes import as_array
from s3dlio.checkpoint.layout import piece_path, step_directory
from s3dlio.checkpoint.manifest import FORMAT, VERSION, sealed
from s3dlio.checkpoint.shards import CheckpointOptions, ShardWriter
from s3dlio.checkpoint.tree import split_tree
from s3dlio.checkpoint.values import json_value
from s3dlio.errors import CheckpointError, ClosedError, OptionError, S3dlioError
from s3dlio.storage.where import where_in

if TYPE_CHECKING:
    import os
    from collections.abc import Container, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from s3dlio.checkpoint.layout import StepDirectory
    from s3dlio.storage import StorageOptions, Store
    from s3dlio.uri import Uri

__all__ = ["CheckpointInfo", "CheckpointWriter", "create_checkpoint_writer"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointInfo:
    """A checkpoint that was committed."""

    uri: str
    """Its directory; ``create_checkpoint_reader`` opens it."""
    step: int | None
    """None where the directory's name says no step."""
    arrays: int
    """Number of arrays."""
    bytes: int
    """Of all arrays, without headers and manifest."""
    attempt: str
    """Unique id of this save."""


def create_checkpoint_writer(
    uri: str | os.PathLike[str] | Uri,
    *,
    step: int | None = None,
    rank: int = 0,
    world_size: int = 1,
    metadata: Mapping[str, Any] | None = None,
    options: CheckpointOptions | None = None,
    storage_options: StorageOptions | Mapping[str, Any] | None = None,
    filesystem: object | None = None,
    store: Store | None = None,
) -> CheckpointWriter:
    """Begin a checkpoint. No request is made and nothing can be seen before ``finalize``.

    Saving a step again replaces it at once when it commits; the files of the earlier one are then removed, so a
    reader that still has it open gets a CheckpointError.

    Args:
        uri: the directory of the checkpoint, or with ``step`` the root of steps: the checkpoint is then in
            ``<uri>/step_0000000100/``.
        step: 0 to 9,999,999,999.
        rank: of this process, 0 to ``world_size - 1``.
        world_size: number of processes that write the checkpoint together; only 1 is implemented.
        metadata: JSON values by name, which ``CheckpointReader.metadata`` gives back.
        options: sizes of files and of memory.
        storage_options: how to reach the store.
        filesystem: a pyarrow or fsspec filesystem, in which ``uri`` is then a path.
        store: an open store of the URI's container, instead of one that the writer opens; it stays open.

    Raises:
        OptionError: an illegal step, rank, world size or metadata.
    """
    where = where_in(uri, filesystem)
    directory = step_directory(where, step)
    if world_size != 1 or rank != 0:
        raise OptionError(
            f"create_checkpoint_writer {where}: got rank {rank} of {world_size}, expected rank 0 of 1. "
            "Gather the arrays to one process and save there.",
            field="world_size" if world_size != 1 else "rank",
        )
    try:
        described = json_value(dict(metadata or {}), f"create_checkpoint_writer {where}: metadata")
    except (CheckpointError, TypeError, ValueError) as error:
        raise OptionError(str(error), field="metadata") from error
    with contextlib.ExitStack() as stack:
        at = stack.enter_context(opened(uri, storage_options, store, filesystem))
        return CheckpointWriter(
            at, directory, metadata=described, options=options or CheckpointOptions(), closing=stack.pop_all()
        )


class CheckpointWriter:
    """A checkpoint being written; ``create_checkpoint_writer`` makes it.

    As a context manager it finalizes when the block ends, unless that was done, and aborts when an exception
    ends it. Not finalized and not aborted, it warns when it is collected: nothing was saved.

    Threads: for one at a time.

    Args:
        store: where to.
        directory: of the checkpoint.
        metadata: the user's, checked.
        options: sizes.
        closing: what to close at the end.
    """

    def __init__(
        self,
        store: Store,
        directory: StepDirectory,
        *,
        metadata: dict[str, Any],
        options: CheckpointOptions,
        closing: contextlib.ExitStack,
    ) -> None:
        self._info: CheckpointInfo | None = None
        self._aborted = False
        self._failure: BaseException | None = None
        self._manifest: dict[str, Any] | None = None
        """What ``finalize`` commits, once all files that it names are written; it never changes again."""
        self._commit_tried = False
        self._attempt = uuid.uuid4().hex
        self._store = store
        self._directory = directory
        self._metadata = metadata
        self._closing = closing
        self._uri = store.uri(directory.prefix)
        self._names: set[str] = set()
        self._bytes = 0
        self._piece_keys: list[str] = []
        self._objects: dict[str, Any] = {}
        self._trees: dict[str, Any] = {}
        self._shards = ShardWriter(store, directory, attempt=self._attempt, rank=0, options=options)

    @property
    def uri(self) -> str:
        """The directory of the checkpoint."""
        return self._uri

    def save_array(self, name: str, array: object) -> None:
        """Save one array; its memory may be changed when this returns.

        A small array is copied and waits in memory (``CheckpointOptions.buffer_bytes``), a large one is written
        before this returns. An array that is not C-contiguous, or big-endian, is converted block by block.

        Args:
            name: any text that is not empty, unique in the checkpoint.
            array: NumPy, or anything with the buffer protocol, ``__array__`` or DLPack on the CPU; of any shape,
                and any dtype of numbers (with ml_dtypes'), booleans, times and fixed-length bytes or text.

        Raises:
            CheckpointError: the name is taken or illegal, or the value is no such array; the writer can go on.
            StorageError: writing failed; the writer cannot commit any more.
        """
        self.save_arrays({name: array})

    def save_arrays(self, arrays: Mapping[str, object]) -> None:
        """Save several arrays at once: as ``save_array``, but those that do not fit in the buffer share files."""
        self._check_open("save_array")
        for name in arrays:
            self._check_name("save_array", name, self._names)
            if name == "__metadata__":
                raise CheckpointError("save_array '__metadata__': safetensors keeps this name, expected another.")
        seen = {name: as_array(value, name) for name, value in arrays.items()}
        with self._fatal():
            self._shards.add(seen)
        self._names.update(seen)
        self._bytes += sum(array.nbytes for array in seen.values())

    def save_object(self, name: str, value: object) -> None:
        """Save a JSON value in the same commit, e.g. ``writer.save_object("loader", loader.state_dict())``.

        It is copied, and kept in the manifest, so it should be small.

        Args:
            name: any text that is not empty, unique among the objects.
            value: dict with string keys, list, str, int, finite float, bool or None, nested.

        Raises:
            CheckpointError: the name is taken or illegal, or the value is no JSON; it names the place.
        """
        self._check_open("save_object")
        self._check_name("save_object", name, self._objects)
        self._objects[name] = json_value(value, f"save_object {name!r}")

    def save_tree(self, name: str, tree: object) -> None:
        """Save nested containers of arrays and scalars, e.g. ``writer.save_tree("model", state)``.

        The arrays are saved as ``<name>/<path>``, and can be loaded one by one under these names.

        Args:
            name: any text that is not empty, unique among the trees.
            tree: dict, OrderedDict, list and tuple, nested, with keys of type str or int. Leaves: arrays (NumPy
                scalars become 0-d arrays), None, bool, int, str, and float with NaN and infinities.

        Raises:
            CheckpointError: as ``save_array``, or a type that is not listed; it names the path.
            StorageError: writing failed; the writer cannot commit any more.
        """
        self._check_open("save_tree")
        self._check_name("save_tree", name, self._trees)
        skeleton, arrays = split_tree(name, tree)
        self.save_arrays(arrays)
        self._trees[name] = skeleton

    def finalize(self) -> CheckpointInfo:
        """Write what waits and commit. A second call returns the same result.

        Warns (RuntimeWarning) when it is committed but files of the one it replaces could not be removed.

        Raises:
            CheckpointError: nothing was saved, or an earlier write failed.
            StorageError: the store failed. The earlier checkpoint is untouched, unless the error's note says that
                this is not known. If it was the commit that failed, calling again tries it again.
        """
        if self._info is not None:
            return self._info
        self._check_open("finalize")
        if not (self._names or self._objects or self._trees):
            raise CheckpointError(f"finalize {self._uri}: nothing was saved, expected an array or an object at least.")
        with self._fatal():
            self._shards.flush()
        if self._manifest is None:
            self._manifest = self._with_piece(self._document())
        replaced = replaced_files(self._store, self._directory, self._manifest)
        self._commit_tried = True
        commit(self._store, self._directory, self._manifest)
        self._info = CheckpointInfo(
            uri=self._uri,
            step=self._directory.step,
            arrays=len(self._names),
            bytes=self._bytes,
            attempt=self._attempt,
        )
        try:  # from here on the checkpoint is committed, whatever becomes of the files it replaces
            remove_replaced(self._store, self._directory, replaced)
        finally:
            self._closing.close()
        return self._info

    def abort(self) -> None:
        """Commit nothing and remove the files written so far. Does nothing after ``finalize`` or a first ``abort``.

        Files stay when the commit was tried and failed: the store may still carry it out.

        Raises:
            StorageError: files could not be removed; no reader will ever see them.
        """
        if self._aborted or self._info is not None:
            return
        self._aborted = True
        failed = None
        if not self._commit_tried:
            failed = remove(self._store, [*self._shards.keys, *self._piece_keys])
        self._closing.close()
        if failed is not None:
            raise failed

    def _document(self) -> dict[str, Any]:
        """What the rank's piece and the manifest have in common."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "attempt": self._attempt,
            "step": self._directory.step,
            "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "world_size": 1,
            "entries": self._shards.entries,
            "files": self._shards.files,
        }

    def _with_piece(self, document: dict[str, Any]) -> dict[str, Any]:
        """Write the rank's piece; returns the manifest, which names it."""
        path = piece_path(self._attempt, 0)
        key = self._directory.key(path)
        piece = sealed({**document, "rank": 0})
        self._piece_keys = [key]
        self._store.put(key, piece)
        return {
            **document,
            "files": {**document["files"], path: _checked_file(piece)},
            "metadata": self._metadata,
            "objects": self._objects,
            "trees": self._trees,
        }

    def _check_open(self, operation: str) -> None:
        if self._aborted or self._info is not None:
            found = "aborted" if self._aborted else "finalized"
            raise ClosedError(f"{operation} {self._uri}: the writer is {found}, expected an open one. Create another.")
        if self._failure is not None:
            raise CheckpointError(
                f"{operation} {self._uri}: an earlier write failed ({self._failure}), expected none. Save again."
            ) from self._failure
        if self._manifest is not None and operation != "finalize":
            raise CheckpointError(
                f"{operation} {self._uri}: the commit was begun, expected only finalize() or abort(). Save earlier."
            )

    def _check_name(self, operation: str, name: object, taken: Container[str]) -> None:
        if not isinstance(name, str) or not name:
            raise CheckpointError(f"{operation} {name!r}: got no name, expected text that is not empty.")
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise CheckpointError(f"{operation} {name!r}: {error}, expected a name that UTF-8 can encode.") from error
        if name in taken:
            raise CheckpointError(f"{operation} {name!r}: the name is taken, expected one that is not.")

    @contextlib.contextmanager
    def _fatal(self) -> Iterator[None]:
        """What fails inside makes the writer unable to commit."""
        try:
            yield
        except BaseException as error:
            self._failure = error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and not self._aborted:
            try:
                self.finalize()
            except BaseException as failure:
                self._abandon(failure)
                raise
        elif error is not None:
            self._abandon(error)

    def _abandon(self, error: BaseException) -> None:
        """Abort while ``error`` is on its way to the user, which is the one to be seen."""
        try:
            self.abort()
        except S3dlioError as second:
            error.add_note(f"Files of the checkpoint that was not committed were left behind: {second}")

    def __del__(self) -> None:
        if getattr(self, "_info", self) is None and not self._aborted:
            warnings.warn(
                f"the checkpoint writer of {self._uri} was neither finalized nor aborted: nothing was saved.",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )


def _checked_file(data: bytes) -> dict[str, Any]:
    checksums = Checksums()
    checksums.update(np.frombuffer(data, np.uint8))
    checksums.cut()
    return {"size": len(data), "ends": checksums.ends, "crc32c": checksums.crc32c}
