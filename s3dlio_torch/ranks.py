"""Which rank of how many this process is, as torch knows it, and the core loader made once that is known."""

from __future__ import annotations

import os
from typing import Any

import torch.distributed
from torch.utils.data import get_worker_info

import s3dlio

__all__ = ["LateLoader", "current_rank"]


def current_rank() -> tuple[int, int]:
    """(rank, world size): of the default process group if there is one, else of torchrun's variables, else (0, 1)."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


class LateLoader:
    """A core loader that is made when it is first needed: the process group may come after the dataset.

    Args:
        data: its dataset.
        rank, world_size: this process's share; None asks ``current_rank`` when the loader is made.
        options: its other options.
    """

    def __init__(
        self, data: s3dlio.Dataset, *, rank: int | None, world_size: int | None, options: dict[str, Any]
    ) -> None:
        self._data = data
        self._given = (rank, world_size)
        self._options = options
        self._parents: tuple[int, int] | None = None  # the rank of the process that this was sent from
        self._begins: dict[str, Any] | None = None  # and where its next iteration begins
        self._made: s3dlio.DataLoader | None = None

    @property
    def loader(self) -> s3dlio.DataLoader:
        """The loader; from now on its rank is settled."""
        if self._made is None:
            self._made = self.preview()
            if self._begins is not None:
                self._made.load_state_dict(self._begins)
        return self._made

    def preview(self) -> s3dlio.DataLoader:
        """The loader as it would be now, without settling anything."""
        if self._made is not None:
            return self._made
        rank, world_size = self._rank()
        return s3dlio.DataLoader(self._data, rank=rank, world_size=world_size, **self._options)

    def _rank(self) -> tuple[int, int]:
        # a spawned worker has no process group to ask, so it is told; a spawned rank asks for itself
        told = self._parents if get_worker_info() is not None else None
        found = told or current_rank()
        rank, world_size = (found[at] if given is None else given for at, given in enumerate(self._given))
        return rank, world_size

    def __getstate__(self) -> dict[str, Any]:
        begins = self._begins if self._made is None else self._made.state_dict(batches=0)
        return {**self.__dict__, "_made": None, "_begins": begins, "_parents": self._rank()}
