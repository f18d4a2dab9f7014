"""What a transfer tells its caller: while it runs and when it has ended."""

from __future__ import annotations

import dataclasses

__all__ = ["TransferProgress", "TransferResult"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TransferProgress:
    """Where a transfer stands. Counts what is to be moved; what is skipped is in none of the numbers."""

    objects_done: int
    """Objects that are whole at their target."""
    objects_total: int
    """Objects that this call moves."""
    bytes_done: int
    """Bytes that were handed over so far, of whole objects and of parts."""
    bytes_total: int
    """Bytes of all of these objects, as they were listed."""
    current: str = ""
    """URI of the source object that the news is about; empty in the first call, before anything moved."""
    current_whole: bool = False
    """Whether ``current`` is whole at its target now."""
    current_s: float = 0.0
    """Seconds since the first request for ``current``."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class TransferResult:
    """What a transfer did."""

    objects: int
    """Objects moved."""
    bytes: int
    """Their bytes."""
    skipped: int
    """Objects left alone because of ``resume`` or ``skip_existing``."""
    seconds: float
    """From the call to its end, listing included."""
