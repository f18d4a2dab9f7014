"""The part of the conformance suite that writes, lists, copies and deletes."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from s3dlio.errors import ExistsError, NotFoundError, OptionError
from s3dlio.storage import LIST_SCHEMA

if TYPE_CHECKING:
    from s3dlio.storage import Store
    from s3dlio.testing.stores import RawObjects

__all__ = ["LARGE", "ChangesSuite", "keys"]

LARGE = 40 << 20
"""More than two parts of every engine's multipart upload."""


class ChangesSuite:
    """Tests of put, list, delete and copy; a part of ``StoreSuite``, which has the fixtures."""

    lists_etags = True
    """Whether listings have ETags; if not, they must be null."""

    paging_keys = 1005
    """Keys for the test of long listings: more than one answer of the server."""

    @pytest.mark.parametrize(
        "data",
        [
            b"bytes",
            bytearray(b"bytearray"),
            memoryview(b"memoryview")[3:],
            np.arange(6, dtype="<i4").reshape(2, 3).data,
            np.arange(7, dtype=np.float32),
            np.zeros((0, 3)),
            pa.py_buffer(b"arrow"),
            b"",
        ],
        ids=lambda data: type(data).__name__,
    )
    def test_put(self, store: Store, raw: RawObjects, key: str, data: Any) -> None:
        """Everything with the buffer protocol is stored byte by byte."""
        expected = pa.py_buffer(data).to_pybytes()
        meta = store.put(key, data)
        assert (meta.key, meta.size) == (key, len(expected))
        assert raw.read(key) == expected
        found = store.head(key)
        assert found.size == len(expected)
        assert meta.etag in {found.etag, None}

    def test_put_what_is_not_contiguous(self, store: Store, raw: RawObjects, key: str) -> None:
        """Strided memory, Fortran's order, Python objects and what is no memory are refused, and nothing is stored."""
        fortran: Any = np.arange(6).reshape(2, 3).T
        strided = np.arange(10)[::2], np.zeros((4, 4))[:, 1]
        objects: Any = np.array([{}], object)
        arranged = fortran, memoryview(fortran), pa.Tensor.from_numpy(np.asfortranarray(fortran))
        for data in (*strided, *arranged, objects, memoryview(objects), "text", 7, None):
            with pytest.raises(OptionError):
                store.put(key, data)
            with pytest.raises(OptionError), store.open_writer(key) as writer:
                writer.write(data)
        assert raw.read(key) is None

    def test_put_overwrites(self, store: Store, raw: RawObjects, key: str) -> None:
        """The newer version is there whole, under another ETag."""
        store.put(key, b"a long first version")
        first = store.head(key).etag
        store.put(key, b"second")
        assert raw.read(key) == b"second"
        assert store.get(key).to_pybytes() == b"second"
        assert first is None or store.head(key).etag != first

    def test_put_large(self, store: Store, raw: RawObjects, key: str) -> None:
        """Several parts make one object; so does a large create."""
        content = np.random.default_rng(2).integers(0, 256, LARGE, np.uint8)
        store.put(key, content)
        assert raw.read(key) == content.tobytes()
        store.delete(key)
        store.put(key, content, mode="create")
        assert raw.read(key) == content.tobytes()

    def test_create(self, store: Store, raw: RawObjects, key: str) -> None:
        """It stores under a free key and touches nothing under another."""
        assert store.put(key, b"first", mode="create").size == 5
        with pytest.raises(ExistsError) as caught:
            store.put(key, b"second", mode="create")
        assert caught.value.uri == store.uri(key)
        assert raw.read(key) == b"first"

    def test_a_misspelled_mode_touches_nothing(self, store: Store, raw: RawObjects, key: str) -> None:
        """It might have meant not to overwrite."""
        store.put(key, b"first")
        with pytest.raises(OptionError, match="mode is 'creat'"):
            store.put(key, b"second", mode="creat")  # type: ignore[arg-type]  # what is tested
        assert raw.read(key) == b"first"

    def test_create_fails_on_an_empty_object(self, store: Store, raw: RawObjects, key: str) -> None:
        """An object without bytes is an object."""
        raw.write(key, b"")
        with pytest.raises(ExistsError):
            store.put(key, b"second", mode="create")
        assert raw.read(key) == b""

    def test_list(self, store: Store, raw: RawObjects, prefix: str) -> None:
        """A prefix is a directory and the listing is recursive."""
        names = ["a", "b/c", "b/d/e", "b/d/f", "b.x", "bc/g", "z"]
        for name in names:
            raw.write(f"{prefix}/{name}", name.encode())
        assert keys(store, prefix) == sorted(f"{prefix}/{name}" for name in names)
        assert keys(store, f"{prefix}/") == keys(store, prefix)
        assert keys(store, f"{prefix}/b") == sorted(f"{prefix}/{name}" for name in ("b/c", "b/d/e", "b/d/f"))
        assert keys(store, f"{prefix}/b/") == keys(store, f"{prefix}/b")
        assert keys(store, f"{prefix}/b/d") == [f"{prefix}/b/d/e", f"{prefix}/b/d/f"]
        assert keys(store, f"{prefix}/a") == [], "an object is not below itself"
        assert keys(store, f"{prefix}/none") == []
        assert keys(store, f"{prefix}/b/n/o/n/e") == []

    def test_list_columns(self, store: Store, raw: RawObjects, prefix: str) -> None:
        """Types, sizes, ETags and times of a listing."""
        raw.write(f"{prefix}/one", b"1")
        raw.write(f"{prefix}/empty", b"")
        batches = [*store.list(prefix)]
        assert all(isinstance(batch, pa.RecordBatch) and batch.schema == LIST_SCHEMA for batch in batches)
        rows = {row["key"]: row for row in pa.Table.from_batches(batches).to_pylist()}
        assert {key: row["size"] for key, row in rows.items()} == {f"{prefix}/one": 1, f"{prefix}/empty": 0}
        for key, row in rows.items():
            assert row["etag"] == (store.head(key).etag if self.lists_etags else None)
            assert row["mtime"] is None or abs(row["mtime"] - dt.datetime.now(dt.UTC)) < dt.timedelta(hours=1)

    def test_list_leaves_out_directory_markers(self, store: Store, raw: RawObjects, prefix: str) -> None:
        """A directory is no object, empty or not."""
        raw.write(f"{prefix}/lone/", b"")
        raw.write(f"{prefix}/full/", b"")
        raw.write(f"{prefix}/full/x", b"1")
        assert keys(store, prefix) == [f"{prefix}/full/x"]
        assert keys(store, f"{prefix}/full") == [f"{prefix}/full/x"]
        assert keys(store, f"{prefix}/lone") == []

    def test_list_can_be_left(self, store: Store, raw: RawObjects, prefix: str) -> None:
        """An iterator that is dropped disturbs nothing."""
        raw.write(f"{prefix}/a", b"1")
        next(iter(store.list(prefix)))
        assert keys(store, prefix) == [f"{prefix}/a"]

    def test_list_many(self, store: Store, raw: RawObjects, prefix: str) -> None:
        """More keys than one answer of a server holds."""
        expected = [f"{prefix}/{number:05d}" for number in range(self.paging_keys)]
        for key in expected:
            raw.write(key, b"1")
        assert keys(store, prefix) == expected

    def test_delete(self, store: Store, raw: RawObjects, prefix: str) -> None:
        """One object goes, its neighbours and directories stay; nothing there is no error."""
        for name in ("a", "a.b", "dir/x"):
            raw.write(f"{prefix}/{name}", b"1")
        store.delete(f"{prefix}/a")
        store.delete(f"{prefix}/a")
        store.delete(f"{prefix}/dir")
        store.delete(f"{prefix}/dir/x/none")
        assert keys(store, prefix) == [f"{prefix}/a.b", f"{prefix}/dir/x"]
        store.delete(f"{prefix}/dir/x")
        store.delete(f"{prefix}/a.b")
        assert keys(store, prefix) == []
        with pytest.raises(NotFoundError):
            store.get(f"{prefix}/a")

    def test_copy(self, store: Store, raw: RawObjects, prefix: str) -> None:
        """Content arrives under the new key, also over an object and in a new directory."""
        raw.write(f"{prefix}/from", b"content")
        raw.write(f"{prefix}/to", b"what was there")
        store.copy(f"{prefix}/from", f"{prefix}/to")
        store.copy(f"{prefix}/from", f"{prefix}/new/dir/to")
        for name in ("from", "to", "new/dir/to"):
            assert raw.read(f"{prefix}/{name}") == b"content"
        with pytest.raises(NotFoundError):
            store.copy(f"{prefix}/none", f"{prefix}/to")
        assert raw.read(f"{prefix}/to") == b"content"


def keys(store: Store, prefix: str) -> list[str]:
    """The keys of a listing, sorted; each batch has the schema."""
    found: list[str] = []
    for batch in store.list(prefix):
        assert batch.num_rows > 0, "an empty batch"
        found += batch.column("key").to_pylist()
    assert len(found) == len(set(found)), "a key twice"
    return sorted(found)
