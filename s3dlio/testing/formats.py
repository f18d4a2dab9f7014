"""The conformance suite of formats: what every ``Format`` promises, checked on its author's own files.

Subclass it in a test module and run pytest:

    class TestNpz(FormatSuite):
        format = NpzFormat()
        checksummed = True

        def samples(self):
            return [(file_bytes, {"data": expected_array})]

Expected arrays come from the reference implementation, never from the format under test. Compares shapes,
types and every bit. Must not know: how any format works, stores, frameworks.
"""

from __future__ import annotations

import gc
import pickle
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from s3dlio.concurrency import ReadAhead
from s3dlio.errors import FormatError
from s3dlio.formats import Format

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3dlio.arrays import Array, Sample

__all__ = ["FormatSuite", "assert_same_sample", "every_kind_of_array"]

_EXHAUSTIVE_BYTES = 1024
"""Files up to this size are cut at every byte and flipped at every bit: 8,192 decodes, under a second."""


class FormatSuite:
    """One instance of a format against what ``s3dlio.formats.protocol`` guarantees."""

    format: Format
    """The instance under test. All tests share it, so what it remembers is tested, too."""

    self_delimiting = True
    """Whether the format knows where its object ends: a byte too few or too many is then a FormatError."""

    checksummed = False
    """Whether no flipped bit may change the arrays unnoticed."""

    def samples(self) -> list[tuple[bytes, Sample]]:
        """Files written by the reference implementation, and what each holds; one of 1 KiB at most."""
        raise NotImplementedError

    def test_is_a_format(self) -> None:
        """It has the attributes, spelt the way that detection needs them."""
        assert isinstance(self.format, Format)
        assert self.format.name == self.format.name.lower() != ""
        assert all(suffix == suffix.lower() and suffix.startswith(".") for suffix in self.format.suffixes)

    def test_decodes_what_the_reference_wrote(self) -> None:
        """Names, order, shapes, types and bits, the first time and from what it remembers."""
        for data, expected in self._samples():
            for _ in range(2):
                assert_same_sample(self.format.decode(pa.py_buffer(data)), expected)

    def test_decodes_at_any_alignment(self) -> None:
        """The buffer may be a slice that starts anywhere."""
        for data, expected in self._samples():
            for skip in (1, 2, 3, 4, 8):
                buffer = pa.py_buffer(b"\xff" * skip + data).slice(skip)
                assert_same_sample(self.format.decode(buffer), expected)

    def test_arrays_are_read_only(self) -> None:
        """Also over memory that is not; and over memory that is, for good."""
        for data, expected in self._samples():
            memory = bytearray(data)
            sample = self.format.decode(pa.py_buffer(memory))
            assert not any(array.flags.writeable for array in sample.values())
            assert memory == data, "decode changed the buffer"
            assert_same_sample(sample, expected)
            for array in self.format.decode(pa.py_buffer(data)).values():
                assert not array.flags.writeable
                if array.nbytes:
                    with pytest.raises(ValueError, match="WRITEABLE"):
                        array.setflags(write=True)

    def test_arrays_keep_their_memory_and_nothing_else_does(self) -> None:
        """The buffer lives exactly as long as something shows it: no copy to hold on to, no leak."""
        gc.collect()
        gc.freeze()  # a collection then looks at what is new: whole frameworks may be loaded beside
        try:
            for data, expected in self._samples():
                owner = np.frombuffer(data, np.uint8).copy()
                memory = weakref.ref(owner)
                sample = self.format.decode(pa.py_buffer(owner))
                shared = any(np.may_share_memory(array, owner) for array in sample.values() if array.nbytes)
                del owner
                gc.collect()
                assert memory() is not None or not shared, "an array outlived its memory"
                assert_same_sample(sample, expected)
                del sample
                gc.collect()
                assert memory() is None, "the format kept the buffer"
        finally:
            gc.unfreeze()

    def test_every_truncation_is_an_error(self) -> None:
        """A prefix of an object never passes for the object."""
        for data, _ in self._small_samples():
            for end in range(len(data)):
                self._refuses(data[:end])

    def test_bytes_left_over_are_an_error(self) -> None:
        """Neither after the object nor in front of it."""
        for data, _ in self._small_samples():
            for extra in (b"\0", b"\n", b"\xff" * 64, data):
                self._refuses(data + extra)
            self._refuses(b"\0" + data)

    def test_every_flipped_bit_is_noticed_or_harmless(self) -> None:
        """No error but FormatError, ever; and with checksums no other array."""
        for data, expected in self._small_samples():
            for bit in range(8 * len(data)):
                flipped = bytearray(data)
                flipped[bit // 8] ^= 1 << bit % 8
                try:
                    sample = self.format.decode(pa.py_buffer(flipped))
                except FormatError as error:
                    _check_error(error, flipped)
                    continue
                if self.checksummed:
                    assert_same_sample(sample, expected)

    def test_other_bytes_are_an_error(self) -> None:
        """Nothing, zeros, text and noise are no object of a self-delimiting format."""
        noise = np.random.default_rng(5).bytes(3000)
        for data in (b"", b"\0", b"\0" * 1000, b"not this format " * 50, noise):
            self._refuses(data)

    def test_pickles(self) -> None:
        """It crosses to worker processes, after use as well."""
        for data, expected in self._samples():
            twin = pickle.loads(pickle.dumps(self.format))
            assert type(twin) is type(self.format)
            assert_same_sample(twin.decode(pa.py_buffer(data)), expected)

    def test_threads_share_an_instance(self) -> None:
        """Four threads, all files, in no particular order."""
        group = _Hammer(self.format, self._samples())
        with ReadAhead(iter([group]), threads=4, budget=1, max_groups=1, name="format-suite") as done:
            assert list(done) == [group]

    def _samples(self) -> list[tuple[bytes, Sample]]:
        samples = self.samples()
        assert samples, "samples() is empty: nothing would be tested"
        return samples

    def _small_samples(self) -> list[tuple[bytes, Sample]]:
        small = [(data, expected) for data, expected in self._samples() if len(data) <= _EXHAUSTIVE_BYTES]
        assert small, f"samples() has no file of {_EXHAUSTIVE_BYTES} bytes or less to cut and flip"
        return small

    def _refuses(self, data: bytes) -> None:
        """Decoding ``data`` is a FormatError; a format that is not self-delimiting may take it, too."""
        try:
            self.format.decode(pa.py_buffer(data))
        except FormatError as error:
            _check_error(error, data)
        else:
            assert not self.self_delimiting, f"decoded {len(data)} bytes that are no object: {data[:80]!r}..."


class _Hammer:
    """Decodes of one instance by many threads, as a group of tasks."""

    cost = 1

    def __init__(self, format: Format, samples: list[tuple[bytes, Sample]]) -> None:
        self._format = format
        self._samples = samples

    def __len__(self) -> int:
        return 400

    def run(self, task: int) -> None:
        data, expected = self._samples[task % len(self._samples)]
        assert_same_sample(self._format.decode(pa.py_buffer(data)), expected)


def assert_same_sample(found: Sample, expected: Sample) -> None:
    """Fail unless both have the same names in the same order, and arrays equal in shape, type and every bit."""
    assert list(found) == list(expected), f"fields {list(found)}, expected {list(expected)}"
    for name, array in expected.items():
        assert type(found[name]) is np.ndarray, f"{name}: {type(found[name])}"
        assert found[name].shape == array.shape, f"{name}: shape {found[name].shape}, expected {array.shape}"
        assert found[name].dtype == array.dtype, f"{name}: {found[name].dtype}, expected {array.dtype}"
        for path, ours, theirs in _leaves(name, found[name], array):
            assert ours.tobytes() == theirs.tobytes(), f"{path}: {ours!r}, expected {theirs!r}"


def every_kind_of_array() -> dict[str, Array]:
    """Arrays of every type that needs no Python objects, both byte orders and layouts, and the edges of shape.

    Deterministic; small; no two alike. For samples of formats that store NumPy arrays.
    """
    noise = np.random.default_rng(1)
    arrays: dict[str, Array] = {
        code: noise.integers(0, 100, (2, 3)).astype(np.dtype(code))
        for code in ("?", "i1", "u1", "<i2", ">u2", "<i4", ">i4", "<u8", ">i8", "<f2", ">f4", "<f8", "g", "<c8", ">c16")
    }
    arrays |= {
        "nan": np.array([np.nan, -np.inf, -0.0, np.float64(5e-324)]),
        "bytes": np.array([b"", b"a\0b", b"longest"]),
        "text": np.array(["", "\u00fc", "\U0001f40d four"]),
        "text big-endian": np.array(["ab", "c"], dtype=">U5"),
        "dates": np.array(["2024-02-29", "NaT"], dtype="<M8[D]"),
        "times": np.array(["1969-12-31T23:59:59.5"], dtype=">M8[ns]"),
        "25 s": np.arange(3).astype("<m8[25s]"),
        "no unit": np.array([1, 2]).astype("<m8"),
        "void": np.array([b"\1\2\3", b"\4\5\6"], dtype="V3"),
        "0-d": np.array(3.25),
        "0-d text": np.array("x"),
        "one": np.array([[[7]]]),
        "empty": np.empty((0,), np.float32),
        "empty 2-d": np.empty((3, 0, 2), np.int16),
        "fortran": np.asfortranarray(noise.standard_normal((3, 4))),
        "fortran 3-d": np.asfortranarray(noise.integers(0, 9, (2, 3, 4))),
        "vector": np.arange(5.0),
        "strided": np.arange(24)[::5],
        "transposed": np.arange(6, dtype=np.uint8).reshape(2, 3).T,
        "fields": np.array([(1, 2.5, b"x")], dtype=[("a", "<i4"), ("b", ">f8"), ("c", "S3")]),
        "nested": np.zeros(2, dtype=[("p", [("x", "<f4"), ("y", "<f4", (2, 2))]), ("t", "<M8[s]")]),
        "aligned": np.ones(2, dtype=np.dtype([("a", "u1"), ("b", "<f8"), ("c", "u1")], align=True)),
        "titled": np.ones(2, dtype=[(("The a", "a"), "<i2"), ("it's \n \\", "u1")]),
        "0-d fields": np.array((1, 2), dtype=[("a", "u1"), ("b", "<u2")]),
    }
    return arrays


def _leaves(path: str, found: Array, expected: Array) -> Iterator[tuple[str, Array, Array]]:
    """Arrays without fields: the padding between the fields of a structured array means nothing."""
    fields: Any = expected.dtype.names
    if fields is None:
        yield path, found, expected
        return
    for field in fields:
        yield from _leaves(f"{path}.{field}", found[field], expected[field])


def _check_error(error: FormatError, data: bytes | bytearray) -> None:
    """A format knows where, never which object."""
    assert not error.uri
    assert -1 <= error.offset <= len(data), f"offset {error.offset} outside of {len(data)} bytes: {error}"
    assert str(error).startswith("decode "), str(error)
