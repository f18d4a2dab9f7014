"""The Keras callback that saves a training run, and goes on with it after a restart.

Owns: which batch of which Keras epoch a run is at. Must not know: how state is stored, how data is ordered.

Guarantees: a checkpoint holds weights, optimizer, metrics and the position of the data after the same batch;
a resumed run trains on the next batch, none is trained on twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras

from s3dlio.checkpoint import SavedState, load_state, save_state, steps
from s3dlio.errors import CheckpointError, OptionError
from s3dlio_tf.epoch_start import EpochStart
from s3dlio_tf.progress import Progress
from s3dlio_tf.variables import assign_variables, variable_arrays

if TYPE_CHECKING:
    from collections.abc import Mapping

    import tensorflow as tf

    from s3dlio.storage import StorageOptions

__all__ = ["CheckpointCallback"]


class CheckpointCallback(keras.callbacks.Callback):
    """Saves the run in one commit each time, and restores the newest checkpoint when ``fit`` begins.

    The same script starts a run and goes on with it: ``fit`` begins in the epoch of the checkpoint, and in the
    middle of one counts through the batches that were trained before without reading or training them (other
    callbacks see them, with the restored metrics). One root belongs to one run.

    Args:
        uri: root of the checkpoints; each is ``<root>/step_<batches trained>/``.
        dataset: what ``s3dlio_tf.dataset`` gave, before ``map``; ``fit`` takes what was made of it. Functions
            that change the number of batches (``filter``, ``unbatch``, ``batch``) break the count. Each
            Keras epoch is a whole pass; for other lengths use ``repeat`` with ``steps_per_epoch``.
        every_batches: save when so many batches were trained; None for epochs only.
        every_epoch: save at the end of each epoch.
        storage_options, filesystem: how to reach the store of ``uri``; see ``s3dlio.dataset``.

    Raises:
        OptionError: a dataset without position, or a Keras that does not run on TensorFlow.
        CheckpointError: when ``fit`` begins: the model is not built, or unlike the saved one; when it saves: see
            ``save_checkpoint``.
        StateError: when an epoch begins: the one before left its pass in the middle, as with ``take``.
    """

    def __init__(
        self,
        uri: str,
        dataset: tf.data.Dataset,
        *,
        every_batches: int | None = None,
        every_epoch: bool = True,
        storage_options: StorageOptions | Mapping[str, Any] | None = None,
        filesystem: object | None = None,
    ) -> None:
        super().__init__()
        if not hasattr(dataset, "feed"):
            raise OptionError("dataset: expected what s3dlio_tf.dataset gave, before map. Pass that.", field="dataset")
        if every_batches is not None and every_batches < 1:
            raise OptionError(f"every_batches: got {every_batches}, expected >= 1 or None.", field="every_batches")
        if (backend := keras.backend.backend()) != "tensorflow":
            raise OptionError(f"Keras backend: {backend}, expected tensorflow. Set KERAS_BACKEND.", field="backend")
        self._uri = uri
        self._place: dict[str, Any] = {"storage_options": storage_options, "filesystem": filesystem}
        self._feed, self._every_batches, self._every_epoch = dataset.feed, every_batches, every_epoch
        self._epoch_start: EpochStart | None = None
        self._saved: SavedState | None = None  # to go on from, until its epoch begins

    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002  # Keras passes it
        """Restore the newest checkpoint, if there is one."""
        if not self.model.built:
            raise CheckpointError(
                f"train {self.model.name}: it is not built, expected variables to restore. Begin it with "
                "keras.Input(shape), or call it on a batch first."
            )
        if self._epoch_start is not None:
            self._epoch_start.close()  # an earlier fit was interrupted
        if not self.model.optimizer.built:
            self.model.optimizer.build(self.model.trainable_variables)
        self._skipped = 0
        self._progress = Progress(self._feed)
        if committed := steps(self._uri, **self._place):
            self._restore(load_state(self._uri, step=committed[-1], **self._place))
        self._saved_step = self._progress.step + self._skipped

    def _restore(self, saved: SavedState) -> None:
        where = saved.metadata.get("keras")
        if where is None or saved.loader is None or saved.step is None:
            raise CheckpointError(
                f"restore {self._uri}: step {saved.step} is not of CheckpointCallback, expected one. Use another root."
            )
        assign_variables(self.model.variables, saved.trees["model"], tree="model")
        assign_variables(self.model.optimizer.variables, saved.trees["optimizer"], tree="optimizer")
        self._progress = Progress(self._feed, loader=saved.loader, step=saved.step, batch=where["batch"])
        self._saved, self._skipped = saved, where["batch"]
        self.model._initial_epoch = where["epoch"]  # noqa: SLF001  # as keras.callbacks.BackupAndRestore does

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Count through what was trained before the restart."""
        self._epoch = epoch
        self.model._initial_epoch = None  # noqa: SLF001  # it has been used, and would outlive this fit
        saved, self._saved = self._saved, None
        batches, metrics = (self._skipped, saved.trees["metrics"]) if saved else (0, None)
        self._epoch_start = EpochStart(self.model, watch=self._progress.watch, batches=batches, metrics=metrics)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Save if it is time."""
        size = self.params.get("steps")
        self._progress.in_epoch = done = batch + 1 if size is None else min(batch + 1, size)
        step, every = self._progress.step, self._every_batches
        due = every is not None and step // every > self._saved_step // every
        if due and not (self._every_epoch and done == size):  # the end of the epoch saves the same
            self._save(self._epoch, done)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:  # noqa: ARG002
        """Save if it is time."""
        done, size = self._progress.in_epoch, self.params.get("steps")
        stopped = self.model.stop_training and size is not None and done < size
        if self._every_epoch:
            self._save(epoch if stopped else epoch + 1, done if stopped else 0)
        self._progress.end_epoch()

    def on_train_end(self, logs: Any = None) -> None:  # noqa: ARG002
        """Leave no trace in the model."""
        self.model._initial_epoch = None  # noqa: SLF001

    def _save(self, epoch: int, batch: int) -> None:
        """Save: to go on with batch number ``batch`` of Keras epoch ``epoch``."""
        model, step = self.model, self._progress.step
        save_state(
            self._uri,
            {
                "model": variable_arrays(model.variables),
                "optimizer": variable_arrays(model.optimizer.variables),
                "metrics": variable_arrays(model.metrics_variables if batch else []),
            },
            loader=self._progress.position(),
            step=step,
            metadata={"keras": {"epoch": epoch, "batch": batch}},
            **self._place,
        )
        self._saved_step = step
