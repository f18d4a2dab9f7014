"""The part of the conformance suite that writes objects in pieces."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from s3dlio.errors import ClosedError, OptionError, StorageError
from s3dlio.storage.protocol import ObjectWriter, WriteResult
from s3dlio.testing.store_changes import LARGE, keys

if TYPE_CHECKING:
    from s3dlio.storage import Store
    from s3dlio.testing.stores import RawObjects

__all__ = ["WritersSuite"]


class WritersSuite:
    """Tests of ``open_writer``; a part of ``StoreSuite``, which has the fixtures."""

    keeps_parts_of_others = True
    """Whether one writer's close leaves alone what another writer of the same key has sent. Azure drops those blocks;
    then the other's close may be an error."""

    awkward_keys: tuple[str, ...]
    replaces_atomically: bool

    def test_writer(self, store: Store, raw: RawObjects, key: str) -> None:
        """Pieces make one object that nobody sees before close."""
        with store.open_writer(key) as writer:
            assert writer.write(b"one ") == 4
            assert writer.write(np.frombuffer(b"two ", np.uint8)) == 4
            assert writer.write(b"") == 0
            assert writer.write(memoryview(b"three")) == 5
            assert raw.read(key) is None, "visible before close"
            assert key not in keys(store, key.rpartition("/")[0]), "listed before close"
        assert raw.read(key) == b"one two three"
        meta = writer.close()
        assert (meta.key, meta.size) == (key, 13)
        assert meta.etag in {store.head(key).etag, None}

    def test_writer_of_nothing(self, store: Store, raw: RawObjects, key: str) -> None:
        """No piece makes an object without bytes."""
        with store.open_writer(key):
            pass
        assert raw.read(key) == b""

    def test_writer_copies_what_may_change(self, store: Store, raw: RawObjects, key: str) -> None:
        """The caller may reuse its memory at once, also where parts are sent later."""
        piece = bytearray(3 << 20)
        with store.open_writer(key) as writer:
            for number in range(LARGE // len(piece)):
                piece[:] = bytes([number]) * len(piece)
                writer.write(memoryview(piece).toreadonly() if number % 2 else piece)
            piece[:] = b"?" * len(piece)
        found = np.frombuffer(raw.read(key) or b"", np.uint8).reshape(-1, len(piece))
        np.testing.assert_array_equal(found.min(axis=1), range(LARGE // len(piece)))
        np.testing.assert_array_equal(found.max(axis=1), range(LARGE // len(piece)))
        assert writer.close().size == found.size

    @pytest.mark.parametrize("size", [0, 10, LARGE])
    @pytest.mark.parametrize("existing", [None, b"what was there"])
    @pytest.mark.parametrize("how", ["abort", "exception"])
    def test_writer_that_gives_up(
        self, store: Store, raw: RawObjects, key: str, size: int, existing: bytes | None, how: str
    ) -> None:
        """Aborted or left by an exception it publishes nothing and leaves nothing behind."""
        if existing is not None:
            raw.write(key, existing)
        writer = store.open_writer(key)
        writer.write(bytes(size))
        if how == "abort":
            writer.abort()
            writer.abort()
        else:
            with pytest.raises(KeyError), writer:
                raise KeyError
        assert raw.read(key) == existing
        assert keys(store, key.rpartition("/")[0]) == ([] if existing is None else [key])
        assert raw.unfinished(key.rpartition("/")[0]) == []
        with pytest.raises(ClosedError):
            writer.close()
        with pytest.raises(ClosedError):
            writer.write(b"1")

    def test_writer_after_close(self, store: Store, raw: RawObjects, key: str) -> None:
        """Close repeats its result; everything else is misuse or nothing."""
        writer = store.open_writer(key)
        writer.write(b"1")
        first = writer.close()
        assert writer.close() == first
        writer.abort()
        with pytest.raises(ClosedError):
            writer.write(b"2")
        assert raw.read(key) == b"1"
        assert raw.unfinished(key.rpartition("/")[0]) == []

    def test_writer_refuses_what_is_no_buffer(self, store: Store, raw: RawObjects, key: str) -> None:
        """A refused piece does not spoil the others."""
        with store.open_writer(key) as writer:
            writer.write(b"1")
            with pytest.raises(OptionError):
                writer.write("text")
            writer.write(b"2")
        assert raw.read(key) == b"12"

    @pytest.mark.parametrize("size", [0, 1, 9, 100_003])
    def test_writer_result(self, store: Store, key: str, size: int) -> None:
        """Size, ETag, parts and the CRC-32C of the bytes, however they were cut."""
        data = np.random.default_rng(size).bytes(size)
        writer = store.open_writer(key)
        assert isinstance(writer, ObjectWriter)
        for start in range(0, size, 10_007):
            writer.write(memoryview(data)[start : start + 10_007])
        result = writer.close()
        found = store.head(key)
        assert isinstance(result, WriteResult)
        assert (result.key, result.size, result.parts) == (key, size, 1)
        assert result.checksum == f"crc32c:{crc32c(data):08x}"
        assert result.etag in {found.etag, None}
        assert result.mtime in {found.mtime, None}

    def test_writer_of_many_parts(self, store: Store, raw: RawObjects, key: str) -> None:
        """Pieces of any size, larger and smaller than parts, arrive in their order."""
        data = np.random.default_rng(3).bytes(LARGE)
        sizes = [1, 20 << 20, 7, 5 << 20, 0, 1000, LARGE]
        start = 0
        with store.open_writer(key, size_hint=LARGE) as writer:
            for size in sizes:
                assert writer.write(memoryview(data)[start : start + size]) == min(size, LARGE - start)
                start += size
        assert raw.read(key) == data
        result = writer.close()
        assert (result.size, result.parts >= 1) == (LARGE, True)
        assert result.etag in {store.head(key).etag, None}

    def test_writer_of_many_small_pieces(self, store: Store, raw: RawObjects, key: str) -> None:
        """A line at a time."""
        with store.open_writer(key) as writer:
            for number in range(20_000):
                writer.write(b"%06d\n" % number)
        assert raw.read(key) == b"".join(b"%06d\n" % number for number in range(20_000))

    @pytest.mark.parametrize("size", [10, LARGE])
    def test_writer_flush(self, store: Store, raw: RawObjects, key: str, size: int) -> None:
        """Changes nothing that anybody sees, before the first byte and after the last."""
        piece = np.random.default_rng(4).bytes(size // 2)
        writer = store.open_writer(key)
        writer.flush()
        for _ in range(2):
            writer.write(piece)
            writer.flush()
            assert raw.read(key) is None, "visible before close"
        assert writer.close().size == size
        assert raw.read(key) == piece * 2
        with pytest.raises(ClosedError):
            writer.flush()

    @pytest.mark.parametrize("hint", [0, 1, 1000, 1 << 30, 1 << 42])
    def test_writer_size_hint(self, store: Store, raw: RawObjects, key: str, hint: int) -> None:
        """It is a hint: the object may have another size."""
        with store.open_writer(key, size_hint=hint) as writer:
            writer.write(b"content")
        assert raw.read(key) == b"content"

    def test_writer_size_hint_that_is_none(self, store: Store, raw: RawObjects, key: str) -> None:
        """Refused at once."""
        with pytest.raises(OptionError):
            store.open_writer(key, size_hint=-1)
        assert raw.read(key) is None

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_writer_left_by_what_is_no_exception(
        self, store: Store, raw: RawObjects, key: str, error: type[BaseException]
    ) -> None:
        """Ctrl-C publishes nothing, either."""
        writer = store.open_writer(key)
        writer.write(b"half of it")
        with pytest.raises(error), writer:
            raise error
        assert raw.read(key) is None
        assert raw.unfinished(key.rpartition("/")[0]) == []

    def test_writers_of_one_key(self, store: Store, raw: RawObjects, key: str) -> None:
        """Each has its own bytes; the last one to close wins, whole."""
        first, second, third = (store.open_writer(key) for _ in range(3))
        for number in range(3):
            first.write(b"first %d " % number)
            second.write(b"2")
            third.write(bytes(100_000))
        second.close()
        assert raw.read(key) == b"222"
        first.close()
        assert raw.read(key) == b"first 0 first 1 first 2 "
        third.abort()
        assert raw.read(key) == b"first 0 first 1 first 2 "

    @pytest.mark.parametrize("size", [1000, LARGE // 2])
    def test_racing_writers_of_one_key(self, store: Store, raw: RawObjects, key: str, size: int) -> None:
        """Published at the same time, the object is one of them and no mixture."""
        barrier = threading.Barrier(4)

        def write(number: int) -> tuple[bytes, bool]:
            data = bytes([number]) * (size + number)
            writer = store.open_writer(key)
            writer.write(data)
            barrier.wait()
            try:
                published = writer.close().size == len(data)
            except StorageError:
                if self.keeps_parts_of_others:
                    raise
                published = False
            return data, published

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            written = [*pool.map(write, range(4))]
        assert any(published for _, published in written)
        if self.replaces_atomically:
            assert raw.read(key) in [data for data, published in written if published]
        else:
            assert raw.read(key) is not None

    def test_writers_in_threads(self, store: Store, raw: RawObjects, prefix: str) -> None:
        """Many at a time do not disturb each other."""

        def write(number: int) -> None:
            with store.open_writer(f"{prefix}/{number}") as writer:
                for turn in range(10):
                    writer.write(f"{number} {turn};".encode() * 1000)

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            list(pool.map(write, range(16)))
        for number in range(16):
            expected = b"".join(f"{number} {turn};".encode() * 1000 for turn in range(10))
            assert raw.read(f"{prefix}/{number}") == expected

    def test_writers_of_awkward_keys(self, store: Store, raw: RawObjects, prefix: str) -> None:
        """Names arrive as they were given, in one piece and in parts."""
        for name in self.awkward_keys:
            with store.open_writer(f"{prefix}/{name}") as writer:
                writer.write(name.encode())
            assert raw.read(f"{prefix}/{name}") == name.encode()
            assert writer.close().key == f"{prefix}/{name}"
        key = f"{prefix}/per%cent ünïcode+"
        with store.open_writer(key) as writer:
            writer.write(bytes(LARGE // 2))
        assert keys(store, prefix) == sorted([key, *(f"{prefix}/{name}" for name in self.awkward_keys)])


def crc32c(data: bytes) -> int:
    """CRC-32C (RFC 3720, B.4: polynomial 0x1EDC6F41, reflected), bit by bit: shares nothing with the library."""
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # noqa: PLW2901 - the algorithm
        table.append(value)
    crc = 0xFFFFFFFF
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF
