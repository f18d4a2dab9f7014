"""What a transfer is about: one object, everything below a directory, or what a pattern names.

Owns: the rules for trailing slashes and patterns, and names relative to what was asked for. Makes one request for
an object (a head), one listing for a tree, both for what may be either, a pattern two. Must not know: targets.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from s3dlio.errors import NotFoundError, OptionError
from s3dlio.storage.listing import from_nanoseconds
from s3dlio.storage.posix import is_temporary, left_out
from s3dlio.storage.translate import naming
from s3dlio.transfer.patterns import is_pattern, matcher, split_pattern

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterator

    from s3dlio.transfer.side import Side

__all__ = ["Item", "Selection", "select"]

_NAMED = 3
"""Names that a warning holds."""

_WEB = ("http", "https")
"""Their keys end in a query, which may be a signature; it is no part of a name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """One object to transfer, as a listing or a head knows it."""

    key: str
    """In the source store."""
    name: str
    """Relative to what was asked for: the last segment of a single object."""
    size: int
    etag: str | None
    mtime: dt.datetime | None


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """The objects, and whether they are one that was named by its own key."""

    items: list[Item]
    single: bool


def select(source: Side, operation: str, *, trees: bool = True) -> Selection:
    """The objects that ``source`` names.

    Args:
        source: of an object, a directory (tree), or a pattern of keys.
        operation: for errors.
        trees: whether a directory is legal.

    Raises:
        NotFoundError: nothing is there.
        OptionError: a directory where none is legal.
    """
    key, missing = source.key, None
    if key and not key.endswith("/"):
        try:
            with naming(operation):
                found = source.store.head(key)
        except NotFoundError as error:
            missing = error
        else:
            path = re.split("[?#]", key, maxsplit=1)[0] if source.scheme in _WEB else key
            name = path.rpartition("/")[2]
            return Selection([Item(key, name, found.size, found.etag, found.mtime)], single=True)
    pattern = bool(missing) and is_pattern(key) and not _is_directory(source, key)
    items = _matched(source, key) if pattern else _below(source, key)
    if trees or pattern:
        selected = list(items)
    elif next(items, None) is not None:
        raise OptionError(
            f"{operation} {source.uri(key)}: got a directory, expected one object. Pass recursive=True for all below.",
            field="recursive",
        )
    else:
        selected = []
    if not selected and not (trees and source.local and Path(source.path(key)).is_dir()):
        raise NotFoundError(
            f"{operation} {source.uri(key)}: no such object and none below it, expected something to {operation}. "
            "List the directory above.",
            uri=source.uri(key),
            operation=operation,
        ) from missing
    if trees and not pattern and source.scheme in {"file", "direct"} and operation != "delete":
        _warn_of_left_out(source, key, operation)
    return Selection(selected, single=False)


def _warn_of_left_out(source: Side, key: str, operation: str) -> None:
    """Say which names of a local tree are no files, and so do not move."""
    names: list[str] = []
    with contextlib.suppress(OSError):  # the tree changes; what was listed is read all the same, or fails by name
        names.extend(left_out(source.path(key.rstrip("/"))))
    if names:
        shown = ", ".join(map(repr, names[:_NAMED])) + (f" and {len(names) - _NAMED} more" if names[_NAMED:] else "")
        warnings.warn(
            f"{operation} {source.uri(key)}: left out {shown}: links that lead nowhere, pipes, sockets or devices. "
            "Only files and what links to files are moved.",
            RuntimeWarning,
            stacklevel=6,  # who called upload or copy
        )


def _is_directory(source: Side, key: str) -> bool:
    """Whether what looks like a pattern is the name of a directory, which wins as an object's does."""
    return Path(source.path(key)).is_dir() if source.local else next(source.store.list(key), None) is not None


def _below(source: Side, key: str) -> Iterator[Item]:
    base = key.rstrip("/")
    skip = len(base) + 1 if base else 0
    for batch in source.store.list(base):
        columns = (batch.column(name).to_pylist() for name in ("key", "size", "etag", "mtime"))
        for found, size, etag, mtime in zip(*columns, strict=True):
            yield Item(found, found[skip:], size, etag, mtime)


def _matched(source: Side, key: str) -> Iterator[Item]:
    directory, pattern = split_pattern(key)
    if source.local and "**" not in pattern.split("/"):
        yield from _files(source, directory, pattern)
        return
    wanted = matcher(pattern)
    for item in _below(source, directory):
        if wanted.fullmatch(item.name):
            yield item


def _files(source: Side, directory: str, pattern: str) -> Iterator[Item]:
    """Local files without a walk through everything below ``directory``."""
    base = Path(source.path(directory))
    for path in sorted(base.glob(re.sub(r"\*+", "*", pattern))):  # Python refuses "a**"
        if path.is_file() and not is_temporary(path.name):
            status = path.stat()
            name = str(path.relative_to(base))
            key = f"{directory}/{name}" if directory else name
            yield Item(key, name, status.st_size, None, from_nanoseconds(status.st_mtime_ns))
