"""``native``: S3, Azure and Google through obstore."""

from s3dlio.storage.native.store import NativeStore

__all__ = ["NativeStore"]
