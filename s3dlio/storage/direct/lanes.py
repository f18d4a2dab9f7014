"""Parts of one file, several of them under way at a time.

Owns: how a range is cut and which thread takes which part. Must not know: what is done with a part.

Guarantees:
- every part is done once, unless one fails; then no further one is started and the failure is raised
- each lane has a descriptor of its own, so one that outlives an interrupted call cannot meet a closed one
"""

from __future__ import annotations

import contextlib
import itertools
import os
from typing import TYPE_CHECKING

from s3dlio.concurrency import ReadAhead

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LANES", "PART_BYTES", "in_lanes", "parts_of"]

PART_BYTES = 4 << 20
"""One request. Large enough for the full rate of a device at a depth of a few, and small enough that an
interrupted call ends within milliseconds."""

LANES = 4
"""Requests in flight for one verb; verbs called from several threads add up."""


def parts_of(start: int, end: int) -> list[tuple[int, int]]:
    """[start, end) cut where the file offset is a multiple of ``PART_BYTES``."""
    if start >= end:
        return []
    return [*itertools.pairwise([start, *range(start - start % PART_BYTES + PART_BYTES, end, PART_BYTES), end])]


def in_lanes(descriptor: int, parts: list[tuple[int, int]], work: Callable[[int, int, int], None]) -> None:
    """Call ``work(descriptor, begin, end)`` for all parts; returns when all are done.

    One request's worth is done in this thread, more in ``LANES`` threads with a duplicate of ``descriptor`` each.
    """
    if len(parts) < 2 or parts[-1][1] - parts[0][0] <= PART_BYTES:
        for begin, end in parts:
            work(descriptor, begin, end)
        return
    lanes = _Lanes(descriptor, parts, work)
    try:
        with ReadAhead(iter([lanes]), threads=len(lanes), budget=1, max_groups=1, name="direct") as ahead:
            for _ in ahead:
                pass
    finally:
        lanes.close()


class _Lanes:
    """A ``concurrency.Group`` whose tasks are the lanes."""

    cost = 1

    def __init__(self, descriptor: int, parts: list[tuple[int, int]], work: Callable[[int, int, int], None]) -> None:
        self._parts = iter(parts)
        self._work = work
        self._stopped = False
        self._descriptors: list[int] = []
        try:
            for _ in range(min(LANES, len(parts))):
                self._descriptors.append(os.dup(descriptor))
        except OSError:
            self.close()
            raise
        self._count = len(self._descriptors)

    def __len__(self) -> int:
        return self._count

    def run(self, task: int) -> None:  # noqa: ARG002 - all lanes are alike
        try:
            descriptor = self._descriptors.pop()
        except IndexError:
            return  # closed before this lane began
        try:
            while not self._stopped and (part := next(self._parts, None)) is not None:  # one iterator for all lanes
                self._work(descriptor, *part)
        except BaseException:
            self._stopped = True
            raise
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Start no further part, and close what lanes that never began would have closed."""
        self._stopped = True
        with contextlib.suppress(IndexError):
            while True:
                os.close(self._descriptors.pop())
