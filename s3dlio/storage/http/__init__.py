"""``http://`` and ``https://``: objects of a web server, read-only."""

from s3dlio.storage.http.engine import RangeIgnoredWarning
from s3dlio.storage.http.store import HttpStore

__all__ = ["HttpStore", "RangeIgnoredWarning"]
