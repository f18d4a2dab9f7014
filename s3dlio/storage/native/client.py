"""obstore clients from options: every option name of obstore that s3dlio uses stands here.

Making a client sends nothing and does not start obstore's runtime. obstore fills each option that it is not given
from variables of its own choice, so every one that the environment could turn is given.
"""

from __future__ import annotations

import datetime as dt
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import obstore.exceptions as foreign
from obstore.store import AzureStore, GCSStore, S3Store

from s3dlio.errors import OptionError
from s3dlio.storage.configuration.container import account_key_of, account_of, amazon_host, ca_certificates
from s3dlio.storage.configuration.credentials import expiring, fetch_early, known, may_wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3dlio.storage.configuration.options import StorageOptions
    from s3dlio.uri import Uri

__all__ = ["make_client"]

_NO_LIMIT = "365d"
"""obstore limits the whole of a request, by default to 30 s, which fails every large object on a slow line. What
should be limited is silence (``read_timeout``), but the other limit cannot be switched off."""

_CHECKSUM = "SHA256"
"""Every server that knows checksums knows this one, and it costs nothing: the signature needs the same sum."""


def make_client(uri: Uri, options: StorageOptions, *, retries: bool = True) -> Any:
    """The obstore store of ``uri``'s container.

    Args:
        uri: of the container.
        options: how to reach it. Its ``credential_provider`` is called by obstore, before the first request.
        retries: whether obstore itself repeats failed requests. ``storage.requests.remote`` does that for single verbs.

    Raises:
        OptionError: a file that the options name cannot be used, or obstore refuses them.
    """
    shared = {
        "client_options": _client_options(uri, options),
        "retry_config": _retry_config(options, retries=retries),
    }
    try:
        return _CLIENTS[uri.scheme](uri, options, shared)
    except (foreign.BaseError, ValueError) as error:
        if isinstance(error, OptionError):
            raise
        said = str(error).partition("\n")[0]
        # Of Google nothing else is left to refuse: the endpoint is a URL by now, and the file is read here.
        file = options.service_account_file if uri.scheme == "gs" and not options.anonymous else None
        check = f"the Google credentials {file}, or read them with backend='arrow'" if file else "the endpoint"
        raise OptionError(
            f"open {uri}: the native engine refused the options ({said}), expected usable ones. Check {check}.",
            field="service_account_file" if file else "endpoint_url",
        ) from error


def _s3(uri: Uri, options: StorageOptions, shared: dict[str, Any]) -> S3Store:
    region = options.region or "us-east-1"
    virtual = options.addressing == "virtual" or (
        # A dot in the name would be a level of the host's name for which AWS has no certificate.
        options.addressing is None and options.endpoint_url is None and "." not in uri.container
    )
    url = options.endpoint_url or f"https://{amazon_host('s3', region)}"
    url = _with_bucket(url, uri.container) if virtual else url.rstrip("/")
    config: dict[str, Any] = {
        "region": region,
        "virtual_hosted_style_request": virtual,
        "skip_signature": options.anonymous,
        "endpoint": url,
        "aws_endpoint_url_s3": url,  # otherwise a variable of this name would win over "endpoint"
    }
    if options.request_checksum == "when_supported" or (
        options.request_checksum is None and options.endpoint_url is None
    ):
        config["checksum_algorithm"] = _CHECKSUM
    if not options.anonymous and (options.access_key_id or options.credential_provider):
        config["credential_provider"] = _Renewing(uri, options)
    return S3Store(uri.container, **config, **shared)


def _azure(uri: Uri, options: StorageOptions, shared: dict[str, Any]) -> AzureStore:
    account = account_of(uri, options)
    config: dict[str, Any] = {
        "account_name": account,
        "skip_signature": options.anonymous,
        "use_emulator": False,
        "endpoint": (options.endpoint_url or f"https://{account}.blob.core.windows.net").rstrip("/"),
    }
    if key := account_key_of(uri, options):
        config |= {"account_key": key, "credential_type": "access_key"}
    elif options.sas_token and not options.anonymous:
        config |= {"sas_key": options.sas_token.lstrip("?"), "credential_type": "sas_token"}
    return AzureStore(uri.container, **config, **shared)


def _google(uri: Uri, options: StorageOptions, shared: dict[str, Any]) -> GCSStore:
    url = (options.endpoint_url or "https://storage.googleapis.com").rstrip("/")
    config: dict[str, Any] = {"skip_signature": options.anonymous, "base_url": url}
    if options.anonymous:
        # obstore signs what writes or deletes nevertheless, and would ask the machine for a token.
        config["credential_provider"] = lambda: {"token": "anonymous", "expires_at": None}
    elif options.service_account_file is not None:
        config |= _google_credentials(uri, options.service_account_file)
    return GCSStore(uri.container, **config, **shared)


_CLIENTS: dict[str, Callable[[Uri, StorageOptions, dict[str, Any]], Any]] = {"s3": _s3, "az": _azure, "gs": _google}


def _google_credentials(uri: Uri, file: str) -> dict[str, str]:
    """``file`` under the name that obstore wants for what is in it."""
    try:
        kind = json.loads(Path(file).read_text(encoding="utf-8")).get("type")
    except (OSError, ValueError, AttributeError) as error:
        raise OptionError(
            f"open {uri}: cannot read the Google credentials {file} ({type(error).__name__}), expected a JSON file. "
            "Check GOOGLE_APPLICATION_CREDENTIALS.",
            field="service_account_file",
        ) from error
    return {"service_account" if kind == "service_account" else "application_credentials": file}


class _Renewing:
    """What obstore calls for credentials: before the first request, and when those it has are about to expire.

    By a callback also where they never do: given as options they would be completed by an AWS_SESSION_TOKEN of the
    environment, which belongs to other keys; the server then refuses both.
    """

    def __init__(self, uri: Uri, options: StorageOptions) -> None:
        self._uri = uri
        self._options = options
        self._last = known(options)
        self._in_vain_at = float("-inf")

    def __call__(self) -> dict[str, Any]:
        provider = self._options.credential_provider
        last = self._last
        if provider is not None and (
            last is None or (expiring(last.expires_at) and not may_wait(last.expires_at, self._in_vain_at))
        ):
            found = fetch_early(self._uri, provider, last)
            if found == last:
                self._in_vain_at = time.monotonic()
            self._last = last = found
        if last is None:
            raise OptionError(
                f"get credentials for {self._uri}: the provider has none, expected some. Mend credential_provider.",
                field="credential_provider",
            )
        return {
            "access_key_id": last.access_key_id,
            "secret_access_key": last.secret_access_key,
            "token": last.session_token,
            "expires_at": last.expires_at if provider is not None else None,
        }


def _with_bucket(url: str, bucket: str) -> str:
    parts = urlsplit(url.rstrip("/"))
    return urlunsplit(parts._replace(netloc=f"{bucket}.{parts.netloc}"))


def _client_options(uri: Uri, options: StorageOptions) -> dict[str, Any]:
    allow_http = options.allow_http
    if allow_http is None:
        allow_http = (options.endpoint_url or "").startswith("http://")
    config = {
        "allow_http": allow_http,
        "connect_timeout": f"{round(options.connect_timeout_s * 1000)}ms",
        "read_timeout": f"{round(options.read_timeout_s * 1000)}ms",
        "timeout": _NO_LIMIT,
    }
    certificates = ca_certificates(uri, options)
    if certificates is not None:
        config["root_certificate"] = certificates
    return config


def _retry_config(options: StorageOptions, *, retries: bool) -> dict[str, Any]:
    return {
        "max_retries": options.max_attempts - 1 if retries else 0,
        "retry_timeout": dt.timedelta(seconds=options.retry_deadline_s),
        "backoff": {
            "init_backoff": dt.timedelta(milliseconds=100),
            "max_backoff": dt.timedelta(seconds=2),
            "base": 2,
        },
    }
