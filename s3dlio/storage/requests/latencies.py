"""How long reads take, and from when on one is slow.

Owns: the recent latencies of similarly sized reads. Must not know: requests, threads, engines.
Source: Dean and Barroso, "The Tail at Scale", 2013, "hedged requests": a second request after the 95th percentile.
"""

from __future__ import annotations

from collections import deque

__all__ = ["Latencies"]

_KEPT = 256
"""Reads of a size that count: the newest, so that the threshold follows the server's load."""

_LEAST = 32
"""Reads of a size before which none counts as slow: the 95th percentile of fewer is hardly more than the slowest."""

_RENEWED_EVERY = 16
"""Reads after which a threshold is computed anew: sorting 256 numbers for each read would cost 10 us."""


class _Recent:
    __slots__ = ("noted", "seconds", "threshold")

    def __init__(self) -> None:
        self.seconds: deque[float] = deque(maxlen=_KEPT)
        self.noted = 0
        self.threshold: float | None = None


class Latencies:
    """Recent latencies by size, sizes of one power of two together.

    Threads: any; a latency may get lost or count twice, which a percentile does not notice.

    Args:
        percentile: share of the reads that are not slow, 0 < p < 100.
    """

    def __init__(self, percentile: float) -> None:
        self._percentile = percentile
        self._recent: dict[int, _Recent] = {}

    def note(self, size: int, seconds: float) -> None:
        """A read of ``size`` bytes, -1 for a whole object of a size not known before, took ``seconds``."""
        recent = self._recent.setdefault(_class_of(size), _Recent())
        recent.seconds.append(seconds)
        recent.noted += 1
        if recent.noted >= _LEAST and recent.noted % _RENEWED_EVERY == 0:
            ordered = sorted(recent.seconds.copy())
            recent.threshold = ordered[min(len(ordered) - 1, int(len(ordered) * self._percentile / 100))]

    def threshold(self, size: int) -> float | None:
        """Seconds after which a read of ``size`` bytes is slow; None while too few are known."""
        recent = self._recent.get(_class_of(size))
        return None if recent is None else recent.threshold


def _class_of(size: int) -> int:
    return -1 if size < 0 else size.bit_length()
