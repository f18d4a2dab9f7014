"""``copy``: objects and trees from anywhere to anywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3dlio.transfer.execute import execute
from s3dlio.transfer.selection import select
from s3dlio.transfer.side import Side

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3dlio.transfer.result import TransferProgress, TransferResult
    from s3dlio.transfer.side import StorageOptionsLike, UriLike

__all__ = ["copy"]


def copy(
    source: UriLike,
    target: UriLike,
    *,
    recursive: bool = False,
    resume: bool = False,
    skip_existing: bool = False,
    max_in_flight: int = 64,
    progress: Callable[[TransferProgress], object] | None = None,
    source_options: StorageOptionsLike = None,
    source_filesystem: object | None = None,
    storage_options: StorageOptionsLike = None,
    filesystem: object | None = None,
) -> TransferResult:
    """Copy one object, a tree, or what a pattern names, between any two stores or within one.

    Within one container the store copies by itself and no byte passes this machine, except objects above 5 GiB on S3,
    which it refuses; to and from local files as ``download`` and ``upload``; otherwise through memory, large objects
    in parts. Each object appears at the target whole or not at all.

    A directory's content lands below ``target``: ``s3://a/data/x/y`` of ``s3://a/data`` becomes ``target/x/y``. A
    pattern (``*``, ``?``, ``[...]``, and ``**`` for any number of directories) keeps the paths below its first segment
    that has one. One object becomes ``target`` itself, or, where that ends in "/", is a bucket or is a local directory,
    ``target/<its name>``. A source that ends in "/" is a directory.

    Requests: a head (one object), or a head and a listing (a tree), or two (a pattern); then for each object up to
    8 MiB one of each store it touches. Memory: up to 256 MiB on its way, and what engines copy of it.

    Args:
        source: URI or path.
        target: URI or path.
        recursive: copy everything below ``source`` if it is a directory. Patterns need no ``recursive``.
        resume: leave alone what is at the target in the same size and not older than its source. What an earlier call
            has finished is not moved again. Where the times are of one second, which may be all that a store tells,
            MD5 ETags decide, and what has none goes again; a downloaded file, which has its object's time, stays.
        skip_existing: leave alone whatever is at the target already.
        max_in_flight: objects, or parts of large ones, at the same time, >= 1. More hide latency, and cost
            a thread each.
        progress: called with a ``TransferProgress`` at the begin and after every object and part, from the threads that
            move them, one call at a time. An exception that it raises ends the transfer.
        source_options: as ``storage_options``, for the source; None: the same.
        source_filesystem: as ``filesystem``, for the source; it is not taken from ``filesystem``.
        storage_options: how to reach the target, and the source unless ``source_options`` says otherwise; as
            ``open_store``.
        filesystem: a filesystem of the caller's own, in which ``target`` is a path.

    Returns: the number of objects and bytes that were moved, and of objects that were left alone.

    Raises:
        NotFoundError: there is nothing at ``source``.
        OptionError: a directory without ``recursive``; source and target are one object, or a target is another
            source; keys that cannot be files below a local target (".."; "a" beside "a/b"; "a" beside "A" where the
            file system takes them for one). Nothing has been moved then.
        StorageError: of the first object that failed, by name. Objects that were whole before it stay.
    """
    source_options = storage_options if source_options is None else source_options
    with (
        Side.of(source, storage_options=source_options, filesystem=source_filesystem) as origin,
        Side.of(target, storage_options=storage_options, filesystem=filesystem) as goal,
    ):
        return execute(
            "copy",
            origin,
            goal,
            lambda: select(origin, "copy", trees=recursive),
            resume=resume,
            skip_existing=skip_existing,
            max_in_flight=max_in_flight,
            progress=progress,
        )
