"""Figures of a benchmark: rates, percentiles and a histogram of durations. Pure."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from s3dlio.cli.sizes import human

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Measurement", "measure", "report"]

_PERCENTILES = (50.0, 90.0, 99.0, 99.9)
_STEPS_PER_DECADE = 5
"""Bounds of the histogram's bins: 1, 1.6, 2.5, 4, 6.3, 10 and so on."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What ``requests`` took."""

    requests: int
    bytes: int
    seconds: float
    """Wall time from the first request to the end of the last."""
    percentiles_ms: dict[str, float]
    """By name ("p50" ... "max"), of single requests."""
    histogram: list[tuple[float, float, int]]
    """(from, to, requests) in milliseconds, half-open, on a logarithmic scale, without empty bins at the ends."""

    def json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "requests": self.requests,
            "bytes": self.bytes,
            "seconds": self.seconds,
            "bytes_per_s": self.bytes / self.seconds if self.seconds else None,
            "requests_per_s": self.requests / self.seconds if self.seconds else None,
            "latency_ms": self.percentiles_ms,
            "histogram_ms": self.histogram,
        }


def measure(durations_s: Sequence[float], *, size: int, seconds: float) -> Measurement:
    """The figures of requests that took ``durations_s`` and moved ``size`` bytes in ``seconds`` together."""
    durations = np.asarray(durations_s, dtype=np.float64) * 1000
    percentiles = {}
    if len(durations):
        values = np.percentile(durations, _PERCENTILES)
        percentiles = {f"p{rank:g}": float(value) for rank, value in zip(_PERCENTILES, values, strict=True)}
        percentiles["max"] = float(durations.max())
    return Measurement(
        requests=len(durations), bytes=size, seconds=seconds, percentiles_ms=percentiles, histogram=_bins(durations)
    )


def report(measurement: Measurement, *, width: int, blocks: bool = True) -> list[str]:
    """The lines that people read.

    Args:
        measurement: what to show.
        width: columns of the terminal.
        blocks: draw with block characters; else with ASCII.
    """
    seconds = measurement.seconds or math.inf
    amount = f"{human(measurement.bytes)} in {measurement.seconds:.2f} s"
    lines = [
        f"throughput  {human(measurement.bytes / seconds)}/s  ({amount})",
        f"requests    {measurement.requests / seconds:,.1f}/s  ({measurement.requests:,})",
    ]
    if measurement.requests:
        shown = "  ".join(f"{name} {_ms(value)}" for name, value in measurement.percentiles_ms.items())
        lines += [f"latency ms  {shown}", ""]
        lines += _bars(measurement.histogram, width=width, blocks=blocks)
    return lines


def _bins(durations: np.ndarray[Any, np.dtype[np.float64]]) -> list[tuple[float, float, int]]:
    if not len(durations):
        return []
    # Of a clock that did not move: the smallest bin.
    places = np.floor(np.log10(np.maximum(durations, 1e-3)) * _STEPS_PER_DECADE).astype(int)
    first = int(places.min())
    counts = np.bincount(places - first)
    bounds = [10 ** (place / _STEPS_PER_DECADE) for place in range(first, first + len(counts) + 1)]
    return [(low, high, int(count)) for low, high, count in zip(bounds, bounds[1:], counts, strict=False)]


def _bars(histogram: Sequence[tuple[float, float, int]], *, width: int, blocks: bool) -> list[str]:
    labels = [f"{_ms(low)} - {_ms(high)}" for low, high, _ in histogram]
    counts = [f"{count:,}" for _, _, count in histogram]
    label_width, count_width = max(map(len, labels)), max(map(len, counts))
    room = max(8, width - label_width - count_width - 4)
    most = max(count for _, _, count in histogram)
    lines = [f"{'ms':>{label_width}}  requests"]
    for label, text, (_, _, count) in zip(labels, counts, histogram, strict=True):
        bar = _bar(count / most * room, blocks=blocks)
        if count and not bar:  # rare is not never
            bar = "▏" if blocks else "."
        lines.append(f"{label:>{label_width}}  {text:>{count_width}}  {bar}")
    return lines


def _bar(length: float, *, blocks: bool) -> str:
    if not blocks:
        return "#" * round(length)
    whole, eighths = divmod(round(length * 8), 8)
    return "█" * whole + (" ▏▎▍▌▋▊▉"[eighths] if eighths else "")


def _ms(value: float) -> str:
    """Three significant digits."""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 1 else f"{value:.3f}"
