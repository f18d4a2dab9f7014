"""What a loader may be told. Validated when it is made; nothing here reads the environment."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from s3dlio.arrays import allocate
from s3dlio.datasets import StepPlan
from s3dlio.errors import OptionError

if TYPE_CHECKING:
    from s3dlio.arrays import Allocator
    from s3dlio.datasets import Last

__all__ = ["LoaderOptions"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoaderOptions:
    """Batches, order and limits of a ``DataLoader``.

    Raises:
        OptionError: a value out of its range, named by field.
    """

    batch_size: int
    """Samples that this rank takes in a step, >= 1."""
    shuffle: bool = False
    """Permute the samples, anew in every epoch."""
    seed: int = 0
    """Of the permutation. The same on all ranks."""
    last: Last
    """What becomes of an incomplete final step: "short", "pad" or "drop"; see ``StepPlan``."""
    rank: int = 0
    """Which slice of each step this loader takes, 0 <= rank < world_size."""
    world_size: int = 1
    """Ranks that share the epoch."""
    max_in_flight: int = 32
    """Requests at the same time, one thread each. More hide latency better."""
    prefetch_bytes: int = 256 << 20
    """Bytes of objects in batches that are being filled or wait for the consumer. One larger batch still runs."""
    prefetch_batches: int = 64
    """Batches being filled or waiting, whatever their size."""
    allocator: Allocator = allocate
    """Gives the memory of batches. The default is Arrow's pool, 64-byte aligned."""

    def __post_init__(self) -> None:
        for name in (
            "batch_size",
            "rank",
            "world_size",
            "max_in_flight",
            "prefetch_bytes",
            "prefetch_batches",
            "seed",
        ):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise OptionError(f"{name}: got {value!r}, expected a whole number.", field=name)
            if name not in {"rank", "seed"} and value < 1:
                raise OptionError(f"{name}: got {value}, expected a whole number >= 1.", field=name)
        if not isinstance(self.shuffle, bool):
            raise OptionError(f"shuffle: got {self.shuffle!r}, expected True or False.", field="shuffle")
        self.steps(samples=0, start=0)

    def steps(self, *, samples: int, start: int) -> StepPlan:
        """The steps of this rank from position ``start`` to the end of an epoch of ``samples``."""
        return StepPlan(
            samples=samples,
            batch_size=self.batch_size,
            rank=self.rank,
            world_size=self.world_size,
            last=self.last,
            start=start,
        )
