"""The errors that s3dlio raises.

Each one is also the builtin that a Python user would catch. Messages follow one template:
``<operation> <object>[ at <where>]: <found>, expected <expected>. <next step>.``

    S3dlioError
    |- StorageError(uri, operation, attempts, retryable)
    |    NotFoundError + FileNotFoundError      AccessError + PermissionError
    |    ExistsError + FileExistsError          PreconditionError
    |    ThrottledError                         StorageTimeoutError + TimeoutError
    |    ShortReadError
    |- FormatError + ValueError (uri, offset)   |- StateError + ValueError
    |- OptionError + ValueError (field)         |- CheckpointError
    |- ClosedError + RuntimeError               |- MissingExtraError + ImportError
"""

from __future__ import annotations

__all__ = [
    "AccessError",
    "CheckpointError",
    "ClosedError",
    "ExistsError",
    "FormatError",
    "MissingExtraError",
    "NotFoundError",
    "OptionError",
    "PreconditionError",
    "S3dlioError",
    "ShortReadError",
    "StateError",
    "StorageError",
    "StorageTimeoutError",
    "ThrottledError",
]


class S3dlioError(Exception):
    """Base of every error that s3dlio raises on purpose."""


class StorageError(S3dlioError):
    """A request to a store failed.

    Args:
        message: the whole sentence for the user; see the module's template.
        uri: the object or prefix that was asked for.
        operation: the verb, e.g. ``"get"`` or ``"list"``.
        attempts: how many requests were made before giving up; 0 if none left this machine.
        retryable: whether the same call may succeed later without any change.
    """

    retryable_default = False

    def __init__(
        self,
        message: str,
        *,
        uri: str = "",
        operation: str = "",
        attempts: int = 1,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message)
        self.uri = uri
        self.operation = operation
        self.attempts = attempts
        self.retryable = self.retryable_default if retryable is None else retryable

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the keywords: errors cross process borders in framework workers."""
        return _rebuild, (type(self), str(self), dict(self.__dict__))


class NotFoundError(StorageError, FileNotFoundError):
    """The object, prefix or bucket does not exist. A retry does not help."""

    __str__ = Exception.__str__


class AccessError(StorageError, PermissionError):
    """The store refused the credentials, or they are missing. A retry does not help.

    ``expired`` is true where the server said that the credentials are too old; new ones help then.
    """

    expired = False
    unexplained = False
    """Whether the server gave no reason, as to every HEAD: then it may be the credentials' age, too."""
    __str__ = Exception.__str__


class ExistsError(StorageError, FileExistsError):
    """``put(mode="create")`` found an object under that key. The object is untouched."""

    __str__ = Exception.__str__


class PreconditionError(StorageError):
    """The object is not the version that was asked for (its ETag differs)."""


class ThrottledError(StorageError):
    """The store asked for fewer requests (429, 503 SlowDown). Retry later, with fewer in flight.

    ``retry_after_s`` is the pause in seconds that the server asked for; None where the engine does not show it.
    """

    retryable_default = True
    retry_after_s: float | None = None


class StorageTimeoutError(StorageError, TimeoutError):
    """No answer within the deadline, or no connection to the endpoint."""

    retryable_default = True
    __str__ = Exception.__str__


class ShortReadError(StorageError):
    """The store sent fewer bytes than the object or range holds. Never delivered as data."""

    retryable_default = True


class FormatError(S3dlioError, ValueError):
    """Bytes that do not decode: truncated, corrupt, or of another format.

    Args:
        message: the whole sentence for the user.
        uri: the object that the bytes came from; empty while the format knows only bytes.
        offset: byte offset inside the object at which decoding failed, -1 if there is none.
    """

    def __init__(self, message: str, *, uri: str = "", offset: int = -1) -> None:
        super().__init__(message)
        self.uri = uri
        self.offset = offset

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), str(self), dict(self.__dict__))


class StateError(S3dlioError, ValueError):
    """A saved loader state that does not fit this loader."""


class CheckpointError(S3dlioError):
    """A checkpoint that is missing, incomplete or corrupt."""


class OptionError(S3dlioError, ValueError):
    """An option with an unknown name or an illegal value.

    Args:
        message: the whole sentence for the user.
        field: name of the option.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(message)
        self.field = field

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), str(self), dict(self.__dict__))


class ClosedError(S3dlioError, RuntimeError):
    """A call on something that was closed."""


class MissingExtraError(S3dlioError, ImportError):
    """An optional package is not installed; the message holds the pip line."""


def _rebuild(cls: type[S3dlioError], message: str, attributes: dict[str, object]) -> S3dlioError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(attributes)
    return error
