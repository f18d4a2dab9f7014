"""Foreign failures as sentences of the error tree, whatever the engine.

Owns: the wording of what can happen in any store, and the translation of ``OSError`` for local files.
Must not know: object servers (``failure``) and their engines (``native.errors``, ``arrow.errors``).
"""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from s3dlio.errors import (
    AccessError,
    ExistsError,
    NotFoundError,
    PreconditionError,
    ShortReadError,
    StorageError,
)
from s3dlio.storage.posix import SpecialFileError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["changed", "exists", "naming", "no_object", "past_end", "replaced", "short", "translating_os", "unsatisfied"]


_READING = frozenset({"get", "get_clipped", "get_into", "get_range", "head"})
"""Verbs by which others are done."""
_WRITING = frozenset({"put", "open_writer", "close", "mkdir"})


class naming:  # noqa: N801 - a block, as ``contextlib.suppress``; a generator would cost 1 us more for each object
    """A block that does ``operation`` by other verbs that read: its errors name what was called, and not those."""

    __slots__ = ("_operation",)

    def __init__(self, operation: str) -> None:
        self._operation = operation

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, StorageError) and error.operation in _READING:
            verb, space, rest = str(error).partition(" ")
            if verb == error.operation:
                error.args = (f"{self._operation}{space}{rest}",)
            error.operation = self._operation


def no_object(operation: str, uri: str, *, container: str = "") -> NotFoundError:
    """There is nothing under the key, or no ``container`` either where the server does not say which."""
    found = f"no such object, or no {container}" if container else "no such object"
    return NotFoundError(f"{operation} {uri}: {found}, expected one.", uri=uri, operation=operation)


def exists(operation: str, uri: str) -> ExistsError:
    """A create found something under the key."""
    return ExistsError(
        f"{operation} {uri}: the object exists, expected a free key (mode='create').", uri=uri, operation=operation
    )


def changed(operation: str, uri: str, expected: str | None) -> PreconditionError:
    """The object is another version than the one asked for."""
    return PreconditionError(
        f"{operation} {uri}: the object is another version, expected ETag {expected}. It was overwritten; "
        "list or index it again.",
        uri=uri,
        operation=operation,
    )


def unsatisfied(operation: str, uri: str) -> ShortReadError:
    """The server refused a range, because the object ends before its first byte."""
    return ShortReadError(
        f"{operation} {uri}: the object ends before the range, expected it to hold the range. "
        "If it was overwritten, list or index it again.",
        uri=uri,
        operation=operation,
        retryable=False,
    )


def past_end(operation: str, uri: str, start: int, end: int, size: int) -> ShortReadError:
    """A range that the object does not hold. No retry helps: the object is that short."""
    return ShortReadError(
        f"{operation} {uri} at [{start}, {end}): the object has {size} bytes, expected {end} or more. "
        "If it was overwritten, list or index it again.",
        uri=uri,
        operation=operation,
        retryable=False,
    )


def replaced(operation: str, uri: str) -> StorageError:
    """The object went away between two requests of one read. A retry meets the new one, or none."""
    return StorageError(
        f"{operation} {uri}: the object was replaced or deleted during the read, expected one version. Read it again.",
        uri=uri,
        operation=operation,
        retryable=True,
    )


def short(operation: str, uri: str, start: int, end: int, got: int) -> ShortReadError:
    """Fewer bytes arrived than the store had announced."""
    return ShortReadError(
        f"{operation} {uri} at [{start}, {end}): got {got} bytes, expected {end - start}. "
        "The object changed or the connection broke while it was read; read it again.",
        uri=uri,
        operation=operation,
    )


@contextlib.contextmanager
def translating_os(operation: str, uri: str) -> Iterator[None]:
    """Turn the ``OSError`` of a local file into the error tree."""
    try:
        yield
    except StorageError:
        raise
    except SpecialFileError as error:
        raise StorageError(
            f"{operation} {uri}: a device, pipe or socket has this name, expected a file or nothing there: it would be "
            "replaced. Choose another name; `s3dlio cat` and `get` give bytes to pass on.",
            uri=uri,
            operation=operation,
        ) from error
    except (FileNotFoundError, IsADirectoryError) as error:
        if isinstance(error, IsADirectoryError) and operation in _WRITING:
            raise StorageError(
                f"{operation} {uri}: a directory has this name, expected a file or nothing there. Choose another name.",
                uri=uri,
                operation=operation,
            ) from error
        if operation in _WRITING or operation.startswith("download "):
            raise StorageError(
                f"{operation} {uri}: nothing can be made there ({error.strerror}), expected a directory that takes "
                "files. Choose another one.",
                uri=uri,
                operation=operation,
            ) from error
        raise no_object(operation, uri) from error
    except NotADirectoryError as error:
        raise NotFoundError(
            f"{operation} {uri}: a parent of this path is a file, expected a directory.",
            uri=uri,
            operation=operation,
        ) from error
    except FileExistsError as error:
        raise exists(operation, uri) from error
    except PermissionError as error:
        raise AccessError(
            f"{operation} {uri}: the system refused it ({error.strerror}), expected permission. "
            "Check the owner and mode of the file and its directory.",
            uri=uri,
            operation=operation,
        ) from error
    except OSError as error:
        if error.errno == errno.EROFS:
            raise AccessError(
                f"{operation} {uri}: the filesystem is mounted read-only, expected a writable one. Write elsewhere, or "
                "remount it.",
                uri=uri,
                operation=operation,
            ) from error
        remedy = "Free some space." if error.errno in {errno.ENOSPC, errno.EDQUOT} else "See the system's log."
        raise StorageError(
            f"{operation} {uri}: {error.strerror or error}, expected success. {remedy}",
            uri=uri,
            operation=operation,
        ) from error
