"""Keys that can, and cannot, be files below one directory."""

import pytest

from s3dlio.errors import OptionError
from s3dlio.transfer.names import check_file_names, ignores_case


def check(names, *, ignored=False):
    check_file_names(names, "s3://b/p", case_is_ignored=lambda: ignored)


@pytest.mark.parametrize("name", ["..", "../x", "a/../b", "a//b", "/etc/passwd", "a/", ".", "a/./b", "a\0b"])
def test_what_would_leave_the_directory(name):
    with pytest.raises(OptionError, match="segment") as caught:
        check(["fine", name])
    assert caught.value.field == "source"
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize(
    "names", [["a", "a/b"], ["x/a/b/c", "x/a"], ["a/b", "c", "a"], ["a/b", "a.b", "a"], ["p/q", "p/q/r", "p/q!"]]
)
def test_a_file_that_would_be_a_directory(names):
    with pytest.raises(OptionError, match="same place"):
        check(names)


@pytest.mark.parametrize("names", [["a", "A"], ["Dir/x", "dir"], ["é", "e\u0301"], ["x/ß", "x/SS"], ["A/b", "a"]])
def test_names_that_differ_by_case_or_composition(names):
    check(names)
    with pytest.raises(OptionError, match="same place"):
        check(names, ignored=True)


@pytest.mark.parametrize("names", [[], ["a"], ["a", "b"], ["a/b", "ab", "a.b", "a b/c"], ["..a", "b..", "...", "a\\b"]])
def test_names_that_are_fine(names):
    check(names, ignored=True)


def test_directories_that_differ_by_case_are_one_there_and_no_clash():
    check(["A/x", "a/y"], ignored=True)


def test_the_file_system_is_asked_only_if_it_matters():
    check_file_names(["a", "b/c"], "s3://b", case_is_ignored=lambda: pytest.fail("asked"))


def test_this_file_system(tmp_path):
    (tmp_path / "Letters").mkdir()
    ignored = (tmp_path / "lETTERS").exists()
    assert ignores_case(str(tmp_path / "Letters" / "123" / "none")) == ignored
    assert ignores_case("/") is False
