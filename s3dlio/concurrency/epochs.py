"""Epoch numbers for worker processes that cannot ask their parent.

A framework that starts fresh worker processes for every epoch (torch's DataLoader) tells each of them a
number that is the same for all workers of one epoch and new for the next, but not which epoch it is.
``EpochTickets`` turns that token into the epoch's number, the same one in every worker.

It is a small unlinked file: inherited on fork, duplicated on spawn, gone when the last process ends; no
name that a killed run could leave behind.
"""

from __future__ import annotations

import fcntl
import os
import struct
import tempfile
import weakref
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from typing import Any

__all__ = ["EpochTickets"]

_RECORD = struct.Struct("<qq")  # token, epoch


class EpochTickets:
    """Gives each token an epoch: the one after the newest, on its first sight by any process.

    Processes: any, on one machine; one thread in each, since POSIX record locks exclude only processes.
    """

    def __init__(self) -> None:
        self._own(_unlinked_file())

    def claim(self, token: int, *, first: int, resumed: bool = False) -> int:
        """The epoch of ``token``: the same one whoever asks, however often.

        Args:
            token: a number that all processes of one epoch share, -2**63 <= token < 2**63.
            first: the epoch of the first token of all.
            resumed: take ``first`` for this token whatever came before: it was loaded from a saved state.
        """
        fd = self._fd
        fcntl.lockf(fd, fcntl.LOCK_EX)
        try:
            known = self._records()
            for seen, epoch in reversed(known):
                if seen == token:
                    return epoch
            epoch = known[-1][1] + 1 if known and not resumed else first
            os.pwrite(fd, _RECORD.pack(token, epoch), len(known) * _RECORD.size)
            return epoch
        finally:
            fcntl.lockf(fd, fcntl.LOCK_UN)

    @property
    def newest(self) -> int | None:
        """The epoch given last; None if no process has asked yet."""
        known = self._records()
        return known[-1][1] if known else None

    def _records(self) -> list[tuple[int, int]]:
        fd = self._fd
        size = os.fstat(fd).st_size // _RECORD.size * _RECORD.size
        return [(token, epoch) for token, epoch in _RECORD.iter_unpack(os.pread(fd, size, 0))]

    def _own(self, fd: int) -> None:
        self._fd = fd
        weakref.finalize(self, os.close, fd)  # frees this process's handle; other processes keep theirs

    def __getstate__(self) -> dict[str, Any]:
        # on its way to a spawned child the file is shared; any other copy starts its own count
        return {"fd": DupFd(self._fd) if get_spawning_popen() is not None else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._own(_unlinked_file() if state["fd"] is None else state["fd"].detach())


def _unlinked_file() -> int:
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
