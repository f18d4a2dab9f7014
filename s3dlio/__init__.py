"""Feed training jobs from object storage on Arrow buffers, and save their state back to it."""

from s3dlio.checkpoint import (
    CheckpointInfo,
    CheckpointReader,
    CheckpointWriter,
    create_checkpoint_reader,
    create_checkpoint_writer,
)
from s3dlio.compat import create_async_loader, create_async_loader_from_dataset, create_dataset
from s3dlio.dataset import Dataset, Last, Manifest, dataset
from s3dlio.loader import DataLoader
from s3dlio.storage import ForkWarning, StorageOptions, Store, open_store
from s3dlio.storage.objects import delete, exists, get, get_buffer, list, put_bytes, stat  # noqa: A004  # contract

__all__ = [
    "CheckpointInfo",
    "CheckpointReader",
    "CheckpointWriter",
    "DataLoader",
    "Dataset",
    "ForkWarning",
    "Last",
    "Manifest",
    "StorageOptions",
    "Store",
    "create_async_loader",
    "create_async_loader_from_dataset",
    "create_checkpoint_reader",
    "create_checkpoint_writer",
    "create_dataset",
    "dataset",
    "delete",
    "exists",
    "get",
    "get_buffer",
    "list",
    "open_store",
    "put_bytes",
    "stat",
]
