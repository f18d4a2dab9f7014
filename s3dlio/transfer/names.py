"""Which keys can be files below one directory: none that leaves it, no two in one place.

Pure but for one look at the file system, ``ignores_case``. Checked before anything is transferred.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING

from s3dlio.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["check_file_names", "ignores_case"]

_REFUSED = frozenset({"", ".", ".."})


def check_file_names(names: Sequence[str], where: str, *, case_is_ignored: Callable[[], bool]) -> None:
    """Raise OptionError unless every name can be a file below one directory, beside all others.

    Args:
        names: keys relative to what is downloaded, "/" between segments.
        where: the source, for errors.
        case_is_ignored: whether the target takes "a" and "A" for one; asked only if it matters.
    """
    for name in names:
        if _REFUSED.intersection(name.split("/")) or "\0" in name:
            raise OptionError(
                f"download {where}: the key {name!r} has a segment that is empty, '.' or '..', expected a path below "
                "the target directory. Download it alone, under a name of your own.",
                field="source",
            )
    clash = _clash(names, str)
    if clash is None:
        clash = _clash(names, _fold)
        if clash is None or not case_is_ignored():
            return
    raise OptionError(
        f"download {where}: the keys {clash[0]!r} and {clash[1]!r} need the same place in the target directory, "
        "expected names that can be files side by side. Download them to separate directories.",
        field="source",
    )


def ignores_case(directory: str) -> bool:
    """Whether the file system of ``directory``, or of its nearest parent that exists, takes "a" and "A" for one."""
    for path in (Path(directory), *Path(directory).parents):
        swapped = path.with_name(path.name.swapcase()) if path.name else path
        if path.exists() and swapped.name != path.name:
            return swapped.exists() and swapped.samefile(path)
    return False


def _clash(names: Sequence[str], place: Callable[[str], str]) -> tuple[str, str] | None:
    """The first two names that want one place, or one of which is a directory of the other."""
    taken: dict[str, str] = {}
    for name in names:
        other = taken.setdefault(place(name), name)
        if other != name:
            return other, name
    for name in names:
        for parent in _parents(place(name)):
            if parent in taken:
                return taken[parent], name
    return None


def _parents(name: str) -> Iterator[str]:
    at = name.find("/")
    while at >= 0:
        yield name[:at]
        at = name.find("/", at + 1)


def _fold(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
