"""The order of an epoch as a pure function: position -> sample number.

A keyed permutation of [0, n) that is computed, not stored: a balanced Feistel network over the next even
power of two, walked until it lands inside [0, n). Seeking costs O(1), and there is no epoch array and no
shuffle buffer to lose when a job stops.

The algorithm is a contract: a saved position means the same samples for ever. Change it only under a new
``ORDER`` name, and keep the old one readable.

Source: J. Black and P. Rogaway, "Ciphers with Arbitrary Finite Domains", CT-RSA 2002, section 3 (cycle
walking) and section 4 (Feistel); the mixing function is the finaliser of splitmix64 (Steele, Lea and Flood,
"Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
"""

from __future__ import annotations

import hashlib
from typing import Any, TypeAlias

import numpy as np

__all__ = ["ORDER", "Int64s", "Permutation", "epoch_order"]

ORDER = "feistel-1"
"""Name of this algorithm in saved states."""

Int64s: TypeAlias = np.ndarray[tuple[int], np.dtype[Any]]
"""An int64 array of one dimension."""

_ROUNDS = 8
"""Four rounds make a Feistel network a strong pseudorandom permutation on large domains (Luby and Rackoff,
1988). On domains of a few bits a round mixes little: with eight, where a sample comes, and where a pair comes,
passes the chi-square tests of tests/datasets/test_order.py from n = 3 on. Not all n! orders of 5 to 7 samples
are equally likely, with any number of rounds: a round of more than two bits is an even permutation."""


class Permutation:
    """A keyed permutation of the numbers 0 .. n-1.

    Args:
        n: size of the domain, 0 <= n < 2**62.
        key: any bytes; another key is another permutation.
    """

    __slots__ = ("_bits", "_keys", "_mask", "n")

    def __init__(self, n: int, key: bytes) -> None:
        self.n = n
        half = max(1, (max(n - 1, 1).bit_length() + 1) // 2)
        self._bits = np.uint64(half)
        self._mask = np.uint64((1 << half) - 1)
        digest = hashlib.blake2b(key, digest_size=8 * _ROUNDS, person=b"s3dlio-order").digest()
        self._keys = np.frombuffer(digest, "<u8").astype(np.uint64)

    def __call__(self, positions: Int64s) -> Int64s:
        """The permuted numbers of ``positions``: int64 (k,), each in [0, n), in and out.

        Raises:
            IndexError: a position outside of [0, n).
        """
        if positions.size and not 0 <= positions.min() <= positions.max() < self.n:
            # the walk of a position outside might never come back
            raise IndexError(f"position {positions.min()} to {positions.max()}: expected 0 to {self.n - 1}.")
        values = positions.astype(np.uint64)
        pending = np.arange(values.size)
        # each walk ends after fewer than 4 steps on average: the domain is at most four times n
        while pending.size:
            values[pending] = self._encipher(values[pending])
            pending = pending[values[pending] >= self.n]
        return values.astype(np.int64)

    def _encipher(self, values: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
        left, right = values >> self._bits, values & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right ^ key) & self._mask)
        return (left << self._bits) | right


def _mix(x: np.ndarray[Any, np.dtype[np.uint64]]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


class _Identity:
    """The order of the manifest itself."""

    def __call__(self, positions: Int64s) -> Int64s:
        return positions


def epoch_order(samples: int, *, shuffle: bool, seed: int, epoch: int) -> Permutation | _Identity:
    """The order of one epoch, as a callable from positions to sample numbers.

    Args:
        samples: number of samples in the manifest.
        shuffle: whether to permute at all.
        seed: any whole number; the same one gives the same epochs.
        epoch: number of the epoch, from 0.
    """
    if not shuffle:
        return _Identity()
    return Permutation(samples, f"{seed}/{epoch}".encode())
