"""Which checkpoint a URI and a step mean."""

import numpy as np
import pytest

from s3dlio.checkpoint import create_checkpoint_reader, create_checkpoint_writer, steps
from s3dlio.errors import CheckpointError, OptionError


def _save(place, step, uri=None):
    with create_checkpoint_writer(uri or place.uri, step=step) as writer:
        writer.save_array("w", np.array([step or 0]))


def test_steps_are_numbers_in_order(place):
    assert steps(place.uri) == []
    for step in (9, 100, 10, 0):
        _save(place, step)
    assert steps(place.uri) == [0, 9, 10, 100]
    assert steps(place.uri + "/") == steps(place.uri, store=place.store) == [0, 9, 10, 100]


def test_only_manifests_of_steps_count(place):
    _save(place, 5)
    _save(place, None, place.uri + "/best")
    place.put("step_0000000006/data/x/r00000-000.safetensors", b"not committed")
    place.put("step_0000000007/data/x/manifest.json", b"deeper")
    place.put("step_7/manifest.json", b"another name")
    assert steps(place.uri) == [5]


def test_the_newest_step_is_the_default(place):
    for step in (1, 12, 3):
        _save(place, step)
    for arguments, expected in (({}, 12), ({"step": "latest"}, 12), ({"step": 3}, 3)):
        with create_checkpoint_reader(place.uri, **arguments) as reader:
            assert reader.step == expected
            assert reader.load_array("w")[0] == expected


@pytest.mark.parametrize("order", [(None, 4), (4, None)], ids=["step last", "step first"])
def test_a_checkpoint_in_the_root_itself_and_steps_below_it_are_told_apart_by_the_step(place, order):
    for step in order:
        _save(place, step)
    with pytest.raises(CheckpointError, match=r"run/manifest\.json.*step_0000000004/manifest\.json.*step=\"latest\""):
        create_checkpoint_reader(place.uri)
    for arguments in ({"step": "latest"}, {"step": 4}):
        with create_checkpoint_reader(place.uri, **arguments) as reader:
            assert reader.step == 4
    with create_checkpoint_reader(place.uri + "/step_0000000004") as reader:
        assert reader.step == 4


def test_a_checkpoint_without_a_step_is_found_with_one_listing(place, faulty):
    _save(place, None)
    place.put("step_0000000006/data/x/r00000-000.safetensors", b"not committed")
    store = faulty(place.store, verbs=("get", "list"))
    with create_checkpoint_reader(place.uri, store=store) as reader:
        assert reader.step is None
    assert store.count == 2


def test_a_named_step_is_found_without_a_listing(place, faulty):
    _save(place, 4)
    for uri, arguments in ((place.uri, {"step": 4}), (place.uri + "/step_0000000004", {})):
        with create_checkpoint_reader(
            uri, store=faulty(place.store, fail_at=0, verbs=("list",)), **arguments
        ) as reader:
            assert reader.step == 4


def test_the_step_directory_may_be_named_with_its_step(place):
    uri = place.uri + "/step_0000000004/"
    _save(place, 4, uri)
    for step in (None, 4, "latest"):
        with create_checkpoint_reader(uri, step=step) as reader:
            assert reader.step == 4
    with pytest.raises(OptionError, match="expected 4"):
        create_checkpoint_reader(uri, step=5)
    with pytest.raises(OptionError, match="expected 4"):
        create_checkpoint_writer(uri, step=5)


def test_nothing_there(place):
    for arguments in ({}, {"step": 1}, {"step": "latest"}):
        with pytest.raises(CheckpointError, match="found no checkpoint"):
            create_checkpoint_reader(place.uri, **arguments)
    _save(place, 2)
    with pytest.raises(CheckpointError, match="found no checkpoint, expected the checkpoint of step 1"):
        create_checkpoint_reader(place.uri, step=1)


def test_a_damaged_newest_step_is_an_error_and_no_reason_to_take_an_older_one(place):
    _save(place, 1)
    _save(place, 2)
    place.put("step_0000000002/manifest.json", b"")
    assert steps(place.uri) == [1, 2]
    with pytest.raises(CheckpointError, match=r"step_0000000002/manifest\.json"):
        create_checkpoint_reader(place.uri)
    with create_checkpoint_reader(place.uri, step=1) as reader:
        assert reader.load_array("w")[0] == 1


def test_a_copied_checkpoint_is_whole(place):
    _save(place, 1)
    for path, data in place.files().items():
        place.put(f"moved/{path.removeprefix('step_0000000001/')}", data)
    with create_checkpoint_reader(place.uri + "/moved") as reader:
        reader.verify()
        assert reader.load_array("w")[0] == 1


def test_the_container_itself_can_be_the_root(memory_place):
    root = f"memory://{memory_place.root.container}"
    _save(memory_place, 3, root)
    assert steps(root) == [3]
    with create_checkpoint_reader(root) as reader:
        assert reader.load_array("w")[0] == 3


def test_a_step_directory_is_no_root_of_other_steps(place):
    uri = place.uri + "/step_0000000004"
    _save(place, None, uri + "/nested/step_0000000005")
    for path, data in place.files().items():
        place.put(path.replace("nested/", ""), data)
    with pytest.raises(CheckpointError, match=r"load .*step_0000000004"):
        create_checkpoint_reader(uri)
