"""Stores: one union of verbs over memory, local files, S3, Azure and Google objects."""

from s3dlio.storage.arrow import ArrowStore
from s3dlio.storage.local import LocalStore
from s3dlio.storage.memory import MemoryStore
from s3dlio.storage.native import NativeStore
from s3dlio.storage.open import open_store
from s3dlio.storage.options import StorageOptions
from s3dlio.storage.protocol import LIST_SCHEMA, BufferLike, ObjectMeta, ObjectWriter, PutMode, Store
from s3dlio.storage.remote import ForkWarning, RemoteStore

__all__ = [
    "LIST_SCHEMA",
    "ArrowStore",
    "BufferLike",
    "ForkWarning",
    "LocalStore",
    "MemoryStore",
    "NativeStore",
    "ObjectMeta",
    "ObjectWriter",
    "PutMode",
    "RemoteStore",
    "StorageOptions",
    "Store",
    "open_store",
]
