"""Epoch numbers for worker processes that cannot ask their parent.

A framework that starts fresh worker processes for every epoch (torch's DataLoader) tells each of them a
number that is the same for all workers of one epoch and as a rule new for the next, but not which epoch it is.
``EpochTickets`` turns that token into the epoch's number, the same one in every worker.

It is a small file without a name: inherited on fork, duplicated on spawn, gone when the last process ends; nothing
that a killed run could leave behind. Processes that train side by side (ranks) may have inherited the same one, so
every record has an owner, the training process, and the others' records do not count.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import struct
import tempfile
import weakref
from multiprocessing.context import get_spawning_popen
from multiprocessing.reduction import DupFd
from typing import Any, NamedTuple

__all__ = ["EpochTickets"]

_RECORD = struct.Struct("<qqqqq")  # owner, token, holder, epoch, position
_ANNOUNCED = -(2**63)
"""Token of a record by which the parent sets where the next epoch begins."""
_TAIL = 2048
"""Records that are looked at, the newest: more than the workers of any one epoch."""


class _Record(NamedTuple):
    owner: int  # pid of the training process
    token: int
    holder: int
    epoch: int
    position: int

    @property
    def begins(self) -> tuple[int, int]:
        return self.epoch, self.position


class EpochTickets:
    """Gives each token an epoch: the one after the newest, on its first sight by any process.

    Processes: any, on one machine; one thread in each, since POSIX record locks exclude only processes.
    """

    def __init__(self) -> None:
        self._own(_nameless_file())

    def claim(self, token: int, holder: int, *, first: tuple[int, int], resumed: bool = False) -> tuple[int, int]:
        """The epoch of ``token`` and the position it begins at: the same for all workers of this training process.

        A holder that claims a token again gets the next epoch: somebody seeds the tokens alike.

        Args:
            token: a number that all workers of one epoch share, -2**63 < token < 2**63.
            holder: number of the worker.
            first: epoch and position of the first token of all.
            resumed: take ``first`` for a new token whatever came before: it was loaded from a saved state.
        """
        parent = multiprocessing.parent_process()
        owner = os.getpid() if parent is None or parent.pid is None else parent.pid
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            known = self._records(owner)
            begins = first
            if known and not resumed:
                announced = known[-1].token == _ANNOUNCED
                begins = known[-1].begins if announced else (max(record.epoch for record in known) + 1, 0)
            same = [record for record in known if record.token == token]
            if same and (same[-1].epoch, holder) not in {(record.epoch, record.holder) for record in same}:
                begins = same[-1].begins
            self._append(_Record(owner, token, holder, *begins))
            return begins
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def announce(self, epoch: int, position: int) -> None:
        """The next new token gets this epoch, from this position; workers that live already hear of it, too."""
        fcntl.lockf(self._fd, fcntl.LOCK_EX)
        try:
            self._append(_Record(os.getpid(), _ANNOUNCED, 0, epoch, position))
        finally:
            fcntl.lockf(self._fd, fcntl.LOCK_UN)

    @property
    def newest(self) -> int | None:
        """The newest epoch that this process's workers claimed; None if none, or none since an announcement."""
        known = self._records(os.getpid())
        return max(record.epoch for record in known) if known and known[-1].token != _ANNOUNCED else None

    def _append(self, record: _Record) -> None:
        os.pwrite(self._fd, _RECORD.pack(*record), os.fstat(self._fd).st_size)

    def _records(self, owner: int) -> list[_Record]:
        """The owner's newest records, oldest first, from the last announcement on."""
        size = os.fstat(self._fd).st_size
        begin = max(0, size - _TAIL * _RECORD.size)
        read = map(_Record._make, _RECORD.iter_unpack(os.pread(self._fd, size - begin, begin)))
        found = [record for record in read if record.owner == owner]
        announced = [at for at, record in enumerate(found) if record.token == _ANNOUNCED]
        return found[announced[-1] :] if announced else found

    def _own(self, fd: int) -> None:
        self._fd = fd
        weakref.finalize(self, os.close, fd)  # frees this process's handle; other processes keep theirs

    def __getstate__(self) -> dict[str, Any]:
        # on its way to a spawned child the file is shared; any other copy starts its own count
        return {"fd": DupFd(self._fd) if get_spawning_popen() is not None else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._own(_nameless_file() if state["fd"] is None else state["fd"].detach())


def _nameless_file() -> int:
    if hasattr(os, "memfd_create"):  # needs no directory that can be written to
        return os.memfd_create("s3dlio-epochs")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
