"""A training job's state as one commit: trees of arrays, the loader's position, and what the user adds.

Owns: the names under which a job's parts are saved, the same ones for every framework, so that one opens what
another wrote. Must not know: frameworks; their adapters turn tensors into arrays and back.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from s3dlio.checkpoint.reader import create_checkpoint_reader
from s3dlio.checkpoint.writer import CheckpointInfo, create_checkpoint_writer
from s3dlio.errors import OptionError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from s3dlio.storage import StorageOptions
    from s3dlio.uri import Uri

__all__ = ["SavedState", "Stateful", "load_state", "map_leaves", "save_state"]

_LOADER = "loader"


@runtime_checkable
class Stateful(Protocol):
    """What has a position: ``s3dlio.DataLoader`` and the loaders of the adapters."""

    def state_dict(self) -> dict[str, Any]:
        """The position as JSON."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SavedState:
    """What a checkpoint holds."""

    trees: dict[str, Any]
    """Name -> nested dicts, lists and tuples of arrays and numbers, as they were saved."""
    loader: dict[str, Any] | None
    """The loader's position, for ``load_state_dict``; None if none was saved."""
    step: int | None
    """The step that was saved; None where the directory's name says no step."""
    metadata: dict[str, Any]
    """What was given as ``metadata``, and ``step`` and ``created`` besides."""


def save_state(
    uri: str | os.PathLike[str] | Uri,
    trees: Mapping[str, Any],
    *,
    loader: Stateful | Mapping[str, Any] | None = None,
    step: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    storage_options: StorageOptions | Mapping[str, Any] | None = None,
    filesystem: object | None = None,
) -> CheckpointInfo:
    """Save trees of arrays and the loader's position in one atomic commit.

    Args:
        uri: the checkpoint's directory, or with ``step`` the root of steps.
        trees: name -> tree, e.g. ``{"model": {...}, "optimizer": {...}}``; see ``CheckpointWriter.save_tree``.
        loader: a loader, or what its ``state_dict()`` gave.
        step: number of the training step.
        metadata: JSON values.
        storage_options: how to reach the store.
        filesystem: a pyarrow or fsspec filesystem, in which ``uri`` is then a path.

    Raises:
        OptionError: ``loader`` has no ``state_dict()`` and is no mapping either.
        CheckpointError: a leaf that cannot be saved.
        StorageError: the store failed; nothing is committed, and earlier checkpoints are as they were.
    """
    if loader is not None and not isinstance(loader, (Stateful, Mapping)):
        raise OptionError(
            f"save_state {uri}: loader is a {type(loader).__module__}.{type(loader).__qualname__}, expected one with "
            "state_dict(), or what that gave. Pass s3dlio's loader, or leave it out: this one cannot say its position.",
            field="loader",
        )
    with create_checkpoint_writer(
        uri, step=step, metadata=metadata, storage_options=storage_options, filesystem=filesystem
    ) as writer:
        for name, tree in trees.items():
            writer.save_tree(name, tree)
        if loader is not None:
            writer.save_object(_LOADER, loader.state_dict() if isinstance(loader, Stateful) else dict(loader))
        return writer.finalize()


def load_state(
    uri: str | os.PathLike[str] | Uri,
    *,
    step: int | Literal["latest"] | None = None,
    storage_options: StorageOptions | Mapping[str, Any] | None = None,
    filesystem: object | None = None,
) -> SavedState:
    """Load what ``save_state`` saved, in any framework. Arrays are NumPy's, writable, and checked.

    Args:
        uri: the checkpoint's directory, or a root of steps, of which the newest is taken.
        step: which step of a root.
        storage_options: how to reach the store.
        filesystem: a pyarrow or fsspec filesystem, in which ``uri`` is then a path.

    Raises:
        CheckpointError: there is no committed checkpoint, or it is damaged.
        StorageError: the store failed; nothing is known of the checkpoint.
    """
    with create_checkpoint_reader(uri, step=step, storage_options=storage_options, filesystem=filesystem) as reader:
        return SavedState(
            trees={name: reader.load_tree(name) for name in reader.trees()},
            loader=reader.load_object(_LOADER) if _LOADER in reader.objects() else None,
            step=reader.step,
            metadata=reader.metadata,
        )


def map_leaves(tree: Any, change: Callable[[Any], Any]) -> Any:
    """A copy of nested dicts, lists and tuples with ``change`` applied to everything else."""
    if isinstance(tree, OrderedDict):
        return OrderedDict((key, map_leaves(value, change)) for key, value in tree.items())
    if isinstance(tree, dict):
        return {key: map_leaves(value, change) for key, value in tree.items()}
    if isinstance(tree, list):
        return [map_leaves(value, change) for value in tree]
    if isinstance(tree, tuple):
        return tuple(map_leaves(value, change) for value in tree)
    return change(tree)
