"""Cutting bytes into checked blocks, and planning the requests that read them."""

import google_crc32c
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import s3dlio.checkpoint.blocks
from s3dlio.checkpoint.blocks import BlockRead, Checksums, pieces, read_runs


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
