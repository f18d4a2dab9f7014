"""Who reads what: positions of the epoch's order for each step of each rank. Pure arithmetic.

Step s of the whole job is positions [start + s*G, start + (s+1)*G) with G = batch_size * world_size; rank r
takes the r-th slice of batch_size. So the samples of a step, and their order over the ranks, depend on G
alone, and a job that resumes with other ranks, workers or batch sizes goes on at the next position.

Guarantees: every rank makes the same number of steps; together they cover every position from ``start`` on
exactly once, except for what ``last`` says of the final, incomplete step.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from s3dlio.errors import OptionError

if TYPE_CHECKING:
    from s3dlio.datasets.order import Int64s

__all__ = ["Last", "StepPlan", "StepRows"]

Last: TypeAlias = Literal["short", "pad", "drop"]
"""What becomes of an incomplete final step.

- "short": its samples are split evenly over the ranks, whose batches differ by at most one sample. With
  fewer samples than ranks, some ranks get a batch of zero rows.
- "pad": it is filled up with the first samples of the epoch's order, so some samples come twice.
- "drop": it is left out.
"""


@dataclasses.dataclass(frozen=True, slots=True)
class StepRows:
    """One batch of one rank."""

    positions: Int64s
    """int64 (rows,): positions in the epoch's order, what to read."""
    keep: int
    """Rows to deliver: all of them, or 0 for an empty batch, which is read only for its shapes."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StepPlan:
    """The steps of one rank from a position to the end of the epoch.

    Raises:
        OptionError: a value out of its range.
    """

    samples: int
    """Samples in an epoch."""
    batch_size: int
    """Samples a rank takes in a step, >= 1."""
    rank: int = 0
    """0 <= rank < world_size."""
    world_size: int = 1
    """Ranks that share the epoch, >= 1."""
    last: Last = "short"
    """What to do with an incomplete final step."""
    start: int = 0
    """First position, 0 <= start <= samples."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise OptionError(f"batch_size: got {self.batch_size}, expected a whole number >= 1.", field="batch_size")
        if self.world_size < 1 or not 0 <= self.rank < self.world_size:
            raise OptionError(
                f"rank {self.rank} of world_size {self.world_size}: expected 0 <= rank < world_size.", field="rank"
            )
        if self.last not in {"short", "pad", "drop"}:
            raise OptionError(f"last: got {self.last!r}, expected 'short', 'pad' or 'drop'.", field="last")
        if not 0 <= self.start <= self.samples:
            raise OptionError(f"start: got {self.start}, expected 0 to {self.samples}.", field="start")

    @property
    def global_batch(self) -> int:
        """Samples that all ranks take together in a step."""
        return self.batch_size * self.world_size

    @property
    def steps(self) -> int:
        """Steps until the end of the epoch, the same for every rank."""
        left = self.samples - self.start
        return left // self.global_batch if self.last == "drop" else -(-left // self.global_batch)

    def rows(self, step: int) -> StepRows:
        """What this rank reads in step ``step`` of ``steps``."""
        begin = self.start + step * self.global_batch
        left = self.samples - begin
        if left >= self.global_batch or self.last == "pad":
            low = begin + self.rank * self.batch_size
            return StepRows(np.arange(low, low + self.batch_size, dtype=np.int64) % self.samples, self.batch_size)
        low, high = (begin + left * r // self.world_size for r in (self.rank, self.rank + 1))
        if low == high:
            return StepRows(np.array([begin], np.int64), 0)
        return StepRows(np.arange(low, high, dtype=np.int64), high - low)

    def position_after(self, steps: int) -> int:
        """The first position that no rank has taken after ``steps`` steps."""
        return min(self.start + steps * self.global_batch, self.samples)
