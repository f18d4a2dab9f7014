"""A store that misbehaves under the function API."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from s3dlio.storage import MemoryStore, loans
from s3dlio.storage.loans import KeptStores
from s3dlio.testing.faults import FaultyStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def memory() -> Iterator[MemoryStore]:
    """The store of ``memory://many/``, empty."""
    store = MemoryStore("many")
    store.clear()
    yield store
    store.clear()


@pytest.fixture
def misbehave(memory: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FaultyStore]:
    """Call it with the arguments of ``FaultyStore``: functions on ``memory://many/`` then meet that store."""

    def install(**faults: object) -> FaultyStore:
        faulty = FaultyStore(memory, **faults)  # type: ignore[arg-type]
        monkeypatch.setattr(loans, "open_store", lambda _uri, **_options: faulty)
        monkeypatch.setattr(loans, "_lender", KeptStores())
        return faulty

    return install
