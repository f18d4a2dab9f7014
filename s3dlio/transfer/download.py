"""``download``: objects and trees of any store to local files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3dlio.transfer.execute import execute
from s3dlio.transfer.selection import select
from s3dlio.transfer.side import Side

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3dlio.transfer.result import TransferProgress, TransferResult
    from s3dlio.transfer.side import StorageOptionsLike, UriLike

__all__ = ["download"]


def download(
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
    """Download an object, everything below a prefix, or the objects that a pattern names.

    Names as in ``copy``: a prefix's content lands below ``target``, and one object becomes the file ``target`` unless
    that is a directory or ends in "/". Missing directories are made. An object up to 8 MiB is one request; a larger one
    is read in parallel parts, all of one version. A file appears under its name when it is whole, with the object's
    time of modification; it is not forced to the disk.

    Args:
        source: URI of an object, a prefix, or a pattern of keys. An object whose key is the pattern is that object.
        target: path of a file or directory.
        resume: as ``copy``.
        skip_existing: as ``copy``.
        max_in_flight: as ``copy``.
        progress: as ``copy``.
        storage_options: how to reach the source, as ``open_store``.
        filesystem: a filesystem of the caller's own, in which ``source`` is a path.

    Returns: the number of objects and bytes that were downloaded, and of objects that were left alone.

    Raises:
        NotFoundError: there is nothing at ``source``.
        OptionError: ``target`` is no local path, or keys cannot be files below it; see ``copy``.
        PreconditionError: a large object was overwritten while it was read.
        StorageError: of the first object that failed, by name.
    """
    with (
        Side.of(source, storage_options=storage_options, filesystem=filesystem) as origin,
        Side.of_files(target, "download", "target") as goal,
    ):
        return execute(
            "download",
            origin,
            goal,
            lambda: select(origin, "download"),
            resume=resume,
            skip_existing=skip_existing,
            max_in_flight=max_in_flight,
            progress=progress,
        )
