"""Checkpoints: arrays, JSON values and trees, saved as safetensors and committed by one manifest."""

from s3dlio.checkpoint.discovery import steps
from s3dlio.checkpoint.reader import CheckpointReader, create_checkpoint_reader
from s3dlio.checkpoint.shards import CheckpointOptions
from s3dlio.checkpoint.state import SavedState, Stateful, load_state, map_leaves, save_state
from s3dlio.checkpoint.writer import CheckpointInfo, CheckpointWriter, create_checkpoint_writer

__all__ = [
    "CheckpointInfo",
    "CheckpointOptions",
    "CheckpointReader",
    "CheckpointWriter",
    "SavedState",
    "Stateful",
    "create_checkpoint_reader",
    "create_checkpoint_writer",
    "load_state",
    "map_leaves",
    "save_state",
    "steps",
]
