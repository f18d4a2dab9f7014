import keras
import numpy as np
import pytest

from s3dlio.errors import CheckpointError
from s3dlio_tf.variables import assign_variables, variable_arrays


def variables(*named):
    return [keras.Variable(np.asarray(value, np.float32), name=name) for name, value in named]


def test_back_by_path_whatever_the_order():
    saved = variable_arrays(variables(("a", [1, 2]), ("b", [3, 4])))
    targets = variables(("b", [0, 0]), ("a", [0, 0]))
    assign_variables(targets, saved, tree="model")
    assert [target.numpy().tolist() for target in targets] == [[3, 4], [1, 2]]


def test_back_in_order_where_names_differ():
    saved = variable_arrays(variables(("dense", [1, 2]), ("dense_1", [3])))
    targets = variables(("dense_2", [0, 0]), ("dense_3", [0]))
    assign_variables(targets, saved, tree="model")
    assert [target.numpy().tolist() for target in targets] == [[1, 2], [3]]


def test_variables_of_one_name_keep_their_order():
    saved = variable_arrays(variables(("seed", [1]), ("seed", [2])))
    assert list(saved) == ["seed", "seed#2"]
    targets = variables(("seed", [0]), ("seed", [0]))
    assign_variables(targets, saved, tree="model")
    assert [target.numpy().tolist() for target in targets] == [[1], [2]]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ([("a", [0, 0])], "restore model: found 2 variables, expected 1; only in one of them: b"),
        ([("a", [0, 0]), ("b", [0])], r"restore model at 'b': found float32 \(2,\) \(b\), expected float32 \(1,\)"),
        ([("c", [0]), ("d", [0, 0])], r"restore model at 'c': found float32 \(2,\) \(a\), expected float32 \(1,\)"),
    ],
)
def test_a_misfit_is_named_and_changes_nothing(named, message):
    saved = variable_arrays(variables(("a", [1, 2]), ("b", [3, 4])))
    targets = variables(*named)
    with pytest.raises(CheckpointError, match=message):
        assign_variables(targets, saved, tree="model")
    assert all((target.numpy() == 0).all() for target in targets)
