"""Which ranges to read: pure arithmetic, no I/O. ``fetch`` executes what is planned here."""

from __future__ import annotations

import itertools

__all__ = ["part_ranges"]


def part_ranges(start: int, end: int, *, part_bytes: int) -> list[tuple[int, int]]:
    """The range [start, end) cut into half-open parts of at most ``part_bytes``, in order.

    Parts end at multiples of ``part_bytes`` of the object, as its writer cut them. An empty range is one
    empty part, so that it is still asked for once.
    """
    if start >= end:
        return [(start, end)]
    first = (start // part_bytes + 1) * part_bytes
    edges = [start, *range(first, end, part_bytes), end]
    return list(itertools.pairwise(edges))
