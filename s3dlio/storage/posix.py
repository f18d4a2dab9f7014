"""The POSIX calls below ``LocalStore``: pending files, full reads, tree walks.

Owns: the order temporary name -> fsync -> rename or link -> fsync of the directory, so that after a
crash a name leads to the whole file or to none. Must not know: URIs, the error tree, O_DIRECT (``direct.io``).
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Opener = Callable[[str, int], int]

__all__ = [
    "OpenFile",
    "PendingFile",
    "SpecialFileError",
    "check_replaceable",
    "is_temporary",
    "left_out",
    "opened",
    "plain_open",
    "read_into",
    "walk",
]

_PREFIX, _SUFFIX = ".s3dlio-", ".tmp"

_PIECE_BYTES = 1 << 20
"""What a copy holds: enough that the calls cost nothing beside the copying, and still in a processor's cache."""


def plain_open(path: str, flags: int) -> int:
    """``os.open`` with the mode that the umask then narrows; also what ``open(opener=)`` takes."""
    return os.open(path, flags | os.O_CLOEXEC, 0o666)


def is_temporary(name: str) -> bool:
    """Whether a file of this name is a pending one, which listings leave out."""
    return name.startswith(_PREFIX) and name.endswith(_SUFFIX)


class SpecialFileError(OSError):
    """A device, pipe or socket has the name of a file to be written."""


def check_replaceable(path: Path) -> None:
    """Raise SpecialFileError if a file that gets this name would replace /dev/null, a FIFO or the like.

    So it would /dev/stdout, which is a link, also where that leads to a regular file.
    """
    try:
        mode = path.lstat().st_mode
        process = stat.S_ISLNK(mode) and str(path.readlink()).startswith("/proc/")
        if stat.S_ISLNK(mode):
            mode = path.stat().st_mode
    except OSError:
        return  # nothing is there, or what is done next says more
    if process or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise SpecialFileError(str(path))


class PendingFile:
    """A file under a temporary name beside ``path``, until it is published there or discarded.

    Args:
        path: where it will be. Missing parent directories are made.
        opener: how to open the temporary file.

    Raises:
        SpecialFileError: the path is a device, pipe or socket.
    """

    def __init__(self, path: str, opener: Opener = plain_open) -> None:
        self._path = Path(path)
        check_replaceable(self._path)
        _make_directories(self._path.parent)
        # Not derived from the target's name, which may already have the longest legal length.
        self._temporary = self._path.parent / f"{_PREFIX}{uuid.uuid4().hex}{_SUFFIX}"
        # Path.open has no opener; publish and discard close it.
        self._file = open(self._temporary, "xb", buffering=0, opener=opener)  # noqa: SIM115

    def write(self, data: memoryview) -> None:
        """Append all of ``data``."""
        rest = data
        while len(rest):
            rest = rest[self._file.write(rest) :]

    def publish(self, *, create: bool = False) -> os.stat_result:
        """Make the file visible at its path; returns its status there.

        Raises:
            FileExistsError: ``create`` and the path is taken. Decided by the file system, atomically.
        """
        self._settle()
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

    def _settle(self) -> None:
        """Bring everything that was written to the disk."""
        os.fsync(self._file.fileno())


class OpenFile:
    """A regular file that is open for reading; whoever opened it closes the descriptor.

    Args:
        descriptor: of the file.
        status: of the file when it was opened.
    """

    def __init__(self, descriptor: int, status: os.stat_result) -> None:
        self.descriptor = descriptor
        self.status = status

    def read(self, start: int, end: int) -> pa.Buffer:
        """Bytes [start, end), read-only; fewer only where the file ends."""
        view = memoryview(pa.allocate_buffer(end - start)).cast("B")
        return pa.py_buffer(view[: self.read_into(view, start)].toreadonly())

    def read_into(self, view: memoryview, start: int) -> int:
        """Fill ``view`` from ``start`` on; returns the bytes read, fewer only where the file ends."""
        return read_into(self.descriptor, view, start)

    def pieces(self) -> Iterator[memoryview]:
        """All of the file in order; each piece is valid until the next one."""
        memory = memoryview(bytearray(_PIECE_BYTES))
        done = 0
        while count := self.read_into(memory, done):
            yield memory[:count]
            done += count


@contextlib.contextmanager
def opened(path: str, opener: Opener = plain_open) -> Iterator[OpenFile]:
    """The regular file ``path``, open for reading.

    Raises:
        IsADirectoryError: it is a directory, or no file with a content of its own.
    """
    descriptor = opener(path, os.O_RDONLY | os.O_NONBLOCK)  # or a FIFO would block here for ever
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise IsADirectoryError(path)
        yield OpenFile(descriptor, status)
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
    for name, entry in _entries(root, "", ()):
        with contextlib.suppress(FileNotFoundError):  # deleted since the directory was read
            if _is(entry.is_file):
                yield name, entry.stat()


def left_out(root: str) -> Iterator[str]:
    """What ``walk`` passes over, by relative path: links that lead nowhere, pipes, sockets, devices."""
    return (name for name, entry in _entries(root, "", ()) if not _is(entry.is_file))


def _entries(root: str, below: str, parents: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """All that is no directory, without pending files."""
    status = Path(root).stat()
    identity = (status.st_dev, status.st_ino)
    if identity in parents:
        return
    with os.scandir(root) as entries:
        # "a/" sorts after "a.b" but "a" before it: with the slash the walk is in the order of whole keys.
        named = sorted((entry.name + "/" * _is(entry.is_dir), entry) for entry in entries)
    for name, entry in named:
        if name.endswith("/"):
            with contextlib.suppress(FileNotFoundError):  # deleted since the directory was read
                yield from _entries(entry.path, below + name, (*parents, identity))
        elif not is_temporary(name):
            yield below + name, entry


def _is(kind: Callable[[], bool]) -> bool:
    """What ``kind`` says of a directory's entry; False of a link that leads to itself."""
    try:
        return kind()
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        return False


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
