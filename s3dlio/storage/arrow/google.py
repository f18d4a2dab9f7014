"""Objects on Google through pyarrow without its random-access file.

That file (pyarrow 26) makes its first request for bytes where Python asks whether it is closed, which every method of
it does, and holds Python's lock meanwhile: no other thread runs until the server answers, no limit and no Ctrl-C helps,
and the client itself gives up after minutes. Its streams make each request without the lock, but begin at the
object's first byte. So what lies within ``SKIPPED_BYTES`` is read by a stream that passes over what is before it;
ranges farther on have the file alone.

A stream says nothing of the version that it reads. The object is looked at before and behind its opening; where both
say the same, all bytes, which come in one answer, are of that version.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
from typing import TYPE_CHECKING, Any, NamedTuple

from s3dlio.storage.arrow.read import fill
from s3dlio.storage.listing import from_nanoseconds

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["SKIPPED_BYTES", "GoogleObject", "Version", "open_object", "version_of"]

SKIPPED_BYTES = 8 << 20
"""Where a range may begin for a stream. As long as the requests that the file makes more, where a connection carries
50 MiB/s and a request takes 0.1 s."""

_CHUNK_BYTES = 1 << 20


class Version(NamedTuple):
    """What Google says of an object."""

    size: int
    etag: str | None
    mtime: dt.datetime


class GoogleObject:
    """The bytes of one version, from the first one on."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def read_into(self, view: memoryview, start: int) -> int:
        """Fill ``view`` with the bytes from ``start`` on; how many of them came. To be called once."""
        if self._pass_over(start) < start:
            return 0
        return fill(self._stream, view)

    def _pass_over(self, size: int) -> int:
        chunk = memoryview(bytearray(min(size, _CHUNK_BYTES)))
        done = 0
        while done < size:
            count = self._stream.readinto(chunk[: size - done])
            if count == 0:
                break
            done += count
        return done


@contextlib.contextmanager
def open_object(filesystem: Any, path: str, *, reading: bool) -> Iterator[tuple[GoogleObject, Version] | None]:
    """The object and its version; None if it was replaced meanwhile. Three requests, or two if not ``reading``.

    Args:
        filesystem: a ``pyarrow.fs.GcsFileSystem``.
        path: bucket and key.
        reading: whether the bytes must be those of the version.

    Raises:
        FileNotFoundError: there is none.
    """
    seen = filesystem.get_file_info(path) if reading else None
    if seen is not None and not seen.is_file:
        raise FileNotFoundError(path)
    with filesystem.open_input_stream(path, compression=None) as stream:
        version = version_of(stream.metadata())
        if seen is not None and (seen.size, from_nanoseconds(seen.mtime_ns)) != (version.size, version.mtime):
            yield None
        else:
            yield GoogleObject(stream), version


def version_of(said: dict[str, bytes]) -> Version:
    """What the metadata of one of pyarrow's files or streams says.

    The ETag is the one that the native engine sees, which is the MD5 of the content. What was written in parts has
    none; there the JSON interface's own ETag differs from the XML interface's.

    Source: cloud.google.com/storage/docs/hashes-etags
    """
    md5 = base64.b64decode(said.get("md5Hash") or b"").hex()
    etag = md5 or (said.get("etag") or b"").decode().strip('"')
    return Version(int(said["size"]), etag or None, dt.datetime.fromisoformat(said["updated"].decode()))
