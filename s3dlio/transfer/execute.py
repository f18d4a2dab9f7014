"""One transfer from its selection to its result: what is skipped, how each object goes, what is left behind.

Owns: the order of a transfer. Must not know: how an object moves (``moves``), threads (``conveyor``).
"""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from s3dlio.errors import NotFoundError, OptionError, S3dlioError
from s3dlio.storage.listing import from_nanoseconds
from s3dlio.storage.translate import naming
from s3dlio.transfer.conveyor import Conveyor, check_in_flight
from s3dlio.transfer.leftovers import warn_of
from s3dlio.transfer.moves import PART_BYTES, Landing, Relay, Sending, ServerCopy
from s3dlio.transfer.names import check_file_names, ignores_case
from s3dlio.transfer.result import TransferResult
from s3dlio.transfer.resume import Found, is_done

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3dlio.transfer.conveyor import Piece
    from s3dlio.transfer.moves import Move
    from s3dlio.transfer.result import TransferProgress
    from s3dlio.transfer.selection import Item, Selection
    from s3dlio.transfer.side import Side

    Progress: TypeAlias = Callable[[TransferProgress], object] | None

__all__ = ["execute"]

_COPY_LIMIT_BYTES = 5 << 30
"""What S3 copies in one request; anything larger goes through this machine."""

_ABORT_S = 0.15
"""How long all unfinished uploads together are waited for, besides the 0.5 s that ``ReadAhead`` gives its threads.
One that hangs in a request longer may leave its parts at the server, which is said: Ctrl-C ends within a second."""


def execute(
    operation: str,
    source: Side,
    target: Side,
    select: Callable[[], Selection],
    *,
    resume: bool,
    skip_existing: bool,
    max_in_flight: int,
    progress: Progress,
) -> TransferResult:
    """Move what ``select`` finds from ``source`` to ``target``. As ``copy`` says."""
    began = time.perf_counter()
    check_in_flight(operation, max_in_flight)
    selection = select()
    pairs = _pairs(source, target, selection, operation)
    if resume or skip_existing:
        there = _there(target, selection, pairs, operation)
        left = [pair for pair in pairs if not _is_there(source, pair[0], there.get(pair[1]), any_version=skip_existing)]
    else:
        left = pairs
    conveyor = Conveyor(progress, objects=len(left), size=sum(item.size for item, _ in left))
    # Those that may not have ended; a tree may have more objects than there is memory for their moves.
    moves: deque[Move] = deque(maxlen=conveyor.window(max_in_flight) + 1)

    def pieces() -> Iterator[Piece]:
        for item, key in left:
            move = _move(conveyor, source, item, target, key)
            moves.append(move)
            yield from move.pieces()

    try:
        conveyor.run(
            pieces(),
            max_in_flight=max_in_flight,
            tasks=sum(-(-item.size // PART_BYTES) or 1 for item, _ in left),
        )
    except BaseException as error:
        if isinstance(error, S3dlioError) and len(pairs) > 1:
            done = conveyor.done[0]
            error.add_note(f"{done} of {len(left)} objects were transferred and stay; resume=True goes on from there.")
        until = time.monotonic() + _ABORT_S
        # A thread that ends late may still add one, which does nothing.
        if stay := [uri for uri in [move.discard(until) for move in tuple(moves)] if uri is not None]:
            warn_of(operation, stay, target.scheme, error)
        raise
    objects, size = conveyor.done
    return TransferResult(
        objects=objects, bytes=size, skipped=len(pairs) - len(left), seconds=time.perf_counter() - began
    )


def _pairs(source: Side, target: Side, selection: Selection, operation: str) -> list[tuple[Item, str]]:
    """Each object with the key that it gets at the target."""
    if target.local and not selection.single:
        names = [item.name for item in selection.items]
        check_file_names(names, source.uri(source.key), case_is_ignored=lambda: ignores_case(target.path(target.key)))
    pairs = [
        (item, target.for_one(item.name) if selection.single else target.below(item.name)) for item in selection.items
    ]
    if source.place == target.place:
        _check_apart(source, pairs, operation)
    return pairs


def _check_apart(source: Side, pairs: list[tuple[Item, str]], operation: str) -> None:
    """Raise OptionError if an object is to be overwritten that is to be copied: it might be gone by then."""
    sources = {item.key for item, _ in pairs}
    for item, key in pairs:
        if item.key == key:
            raise OptionError(
                f"{operation} {source.uri(key)}: source and target are one object, expected two.", field="target"
            )
        if key in sources:
            raise OptionError(
                f"{operation} {source.uri(item.key)}: its target {source.uri(key)} is to be copied, too, expected a "
                "target that overwrites no source. Choose another one, or copy in two steps.",
                field="target",
            )


def _there(target: Side, selection: Selection, pairs: list[tuple[Item, str]], operation: str) -> dict[str, Found]:
    """What is at the target: a look at each file, one request for an object or a tree."""
    found: dict[str, Found] = {}
    if target.local:
        for _, key in pairs:
            path = Path(target.path(key))
            if path.is_file():
                status = path.stat()
                mtime, changed = from_nanoseconds(status.st_mtime_ns), from_nanoseconds(status.st_ctime_ns)
                found[key] = Found(status.st_size, mtime, path=str(path), changed=changed)
    elif selection.single:
        for _, key in pairs:
            try:
                with naming(operation):
                    meta = target.store.head(key)
            except NotFoundError:
                continue
            found[key] = Found(meta.size, meta.mtime, meta.etag)
    else:
        for batch in target.store.list(target.key):
            columns = (batch.column(name).to_pylist() for name in ("key", "size", "mtime", "etag"))
            for key, size, mtime, etag in zip(*columns, strict=True):
                found[key] = Found(size, mtime, etag)
    return found


def _is_there(source: Side, item: Item, found: Found | None, *, any_version: bool) -> bool:
    if found is None or any_version:
        return found is not None
    return is_done(item, found, source_path=source.path(item.key) if source.local else None)


def _move(conveyor: Conveyor, source: Side, item: Item, target: Side, key: str) -> Move:
    if source.place == target.place and not (source.scheme == "s3" and item.size > _COPY_LIMIT_BYTES):
        return ServerCopy(conveyor, source, item, target, key)
    if target.local:
        return Landing(conveyor, source, item, target.path(key))
    if source.local:
        return Sending(conveyor, source, item, target, key)
    return Relay(conveyor, source, item, target, key)
