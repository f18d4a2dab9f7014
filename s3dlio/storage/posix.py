"""The POSIX calls below ``LocalStore``: pending files, full reads, tree walks.

Owns: the order temporary name -> fsync -> rename or link -> fsync of the directory, so that after a
crash a name leads to the whole file or to none. Must not know: URIs, the error tree.
"""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PendingFile", "is_temporary", "opened", "read_into", "walk"]

_PREFIX, _SUFFIX = ".s3dlio-", ".tmp"


def is_temporary(name: str) -> bool:
    """Whether a file of this name is a pending one, which listings leave out."""
    return name.startswith(_PREFIX) and name.endswith(_SUFFIX)


class PendingFile:
    """A file under a temporary name beside ``path``, until it is published there or discarded.

    Args:
        path: where it will be. Missing parent directories are made.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        _make_directories(self._path.parent)
        # Not derived from the target's name, which may already have the longest legal length.
        self._temporary = self._path.parent / f"{_PREFIX}{uuid.uuid4().hex}{_SUFFIX}"
        self._file = self._temporary.open("xb", buffering=0)

    def write(self, data: memoryview) -> None:
        """Append all of ``data``."""
        rest = data
        while len(rest):
            rest = rest[self._file.write(rest) :]

    def fill_from(self, descriptor: int) -> None:
        """Append the open file ``descriptor`` from its position on."""
        while data := os.read(descriptor, 1 << 20):
            self.write(memoryview(data))

    def publish(self, *, create: bool = False) -> os.stat_result:
        """Make the file visible at its path; returns its status there.

        Raises:
            FileExistsError: ``create`` and the path is taken. Decided by the file system, atomically.
        """
        os.fsync(self._file.fileno())
        if create:
            os.link(self._temporary, self._path)
            self._temporary.unlink()
        else:
            self._temporary.replace(self._path)
        _sync_directory(self._path.parent)
        status = os.fstat(self._file.fileno())
        self._file.close()
        return status

    def discard(self) -> None:
        """Remove the temporary file. Does nothing once it is published."""
        self._file.close()
        self._temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def opened(path: str) -> Iterator[tuple[int, os.stat_result]]:
    """A descriptor of the regular file ``path`` for reading, and its status.

    Raises:
        IsADirectoryError: it is a directory, or no file with a content of its own.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # or a FIFO would block here for ever
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise IsADirectoryError(path)
        yield descriptor, status
    finally:
        os.close(descriptor)


def read_into(descriptor: int, view: memoryview, start: int) -> int:
    """Fill ``view`` from ``start`` on without holding the GIL; returns the bytes read, fewer only at the end."""
    done = 0
    while done < len(view):
        count = os.preadv(descriptor, [view[done:]], start + done)
        if count == 0:
            break
        done += count
    return done


def walk(root: str) -> Iterator[tuple[str, os.stat_result]]:
    """All regular files below the directory ``root`` as (relative path, status), sorted by path.

    Symbolic links are followed; a link to one of its own parents is not descended into. What vanishes
    during the walk is left out.
    """
    yield from _walk(root, "", ())


def _walk(root: str, below: str, parents: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, os.stat_result]]:
    status = Path(root).stat()
    identity = (status.st_dev, status.st_ino)
    if identity in parents:
        return
    with os.scandir(root) as entries:
        # "a/" sorts after "a.b" but "a" before it: with the slash the walk is in the order of whole keys.
        named = sorted((entry.name + "/" * entry.is_dir(), entry) for entry in entries)
    for name, entry in named:
        with contextlib.suppress(FileNotFoundError):  # deleted since the directory was read, or a dangling link
            if name.endswith("/"):
                yield from _walk(entry.path, below + name, (*parents, identity))
            elif not is_temporary(name) and entry.is_file():
                yield below + name, entry.stat()


def _make_directories(path: Path) -> None:
    missing = []
    while not path.exists():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        directory.mkdir(exist_ok=True)
        _sync_directory(directory.parent)


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
