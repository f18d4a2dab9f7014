"""Only what JSON gives back unchanged is taken."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3dlio.checkpoint.values import json_value
from s3dlio.errors import CheckpointError

_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(_VALUES)
def test_json_is_taken_as_it_is(value):
    found = json_value(value, "x")
    assert json.dumps(found) == json.dumps(json.loads(json.dumps(value)))


_CYCLE = {}
_CYCLE["self"] = [_CYCLE]


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [1, (2,)]}, r"at \['a'\]\[1\]: got tuple"),
        ({"a": {1: 2}}, r"at \['a'\]: got the key 1"),
        ([math.nan], r"at \[0\]: got nan"),
        ({"x": math.inf}, r"at \['x'\]: got inf"),
        ({1, 2}, r"save_object 'o': got set"),
        ([_CYCLE], r"at \[0\]\['self'\]\[0\]: the value contains itself"),
        ([10**5000], r"at \[0\]: got int"),
        (b"x", "got bytes"),
        ({"n": type("N", (int,), {})(3)}, r"at \['n'\]: got N"),
    ],
)
def test_anything_else_is_refused_with_its_place(value, where):
    with pytest.raises(CheckpointError, match=where):
        json_value(value, "save_object 'o'")


def test_the_copy_is_deep():
    value = {"a": [1]}
    found = json_value(value, "x")
    value["a"].append(2)
    assert found == {"a": [1]}
