"""Checkpoints of torch state: ``state_dict()`` trees and the loader's position in one commit.

Translates tensors; layout, checksums and the commit are the core's. No pickle.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from s3dlio.checkpoint import SavedState, load_state, map_leaves, save_state
from s3dlio_torch.tensors import from_array, to_array

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
    """Save state and the loader's position in one atomic commit.

    Args:
        uri: the checkpoint's directory, or with ``step`` the root of steps.
        state: name -> what ``state_dict()`` gave: ``{"model": model.state_dict(), "optimizer": ...}``.
        loader: an ``s3dlio_torch.DataLoader``, an ``S3IterableDataset``, or what its ``state_dict()`` gave.
        step: number of the training step.
        metadata: JSON values.
        storage_options: how to reach the store.
        filesystem: a pyarrow or fsspec filesystem, in which ``uri`` is then a path.

    Raises:
        CheckpointError: a leaf that is no tensor, array, number, string or None; it names the path.
        StorageError: the store failed; nothing is committed, and earlier checkpoints are as they were.
    """
    trees = map_leaves(dict(state), lambda leaf: to_array(leaf) if isinstance(leaf, torch.Tensor) else leaf)
    return save_state(
        uri, trees, loader=loader, step=step, metadata=metadata, storage_options=storage_options, filesystem=filesystem
    )


def load_checkpoint(
    uri: str,
    *,
    step: int | Literal["latest"] | None = None,
    device: torch.device | str = "cpu",
    storage_options: StorageOptions | Mapping[str, Any] | None = None,
    filesystem: object | None = None,
) -> SavedState:
    """Load a checkpoint that any of the frameworks saved; ``trees`` holds tensors on ``device``.

    Args:
        uri: the checkpoint's directory, or a root of steps, of which the newest is taken.
        step: which step of a root.
        device: where tensors go.
        storage_options: how to reach the store.
        filesystem: a pyarrow or fsspec filesystem, in which ``uri`` is then a path.

    Raises:
        CheckpointError: there is no committed checkpoint, or it is damaged.
    """
    saved = load_state(uri, step=step, storage_options=storage_options, filesystem=filesystem)
    trees = map_leaves(saved.trees, lambda leaf: from_array(leaf).to(device) if isinstance(leaf, np.ndarray) else leaf)
    return dataclasses.replace(saved, trees=trees)
