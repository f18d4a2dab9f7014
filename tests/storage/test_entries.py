import datetime as dt
import pickle

import pytest

from s3dlio.errors import OptionError
from s3dlio.storage.entries import ObjectEntry, entries, selected
from s3dlio.storage.listing import columns

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, dt.UTC)


def batch(*keys):
    return columns([*keys], [len(key) for key in keys], [None] * len(keys), [NOW] * len(keys))


def keys(found):
    return found.column("key").to_pylist()


def test_rows_of_several_batches_sorted():
    batches = [batch("p/b", "p/ü", "p/a b"), batch("p/Z"), batch(), batch("p/日", "p/a")]
    found = selected(batches, "p/", recursive=True, pattern=None, uri="u")
    assert keys(found) == sorted(["p/b", "p/ü", "p/a b", "p/Z", "p/日", "p/a"])
    assert keys(selected([], "", recursive=True, pattern=None, uri="u")) == []


def test_directories_below_and_patterns():
    batches = [batch("p/a.npz", "p/d/b.npz"), batch("p/d/c.txt", "p/e.txt")]
    assert keys(selected(batches, "p/", recursive=False, pattern=None, uri="u")) == ["p/a.npz", "p/e.txt"]
    assert keys(selected(batches, "p/", recursive=True, pattern=r"\.npz$", uri="u")) == ["p/a.npz", "p/d/b.npz"]
    assert keys(selected(batches, "p/", recursive=False, pattern="npz", uri="u")) == ["p/a.npz"]
    assert keys(selected(batches, "", recursive=False, pattern=None, uri="u")) == []


def test_a_bad_pattern_is_found_before_anything_is_listed():
    def batches():
        raise AssertionError("listed")
        yield

    with pytest.raises(OptionError, match=r"list s3://b/p: pattern '\(' is no regular") as caught:
        selected(batches(), "", recursive=True, pattern="(", uri="s3://b/p")
    assert caught.value.field == "pattern"


def test_entries_answer_for_their_row():
    rows = selected([batch("x%/y", "a")], "", recursive=True, pattern=None, uri="u")
    first, second = entries(rows, "file:///", escape_percent=True)
    assert (first, second) == ("file:///a", "file:///x%25/y")
    assert (second["key"], second["size"], second["etag"], second["last_modified"]) == ("x%/y", 4, None, NOW)
    assert second["last_modified"].tzinfo is dt.UTC
    assert second.get("etag", "N/A") == "N/A"
    assert second.get("size") == 4
    assert second.get("nothing") is None
    assert (second[0], second[-1], second[:4]) == ("f", "y", "file")
    with pytest.raises(KeyError):
        second["nothing"]
    assert not hasattr(second, "__dict__")
    assert entries(rows, "s3://b/", escape_percent=False)[1] == "s3://b/x%/y"


def test_an_entry_pickles_without_its_listing():
    rows = batch(*(f"{n:06}" for n in range(5000)))
    entry = entries(rows, "s3://b/", escape_percent=False)[4321]
    data = pickle.dumps(entry)
    assert len(data) < 1000
    copy = pickle.loads(data)
    assert type(copy) is ObjectEntry
    assert copy == entry == "s3://b/004321"
    assert dict(copy) == dict(entry)
    assert copy["last_modified"] == NOW
