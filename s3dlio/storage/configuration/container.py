"""The container that a remote engine works on: its address, its options, and what errors say of it.

Must not know: the engines' clients.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

from s3dlio.errors import OptionError
from s3dlio.storage.arguments import check_key

if TYPE_CHECKING:
    from s3dlio.storage.configuration.options import StorageOptions
    from s3dlio.uri import Uri

__all__ = ["Container", "account_key_of", "account_of", "amazon_host", "ca_certificates"]

_KIND = {"s3": "bucket", "gs": "bucket", "az": "container", "http": "server", "https": "server"}
_CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN",
    "az": "AZURE_STORAGE_ACCOUNT and AZURE_STORAGE_KEY",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "http": "the URL: a presigned one expires",
    "https": "the URL: a presigned one expires",
}
_ENDPOINT = {
    "s3": "AWS_ENDPOINT_URL",
    "az": "AZURE_STORAGE_ENDPOINT",
    "gs": "STORAGE_EMULATOR_HOST",
    "http": "the URL",
    "https": "the URL",
}

_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")


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
        """The container of ``uri``.

        Raises:
            OptionError: the options name several endpoints: an engine would go to none of them.
        """
        if options.endpoint_urls:
            raise OptionError(
                f"open {uri}: got {len(options.endpoint_urls)} endpoints, expected one here. "
                "Open the store by s3dlio.open_store, which spreads requests over them.",
                field="endpoint_urls",
            )
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


def amazon_host(service: str, region: str) -> str:
    """The host of an AWS service in ``region``. China's regions have a domain of their own."""
    return f"{service}.{region}.amazonaws.com{'.cn' if region.startswith('cn-') else ''}"


def account_of(uri: Uri, options: StorageOptions) -> str:
    """The Azure storage account: the one in ``abfss://container@account...``, or the one in the options.

    Raises:
        OptionError: there is none, or there are two and the credentials belong to the other one.
    """
    account = uri.account or options.account_name
    if not account:
        raise OptionError(
            f"open {uri}: no storage account, expected account_name. Set AZURE_STORAGE_ACCOUNT, or write "
            "abfss://container@account.dfs.core.windows.net/.",
            field="account_name",
        )
    if options.account_name not in {None, account} and (options.account_key or options.sas_token):
        raise OptionError(
            f"open {uri}: the credentials are those of account {options.account_name!r}, expected those of "
            f"{account!r}. Pass account_key or sas_token for this account.",
            field="account_name",
        )
    return account


def account_key_of(uri: Uri, options: StorageOptions) -> str | None:
    """The Azure key to sign with; None for other or no credentials.

    Raises:
        OptionError: it is not base64. pyarrow 26 would end the whole process for that.
    """
    key = None if options.anonymous else options.account_key
    if key and _BASE64.fullmatch(key) is None:
        raise OptionError(
            f"open {uri}: account_key is not base64, expected the key as the portal shows it. Check AZURE_STORAGE_KEY.",
            field="account_key",
        )
    return key or None


def ca_certificates(uri: Uri, options: StorageOptions) -> bytes | None:
    """Content of the options' ``ca_bundle``; None without one.

    Raises:
        OptionError: it cannot be read, or holds no certificate.
    """
    if options.ca_bundle is None:
        return None
    try:
        content = Path(options.ca_bundle).read_bytes()
    except OSError as error:
        raise _bad_bundle(uri, options, f"cannot read it ({error.strerror})") from error
    if b"-----BEGIN CERTIFICATE-----" not in content and b"-----BEGIN TRUSTED CERTIFICATE-----" not in content:
        raise _bad_bundle(uri, options, "found no certificate in it")
    return content


def _bad_bundle(uri: Uri, options: StorageOptions, found: str) -> OptionError:
    return OptionError(
        f"open {uri}: ca_bundle {options.ca_bundle}: {found}, expected a file of PEM certificates. "
        "Check AWS_CA_BUNDLE.",
        field="ca_bundle",
    )
