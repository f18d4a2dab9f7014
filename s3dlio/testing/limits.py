"""What a store cannot do, in words: the flags of ``StoreSuite`` that a backend's subclass turns off.

A suite asserts the weaker form of such a promise and skips nothing; this names it, so that a test report can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s3dlio.storage import Store

__all__ = ["LIMITS", "limits"]

LIMITS = {
    "atomic_create": "no atomic create: of two racing creators both may succeed",
    "lists_etags": "no ETags in listings",
    "replaces_atomically": "no atomic replacement: readers may see an object half written",
    "keeps_parts_of_others": "a close drops the blocks that another writer of the same key has sent",
}
"""Each flag, an attribute of a suite or of the store, and what its being false means."""


def limits(suite: type, store: Store) -> list[str]:
    """What ``store`` cannot do, by its own word and by its suite's; empty if it can do everything."""
    return [said for flag, said in LIMITS.items() if not (getattr(suite, flag, True) and getattr(store, flag, True))]
