import itertools

import numpy as np
import pytest

from s3dlio.arrays import allocate
from s3dlio.errors import FormatError
from s3dlio.loader import BatchSlot


def filled(samples, order=None, allocator=allocate):
    slot = BatchSlot(len(samples), allocate=allocator, name=lambda row: f"s3://b/{row}")
    for row in order or range(len(samples)):
        slot.place(row, samples[row])
    return slot


def outcomes(samples):
    """What every order of arrival gives: batches, or errors as text."""
    found = []
    for order in itertools.permutations(range(len(samples))):
        try:
            found.append(filled(samples, order).batch())
        except FormatError as error:
            found.append(f"{error.uri}: {error}")
    return found


def described(batch):
    def of(value):
        return [of(row) for row in value] if isinstance(value, list) else (value.dtype.str, value.shape, value.tolist())

    return {field: of(value) for field, value in batch.items()}


def test_equal_shapes_are_one_array():
    batch = filled([{"x": np.full((2, 3), n, "<f4"), "n": np.array(n)} for n in range(4)]).batch()
    assert list(batch) == ["n", "x"]
    assert batch["x"].shape == (4, 2, 3)
    assert batch["n"].tolist() == [0, 1, 2, 3]
    for array in batch.values():
        assert array.flags.writeable
        assert array.flags.c_contiguous
        assert array.ctypes.data % 64 == 0


@pytest.mark.parametrize("dtype", [">f4", ">i8", ">U3", "?", "c16", "S4", "M8[s]", ">M8[D]"])
def test_rows_are_native_whatever_the_objects_hold(dtype):
    value = np.ones((2, 3), dtype=dtype)
    for array in (value, np.asfortranarray(value), np.ones((4, 6), dtype=dtype)[::2, ::2]):
        batch = filled([{"x": array}, {"x": array}]).batch()
        assert batch["x"].dtype.isnative
        assert batch["x"].dtype == value.dtype.newbyteorder("=")
        assert batch["x"].tolist() == [value.tolist()] * 2


def test_unequal_shapes_are_a_list_the_same_whatever_thread_came_first():
    samples = [
        {"x": np.arange(3, dtype=">i4")},
        {"x": np.arange(2, dtype="<i4")},
        {"x": np.asfortranarray(np.arange(6, dtype="<i4").reshape(2, 3))},
        {"x": np.arange(3, dtype="<i4")},
    ]
    for sample in samples:
        sample["x"].flags.writeable = False
    found = outcomes(samples)
    for batch in found:
        assert described(batch) == described(found[0])
        assert [row.tolist() for row in batch["x"]] == [sample["x"].tolist() for sample in samples]
        for row, sample in zip(batch["x"], samples, strict=True):
            assert row.dtype == np.dtype("=i4")
            assert row.flags.writeable
            assert row.flags.c_contiguous
            assert not np.shares_memory(row, sample["x"]), "a row would keep its whole object alive"


def test_text_of_any_width_is_one_array():
    samples = [{"t": np.array("ab")}, {"t": np.array("\u00fcbcd", dtype=">U4")}, {"t": np.array("")}]
    for batch in outcomes(samples):
        assert batch["t"].tolist() == ["ab", "\u00fcbcd", ""]
        assert batch["t"].dtype == np.dtype("=U4")


def test_text_of_unequal_shapes_is_a_list():
    for batch in outcomes([{"t": np.array(["a", "bc"])}, {"t": np.array(["abc"])}]):
        assert [row.tolist() for row in batch["t"]] == [["a", "bc"], ["abc"]]


def test_a_missing_field_names_the_lowest_row_without_it():
    found = outcomes([{"x": np.array(1), "y": np.array(1)}, {"x": np.array(1)}, {"x": np.array(2)}])
    assert len(set(found)) == 1
    assert found[0].startswith("s3://b/1: read s3://b/1: found fields x, expected y too, as in s3://b/0.")


def test_a_field_that_only_one_row_has():
    found = outcomes([{"x": np.array(1)}, {"x": np.array(1)}, {"x": np.array(2), "y": np.array(1)}])
    assert len(set(found)) == 1
    assert found[0].startswith("s3://b/0: read s3://b/0: found fields x, expected y too, as in s3://b/2.")


def test_no_common_field():
    (found,) = set(outcomes([{"x": np.array(1)}, {"y": np.array(1)}]))
    assert "found fields x, expected y too" in found


@pytest.mark.parametrize("other", ["<i8", "<f4", "S3", "?"])
def test_another_dtype_names_the_first_row_that_differs_from_row_0(other):
    found = outcomes([{"x": np.zeros(2, "<i4")}, {"x": np.zeros(2, "<i4")}, {"x": np.zeros(2, other)}])
    assert len(set(found)) == 1
    assert found[0].startswith("s3://b/2: read s3://b/2: field 'x' is ")
    assert "expected int32 as in s3://b/0" in found[0]


def test_another_dtype_is_an_error_in_a_ragged_field_too():
    (found,) = set(outcomes([{"x": np.zeros(2, "<i4")}, {"x": np.zeros(3, "<i8")}, {"x": np.zeros(4, "<i4")}]))
    assert found.startswith("s3://b/1: ")


def test_the_memory_is_the_allocators():
    given = []

    def allocator(shape, dtype):
        given.append(np.full(shape, 77, dtype))
        return given[-1]

    batch = filled([{"x": np.arange(3)}, {"x": np.arange(3)}], allocator=allocator).batch()
    assert len(given) == 1
    assert batch["x"] is given[0]
    assert batch["x"].tolist() == [[0, 1, 2]] * 2


def test_shapes_without_values():
    batch = filled([{"x": np.empty((0, 2), "<f4")}] * 3).batch()
    assert batch["x"].shape == (3, 0, 2)
