"""obstore clients from options: every option name of obstore that s3dlio uses stands here.

Making a client sends nothing and does not start obstore's runtime.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import obstore.exceptions as foreign
from obstore.store import AzureStore, GCSStore, S3Store

from s3dlio.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3dlio.storage.options import StorageOptions
    from s3dlio.uri import Uri

__all__ = ["make_client"]

_NO_LIMIT = "365d"
"""obstore limits the whole of a request, by default to 30 s, which fails every large object on a slow line. What
should be limited is silence (``read_timeout``), but the other limit cannot be switched off."""


def make_client(uri: Uri, options: StorageOptions, *, retries: bool = True) -> Any:
    """The obstore store of ``uri``'s container.

    Args:
        uri: of the container.
        options: how to reach it.
        retries: whether obstore itself repeats failed requests. ``storage.remote`` does that for single verbs.

    Raises:
        OptionError: obstore refuses the options.
    """
    shared = {"client_options": _client_options(options), "retry_config": _retry_config(options, retries=retries)}
    try:
        return _CLIENTS[uri.scheme](uri, options, shared)
    except (foreign.BaseError, ValueError) as error:
        said = str(error).partition("\n")[0]
        raise OptionError(
            f"open {uri}: the native engine refused the options ({said}), expected usable ones. Check the endpoint.",
            field="endpoint_url",
        ) from error


def _s3(uri: Uri, options: StorageOptions, shared: dict[str, Any]) -> S3Store:
    # Everything is passed explicitly: obstore fills each gap from AWS_* variables of its own choice.
    virtual = options.addressing == "virtual" or (options.addressing is None and options.endpoint_url is None)
    config: dict[str, Any] = {
        "region": options.region or "us-east-1",
        "virtual_hosted_style_request": virtual,
        "skip_signature": options.anonymous,
    }
    if options.endpoint_url is not None:
        url = options.endpoint_url.rstrip("/")
        config["endpoint"] = _with_bucket(url, uri.container) if virtual else url
    if options.access_key_id and not options.anonymous:
        config["credential_provider"] = _static_credentials(options)
    return S3Store(uri.container, **config, **shared)


def _azure(uri: Uri, options: StorageOptions, shared: dict[str, Any]) -> AzureStore:
    config: dict[str, Any] = {"account_name": uri.account or options.account_name, "skip_signature": options.anonymous}
    if options.endpoint_url is not None:
        config["endpoint"] = options.endpoint_url.rstrip("/")
    if options.account_key and not options.anonymous:
        config["account_key"] = options.account_key
    elif options.sas_token and not options.anonymous:
        config["sas_key"] = options.sas_token.lstrip("?")
    return AzureStore(uri.container, **{name: value for name, value in config.items() if value is not None}, **shared)


def _google(uri: Uri, options: StorageOptions, shared: dict[str, Any]) -> GCSStore:
    config: dict[str, Any] = {"skip_signature": True} if options.anonymous else {}
    if options.endpoint_url is not None:
        config["base_url"] = options.endpoint_url.rstrip("/")
    return GCSStore(uri.container, **config, **shared)


_CLIENTS: dict[str, Callable[[Uri, StorageOptions, dict[str, Any]], Any]] = {"s3": _s3, "az": _azure, "gs": _google}


def _static_credentials(options: StorageOptions) -> Callable[[], dict[str, Any]]:
    """Credentials by a callback, which obstore calls once.

    Given as options they would be completed by an AWS_SESSION_TOKEN of the environment, which belongs to
    other keys; the server then refuses both.
    """
    credentials = {
        "access_key_id": options.access_key_id,
        "secret_access_key": options.secret_access_key,
        "token": options.session_token,
        "expires_at": None,
    }
    return lambda: credentials


def _with_bucket(url: str, bucket: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{bucket}.{parts.netloc}"))


def _client_options(options: StorageOptions) -> dict[str, Any]:
    allow_http = options.allow_http
    if allow_http is None:
        allow_http = (options.endpoint_url or "").startswith("http://")
    return {
        "allow_http": allow_http,
        "connect_timeout": f"{round(options.connect_timeout_s * 1000)}ms",
        "read_timeout": f"{round(options.read_timeout_s * 1000)}ms",
        "timeout": _NO_LIMIT,
    }


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
