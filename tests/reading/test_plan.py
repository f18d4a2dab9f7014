import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio.reading import part_ranges


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(1, 700))
def test_parts_cover_the_range_exactly(start, length, part_bytes):
    parts = part_ranges(start, start + length, part_bytes=part_bytes)
    assert [byte for low, high in parts for byte in range(low, high)] == list(range(start, start + length))
    assert all(high - low <= part_bytes for low, high in parts)
    if length:
        assert all(low < high for low, high in parts)
        assert all(high % part_bytes == 0 for _, high in parts[:-1]), "parts end where the writer's parts end"
    else:
        assert parts == [(start, start)], "an empty range is asked for once"


@pytest.mark.parametrize(
    ("start", "end", "parts"),
    [
        (0, 10, [(0, 10)]),
        (0, 11, [(0, 10), (10, 11)]),
        (3, 25, [(3, 10), (10, 20), (20, 25)]),
        (10, 20, [(10, 20)]),
        (9, 11, [(9, 10), (10, 11)]),
        (1 << 50, (1 << 50) + 1, [(1 << 50, (1 << 50) + 1)]),
    ],
)
def test_examples(start, end, parts):
    assert part_ranges(start, end, part_bytes=10) == parts
