"""pyarrow filesystems from options: every option name of pyarrow.fs that s3dlio uses stands here.

A filesystem has max(``pyarrow.io_thread_count()``, 25) connections, fixed when it is made. s3dlio does
not change that count, which is the whole process's: call ``pyarrow.set_io_thread_count`` first for more.

The keys of temporary credentials are fixed, too: ``requests.remote`` makes a new filesystem when they are renewed.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from s3dlio.concurrency import Lock
from s3dlio.errors import MissingExtraError, OptionError, S3dlioError
from s3dlio.storage.configuration.container import account_key_of, account_of, amazon_host, ca_certificates
from s3dlio.storage.configuration.credentials import in_use
from s3dlio.storage.requests.fork_gate import passing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3dlio.storage.configuration.options import StorageOptions
    from s3dlio.uri import Uri

__all__ = ["make_filesystem"]

_BUCKET_ATTEMPTS = 3
"""Requests that the SDK makes for a bucket. For objects it makes one: ``requests.remote`` repeats those, under the
same rules as the native engine's. (The SDK knows no deadline: six attempts took up to 24 s where nobody listened.)"""

_GOOGLE_RETRY = dt.timedelta(milliseconds=10)
"""For how long Google's client repeats a request; 15 minutes by default, and 0 makes none at all. It looks before the
first request, and after a failed one, which a pause of 1 to 2 s follows if time is left. So this is longer than a busy
machine takes to begin, and shorter than servers take to answer: a failure is told at once."""

_PROXIES = ("http_proxy", "https_proxy", "all_proxy")

_patching = Lock()
# Module-level because a process has one environment. Only taken inside the fork gate, so no child inherits it taken.


def make_filesystem(uri: Uri, options: StorageOptions, *, buckets: bool = False) -> Any:
    """The pyarrow filesystem on which ``uri``'s container is a top directory.

    Args:
        uri: of the container.
        options: how to reach it.
        buckets: whether it may make and remove S3 buckets as if they were directories.

    Raises:
        OptionError: pyarrow refuses the options.
    """
    try:
        return _FILESYSTEMS[uri.scheme](uri, options, buckets)
    except S3dlioError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        said = str(error).partition("\n")[0]
        raise OptionError(
            f"open {uri}: the arrow engine refused the options ({said}), expected usable ones. Check the endpoint.",
            field="endpoint_url",
        ) from error


def _s3(uri: Uri, options: StorageOptions, buckets: bool) -> Any:
    region = options.region or "us-east-1"
    config: dict[str, Any] = {
        "region": region,
        "anonymous": options.anonymous,
        "connect_timeout": options.connect_timeout_s,
        "request_timeout": options.read_timeout_s,
        "retry_strategy": pafs.AwsStandardS3RetryStrategy(max_attempts=_BUCKET_ATTEMPTS if buckets else 1),
        "force_virtual_addressing": options.addressing == "virtual",
        "allow_bucket_creation": buckets,
        "allow_bucket_deletion": buckets,
        "allow_delayed_open": True,  # a small object is one PUT and not a multipart upload of three requests
    }
    credentials = in_use(uri, options)
    if credentials is not None:
        config["access_key"] = credentials.access_key_id
        config["secret_key"] = credentials.secret_access_key
        config["session_token"] = credentials.session_token
    if ca_certificates(uri, options) is not None:
        config["tls_ca_file_path"] = options.ca_bundle
    if options.endpoint_url is not None:
        parts = urlsplit(options.endpoint_url)
        config["endpoint_override"] = parts.netloc + parts.path.rstrip("/")
        config["scheme"] = parts.scheme
    elif options.addressing == "path":  # at its own endpoint the SDK puts the bucket into the host's name
        config["endpoint_override"] = amazon_host("s3", region)
    proxy = _proxy(options.endpoint_url or f"https://{amazon_host('s3', region)}")
    if proxy is not None:
        config["proxy_options"] = proxy
    # The SDK sends checksums behind the body (aws-chunked) unless told otherwise, and servers before that scheme, such
    # as Ceph 16.2, answer HTTP 411. pyarrow has no argument for it.
    checksum = options.request_checksum or ("when_supported" if options.endpoint_url is None else "when_required")
    with _variable("AWS_REQUEST_CHECKSUM_CALCULATION", checksum):
        return pafs.S3FileSystem(**config)


def _proxy(url: str) -> dict[str, Any] | None:
    """The proxy that the usual variables name for ``url``: of all clients here, Amazon's alone does not read them.

    Raises:
        OptionError: it is not a URL.
    """
    if not any(os.environ.get(name) or os.environ.get(name.upper()) for name in _PROXIES):
        return None
    from urllib.request import getproxies_environment, proxy_bypass  # noqa: PLC0415 - 15 ms of import

    server, proxies = urlsplit(url), getproxies_environment()
    kind = next((kind for kind in (server.scheme, "all") if proxies.get(kind)), None)
    if kind is None or proxy_bypass(server.netloc) or _in_networks(server.hostname or "", proxies.get("no", "")):
        return None
    said = proxies[kind]
    try:
        parts = urlsplit(said if "://" in said else f"http://{said}")
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:  # not "from" it: it quotes what it takes for a port, which may be a part of a password
        port = None
    if port is None or parts.scheme not in {"http", "https"} or not parts.hostname:
        variable = f"{kind.upper()}_PROXY"
        raise OptionError(
            f"environment: {variable} is no URL of an HTTP proxy, expected http://host:port. The arrow engine knows no "
            "other kind; use backend='native'.",
            field=variable,
        )
    config: dict[str, Any] = {"scheme": parts.scheme, "host": parts.hostname, "port": port}
    if parts.username:
        config |= {"username": unquote(parts.username), "password": unquote(parts.password or "")}
    return config


def _in_networks(host: str, names: str) -> bool:
    """Whether ``host`` is an address in a network of NO_PROXY: the native engine knows them, urllib does not."""
    for name in names.split(","):
        with contextlib.suppress(ValueError):  # a name, which urllib has compared
            if ipaddress.ip_address(host) in ipaddress.ip_network(name.strip().strip("[]"), strict=False):
                return True
    return False


@contextlib.contextmanager
def _variable(name: str, value: str | None) -> Iterator[None]:
    """Have a C++ library find ``value`` in the variable ``name`` while it makes a client; None leaves it as it is.

    It reads the variable then and never again (seen with pyarrow 26), so it is set for just that long; and for C
    only, so that other threads, which read ``os.environ``, see what the user set.
    """
    if value is None or os.environ.get(name) == value:
        yield
        return
    with passing(), _patching:
        os.putenv(name, value)
        try:
            yield
        finally:
            if name in os.environ:
                os.putenv(name, os.environ[name])
            else:
                os.unsetenv(name)


def _azure(uri: Uri, options: StorageOptions, _buckets: bool) -> Any:
    if not hasattr(pafs, "AzureFileSystem"):
        raise MissingExtraError(
            f"open {uri}: this pyarrow has no Azure support, expected one that has. Use backend='native', "
            "or: pip install -U pyarrow"
        )
    account = account_of(uri, options)
    _refuse_ca_bundle(uri, options)
    config: dict[str, Any] = {}
    if options.endpoint_url is not None:
        parts = urlsplit(options.endpoint_url)
        host = parts.netloc.removeprefix(account)
        if not host.startswith("."):
            host = parts.netloc  # pyarrow appends "/account" itself to an authority that does not start with a dot
        config["blob_storage_authority"] = host
        config["dfs_storage_authority"] = host.replace(".blob.", ".dfs.", 1)
        config["blob_storage_scheme"] = config["dfs_storage_scheme"] = parts.scheme
    if key := account_key_of(uri, options):
        config["account_key"] = key
    elif options.sas_token and not options.anonymous:
        config["sas_token"] = "?" + options.sas_token.lstrip("?")  # pyarrow appends it to the URL as it is
    return pafs.AzureFileSystem(account, **config)


def _google(uri: Uri, options: StorageOptions, _buckets: bool) -> Any:
    _refuse_ca_bundle(uri, options)
    config: dict[str, Any] = {
        "anonymous": options.anonymous,
        "project_id": options.project_id,
        "retry_time_limit": _GOOGLE_RETRY,
    }
    if options.endpoint_url is not None:
        parts = urlsplit(options.endpoint_url)
        config["endpoint_override"] = parts.netloc
        config["scheme"] = parts.scheme
    file = None if options.anonymous else options.service_account_file
    if file is not None and not os.access(file, os.R_OK):
        raise OptionError(
            f"open {uri}: cannot read the Google credentials {file}, expected a JSON file. "
            "Check GOOGLE_APPLICATION_CREDENTIALS.",
            field="service_account_file",
        )
    with _variable("GOOGLE_APPLICATION_CREDENTIALS", file):
        return pafs.GcsFileSystem(**config)


def _refuse_ca_bundle(uri: Uri, options: StorageOptions) -> None:
    if options.ca_bundle is not None:
        raise OptionError(
            f"open {uri}: got ca_bundle, expected none: the arrow engine takes it for s3:// only. Set SSL_CERT_FILE "
            "before Python starts, or use backend='native'.",
            field="ca_bundle",
        )


_FILESYSTEMS: dict[str, Callable[[Uri, StorageOptions, bool], Any]] = {"s3": _s3, "az": _azure, "gs": _google}
