"""The batches of one epoch, read ahead: plans steps, fills slots, hands them over in order.

Owns: the threads of a running epoch. Must not know: saved states, epochs before or after.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3dlio.concurrency import ReadAhead
from s3dlio.errors import FormatError
from s3dlio.loader.slot import BatchSlot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from s3dlio.arrays import Batch
    from s3dlio.datasets import Dataset, StepPlan
    from s3dlio.datasets.order import Int64s
    from s3dlio.loader.options import LoaderOptions

__all__ = ["BatchReader"]


class _StepBatch:
    """The group of one step: one task a sample."""

    def __init__(self, data: Dataset, samples: list[int], keep: int, options: LoaderOptions) -> None:
        self._data = data
        self._samples = samples
        self._keep = keep
        self._slot = BatchSlot(len(samples), allocate=options.allocator, name=lambda row: data.uri(samples[row]))
        self.cost = sum(data.manifest.size(sample) for sample in samples)

    def __len__(self) -> int:
        return len(self._samples)

    def run(self, task: int) -> None:
        sample = self._samples[task]
        self._slot.place(task, self._data[sample])

    def batch(self) -> Batch:
        batch = self._slot.batch()
        return batch if self._keep else {field: rows[:0] for field, rows in batch.items()}

    def first_uri(self) -> str:
        return self._data.uri(self._samples[0])


class BatchReader:
    """The batches of ``steps`` of a plan, in order, read ahead within the options' limits.

    An iterator. An error comes at its batch's place in the order, and nothing after it.

    Args:
        data: where samples come from.
        plan: which positions a step takes.
        order: positions -> sample numbers.
        steps: the steps to read.
        options: limits and memory.

    Threads: one consumer; ``close`` from anywhere.
    """

    def __init__(
        self,
        data: Dataset,
        plan: StepPlan,
        order: Callable[[Int64s], Int64s],
        *,
        steps: range,
        options: LoaderOptions,
    ) -> None:
        def groups() -> Iterator[_StepBatch]:
            for step in steps:
                rows = plan.rows(step)
                yield _StepBatch(data, order(rows.positions).tolist(), rows.keep, options)

        self._fields: list[str] | None = None
        self._ahead = ReadAhead(
            groups(),
            threads=min(options.max_in_flight, max(1, len(steps) * plan.batch_size)),
            budget=options.prefetch_bytes,
            max_groups=options.prefetch_batches,
            name="loader",
        )

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        """The next batch, which is the caller's from then on.

        Raises:
            StorageError, FormatError: naming the object.
        """
        group = next(self._ahead)
        try:
            return self._checked(group)
        except BaseException:
            self.close()  # nothing after an error
            raise

    def _checked(self, group: _StepBatch) -> Batch:
        batch = group.batch()
        found = list(batch)
        self._fields = self._fields or found
        if found != self._fields:
            raise FormatError(
                f"read {group.first_uri()}: found fields {', '.join(found)}, expected {', '.join(self._fields)} "
                "as in the batches before. Rewrite the object, or choose fields with fields=.",
                uri=group.first_uri(),
            )
        return batch

    def close(self) -> None:
        """Stop reading and wake the consumer. Idempotent."""
        self._ahead.close()
