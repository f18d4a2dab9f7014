"""Drop-ins for other libraries' names. They translate; nothing below this floor knows of them."""

from s3dlio.compat.npz import read_npz
from s3dlio.compat.rust_s3dlio import (
    PyBytesAsyncDataLoader,
    PyDataset,
    create_async_loader,
    create_async_loader_from_dataset,
    create_dataset,
)

__all__ = [
    "PyBytesAsyncDataLoader",
    "PyDataset",
    "create_async_loader",
    "create_async_loader_from_dataset",
    "create_dataset",
    "read_npz",
]
