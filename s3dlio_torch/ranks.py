"""Which rank of how many this process is, as torch knows it."""

from __future__ import annotations

import os

import torch.distributed

__all__ = ["current_rank"]


def current_rank() -> tuple[int, int]:
    """(rank, world size): of the default process group if there is one, else of torchrun's variables, else (0, 1)."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
