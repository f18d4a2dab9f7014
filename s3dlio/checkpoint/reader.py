"""Reading a checkpoint: arrays, JSON values and trees by name, every byte checked.

Owns: turning names into reads and bytes into arrays. Must not know: frameworks, how blocks are fetched.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import difflib
import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from s3dlio.arrays import allocate
from s3dlio.checkpoint.blocks import BlockRead, read_blocks
from s3dlio.checkpoint.discovery import find_checkpoint, opened
from s3dlio.checkpoint.dtypes import named_dtype
from s3dlio.checkpoint.tree import join_tree, tree_arrays
from s3dlio.errors import CheckpointError, ClosedError, NotFoundError
from s3dlio.storage.where import where_in

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping
    from typing import Self

    from s3dlio.arrays import Array
    from s3dlio.checkpoint.layout import StepDirectory
    from s3dlio.checkpoint.manifest import Manifest
    from s3dlio.storage import StorageOptions, Store
    from s3dlio.uri import Uri

__all__ = ["CheckpointReader", "create_checkpoint_reader"]


def create_checkpoint_reader(
    uri: str | os.PathLike[str] | Uri,
    *,
    step: int | Literal["latest"] | None = None,
    storage_options: StorageOptions | Mapping[str, Any] | None = None,
    filesystem: object | None = None,
    store: Store | None = None,
) -> CheckpointReader:
    """Open a committed checkpoint. Reads its manifest, and lists ``uri`` unless it or ``step`` names the step.

    Args:
        uri: the directory of a checkpoint, or a root of steps.
        step: which one of a root; "latest" is the highest that is committed. None takes the checkpoint that is
            in ``uri`` itself, or "latest" if there is none; both at once are an error.
        storage_options: how to reach the store.
        filesystem: a pyarrow or fsspec filesystem, in which ``uri`` is then a path.
        store: an open store of the URI's container, instead of one that the reader opens; it stays open.

    Raises:
        CheckpointError: there is no committed checkpoint, or its manifest is damaged or of an unknown version;
            or ``step`` is None and ``uri`` holds both a checkpoint and committed steps. An older step is never
            taken in place of a damaged one.
        StorageError: the store failed; nothing is known of the checkpoint.
        OptionError: an illegal step.
    """
    where = where_in(uri, filesystem)
    with contextlib.ExitStack() as stack:
        at = stack.enter_context(opened(uri, storage_options, store, filesystem))
        directory, manifest = find_checkpoint(at, where, step)
        return CheckpointReader(at, directory, manifest, closing=stack.pop_all())


class CheckpointReader:
    """A committed checkpoint, open for reading; ``create_checkpoint_reader`` makes it.

    Threads: loads may run side by side.

    Args:
        store: where it is.
        directory: of the checkpoint.
        manifest: what it holds.
        closing: what to close at the end.
    """

    def __init__(
        self, store: Store, directory: StepDirectory, manifest: Manifest, *, closing: contextlib.ExitStack
    ) -> None:
        self._store = store
        self._directory = directory
        self._manifest = manifest
        self._closing = closing
        self._closed = False

    @property
    def uri(self) -> str:
        """The directory of the checkpoint."""
        return self._store.uri(self._directory.prefix)

    @property
    def step(self) -> int | None:
        """The step it was saved as; None where it was saved without one."""
        return self._manifest.document.get("step")

    @property
    def attempt(self) -> str:
        """Unique id of the save."""
        return str(self._manifest.document["attempt"])

    @property
    def metadata(self) -> dict[str, Any]:
        """``step``, ``created`` (ISO 8601, UTC), and the metadata that the writer was given, which win."""
        document = self._manifest.document
        ours = {"step": document.get("step"), "created": document.get("created")}
        return copy.deepcopy({**ours, **document["metadata"]})

    def names(self) -> list[str]:
        """The names of all arrays, sorted; those of trees too."""
        return sorted(self._manifest.entries)

    def objects(self) -> list[str]:
        """The names of all objects, sorted."""
        return sorted(self._manifest.document["objects"])

    def trees(self) -> list[str]:
        """The names of all trees, sorted."""
        return sorted(self._manifest.document["trees"])

    def load_array(self, name: str) -> Array:
        """One array, bit for bit as it was saved, in native byte order and C order.

        Returns: a writable array that the caller owns, in 64-byte aligned memory of Arrow's pool.

        Raises:
            CheckpointError: no such array, or its file is missing, truncated or damaged.
            MissingExtraError: its dtype needs ml_dtypes, which is not installed.
            StorageError: reading failed.
        """
        return self.load_arrays([name])[name]

    def load_arrays(self, names: Iterable[str] | None = None) -> dict[str, Array]:
        """Several arrays, all of them by default; small neighbours share a request. As ``load_array``."""
        self._check_open("load_array")
        wanted = list(self._manifest.entries if names is None else names)
        arrays: dict[str, Array] = {}
        reads: list[BlockRead] = []
        for name in dict.fromkeys(wanted):
            arrays[name], blocks = self._planned(name)
            reads += blocks
        read_blocks(self._store, reads)
        return arrays

    def load_object(self, name: str) -> Any:
        """The JSON value saved under this name; a copy of the caller's own.

        Raises:
            CheckpointError: there is no such object.
        """
        self._check_open("load_object")
        return copy.deepcopy(self._found("load_object", name, self._manifest.document["objects"]))

    def load_tree(self, name: str) -> Any:
        """The nested containers saved under this name, with NumPy arrays where arrays were.

        Raises:
            CheckpointError: there is no such tree, or as ``load_array``.
            MissingExtraError: a dtype needs ml_dtypes, which is not installed.
            StorageError: reading failed.
        """
        self._check_open("load_tree")
        skeleton = self._found("load_tree", name, self._manifest.document["trees"])
        return join_tree(skeleton, self.load_arrays(tree_arrays(skeleton)))

    def verify(self) -> None:
        """Read every file of the checkpoint and check every byte, without keeping any.

        Raises:
            CheckpointError: a file is missing, truncated, longer than it was, or damaged.
            StorageError: reading failed.
        """
        self._check_open("verify")
        owners = {
            (entry.file, read.begin): name
            for name, entry in self._manifest.entries.items()
            for read in self._blocks(name, None)
        }
        for path, file in self._manifest.files.items():
            key = self._directory.key(path)
            self._check_size(key, file.size)
            reads = file.reads(key, 0, file.size, (), None)
            named = ((read, owners.get((path, read.begin))) for read in reads)
            read_blocks(
                self._store, [dataclasses.replace(read, arrays=(name,) if name else ()) for read, name in named]
            )

    def close(self) -> None:
        """Give up the store, if the reader opened it. Idempotent; loads raise ClosedError afterwards."""
        self._closed = True
        self._closing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _planned(self, name: str) -> tuple[Array, list[BlockRead]]:
        """Memory for an array, and the reads that fill it."""
        entry = self._found("load_array", name, self._manifest.entries)
        dtype = named_dtype(entry.dtype)
        if math.prod(entry.shape) * dtype.itemsize != entry.end - entry.begin:
            raise CheckpointError(
                f"load_array {name!r} from {self.uri}: shape {entry.shape} of {dtype} in {entry.end - entry.begin} "
                "bytes, expected as many bytes as the shape has. What wrote it is not s3dlio; load another checkpoint."
            )
        array = allocate(entry.shape, dtype)
        return array, self._blocks(name, array.reshape(-1).view(np.uint8) if array.size else None)

    def _blocks(self, name: str, target: Array | None) -> list[BlockRead]:
        entry = self._manifest.entries[name]
        key = self._directory.key(entry.file)
        return self._manifest.files[entry.file].reads(key, entry.begin, entry.end, (name,), target)

    def _check_size(self, key: str, size: int) -> None:
        try:
            found = self._store.head(key).size
        except NotFoundError as error:
            raise CheckpointError(
                f"verify {self._store.uri(key)}: the file is missing, expected {size} bytes. Load another checkpoint."
            ) from error
        if found != size:
            raise CheckpointError(
                f"verify {self._store.uri(key)}: the file has {found} bytes, expected {size}. Load another checkpoint."
            )

    def _found(self, operation: str, name: str, among: Mapping[str, Any]) -> Any:
        if name not in among:
            near = difflib.get_close_matches(name, among, n=3) or sorted(among)[:3]
            expected = ", ".join(repr(known) for known in near) or "nothing: it has none"
            raise CheckpointError(
                f"{operation} {name!r} from {self.uri}: no such name, expected one of {len(among)}, e.g. {expected}."
            )
        return among[name]

    def _check_open(self, operation: str) -> None:
        if self._closed:
            raise ClosedError(f"{operation} from {self.uri}: the reader is closed, expected an open one. Open another.")
