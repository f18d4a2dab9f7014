import json

import pytest

from s3dlio.errors import StateError
from s3dlio.loader import LoaderState

STATE = LoaderState(fingerprint="ab" * 16, samples=1000, shuffle=True, seed=-3, epoch=2, position=17)
AS_JSON = {
    "kind": "s3dlio.loader",
    "version": 1,
    "order": "feistel-1",
    "fingerprint": "abababababababababababababababab",
    "samples": 1000,
    "shuffle": True,
    "seed": -3,
    "epoch": 2,
    "position": 17,
}


def test_the_saved_form_is_a_contract():
    assert STATE.to_json() == AS_JSON
    assert LoaderState.from_json(json.loads(json.dumps(AS_JSON))) == STATE


@pytest.mark.parametrize(
    "garbage", [None, [], "state", 7, {}, {"kind": "other"}, {"model": {}}, [AS_JSON], "x" * 10_000]
)
def test_garbage(garbage):
    with pytest.raises(StateError, match="expected what a loader's state_dict") as caught:
        LoaderState.from_json(garbage)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("change", [{"version": 2}, {"version": None}, {"order": "feistel-2"}, {"version": "1"}])
def test_another_release(change):
    with pytest.raises(StateError, match="written by another release"):
        LoaderState.from_json({**AS_JSON, **change})


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": -1},
        {"position": -1},
        {"position": 1001},
        {"position": 17.0},
        {"position": True},
        {"position": "17"},
        {"samples": None},
        {"samples": -1},
        {"shuffle": 1},
        {"seed": 1.5},
        {"fingerprint": 7},
    ],
    ids=str,
)
def test_damage(change):
    with pytest.raises(StateError, match=next(iter(change))):
        LoaderState.from_json({**AS_JSON, **change})


@pytest.mark.parametrize("field", ["fingerprint", "samples", "shuffle", "seed", "epoch", "position"])
def test_what_is_missing_is_damage(field):
    with pytest.raises(StateError, match=f"{field} is None"):
        LoaderState.from_json({key: value for key, value in AS_JSON.items() if key != field})


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"fingerprint": "cd" * 16}, "The data changed"),
        ({"samples": 999}, "The data changed"),
        ({"shuffle": False}, "Pass shuffle=True"),
        ({"seed": 3}, "Pass seed=-3"),
    ],
    ids=str,
)
def test_another_run(change, match):
    other = LoaderState.from_json({**AS_JSON, **change})
    with pytest.raises(StateError, match=match):
        STATE.check_fits(other)


def test_epoch_and_position_may_differ():
    STATE.check_fits(LoaderState.from_json({**AS_JSON, "epoch": 0, "position": 0}))
