"""Committing a checkpoint: one put of the manifest, and what is done around it.

Owns: the put of the manifest, and finding and removing what it replaces; the writer calls ``replaced_files``,
``commit`` and ``remove_replaced`` in this order. Must not know: arrays.

Guarantees:
- before the put, the previous checkpoint of the directory is whole; after it, the new one is
- files of the previous attempt are removed only after the put, files of others never
- an attempt that commits again never takes its own files for those of the previous one
- a put whose outcome is unknown is settled by reading the manifest back
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from s3dlio.checkpoint.discovery import read_manifest
from s3dlio.checkpoint.manifest import sealed
from s3dlio.errors import CheckpointError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from s3dlio.checkpoint.layout import StepDirectory
    from s3dlio.storage.protocol import Store

__all__ = ["commit", "remove", "remove_replaced", "replaced_files"]


def commit(store: Store, directory: StepDirectory, document: dict[str, Any]) -> None:
    """Make ``document`` the manifest of the directory.

    Raises:
        StorageError: the manifest was not written, or it is not known whether it was (the error has a note).
    """
    data = sealed(document)
    try:
        store.put(directory.manifest, data)
    except StorageError as error:
        if not _holds(store, directory, data, error):
            raise


def replaced_files(store: Store, directory: StepDirectory, document: dict[str, Any]) -> list[str]:
    """Paths of the files that nothing needs any more once ``document`` is committed. One request.

    None if there is no checkpoint, or none that can be trusted, or it is of the document's own attempt: its commit
    took place though its writer was told otherwise.

    Raises:
        StorageError: the present manifest could not be read.
    """
    try:
        present = read_manifest(store, directory)
    except CheckpointError:
        return []  # damaged, or of a later version: what it names is not ours to remove
    if present is None or present.document["attempt"] == document["attempt"]:
        return []
    own = f"data/{present.document['attempt']}/"
    return [path for path in present.files if path.startswith(own)]


def remove_replaced(store: Store, directory: StepDirectory, paths: Iterable[str]) -> None:
    """Remove the files that a commit has replaced; where the store does not allow it, warns."""
    failed = remove(store, (directory.key(path) for path in paths))
    if failed is not None:
        warnings.warn(
            f"save {store.uri(directory.prefix)}: committed, but files of the checkpoint it replaces could not be "
            f"removed ({failed}). They are never read; delete them when the store allows it.",
            RuntimeWarning,
            stacklevel=3,
        )


def remove(store: Store, keys: Iterable[str]) -> StorageError | None:
    """Delete the objects, all that can be; returns the first error."""
    first: StorageError | None = None
    for key in keys:
        try:
            store.delete(key)
        except StorageError as error:
            first = first or error
    return first


def _holds(store: Store, directory: StepDirectory, data: bytes, error: StorageError) -> bool:
    """Whether the manifest in the store is ``data``, after the put of it ended in ``error``."""
    try:
        present = store.get(directory.manifest)
    except StorageError as second:
        error.add_note(f"Whether the checkpoint was committed is not known: {second}")
        return False
    return bytes(present) == data
