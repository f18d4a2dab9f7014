"""torch datasets over object storage: batches as an IterableDataset, samples as a map-style Dataset.

Translates what the core loader gives; order, sharding, resume and reading are the core's.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset, IterableDataset, get_worker_info

import s3dlio
from s3dlio.concurrency import EpochTickets
from s3dlio.dataset import list_for_workers
from s3dlio.errors import StateError
from s3dlio_torch.ranks import current_rank
from s3dlio_torch.tensors import to_tensors

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from s3dlio.storage import StorageOptions

__all__ = ["S3IterableDataset", "S3MapDataset"]

_PASS = 0x5DEECE66D  # odd and large: tells the passes of one worker process apart in its tokens


class S3IterableDataset(IterableDataset[dict[str, Any]]):
    """Batches of the samples below a URI, for ``torch.utils.data.DataLoader(dataset, batch_size=None)``.

    Works on every scheme. The batches and their order are the same for any ``num_workers``; each iteration
    is the next epoch, also in worker processes. The prefix is listed here, once; workers share the listing.

    Args:
        uri: a directory such as ``"s3://bucket/train/"``.
        batch_size: samples that this rank takes in a step.
        shuffle, seed, drop_last, last, max_in_flight, prefetch_bytes: see ``s3dlio.DataLoader``.
        rank, world_size: this process's share. By default those of ``torch.distributed`` or of torchrun's
            variables, asked when the first iteration begins.
        format, fields, pattern, storage_options: see ``s3dlio.dataset``.

    Raises:
        NotFoundError, AccessError, OptionError: as ``s3dlio.dataset`` and ``s3dlio.DataLoader``.
    """

    def __init__(
        self,
        uri: str,
        *,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        drop_last: bool = False,
        last: s3dlio.Last | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        max_in_flight: int = 32,
        prefetch_bytes: int = 256 << 20,
        format: str | None = None,
        fields: Iterable[str] | None = None,
        pattern: str | None = None,
        storage_options: StorageOptions | Mapping[str, Any] | None = None,
    ) -> None:
        self.data = _open(uri, format=format, fields=fields, pattern=pattern, storage_options=storage_options)
        self._options: dict[str, Any] = {
            "batch_size": batch_size,
            "shuffle": shuffle,
            "seed": seed,
            "drop_last": drop_last,
            "last": last,
            "max_in_flight": max_in_flight,
            "prefetch_bytes": prefetch_bytes,
        }
        self._shard = (rank, world_size)
        self._loader: s3dlio.DataLoader | None = None
        self._tickets = EpochTickets()
        self._passes = 0  # iterations that this worker process has begun
        self._given = 0  # batches of its share that this worker has given in the pass under way
        self._resume: dict[str, int] | None = None  # a worker's entry of a loaded state
        s3dlio.DataLoader(self.data, **self._options)  # a wrong option is an error here, not in a worker

    @property
    def loader(self) -> s3dlio.DataLoader:
        """The core loader underneath, made when it is first needed: the rank must be known by then."""
        if self._loader is None:
            found = current_rank()
            rank, world_size = (found[i] if given is None else given for i, given in enumerate(self._shard))
            self._shard = (rank, world_size)
            self._loader = s3dlio.DataLoader(self.data, rank=rank, world_size=world_size, **self._options)
        return self._loader

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The batches of the next epoch, or of the rest of a loaded one; in a worker, its share of them."""
        worker = get_worker_info()
        if worker is None:
            return map(to_tensors, self.loader)
        return self._share(worker.id, worker.num_workers, token=worker.seed - worker.id)

    def _share(self, worker: int, workers: int, *, token: int) -> Iterator[dict[str, Any]]:
        loader, resume = self.loader, self._resume
        token = (token + self._passes * _PASS) % 2**62
        self._passes, self._resume = self._passes + 1, None
        if resume is not None and (resume["id"], resume["workers"]) != (worker, workers):
            raise StateError(
                f"load state: saved by worker {resume['id']} of {resume['workers']}, this is worker {worker} of "
                f"{workers}. Use the state of s3dlio_torch.DataLoader, which fits any number."
            )
        epoch = self._tickets.claim(token, first=loader.epoch, resumed=resume is not None)
        if epoch != loader.epoch:
            loader.set_epoch(epoch)
        self._given = resume["batches"] if resume else 0
        batches = loader.worker_batches(worker, workers, skip=self._given)
        try:
            for batch in batches:
                self._given += 1
                yield to_tensors(batch)
        finally:
            batches.close()

    def __len__(self) -> int:
        """Batches of a whole epoch: torch warns of an iterable that gives more than its length."""
        return dataclasses.replace(self.loader.plan, start=0).steps

    def set_epoch(self, epoch: int) -> None:
        """Begin with this epoch at the next iteration. Not needed in plain loops."""
        self.loader.set_epoch(epoch)
        self._tickets = EpochTickets()

    @property
    def batches_left(self) -> int:
        """Batches of the next iteration: less than ``len`` after a state from the middle of an epoch was loaded."""
        return len(self.loader) if self._tickets.newest is None else len(self)

    def state_dict(self, *, batches: int | None = None) -> dict[str, Any]:
        """The position as JSON; see ``s3dlio.DataLoader.state_dict``.

        In a worker process, the position of that worker's share.

        Args:
            batches: how many batches of the running epoch were used. Needed with ``num_workers`` > 0, whose
                worker processes run ahead; ``s3dlio_torch.DataLoader`` counts them for you.

        Raises:
            StateError: workers have iterated and ``batches`` is not given.
        """
        worker = get_worker_info()
        if worker is not None:
            mine = {"id": worker.id, "workers": worker.num_workers, "batches": self._given}
            return {**self.loader.state_dict(batches=0), "worker": mine}
        newest = self._tickets.newest
        if newest is not None and batches is None:
            raise StateError(
                "state of S3IterableDataset: its worker processes run ahead of the training loop, expected the number "
                "of batches used. Use s3dlio_torch.DataLoader, or pass batches=."
            )
        if newest is not None and newest != self.loader.epoch:
            self.loader.set_epoch(newest)
        return self.loader.state_dict(batches=batches)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the last batch used when ``state`` was taken, by any framework.

        Raises:
            StateError: as ``s3dlio.DataLoader.load_state_dict``.
        """
        rest = dict(state)
        resume = rest.pop("worker", None)
        self.loader.load_state_dict(rest)
        self._resume = resume
        if get_worker_info() is None:
            self._tickets = EpochTickets()

    def __getstate__(self) -> dict[str, Any]:
        # a spawned worker has no process group to ask: the rank is settled here
        return {**self.__dict__, "_loader": self.loader}


class S3MapDataset(Dataset[dict[str, Any]]):
    """The samples below a URI by number, for a DataLoader that batches, with samplers of torch's own.

    A batch of indices is read concurrently. For training in order of its own, with resume,
    ``S3IterableDataset`` is faster.

    Args:
        uri: a directory such as ``"s3://bucket/train/"``.
        format, fields, pattern, storage_options: see ``s3dlio.dataset``.

    Raises:
        NotFoundError, AccessError, OptionError: as ``s3dlio.dataset``.
    """

    def __init__(
        self,
        uri: str,
        *,
        format: str | None = None,
        fields: Iterable[str] | None = None,
        pattern: str | None = None,
        storage_options: StorageOptions | Mapping[str, Any] | None = None,
    ) -> None:
        self.data = _open(uri, format=format, fields=fields, pattern=pattern, storage_options=storage_options)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Sample ``index`` as field -> tensor. One request."""
        return to_tensors(self.data[index])

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        """The samples of ``indices``, read concurrently; torch's DataLoader asks a batch at a time."""
        return [to_tensors(sample) for sample in self.data.read_many(indices)]


def _open(uri: str, *, pattern: str | None, storage_options: Any, **rest: Any) -> s3dlio.Dataset:
    manifest = list_for_workers(uri, pattern=pattern, storage_options=storage_options)
    return s3dlio.dataset(uri, manifest=manifest, storage_options=storage_options, **rest)
