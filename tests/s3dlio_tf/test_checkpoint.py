import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf

import s3dlio
import s3dlio_tf
from s3dlio.errors import CheckpointError


def test_tensors_and_variables_come_back_as_tensors(tmp_path):
    state = {
        "model": {"kernel": tf.constant([[1.0, 2.0]]), "half": tf.constant([1.5], tf.bfloat16)},
        "rest": [tf.Variable(7, dtype=tf.int64), keras.Variable([True], dtype="bool"), 3, None, "text"],
    }
    s3dlio_tf.save_checkpoint(str(tmp_path), state, step=5, metadata={"note": "x"})
    saved = s3dlio_tf.load_checkpoint(str(tmp_path))
    assert (saved.step, saved.metadata["note"], saved.loader) == (5, "x", None)
    model, rest = saved.trees["model"], saved.trees["rest"]
    assert all(isinstance(leaf, tf.Tensor) for leaf in (*model.values(), *rest[:2]))
    assert (model["kernel"].numpy().tolist(), model["half"].dtype) == ([[1.0, 2.0]], tf.bfloat16)
    assert (rest[0].numpy(), rest[1].numpy().tolist(), rest[2:]) == (7, [True], [3, None, "text"])


def test_a_state_tree_of_keras_goes_in_and_comes_back(tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    s3dlio_tf.save_checkpoint(str(tmp_path / "one"), {"keras": model.get_state_tree()})
    before = model.get_weights()
    model.set_weights([weight * 0 for weight in before])
    model.set_state_tree(s3dlio_tf.load_checkpoint(str(tmp_path / "one")).trees["keras"])
    for weight, expected in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, expected)


def test_what_the_core_saved_opens(tmp_path):
    arrays = {"a": np.arange(3), "b": np.ones(2, ml_dtypes.bfloat16)}
    with s3dlio.create_checkpoint_writer(str(tmp_path / "one")) as writer:
        writer.save_tree("model", arrays)
    found = s3dlio_tf.load_checkpoint(str(tmp_path / "one")).trees["model"]
    assert found["a"].numpy().tolist() == [0, 1, 2]
    assert found["b"].dtype == tf.bfloat16


def test_the_position_travels_along(digits, tmp_path):
    ours = s3dlio_tf.dataset(digits, batch_size=4)
    s3dlio_tf.save_checkpoint(str(tmp_path / "one"), {}, loader=ours.loader.state_dict(batches=2))
    state = s3dlio_tf.load_checkpoint(str(tmp_path / "one")).loader
    first = next(iter(s3dlio_tf.dataset(digits, batch_size=4, state=state)))
    assert first["index"].numpy().tolist() == [8, 9, 10, 11]


def test_errors_name_the_place(tmp_path):
    with pytest.raises(CheckpointError, match="model/a/1"):
        s3dlio_tf.save_checkpoint(str(tmp_path / "one"), {"model": {"a": [1, {2, 3}]}})
    with pytest.raises(CheckpointError, match="nothing"):
        s3dlio_tf.load_checkpoint(str(tmp_path / "nothing"))
