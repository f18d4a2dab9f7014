"""A store against a dict, by hypothesis: any sequence of verbs leaves both alike."""

from __future__ import annotations

import dataclasses
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from s3dlio.errors import ClosedError, ExistsError, NotFoundError, ShortReadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3dlio.storage import ObjectWriter, Store

__all__ = ["store_machine"]

# No key is a directory of another: a file system has no room for both.
_KEYS = st.sampled_from(["a", "b.bin", "d/x", "d/y z", "d/e/ö", "d.f/x", "per%20cent"])
_DATA = st.binary(max_size=40) | st.integers(0, 3).map(lambda number: bytes([number]) * 100_000)
_PREFIXES = st.sampled_from(["", "d", "d/", "d/e", "d.f", "none"])


@dataclasses.dataclass
class _Writing:
    key: str
    writer: ObjectWriter
    data: bytes = b""


def store_machine(open_one: Callable[[], Store], root: str = "") -> type[RuleBasedStateMachine]:
    """A hypothesis state machine for the stores that ``open_one`` opens.

    Args:
        open_one: called once an example; the examples may share a container.
        root: a directory that the machine may use, without a slash at the end.
    """

    class StoreMachine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            self.store = open_one()
            self.root = f"{root}/{uuid.uuid4().hex}/".lstrip("/")
            self.model: dict[str, bytes] = {}
            self.writings: list[_Writing] = []

        @rule(key=_KEYS, data=_DATA)
        def put(self, key: str, data: bytes) -> None:
            assert self.store.put(self.root + key, data).size == len(data)
            self.model[key] = data

        @rule(key=_KEYS, data=_DATA)
        def create(self, key: str, data: bytes) -> None:
            if key in self.model:
                with pytest.raises(ExistsError):
                    self.store.put(self.root + key, data, mode="create")
            else:
                self.store.put(self.root + key, data, mode="create")
                self.model[key] = data

        @rule(key=_KEYS)
        def open_writer(self, key: str) -> None:
            self.writings.append(_Writing(key, self.store.open_writer(self.root + key)))

        @rule(data=_DATA, which=st.integers(0, 5))
        def write(self, data: bytes, which: int) -> None:
            if self.writings:
                writing = self.writings[which % len(self.writings)]
                assert writing.writer.write(data) == len(data)
                writing.data += data

        @rule(which=st.integers(0, 5))
        def flush(self, which: int) -> None:
            if self.writings:
                self.writings[which % len(self.writings)].writer.flush()

        @rule(which=st.integers(0, 5), publish=st.booleans())
        def end_writer(self, which: int, publish: bool) -> None:
            if not self.writings:
                return
            writing = self.writings.pop(which % len(self.writings))
            if publish:
                assert writing.writer.close().size == len(writing.data)
                self.model[writing.key] = writing.data
            else:
                writing.writer.abort()
            with pytest.raises(ClosedError):
                writing.writer.write(b"1")

        @rule(key=_KEYS)
        def get(self, key: str) -> None:
            if key in self.model:
                assert self.store.get(self.root + key).to_pybytes() == self.model[key]
                assert self.store.head(self.root + key).size == len(self.model[key])
            else:
                with pytest.raises(NotFoundError):
                    self.store.get(self.root + key)
                with pytest.raises(NotFoundError):
                    self.store.head(self.root + key)

        @rule(key=_KEYS, start=st.integers(0, 50), length=st.integers(0, 50))
        def get_range(self, key: str, start: int, length: int) -> None:
            expected = self.model.get(key)
            if expected is not None:
                meta, clipped = self.store.get_clipped(self.root + key, start, start + length)
                assert (meta.size, clipped.to_pybytes()) == (len(expected), expected[start : start + length])
            if expected is None:
                with pytest.raises(NotFoundError):
                    self.store.get_range(self.root + key, start, start + length)
            elif start + length > len(expected):
                with pytest.raises(ShortReadError):
                    self.store.get_range(self.root + key, start, start + length)
            else:
                found = self.store.get_range(self.root + key, start, start + length)
                assert found.to_pybytes() == expected[start : start + length]
                memory = bytearray(length)
                self.store.get_into(self.root + key, memory, start)
                assert memory == expected[start : start + length]

        @rule(key=_KEYS)
        def delete(self, key: str) -> None:
            self.store.delete(self.root + key)
            self.model.pop(key, None)

        @rule(source=_KEYS, to=_KEYS)
        def copy(self, source: str, to: str) -> None:
            if source == to:  # S3 refuses a copy onto itself
                return
            if source in self.model:
                self.store.copy(self.root + source, self.root + to)
                self.model[to] = self.model[source]
            else:
                with pytest.raises(NotFoundError):
                    self.store.copy(self.root + source, self.root + to)

        @rule(prefix=_PREFIXES)
        def list(self, prefix: str) -> None:
            directory = f"{prefix.rstrip('/')}/" if prefix else ""
            expected = {key: len(data) for key, data in self.model.items() if key.startswith(directory)}
            assert self.listed(prefix) == expected

        @invariant()
        def alike(self) -> None:
            assert self.listed("") == {key: len(data) for key, data in self.model.items()}

        def listed(self, prefix: str) -> dict[str, int]:
            rows: list[dict[str, Any]] = []
            for batch in self.store.list(self.root + prefix):
                rows += batch.to_pylist()
            found = {row["key"].removeprefix(self.root): row["size"] for row in rows}
            assert len(found) == len(rows), "a key twice"
            return found

        def teardown(self) -> None:
            for writing in self.writings:
                writing.writer.abort()
            for key in self.model:
                self.store.delete(self.root + key)
            self.store.close()

    return StoreMachine
