from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio.errors import OptionError
from s3dlio.uri import SCHEMES, Uri


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("s3://bucket/a/b", Uri("s3", "bucket", "a/b")),
        ("s3://bucket", Uri("s3", "bucket", "")),
        ("s3://bucket/", Uri("s3", "bucket", "")),
        ("s3://bucket/dir/", Uri("s3", "bucket", "dir/")),
        ("S3://Bucket/A", Uri("s3", "Bucket", "A")),
        ("s3:/bucket/a", Uri("s3", "bucket", "a")),
        ("s3://bucket//a", Uri("s3", "bucket", "a")),
        ("s3://bucket/a b%20c?d#e", Uri("s3", "bucket", "a b%20c?d#e")),
        ("gs://bucket/a", Uri("gs", "bucket", "a")),
        ("az://container/a", Uri("az", "container", "a")),
        ("abfss://c@acc.dfs.core.windows.net/a/b", Uri("az", "c", "a/b", "acc")),
        ("memory://name/k", Uri("memory", "name", "k")),
        ("http://host/a/b", Uri("http", "host", "a/b")),
        ("HTTPS://host:8443/a", Uri("https", "host:8443", "a")),
        ("https://host", Uri("https", "host", "")),
        ("https://host/", Uri("https", "host", "")),
        ("http:/host/a", Uri("http", "host", "a")),
        ("http://host/a%20b/c d", Uri("http", "host", "a%20b/c d")),
        ("http://host//a//", Uri("http", "host", "/a//")),
        (
            "http://host/k?X-Amz-Signature=a%2Fb/c&u=http://x",
            Uri("http", "host", "k?X-Amz-Signature=a%2Fb/c&u=http://x"),
        ),
        ("http://host?x=1", Uri("http", "host", "?x=1")),
        ("http://host/k#part", Uri("http", "host", "k#part")),
        ("http://user:word@[::1]:80/k@v", Uri("http", "user:word@[::1]:80", "k@v")),
        ("file:///tmp/x", Uri("file", "", "tmp/x")),
        ("file:/tmp/x", Uri("file", "", "tmp/x")),
        ("file:///tmp/a%20b", Uri("file", "", "tmp/a b")),
        ("direct:///tmp/x", Uri("direct", "", "tmp/x")),
        ("/tmp/x", Uri("file", "", "tmp/x")),
        ("/tmp/dir/", Uri("file", "", "tmp/dir/")),
        ("/tmp/../x/./y", Uri("file", "", "x/y")),
        ("/", Uri("file", "", "")),
        (Path("/tmp/x"), Uri("file", "", "tmp/x")),
    ],
)
def test_parse(text, expected):
    assert Uri.parse(text) == expected


def test_relative_paths_and_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Uri.parse("x/y").path == f"{tmp_path}/x/y"
    assert Uri.parse("~/x").path == f"{tmp_path}/x"
    assert Uri.parse(Path("x")).path == f"{tmp_path}/x"


@pytest.mark.parametrize("text", ["httpx://host/a", "ftp://h", "s3://", "az:", "memory://"])
def test_refused(text):
    with pytest.raises(OptionError) as caught:
        Uri.parse(text)
    assert text in str(caught.value)
    assert caught.value.field == "uri"


@pytest.mark.parametrize("text", ["s3://bucket\n", "gs://buc\tket/k", "abfss://c@acc\n.dfs.core.windows.net/k"])
def test_a_line_break_in_a_bucket(text):
    """A line of a file of URIs, most of the time. obstore panics at it."""
    with pytest.raises(OptionError, match=r"a control character in the bucket's name, .* Strip") as caught:
        Uri.parse(text)
    assert caught.value.field == "uri"


def test_a_uri_is_parsed_as_itself():
    uri = Uri("s3", "b", "k")
    assert Uri.parse(uri) is uri


SEGMENT = st.text(st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs", "Cc"]), min_size=1)
KEYS = st.lists(SEGMENT.filter(lambda text: text not in {".", ".."}), max_size=4).map("/".join)


@given(st.sampled_from(["s3", "gs", "az", "memory"]), KEYS)
def test_printing_and_parsing_are_inverse(scheme, key):
    uri = Uri(scheme, "container", key)
    assert Uri.parse(str(uri)) == uri


@given(st.sampled_from(["http", "https"]), st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_printing_and_parsing_are_inverse_for_the_web(scheme, rest):
    """Whatever follows the host stays as it was typed: a signature may cover it."""
    text = f"{scheme}://host:80/{rest}"
    uri = Uri.parse(text)
    assert (uri.container, uri.key, str(uri)) == ("host:80", rest, text)
    assert Uri.parse(str(uri)) == uri.with_key(rest) == uri


@given(KEYS)
def test_printing_and_parsing_are_inverse_with_an_account(key):
    uri = Uri("az", "container", key, "account")
    assert Uri.parse(str(uri)) == uri


@given(KEYS)
def test_printing_and_parsing_are_inverse_for_files(key):
    for scheme in ("file", "direct"):
        uri = Uri(scheme, "", key)
        assert Uri.parse(str(uri)) == uri


def test_printing_and_parsing_are_inverse_for_files_with_escapes():
    uri = Uri.parse("/tmp/a%20b")
    assert Uri.parse(str(uri)) == uri


def test_children_and_keys():
    uri = Uri.parse("s3://b/dir")
    assert str(uri / "x") == "s3://b/dir/x"
    assert str(Uri.parse("s3://b/dir/") / "/x/y") == "s3://b/dir/x/y"
    assert str(Uri.parse("s3://b") / "x") == "s3://b/x"
    assert uri.with_key("/other") == Uri("s3", "b", "other")
    assert (uri.prefix, Uri.parse("s3://b").prefix, Uri.parse("s3://b/d//").prefix) == ("dir/", "", "d/")
    assert Uri.parse("/tmp/x").path == "/tmp/x"
    assert uri.path == "dir"


def test_children_and_keys_of_the_web():
    uri = Uri.parse("https://host/dir?sig=a/b#c")
    assert str(uri / "x") == "https://host/dir/x?sig=a/b#c"
    assert str(Uri.parse("https://host/dir/") / "/x") == "https://host/dir/x"
    assert str(Uri.parse("https://host?sig=1") / "x") == "https://host/x?sig=1"
    assert str(uri.with_key("/other")) == "https://host//other"


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("https://u:word@host/k", "https://u:***@host/k"),
        ("https://u:wo@rd@host/k@x", "https://u:***@host/k@x"),
        ("https://token@host/k@x", "https://***@host/k@x"),
        ("https://host?sig=1&x=u:w@h", "https://host/?sig=***&x=u:w@h"),
        ("abfss://c@account.dfs.core.windows.net/k", "abfss://c@account.dfs.core.windows.net/k"),
        ("https://host/k?X-Amz-Signature=1a&X-Amz-Expires=5", "https://host/k?X-Amz-Signature=***&X-Amz-Expires=5"),
        ("https://host/k?X-Amz-Credential=A%2Fb&x=1", "https://host/k?X-Amz-Credential=***&x=1"),
        ("https://host/k?X-Goog-Signature=1a", "https://host/k?X-Goog-Signature=***"),
        ("https://a.blob.core.windows.net/c/k?sv=1&sig=a%3D", "https://a.blob.core.windows.net/c/k?sv=1&sig=***"),
        ("https://host/k?AWSAccessKeyId=A&Signature=x%3D", "https://host/k?AWSAccessKeyId=A&Signature=***"),
        ("https://host/k?access_token=t&api_key=k&page=2", "https://host/k?access_token=***&api_key=***&page=2"),
        ("https://host/sig=1/signature?design=2", "https://host/sig=1/signature?design=2"),
        ("s3://bucket/a@b:c", "s3://bucket/a@b:c"),
    ],
)
def test_masked(text, masked):
    assert Uri.parse(text).masked() == masked


@pytest.mark.parametrize("text", ["https://user:word@/k", "htps://user:word@host/k", "htps://host/k?sig=word"])
def test_a_uri_that_is_none_is_shown_without_its_secrets(text):
    with pytest.raises(OptionError) as caught:
        Uri.parse(text)
    assert "word" not in str(caught.value)
    assert "***" in str(caught.value)


def test_every_scheme_is_parsed():
    for scheme in SCHEMES:
        text = f"{scheme}:///a/b" if scheme in {"file", "direct"} else f"{scheme}://c/a/b"
        assert Uri.parse(text).key.endswith("b")


@pytest.mark.parametrize("text", ["http://", "https:///key", "http://?x", "http://user@/k"])
def test_no_host(text):
    with pytest.raises(OptionError, match="no host") as caught:
        Uri.parse(text)
    assert caught.value.field == "uri"


@pytest.mark.parametrize("text", ["s3://", "s3:///key", "az:///c/key"])
def test_no_bucket(text):
    with pytest.raises(OptionError, match="no bucket"):
        Uri.parse(text)


def test_an_empty_one_is_not_the_working_directory():
    with pytest.raises(OptionError, match="the URI is empty"):
        Uri.parse("")
    assert Uri.parse(".").path == str(Path.cwd())
