"""The torch IterableDataset over object storage: batches, in order, with resume.

Translates what the core loader gives; order, sharding, resume and reading are the core's.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from torch.utils.data import IterableDataset, get_worker_info

from s3dlio.errors import StateError
from s3dlio_torch.map_dataset import open_for_workers
from s3dlio_torch.ranks import LateLoader
from s3dlio_torch.tensors import to_tensors
from s3dlio_torch.workers import WorkerShare

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    import s3dlio
    from s3dlio.storage import StorageOptions

__all__ = ["S3IterableDataset"]


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
        format, fields, pattern, storage_options, filesystem: see ``s3dlio.dataset``.

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
        filesystem: object | None = None,
    ) -> None:
        self.data = open_for_workers(
            uri, format=format, fields=fields, pattern=pattern, storage_options=storage_options, filesystem=filesystem
        )
        options: dict[str, Any] = {
            "batch_size": batch_size,
            "shuffle": shuffle,
            "seed": seed,
            "drop_last": drop_last,
            "last": last,
            "max_in_flight": max_in_flight,
            "prefetch_bytes": prefetch_bytes,
        }
        self._late = LateLoader(self.data, rank=rank, world_size=world_size, options=options)
        self._share = WorkerShare()
        self._late.preview()  # a wrong option is an error here, not in a worker

    @property
    def loader(self) -> s3dlio.DataLoader:
        """The core loader underneath; once it has been asked for, its rank is settled."""
        return self._late.loader

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The batches of the next epoch, or of the rest of a loaded one; in a worker, its share of them."""
        worker = get_worker_info()
        if worker is not None:
            return map(to_tensors, self._share.batches(self.loader, worker))
        return map(to_tensors, self._share.unshared(self.loader))

    def __len__(self) -> int:
        """Batches of a whole epoch: torch warns of an iterable that gives more than its length."""
        return dataclasses.replace(self._late.preview().plan, start=0).steps

    def set_epoch(self, epoch: int) -> None:
        """Begin with this epoch at the next iteration. Not needed in plain loops."""
        self.loader.set_epoch(epoch)
        self._share.announce(self.loader)

    @property
    def batches_left(self) -> int:
        """Batches of the next iteration: less than ``len`` after a state from the middle of an epoch was loaded."""
        return len(self.loader) if self._share.newest_epoch is None else len(self)

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
            return self._share.state(self.loader, worker)
        newest = self._share.newest_epoch
        if newest is not None and batches is None:
            raise StateError(
                "state of S3IterableDataset: its worker processes run ahead of the training loop, expected the number "
                "of batches used. Use s3dlio_torch.DataLoader, or pass batches=."
            )
        if newest is not None and newest != self.loader.epoch:
            self.loader.set_epoch(newest)
        return self.loader.state_dict(batches=batches)

    def next_state_dict(self) -> dict[str, Any]:
        """The position at which the next iteration of worker processes begins."""
        newest = self._share.newest_epoch
        return self.loader.state_dict(batches=0) | ({} if newest is None else {"epoch": newest + 1, "position": 0})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on after the last batch used when ``state`` was taken, by any framework.

        Raises:
            StateError: as ``s3dlio.DataLoader.load_state_dict``.
        """
        self._share.load(self.loader, state, get_worker_info())
