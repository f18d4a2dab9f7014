"""Buckets and containers as a whole: made, removed, listed.

Through the arrow engine, whose SDKs have these requests; the native engine has none of them, but signs one. Each call
is a few requests. Must not know: objects.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import http.client
import re
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import obstore
import pyarrow.fs as pafs

from s3dlio.errors import ExistsError, OptionError, StorageError
from s3dlio.storage.arrow.client import make_filesystem
from s3dlio.storage.arrow.errors import translating_arrow
from s3dlio.storage.configuration.container import Container
from s3dlio.storage.configuration.options import StorageOptions
from s3dlio.storage.http.answer import error_code
from s3dlio.storage.http.connections import Connections, RedirectError, Url
from s3dlio.storage.http.failure import broken
from s3dlio.storage.native.client import make_client
from s3dlio.storage.native.errors import translating_native
from s3dlio.storage.open import locate
from s3dlio.storage.requests.failure import Failure, storage_error
from s3dlio.storage.requests.fork_gate import passing
from s3dlio.storage.requests.inheritance import claim, lost
from s3dlio.storage.requests.policy import Requests, Verb
from s3dlio.storage.translate import translating_os
from s3dlio.uri import Uri

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping
    from typing import TypeAlias

    from s3dlio.storage.protocol import Store

    UriLike: TypeAlias = str | os.PathLike[str] | Uri
    Options: TypeAlias = StorageOptions | Mapping[str, Any] | None

__all__ = ["create_bucket", "delete_bucket", "list_buckets", "mkdir"]

_REMOTE = ("s3", "az", "gs")

_SIGNED_FOR = dt.timedelta(minutes=5)
"""Long enough for clocks that differ a little; the request is sent at once."""


def create_bucket(uri: UriLike, *, exist_ok: bool = False, storage_options: Options = None) -> None:
    """Make an empty bucket (S3, Google) or container (Azure).

    Args:
        uri: of the bucket, such as ``s3://bucket``.
        exist_ok: one that is there already is no error.
        storage_options: how to reach the server. S3 buckets are made in its ``region``, Google's in ``project_id``.

    Raises:
        ExistsError: there is one, and ``exist_ok`` is False.
        OptionError: the URI names an object, or no object server.
    """
    parsed = _bucket(uri, "create bucket")
    with _reaching(parsed, storage_options, "create bucket") as filesystem:
        if filesystem.get_file_info(parsed.container).type != pafs.FileType.NotFound:
            if exist_ok:
                return
            raise ExistsError(
                f"create bucket {parsed}: it exists, expected a free name. Choose another, or pass exist_ok=True.",
                uri=str(parsed),
                operation="create bucket",
            )
        filesystem.create_dir(parsed.container)


def delete_bucket(uri: UriLike, *, storage_options: Options = None) -> None:
    """Remove a bucket or container that holds no objects.

    On S3 the native engine lets the server decide that, by one request. Elsewhere, and where nothing but directory
    markers is left, which go with the bucket, it is listed first: an object that somebody writes in that moment is
    lost.

    Args:
        uri: of the bucket, such as ``s3://bucket``.
        storage_options: how to reach the server.

    Raises:
        NotFoundError: there is none.
        StorageError: it is not empty; nothing was removed.
    """
    parsed = _bucket(uri, "delete bucket")
    options = _resolved(parsed, storage_options)
    store, _ = locate(parsed, storage_options=storage_options)
    with store:
        native = options.backend != "arrow" and not lost("native")
        if parsed.scheme == "s3" and native and not options.anonymous and _remove_if_empty(parsed, options, store):
            return
        # Asked first, because pyarrow would remove the objects too.
        if next(store.list(), None) is not None:
            raise StorageError(
                f"delete bucket {parsed}: found objects in it, expected none. "
                "Delete them first: s3dlio.delete(uri, recursive=True, whole_container=True).",
                uri=str(parsed),
                operation="delete bucket",
            )
    with _reaching(parsed, storage_options, "delete bucket") as filesystem:
        filesystem.delete_dir(parsed.container)


def list_buckets(uri: str = "s3://", *, storage_options: Options = None) -> list[str]:
    """The names of all buckets or containers that the credentials may list, sorted.

    Args:
        uri: scheme of the provider, ``"s3://"`` or ``"az://"``.
        storage_options: how to reach the server.

    Raises:
        OptionError: a scheme without a listing: Google's is in neither engine; or more than a scheme.
    """
    scheme = re.fullmatch(r"(\w+)(?::/*)?", uri)
    if scheme is None and uri.startswith(("s3:", "az:", "abfss:")):
        kind = "bucket" if uri.startswith("s3:") else "container"
        raise OptionError(
            f"list buckets {uri}: the URI names a {kind}, expected '{'s3' if kind == 'bucket' else 'az'}://' alone. "
            "Use list_keys for the objects in it.",
            field="uri",
        )
    if scheme is None or scheme[1] not in {"s3", "az"}:
        raise OptionError(
            f"list buckets {uri!r}: this scheme has no listing of buckets here, expected 's3://' or 'az://'. "
            "For Google use: gcloud storage ls",
            field="uri",
        )
    # A container is only needed to speak of; the root of the filesystem is what is listed.
    parsed = Uri(scheme[1], "", "")
    with _reaching(parsed, storage_options, "list buckets") as filesystem:
        return sorted(info.path for info in filesystem.get_file_info(pafs.FileSelector("")))


def mkdir(uri: UriLike, *, storage_options: Options = None) -> None:
    """Make a directory, with its parents; one that is there is no error.

    On an object server a directory is what keys have in common, so below a bucket this only checks that the
    bucket exists; of a bucket itself, it makes the bucket.

    Args:
        uri: a local path, a bucket, or a prefix in one.
        storage_options: how to reach the server.

    Raises:
        NotFoundError: the bucket of a prefix does not exist.
        OptionError: a URL of a web server, which is only read.
        ExistsError: a file of that name is in the way.
    """
    parsed = Uri.parse(uri)
    if parsed.scheme in {"file", "direct"}:
        with translating_os("mkdir", str(parsed)):
            Path(parsed.path).mkdir(parents=True, exist_ok=True)
    elif parsed.scheme in {"http", "https"}:
        raise OptionError(
            f"mkdir {parsed.masked()}: web servers are only read, expected a local path, a bucket or a prefix in one. "
            "Write to the store behind it by its own scheme.",
            field="uri",
        )
    elif not parsed.key and parsed.scheme in _REMOTE:
        create_bucket(parsed, exist_ok=True, storage_options=storage_options)
    else:
        store, key = locate(parsed, storage_options=storage_options)
        with store:
            next(store.list(key), None)


def _bucket(uri: UriLike, operation: str) -> Uri:
    parsed = Uri.parse(uri)
    if parsed.scheme not in _REMOTE or parsed.key:
        raise OptionError(
            f"{operation} {parsed}: expected the URI of a bucket or container, such as s3://bucket. "
            "For a directory use mkdir and delete.",
            field="uri",
        )
    return parsed


def _resolved(uri: Uri, options: Options) -> StorageOptions:
    if not isinstance(options, StorageOptions):
        options = StorageOptions.from_env(uri.scheme, **(options or {}))
    if options.endpoint_urls:  # servers of the same buckets: one of them is enough
        options = options.replace(endpoint_url=options.endpoint_urls[0], endpoint_urls=())
    return options


def _remove_if_empty(uri: Uri, options: StorageOptions, store: Store) -> bool:
    """Ask the S3 server to remove the bucket. False: it is not empty, as the server says, or cannot be asked so.

    pyarrow would empty it first, and obstore has no such request, but signs what it is given.
    """
    operation, container = "delete bucket", Container.of(uri, options)
    unanswered = False

    def ask(_engine: Store) -> bool:
        nonlocal unanswered
        claim("native")
        with passing(), translating_native(operation, str(uri), container):
            signed = obstore.sign(make_client(uri, options, retries=False), "DELETE", "", _SIGNED_FOR)
        try:
            with connections.answer("DELETE", Url.parse(signed), {}) as answer:
                if answer.status in {http.HTTPStatus.OK, http.HTTPStatus.NO_CONTENT}:
                    return True
                code = error_code(answer)
        except (OSError, http.client.HTTPException, RedirectError) as error:
            if not isinstance(error, ConnectionRefusedError | socket.gaierror | RedirectError):  # else it was not asked
                unanswered = True
            raise broken(error, operation, str(uri), container) from error
        if code == "NoSuchBucket" and unanswered:
            return True  # the attempt that got no answer has removed it
        if code == "BucketNotEmpty":
            return False
        failure = Failure(status=answer.status, code=code, text=answer.reason)
        raise storage_error(failure, operation, str(uri), container)

    requests, connections = Requests(options), Connections(options)
    try:
        return requests.run(Verb(operation, str(uri), ask, lambda: store, lambda *_: False))
    except OptionError:  # a proxy that our connections do not take; pyarrow's may
        return False
    finally:
        requests.close()
        connections.close()


@contextlib.contextmanager
def _reaching(uri: Uri, storage_options: Options, operation: str) -> Iterator[Any]:
    """The pyarrow filesystem of the provider, which may make and remove buckets; errors translated."""
    options = _resolved(uri, storage_options)
    shown = str(uri) if uri.container else f"{uri.scheme}://"
    if uri.scheme == "az":
        if lost("azure"):
            raise StorageError(
                f"{operation} {shown}: pyarrow's Azure client was used before this process was forked, expected a "
                "fresh process. Start workers by 'spawn' or 'forkserver'.",
                uri=shown,
                operation=operation,
                attempts=0,
            )
        claim("azure")
    with passing(), translating_arrow(operation, shown, Container.of(uri, options)):
        yield make_filesystem(uri, options, buckets=True)
