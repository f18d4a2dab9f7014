"""pyarrow filesystems from options: every option name of pyarrow.fs that s3dlio uses stands here.

A filesystem has max(``pyarrow.io_thread_count()``, 25) connections, fixed when it is made. s3dlio does
not change that count, which is the whole process's: call ``pyarrow.set_io_thread_count`` first for more.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from s3dlio.errors import MissingExtraError, OptionError, S3dlioError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3dlio.storage.options import StorageOptions
    from s3dlio.uri import Uri

__all__ = ["make_filesystem"]

_ATTEMPTS = 3
"""The SDK waits up to 1, 2, 4, ... seconds between attempts and knows no deadline: six of them took up to 24 s to
say that nobody listens on a port, three take 3 s."""

_CHECKSUMS = "AWS_REQUEST_CHECKSUM_CALCULATION"


def make_filesystem(uri: Uri, options: StorageOptions) -> Any:
    """The pyarrow filesystem on which ``uri``'s container is a top directory.

    Raises:
        OptionError: pyarrow refuses the options.
    """
    try:
        return _FILESYSTEMS[uri.scheme](uri, options)
    except S3dlioError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        said = str(error).partition("\n")[0]
        raise OptionError(
            f"open {uri}: the arrow engine refused the options ({said}), expected usable ones. Check the endpoint.",
            field="endpoint_url",
        ) from error


def _s3(_uri: Uri, options: StorageOptions) -> Any:
    config: dict[str, Any] = {
        "region": options.region or "us-east-1",
        "anonymous": options.anonymous,
        "connect_timeout": options.connect_timeout_s,
        "request_timeout": options.read_timeout_s,
        "retry_strategy": pafs.AwsStandardS3RetryStrategy(max_attempts=min(options.max_attempts, _ATTEMPTS)),
        "force_virtual_addressing": options.addressing == "virtual",
        "allow_delayed_open": True,  # a small object is one PUT and not a multipart upload of three requests
    }
    if options.access_key_id and not options.anonymous:
        config["access_key"] = options.access_key_id
        config["secret_key"] = options.secret_access_key
        config["session_token"] = options.session_token
    if options.endpoint_url is None:
        return pafs.S3FileSystem(**config)
    parts = urlsplit(options.endpoint_url)
    config["endpoint_override"] = parts.netloc + parts.path.rstrip("/")
    config["scheme"] = parts.scheme
    with _checksums_when_required():
        return pafs.S3FileSystem(**config)


@contextlib.contextmanager
def _checksums_when_required() -> Iterator[None]:
    """Make the SDK send checksums only where S3 demands them, unless the user says otherwise.

    By default it sends them behind the body (aws-chunked), which servers before that scheme answer with
    HTTP 411, such as Ceph 16.2. pyarrow has no argument for it. The SDK reads the variable while the
    filesystem is made (a later change has no effect, seen with pyarrow 26), so it is set for just that long.
    """
    if _CHECKSUMS in os.environ:
        yield
        return
    os.environ[_CHECKSUMS] = "when_required"
    try:
        yield
    finally:
        os.environ.pop(_CHECKSUMS, None)


def _azure(uri: Uri, options: StorageOptions) -> Any:
    if not hasattr(pafs, "AzureFileSystem"):
        raise MissingExtraError(
            f"open {uri}: this pyarrow has no Azure support, expected one that has. Use backend='native', "
            "or: pip install -U pyarrow"
        )
    account = uri.account or options.account_name
    if account is None:
        raise OptionError(
            f"open {uri}: no storage account, expected account_name. Set AZURE_STORAGE_ACCOUNT.", field="account_name"
        )
    config: dict[str, Any] = {}
    if options.endpoint_url is not None:
        parts = urlsplit(options.endpoint_url)
        # pyarrow appends "/account" itself to an authority that does not start with a dot.
        config["blob_storage_authority"] = config["dfs_storage_authority"] = parts.netloc
        config["blob_storage_scheme"] = config["dfs_storage_scheme"] = parts.scheme
    if options.account_key and not options.anonymous:
        config["account_key"] = options.account_key
    elif options.sas_token and not options.anonymous:
        config["sas_token"] = options.sas_token
    return pafs.AzureFileSystem(account, **config)


def _google(_uri: Uri, options: StorageOptions) -> Any:
    config: dict[str, Any] = {
        "anonymous": options.anonymous,
        "retry_time_limit": dt.timedelta(seconds=options.retry_deadline_s),  # pyarrow's default is 15 minutes
    }
    if options.endpoint_url is not None:
        parts = urlsplit(options.endpoint_url)
        config["endpoint_override"] = parts.netloc
        config["scheme"] = parts.scheme
    return pafs.GcsFileSystem(**config)


_FILESYSTEMS: dict[str, Callable[[Uri, StorageOptions], Any]] = {"s3": _s3, "az": _azure, "gs": _google}
