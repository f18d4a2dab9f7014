"""Sizes as people write and read them. Pure."""

from __future__ import annotations

import re

import typer

__all__ = ["human", "parse_duration", "parse_size"]

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]i?|)b?", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|)", re.IGNORECASE)
_SECONDS = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_size(text: str | int) -> int:
    """Bytes of "4096", "64k", "1.5MB", "8MiB". Decimal units unless they have an i."""
    match = _SIZE.fullmatch(str(text).strip())  # a default is a number
    if match is None:
        raise typer.BadParameter(f"{text!r} is no size, expected one such as 4096, 64k, 1.5MB or 8MiB.")
    unit = match[2].lower()
    return round(float(match[1]) * (_BINARY[unit] if unit in _BINARY else _UNITS[unit]))


def parse_duration(text: str | float) -> float:
    """Seconds of "30", "30s", "500ms", "2m"."""
    match = _DURATION.fullmatch(str(text).strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is no duration, expected one such as 30, 500ms or 2m.")
    return float(match[1]) * _SECONDS[match[2].lower()]


def human(size: float) -> str:
    """``size`` bytes in decimal units, four digits at most: "999 B", "1.5 kB", "12.0 GB"."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        # 999.95 would be shown as 1000.0
        if abs(size) < (1000 if unit == "B" else 999.95) or unit == "TB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    raise AssertionError("unreachable")
