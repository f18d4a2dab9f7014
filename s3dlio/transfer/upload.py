"""``upload``: local files and trees to any store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3dlio.transfer.execute import execute
from s3dlio.transfer.selection import select
from s3dlio.transfer.side import Side

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3dlio.transfer.result import TransferProgress, TransferResult
    from s3dlio.transfer.side import StorageOptionsLike, UriLike

__all__ = ["upload"]


def upload(
    source: UriLike,
    target: UriLike,
    *,
    resume: bool = False,
    skip_existing: bool = False,
    max_in_flight: int = 64,
    progress: Callable[[TransferProgress], object] | None = None,
    storage_options: StorageOptionsLike = None,
    filesystem: object | None = None,
) -> TransferResult:
    """Upload a file, everything below a directory, or the files that a pattern names.

    Names as in ``copy``: a directory's content lands below ``target``, ``"data/*.npz"`` and ``"data/**/*.npz"`` keep
    their paths below ``data``, and one file becomes ``target`` itself unless that ends in "/" or is a bucket. Symbolic
    links are followed. A file up to 8 MiB is one request; a larger one is sent in parts and appears when all are there.
    Interrupted, it leaves no parts behind where the engine can abort.

    Args:
        source: path of a file or directory, or a pattern. A file or directory whose name is the
            pattern is that one.
        target: URI of an object or a directory.
        resume: as ``copy``.
        skip_existing: as ``copy``.
        max_in_flight: as ``copy``.
        progress: as ``copy``.
        storage_options: how to reach the target, as ``open_store``.
        filesystem: a filesystem of the caller's own, in which ``target`` is a path.

    Returns: the number of files and bytes that were uploaded, and of files that were left alone.

    Raises:
        NotFoundError: there is nothing at ``source``.
        StorageError: of the first file that failed, by name; also if a file changes while it is read.
    """
    with (
        Side.of_files(source, "upload", "source") as origin,
        Side.of(target, storage_options=storage_options, filesystem=filesystem) as goal,
    ):
        return execute(
            "upload",
            origin,
            goal,
            lambda: select(origin, "upload"),
            resume=resume,
            skip_existing=skip_existing,
            max_in_flight=max_in_flight,
            progress=progress,
        )
