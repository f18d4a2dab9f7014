from __future__ import annotations

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio.formats.literal import parse_literal

VALUES = st.recursive(
    st.integers(0, 2**63 - 1) | st.booleans() | st.text(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text(), inner)
    ),
    max_leaves=20,
)  # fmt: skip


@given(VALUES)
def test_reads_what_repr_writes(value):
    assert parse_literal(repr(value)) == value


@pytest.mark.parametrize(
    "text",
    [" {'a': (1,), } \n", "(1)", "((1, 2), 3)", "()", "[ ]", "[1,\n 2 , ]", "{}", '"it\'s"', "(True, (False,))"],
)
def test_agrees_with_python(text):
    assert parse_literal(text) == ast.literal_eval(text.strip())


def test_reads_long_integers_of_python_2():
    assert parse_literal("(10L, 2L)") == (10, 2)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("", 0),
        ("   ", 3),
        ("(1", 2),
        ("(1 2)", 3),
        ("(,)", 1),
        ("[1,,2]", 3),
        ("[1)", 2),
        ("(1,) x", 5),
        ("1 1", 2),
        ("-1", 0),
        ("1.5", 1),
        ("0x10", 1),
        ("None", 0),
        ("{1: 2}", 1),
        ("{'a' 1}", 5),
        ("{'a': 1 'b': 2}", 8),
        ("{'a': 1, 'a': 2}", 9),
        ("{'a'}", 4),
        ("'a", 0),
        ("'a\nb'", 0),
        (r"'\q'", 0),
        (r"'\x1'", 0),
        (r"'\U00110000'", 0),
        ("b'a'", 0),
        ("__import__('os')", 0),
        ("12345678901234567890", 19),
        ("(" * 42 + ")" * 42, 41),
    ],
)
def test_says_where_it_stopped(text, at):
    with pytest.raises(ValueError) as caught:
        parse_literal(text)
    assert caught.value.args[1] == at


@pytest.mark.parametrize("opening", ["(", "[", "{'a':", "(" * 2 + "["])
def test_deep_nesting_ends_early(opening):
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_literal(opening * 100_000)


@given(st.text(alphabet="{}[]():,'\" \\nxuUTrueFals019L\n-", max_size=40))
def test_raises_nothing_else_and_accepts_only_python(text):
    try:
        value = parse_literal(text)
    except ValueError:
        return
    if "L" not in text:
        try:
            expected = ast.literal_eval(text.strip())
        except SyntaxError:
            # Python refuses leading zeros; sizes and types need no such care.
            assert any(text[i : i + 1] == "0" for i in range(len(text)))
            return
        assert value == expected
