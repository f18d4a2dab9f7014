"""Bytes that compress and deduplicate by as much as was asked for.

Pure: the same arguments give the same bytes, on every machine and NumPy version. Must not know: stores, keys.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from s3dlio.errors import OptionError

__all__ = ["Kind", "payload"]

Kind: TypeAlias = Literal["random", "zeros"]

_BLOCK_BYTES = 4096
"""Unit of compressible content and of repetition: the usual block of file systems and deduplicating stores,
and well inside the window of every compressor (deflate: 32 KiB)."""

_MIN_RANDOM_BYTES = 16
"""Random bytes that every block keeps, so that blocks and objects differ however compressible they are."""

_MAX_SEED = 2**64 - 1


def payload(
    size: int, *, seed: int, index: int, kind: Kind = "random", compress: float = 1.0, dedup: float = 1.0
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The content of object number ``index``: ``size`` bytes that depend on nothing but the arguments.

    Objects of different (seed, index) share no block. About 3 GB/s a core.

    Args:
        size: bytes, >= 0.
        seed: of the whole data set, 0 to 2**64 - 1.
        index: of the object in it, 0 to 2**64 - 1.
        kind: "random", or "zeros" for nothing but zero bytes (then ``compress`` and ``dedup`` must be 1).
        compress: size divided by compressed size, >= 1. 1 is incompressible. Each block of 4 KiB is random
            bytes followed by zeros, so the ratio holds for any part; above some 50 compressors fall behind it.
        dedup: blocks of 4 KiB divided by distinct ones, >= 1. The distinct blocks come first and are then
            repeated in order. A compressor that looks back far enough finds repeated blocks, too. The object
            must be several times ``dedup`` blocks long for the ratio to be exact.

    Returns: uint8 (size,), read-only.

    Raises:
        OptionError: an argument out of its range.
    """
    _check(size, seed, index, kind, compress, dedup)
    if kind == "zeros":
        content = np.zeros(size, np.uint8)
    else:
        blocks = math.ceil(size / _BLOCK_BYTES)
        distinct = size if dedup == 1 else min(size, max(1, round(blocks / dedup)) * _BLOCK_BYTES)
        content = _compressible(distinct, compress, _generator(seed, index))
        if distinct < size:
            content = _repeated(content, size)
    content.flags.writeable = False
    return content


def _compressible(size: int, compress: float, generator: np.random.SFC64) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """``size`` bytes in blocks of 4 KiB and what is left over, each random at first and then zero."""
    if compress == 1:
        return _random_bytes(size, generator)
    whole, tail = divmod(size, _BLOCK_BYTES)
    content = np.zeros(size, np.uint8)
    random = _random_share(_BLOCK_BYTES, compress)
    blocks = content[: size - tail].reshape(whole, _BLOCK_BYTES)
    blocks[:, :random] = _random_bytes(whole * random, generator).reshape(whole, random)
    random = _random_share(tail, compress)
    content[size - tail :][:random] = _random_bytes(random, generator)
    return content


def _repeated(content: np.ndarray[Any, np.dtype[np.uint8]], size: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """As ``numpy.resize``, which makes whole repetitions first: nearly two of them for a few bytes more than one."""
    result = np.empty(size, np.uint8)
    filled = content.size
    result[:filled] = content
    while filled < size:  # twice as many each time, and always whole repetitions
        count = min(filled, size - filled)
        result[filled : filled + count] = result[:count]
        filled += count
    return result


def _random_share(size: int, compress: float) -> int:
    """How many bytes of a block of ``size`` are random."""
    return min(size, max(_MIN_RANDOM_BYTES, round(size / compress)))


def _generator(seed: int, index: int) -> np.random.SFC64:
    # The spawn key is how NumPy derives independent streams of one seed.
    return np.random.SFC64(np.random.SeedSequence(seed, spawn_key=(index,)))


def _random_bytes(size: int, generator: np.random.SFC64) -> np.ndarray[Any, np.dtype[np.uint8]]:
    # The raw stream of a bit generator is what NumPy keeps stable between versions (NEP 19), and the fastest.
    words = generator.random_raw(math.ceil(size / 8))
    return np.asarray(words, "<u8").view(np.uint8)[:size]


def _check(size: int, seed: int, index: int, kind: str, compress: float, dedup: float) -> None:
    for name, number in (("seed", seed), ("index", index)):
        if not 0 <= number <= _MAX_SEED:
            raise OptionError(f"generate {name}: got {number}, expected 0 to 2**64 - 1.", field=name)
    if size < 0:
        raise OptionError(f"generate size: got {size}, expected 0 bytes or more.", field="size")
    if kind not in get_args(Kind):
        raise OptionError(f"generate kind: got {kind!r}, expected one of {', '.join(get_args(Kind))}.", field="kind")
    for name, ratio in (("compress", compress), ("dedup", dedup)):
        if not 1 <= ratio < math.inf:
            raise OptionError(f"generate {name}: got {ratio}, expected a ratio of 1 or more.", field=name)
        if kind == "zeros" and ratio != 1:
            raise OptionError(
                f"generate {name}: got {ratio} for zeros, expected 1. Zeros always compress; use kind='random'.",
                field=name,
            )
