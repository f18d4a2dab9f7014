"""Checkpoints of TensorFlow state: trees of tensors and variables, and the loader's position, in one commit.

Translates tensors; layout, checksums and the commit are the core's. No pickle.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import tensorflow as tf

from s3dlio.checkpoint import SavedState, load_state, map_leaves, save_state
from s3dlio.errors import OptionError
from s3dlio_tf.tensors import to_array

if TYPE_CHECKING:
    from s3dlio.checkpoint import CheckpointInfo
    from s3dlio.storage import StorageOptions

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(
    uri: str,
    state: Mapping[str, Any],
    *,
    loader: Mapping[str, Any] | None = None,
    step: int | None = None,
    metadata: Mapping[str, Any] | None = None,
    storage_options: StorageOptions | Mapping[str, Any] | None = None,
    filesystem: object | None = None,
) -> CheckpointInfo:
    """Save state and the loader's position in one atomic commit.

    Args:
        uri: the checkpoint's directory, or with ``step`` the root of steps.
        state: name -> nested dicts, lists and tuples of tensors, variables and numbers, such as
            ``{"model": model.get_state_tree()}``.
        loader: what ``dataset.loader.state_dict(batches=...)`` gave, for the batches that were trained.
        step: number of the training step.
        metadata: JSON values.
        storage_options: how to reach the store.
        filesystem: a pyarrow or fsspec filesystem, in which ``uri`` is then a path.

    Raises:
        OptionError: ``loader`` is a loader, which tf.data has read ahead of the training.
        CheckpointError: a leaf that is no tensor, variable, array, number, string or None; it names the path.
        StorageError: the store failed; nothing is committed, and earlier checkpoints are as they were.
    """
    if not isinstance(loader, Mapping | None):
        raise OptionError(
            f"save {uri}: loader is a {type(loader).__name__}, which tf.data has read ahead of the training, expected "
            "a position. Pass dataset.loader.state_dict(batches=trained).",
            field="loader",
        )
    trees = map_leaves(dict(state), to_array)
    return save_state(
        uri, trees, loader=loader, step=step, metadata=metadata, storage_options=storage_options, filesystem=filesystem
    )


def load_checkpoint(
    uri: str,
    *,
    step: int | Literal["latest"] | None = None,
    storage_options: StorageOptions | Mapping[str, Any] | None = None,
    filesystem: object | None = None,
) -> SavedState:
    """Load a checkpoint that any of the frameworks saved; ``trees`` holds tensors.

    Args:
        uri: the checkpoint's directory, or a root of steps, of which the newest is taken.
        step: which step of a root.
        storage_options: how to reach the store.
        filesystem: a pyarrow or fsspec filesystem, in which ``uri`` is then a path.

    Raises:
        CheckpointError: there is no committed checkpoint, or it is damaged.
    """
    saved = load_state(uri, step=step, storage_options=storage_options, filesystem=filesystem)
    trees = map_leaves(saved.trees, lambda leaf: tf.constant(leaf) if isinstance(leaf, np.ndarray) else leaf)
    return dataclasses.replace(saved, trees=trees)
