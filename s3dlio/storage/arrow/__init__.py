"""``arrow``: any ``pyarrow.fs.FileSystem``, also one of the caller's own."""

from s3dlio.storage.arrow.store import ArrowStore

__all__ = ["ArrowStore"]
