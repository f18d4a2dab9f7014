"""Train a digit classifier with Keras on TensorFlow, from a bucket, in a way that can be killed at any moment.

    python examples/digits/prepare.py s3://bucket/digits/
    python examples/digits/train_keras.py s3://bucket/digits/

Kill it in the middle of an epoch and start it again: ``fit`` goes on after the last checkpoint, with the same
samples and the same losses as if nothing had happened.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import digits  # type: ignore[import-not-found]  # beside this file; mypy looks from the root
import keras
import tensorflow as tf

import s3dlio_tf

if TYPE_CHECKING:
    import argparse


def train(options: argparse.Namespace) -> None:
    """Train, save, evaluate."""
    # The same seed gives the same losses to the last bit.
    keras.utils.set_random_seed(options.seed)
    tf.config.experimental.enable_op_determinism()
    model = keras.Sequential(
        [
            keras.Input((8, 8)),
            keras.layers.Flatten(),
            keras.layers.Dense(digits.HIDDEN, activation="relu"),
            keras.layers.Dense(digits.LABELS),
        ]
    )
    model.compile(
        optimizer=keras.optimizers.Adam(5e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )

    # An element is a batch. Each pass over the dataset is the next epoch, in a new order that follows from the seed
    # alone, so it is neither shuffled nor batched nor repeated here.
    data = s3dlio_tf.dataset(f"{options.uri}/train/", batch_size=options.batch_size, shuffle=True, seed=options.seed)
    # Saves weights, optimizer, metrics and the position in the data in one commit; when fit begins, it restores the
    # newest one, and fit goes on in the middle of its epoch.
    checkpoints = s3dlio_tf.CheckpointCallback(options.checkpoint, data, every_batches=options.checkpoint_every)

    with digits.Run(options) as run:
        show = ShowProgress(run, data)
        batches = data.map(show.note).map(lambda batch: (batch["image"], batch["label"]))
        model.fit(batches, epochs=options.epochs, callbacks=[checkpoints, show], shuffle=False, verbose=0)

    run.report(*evaluate(model, f"{options.uri}/test/"))


def evaluate(model: keras.Model, uri: str) -> tuple[int, int]:
    """How many samples are recognised, of how many. One pass is each sample once, the last batch is shorter."""
    correct = total = 0
    for batch in s3dlio_tf.dataset(uri, batch_size=256):
        digit = tf.argmax(model(batch["image"]), axis=1)
        correct += int(tf.math.count_nonzero(digit == batch["label"]))
        total += len(batch["label"])
    return correct, total


class ShowProgress(keras.callbacks.Callback):
    """Tells the progress bar and the log of losses what fit does. Nothing in it is needed to train or resume.

    The losses are Keras's: the mean over the epoch so far.
    """

    def __init__(self, run: digits.Run, data: tf.data.Dataset) -> None:
        super().__init__()
        self._run, self._data = run, data
        self._images: deque[Any] = deque()  # of batches that fit has taken and not yet trained

    def note(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Pass on a batch, and keep its images for the log: Keras does not show them to callbacks."""

        def keep(images: tf.Tensor) -> None:
            self._run.batch_arrived()
            self._images.append(images.numpy())

        tf.py_function(keep, [batch["image"]], [])
        return batch

    def on_train_begin(self, _logs: Any = None) -> None:
        """By now the checkpoint is restored."""
        self._trained = int(self.model.optimizer.iterations)
        self._run.begin(self._data.loader, step=self._trained)

    def on_epoch_begin(self, epoch: int, _logs: Any = None) -> None:
        """Also of the epoch that goes on."""
        self._run.begin_epoch(epoch)

    def on_train_batch_end(self, _batch: int, logs: Any = None) -> None:
        """Count the batch, unless fit only counts through those that were trained before a restart."""
        step = int(self.model.optimizer.iterations)
        if step > self._trained:
            self._trained = step
            self._run.step(step, logs["loss"], self._images.popleft())

    def on_epoch_end(self, _epoch: int, logs: Any = None) -> None:
        """The last of the means is that of the epoch."""
        self._run.end_epoch(logs["loss"])


if __name__ == "__main__":
    digits.main(train, digits.option_parser(__doc__, framework="keras"))
