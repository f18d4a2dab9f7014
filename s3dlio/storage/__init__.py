"""Stores: one union of verbs over memory, local files and object servers; functions on single objects."""

from s3dlio.storage.arrow.store import ArrowStore
from s3dlio.storage.buckets import create_bucket, delete_bucket, list_buckets, mkdir
from s3dlio.storage.configuration.credentials import Credentials
from s3dlio.storage.configuration.options import StorageOptions
from s3dlio.storage.delete import delete
from s3dlio.storage.direct.io import DirectFallbackWarning
from s3dlio.storage.direct.store import DirectStore
from s3dlio.storage.local import LocalStore
from s3dlio.storage.memory import MemoryStore
from s3dlio.storage.native.store import NativeStore
from s3dlio.storage.objects import (
    ObjectBytes,
    ObjectEntry,
    exists,
    get,
    get_buffer,
    get_into,
    get_range,
    list,  # noqa: A004  # the names are a contract
    list_keys,
    put_bytes,
    stat,
)
from s3dlio.storage.open import open_store
from s3dlio.storage.operation_log.format import read_op_log
from s3dlio.storage.operation_log.log import op_log
from s3dlio.storage.protocol import (
    LIST_SCHEMA,
    BufferLike,
    ObjectMeta,
    ObjectWriter,
    PutMode,
    Store,
    WriteResult,
)
from s3dlio.storage.requests.policy import RequestStatistics
from s3dlio.storage.requests.remote import ForkWarning, RemoteStore
from s3dlio.storage.writing import open_writer

__all__ = [
    "LIST_SCHEMA",
    "ArrowStore",
    "BufferLike",
    "Credentials",
    "DirectFallbackWarning",
    "DirectStore",
    "ForkWarning",
    "LocalStore",
    "MemoryStore",
    "NativeStore",
    "ObjectBytes",
    "ObjectEntry",
    "ObjectMeta",
    "ObjectWriter",
    "PutMode",
    "RemoteStore",
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
]
