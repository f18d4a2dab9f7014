"""obstore's exceptions in the terms of the error tree: the one place for the native engine.

Its messages hold the server's whole answer and a dump of Rust values. What counts is picked out of
them, because its classes tell little: most failures are ``GenericError``.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING

import obstore.exceptions as foreign

from s3dlio.errors import S3dlioError, StorageError
from s3dlio.storage.requests.failure import Failure, storage_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3dlio.storage.configuration.container import Container
    from s3dlio.storage.requests.failure import Network

__all__ = ["CLASSES", "read_failure", "translating_native"]

CLASSES: dict[type[BaseException], Failure] = {
    foreign.AlreadyExistsError: Failure(status=412),
    foreign.PreconditionError: Failure(status=412),
    foreign.NotModifiedError: Failure(status=304, text="the object is unchanged"),
    foreign.PermissionDeniedError: Failure(status=403),
    foreign.UnauthenticatedError: Failure(status=401),
    foreign.InvalidPathError: Failure(text="a key that cannot be named"),  # ``_unnameable`` says which
    foreign.NotSupportedError: Failure(text="an operation that this provider does not have"),
    foreign.UnknownConfigurationKeyError: Failure(text="an option that this obstore does not know"),
    foreign.JoinError: Failure(text="an internal error of obstore"),
    foreign.GenericError: Failure(),
    foreign.BaseError: Failure(),
    FileNotFoundError: Failure(status=404),
}
"""What a class says by itself. The message may say more, and then wins."""

_STATUS = re.compile(r"status code: (\d{3})(?: (\w[\w '-]*))?|\(code: (\d{3})\)")
_CODE = re.compile(r"<Code>(\w+)</Code>|\(code: ([A-Za-z]\w*)\)")  # the latter of one key in the answer to a delete
_RETRIES = re.compile(r"after (\d+) retries")
_PATH = re.compile(r'[Pp]ath "([^"\n]*)"')
_PAST_END = re.compile(r'Wanted range starting at|CONTENT_RANGE header: "bytes 0--1/0"')  # Azurite's answers
_URL = re.compile(r"https?://\S+")
_METADATA = re.compile(r"https?://(169\.254\.\d+\.\d+|metadata\.google)")
_NETWORK: tuple[tuple[re.Pattern[str], Network], ...] = (
    (re.compile(r"ConnectionRefused"), "refused"),
    (re.compile(r"dns error"), "dns"),
    (re.compile(r"TimedOut|kind: Timeout"), "timeout"),
    (re.compile(r"kind: Connect\b[\s\S]*InvalidCertificate"), "untrusted"),
    (re.compile(r"kind: Connect\b[\s\S]*InvalidData"), "tls"),
    (re.compile(r"HttpError \{\s*kind: \w+|error sending request|error decoding response body"), "broken"),
)


@contextlib.contextmanager
def translating_native(
    operation: str, uri: str, container: Container, *, etag: str | None = None, create: bool = False
) -> Iterator[None]:
    """Turn what obstore raises into the error tree."""
    try:
        yield
    except S3dlioError:
        raise
    except (foreign.BaseError, FileNotFoundError, ValueError, OSError) as error:
        named = _PATH.search(str(error)) if isinstance(error, foreign.InvalidPathError) else None
        if named is not None:
            raise _unnameable(operation, uri, named[1]) from error
        translated = storage_error(read_failure(error), operation, uri, container, etag=etag, create=create)
        raise translated from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of no module that can be imported, and no Exception
            raise
        raise StorageError(
            f"{operation} {uri}: obstore panicked ({_one_line(str(error))}), expected an answer. "
            "Use backend='arrow', which does without it.",
            uri=uri,
            operation=operation,
        ) from error


def _unnameable(operation: str, uri: str, key: str) -> StorageError:
    """Somebody else's object under a key that s3dlio refuses to write, met in a listing."""
    return StorageError(
        f"{operation} {uri}: found the key {key!r}, expected path segments that are not empty, '.' or '..', without "
        "control characters. Rename that object, or list with backend='arrow', which shows what it is.",
        uri=uri,
        operation=operation,
    )


def read_failure(error: BaseException) -> Failure:
    """What obstore's exception says."""
    whole = str(error)
    known = next((failure for cls, failure in CLASSES.items() if isinstance(error, cls)), Failure())
    # The dump repeats the server's answer, which may quote anything: match it outside of that.
    answer, _, dump = whole.partition("Debug source:")
    retries = _RETRIES.search(answer)
    attempts = 1 + int(retries[1]) if retries else 1
    if _METADATA.search(answer) or "Invalid Access Key" in answer:
        return Failure(code="NoCredentials", attempts=attempts)
    status = _STATUS.search(answer)
    code = _CODE.search(answer)
    if _PAST_END.search(answer):
        return Failure(status=416, attempts=attempts)
    if status is None:
        for pattern, network in _NETWORK:
            if pattern.search(answer) or pattern.search(dump):
                return Failure(network=network, attempts=attempts)
    phrase = (status[2] or "") if status else ""
    return Failure(
        status=int(status[1] or status[3]) if status else known.status,
        code=(code[1] or code[2]) if code else "",
        attempts=attempts,
        text=known.text or phrase or _one_line(answer),
    )


def _one_line(text: str) -> str:
    """The first line, without URLs, whose query may hold a signature."""
    return _URL.sub("...", text.strip().partition("\n")[0])[:200].rstrip(". ")
