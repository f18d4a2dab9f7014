"""An Azure connection string, as the portal shows it.

Owns: its format. Must not know: options, engines.
Source: Azure Storage documentation, "Configure Azure Storage connection strings".
"""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from s3dlio.errors import OptionError

__all__ = ["read_connection_string"]

_EMULATOR = {
    "account_name": "devstoreaccount1",
    # The emulator's own key, the same everywhere and public on purpose.
    "account_key": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "endpoint_url": "http://127.0.0.1:10000/devstoreaccount1",
}
_PUBLIC = "core.windows.net"


_NAMES = (
    "UseDevelopmentStorage", "DevelopmentStorageProxyUri", "AccountName", "AccountKey", "SharedAccessSignature",
    "BlobEndpoint", "EndpointSuffix", "DefaultEndpointsProtocol",
)  # fmt: skip
_BY_LOWER = {name.lower(): name for name in _NAMES}
"""Azure's own libraries do not tell capitals from small letters here."""


def read_connection_string(text: str) -> dict[str, str]:
    """The fields of ``StorageOptions`` that ``text`` sets.

    Raises:
        OptionError: it names neither an account nor an endpoint, or an emulator's proxy that is none.
    """
    pairs = [part.partition("=") for part in text.split(";")]
    parts = {_BY_LOWER.get(name.strip().lower(), ""): value.strip() for name, _, value in pairs if value.strip()}
    if parts.get("UseDevelopmentStorage", "").lower() == "true":
        return {**_EMULATOR, **_behind_a_proxy(parts.get("DevelopmentStorageProxyUri"))}
    account, endpoint = parts.get("AccountName"), parts.get("BlobEndpoint")
    if account is None and endpoint is None:
        raise OptionError(
            "storage options: connection_string has neither AccountName nor BlobEndpoint, expected "
            "AccountName=...;AccountKey=...;BlobEndpoint=.... Copy it again from the portal.",
            field="connection_string",
        )
    if account is None and endpoint is not None:
        # Of an emulator the account is in the path. What is no URL the options refuse, by the endpoint's name.
        _, _, url = endpoint.partition("://")
        host, _, path = url.partition("/")
        account = path.partition("/")[0] or host.partition(".")[0]
    suffix, protocol = parts.get("EndpointSuffix", _PUBLIC), parts.get("DefaultEndpointsProtocol", "https").lower()
    if endpoint is None and (suffix != _PUBLIC or protocol != "https"):  # a national cloud
        endpoint = f"{protocol}://{account}.blob.{suffix}"
    found = {
        "account_name": account,
        "account_key": parts.get("AccountKey"),
        "sas_token": parts.get("SharedAccessSignature"),
        "endpoint_url": endpoint and endpoint.rstrip("/"),
    }
    return {field: value for field, value in found.items() if value}


def _behind_a_proxy(url: str | None) -> dict[str, str]:
    """The emulator's endpoint on the machine that ``url`` names.

    Raises:
        OptionError: it names none.
    """
    if not url:
        return {}
    own = urlsplit(_EMULATOR["endpoint_url"])
    try:
        parts = urlsplit(url)
    except ValueError:  # not "from" it: it may quote a password
        parts = urlsplit("")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise OptionError(
            "connection string: DevelopmentStorageProxyUri is no URL of a server, expected http://host. "
            "Leave it out for an emulator on this machine.",
            field="connection_string",
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return {"endpoint_url": urlunsplit((parts.scheme, f"{host}:{own.port}", own.path, "", ""))}
