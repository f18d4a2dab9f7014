"""Feed training jobs from object storage on Arrow buffers, and save their state back to it."""

from s3dlio.checkpoint import (
    CheckpointInfo,
    CheckpointReader,
    CheckpointWriter,
    create_checkpoint_reader,
    create_checkpoint_writer,
)
from s3dlio.dataset import Dataset, Last, Manifest, dataset
from s3dlio.loader import DataLoader
from s3dlio.storage import StorageOptions, open_store

__all__ = [
    "CheckpointInfo",
    "CheckpointReader",
    "CheckpointWriter",
    "DataLoader",
    "Dataset",
    "Last",
    "Manifest",
    "StorageOptions",
    "create_checkpoint_reader",
    "create_checkpoint_writer",
    "dataset",
    "open_store",
]
