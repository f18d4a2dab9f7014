"""Tables on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3dlio.cli.sizes import human

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

__all__ = ["listing"]

_ETAG_COLUMNS = 12


def listing(rows: Sequence[tuple[int, dt.datetime | None, str | None, str]], *, long: bool) -> list[str]:
    """The lines for rows of (bytes, time, ETag, URI).

    The URI stands last and whole: the terminal breaks what is longer than its line, and it can be copied from there.
    """
    cells = [("size", "modified", "etag", "uri")]
    for size, mtime, etag, uri in rows:
        when = "-" if mtime is None else mtime.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        cells.append((human(size), when, _clipped(etag or "-"), _harmless(uri)))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    shown = []
    for size_text, when, etag_text, uri in cells:
        between = f"  {when:<{widths[1]}}  {etag_text:<{widths[2]}}" if long else ""
        shown.append(f"{size_text:>{widths[0]}}{between}  {uri}")
    return shown


def _clipped(etag: str) -> str:
    return etag if len(etag) <= _ETAG_COLUMNS else f"{etag[: _ETAG_COLUMNS - 1]}…"


def _harmless(text: str) -> str:
    """Without what a terminal would obey: escape sequences, carriage returns."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
