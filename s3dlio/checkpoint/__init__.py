"""Checkpoints: arrays, JSON values and trees, saved as safetensors and committed by one manifest."""

from s3dlio.checkpoint.discovery import steps
from s3dlio.checkpoint.reader import CheckpointReader, create_checkpoint_reader
from s3dlio.checkpoint.shards import CheckpointOptions
from s3dlio.checkpoint.writer import CheckpointInfo, CheckpointWriter, create_checkpoint_writer

__all__ = [
    "CheckpointInfo",
    "CheckpointOptions",
    "CheckpointReader",
    "CheckpointWriter",
    "create_checkpoint_reader",
    "create_checkpoint_writer",
    "steps",
]
