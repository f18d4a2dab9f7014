"""What stands behind a tf.data.Dataset of ours: the passes over a core loader, one at a time.

Owns: which pass of tf.data is which epoch, and the check that a batch is what ``element_spec`` promised. Must
not know: how tf.data asks. Order, resume and reading are the core's.

Guarantees:
- a pass begins when tf.data asks for its first batch; it is the next epoch, and ends the pass before it
- a batch that does not fit the specification is an error that names the object
Threads: tf.data's. A pass that was ended while a thread of tf.data waits in it raises there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

import s3dlio
from s3dlio.errors import ClosedError, FormatError
from s3dlio_tf.exit_gate import ExitGate
from s3dlio_tf.spec import element_spec
from s3dlio_tf.tensors import from_array, tensor_dtype, to_ragged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from s3dlio.arrays import Array, Batch

__all__ = ["Feed"]


class Feed:
    """A core loader as tf.data uses it.

    Args:
        data: what to read. Its first sample is read here, once, for shapes and dtypes.
        options: of ``s3dlio.DataLoader``.
        state: where the first pass begins; None for the first sample of epoch 0.

    Raises:
        FormatError: a dtype that TensorFlow does not have.
        StateError: the state does not fit.
    """

    def __init__(self, data: s3dlio.Dataset, options: Mapping[str, Any], state: Mapping[str, Any] | None) -> None:
        self._options = dict(options)
        self.loader = s3dlio.DataLoader(data, **options)
        self.full_steps = len(self.loader)
        if state is not None:
            self.loader.load_state_dict(dict(state))
        self.whole = len(self.loader) == self.full_steps
        self.spec = element_spec(data, self.loader.plan)
        self._gate = ExitGate(self.loader.close)
        self._number = 0
        self._given = 0  # batches of the running pass
        self._running: tuple[int, Iterator[Batch]] = (0, iter(()))

    def begin(self) -> np.ndarray[Any, Any]:
        """Begin the next epoch, or the rest of a loaded one: int64 (number of the pass, its batches)."""
        with self._gate.entered():
            batches = iter(self.loader)
            self._number, self._given = self._number + 1, 0
            self._running = (self._number, batches)
            return np.array([self._number, len(self.loader)], np.int64)

    def next(self, number: tf.Tensor, step: tf.Tensor) -> list[Any]:
        """Batch ``step`` of pass ``number`` as tensors, in the order of ``spec``.

        Raises:
            StorageError, FormatError: naming the object.
            ClosedError: another pass has begun.
        """
        with self._gate.entered():
            batch = self._next(int(number))
            self._given = int(step) + 1
            return [self._tensor(field, batch, int(step)) for field in self.spec]

    def _next(self, number: int) -> Batch:
        running, batches = self._running
        try:
            if running == number:
                return next(batches)
        except ClosedError:
            if self._running[0] == number:
                raise
        raise ClosedError(
            f"read {self.loader.dataset.uri(0)} and others: another iterator of this dataset has begun, "
            "expected one at a time. Make a second dataset."
        )

    def upcoming(self) -> dict[str, Any]:
        """The state from which the next pass will go."""
        return self.loader.state_dict(batches=len(self.loader) if self._given else 0)

    def load(self, state: Mapping[str, Any]) -> None:
        """Begin the next pass from ``state``."""
        self.loader.load_state_dict(dict(state))
        self._given = 0

    def position(self, start: Mapping[str, Any], batches: int) -> dict[str, Any]:
        """The state after ``batches`` batches from ``start``, however many epochs that is."""
        ruler = s3dlio.DataLoader(self.loader.dataset, **self._options)
        ruler.load_state_dict(dict(start))
        while batches > len(ruler):
            batches -= len(ruler)
            ruler.set_epoch(ruler.epoch + 1)
        return ruler.state_dict(batches=batches)

    def _tensor(self, field: str, batch: Batch, step: int) -> Any:
        spec, rows = self.spec[field], batch.get(field)
        if isinstance(spec, tf.RaggedTensorSpec) and rows is not None:
            return to_ragged(rows)
        if isinstance(rows, np.ndarray) and self._fits(spec, rows[:0]):
            return from_array(rows)
        raise self._misfit(field, rows, step)

    def _fits(self, spec: tf.TensorSpec, rows: Array) -> bool:
        return spec.shape[1:] == rows.shape[1:] and tensor_dtype(rows.dtype) == spec.dtype

    def _misfit(self, field: str, rows: Array | list[Array] | None, step: int) -> FormatError:
        """The error that names the first row's object which is not like the first of the dataset."""
        spec, row, found = self.spec[field], 0, "missing"
        if rows is not None:
            row = next((number for number, value in enumerate(rows) if not self._fits(spec, value[None])), 0)
            found = f"{rows[row].dtype} {rows[row].shape}"
        uri, first = (self.loader.dataset.uri(index) for index in (self.loader.step_samples(step)[row], 0))
        return FormatError(
            f"read {uri}: field {field!r} is {found}, expected {spec.dtype.name} {tuple(spec.shape[1:])} as in "
            f"{first}. Give the objects one shape, or leave the field out with fields=; only raw objects may differ.",
            uri=uri,
        )
