"""The Keras callback: killed runs, and the ways in which fit takes batches."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import s3dlio.checkpoint
import s3dlio_tf
from s3dlio.errors import CheckpointError, OptionError, StateError

SCRIPT = """
import json, os, signal, sys
import keras, s3dlio_tf
data, root, kill_after = sys.argv[1], sys.argv[2], int(sys.argv[3])
keras.utils.set_random_seed(7)
dataset = s3dlio_tf.dataset(data, batch_size=4, shuffle=True, seed=1)
layers = [keras.layers.Flatten(), keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.3), keras.layers.Dense(3)]
model = keras.Sequential([keras.Input((8, 8)), *layers])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile("adam", loss, metrics=["accuracy"])

class Log(keras.callbacks.Callback):
    batches = 0
    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
    def on_train_batch_end(self, batch, logs=None):
        print(json.dumps([self.epoch, batch, logs["loss"], logs["accuracy"]]), flush=True)
        self.batches += 1
        if self.batches == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
    def on_epoch_end(self, epoch, logs=None):
        print(json.dumps([epoch, "end", logs["loss"], logs["accuracy"]]), flush=True)

checkpoints = s3dlio_tf.CheckpointCallback(root, dataset, every_batches=2)
train = dataset.map(lambda batch: (batch["image"], batch["label"])).prefetch(3)
model.fit(train, epochs=3, callbacks=[checkpoints, Log()], verbose=0, shuffle=False)
print(json.dumps(["weights", *(float(weight.sum()) for weight in model.get_weights())]))
"""


def run(data, root, kill_after):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, data, str(root), str(kill_after)],
        env=os.environ,
        timeout=200,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == (-signal.SIGKILL if kill_after else 0), done.stderr
    assert "ran out of data" not in done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


def test_a_killed_run_goes_on_as_if_it_had_not_been(digits, tmp_path):
    """Killed in the middle of epoch 1, at once again, and at a boundary: every number is that of one run."""
    whole = run(digits, tmp_path / "whole", 0)
    assert len(whole) == 3 * (6 + 1) + 1
    expected = {line[:2]: line for line in whole}
    cut = run(digits, tmp_path / "cut", 9)  # batch 3 of epoch 1, after step 8 was saved
    cut += run(digits, tmp_path / "cut", 5)[2:]  # two are counted through
    cut += run(digits, tmp_path / "cut", 2)[4:]  # killed while it counts
    cut += run(digits, tmp_path / "cut", 0)[4:]
    assert {line[:2] for line in cut} == set(expected)
    assert all(line == expected[line[:2]] for line in cut)
    assert cut[-1] == whole[-1]


def model_of(*, steps_per_execution=1):
    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(3)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"], steps_per_execution=steps_per_execution)
    return model


class Stop(keras.callbacks.Callback):
    """Ends the run at a batch by an exception, as Ctrl-C does."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def on_train_batch_end(self, batch, logs=None):
        self.after -= 1
        if not self.after:
            raise KeyboardInterrupt


class Seen(keras.callbacks.Callback):
    """The samples that were trained on, seen through the weights: the sums after each batch."""

    def __init__(self):
        super().__init__()
        self.sums = []

    def on_train_batch_end(self, batch, logs=None):
        self.sums.append(float(np.abs(self.model.get_weights()[0]).sum()))


def fit(digits, root, change, *, stop=0, epochs=3, state=None, steps_per_execution=1, **options):
    dataset = s3dlio_tf.dataset(digits, batch_size=4, shuffle=True, seed=1, state=state)
    callback = s3dlio_tf.CheckpointCallback(str(root), dataset, every_batches=2)
    train = change(dataset.map(lambda batch: (batch["image"], batch["label"])))
    model, seen = model_of(steps_per_execution=steps_per_execution), Seen()
    callbacks = [callback, seen, *([Stop(stop)] if stop else [])]
    try:
        model.fit(train, epochs=epochs, callbacks=callbacks, verbose=0, shuffle=False, **options)
    except KeyboardInterrupt:
        assert stop
    return seen.sums


PLAIN = (lambda train: train, {})
WAYS = {
    "plain": PLAIN,
    "prefetch": (lambda train: train.prefetch(10), {}),
    "steps": (lambda train: train, {"steps_per_epoch": 6}),
}


@pytest.mark.parametrize("stop", [1, 2, 3, 6, 7, 9])
@pytest.mark.parametrize("way", WAYS)
def test_an_interrupted_fit_goes_on(way, stop, digits, tmp_path):
    change, options = WAYS[way]
    whole = fit(digits, tmp_path / "whole", change, **options)
    first = fit(digits, tmp_path / "cut", change, stop=stop, **options)
    assert first == whole[: len(first)]
    rest = fit(digits, tmp_path / "cut", change, **options)
    assert rest[-1] == whole[-1]
    assert rest[-4:] == whole[-4:]


def test_take_is_refused_before_it_counts_wrong(digits, tmp_path):
    with pytest.raises(StateError, match=r"after 20 of 23 samples, expected all .* repeat\(\) with steps_per_epoch"):
        fit(digits, tmp_path / "run", lambda train: train.take(5))
    assert s3dlio.checkpoint.steps(str(tmp_path / "run")) == [2, 4, 5]


@pytest.mark.parametrize("size", [6, 7])
def test_repeat_goes_on_with_a_state(size, digits, tmp_path):
    """A repeated dataset is resumed with ``state=``: its cardinality must not be promised."""
    change, options = (lambda train: train.repeat().prefetch(9)), {"steps_per_epoch": size}
    whole = fit(digits, tmp_path / "whole", change, **options)
    fit(digits, tmp_path / "cut", change, stop=10, **options)
    state = s3dlio_tf.load_checkpoint(str(tmp_path / "cut")).loader
    rest = fit(digits, tmp_path / "cut", change, state=state, **options)
    assert rest[-len(whole) + 10 :] == whole[10:]


@pytest.mark.parametrize("size", [6, 7])
def test_repeat_without_a_state_is_refused(size, digits, tmp_path):
    change, options = (lambda train: train.repeat()), {"steps_per_epoch": size}
    fit(digits, tmp_path / "cut", change, stop=10, **options)
    with pytest.raises(StateError, match=r"Make it with state="):
        fit(digits, tmp_path / "cut", change, **options)


def test_repeat_goes_on_at_an_epochs_end_without_a_state(digits, tmp_path):
    change, options = (lambda train: train.repeat()), {"steps_per_epoch": 6}
    whole = fit(digits, tmp_path / "whole", change, **options)
    fit(digits, tmp_path / "cut", change, stop=7, **options)
    assert fit(digits, tmp_path / "cut", change, **options) == whole[6:]


def test_steps_per_execution(digits, tmp_path):
    whole = fit(digits, tmp_path / "whole", *PLAIN[:1], steps_per_execution=3)
    fit(digits, tmp_path / "cut", *PLAIN[:1], steps_per_execution=3, stop=3)
    rest = fit(digits, tmp_path / "cut", *PLAIN[:1], steps_per_execution=3)
    assert rest[-1] == whole[-1]


def test_a_finished_run_trains_nothing(digits, tmp_path):
    assert len(fit(digits, tmp_path / "run", *PLAIN[:1], epochs=1)) == 6
    assert fit(digits, tmp_path / "run", *PLAIN[:1], epochs=1) == []
    assert len(fit(digits, tmp_path / "run", *PLAIN[:1], epochs=2)) == 6


def test_one_commit_holds_everything(digits, tmp_path):
    fit(digits, tmp_path / "run", *PLAIN[:1], epochs=1)
    root = str(tmp_path / "run")
    assert s3dlio.checkpoint.steps(root) == [2, 4, 6]
    middle, end = (s3dlio_tf.load_checkpoint(root, step=step) for step in (4, 6))
    assert set(middle.trees) == {"model", "optimizer", "metrics"}
    assert (middle.metadata["keras"], middle.loader["epoch"], middle.loader["position"]) == (
        {"epoch": 0, "batch": 4}, 0, 16,
    )  # fmt: skip
    assert (end.metadata["keras"], end.loader["epoch"], end.loader["position"]) == ({"epoch": 1, "batch": 0}, 1, 0)


def test_epochs_only(digits, tmp_path):
    dataset = s3dlio_tf.dataset(digits, batch_size=4)
    callback = s3dlio_tf.CheckpointCallback(str(tmp_path / "run"), dataset)
    train = dataset.map(lambda batch: (batch["image"], batch["label"]))
    model_of().fit(train, epochs=2, callbacks=[callback], verbose=0, shuffle=False)
    assert s3dlio.checkpoint.steps(str(tmp_path / "run")) == [6, 12]


def test_a_model_that_is_not_built_is_refused_at_once(digits, tmp_path):
    dataset = s3dlio_tf.dataset(digits, batch_size=4)
    model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    callback = s3dlio_tf.CheckpointCallback(str(tmp_path / "run"), dataset)
    with pytest.raises(CheckpointError, match="not built"):
        model.fit(dataset.map(lambda b: (b["image"], b["label"])), callbacks=[callback], verbose=0, shuffle=False)


def test_another_model_is_refused_and_left_alone(digits, tmp_path):
    fit(digits, tmp_path / "run", *PLAIN[:1], epochs=1)
    dataset = s3dlio_tf.dataset(digits, batch_size=4, shuffle=True, seed=1)
    model = keras.Sequential([keras.Input((8, 8)), keras.layers.Flatten(), keras.layers.Dense(4)])
    model.compile("adam", "mse")
    before = model.get_weights()
    callback = s3dlio_tf.CheckpointCallback(str(tmp_path / "run"), dataset)
    train = dataset.map(lambda batch: (batch["image"], batch["label"]))
    with pytest.raises(CheckpointError, match=r"restore model at '.*kernel': found float32 \(64, 3\)"):
        model.fit(train, callbacks=[callback], verbose=0, shuffle=False)
    assert all((new == old).all() for new, old in zip(model.get_weights(), before, strict=True))


def test_a_root_of_another_kind_is_refused(digits, tmp_path):
    s3dlio_tf.save_checkpoint(str(tmp_path / "run"), {"model": {}}, step=1)
    with pytest.raises(CheckpointError, match="step 1 is not of CheckpointCallback"):
        fit(digits, tmp_path / "run", *PLAIN[:1])


def test_wrong_options(digits, tmp_path):
    dataset = s3dlio_tf.dataset(digits, batch_size=4)
    with pytest.raises(OptionError, match="before map"):
        s3dlio_tf.CheckpointCallback(str(tmp_path), dataset.map(lambda batch: batch))
    with pytest.raises(OptionError, match="every_batches"):
        s3dlio_tf.CheckpointCallback(str(tmp_path), dataset, every_batches=0)


def test_fit_shows_the_error_of_the_core(digits):
    dataset = s3dlio_tf.dataset(digits, batch_size=4)
    Path(f"{digits}009.npz").unlink()
    train = dataset.map(lambda batch: (batch["image"], batch["label"]))
    with pytest.raises(tf.errors.OpError, match=r"NotFoundError: [^\n]*009\.npz"):
        model_of().fit(train, verbose=0, shuffle=False)
