from __future__ import annotations

import pytest

from s3dlio.errors import OptionError
from s3dlio.formats import Format, NpyFormat, NpzFormat, RawFormat, detect, format_for


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("a/b.npz", NpzFormat),
        ("a/b.NPZ", NpzFormat),
        ("s3://bucket/train/0001.npy", NpyFormat),
        ("b.npz.gz", RawFormat),
        ("npz", RawFormat),
        ("image.jpg", RawFormat),
        ("a.npz/b", RawFormat),
        ("", RawFormat),
    ],
)
def test_the_suffix_decides(key, found):
    assert type(format_for(None, key)) is found


def test_the_head_decides_where_the_suffix_does_not():
    assert type(format_for(None, "blob", b"\x93NUMPY\x01\x00")) is NpyFormat
    assert type(format_for(None, "blob", b"PK\x03\x04")) is RawFormat
    assert type(format_for(None, "blob", b"\x93NUM")) is RawFormat
    assert type(format_for(None, "b.npz", b"\x93NUMPY\x01\x00")) is NpzFormat


@pytest.mark.parametrize(("name", "found"), [("npy", NpyFormat), ("npz", NpzFormat), ("raw", RawFormat)])
def test_a_name_wins(name, found):
    assert type(format_for(name, "a.npz", b"\x93NUMPY\x01\x00")) is found


def test_an_instance_wins_and_is_returned():
    mine = NpzFormat(verify=False)
    assert format_for(mine, "a.npy") is mine


def test_formats_from_elsewhere_are_welcome():
    class Lines:
        name = "lines"
        suffixes = (".txt",)

        def decode(self, buffer):
            return {}

    assert isinstance(Lines(), Format)
    mine = Lines()
    assert format_for(mine, "a.txt") is mine


@pytest.mark.parametrize("name", ["", "NPZ", ".npz", "hdf"])
def test_unknown_names_are_errors_with_the_known_ones(name):
    with pytest.raises(OptionError, match="npy, npz, raw") as caught:
        format_for(name, "a.npz")
    assert caught.value.field == "format"


@pytest.mark.parametrize("wrong", [3, NpzFormat, b"npz"])
def test_other_things_are_no_formats(wrong):
    with pytest.raises(OptionError, match="an instance with name"):
        format_for(wrong, "a.npz")


def test_each_call_makes_its_own():
    assert format_for(None, "a.npy") is not format_for(None, "a.npy")


def test_the_tables_say_what_the_formats_say():
    formats = [make() for make in detect._BY_NAME.values()]
    assert {each.name: type(each) for each in formats} == detect._BY_NAME
    assert {suffix: type(each) for each in formats for suffix in each.suffixes} == detect._BY_SUFFIX
