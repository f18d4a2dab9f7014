"""How arrays are cut into files."""

from hypothesis import given
from hypothesis import strategies as st

import s3dlio.checkpoint.shards
from s3dlio.checkpoint.shards import cut_shards

_SIZES = st.lists(st.tuples(st.text(max_size=3), st.integers(0, 100)), max_size=30)


@given(_SIZES, st.integers(1, 150))
def test_files_are_as_full_as_they_may_be(sizes, shard_bytes):
    ends = list(cut_shards(sizes, shard_bytes))
    groups = [sizes[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    assert [item for group in groups for item in group] == sizes
    assert all(groups)
    totals = [sum(size for _, size in group) for group in groups]
    assert all(total <= shard_bytes or len(group) == 1 for total, group in zip(totals, groups, strict=True))
    for total, following in zip(totals, groups[1:], strict=False):
        assert total + following[0][1] > shard_bytes


def test_headers_stay_small(monkeypatch):
    monkeypatch.setattr(s3dlio.checkpoint.shards, "_HEADER_BYTES", 4096)
    ends = list(cut_shards([("w" * 100, 1)] * 20, 1 << 30))
    assert ends[-1] == 20
    assert len(ends) >= 4
