from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from s3dlio.formats import RawFormat
from s3dlio.testing.formats import FormatSuite


class TestRawFormat(FormatSuite):
    format = RawFormat()
    self_delimiting = False

    def samples(self):
        return [(data, {"data": np.array(list(data), np.uint8)}) for data in (b"", b"a", bytes(range(256)))]


@given(st.binary())
def test_any_bytes_are_themselves(data):
    buffer = pa.py_buffer(data)
    (array,) = RawFormat().decode(buffer).values()
    assert array.tobytes() == data
    assert array.dtype == np.uint8
    assert not data or array.ctypes.data == buffer.address
