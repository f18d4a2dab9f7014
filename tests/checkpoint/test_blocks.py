"""Cutting bytes into checked blocks, and planning the requests that read them."""

import dataclasses
import threading

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import s3dlio.checkpoint.blocks
from s3dlio.checkpoint.blocks import BlockRead, Checksums, pieces, read_blocks, read_runs
from s3dlio.errors import CheckpointError, StorageError

from ..threads import all_ended


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3dlio.checkpoint.blocks, "BLOCK_BYTES", 16)
        yield


@given(st.lists(st.binary(max_size=50), max_size=8), st.data())
def test_checksums_do_not_depend_on_how_bytes_arrive(parts, data):
    """An oracle cuts each part at multiples of 16 bytes from its beginning."""
    checksums = Checksums()
    ends, crcs, at = [], [], 0
    for part in parts:
        for start in range(0, len(part), 16):
            block = part[start : start + 16]
            at += len(block)
            ends.append(at)
            crcs.append(google_crc32c.value(block))
        cuts = sorted(data.draw(st.lists(st.integers(0, len(part)), max_size=5)))
        for start, end in zip([0, *cuts], [*cuts, len(part)], strict=True):
            checksums.update(np.frombuffer(part[start:end], np.uint8))
        checksums.cut()
    assert checksums.ends == ends
    assert checksums.crc32c == crcs


def test_a_checksum_is_the_standard_one():
    checksums = Checksums()
    checksums.update(np.frombuffer(b"123456789", np.uint8))
    checksums.cut()
    assert checksums.crc32c == [0xE3069283]  # the check value of CRC-32C


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<i4", ">i4", "<f8", "S5", "V24"])
def test_pieces_are_the_bytes_in_c_order(order, dtype):
    itemsize = np.dtype(dtype).itemsize
    bits = np.arange(5 * 7 * itemsize, dtype=np.uint8)
    array = np.asarray(bits.view(dtype).reshape(5, 7), order=order)
    found = [piece.tobytes() for piece in pieces(array)]
    assert b"".join(found) == array.astype(array.dtype.newbyteorder("<")).tobytes()
    assert all(0 < len(piece) <= max(16, itemsize) for piece in found)


def test_a_contiguous_array_is_not_copied():
    array = np.arange(40, dtype=np.uint8)
    assert all(np.shares_memory(piece, array) for piece in pieces(array))


def _read(key, begin, end):
    return BlockRead(key=key, index=0, begin=begin, end=end, crc32c=0, file_bytes=0, arrays=(), target=None)


def test_neighbours_share_a_request_up_to_a_block():
    reads = [_read("a", *pair) for pair in [(0, 4), (4, 8), (8, 16), (16, 20), (24, 28)]] + [_read("b", 28, 30)]
    runs = read_runs(reversed(reads))
    assert [[(read.begin, read.end) for read in run] for run in runs] == [
        [(0, 4), (4, 8), (8, 16)],
        [(16, 20)],
        [(24, 28)],
        [(28, 30)],
    ]


_DATA = np.random.default_rng(1).integers(0, 255, 16 * 40, np.uint8)


class _Served:
    """The bytes of one file; ``on_request`` is called with each request's number of block first."""

    def __init__(self, on_request):
        self._on_request = on_request

    def get_into(self, key, buffer, start=0):
        self._on_request(start // 16)
        buffer[:] = _DATA[start : start + len(buffer)]

    def get_range(self, key, start, end):
        self._on_request(start // 16)
        return _DATA[start:end].tobytes()

    def uri(self, key):
        return key


def _file_reads(out):
    """Reads of all blocks of the file into ``out``, or only to check them."""
    return [
        BlockRead(
            key="f",
            index=begin // 16,
            begin=begin,
            end=begin + 16,
            crc32c=google_crc32c.value(_DATA[begin : begin + 16].tobytes()),
            file_bytes=_DATA.size,
            arrays=("w",),
            target=None if out is None else out[begin : begin + 16],
        )
        for begin in range(0, _DATA.size, 16)
    ]


@pytest.mark.parametrize("kept", [True, False], ids=["load", "verify"])
def test_several_requests_are_under_way_at_a_time(kept):
    together = threading.Barrier(8)
    out = np.zeros_like(_DATA) if kept else None

    read_blocks(_Served(lambda _: together.wait(timeout=30)), _file_reads(out))  # 40 blocks: five times eight

    if kept:
        np.testing.assert_array_equal(out, _DATA)


def test_a_single_request_needs_no_thread():
    threads = []
    out = np.zeros_like(_DATA)
    read_blocks(_Served(lambda _: threads.append(threading.current_thread())), _file_reads(out)[:1])
    assert threads == [threading.current_thread()]
    np.testing.assert_array_equal(out[:16], _DATA[:16])


def test_the_error_of_the_lowest_block_is_the_one_that_is_raised():
    later = threading.Event()

    def failing(block):
        if block == 1:
            assert later.wait(timeout=30)  # fails after the block that comes after it
            raise StorageError("block 1")
        if block == 3:
            later.set()
            raise StorageError("block 3")

    with pytest.raises(StorageError, match="block 1"):
        read_blocks(_Served(failing), _file_reads(np.zeros_like(_DATA)))


def test_a_wrong_checksum_among_many_requests_is_found():
    reads = _file_reads(np.zeros_like(_DATA))
    reads[33] = dataclasses.replace(reads[33], crc32c=reads[33].crc32c ^ 1)
    with pytest.raises(CheckpointError, match=r"'w' from f at block 33 \[528, 544\)"):
        read_blocks(_Served(lambda _: None), reads)


def test_no_thread_outlives_the_load():
    read_blocks(_Served(lambda _: None), _file_reads(np.zeros_like(_DATA)))
    assert all_ended()
