"""The conformance suite of ``Store``: what every store must do, for backends written elsewhere too.

A backend's test is a subclass that gives the fixtures::

    class TestMyStore(StoreSuite):
        @pytest.fixture
        def store(self): ...          # the store under test
        @pytest.fixture
        def raw(self): ...            # the same container by other means: RawObjects

Nothing is skipped: what a store cannot do (``atomic_create``, ETags in listings) is asserted in its weaker
form. Putting, listing and copying are in ``store_changes``, writers in ``store_writers``, processes and threads
in ``store_sharing``.
"""

from __future__ import annotations

import datetime as dt
import pickle
import uuid
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from s3dlio.errors import ClosedError, NotFoundError, OptionError, PreconditionError, ShortReadError
from s3dlio.storage import Store
from s3dlio.testing.store_changes import ChangesSuite
from s3dlio.testing.store_sharing import SharingSuite
from s3dlio.testing.store_writers import WritersSuite

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RawObjects", "StoreSuite"]

CONTENT = bytes(range(256)) * 40


class RawObjects(Protocol):
    """The container under test, reached without the store under test."""

    def write(self, key: str, data: bytes) -> None:
        """Make an object; a key that ends in "/" makes a directory as the container's other tools do."""

    def read(self, key: str) -> bytes | None:
        """The object's content; None if there is none."""

    def unfinished(self, prefix: str) -> list[str]:
        """Keys below ``prefix`` of uploads, temporary files or the like that were begun and not ended."""


class StoreSuite(ChangesSuite, WritersSuite, SharingSuite):
    """Tests of every verb of ``Store``."""

    awkward_keys = (
        "with space", "plus+sign", "per%cent", "per%20cent", "ünïcode/日本", "a#b?c", "x&y=z;w", "q*'<>|^`{}[]~",
        "dot.", "..two", "trailing ", "MiXeD", "a" * 200, 'quote"mark', "@at$dollar!", "comma,colon:(round)",
        "packed.gz", "packed.zst", "packed.bz2", "packed.lz4",
    )  # fmt: skip
    """Names that some layer escapes, folds or refuses when it should not."""

    @pytest.fixture
    def store(self) -> Any:
        """The store under test."""
        raise NotImplementedError

    @pytest.fixture
    def raw(self) -> Any:
        """The same container by other means."""
        raise NotImplementedError

    @pytest.fixture
    def missing(self) -> Any:
        """A store like ``store`` whose container does not exist; None where there are no containers."""
        return None

    @pytest.fixture
    def prefix(self) -> str:
        """A directory that no other test uses, without a slash at the end."""
        return f"suite-{uuid.uuid4().hex}"

    @pytest.fixture
    def key(self, prefix: str) -> str:
        """A key that no other test uses."""
        return f"{prefix}/object"

    def test_it_is_a_store(self, store: Store) -> None:
        """It has every verb."""
        for verb in (name for name in vars(Store) if not name.startswith("_")):
            assert hasattr(type(store), verb), verb
        assert isinstance(store.atomic_create, bool)
        assert store.uri("k").endswith("/k")

    def test_get(self, store: Store, raw: RawObjects, key: str) -> None:
        """The whole object, read-only."""
        raw.write(key, CONTENT)
        data = store.get(key)
        assert isinstance(data, pa.Buffer)
        assert data.to_pybytes() == CONTENT
        assert not data.is_mutable

    def test_get_empty(self, store: Store, raw: RawObjects, key: str) -> None:
        """An object without bytes can be read in every way."""
        raw.write(key, b"")
        assert store.get(key).size == 0
        assert store.head(key).size == 0
        assert store.get_range(key, 0, 0).size == 0
        store.get_into(key, bytearray())

    def test_get_large(self, store: Store, raw: RawObjects, key: str) -> None:
        """Many parts of the network make one buffer."""
        content = np.random.default_rng(1).bytes(20 << 20)
        raw.write(key, content)
        assert store.get(key).equals(pa.py_buffer(content))
        assert store.get_range(key, 1 << 20, 19 << 20).equals(pa.py_buffer(content[1 << 20 : 19 << 20]))

    def test_head(self, store: Store, raw: RawObjects, key: str) -> None:
        """Size, ETag without quotes, and an aware time."""
        raw.write(key, CONTENT)
        meta = store.head(key)
        assert (meta.key, meta.size) == (key, len(CONTENT))
        if meta.etag is not None:
            assert meta.etag
            assert not meta.etag.startswith('"')
        if meta.mtime is not None:
            assert abs(dt.datetime.now(dt.UTC) - meta.mtime) < dt.timedelta(hours=1)

    @pytest.mark.parametrize("verb", ["head", "get", "get_range", "get_clipped", "get_into", "copy"])
    def test_reading_what_is_not_there(self, store: Store, raw: RawObjects, prefix: str, verb: str) -> None:
        """NotFoundError with the URI, for keys, directories and below objects."""
        raw.write(f"{prefix}/dir/x", b"1")
        for key in (f"{prefix}/none", f"{prefix}/dir", f"{prefix}/dir/", f"{prefix}/dir/x/y"):
            with pytest.raises(NotFoundError) as caught:
                call(store, verb, key)
            assert store.uri(key) in str(caught.value)
            assert caught.value.uri == store.uri(key)
            assert caught.value.operation in {verb, verb.removesuffix("_clipped"), "head"}
            assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("start", "end"), [(0, 1), (0, 10240), (5, 5), (0, 0), (10240, 10240), (10239, 10240), (255, 7000)]
    )
    def test_get_range(self, store: Store, raw: RawObjects, key: str, start: int, end: int) -> None:
        """Half-open ranges, into a new buffer and into the caller's."""
        raw.write(key, CONTENT)
        data = store.get_range(key, start, end)
        assert data.to_pybytes() == CONTENT[start:end]
        assert not data.is_mutable
        memory = bytearray(b"?" * (end - start + 2))
        store.get_into(key, memoryview(memory)[1:-1], start)
        assert bytes(memory) == b"?" + CONTENT[start:end] + b"?"

    @pytest.mark.parametrize(
        ("start", "end"), [(0, 10241), (10240, 10241), (10241, 10242), (10241, 10241), (5, 1 << 40)]
    )
    def test_range_past_the_end(self, store: Store, raw: RawObjects, key: str, start: int, end: int) -> None:
        """Never fewer bytes than asked for: an error that no retry mends."""
        raw.write(key, CONTENT)
        with pytest.raises(ShortReadError) as caught:
            store.get_range(key, start, end)
        assert caught.value.uri == store.uri(key)
        assert not caught.value.retryable
        if end < 1 << 30:
            with pytest.raises(ShortReadError):
                store.get_into(key, bytearray(end - start), start)

    def test_range_past_the_end_of_an_empty_object(self, store: Store, raw: RawObjects, key: str) -> None:
        """Servers answer this one in ways of their own."""
        raw.write(key, b"")
        with pytest.raises(ShortReadError):
            store.get_range(key, 0, 1)

    @pytest.mark.parametrize(
        ("start", "end"),
        [
            (0, 10240),
            (255, 7000),
            (0, 1 << 40),
            (10239, 10241),
            (10240, 10241),
            (10241, 20000),
            (5, 5),
            (1 << 40, 1 << 40),
        ],
    )
    def test_get_clipped(self, store: Store, raw: RawObjects, key: str, start: int, end: int) -> None:
        """Metadata, and what the object has of a range: all, some or none of it."""
        raw.write(key, CONTENT)
        meta, data = store.get_clipped(key, start, end)
        assert isinstance(data, pa.Buffer)
        assert data.to_pybytes() == CONTENT[start:end]
        assert not data.is_mutable
        assert meta == store.head(key)

    def test_get_clipped_of_an_empty_object(self, store: Store, raw: RawObjects, key: str) -> None:
        """There is an object, and nothing in it; servers answer this one in ways of their own."""
        raw.write(key, b"")
        for start, end in ((0, 0), (0, 1), (0, 8 << 20), (3, 5)):
            meta, data = store.get_clipped(key, start, end)
            assert (meta.key, meta.size, data.size) == (key, 0, 0)

    @pytest.mark.parametrize(("start", "end"), [(-1, 5), (5, 4), (-5, -1)])
    def test_range_that_is_none(self, store: Store, raw: RawObjects, key: str, start: int, end: int) -> None:
        """Backward and negative ranges are refused."""
        raw.write(key, CONTENT)
        with pytest.raises(OptionError):
            store.get_range(key, start, end)
        with pytest.raises(OptionError):
            store.get_clipped(key, start, end)
        with pytest.raises(OptionError):
            store.get_into(key, bytearray(3), -1)

    def test_get_into_numpy(self, store: Store, raw: RawObjects, key: str) -> None:
        """A row of an array is filled and its neighbours are not touched."""
        numbers = np.arange(1000, dtype=np.float64)
        raw.write(key, numbers.tobytes())
        batch = np.zeros((3, 500))
        store.get_into(key, batch[1], 500 * 8)
        np.testing.assert_array_equal(batch, [np.zeros(500), numbers[500:], np.zeros(500)])

    def test_get_into_what_cannot_be_filled(self, store: Store, raw: RawObjects, key: str) -> None:
        """Read-only and strided memory are refused."""
        raw.write(key, CONTENT)
        with pytest.raises(OptionError):
            store.get_into(key, b"read-only")
        with pytest.raises(OptionError):
            store.get_into(key, np.zeros(10, np.uint8)[::2])

    def test_pinned_to_a_version(self, store: Store, raw: RawObjects, key: str) -> None:
        """An ETag admits its version and refuses the next one."""
        raw.write(key, CONTENT)
        etag = store.head(key).etag
        memory = bytearray(4)
        if etag is not None:
            assert store.get_range(key, 0, 4, etag=etag).to_pybytes() == CONTENT[:4]
            assert store.get_range(key, 4, 4, etag=etag).size == 0
            store.get_into(key, memory, 4, etag=etag)
            assert memory == CONTENT[4:8]
        store.put(key, CONTENT[::-1])
        for end in (0, 4):
            with pytest.raises(PreconditionError):
                store.get_range(key, 0, end, etag=etag or "another")
        with pytest.raises(PreconditionError):
            store.get_into(key, memory, 0, etag=etag or "another")
        assert store.head(key).etag != etag or etag is None

    @pytest.mark.parametrize(
        "bad", ["", "/lead", "a//b", "./a", "a/..", "a/./b", "nul\0", "tab\t", "line\nfeed"], ids=repr
    )
    @pytest.mark.parametrize(
        "verb", ["head", "get", "get_range", "get_clipped", "get_into", "put", "open_writer", "delete", "copy"]
    )
    def test_keys_that_no_object_has(self, store: Store, bad: str, verb: str) -> None:
        """Refused by every verb before a request."""
        with pytest.raises(OptionError):
            call(store, verb, bad)

    @pytest.mark.parametrize("verb", ["put", "open_writer", "delete"])
    def test_a_directory_cannot_be_written(self, store: Store, prefix: str, verb: str) -> None:
        """A key that ends in a slash names no object."""
        with pytest.raises(OptionError):
            call(store, verb, f"{prefix}/dir/")

    def test_awkward_keys(self, store: Store, raw: RawObjects, prefix: str) -> None:
        """Names arrive as they were given, through every verb."""
        keys = [f"{prefix}/{name}" for name in self.awkward_keys]
        for key in keys:
            store.put(key, key.encode())
            assert raw.read(key) == key.encode()
            assert store.get(key).to_pybytes() == key.encode()
            assert store.head(key).key == key
        listed = [row for batch in store.list(prefix) for row in batch.column("key").to_pylist()]
        assert sorted(listed) == sorted(keys)
        for key in keys:
            store.copy(key, f"{key}.copy")
            store.delete(key)
            assert raw.read(key) is None
            assert raw.read(f"{key}.copy") == key.encode()

    @pytest.mark.parametrize("verb", ["get", "put", "open_writer", "list", "copy"])
    def test_missing_container(self, store: Store, missing: Store | None, prefix: str, verb: str) -> None:
        """NotFoundError that names it; where no container can be missing, there is only nothing in it."""
        if missing is None:
            assert [*store.list(prefix)] == []
            return
        with pytest.raises(NotFoundError) as caught:
            call(missing, verb, "key")
        assert missing.uri("key").removesuffix("/key").rpartition("/")[2] in str(caught.value)

    def test_pickle(self, store: Store, raw: RawObjects, key: str) -> None:
        """A store that arrives in another process is the same store."""
        raw.write(key, CONTENT)
        other = pickle.loads(pickle.dumps(store))
        assert type(other) is type(store)
        assert other.uri("k") == store.uri("k")
        assert other.get(key).to_pybytes() == CONTENT

    def test_filesystem(self, store: Store, prefix: str) -> None:
        """Parquet through the store's pyarrow filesystem."""
        table = pa.table({"x": range(1000), "y": [str(n) for n in range(1000)]})
        filesystem: Any = store.filesystem
        store.put(f"{prefix}/d/keep", b"makes the directory where directories are real")
        pq.write_table(table, store.path(f"{prefix}/d/t.parquet"), filesystem=filesystem)
        assert pq.read_table(store.path(f"{prefix}/d/t.parquet"), filesystem=filesystem).equals(table)
        found = pads.dataset([store.path(f"{prefix}/d/t.parquet")], format="parquet", filesystem=filesystem)
        assert found.count_rows(filter=pads.field("x") < 10) == 10
        assert store.head(f"{prefix}/d/t.parquet").size > 0

    def test_close(self, store: Store, key: str) -> None:
        """Idempotent, for this handle only, and final."""
        store.put(key, b"1")
        with pickle.loads(pickle.dumps(store)) as other:
            other.get(key)
        other.close()
        for verb in VERBS:
            with pytest.raises(ClosedError):
                call(other, verb, key)
        assert store.get(key).to_pybytes() == b"1", "closing one handle closed another"


def _list(store: Store, key: str) -> object:
    return [*store.list(key)]


def _write(store: Store, key: str) -> object:
    with store.open_writer(key) as writer:
        writer.write(b"1")
    return writer.close()


VERBS: dict[str, Callable[[Any, str], object]] = {
    "head": lambda store, key: store.head(key),
    "get": lambda store, key: store.get(key),
    "get_range": lambda store, key: store.get_range(key, 0, 1),
    "get_clipped": lambda store, key: store.get_clipped(key, 0, 1),
    "get_into": lambda store, key: store.get_into(key, bytearray(1)),
    "put": lambda store, key: store.put(key, b"1"),
    "open_writer": _write,
    "list": _list,
    "delete": lambda store, key: store.delete(key),
    "copy": lambda store, key: store.copy(key, "copied"),
}


def call(store: Any, verb: str, key: str) -> object:
    """Call a verb with arguments that are legal but for ``key``."""
    return VERBS[verb](store, key)
