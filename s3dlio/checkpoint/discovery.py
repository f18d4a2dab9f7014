"""Which checkpoints there are, and reading the manifest of one.

Owns: what counts as committed (the manifest exists), and what is said when there is none. Must not know: arrays.

Guarantees:
- "there is none" is said only after a listing that succeeded
- a manifest that cannot be read, and every error of the store, is an error
- a URI that means one checkpoint and the root of others at once is an error, unless a step says which
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal

from s3dlio.checkpoint.layout import MANIFEST, StepDirectory, step_directory, step_number
from s3dlio.checkpoint.manifest import Manifest
from s3dlio.errors import CheckpointError, NotFoundError, OptionError
from s3dlio.storage import open_store
from s3dlio.storage.where import where_in

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from s3dlio.storage import StorageOptions, Store
    from s3dlio.uri import Uri

__all__ = ["find_checkpoint", "opened", "read_manifest", "steps"]


def steps(
    uri: str | os.PathLike[str] | Uri,
    *,
    storage_options: StorageOptions | Mapping[str, Any] | None = None,
    filesystem: object | None = None,
    store: Store | None = None,
) -> list[int]:
    """The committed steps below the root ``uri``, newest (highest) last; empty if there are none.

    A step counts when its manifest exists; the manifests are not read. Lists the whole root.

    Args:
        uri: the root that holds the directories ``step_0000000100``.
        storage_options: how to reach the store.
        filesystem: a pyarrow or fsspec filesystem, in which ``uri`` is then a path.
        store: an open store of the URI's container, instead; it stays open.

    Raises:
        StorageError: the listing failed.
    """
    root = where_in(uri, filesystem)
    with opened(uri, storage_options, store, filesystem) as at:
        return _committed(_below(at, root.prefix))


@contextlib.contextmanager
def opened(
    uri: str | os.PathLike[str] | Uri,
    storage_options: StorageOptions | Mapping[str, Any] | None,
    store: Store | None,
    filesystem: object | None,
) -> Iterator[Store]:
    """``store``, or one of our own that is closed afterwards."""
    if store is not None:
        yield store
        return
    with open_store(uri, storage_options=storage_options, filesystem=filesystem) as own:
        yield own


def find_checkpoint(store: Store, uri: Uri, step: int | Literal["latest"] | None) -> tuple[StepDirectory, Manifest]:
    """The checkpoint that a reader is to open. Arguments and errors as ``create_checkpoint_reader``."""
    if step is None or step == "latest":
        directory = step_directory(uri, None)
        found = None if step == "latest" and directory.step is None else read_manifest(store, directory)
        if found is not None and directory.step is not None:
            return directory, found
        paths = _below(store, directory.prefix)
        committed = _committed(paths) if directory.step is None else []
        if found is not None:
            if committed:
                raise CheckpointError(_ambiguous(store, directory, step_directory(uri, committed[-1])))
            return directory, found
        if not committed:
            raise CheckpointError(_nothing(str(uri), paths, "a committed checkpoint"))
        newest = step_directory(uri, committed[-1])
        return newest, _listed(store, newest)
    if isinstance(step, str):
        raise OptionError(f"checkpoint {uri}: got step {step!r}, expected a number, 'latest' or None.", field="step")
    directory = step_directory(uri, step)
    found = read_manifest(store, directory)
    if found is None:
        where = store.uri(directory.prefix)
        raise CheckpointError(_nothing(where, _below(store, directory.prefix), f"the checkpoint of step {step}"))
    return directory, found


def read_manifest(store: Store, directory: StepDirectory) -> Manifest | None:
    """The manifest of a directory, None if it does not exist.

    Raises:
        CheckpointError: it exists and is not a whole manifest of a known version.
        StorageError: it could not be read.
    """
    try:
        data = store.get(directory.manifest)
    except NotFoundError:
        return None
    return Manifest.parse(bytes(data), store.uri(directory.manifest))


def _listed(store: Store, directory: StepDirectory) -> Manifest:
    found = read_manifest(store, directory)
    if found is None:
        raise CheckpointError(
            f"load {store.uri(directory.manifest)}: the manifest was listed and is gone, expected a checkpoint. "
            "It was deleted meanwhile; open the reader again."
        )
    return found


def _below(store: Store, prefix: str) -> list[str]:
    """The paths of all objects below ``prefix``, relative to it."""
    return [key[len(prefix) :] for batch in store.list(prefix) for key in batch.column("key").to_pylist()]


def _committed(paths: list[str]) -> list[int]:
    found = (path.split("/") for path in paths)
    numbers = (step_number(parts[0]) for parts in found if len(parts) == 2 and parts[1] == MANIFEST)
    return sorted(number for number in numbers if number is not None)


def _ambiguous(store: Store, directory: StepDirectory, newest: StepDirectory) -> str:
    return (
        f"load {store.uri(directory.prefix)}: found a checkpoint without a step ({store.uri(directory.manifest)}) and "
        f"committed steps (the newest is {store.uri(newest.manifest)}), expected one or the other. "
        "Pass step=\"latest\" or a step's number, or the URI of a step's directory; to load the one without a step, "
        "copy its manifest and data to a directory of their own."
    )


def _nothing(where: str, paths: list[str], expected: str) -> str:
    if any("data" in path.split("/")[:2] for path in paths):
        found = f"{len(paths)} files were found, but it was never committed: there is no {MANIFEST}"
        return f"load {where}: {found}, expected {expected}. The save did not finish; load an earlier checkpoint."
    return f"load {where}: found no checkpoint, expected {expected}. Check the URI."
