"""``direct://``: local files past the page cache."""

from s3dlio.storage.direct.io import DirectFallbackWarning
from s3dlio.storage.direct.store import DirectStore

__all__ = ["DirectFallbackWarning", "DirectStore"]
