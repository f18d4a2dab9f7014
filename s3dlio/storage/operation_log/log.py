"""The operation log: every verb of every store that is opened while it is active, as a line of warp's format.

Owns: which log is active, its files, and what becomes of it in other processes. Must not know: verbs
(``storage.operation_log.store``), or the format (``storage.operation_log.format``).

Guarantees:
- lossless: an operation whose log cannot keep up waits; none is dropped, and memory stays bounded
- what was recorded ``_GATHER_S`` ago is in the file, in a frame that can be read whatever happens to the process
- a file has one writer: another process, forked, spawned or started beside, writes one of its own next to it
- a log that cannot be written warns at once, lets the operations go on, and raises when it is closed
"""

from __future__ import annotations

import fcntl
import os
import warnings
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from s3dlio.concurrency import Drain, Lock, get_ident
from s3dlio.errors import ClosedError, OptionError, S3dlioError
from s3dlio.storage.operation_log.format import HEADER, Lines
from s3dlio.storage.translate import translating_os

if TYPE_CHECKING:
    from contextvars import Token
    from typing import Self

    from s3dlio.storage.operation_log.format import Operation

__all__ = ["OpLog", "active_op_log", "op_log"]

_CAPACITY = 1 << 15
"""Records that may wait to be written, some 15 MB. Operations that come faster than they can be written wait."""

_GATHER_S = 0.25
"""Seconds that a record waits for others. Larger frames compress better; a kill loses so much."""

_current: ContextVar[OpLog | None] = ContextVar("s3dlio_op_log", default=None)
_entered: list[OpLog] = []
_environment: dict[str, OpLog] = {}
_open: dict[str, OpLog] = {}
# Module-level because a log is active for code that is handed nothing: threads, and functions that open stores
# themselves. Empty unless there is a log. ``_open`` has them by path, so that a file has one log in a process, and a
# store that comes out of a pickle finds it.


def op_log(path: str | os.PathLike[str], *, client_id: str | None = None) -> OpLog:
    """Log every operation of the stores that are opened in a block: ``with s3dlio.op_log("ops.tsv.zst"): ...``.

    Also of the functions, datasets and loaders that open stores there. It is active for the thread or task that
    entered the block, and for threads that have entered none. Worker processes write files of their own beside it,
    ``ops.<host>-<pid>.tsv.zst``, as does a process that finds another one writing to ``path``.

    Args:
        path: of a local file, replaced if it exists. Compressed if its name ends in ``.zst``, else plain text.
        client_id: names this client in each line. None: ``<host>-<pid>``.

    Returns:
        The log, to be used in a ``with`` statement once. Leaving that closes it.

    Raises:
        StorageError: on entering the block, the file cannot be made; on leaving it, it could not be written.
    """
    return OpLog(path, client_id=client_id)


def active_op_log() -> OpLog | None:
    """The log that a store opened now belongs to: of the block around the caller, else of ``S3DLIO_OP_LOG``."""
    log = _current.get()
    if log is not None and not log.closed:
        return log
    if _entered:
        return _entered[-1]
    path = os.environ.get("S3DLIO_OP_LOG")
    return (_environment.get(path) or _from_environment(path)) if path else None


def _from_environment(path: str) -> OpLog:
    made = OpLog(path)
    log = _open.setdefault(str(made.asked), made)  # another thread, or a store out of a pickle, may have been first
    log._file().open()  # noqa: SLF001 - one module; an error belongs to whoever opens a store
    _environment[path] = log
    return log


class OpLog:
    """A log of operations. Made by ``op_log``; a context manager.

    Threads: any. Processes: pickles; there, as in a forked child, it writes a file of its own.

    Args:
        path: as ``op_log``.
        client_id: as ``op_log``.
        made_by: id of the process that was asked for the log, and may have ``path`` itself; None: this one.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, client_id: str | None = None, made_by: int | None = None
    ) -> None:
        self._path = Path(path).expanduser().absolute()
        self._client_id = client_id
        self._made_by = os.getpid() if made_by is None else made_by
        self._files: dict[int, _File] = {}  # by process: a child inherits this dict and must not use the parent's
        self._mine = self._file()  # of this process, until a fork
        self._closed = False
        self._warned = False
        self._reset: Token[OpLog | None] | None = None

    @property
    def asked(self) -> Path:
        """What ``op_log`` was given, as an absolute path."""
        return self._path

    @property
    def path(self) -> Path:
        """Of the file that this process writes."""
        return self._file().path

    @property
    def closed(self) -> bool:
        """Whether nothing is logged any more."""
        return self._closed

    def record(self, operation: Operation) -> None:
        """Write down one operation; waits if many others wait. After ``close`` it does nothing."""
        if self._closed or self._mine.put(operation):
            return
        file = self._file()
        if file is not self._mine:  # the first record after a fork
            self._mine = file
            if file.put(operation):
                return
        if self._warned or file.error is None:  # closed meanwhile, or by the end of the process
            return
        self._warned = True
        warnings.warn(
            f"op log {self.path}: {file.error}, expected room for more lines. What follows is not logged.",
            RuntimeWarning,
            stacklevel=4,
        )

    def close(self) -> None:
        """Write what waits and close this process's file. Idempotent.

        Raises:
            StorageError: not every record could be written.
        """
        self._closed = True
        if _open.get(str(self._path)) is self:
            del _open[str(self._path)]
        if self in _entered:
            _entered.remove(self)
        file = self._files.get(os.getpid())
        if file is not None:
            file.close()

    def _file(self) -> _File:
        found = self._files.get(os.getpid())
        if found is None:
            made = _File(self._path, self._client_id, alone=self._made_by == os.getpid())
            found = self._files.setdefault(os.getpid(), made)  # opens nothing before its first use
        return found

    def __enter__(self) -> Self:
        if self._closed or self._reset is not None:
            raise ClosedError(f"op log {self._path}: used before, expected a new one. Call op_log again.")
        if _open.setdefault(str(self._path), self) is not self:
            raise _taken(self._path)
        try:
            self._file().open()
        except BaseException:
            self.close()
            raise
        _entered.append(self)
        self._reset = _current.set(self)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._reset is not None and _current.get() is self:
            _current.reset(self._reset)
        self.close()

    def __repr__(self) -> str:
        return f"OpLog({str(self._path)!r}{', closed' if self._closed else ''})"

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (str(self._path), self._client_id, self._made_by)


def _restore(path: str, client_id: str | None, made_by: int) -> OpLog:
    """The log of that file in this process: a closed one where it was made, a new one elsewhere, if there is none."""
    log = OpLog(path, client_id=client_id, made_by=made_by)
    if made_by == os.getpid():
        log._closed = True  # noqa: SLF001 - one module
        return _open.get(path, log)
    return _open.setdefault(path, log)


def _taken(path: Path) -> OptionError:
    return OptionError(
        f"open op log {path}: another log of this process writes it, expected one writer. "
        "Give each log a name of its own.",
        field="path",
    )


class _File:
    """The file of one process: opened at its first use, closed at the end of the process at the latest.

    Args:
        path: that was asked for.
        client_id: for the lines.
        alone: take ``path`` itself unless another process is writing it; else a name of this process's own.
    """

    def __init__(self, path: Path, client_id: str | None, *, alone: bool) -> None:
        process = f"{os.uname().nodename}-{os.getpid()}"
        stem, dot, suffix = path.name.partition(".") if path.name[0] != "." else (path.name, "", "")
        self.path = path
        self._pid = os.getpid()
        self._own_path = path.with_name(f"{stem}.{process}{dot}{suffix}")
        self._alone = alone
        self._lines = Lines(process if client_id is None else client_id)
        self._codec = pa.Codec("zstd") if path.suffix == ".zst" else None
        self._opening = Lock()
        self._opener = 0  # thread inside of open()
        self._early: list[Operation] = []
        self._error: BaseException | None = None
        self._drain: Drain[Operation] | None = None
        self._descriptor = -1
        self._written = 0

    @property
    def error(self) -> BaseException | None:
        """Why nothing more is taken."""
        return self._error if self._drain is None else self._drain.error

    def put(self, operation: Operation) -> bool:
        """Hand over a record. False: the file is closed or cannot be made or written."""
        drain = self._drain
        if drain is None:
            if self._pid != os.getpid():
                return False
            if self._opener == get_ident():  # a garbage collection inside of open() ended a listing
                self._early.append(operation)
                return True
            try:
                drain = self.open()
            except S3dlioError as error:
                self._error = error
                return False
        return drain.put(operation)

    def open(self) -> Drain[Operation]:
        """Make the file, unless it is there.

        Raises:
            StorageError: it cannot be made.
        """
        with self._opening:
            if self._drain is None:
                if self._error is not None:
                    raise self._error
                self._opener = get_ident()
                try:
                    self._drain = self._begun()
                    while self._early:
                        self._drain.put(self._early.pop(0))
                finally:
                    self._opener = 0
            return self._drain

    def close(self) -> None:
        """Write what waits. Idempotent."""
        if self._drain is not None:
            self._drain.close()

    def _begun(self) -> Drain[Operation]:
        self._descriptor = self._claimed()
        try:
            self._write(HEADER.encode())
        except BaseException:
            self._finish()
            raise
        return Drain(self._consume, self._finish, capacity=_CAPACITY, gather_s=_GATHER_S, name="op-log")

    def _claimed(self) -> int:
        """A descriptor of the empty file that this process has to itself."""
        for path in (self.path, self._own_path) if self._alone else (self._own_path,):
            with translating_os("open op log", str(path)):
                descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
                if _locked(descriptor):
                    os.ftruncate(descriptor, 0)
                    self.path = path
                    return descriptor
                os.close(descriptor)
        raise _taken(self._own_path)

    def _consume(self, operations: list[Operation]) -> None:
        self._write(self._lines.of(operations))

    def _write(self, text: bytes) -> None:
        """Append ``text``, as a frame that can be read without what follows; all of it or nothing."""
        # As bytes: memoryview takes the size that a Buffer had before compress() shrank it (pyarrow 26).
        frame = memoryview(text if self._codec is None else self._codec.compress(text, asbytes=True))
        with translating_os("write op log", str(self.path)):
            try:
                while frame:
                    frame = frame[os.write(self._descriptor, frame) :]
            except OSError:
                os.ftruncate(self._descriptor, self._written)
                raise
            self._written = os.lseek(self._descriptor, 0, os.SEEK_CUR)

    def _finish(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)  # a forked child may hold the descriptor for long
        os.close(self._descriptor)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a filesystem without locks
    return True
