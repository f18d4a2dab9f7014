"""The beginning of a Keras epoch: batches that were trained before a restart are counted through.

Keras has no way to begin in the middle of an epoch: it takes the number of batches from the dataset when ``fit``
begins, and a first epoch that is shorter makes all later ones short (EpochIterator, Keras 3.15). So the epoch
keeps its length, and until the saved batch is reached, a function that neither reads nor trains stands in for
``model.train_function``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s3dlio.errors import CheckpointError
from s3dlio_tf.variables import assign_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from s3dlio.arrays import Array

__all__ = ["EpochStart"]


class EpochStart:
    """Stands in for the model's training function until the first batch to train.

    Args:
        model: compiled, with its training function made.
        watch: is given the iterator of the epoch before anything is taken from it.
        batches: to count through, trained by an earlier run.
        metrics: values of the model's metrics after these batches.

    Raises:
        CheckpointError: the batches are no whole number of the model's executions.
    """

    def __init__(
        self, model: Any, *, watch: Callable[[Any], None], batches: int = 0, metrics: Mapping[str, Array] | None = None
    ) -> None:
        if batches % model.steps_per_execution:
            raise CheckpointError(
                f"restore {model.name}: saved after {batches} batches of an epoch, expected a multiple of "
                f"steps_per_execution={model.steps_per_execution}. Compile the model with steps_per_execution=1."
            )
        self._model = model
        self._watch = watch
        self._left = batches
        self._metrics = metrics
        self._train = model.train_function
        model.train_function = self

    def __call__(self, iterator: Any) -> Any:
        """Count one execution, or leave and let the model train: the metrics, as a training function returns them."""
        model, metrics = self._model, self._metrics
        self._watch(iterator)
        if not self._left:
            self.close()
            return self._train(iterator)
        if metrics is not None:
            if len(model.metrics_variables) < len(metrics):  # Keras makes them in the first step otherwise
                model._symbolic_build(data_batch=iterator.element_spec)  # noqa: SLF001  # has no public name
            assign_variables(model.metrics_variables, metrics, tree="metrics")
            self._metrics = None
        self._left -= model.steps_per_execution
        return model.get_metrics_result()

    def close(self) -> None:
        """Give the model its function back. Idempotent."""
        if self._model.train_function is self:
            self._model.train_function = self._train
