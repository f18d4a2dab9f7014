"""An Azure connection string, as the portal shows it.

Owns: its format. Must not know: options, engines.
Source: Azure Storage documentation, "Configure Azure Storage connection strings".
"""

from __future__ import annotations

from urllib.parse import urlsplit

from s3dlio.errors import OptionError

__all__ = ["read_connection_string"]

_EMULATOR = {
    "account_name": "devstoreaccount1",
    # The emulator's own key, the same everywhere and public on purpose.
    "account_key": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "endpoint_url": "http://127.0.0.1:10000/devstoreaccount1",
}
_PUBLIC = "core.windows.net"


def read_connection_string(text: str) -> dict[str, str]:
    """The fields of ``StorageOptions`` that ``text`` sets.

    Raises:
        OptionError: it names neither an account nor an endpoint.
    """
    parts = {name.strip(): value for name, _, value in (part.partition("=") for part in text.split(";")) if value}
    if parts.get("UseDevelopmentStorage", "").lower() == "true":
        return dict(_EMULATOR)
    account, endpoint = parts.get("AccountName"), parts.get("BlobEndpoint")
    if account is None and endpoint is None:
        raise OptionError(
            "storage options: connection_string has neither AccountName nor BlobEndpoint, expected "
            "AccountName=...;AccountKey=...;BlobEndpoint=.... Copy it again from the portal.",
            field="connection_string",
        )
    if account is None and endpoint is not None:
        account = urlsplit(endpoint).netloc.partition(".")[0]
    suffix = parts.get("EndpointSuffix", _PUBLIC)
    if endpoint is None and suffix != _PUBLIC:  # a national cloud
        endpoint = f"{parts.get('DefaultEndpointsProtocol', 'https')}://{account}.blob.{suffix}"
    found = {
        "account_name": account,
        "account_key": parts.get("AccountKey"),
        "sas_token": parts.get("SharedAccessSignature"),
        "endpoint_url": endpoint and endpoint.rstrip("/"),
    }
    return {field: value for field, value in found.items() if value}
