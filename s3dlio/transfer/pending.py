"""A file that is filled in parts by several threads and appears under its name when it is whole.

Guarantees: until ``publish`` nothing is there but a temporary file, which listings leave out; after ``discard`` not
even that, also while other threads are still writing. The data is not forced to the disk: after a power failure
the file may be empty or short, which ``resume=True`` finds by its size.
"""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from s3dlio.concurrency import Lock
from s3dlio.storage.posix import check_replaceable
from s3dlio.transfer.conveyor import Stopped

if TYPE_CHECKING:
    import datetime as dt

__all__ = ["PendingDownload"]

_NAME = ".s3dlio-{}.tmp"
"""As ``storage.posix.is_temporary`` knows them."""


class PendingDownload:
    """A file on its way to ``path``. Nothing is made before the first ``write_at``."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._temporary = self._path.parent / _NAME.format(uuid.uuid4().hex)
        self._lock = Lock()
        self._file = -1
        self._writers = 0
        self._ended = False

    def write_at(self, offset: int, data: memoryview) -> None:
        """Write all of ``data`` at ``offset``. From any thread.

        Raises:
            Stopped: after ``discard``.
            OSError: the system's own; SpecialFileError if the path is a device, pipe or socket.
        """
        with self._lock:
            if self._ended:
                raise Stopped
            if self._file < 0:
                self._file = self._open()
            self._writers += 1
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(self._file, data[done:], offset + done)
        finally:
            with self._lock:
                self._writers -= 1
                self._close_if_unused()

    def publish(self, mtime: dt.datetime | None) -> None:
        """Give the file its name and time. Called once, when all parts are written.

        Raises:
            Stopped: after ``discard``.
            OSError: the system's own; the temporary file is left to ``discard``.
        """
        with self._lock:
            if self._ended:
                raise Stopped
            if mtime is not None:
                os.utime(self._file, (mtime.timestamp(), mtime.timestamp()))
            self._temporary.replace(self._path)
            self._ended = True
            self._close_if_unused()

    def discard(self) -> None:
        """Remove the temporary file. Idempotent; does nothing once it is published."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            if self._file >= 0:
                with contextlib.suppress(FileNotFoundError):  # somebody cleaned up before
                    self._temporary.unlink()
            self._close_if_unused()

    def _open(self) -> int:
        check_replaceable(self._path)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(self._temporary, flags, 0o666)
        except FileNotFoundError:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            return os.open(self._temporary, flags, 0o666)

    def _close_if_unused(self) -> None:
        if self._ended and self._writers == 0 and self._file >= 0:
            os.close(self._file)
            self._file = -1
