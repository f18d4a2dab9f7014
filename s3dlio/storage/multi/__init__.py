"""One store over several endpoints."""

from s3dlio.storage.multi.store import MultiEndpointStore

__all__ = ["MultiEndpointStore"]
