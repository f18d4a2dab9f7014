"""The work of ``bench``: requests sent a given number at a time, each timed.

Owns: what is sent, and that nothing of it stays. Must not know: options, printing.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from s3dlio.cli.measurement import measure
from s3dlio.cli.progress import shown_progress
from s3dlio.cli.sizes import human
from s3dlio.concurrency import ReadAhead
from s3dlio.errors import NotFoundError, StorageError
from s3dlio.generate.content import payload
from s3dlio.reading import part_ranges
from s3dlio.storage.delete import LOCAL_ROOTS
from s3dlio.transfer.conveyor import Conveyor, Piece
from s3dlio.transfer.result import TransferProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from s3dlio.cli.measurement import Measurement
    from s3dlio.cli.session import Session
    from s3dlio.storage.protocol import Store

__all__ = ["read", "write"]

_BUDGET_BYTES = 1 << 30
"""Bytes in flight at most, whatever the concurrency; a benchmark must not swap."""

_PART_BYTES = 8 << 20
"""Larger objects are read as ranges of this size, each a request, as ``download`` does."""


class _Timed:
    """One request, and how long it took."""

    __slots__ = ("_request", "cost", "seconds", "size")

    def __init__(self, size: int, request: Callable[[], Callable[[], object]]) -> None:
        self._request = request
        self.cost = self.size = size
        self.seconds = 0.0

    def __len__(self) -> int:
        return 1

    def run(self, _task: int) -> None:
        """Prepare, then send and time."""
        send = self._request()
        began = time.perf_counter()
        send()
        self.seconds = time.perf_counter() - began


def read(
    session: Session, uri: str, *, objects: int | None, concurrency: int, duration_s: float | None
) -> tuple[Measurement, str]:
    """Read the first ``objects`` below ``uri``: the figures, and a title for them."""
    session.describe(uri)
    store, prefix = session.locate(uri)
    with store:
        found = list(itertools.islice(_listed(store, prefix), objects))
        if not found:
            raise NotFoundError(
                f"bench read {uri}: no objects below it, expected some. Make them: s3dlio bench write {uri} --keep.",
                uri=uri,
                operation="bench read",
            )
        parts = [
            (key, start, end, len(ranges) == 1)
            for key, size in found
            for ranges in (part_ranges(0, size, part_bytes=_PART_BYTES),)
            for start, end in ranges
        ]

        def reads() -> Iterator[_Timed]:
            for key, start, end, whole in parts if duration_s is None else itertools.cycle(parts):
                send = (
                    functools.partial(store.get, key) if whole else functools.partial(store.get_range, key, start, end)
                )
                yield _Timed(end - start, functools.partial(_ready, send))

        total = None if duration_s is not None else len(parts)
        measurement = _timed(session, reads(), concurrency, duration_s, total=total)
        where = store.uri(prefix)
    sizes = [size for _, size in found]
    return measurement, f"read  {where}  {_described(sizes)}, {concurrency} at a time"


def write(
    session: Session,
    uri: str,
    *,
    objects: int,
    size: int,
    concurrency: int,
    duration_s: float | None,
    keep: bool,
) -> tuple[Measurement, str]:
    """Write ``objects`` of ``size`` bytes below ``uri``: the figures, and a title for them."""
    session.describe(uri)
    store, prefix = session.locate(uri)
    base = f"{prefix.rstrip('/')}/" if prefix else ""
    run = f"{base}bench-{uuid.uuid4().hex[:8]}"
    begun: list[str] = []

    def one(number: int) -> Callable[[], object]:
        content = payload(size, seed=0, index=number)
        key = f"{run}/{number:08d}"
        begun.append(key)
        return functools.partial(store.put, key, content)

    with store:
        try:
            writes = (_Timed(size, functools.partial(one, number)) for number in range(objects))
            measurement = _timed(session, writes, concurrency, duration_s, total=objects)
        except BaseException:
            with contextlib.suppress(StorageError):  # the same trouble once more would hide the first error
                _clear(store, begun, run, concurrency, keep=keep)
            raise
        _clear(store, begun, run, concurrency, keep=keep)
    where = store.uri(run if keep else base)
    return measurement, f"write  {where}  {_described([size] * measurement.requests)}, {concurrency} at a time"


def _timed(
    session: Session, requests: Iterable[_Timed], concurrency: int, duration_s: float | None, *, total: int | None
) -> Measurement:
    """Run the requests, ``concurrency`` at a time, until they end or ``duration_s`` is over."""
    began = time.perf_counter()
    seconds: list[float] = []
    size = 0

    def in_time() -> Iterator[_Timed]:
        for request in requests:
            if duration_s is not None and time.perf_counter() - began >= duration_s:
                return
            yield request

    with (
        shown_progress(session) as progress,
        ReadAhead(
            in_time(), threads=concurrency, budget=_BUDGET_BYTES, max_groups=4 * concurrency, name="bench"
        ) as done,
    ):
        for request in done:
            seconds.append(request.seconds)
            size += request.size
            if progress is not None:
                progress(
                    TransferProgress(
                        objects_done=len(seconds),
                        objects_total=total or 0,
                        bytes_done=size,
                        bytes_total=size if total is None else size // len(seconds) * total,
                    )
                )
    return measure(seconds, size=size, seconds=time.perf_counter() - began)


def _clear(store: Store, keys: list[str], directory: str, concurrency: int, *, keep: bool) -> None:
    if keep:
        return
    pieces = (Piece(1, functools.partial(store.delete, key)) for key in keys)
    Conveyor(None, objects=len(keys), size=0).run(pieces, max_in_flight=concurrency, tasks=len(keys))
    if store.uri("") in LOCAL_ROOTS:  # stores of files leave the directory
        with contextlib.suppress(FileNotFoundError):
            Path(f"/{directory}").rmdir()


def _listed(store: Store, prefix: str) -> Iterator[tuple[str, int]]:
    for batch in store.list(prefix):
        yield from zip(batch.column("key").to_pylist(), batch.column("size").to_pylist(), strict=True)


def _ready(send: Callable[[], object]) -> Callable[[], object]:
    return send


def _described(sizes: list[int]) -> str:
    if not sizes:
        return "0 objects"
    spread = human(min(sizes)) if min(sizes) == max(sizes) else f"{human(min(sizes))} to {human(max(sizes))}"
    return f"{len(sizes):,} object{'' if len(sizes) == 1 else 's'} of {spread}"
