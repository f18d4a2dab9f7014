"""The DataLoader: owns epochs and the position that is saved. Nobody else knows what an epoch is.

Guarantees:
- the samples of an epoch and their order are a pure function of (manifest, seed, epoch)
- the state advances when a batch is handed over, not when it is fetched
- a loader that loads a state goes on with exactly the next sample, whatever its ranks, workers or framework
"""

from __future__ import annotations

import dataclasses
import weakref
from typing import TYPE_CHECKING, Any

from s3dlio.arrays import allocate
from s3dlio.datasets import Dataset, epoch_order
from s3dlio.datasets import dataset as open_dataset
from s3dlio.errors import ClosedError, OptionError
from s3dlio.loader.batches import BatchReader
from s3dlio.loader.options import LoaderOptions
from s3dlio.loader.state import LoaderState

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from typing import Self

    from s3dlio.arrays import Allocator, Batch
    from s3dlio.datasets import Last, StepPlan
    from s3dlio.datasets.order import Int64s

__all__ = ["DataLoader"]


class DataLoader:
    """Batches of a dataset, read ahead by threads of this process.

    Iterating it gives the batches of one epoch; iterating it again is the next epoch, and after an error the rest of
    the same one, from the batch that failed. After
    ``load_state_dict`` the first iteration is the rest of the saved epoch. A batch is a dict of arrays
    (batch, *field shape) in memory that is the caller's for good; a field whose shapes differ between the
    samples is a list of arrays instead.

    Args:
        dataset: what ``s3dlio.dataset`` gave, or a URI for it.
        batch_size: samples that this rank takes in a step.
        shuffle: permute the samples, anew in every epoch.
        seed: of the permutation; the same on all ranks.
        drop_last: leave out an incomplete final batch; short for ``last="drop"``.
        rank: which slice of each step is this loader's.
        world_size: ranks that share the epoch. All of them make the same number of steps.
        last: "short", "pad" or "drop" the final step; by default "short", and "pad" with several ranks.
        max_in_flight: requests at the same time, a thread each.
        prefetch_bytes: bytes of objects read ahead of the consumer.
        allocator: gives the memory of batches, for pinned memory and the like.

    Raises:
        OptionError: a value out of its range.

    Threads: one consumer; ``close`` from anywhere. In a forked child, make a new iterator.
    """

    def __init__(
        self,
        dataset: Dataset | str | os.PathLike[str],
        *,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        last: Last | None = None,
        max_in_flight: int = 32,
        prefetch_bytes: int = 256 << 20,
        allocator: Allocator = allocate,
    ) -> None:
        if drop_last and last not in {None, "drop"}:
            raise OptionError(f"drop_last=True with last={last!r}: expected one of them. Drop drop_last.", field="last")
        if last is None:
            last = "drop" if drop_last else "short" if world_size == 1 else "pad"
        self._options = LoaderOptions(
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            last=last,
            rank=rank,
            world_size=world_size,
            max_in_flight=max_in_flight,
            prefetch_bytes=prefetch_bytes,
            allocator=allocator,
        )
        self.dataset: Dataset = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
        self._epoch = 0
        self._start = 0  # position of the first batch of this iteration
        self._batches = 0  # handed over since then
        self._running: weakref.ref[_Iteration] | None = None
        self._closed = False

    @property
    def epoch(self) -> int:
        """The epoch of the running iteration; between iterations, that of the next one."""
        return self._epoch

    @property
    def plan(self) -> StepPlan:
        """The steps of the running iteration; between iterations, those of the next one."""
        return self._options.steps(samples=len(self.dataset), start=self._start)

    def __len__(self) -> int:
        """Batches of the running iteration; between iterations, of the next one: what is left of its epoch."""
        return self.plan.steps

    def __iter__(self) -> Iterator[Batch]:
        """The batches of the next epoch, or of the rest of a loaded one. Ends an iteration that still runs."""
        if self._closed:
            raise ClosedError("iterate DataLoader: closed, expected open. Make a new one.")
        self._stop()
        if self._batches:
            self._begin(self._epoch + 1)
        iteration = _Iteration(
            self.worker_batches(0, 1), on_batch=self._handed_over, on_error=self._failed, on_end=self._ended
        )
        self._running = weakref.ref(iteration)
        if self._closed:  # by another thread, which may not have seen this iteration
            iteration.close()
        return iteration

    def worker_batches(self, worker: int, workers: int, *, skip: int = 0) -> BatchReader:
        """This worker's share of the next iteration: batches ``worker``, ``worker + workers``, ...

        For processes that divide one rank's batches among them; the loader's own position does not advance.

        Args:
            worker: 0 <= worker < workers.
            workers: processes that share the batches.
            skip: batches of this worker that were already handed over.
        """
        plan = self.plan
        steps = range(worker + skip * workers, plan.steps, workers)
        return BatchReader(self.dataset, plan, self._order(), steps=steps, options=self._options)

    def step_samples(self, step: int) -> list[int]:
        """Sample numbers of the rows of batch ``step`` of the running iteration.

        For consumers that name the object behind a row; ``dataset.uri`` does.
        """
        samples: list[int] = self._order()(self.plan.rows(step).positions).tolist()
        return samples

    def _order(self) -> Callable[[Int64s], Int64s]:
        options = self._options
        return epoch_order(len(self.dataset), shuffle=options.shuffle, seed=options.seed, epoch=self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Begin with this epoch, from its first sample, at the next iteration. Not needed in plain loops."""
        if not isinstance(epoch, int) or epoch < 0:
            raise OptionError(f"epoch: got {epoch!r}, expected a whole number >= 0.", field="epoch")
        self._stop()
        self._begin(epoch)

    def _begin(self, epoch: int, position: int = 0) -> None:
        self._epoch, self._start, self._batches = epoch, position, 0

    def state_dict(self, *, batches: int | None = None) -> dict[str, Any]:
        """The position after the batches handed over so far, JSON-serialisable, some 300 bytes.

        Args:
            batches: pretend that this many batches of the running iteration were handed over. For
                consumers that take batches from here before they are used, such as worker processes.

        Returns: a dict for ``load_state_dict`` of a loader over the same data, with the same seed and
            shuffle, and any rank, world size, batch size or framework.
        """
        plan = self.plan
        taken = self._batches if batches is None else batches
        if not 0 <= taken <= plan.steps:
            raise OptionError(f"batches: got {taken}, expected 0 to {plan.steps}.", field="batches")
        done = taken == plan.steps
        return dataclasses.replace(
            self._identity(),
            epoch=self._epoch + done,
            position=0 if done else plan.position_after(taken),
        ).to_json()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on after the last batch that was handed over when ``state`` was taken.

        Raises:
            StateError: not a state, or one of other data, another seed or shuffle.
        """
        loaded = LoaderState.from_json(state)
        loaded.check_fits(self._identity())
        self._stop()
        self._begin(loaded.epoch, loaded.position)
        if not len(self):  # last="drop", and what is left is no full step
            self._begin(loaded.epoch + 1)

    def _identity(self) -> LoaderState:
        return LoaderState(
            fingerprint=self.dataset.manifest.fingerprint,
            samples=len(self.dataset),
            shuffle=self._options.shuffle,
            seed=self._options.seed,
            epoch=self._epoch,
            position=0,
        )

    def close(self) -> None:
        """End a running iteration and its threads. Idempotent; the position can still be read."""
        self._closed = True
        self._stop()

    def _stop(self) -> None:
        running = self._running() if self._running is not None else None
        self._running = None
        if running is not None:
            running.close()

    def _handed_over(self, iteration: _Iteration) -> None:
        # one that was ended from another thread while it waited does not count any more
        if self._running is not None and self._running() is iteration:
            self._batches += 1

    def _failed(self, iteration: _Iteration) -> None:
        # iterating again goes on with the batch that could not be read, not with another epoch
        if self._running is not None and self._running() is iteration:
            self._running = None
            self._begin(self._epoch, self.plan.position_after(self._batches))

    def _ended(self) -> None:
        self._running = None
        self._begin(self._epoch + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_running": None}


class _Iteration:
    """One pass over a loader. Dropping it ends its threads, as leaving a ``for`` loop does."""

    def __init__(
        self,
        batches: BatchReader,
        *,
        on_batch: Callable[[_Iteration], None],
        on_error: Callable[[_Iteration], None],
        on_end: Callable[[], None],
    ) -> None:
        self._batches = batches
        self._on_batch = on_batch
        self._on_error = on_error
        self._on_end: Callable[[], None] | None = on_end

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        try:
            batch = next(self._batches)
        except StopIteration:
            on_end, self._on_end = self._on_end, None
            if on_end is not None:
                on_end()
            raise
        except ClosedError:  # misuse, or ended from another thread: no batch failed
            self.close()
            raise
        except BaseException:
            self.close()
            self._on_error(self)
            raise
        self._on_batch(self)
        return batch

    def close(self) -> None:
        """End the threads and wake the consumer. Idempotent."""
        self._batches.close()

    def __del__(self) -> None:
        self.close()
