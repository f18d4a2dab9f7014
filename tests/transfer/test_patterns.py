"""Patterns against Python's own glob over real files, and the cases that it does not have."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio.transfer.patterns import is_pattern, matcher, split_pattern

FILES = ["a", "ab", "b.npz", ".hid", "d/a", "d/b.npz", "d/e/a", "d/e/b.npz", "d/e/f/a]", "x-y/[z", "d/é", "dd/a", "1/2"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for name in FILES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def by_python(root: Path, pattern):
    return sorted(str(path.relative_to(root)) for path in root.glob(pattern) if path.is_file())


def by_us(pattern):
    wanted = matcher(pattern)
    return sorted(name for name in FILES if wanted.fullmatch(name))


@pytest.mark.parametrize(
    "pattern",
    ["*", "*.npz", "d/*", "*/*", "**/*", "**/*.npz", "d/**/a", "d/**/*", "?", "[ab]", "[!a]", "[!a]*", "d/?", "[0-9]/*",
     "x-y/[[]z", "d/e/f/a[]]", "d*/a", "*/e/*", "**/e/**/*", "a*b", ".*", "d/[a-c]", "[-x]*/*"],
)  # fmt: skip
def test_as_pythons_glob(tree, pattern):
    assert by_us(pattern) == by_python(tree, pattern)


PIECES = st.sampled_from(["a", "b", "d", "e", "*", "?", "[ab]", "[!a]", ".", "npz"])
SEGMENTS = st.one_of(st.just("**"), st.lists(PIECES, min_size=1, max_size=3).map("".join))


@given(st.lists(SEGMENTS, min_size=1, max_size=3).map("/".join))
def test_any_pattern_as_pythons_glob(tree, pattern):
    bad = {".", "..", "...", "**"}
    segments = pattern.split("/")
    if segments[-1] in bad or any(("**" in s and s != "**") or s in bad - {"**"} for s in segments):
        return  # Python refuses these, or finds directories
    assert by_us(pattern) == by_python(tree, pattern)


def test_the_last_double_star_is_everything_below():
    assert by_us("d/**") == [name for name in sorted(FILES) if name.startswith("d/")]


def test_no_wildcard_crosses_a_slash():
    for pattern in ("d*a", "d?a", "d[/]a", "d[!x]a"):
        assert not matcher(pattern).fullmatch("d/a")


def test_names_with_newlines_match():
    assert matcher("**").fullmatch("a\nb/c")
    assert matcher("*/c").fullmatch("a\nb/c")


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("data/*.npz", ("data", "*.npz")),
        ("a/b/**/c*.d", ("a/b", "**/c*.d")),
        ("*", ("", "*")),
        ("a?/b", ("", "a?/b")),
        ("plain/key", ("plain", "key")),
    ],
)
def test_split(key, parts):
    assert split_pattern(key) == parts
    assert is_pattern(key) == (parts[1] != "key")
