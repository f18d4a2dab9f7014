"""Checkpoints of JAX state: pytrees and the iterator's position in one commit.

Translates pytrees; layout, checksums and the commit are the core's. No pickle.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

from s3dlio.checkpoint import SavedState, load_state, save_state
from s3dlio.errors import CheckpointError
from s3dlio_jax.trees import to_arrays, to_target

if TYPE_CHECKING:
    from collections.abc import Mapping

    from s3dlio.checkpoint import CheckpointInfo, Stateful
    from s3dlio.storage import StorageOptions

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(
    uri: str,
    state: Mapping[str, Any],
    *,
    loader: Stateful | Mapping[str, Any] | None = None,
    step: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    storage_options: StorageOptions | Mapping[str, Any] | None = None,
    filesystem: object | None = None,
) -> CheckpointInfo:
    """Save pytrees and the iterator's position in one atomic commit.

    Args:
        uri: the checkpoint's directory, or with ``step`` the root of steps.
        state: name -> pytree: ``{"params": params, "optimizer": opt_state, "key": key}``. Registered nodes
            such as those of optax and flax are saved as dicts of their children.
        loader: a ``ShardedIterator``, or what its ``state_dict()`` gave.
        step: number of the training step.
        metadata: JSON values.
        storage_options: how to reach the store.
        filesystem: a pyarrow or fsspec filesystem, in which ``uri`` is then a path.

    Raises:
        CheckpointError: a leaf that is no array, number, string or None, or an array whose parts are in other
            processes; it names the path.
        StorageError: the store failed; nothing is committed, and earlier checkpoints are as they were.
    """
    trees = {name: to_arrays(tree, name) for name, tree in state.items()}
    return save_state(
        uri, trees, loader=loader, step=step, metadata=metadata, storage_options=storage_options, filesystem=filesystem
    )


def load_checkpoint(
    uri: str,
    *,
    step: int | Literal["latest"] | None = None,
    target: Mapping[str, Any] | None = None,
    storage_options: StorageOptions | Mapping[str, Any] | None = None,
    filesystem: object | None = None,
) -> SavedState:
    """Load a checkpoint that any of the frameworks saved.

    Args:
        uri: the checkpoint's directory, or a root of steps, of which the newest is taken.
        step: which step of a root.
        target: name -> pytree like the one that was saved, e.g. one just initialised, or of
            ``jax.ShapeDtypeStruct``. The trees come back in its structure, with arrays in its shardings. Trees
            that it does not name are left out. Without it they come back as nested dicts, lists and tuples of
            NumPy arrays.
        storage_options: how to reach the store.
        filesystem: a pyarrow or fsspec filesystem, in which ``uri`` is then a path.

    Raises:
        CheckpointError: there is no committed checkpoint, it is damaged, or unlike ``target``; the last names
            the path.
    """
    saved = load_state(uri, step=step, storage_options=storage_options, filesystem=filesystem)
    if target is None:
        return saved
    missing = sorted(set(target) - set(saved.trees))
    if missing:
        raise CheckpointError(
            f"load_checkpoint {uri}: found {', '.join(sorted(saved.trees)) or 'no trees'}, expected "
            f"{', '.join(missing)} too. Name in target what was saved."
        )
    trees = {name: to_target(saved.trees[name], tree, name) for name, tree in target.items()}
    return dataclasses.replace(saved, trees=trees)
