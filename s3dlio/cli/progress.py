"""Progress on standard error: a bar where it is a terminal, a line an object with ``-v``, else nothing."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, TypeAlias

from s3dlio.cli.sizes import human

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import ProgressColumn

    from s3dlio.cli.session import Session
    from s3dlio.transfer.result import TransferProgress, TransferResult

    Callback: TypeAlias = Callable[[TransferProgress], object]

__all__ = ["shown_progress", "summary"]

_WIDE = 70
"""Columns from which on there is room for a rate and a time besides a bar that can be read."""


@contextlib.contextmanager
def shown_progress(session: Session) -> Iterator[Callback | None]:
    """What to pass as ``progress=``; None where nobody looks."""
    if sys.stderr.isatty():
        with _bar(session.verbose) as callback:
            yield callback
    else:
        yield _said_line if session.verbose else None


def summary(result: TransferResult) -> str:
    """One line for people: objects, bytes, rate."""
    rate = f", {human(result.bytes / result.seconds)}/s" if result.seconds else ""
    skipped = f", {result.skipped} skipped" if result.skipped else ""
    objects = f"{result.objects} object{'' if result.objects == 1 else 's'}"
    return f"{objects}, {human(result.bytes)} in {result.seconds:.1f} s{rate}{skipped}"


def line(progress: TransferProgress) -> str:
    """One line for an object that is whole."""
    return f"{progress.current}  {progress.current_s * 1000:.1f} ms"


def _said_line(progress: TransferProgress) -> None:
    if progress.current_whole:
        print(line(progress), file=sys.stderr)


@contextlib.contextmanager
def _bar(verbose: bool) -> Iterator[Callback]:
    from rich.console import Console  # noqa: PLC0415 - 50 ms that only a terminal needs
    from rich.progress import (  # noqa: PLC0415
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, highlight=False)
    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", justify="right"),
        BarColumn(bar_width=None),
        TaskProgressColumn(show_speed=False),
        TextColumn("{task.fields[amount]}"),
    ]
    if console.width >= _WIDE:
        columns += [TextColumn("{task.fields[rate]}"), TimeRemainingColumn(compact=True)]
    with Progress(*columns, console=console, transient=True, expand=True) as progress:
        task = progress.add_task("listing", total=None, amount="", rate="")

        def show(news: TransferProgress) -> None:
            elapsed = progress.tasks[0].elapsed or 0.0
            open_end = news.objects_done > news.objects_total  # a benchmark that goes on for a time
            progress.update(
                task,
                description=f"{news.objects_done}" if open_end else f"{news.objects_done}/{news.objects_total}",
                # objects without bytes count for one each, so that empty ones fill the bar, too
                completed=news.bytes_done + news.objects_done,
                total=None if open_end else news.bytes_total + news.objects_total or None,
                amount=human(news.bytes_done) + ("" if open_end else f" of {human(news.bytes_total)}"),
                rate=f"{human(news.bytes_done / elapsed)}/s" if elapsed > 0 else "",
            )
            if verbose and news.current_whole:
                progress.console.print(line(news), soft_wrap=True, markup=False)

        yield show
