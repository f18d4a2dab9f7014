"""Threads, locks and processes: the only floor that imports threading, queue or multiprocessing.

Guarantees: whoever creates a thing here closes it; every wait is woken by close; nothing polls.
"""

from threading import Lock

from s3dlio.concurrency.epochs import EpochTickets
from s3dlio.concurrency.read_ahead import Group, ReadAhead

__all__ = ["EpochTickets", "Group", "Lock", "ReadAhead"]
