"""Dividing one rank's batches among torch's worker processes, which know neither each other nor the epoch.

Worker w of k gives batches w, w + k, w + 2k, ...: torch's DataLoader takes them in turns, so their order is that
of one process. torch gives all workers of an epoch one number, which ``EpochTickets`` turns into the epoch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from s3dlio.concurrency import EpochTickets
from s3dlio.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import s3dlio
    from s3dlio.arrays import Batch

__all__ = ["WorkerShare"]

_PASS = 0x5DEECE66D  # odd and large: tells the passes of one worker process apart in its tokens


class WorkerShare:
    """What a dataset remembers for its workers; a copy of it lives in each worker process."""

    def __init__(self) -> None:
        self._tickets = EpochTickets()
        self._passes = 0  # iterations that this worker process has begun
        self._given = 0  # batches of its share that this worker has given in the pass under way
        self._resume: dict[str, int] | None = None  # this worker's entry of a loaded state

    @property
    def newest_epoch(self) -> int | None:
        """The newest epoch that workers have begun; None if they have begun none."""
        return self._tickets.newest

    def batches(self, loader: s3dlio.DataLoader, worker: Any) -> Iterator[Batch]:
        """This worker's share of the next epoch, or of the rest of a loaded one.

        Args:
            loader: of the dataset; its epoch is set.
            worker: what ``torch.utils.data.get_worker_info()`` gave.
        """
        mine, resume = (worker.id, worker.num_workers), self._resume
        token = (worker.seed - worker.id + self._passes * _PASS) % 2**62
        self._passes, self._resume = self._passes + 1, None
        if resume is not None and (resume["id"], resume["workers"]) != mine:
            raise StateError(
                f"load state: saved by worker {resume['id']} of {resume['workers']}, this is worker {mine[0]} of "
                f"{mine[1]}. Use the state of s3dlio_torch.DataLoader, which fits any number."
            )
        here = loader.state_dict(batches=0)
        epoch, position = self._tickets.claim(
            token, mine[0], first=(here["epoch"], here["position"]), resumed=resume is not None
        )
        loader.load_state_dict(here | {"epoch": epoch, "position": position})
        self._given = resume["batches"] if resume else 0
        reader = loader.worker_batches(*mine, skip=self._given)
        try:
            for batch in reader:
                self._given += 1
                yield batch
        finally:
            reader.close()

    def unshared(self, loader: s3dlio.DataLoader) -> Iterator[Batch]:
        """All batches of the next epoch, in this process; the workers of a later one come after it."""
        newest = self.newest_epoch
        if newest is not None:
            loader.set_epoch(newest + 1)
        batches = iter(loader)
        self._tickets.announce(loader.epoch + 1, 0)
        return batches

    def state(self, loader: s3dlio.DataLoader, worker: Any) -> dict[str, Any]:
        """This worker's position: where its pass began, and how many batches it has given since."""
        mine = {"id": worker.id, "workers": worker.num_workers, "batches": self._given}
        return {**loader.state_dict(batches=0), "worker": mine}

    def load(self, loader: s3dlio.DataLoader, state: Mapping[str, Any], worker: Any) -> None:
        """Load a loader's state, or in a worker the one that it gave; raises StateError."""
        rest = dict(state)
        resume = rest.pop("worker", None)
        if resume is not None and worker is None:
            raise StateError("load state: it is that of one worker process. Use the state of s3dlio_torch.DataLoader.")
        loader.load_state_dict(rest)
        self._resume = resume
        if worker is None:
            self.announce(loader)

    def announce(self, loader: s3dlio.DataLoader) -> None:
        """Let the next pass of the workers begin where the loader is, also of those that live already."""
        here = loader.state_dict(batches=0)
        self._tickets.announce(here["epoch"], here["position"])
