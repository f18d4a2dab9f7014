"""Whether what is at the target is what would be sent there: the rule of ``resume``.

Owns: the comparison of size, time and content. Makes no request; reads a local file only where the times say nothing.
Where it cannot tell, an upload goes again, and a download with its object's time is taken as whole.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s3dlio.transfer.selection import Item

__all__ = ["Found", "is_done"]

_MD5 = re.compile(r'"?([0-9a-f]{32})"?', re.IGNORECASE)
"""What S3 gives as ETag to an object that came in one request, unless KMS encrypts it: then it equals no digest, and
the object goes again. Source: Amazon S3 API Reference, "Object"."""

_FRESH = dt.timedelta(seconds=60)
"""A file this much younger than its object is of the last version that the object's second has seen: time for the
download itself and for clocks that differ. Others are read, which costs their bytes."""

_ROUNDING = dt.timedelta(microseconds=1)
"""What a time loses as a file's."""


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What is at the target."""

    size: int
    mtime: dt.datetime | None
    etag: str | None = None
    path: str | None = None
    """Of a local file."""
    changed: dt.datetime | None = None
    """When a local file got its name, by this machine's clock."""


def is_done(item: Item, found: Found, *, source_path: str | None) -> bool:
    """Whether ``found`` is ``item``.

    Args:
        item: the source, as it was listed.
        found: the target.
        source_path: of a source that is a local file.
    """
    if found.size != item.size:
        return False
    if item.size == 0 or item.mtime is None or found.mtime is None:
        return True
    if _second(found.mtime) != _second(item.mtime):
        return found.mtime > item.mtime
    # From here on the times are of one second, which is all that S3 tells.
    exact = bool(item.mtime.microsecond and found.mtime.microsecond)
    if found.path is not None:  # it was given the object's time
        if exact:
            return item.mtime - found.mtime <= _ROUNDING
        old = found.changed is not None and found.changed - item.mtime > _FRESH
        return old or _same(item.etag, source_path, found.etag, found.path) is not False
    same = _same(item.etag, source_path, found.etag, found.path)
    return exact and found.mtime > item.mtime if same is None else same


def _second(time: dt.datetime) -> int:
    return int(time.timestamp())


def _same(etag: str | None, path: str | None, other_etag: str | None, other_path: str | None) -> bool | None:
    """Whether two contents are one; None if there is no digest to compare."""
    first, second = _digest(etag), _digest(other_etag)
    if first is None and second is None:
        return None
    first, second = first or _digest_of_file(path), second or _digest_of_file(other_path)
    return None if first is None or second is None else first == second


def _digest(etag: str | None) -> str | None:
    match = None if etag is None else _MD5.fullmatch(etag)
    return None if match is None else match[1].lower()


def _digest_of_file(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except OSError:  # the transfer itself meets it, and says so
        return None
