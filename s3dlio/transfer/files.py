"""Objects as file objects: ``open(uri, "rb")``, ``"wb"``, and both as text.

Owns: modes, and what leaving a file by an exception means. Must not know: how bytes are read ahead (``reader``).

Guarantees:
- what is read is one version of the object, the one that ``open`` saw
- what is written is published by ``close``, whole, and by nothing else: not by an exception that leaves the ``with``
  block, and not by a file that is dropped without ``close``
"""

from __future__ import annotations

import io
import os
import warnings
from typing import TYPE_CHECKING, Any, Literal, overload

from s3dlio.errors import OptionError, S3dlioError
from s3dlio.storage.loans import Loans
from s3dlio.transfer.reader import RangeReader

if TYPE_CHECKING:
    from types import TracebackType

    from s3dlio.storage.loans import Reach, UriLike
    from s3dlio.storage.protocol import ObjectMeta, ObjectWriter

__all__ = ["ObjectOutput", "ObjectTextOutput", "open"]

_BUFFER_BYTES = 128 << 10
"""What a small read after a seek fetches: the cost of a request is latency up to about this size."""

_MODES = {"r": "rt", "rb": "rb", "rt": "rt", "w": "wt", "wb": "wb", "wt": "wt"}


@overload
def open(  # noqa: A001
    uri: UriLike,
    mode: Literal["rb"] = "rb",
    *,
    storage_options: Reach = None,
    filesystem: object | None = None,
) -> io.BufferedReader[Any]: ...
@overload
def open(  # noqa: A001
    uri: UriLike, mode: Literal["wb"], *, storage_options: Reach = None, filesystem: object | None = None
) -> ObjectOutput: ...
@overload
def open(  # noqa: A001
    uri: UriLike,
    mode: Literal["r", "rt", "w", "wt"],
    *,
    encoding: str = "utf-8",
    errors: str | None = None,
    newline: str | None = None,
    storage_options: Reach = None,
    filesystem: object | None = None,
) -> io.TextIOWrapper[Any]: ...
def open(  # noqa: A001
    uri: UriLike,
    mode: str = "rb",
    *,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    storage_options: Reach = None,
    filesystem: object | None = None,
) -> io.BufferedReader[Any] | ObjectOutput | io.TextIOWrapper[Any]:
    """An object as a file, for what wants one: ``np.load``, ``zipfile``, ``pyarrow.parquet``, ``torch.load``, ...

    Reading seeks freely. Opening is one request, which also brings the first MiB; reading on fetches parallel parts
    ahead, at most 40 MiB; reading here and there fetches 128 KiB or what is asked for.
    Writing cannot seek. ``close``, or the end of the ``with`` block, publishes the object; an exception that leaves the
    block publishes nothing, and neither does a file that is dropped.

    Args:
        uri: of the object.
        mode: "rb" or "wb"; "rt" or "wt", in short "r" or "w", for text. Objects can be neither appended to nor
            changed.
        encoding: of text; UTF-8 by default, whatever the locale.
        errors: of text, as the built-in ``open``.
        newline: of text, as the built-in ``open``.
        storage_options: as ``get``.
        filesystem: as ``get``.

    Returns: for "rb" an ``io.BufferedReader``, for "wb" an ``ObjectOutput``; for text an ``io.TextIOWrapper``.

    Raises:
        NotFoundError: there is no such object to read.
        OptionError: another mode, or text options for bytes.
    """
    loans = Loans(storage_options, filesystem)
    kind = _MODES.get(mode)
    if kind is None:
        raise OptionError(
            f"open {loans.shown(uri)}: mode is {mode!r}, expected 'rb', 'wb', 'rt' or 'wt'. Objects are written whole "
            "and cannot be appended to or changed; to refuse overwriting use put_bytes(mode='create').",
            field="mode",
        )
    if kind.endswith("b") and (encoding, errors, newline) != (None, None, None):
        raise OptionError(
            f"open {loans.shown(uri)}: got encoding, errors or newline with mode {mode!r}, expected them with text. "
            f"Write mode={mode[0] + 't'!r}.",
            field="encoding",
        )
    try:
        store, key = loans.find_object(uri, "open")
        if kind[0] == "r":
            reader = io.BufferedReader(RangeReader(store, key, loans), _BUFFER_BYTES)
            return reader if kind == "rb" else io.TextIOWrapper(reader, encoding or "utf-8", errors, newline)
        output = ObjectOutput(store.uri(key), store.open_writer(key), loans)
    except BaseException:
        loans.close()
        raise
    return output if kind == "wb" else ObjectTextOutput(output, encoding or "utf-8", errors, newline)


class ObjectOutput(io.BufferedIOBase):
    """An object being written, as a file. Made by ``open``.

    Threads: one at a time.
    """

    def __init__(self, uri: str, writer: ObjectWriter, loans: Loans) -> None:
        super().__init__()
        self.name = uri
        """The URI, as files have a name."""
        self.mode = "wb"
        """As files have it."""
        self.result: ObjectMeta | None = None
        """What the store said of the object, once it is published."""
        self._writer = writer
        self._loans = loans
        self._position = 0
        self._pid = os.getpid()

    def writable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """Bytes written so far."""
        self._check_open("tell")
        return self._position

    def write(self, data: Any) -> int:
        """Append ``data``, which may be reused once the call returns; returns its length in bytes."""
        self._check_open("write")
        count = self._writer.write(data)
        self._position += count
        return count

    def flush(self) -> None:
        """Nothing: an object is visible from ``close`` on, and not before."""

    def close(self) -> None:
        """Publish the object. Idempotent; nothing after ``abort``.

        Raises:
            StorageError: the object could not be stored. Then nothing is visible.
            ClosedError: a write failed before, and nothing is visible.
        """
        if self.closed:
            return
        try:
            self.result = self._writer.close()
        finally:
            self._end()

    def abort(self) -> None:
        """Publish nothing, and close. Idempotent; nothing after ``close``."""
        if self.closed:
            return
        try:
            self._writer.abort()
        finally:
            self._end()

    def _abort_after(self, error: BaseException) -> None:
        """Abort; if that fails too, it is a note on ``error``."""
        try:
            self.abort()
        except S3dlioError as second:
            error.add_note(str(second))

    def _end(self) -> None:
        self._loans.close()
        super().close()

    def _check_open(self, operation: str) -> None:
        if self.closed:  # a ValueError, as of every closed file
            raise ValueError(f"{operation} {self.name}: the file is closed, expected an open one. Open it again.")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._abort_after(error)

    def __del__(self) -> None:
        # io's own would close, and so publish what an exception may have cut short.
        if "_writer" in self.__dict__ and not self.closed and self._pid == os.getpid():
            warnings.warn(
                f"{self.name} was opened for writing and dropped without close(): nothing was published.",
                ResourceWarning,
                stacklevel=2,
                source=self,
            )
            self.abort()

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError(f"pickle {self.name}: a file being written belongs to its process. Open it there.")


class ObjectTextOutput(io.TextIOWrapper):
    """As ``ObjectOutput``, for text. Made by ``open``."""

    def __init__(self, output: ObjectOutput, encoding: str, errors: str | None, newline: str | None) -> None:
        super().__init__(output, encoding, errors, newline)
        self._output = output

    @property
    def result(self) -> ObjectMeta | None:
        """As ``ObjectOutput.result``."""
        return self._output.result

    def abort(self) -> None:
        """As ``ObjectOutput.abort``."""
        self._output.abort()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        else:
            self._output._abort_after(error)  # noqa: SLF001 - one module

    def __del__(self) -> None:
        pass  # the output's own warns and aborts; io's would close, and so publish
