"""Trees come back with the same nesting, types and order."""

import math
import struct
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from s3dlio.checkpoint import create_checkpoint_reader, create_checkpoint_writer
from s3dlio.checkpoint.tree import join_tree, split_tree, tree_arrays
from s3dlio.errors import CheckpointError

_KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4) | st.sampled_from(
    ["a/b", "a", "b", "%2F", "/", "0", "1", "%30", "-1"]
)
_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(),
    st.integers(0, 2**31).map(lambda value: np.full((2,), value)),
)  # fmt: skip
_TREES = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(_KEYS | st.integers(-3, 12), inner, max_size=5),
        st.dictionaries(_KEYS, inner, max_size=3).map(OrderedDict),
    ),
    max_leaves=15,
)


def _same(found, saved):
    assert type(found) is type(saved)
    if isinstance(saved, dict):
        assert [(type(key), key) for key in found] == [(type(key), key) for key in saved]
        for key in saved:
            _same(found[key], saved[key])
    elif isinstance(saved, (list, tuple)):
        assert len(found) == len(saved)
        for one, other in zip(found, saved, strict=True):
            _same(one, other)
    elif isinstance(saved, np.ndarray):
        np.testing.assert_array_equal(found, saved, strict=True)
    elif isinstance(saved, float):
        assert struct.pack("d", found) == struct.pack("d", saved)
    else:
        assert found == saved


def _leaves(tree):
    if isinstance(tree, dict):
        return [leaf for child in tree.values() for leaf in _leaves(child)]
    if isinstance(tree, (list, tuple)):
        return [leaf for child in tree for leaf in _leaves(child)]
    return [tree] if isinstance(tree, np.ndarray) else []


@given(_TREES)
def test_any_tree_comes_back_and_paths_are_unique(tree):
    skeleton, arrays = split_tree("t", tree)
    expected = _leaves(tree)
    assert list(tree_arrays(skeleton)) == list(arrays)  # a name used twice would be missing here
    assert len(arrays) == len(expected)
    assert all(one is other for one, other in zip(arrays.values(), expected, strict=True))
    assert all(name == "t" or name.startswith("t/") for name in arrays)
    _same(join_tree(skeleton, arrays), tree)


def test_a_tree_in_a_checkpoint(place):
    tree = {
        "params": {"layer1.weight": np.eye(3), "a/b": np.zeros(2)},
        "state": {0: {"exp_avg": np.ones(4), "step": np.array(7.0)}, 1: {}},
        "groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "foreach": None, "params": [0, 1]}],
        "odd": [math.nan, -math.inf, -0.0, 1e308, 2**200, True, "é\ud800"],
        0: "int",
        "0": "text",
    }
    with create_checkpoint_writer(place.uri, step=1) as writer:
        writer.save_tree("model", tree)
        writer.save_tree("root array", np.arange(3))
        writer.save_tree("nothing", {})
    with create_checkpoint_reader(place.uri) as reader:
        _same(reader.load_tree("model"), tree)
        _same(reader.load_tree("root array"), np.arange(3))
        assert reader.load_tree("nothing") == {}
        assert reader.trees() == ["model", "nothing", "root array"]
        assert reader.names() == [
            "model/params/a%2Fb",
            "model/params/layer1.weight",
            "model/state/0/exp_avg",
            "model/state/0/step",
            "root array",
        ]
        np.testing.assert_array_equal(reader.load_array("model/params/layer1.weight"), np.eye(3))


def test_integer_and_text_keys_that_look_alike(memory_place):
    tree = {0: np.array(1), "0": np.array(2), "%30": np.array(3), "1": np.array(4)}
    with create_checkpoint_writer(memory_place.uri) as writer:
        writer.save_tree("t", tree)
    with create_checkpoint_reader(memory_place.uri) as reader:
        _same(reader.load_tree("t"), tree)
        assert reader.names() == ["t/%2530", "t/%30", "t/0", "t/1"]


def test_numpy_scalars_become_arrays(memory_place):
    with create_checkpoint_writer(memory_place.uri) as writer:
        writer.save_tree("t", [np.float64(1.5), np.int8(3), np.bool_(True)])
    with create_checkpoint_reader(memory_place.uri) as reader:
        _same(reader.load_tree("t"), [np.array(1.5), np.array(3, np.int8), np.array(True)])


def test_the_state_of_a_torch_optimizer_comes_back(place):
    def trained():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 1))
        return model, torch.optim.AdamW(model.parameters(), lr=1e-2)

    def train(model, optimizer):
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.arange(6.0).reshape(2, 3)).square().mean().backward()
            optimizer.step()

    model, optimizer = trained()
    train(model, optimizer)
    with create_checkpoint_writer(place.uri, step=3) as writer:
        writer.save_tree("model", model.state_dict())
        writer.save_tree("optimizer", optimizer.state_dict())
    train(model, optimizer)
    expected = [parameter.detach().clone() for parameter in model.parameters()]

    def tensors(node):
        if isinstance(node, np.ndarray):
            return torch.from_numpy(node)
        if isinstance(node, dict):
            return type(node)((key, tensors(child)) for key, child in node.items())
        return type(node)(tensors(child) for child in node) if isinstance(node, (list, tuple)) else node

    model, optimizer = trained()
    with create_checkpoint_reader(place.uri) as reader:
        assert "model/0.weight" in reader.names()
        assert "optimizer/state/0/exp_avg" in reader.names()
        model.load_state_dict(tensors(reader.load_tree("model")))
        optimizer.load_state_dict(tensors(reader.load_tree("optimizer")))
    train(model, optimizer)
    assert all(torch.equal(*pair) for pair in zip(model.parameters(), expected, strict=True))


class _Point(NamedTuple):
    x: int
    y: int


_CYCLE = []
_CYCLE.append({"again": _CYCLE})


class _Int(int):
    pass


@pytest.mark.parametrize(
    ("tree", "path"),
    [
        ({"a": [1, {2}]}, "t/a/1"),
        ({"a": {"b": object()}}, "t/a/b"),
        ([_Point(1, 2)], "t/0"),
        ([b"bytes"], "t/0"),
        ({"a": 1j}, "t/a"),
        ({"a": _Int(3)}, "t/a"),
        ({(1, 2): 3}, "t"),
        ({True: 3}, "t"),
        ({"x": {None: 3}}, "t/x"),
        (_CYCLE, "t/0/again"),
        ([2**100_000], "t/0"),
        ({"w": np.array([None])}, "t/w"),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_path(memory_place, tree, path):
    with create_checkpoint_writer(memory_place.uri) as writer:
        with pytest.raises(CheckpointError, match=f"'{path}'"):
            writer.save_tree("t", tree)
        writer.save_tree("t", {"w": np.ones(1)})  # nothing of the refused tree was taken
    with create_checkpoint_reader(memory_place.uri) as reader:
        assert reader.names() == ["t/w"]


def test_a_node_of_a_later_kind_is_refused():
    with pytest.raises(CheckpointError, match="'namedtuple'"):
        join_tree({"list": [{"namedtuple": []}]}, {})
