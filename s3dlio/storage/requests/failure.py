"""What an engine's exception says, in the terms that every engine shares, and the error it becomes.

Owns: the mapping from status codes and error codes to the error tree, once for all engines.
Must not know: how an engine spells its exceptions (``native.errors``, ``arrow.errors`` do).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal

from s3dlio.errors import AccessError, NotFoundError, StorageError, StorageTimeoutError, ThrottledError
from s3dlio.storage.translate import changed, exists, no_object, unsatisfied

if TYPE_CHECKING:
    from s3dlio.storage.configuration.container import Container

__all__ = ["Failure", "storage_error"]

Network = Literal["", "refused", "dns", "tls", "untrusted", "timeout", "broken"]

_NO_CONTAINER = {"nosuchbucket", "containernotfound", "containerbeingdeleted", "filesystemnotfound"}
_NO_OBJECT = {"nosuchkey", "blobnotfound", "resourcenotfound", "pathnotfound"}
_ACCESS = {
    "accessdenied", "invalidaccesskeyid", "signaturedoesnotmatch", "invalidtoken",
    "requesttimetooskewed", "allaccessdisabled", "unrecognizedclient",
    "authorizationfailure", "authenticationfailed", "invalidauthenticationinfo", "nocredentials",
    "missingauthenticationtoken", "invalidsignature", "invalidclienttokenid", "notsignedup",
}  # fmt: skip
_EXPIRED = {"expiredtoken", "expiredtokenexception", "tokenrefreshrequired", "expiredcredentials", "credentialsexpired"}
_THROTTLED = {"slowdown", "throttling", "throttled", "toomanyrequests", "serverbusy", "serviceunavailable"}
_NOT_IMPLEMENTED = 501
_TROUBLE = {"internalerror", "unavailable", "internal", "aborted", "dataloss", "deadlineexceeded"}
"""Amazon's, and gRPC's: Google's client says these where it does not say the status."""
_REGION = {"authorizationheadermalformed", "permanentredirect", "illegallocationconstraint"}

_TRUST = "Set ca_bundle (AWS_CA_BUNDLE) to a PEM file with its authority."

_RIGHTS = {
    "list": "list", "delete": "delete", "copy": "read and write",
    "put": "write", "open_writer": "write", "write": "write", "flush": "write", "close": "write", "abort": "write",
}  # fmt: skip
"""What an operation needs, in words of access rules. All others read."""

_NETWORK = {
    "refused": "no connection (refused)",
    "dns": "no such host",
    "tls": "no TLS connection",
    "timeout": "no answer in time",
    "broken": "the connection broke",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One failed request."""

    status: int = 0
    """HTTP status; 0 if there was none."""
    code: str = ""
    """The server's own error code, in any spelling."""
    network: Network = ""
    """Why no answer came; empty if one did."""
    attempts: int = 1
    """Requests made."""
    text: str = ""
    """One line for errors that have no better sentence; free of secrets."""
    remedy: str = ""
    """What to do about it, where the engine has no means for what is said otherwise."""


def storage_error(
    failure: Failure, operation: str, uri: str, container: Container, *, etag: str | None = None, create: bool = False
) -> StorageError:
    """The error of the tree that tells the user what ``failure`` means for ``operation``."""
    code = failure.code.replace("_", "").lower()
    error = _classify(failure, code, operation, uri, container, etag, create)
    error.attempts = failure.attempts
    return error


def _classify(
    failure: Failure, code: str, operation: str, uri: str, container: Container, etag: str | None, create: bool
) -> StorageError:
    if code in _NO_CONTAINER:
        return NotFoundError(
            f"{operation} {uri}: {container.kind} {container.name!r} does not exist, expected one. "
            f"Check the name, and {container.endpoint_variable} for the right server.",
            uri=uri,
            operation=operation,
        )
    if failure.network == "untrusted":
        return StorageTimeoutError(
            f"{operation} {uri}: the certificate of {container.endpoint or 'the endpoint'} is not trusted, expected "
            f"one of a known authority. {failure.remedy or _TRUST}",
            uri=uri,
            operation=operation,
            retryable=False,
        )
    if failure.network:
        where = container.endpoint or "the provider's endpoint"
        return StorageTimeoutError(
            f"{operation} {uri}: {_NETWORK[failure.network]} at {where}, expected an answer. "
            f"Check the network and {container.endpoint_variable}.",
            uri=uri,
            operation=operation,
        )
    if code in _ACCESS or code in _EXPIRED or failure.status in {401, 403} or _headless(failure, container):
        return _denied(failure, code, operation, uri, container)
    if code in _THROTTLED or failure.status in {429, 503}:
        return ThrottledError(
            f"{operation} {uri}: the server asked for fewer requests ({failure.code or failure.status}), "
            "expected an answer. Retry later or with less concurrency.",
            uri=uri,
            operation=operation,
        )
    if code in _REGION or failure.status == 301:
        return StorageError(
            f"{operation} {uri}: the {container.kind} is in another region, expected the region of the options. "
            "Set AWS_REGION.",
            uri=uri,
            operation=operation,
        )
    if failure.status == 412 or (create and failure.status == 409):
        return exists(operation, uri) if create else changed(operation, uri, etag)
    if failure.status == 416:
        return unsatisfied(operation, uri)
    if failure.status == 404 or code in _NO_OBJECT:
        # A HEAD has no body, so its 404 cannot tell a missing key from a missing container.
        return no_object(operation, uri, container=f"{container.kind} {container.name!r}" if not code else "")
    found = failure.code or failure.text or "an unknown error"
    status = f"HTTP {failure.status} " if failure.status else ""
    retry = (failure.status >= 500 and failure.status != _NOT_IMPLEMENTED) or failure.status == 408 or code in _TROUBLE
    return StorageError(
        f"{operation} {uri}: {status}{found}, expected success."
        + (" The server is in trouble; retry later." if retry else ""),
        uri=uri,
        operation=operation,
        retryable=retry,
    )


def _headless(failure: Failure, container: Container) -> bool:
    """Whether S3 refused a HEAD for its credentials: expired ones get a 400, and the reason would stand in a body."""
    return failure.status == 400 and not failure.code and container.scheme == "s3"


def _denied(failure: Failure, code: str, operation: str, uri: str, container: Container) -> AccessError:
    expired = code in _EXPIRED
    said = f" ({failure.code})" if failure.code else f" (HTTP {failure.status})" if failure.status == 400 else ""
    wanted = (
        "credentials that are still valid"
        if expired
        else f"credentials with a right to {_RIGHTS.get(operation, 'read')}"
    )
    error = AccessError(
        f"{operation} {uri}: access denied{said}, expected {wanted}. Check {container.credentials}.",
        uri=uri,
        operation=operation,
    )
    error.expired = expired
    error.unexplained = not failure.code
    return error
