"""A training job's state: its loader's position."""

import numpy as np
import pytest

from s3dlio.checkpoint import load_state, save_state
from s3dlio.errors import OptionError


class _Loader:
    def state_dict(self):
        return {"position": 3}


class _Batches:
    """Iterates over pairs, as a dataset of (features, label) does, and so passes for a dict's argument."""

    def __iter__(self):
        raise AssertionError("the user's data were read")


@pytest.mark.parametrize(
    ("loader", "expected"),
    [(_Loader(), {"position": 3}), ({"position": 4}, {"position": 4}), (None, None)],
    ids=["loader", "state", "none"],
)
def test_the_loaders_position_travels_along(place, loader, expected):
    save_state(place.uri, {"model": {"w": np.ones(3)}}, loader=loader, step=1)
    found = load_state(place.uri)
    assert found.loader == expected
    assert found.step == 1
    np.testing.assert_array_equal(found.trees["model"]["w"], np.ones(3))


@pytest.mark.parametrize("loader", [_Batches(), [("position", 3)], iter(()), 7, "position"])
def test_what_has_no_position_is_refused_before_anything_is_written(place, loader):
    with pytest.raises(OptionError, match=r"expected one with state_dict\(\), or what that gave") as caught:
        save_state(place.uri, {"model": {"w": np.ones(3)}}, loader=loader, step=1)
    assert caught.value.field == "loader"
    assert type(loader).__qualname__ in str(caught.value)
    assert place.files() == {}
