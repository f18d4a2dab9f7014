"""Counters that many threads raise without a lock."""

from __future__ import annotations

from collections import defaultdict
from threading import get_ident

__all__ = ["Tally"]


class Tally:
    """Named counts. Each thread raises its own, and reading adds them up."""

    def __init__(self) -> None:
        self._counts: defaultdict[tuple[str, int], int] = defaultdict(int)

    def add(self, name: str) -> None:
        """One more of ``name``."""
        self._counts[name, get_ident()] += 1

    def total(self, name: str) -> int:
        """How many of ``name`` so far."""
        return sum(count for (counted, _), count in self._counts.copy().items() if counted == name)
