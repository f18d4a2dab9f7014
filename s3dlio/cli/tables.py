"""Tables on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from s3dlio.cli.sizes import human

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable

__all__ = ["print_listing"]


def print_listing(rows: Iterable[tuple[int, dt.datetime | None, str | None, str]], *, long: bool) -> None:
    """Rows of (bytes, time, ETag, URI); a URI that is longer than its column goes on in the next line."""
    table = Table(box=None, pad_edge=False)
    table.add_column("size", justify="right", no_wrap=True)
    if long:
        table.add_column("modified", no_wrap=True)
        table.add_column("etag", max_width=12, no_wrap=True, overflow="ellipsis")
    table.add_column("uri", overflow="fold", ratio=1)
    for size, mtime, etag, uri in rows:
        when = "-" if mtime is None else mtime.astimezone().strftime("%Y-%m-%d %H:%M:%S")
        table.add_row(human(size), *((when, etag or "-") if long else ()), uri)
    Console(highlight=False, markup=False).print(table)
