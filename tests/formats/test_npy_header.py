from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from s3dlio.errors import FormatError
from s3dlio.formats.npy_header import MAX_HEADER_BYTES, header_size, parse_header


def header(text: str, version: int = 1) -> bytes:
    raw = text.encode("utf-8" if version == 3 else "latin-1")
    length = len(raw).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + raw


def layout(descr: str = "'<f4'", order: str = "False", shape: str = "(2, 3)", version: int = 1):
    return parse_header(header(f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}", version), 0)


def test_reads_the_three_keys_in_any_order_and_spacing():
    plain = layout()
    assert plain == ((2, 3), np.dtype("<f4"), "C", 24)
    spread = parse_header(header("{ 'shape':(2,3),\n'fortran_order' : False,'descr':'<f4'}  \n", 2), 0)
    assert spread == plain


def test_fortran_order():
    assert layout(order="True").order == "F"


@pytest.mark.parametrize("version", [1, 2, 3])
def test_header_size_counts_from_the_magic(version):
    raw = header("x" * 300, version)
    assert header_size(raw[:12], len(raw) + 5, 0) == len(raw)


def test_utf8_names_need_version_3():
    descr = "[('\u00fc\u4f60', '<i4')]"
    assert layout(descr, version=3).dtype.names == ("\u00fc\u4f60",)
    with pytest.raises(FormatError, match="utf-8"):
        parse_header(b"\x93NUMPY\x03\x00\x02\x00\x00\x00\xff\xfe", 0)


@pytest.mark.parametrize(
    "dtype",
    [
        np.dtype([("a", "<i4"), ("b", ">f8", (2, 3))]),
        np.dtype({"names": ["a", "b"], "formats": ["u1", "<f8"], "offsets": [3, 16], "itemsize": 40}),
        np.dtype([(("title", "a"), "<i2")]),
        np.dtype([("inner", [("x", "S3"), ("y", [("z", "<M8[25ns]")])])]),
        np.dtype([]),
    ],
)
def test_structured_types(dtype):
    assert layout(repr(np.lib.format.dtype_to_descr(dtype))).dtype == dtype


@pytest.mark.parametrize(
    "descr",
    [
        "'f4,f4'", "'float32'", "'(2,)f4'", "'<f4 '", "'a5'", "'<f3'", "'<i16'", "'|b2'", "''", "'S-1'",
        "'V99999999999'", "'S2147483648'",
        "'M8[parsec]'", "'M8[s/0]'", "'M8[s/2]'", "'M8[0s]'", "'M8[9999999999s]'",
        "('<f4', (2,))", "{}", "4", "True", "['<f4']",
        "[('a',)]", "[('a', '<f4', 2)]", "[('a', '<f4', (2,), 1)]", "[('a', '<f4'), ('a', '<f4')]", "[(1, '<f4')]",
        "[('a', '<f4', (2147483647, 9))]", "[('a', 'f4,f4')]", "[('a', '<f8', " + repr((1,) * 100) + ")]",
    ],
)  # fmt: skip
def test_refuses_other_types(descr):
    with pytest.raises(FormatError):
        layout(descr)


@pytest.mark.parametrize("descr", ["'|O'", "'O'", "'|O8'", "[('a', '<f4'), ('b', '|O')]", "[('a', [('b', '|O')])]"])
def test_refuses_python_objects_by_name(descr):
    with pytest.raises(FormatError, match=r"Python objects.*pickles, which are never read"):
        layout(descr)


@pytest.mark.parametrize(
    ("order", "shape"),
    [
        ("0", "(2,)"), ("'False'", "(2,)"), ("None", "(2,)"),
        ("False", "2"), ("False", "(2)"), ("False", "[2]"), ("False", "(-2,)"), ("False", "(True,)"),
        ("False", "('2',)"), ("False", "(2.0,)"), ("False", repr((1,) * 65)), ("False", "(1,), 'more': 1"),
    ],
)  # fmt: skip
def test_refuses_other_shapes_and_orders(order, shape):
    with pytest.raises(FormatError, match="'shape'"):
        layout(order=order, shape=shape)


@pytest.mark.parametrize(
    "shape",
    ["(4611686018427387904, 2)", "(4294967296, 4294967296, 0)", "(9223372036854775807,)", "(2305843009213693952,)"],
)
def test_sizes_that_overflow_are_refused(shape):
    with pytest.raises(FormatError, match="larger than memory"):
        layout(shape=shape)


def test_the_largest_size_does_not_overflow():
    assert layout("'|u1'", shape="(9223372036854775807,)").data_bytes == 2**63 - 1


@pytest.mark.parametrize("key", ["descr", "fortran_order", "shape"])
def test_refuses_missing_keys(key):
    fields = {"descr": "<f4", "fortran_order": False, "shape": (2,)}
    del fields[key]
    with pytest.raises(FormatError, match="expected a header"):
        parse_header(header(repr(fields)), 0)


def test_points_at_the_character_in_the_object():
    with pytest.raises(FormatError, match="at byte 116: unexpected '-'") as caught:
        parse_header(header("{'a': -1}"), 100)
    assert caught.value.offset == 100 + 10 + 6


@pytest.mark.parametrize(
    ("prefix", "remaining", "offset", "reason"),
    [
        (b"", 0, 0, "starts with b''"),
        (b"PK\x03\x04" + bytes(8), 500, 0, "starts with b'PK"),
        (b"\x93NUMPY", 6, 6, "version none"),
        (b"\x93NUMPY\x01", 7, 6, "version 1,"),
        (b"\x93NUMPY\x04\x00" + bytes(4), 500, 6, "version 4.0"),
        (b"\x93NUMPY\x01\x01" + bytes(4), 500, 6, "version 1.1"),
        (b"\x93NUMPY\x01\x00\x76", 9, 8, "expected at most 9"),
        (b"\x93NUMPY\x01\x00\x76\x00{'", 127, 8, "128 bytes, expected at most 127"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", 1 << 40, 8, f"expected at most {MAX_HEADER_BYTES}"),
    ],
)
def test_refuses_other_prefixes(prefix, remaining, offset, reason):
    with pytest.raises(FormatError, match=reason) as caught:
        header_size(prefix, remaining, 0)
    assert caught.value.offset == offset


@given(st.text(alphabet=st.characters(max_codepoint=255)))
@example("{'descr': '<M8[s/0]', 'fortran_order': False, 'shape': ()}")
@example("{'descr': [('', '<f4')], 'fortran_order': False, 'shape': ()}")
def test_text_is_a_layout_or_an_error(text):
    try:
        found = parse_header(header(text), 0)
    except FormatError:
        return
    assert found.data_bytes >= 0


@given(st.text(alphabet="<>|=?biufcmMSUVO0123456789[]/smD,", max_size=12))
def test_type_strings_are_numpys_or_an_error(descr):
    try:
        found = layout(repr(descr)).dtype
    except FormatError:
        return
    assert found == np.dtype(descr)
