"""Credentials that can expire: what they are, and where they come from.

Must not know: engines. ``storage.remote`` asks again when a server says that they have expired.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Credentials"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """One set of S3 credentials."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None
    """Of temporary credentials."""
    expires_at: datetime | None = None
    """Aware time from which on they are refused; None if they do not expire, or nobody says when."""

    def __repr__(self) -> str:
        return f"Credentials(access_key_id='***', expires_at={self.expires_at!r})"
