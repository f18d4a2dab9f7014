import struct

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio.errors import OptionError
from s3dlio.generate import payload, tfrecord

RECORD = 128 << 10


def masked(data):
    """Source: TensorFlow's core/lib/hash/crc32c.h."""
    checksum = google_crc32c.value(data)
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def records(data):
    """The messages in a file, each with good checksums."""
    at, found = 0, []
    while at < len(data):
        length, checksum = struct.unpack_from("<QI", data, at)
        assert checksum == masked(data[at : at + 8])
        message = data[at + 12 : at + 12 + length]
        assert struct.unpack_from("<I", data, at + 12 + length) == (masked(message),)
        found.append(message)
        at += length + 16
    assert at == len(data)
    return found


def fields(message):
    """The fields of a protocol buffer that has none but such with a length."""
    at, found = 0, []
    while at < len(message):
        tag, at = message[at], at + 1
        length = shift = 0
        more = True
        while more:
            more, length = message[at] >> 7, length | (message[at] & 0x7F) << shift
            at, shift = at + 1, shift + 7
        found.append((tag >> 3, message[at : at + length]))
        at += length
    assert at == len(message)
    return found


def feature(message):
    """The bytes of the feature "data" of a ``tf.train.Example``."""
    ((number, features),) = fields(message)
    assert number == 1
    ((number, entry),) = fields(features)
    assert number == 1
    (key, value) = fields(entry)
    assert key == (1, b"data")
    assert value[0] == 2
    ((number, content),) = fields(value[1])
    assert number == 1
    ((number, data),) = fields(content)
    assert number == 1
    return data


@given(
    st.integers(47, 1000) | st.sampled_from([n * RECORD + d for n in (1, 2, 3) for d in (-1, 0, 1, 46, 47, 1000)]),
    st.integers(0, 100),
)
def test_is_exact_and_holds_the_payload(size, index):
    data = tfrecord(size, seed=1, index=index)
    assert len(data) == size
    found = records(data)
    assert len(found) == max(1, size // RECORD)
    assert all(len(message) + 16 == RECORD for message in found[:-1])
    expected = payload(size - 47 * len(found), seed=1, index=index)
    assert b"".join(map(feature, found)) == expected.tobytes()


def test_options_reach_the_content():
    zeros = feature(*records(tfrecord(1000, seed=1, index=0, kind="zeros")))
    assert zeros == bytes(1000 - 47)


def test_too_small():
    assert feature(*records(tfrecord(47, seed=1, index=0))) == b""
    with pytest.raises(OptionError, match="tfrecord: size 46, expected at least 47"):
        tfrecord(46, seed=1, index=0)
