"""The notation of several endpoints, against results written out by hand and an oracle of nested loops."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio.errors import OptionError
from s3dlio.storage.configuration.endpoints import expand, is_several, rank_from


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ("http://a:9000", ["http://a:9000"]),
        ("https://a/", ["https://a"]),
        ("http://10.0.0.{1...3}:9000", ["http://10.0.0.1:9000", "http://10.0.0.2:9000", "http://10.0.0.3:9000"]),
        ("http://n{09...11}", ["http://n09", "http://n10", "http://n11"]),
        ("http://n{9...11}", ["http://n9", "http://n10", "http://n11"]),
        ("http://n{007...8}", ["http://n007", "http://n008"]),
        ("http://n{0...1}", ["http://n0", "http://n1"]),
        ("http://n{5...5}", ["http://n5"]),
        ("http://[fd00::{9...b}]:9000", ["http://[fd00::9]:9000", "http://[fd00::a]:9000", "http://[fd00::b]:9000"]),
        ("http://[::1]:9000", ["http://[::1]:9000"]),
        (
            "http://r{1...2}-n{1...2}:900{0...1}",
            [f"http://r{r}-n{n}:900{p}" for r in (1, 2) for n in (1, 2) for p in (0, 1)],
        ),
        ("http://a, http://b  http://c,\nhttp://d,", ["http://a", "http://b", "http://c", "http://d"]),
        (["http://a", "http://b,http://c{1...2}"], ["http://a", "http://b", "http://c1", "http://c2"]),
        ("http://b http://a http://b/", ["http://b", "http://a"]),
        ("http://127.0.0.1:10000/account", ["http://127.0.0.1:10000/account"]),
    ],
)
def test_expand(texts, expected):
    assert expand(texts) == tuple(expected)
    assert expand(expand(texts)) == tuple(expected)


@pytest.mark.parametrize(
    ("text", "named", "why"),
    [
        ("http://n{3...1}", "n{3...1}", "from 3 down to 1"),
        ("http://good,http://n{1..3}", "n{1..3}", "three dots"),
        ("http://n{1...}", "n{1...}", "three dots"),
        ("http://n{1...2", "n{1...2", "three dots"),
        ("http://n1...2}", "n1...2}", "three dots"),
        ("http://n{1...2}}", "n{1...2}}", "three dots"),
        ("http://good 10.0.0.1:9000", "10.0.0.1:9000", "http://host:port"),
        ("s3://bucket{1...2}", "s3://bucket{1...2}", "http://host:port"),
        ("http://", "http://", "http://host:port"),
        ("http://a:port", "http://a:port", "Port"),
        ("http://a:{65535...65536}", "{65535...65536}", "Port"),
        ("http://[::1", "http://[::1", "IPv6"),
        ("http://a?x=1", "http://a?x=1", "http://host:port"),
        ("http://n{1...1000000000}", "{1...1000000000}", "1024"),
        ("http://n{1...100}{1...100}", "{1...100}{1...100}", "1024"),
    ],
)
def test_what_is_refused_is_named(text, named, why):
    with pytest.raises(OptionError) as caught:
        expand(text)
    assert named in str(caught.value)
    assert why in str(caught.value)
    assert "good" not in str(caught.value), "only the bad piece is named"
    assert caught.value.field == "endpoint_urls"


@pytest.mark.parametrize("nothing", ["", " , ", [], [""]])
def test_nothing_is_refused(nothing):
    with pytest.raises(OptionError, match="names none"):
        expand(nothing)


def test_a_file(tmp_path):
    path = tmp_path / "my endpoints.txt"
    path.write_text("# storage nodes\n\nhttp://a{1...2}:9000  # rack 1\n  http://b, http://c\r\nhttp://a1:9000\n")
    assert expand(f"@{path}") == ("http://a1:9000", "http://a2:9000", "http://b", "http://c")
    assert expand([f"@{path}", "http://z"])[-1] == "http://z"


def test_files_that_will_not_do(tmp_path):
    with pytest.raises(OptionError, match=r"none\.txt.*No such file"):
        expand(f"@{tmp_path}/none.txt")
    (tmp_path / "loop").write_text(f"@{tmp_path}/loop\n")
    with pytest.raises(OptionError, match="named inside"):
        expand(f"@{tmp_path}/loop")
    (tmp_path / "empty").write_text("# nothing\n")
    with pytest.raises(OptionError, match="names none"):
        expand(f"@{tmp_path}/empty")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(OptionError, match="one URL a line"):
        expand(f"@{tmp_path}/binary")


@given(
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 5), st.integers(0, 4)), min_size=1, max_size=3),
)
def test_ranges_by_hand(ranges):
    template, expected = "http://h", ["http://h"]
    for low, more, zeros in ranges:
        first = "0" * zeros + str(low)
        width = len(first) if first.startswith("0") else 0
        template += f"-{{{first}...{low + more}}}"
        expected = [f"{url}-{str(n).rjust(width, '0')}" for url in expected for n in range(low, low + more + 1)]
    assert expand(template) == tuple(expected)


@pytest.mark.parametrize(
    ("text", "several"),
    [("http://a:9000", False), (" http://a ", False), ("http://[::1]:1", False),
     ("http://a{1...2}", True), ("http://a,http://b", True), ("http://a http://b", True), ("@file", True)],
)  # fmt: skip
def test_is_several(text, several):
    assert is_several(text) is several


def test_rank():
    assert rank_from({}) is None
    assert rank_from({"RANK": ""}) is None
    assert rank_from({"RANK": "3", "SLURM_PROCID": "9"}) == 3
    assert rank_from({"SLURM_PROCID": "9"}) == 9
    assert rank_from({"OMPI_COMM_WORLD_RANK": "0"}) == 0
    assert rank_from({"PMI_RANK": "12"}) == 12
    with pytest.raises(OptionError, match="RANK is '-1'"):
        rank_from({"RANK": "-1"})
