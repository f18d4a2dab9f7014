"""The container that a remote engine works on: its address, its options, and what errors say of it.

Must not know: the engines' clients.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from s3dlio.errors import OptionError
from s3dlio.storage.arguments import check_key

if TYPE_CHECKING:
    from s3dlio.storage.options import StorageOptions
    from s3dlio.uri import Uri

__all__ = ["Container"]

_KIND = {"s3": "bucket", "gs": "bucket", "az": "container"}
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN",
    "az": "AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
}
_ENDPOINT = {"s3": "AWS_ENDPOINT_URL", "az": "AZURE_STORAGE_ENDPOINT", "gs": "STORAGE_EMULATOR_HOST"}


@dataclasses.dataclass(frozen=True, slots=True)
class Container:
    """One bucket or container at one endpoint.

    Args:
        root: URI without key and without a slash at the end, ``s3://bucket``.
        name: bucket or container.
        endpoint: URL for messages; empty for the provider's own.
    """

    root: str
    name: str
    endpoint: str = ""

    @classmethod
    def of(cls, uri: Uri, options: StorageOptions) -> Container:
        """The container of ``uri``."""
        return cls(str(uri.with_key("")).rstrip("/"), uri.container, options.endpoint_url or "")

    @property
    def scheme(self) -> str:
        """``s3``, ``az``, ``gs``, or pyarrow's own name for a filesystem that the user passed in."""
        scheme = self.root.partition(":")[0]
        return "az" if scheme == "abfss" else scheme

    @property
    def kind(self) -> str:
        """What the provider calls it."""
        return _KIND.get(self.scheme, "directory")

    @property
    def credentials(self) -> str:
        """The variables that hold the credentials."""
        return _CREDENTIALS.get(self.scheme, "the filesystem's credentials")

    @property
    def endpoint_variable(self) -> str:
        """The variable that holds the endpoint."""
        return _ENDPOINT.get(self.scheme, "the filesystem's endpoint")

    def uri(self, key: str) -> str:
        """The full URI of ``key``."""
        return f"{self.root}/{key}"

    def check(self, key: str, operation: str, *, reading: bool = True) -> str:
        """The URI of ``key``, which is one that an object can have here; errors as ``check_key``."""
        uri = self.uri(key)
        check_key(key, operation, uri, reading=reading)
        if self.scheme == "az" and "\\" in key:
            raise OptionError(
                f"{operation} {uri}: found a backslash in the key, expected none: Azure turns it into a slash. "
                "Rename the object.",
                field="key",
            )
        return uri
