import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from jax.sharding import SingleDeviceSharding

import s3dlio
import s3dlio_jax
from s3dlio.errors import CheckpointError


class Pair(NamedTuple):
    left: object
    right: object


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Train:
    params: dict
    steps: jax.Array
    name: str = dataclasses.field(metadata={"static": True}, default="run")


def state():
    params = {"w": jnp.ones((3, 4), jnp.bfloat16), "b": jnp.arange(4.0)}
    return {
        "params": params,
        "optimizer": optax.chain(optax.clip(1.0), optax.adam(1e-3)).init(params),
        "key": jax.random.key(3),
        "rest": [1, 2.5, None, "text", (np.arange(2), Pair(jnp.int32(1), None))],
        "train": Train({"w": jnp.zeros(2)}, jnp.int32(7)),
    }


def values(leaf):
    is_key = hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(leaf) if is_key else leaf)


def same(found, expected):
    assert jax.tree_util.tree_structure(found) == jax.tree_util.tree_structure(expected)
    for one, other in zip(jax.tree_util.tree_leaves(found), jax.tree_util.tree_leaves(expected), strict=True):
        assert type(one) is type(other)
        np.testing.assert_array_equal(values(one), values(other))


def test_a_target_brings_everything_back(tmp_path):
    saved = state()
    s3dlio_jax.save_checkpoint(str(tmp_path), saved, step=4, metadata={"note": "x"})
    found = s3dlio_jax.load_checkpoint(str(tmp_path), target=saved)
    same(found.trees, saved)
    assert (found.step, found.metadata["note"]) == (4, "x")
    assert jax.random.normal(found.trees["key"]) == jax.random.normal(saved["key"])


def test_an_abstract_target(tmp_path):
    saved = {"params": state()["params"]}
    s3dlio_jax.save_checkpoint(str(tmp_path / "one"), saved)
    place = SingleDeviceSharding(jax.devices()[0])
    target = jax.tree_util.tree_map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), saved)
    found = s3dlio_jax.load_checkpoint(str(tmp_path / "one"), target=target).trees
    same(found, saved)
    assert found["params"]["w"].sharding == place


def test_without_a_target_plain_containers_come_back(tmp_path):
    s3dlio_jax.save_checkpoint(str(tmp_path / "one"), state())
    found = s3dlio_jax.load_checkpoint(str(tmp_path / "one")).trees
    assert found["params"]["w"].dtype == ml_dtypes.bfloat16
    assert type(found["params"]["w"]) is np.ndarray
    assert found["optimizer"][1][0]["mu"]["b"].tolist() == [0, 0, 0, 0]
    assert found["key"]["prng_impl"] == "threefry2x32"
    assert found["rest"][:4] == [1, 2.5, None, "text"]
    assert found["rest"][4][1] == {"left": np.int32(1), "right": None}
    assert found["train"]["steps"] == 7


def test_trees_that_the_target_does_not_name_are_left_out(tmp_path):
    s3dlio_jax.save_checkpoint(str(tmp_path / "one"), state())
    target = {"params": state()["params"]}
    assert set(s3dlio_jax.load_checkpoint(str(tmp_path / "one"), target=target).trees) == {"params"}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({"other": 1}, "found params, expected other too"),
        ({"params": {"w": jnp.ones(2)}}, "at 'params': found a, w, expected w as in the target's dict"),
        ({"params": [jnp.ones(2), jnp.ones(2)]}, "at 'params': found a, w, expected 0, 1 as in the target's list"),
        ({"params": {"a": {"x": 1}, "w": jnp.ones(2)}}, "at 'params/a': found list, expected x"),
        ({"params": {"a": [jnp.ones(2)], "w": jnp.ones(3)}}, r"/w': found float32 \(2,\), expected float32 \(3,\)"),
        ({"params": {"a": [jnp.ones(2)], "w": jnp.ones(2, jnp.bfloat16)}}, "at 'params/w': found float32"),
        ({"params": {"a": [3], "w": jnp.ones(2)}}, "at 'params/a/0': found .*, expected int"),
    ],
)  # fmt: skip
def test_a_misfit_names_the_path(target, message, tmp_path):
    s3dlio_jax.save_checkpoint(str(tmp_path / "one"), {"params": {"a": [jnp.ones(2)], "w": jnp.ones(2)}})
    with pytest.raises(CheckpointError, match=message):
        s3dlio_jax.load_checkpoint(str(tmp_path / "one"), target=target)


def test_a_leaf_that_cannot_be_saved_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="params/a/1"):
        s3dlio_jax.save_checkpoint(str(tmp_path / "one"), {"params": {"a": [1, {1, 2}]}})


def test_what_the_core_saved_opens_onto_a_target(tmp_path):
    """As another framework writes it: plain arrays by name."""
    with s3dlio.create_checkpoint_writer(str(tmp_path / "one")) as writer:
        writer.save_tree("model", {"w": np.ones((2, 3), np.float32), "half": np.ones(2, ml_dtypes.bfloat16)})
    target = {"model": {"w": jnp.zeros((2, 3)), "half": jnp.zeros(2, jnp.bfloat16)}}
    found = s3dlio_jax.load_checkpoint(str(tmp_path / "one"), target=target).trees["model"]
    same(found, {"w": jnp.ones((2, 3)), "half": jnp.ones(2, jnp.bfloat16)})


@pytest.mark.framework("torch")
def test_what_torch_saved_opens_onto_a_target(tmp_path):
    import torch

    import s3dlio_torch

    model = torch.nn.Linear(3, 2, dtype=torch.bfloat16)
    s3dlio_torch.save_checkpoint(str(tmp_path / "one"), {"model": model.state_dict()})
    target = {"model": {"weight": jnp.zeros((2, 3), jnp.bfloat16), "bias": jnp.zeros(2, jnp.bfloat16)}}
    found = s3dlio_jax.load_checkpoint(str(tmp_path / "one"), target=target).trees["model"]
    np.testing.assert_array_equal(
        np.asarray(found["weight"].astype(jnp.float32)), model.weight.detach().float().numpy()
    )


def test_the_position_travels_along(digits, tmp_path):
    ours = s3dlio_jax.sharded_iterator(digits, global_batch_size=4)
    for _ in ours:
        s3dlio_jax.save_checkpoint(str(tmp_path / "one"), {"params": {"w": jnp.ones(2)}}, loader=ours)
        break
    state = s3dlio_jax.load_checkpoint(str(tmp_path / "one")).loader
    rest = s3dlio_jax.sharded_iterator(digits, global_batch_size=4, state=state)
    assert np.asarray(next(iter(rest))["index"]).tolist() == [4, 5, 6, 7]
