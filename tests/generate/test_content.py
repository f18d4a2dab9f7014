from __future__ import annotations

import math
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio.errors import OptionError
from s3dlio.generate import payload

COMPRESSORS = {
    "zlib 1": lambda data: len(zlib.compress(data, 1)),
    "zlib 9": lambda data: len(zlib.compress(data, 9)),
    "zstd": lambda data: pa.compress(pa.py_buffer(data), codec="zstd").size,
    "lz4": lambda data: pa.compress(pa.py_buffer(data), codec="lz4").size,
}


def blocks(data: np.ndarray) -> list[bytes]:
    raw = data.tobytes()
    return [raw[start : start + 4096] for start in range(0, len(raw), 4096)]


@given(
    size=st.integers(0, 50_000),
    seed=st.integers(0, 2**64 - 1),
    index=st.integers(0, 2**64 - 1),
    compress=st.floats(1, 1e6),
    dedup=st.floats(1, 1e6),
)
def test_any_arguments_give_the_same_bytes_twice(size, seed, index, compress, dedup):
    def make():
        return payload(size, seed=seed, index=index, compress=compress, dedup=dedup)

    data = make()
    assert data.shape == (size,)
    assert data.dtype == np.uint8
    assert not data.flags.writeable
    assert np.array_equal(data, make())


def test_the_bytes_are_the_same_everywhere():
    """What a data set was generated from must regenerate it: these bytes may never change."""
    assert payload(8, seed=0, index=0).tobytes().hex() == "6f9b3f01272d658c"
    assert payload(8, seed=2**64 - 1, index=7).tobytes().hex() == "395a281b02742aa8"
    assert zlib.crc32(payload(100_001, seed=1, index=2, compress=3.0, dedup=2.0)) == 0xB661EA60


def test_threads_get_the_same_bytes():
    serial = [payload(30_000, seed=1, index=n).tobytes() for n in range(64)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda n: payload(30_000, seed=1, index=n).tobytes(), range(64))) == serial


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("size", [1000, 4096, 100_000, 1 << 20])
def test_random_is_incompressible(size, name):
    assert COMPRESSORS[name](payload(size, seed=1, index=2)) >= 0.99 * size


def test_random_bytes_are_uniform_and_independent():
    data = payload(1 << 20, seed=4, index=4)
    for values in (data, data[:-1] ^ data[1:], data[:-4096] ^ data[4096:]):
        counts = np.bincount(values, minlength=256)
        expected = values.size / 256
        chi_square = ((counts - expected) ** 2 / expected).sum()
        # 255 degrees of freedom: mean 255, standard deviation 22.6.
        assert 255 - 5 * 22.6 < chi_square < 255 + 5 * 22.6
    bits = np.unpackbits(data).mean()
    assert abs(bits - 0.5) < 5 * 0.5 / math.sqrt(8 * data.size)


@pytest.mark.parametrize("name", COMPRESSORS)
@pytest.mark.parametrize("compress", [1.5, 2.0, 4.0, 10.0, 30.0])
@pytest.mark.parametrize("size", [5000, 8191, 100_000, 1 << 20])
def test_compress_is_the_ratio_within_a_quarter(size, compress, name):
    if compress == 30 and size < 10_000:
        compress = 10.0  # a compressor's own headers weigh too much in so few bytes
    ratio = size / COMPRESSORS[name](payload(size, seed=1, index=2, compress=compress))
    assert ratio == pytest.approx(compress, rel=0.25)


@pytest.mark.parametrize("name", ["zlib 9", "zstd"])
def test_every_part_compresses_alike(name):
    data = payload(1 << 20, seed=1, index=2, compress=4.0)
    for start in range(0, 1 << 20, 1 << 16):
        part = data[start : start + (1 << 16)]
        assert part.size / COMPRESSORS[name](part) == pytest.approx(4, rel=0.25)


@pytest.mark.parametrize("compress", [1.0, 4.0])
@pytest.mark.parametrize("dedup", [1.0, 1.5, 2.0, 4.0, 10.0])
def test_dedup_is_the_ratio_of_blocks_to_distinct_blocks(dedup, compress):
    counts = Counter(blocks(payload(240 * 4096, seed=1, index=2, dedup=dedup, compress=compress)))
    assert len(counts) == round(240 / dedup)
    assert max(counts.values()) - min(counts.values()) <= 1


def test_dedup_of_a_few_blocks():
    data = payload(10 * 4096 + 100, seed=1, index=2, dedup=4.0)
    assert len(set(blocks(data)[:-1])) == 3
    assert data[-100:].tobytes() == data[4096 : 4096 + 100].tobytes()
    assert payload(100, seed=1, index=2, dedup=4.0).size == 100


def test_repeated_blocks_are_incompressible_within_a_repetition():
    data = payload(1 << 20, seed=1, index=2, dedup=4.0)
    assert len(zlib.compress(data[: 1 << 18])) >= 0.99 * (1 << 18)


def test_dedup_and_compress_work_together():
    data = payload(1 << 20, seed=1, index=2, dedup=4.0, compress=2.0)
    distinct = b"".join(dict.fromkeys(blocks(data)))
    assert len(distinct) == 1 << 18
    assert len(distinct) / len(zlib.compress(distinct)) == pytest.approx(2, rel=0.25)


@pytest.mark.parametrize("compress", [1.0, 4.0, 1e6])
@pytest.mark.parametrize("size", [64, 10_000])
def test_objects_share_no_block(size, compress):
    seen: set[bytes] = set()
    total = 0
    for seed, index in [(0, n) for n in range(300)] + [(n, 0) for n in range(1, 300)] + [(2**63, 2**63)]:
        data = payload(size, seed=seed, index=index, compress=compress)
        parts = [data.tobytes()] if size < 4096 else blocks(data)
        seen.update(parts)
        total += len(parts)
    assert len(seen) == total


def test_seed_and_index_are_not_interchangeable():
    assert not np.array_equal(payload(64, seed=1, index=0), payload(64, seed=0, index=1))
    assert not np.array_equal(payload(64, seed=0, index=2**32), payload(64, seed=0, index=1))


def test_numpy_integers_are_integers():
    plain = payload(64, seed=3, index=4)
    assert np.array_equal(payload(np.int64(64), seed=np.uint64(3), index=np.int32(4)), plain)


def test_zeros_are_zeros():
    data = payload(10_000, seed=1, index=2, kind="zeros")
    assert data.shape == (10_000,)
    assert not data.any()
    assert not data.flags.writeable


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("size", {"size": -1}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": 2**64}),
        ("index", {"index": -1}),
        ("index", {"index": 2**64}),
        ("kind", {"kind": "noise"}),
        ("compress", {"compress": 0.5}),
        ("compress", {"compress": math.nan}),
        ("compress", {"compress": math.inf}),
        ("dedup", {"dedup": 0}),
        ("compress", {"kind": "zeros", "compress": 2.0}),
        ("dedup", {"kind": "zeros", "dedup": 2.0}),
    ],
)
def test_arguments_out_of_range_are_errors(field, options):
    with pytest.raises(OptionError, match=f"generate {field}: got") as caught:
        payload(**({"size": 10, "seed": 1, "index": 1} | options))
    assert caught.value.field == field
