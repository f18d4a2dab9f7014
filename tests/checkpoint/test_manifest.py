"""The manifest's bytes: sealed, versioned, open to later members."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio.checkpoint import create_checkpoint_reader, create_checkpoint_writer
from s3dlio.checkpoint.manifest import Manifest, sealed, unsealed
from s3dlio.errors import CheckpointError

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(min_size=1).filter(lambda key: key != "digest"), _VALUES, min_size=1))
def test_sealing_keeps_the_document(document):
    data = sealed(document)
    assert unsealed(data, "uri") == document
    assert json.loads(data).keys() == {*document, "digest"}


@given(st.data())
def test_any_change_breaks_the_seal(data):
    good = sealed({"format": "s3dlio-checkpoint", "a": [1, 2.5, "x"]})
    at = data.draw(st.integers(0, len(good) - 1))
    bad = data.draw(
        st.sampled_from(
            [good[:at], good[:at] + good[at + 1 :], good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :], good + b"\n"]
        )
    )
    with pytest.raises(CheckpointError, match="expected a whole manifest"):
        unsealed(bad, "uri")


@pytest.fixture
def document(memory_place):
    """The document of a saved checkpoint, and a way to put another in its place."""
    with create_checkpoint_writer(memory_place.uri, step=1) as writer:
        writer.save_array("w", np.arange(5.0))
        writer.save_array("none", np.zeros((0, 3)))
    return unsealed(memory_place.files()["step_0000000001/manifest.json"], "uri")


def _read(place, document):
    place.put("step_0000000001/manifest.json", sealed(document))
    with create_checkpoint_reader(place.uri) as reader:
        return reader.load_arrays()


def test_unknown_members_are_kept(memory_place, document):
    document["later"] = {"x": 1}
    document["entries"]["w"]["later"] = True
    assert _read(memory_place, document)["w"].tolist() == [0, 1, 2, 3, 4]
    manifest = Manifest.parse(memory_place.files()["step_0000000001/manifest.json"], "uri")
    assert manifest.document == document


@pytest.mark.parametrize(("member", "value"), [("version", 2), ("version", None), ("format", "other")])
def test_other_formats_and_versions_are_refused(memory_place, document, member, value):
    document[member] = value
    with pytest.raises(CheckpointError, match=f"the {member} is {value!r}"):
        _read(memory_place, document)


def _drop(name):
    def change(document):
        del document[name]

    return change


def _in_entry(**members):
    def change(document):
        document["entries"]["w"].update(members)

    return change


def _in_chunk(**members):
    def change(document):
        document["entries"]["w"]["chunks"][0].update(members)

    return change


def _in_file(**members):
    def change(document):
        document["files"][document["entries"]["w"]["chunks"][0]["file"]].update(members)

    return change


def _outside(document):
    path = document["entries"]["w"]["chunks"][0]["file"]
    document["files"]["../x"] = document["files"].pop(path)


@pytest.mark.parametrize(
    "change",
    [
        *(_drop(name) for name in ("entries", "files", "objects", "trees", "metadata", "attempt")),
        _in_entry(chunks=[]),
        _in_entry(shape=[-5]),
        _in_entry(shape=[6]),
        _in_entry(shape="5"),
        _in_chunk(begin=1),
        _in_chunk(file="data/none"),
        _in_chunk(end=10**9),
        _in_file(size=3),
        _in_file(crc32c=[]),
        _in_file(ends=[5, 5]),
        _outside,
    ],
)
def test_an_inconsistent_manifest_is_a_checkpoint_error(memory_place, document, change):
    change(document)
    with pytest.raises(CheckpointError):
        _read(memory_place, document)


@pytest.mark.parametrize("dtype", ["float16", "object", "O", "f4,f4", "nonsense", ">f8", ""])
def test_a_dtype_that_does_not_fit_is_a_checkpoint_error(memory_place, document, dtype):
    document["entries"]["w"]["dtype"] = dtype
    with pytest.raises(CheckpointError):
        _read(memory_place, document)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff" * 200, b"<Error/>" * 40])
def test_bytes_that_are_no_manifest(data):
    with pytest.raises(CheckpointError, match="expected a whole manifest"):
        Manifest.parse(data, "uri")
