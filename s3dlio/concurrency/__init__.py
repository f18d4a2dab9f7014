"""Threads, locks and processes: the only floor that imports threading, queue or multiprocessing.

Guarantees: whoever creates a thing here closes it; every wait is woken by close; nothing polls.
"""

from threading import Event, Lock, RLock, get_ident

from s3dlio.concurrency.calls import Calls
from s3dlio.concurrency.detached import Detached, Race, TooManyLeftError
from s3dlio.concurrency.drain import Drain
from s3dlio.concurrency.epochs import EpochTickets
from s3dlio.concurrency.exiting import ended_by_interrupt, skip_destructors
from s3dlio.concurrency.read_ahead import Group, ReadAhead
from s3dlio.concurrency.signals import in_main_thread, wait_for
from s3dlio.concurrency.tally import Tally
from s3dlio.concurrency.throttle import Throttle

__all__ = [
    "Calls",
    "Detached",
    "Drain",
    "EpochTickets",
    "Event",
    "Group",
    "Lock",
    "RLock",
    "Race",
    "ReadAhead",
    "Tally",
    "Throttle",
    "TooManyLeftError",
    "ended_by_interrupt",
    "get_ident",
    "in_main_thread",
    "skip_destructors",
    "wait_for",
]
