"""What goes wrong between us and a web server, as errors of the tree.

Owns: the meaning of statuses and of the standard library's exceptions. Must not know: how requests are made.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from typing import TYPE_CHECKING

from s3dlio.errors import ShortReadError, StorageError, ThrottledError
from s3dlio.storage.http import answer as http_answer
from s3dlio.storage.http.connections import RedirectError
from s3dlio.storage.requests.failure import Failure, storage_error
from s3dlio.storage.translate import no_object, past_end, short, unsatisfied

if TYPE_CHECKING:
    from http.client import HTTPResponse

    from s3dlio.storage.configuration.container import Container

__all__ = ["broken", "cut", "endless", "read_only", "refused", "strange"]


def refused(
    answer: HTTPResponse,
    operation: str,
    uri: str,
    container: Container,
    *,
    etag: str | None = None,
    start: int = 0,
    end: int = 0,
) -> StorageError:
    """The server's status says no; ``start`` and ``end`` of the range that was asked for."""
    code = http_answer.error_code(answer)
    if answer.status == 416:
        found = http_answer.content_range(answer)
        if found is not None and found.total is not None and found.total < end:
            return past_end(operation, uri, start, end, found.total)
        return unsatisfied(operation, uri)
    if answer.status in {404, 410}:
        return no_object(operation, uri)
    if answer.status in range(300, 400):
        return strange(operation, uri, f"got HTTP {answer.status} without a Location", "an answer")
    failure = Failure(status=answer.status, code=code, text=answer.reason or "without a reason")
    error = storage_error(failure, operation, uri, container, etag=etag)
    if isinstance(error, ThrottledError):
        error.retry_after_s = http_answer.retry_after_s(answer)
    return error


def broken(error: Exception, operation: str, uri: str, container: Container) -> StorageError:
    """No answer came, or not all of it."""
    if isinstance(error, RedirectError):
        return strange(operation, uri, str(error), "an answer")
    if isinstance(error, http.client.IncompleteRead):
        return ShortReadError(
            f"{operation} {uri}: the answer was cut, expected all of it. Read it again.", uri=uri, operation=operation
        )
    return storage_error(_network(error), operation, uri, container)


def cut(answer: HTTPResponse, operation: str, uri: str, start: int, end: int, got: int) -> StorageError:
    """Of [start, end) only ``got`` bytes came; negative if the body ended before ``start``."""
    if answer.chunked:  # and whole, as its last chunk says
        return past_end(operation, uri, start, end, start + got)
    return short(operation, uri, start, end, max(0, got))


def endless(operation: str, uri: str) -> StorageError:
    """An answer of which nobody can tell whether all of it came."""
    return StorageError(
        f"{operation} {uri}: the answer says neither its length nor where it ends, expected Content-Length or chunks. "
        "Whether all of it came cannot be told.",
        uri=uri,
        operation=operation,
    )


def strange(operation: str, uri: str, found: str, expected: str) -> StorageError:
    """An answer that makes no sense."""
    return StorageError(
        f"{operation} {uri}: {found}, expected {expected}. Try the URL with another client to see what it does.",
        uri=uri,
        operation=operation,
    )


def read_only(operation: str, uri: str) -> StorageError:
    """A verb that web servers do not have."""
    found = "cannot be listed" if operation == "list" else "is read-only"
    remedy = "Name the objects" if operation == "list" else "Write to s3://, az://, gs:// or a file"
    return StorageError(
        f"{operation} {uri}: a web server {found}, expected get or head. {remedy}.",
        uri=uri,
        operation=operation,
        attempts=0,
    )


def _network(error: Exception) -> Failure:
    if isinstance(error, TimeoutError):
        return Failure(network="timeout")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Failure(network="untrusted")
    if isinstance(error, ssl.SSLError):
        return Failure(network="tls")
    if isinstance(error, socket.gaierror):
        return Failure(network="dns")
    if isinstance(error, ConnectionRefusedError):
        return Failure(network="refused")
    return Failure(network="broken")
