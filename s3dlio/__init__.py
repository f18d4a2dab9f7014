"""Feed training jobs from object storage on Arrow buffers, and save their state back to it."""

import importlib
import importlib.util

# Where each name lives. It is loaded when it is first used, so that a command line or a worker pays only for what it
# uses: all of them take 0.1 s. `__init__.pyi` says the same to type checkers.
_NAMES_OF = {
    "checkpoint": (
        "CheckpointInfo",
        "CheckpointReader",
        "CheckpointWriter",
        "create_checkpoint_reader",
        "create_checkpoint_writer",
    ),
    "compat": (
        "create_async_loader",
        "create_async_loader_from_dataset",
        "create_dataset",
        "read_npz",
    ),
    "datasets": (
        "Dataset",
        "Last",
        "Manifest",
        "dataset",
    ),
    "loader": ("DataLoader",),
    "storage": (
        "Credentials",
        "ForkWarning",
        "ObjectBytes",
        "ObjectEntry",
        "RequestStatistics",
        "StorageOptions",
        "Store",
        "WriteResult",
        "create_bucket",
        "delete",
        "delete_bucket",
        "exists",
        "get",
        "get_buffer",
        "get_into",
        "get_range",
        "list",
        "list_buckets",
        "list_keys",
        "mkdir",
        "op_log",
        "open_store",
        "open_writer",
        "put_bytes",
        "read_op_log",
        "stat",
    ),
    "transfer": (
        "TransferProgress",
        "TransferResult",
        "copy",
        "download",
        "exists_async",
        "get_async",
        "get_many",
        "get_many_async",
        "open",
        "put",
        "put_bytes_async",
        "put_many",
        "put_many_async",
        "stat_async",
        "stat_many",
        "upload",
    ),
}
_HOME_OF = {name: home for home, names in _NAMES_OF.items() for name in names}

__all__ = [
    "CheckpointInfo",
    "CheckpointReader",
    "CheckpointWriter",
    "Credentials",
    "DataLoader",
    "Dataset",
    "ForkWarning",
    "Last",
    "Manifest",
    "ObjectBytes",
    "ObjectEntry",
    "RequestStatistics",
    "StorageOptions",
    "Store",
    "TransferProgress",
    "TransferResult",
    "WriteResult",
    "copy",
    "create_async_loader",
    "create_async_loader_from_dataset",
    "create_bucket",
    "create_checkpoint_reader",
    "create_checkpoint_writer",
    "create_dataset",
    "dataset",
    "delete",
    "delete_bucket",
    "download",
    "exists",
    "exists_async",
    "get",
    "get_async",
    "get_buffer",
    "get_into",
    "get_many",
    "get_many_async",
    "get_range",
    "list",
    "list_buckets",
    "list_keys",
    "mkdir",
    "op_log",
    "open",
    "open_store",
    "open_writer",
    "put",
    "put_bytes",
    "put_bytes_async",
    "put_many",
    "put_many_async",
    "read_npz",
    "read_op_log",
    "stat",
    "stat_async",
    "stat_many",
    "upload",
]


def __getattr__(name: str) -> object:
    """A public name, or a package such as ``s3dlio.errors``; loaded now and kept."""
    if name in _HOME_OF:
        value: object = getattr(importlib.import_module(f"s3dlio.{_HOME_OF[name]}"), name)
    elif name.isidentifier() and importlib.util.find_spec(f"s3dlio.{name}") is not None:
        value = importlib.import_module(f"s3dlio.{name}")
    else:
        raise AttributeError(f"module 's3dlio' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> tuple[str, ...]:
    return (*globals(), *__all__)
