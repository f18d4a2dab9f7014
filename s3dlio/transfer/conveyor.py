"""Runs the pieces of a transfer on threads, within a memory budget, and counts what they move.

Owns: the numbers of progress and the end of a transfer, by success, first error or Ctrl-C. Must not know: stores.

Guarantees:
- at most ``max_in_flight`` pieces run, holding at most ``_BUDGET_BYTES`` together, unless one alone needs more
- after the first error no piece is begun, and the ones under way stop at their next ``check``, or at once where they
  wait for a ``ReadAhead`` that the conveyor knows
- the callback is called by one thread at a time
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
from typing import TYPE_CHECKING, Any

from s3dlio.concurrency import Lock, ReadAhead
from s3dlio.errors import OptionError
from s3dlio.transfer.result import TransferProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Conveyor", "Piece", "Stopped", "check_in_flight"]

_BUDGET_BYTES = 256 << 20
"""Enough for 16 parts of 8 MiB that are received, or three uploads in parts of 16 MiB; the interpreter and Arrow fit
beside it into 512 MiB."""

_AHEAD = 4
"""Pieces per thread that may be done or under way behind a slow one, before the others wait for it."""


class Stopped(Exception):  # noqa: N818 - no failure: another piece has failed, or the caller has left
    """The transfer is over; the piece that gets this cleans up and says nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """One task for one thread."""

    cost: int
    """Bytes of memory that it takes while it runs."""
    action: Callable[[], None]


class Conveyor:
    """One transfer under way.

    Args:
        callback: told of every step, from the threads that do the work, one call at a time; or None.
        objects: number of objects.
        size: their bytes.
    """

    def __init__(self, callback: Callable[[TransferProgress], object] | None, *, objects: int, size: int) -> None:
        self._callback = callback
        self._lock = Lock()
        self._totals = objects, size
        self._objects_done = 0
        self._bytes_done = 0
        self._stopped = False
        self._readings: set[ReadAhead[Any]] = set()  # its single operations are atomic
        self._error: BaseException | None = None
        self._tell("", whole=False, began=0.0)

    @staticmethod
    def window(max_in_flight: int) -> int:
        """How many pieces may have been taken and not ended: all that were taken before these have ended."""
        return _AHEAD * max_in_flight + 1  # one more waits for room

    @property
    def done(self) -> tuple[int, int]:
        """Whole objects, and bytes handed over, so far."""
        return self._objects_done, self._bytes_done

    def check(self) -> None:
        """Raise Stopped if the transfer is over. Long pieces call this often."""
        if self._stopped:
            raise Stopped

    @contextlib.contextmanager
    def stopping(self, reading: ReadAhead[Any]) -> Iterator[None]:
        """End the wait of who reads from ``reading`` in the block when the transfer is over."""
        self._readings.add(reading)
        try:
            self.check()
            yield
        finally:
            self._readings.discard(reading)

    def moved(self, uri: str, size: int, *, whole: bool, began: float) -> None:
        """``size`` more bytes of the object ``uri`` are at the target, which is ``whole`` with them.

        Args:
            uri: of the source.
            size: bytes.
            whole: whether the object can be seen at the target now.
            began: ``time.perf_counter()`` at the object's begin.
        """
        with self._lock:
            self._objects_done += whole
            self._bytes_done += size
            self._tell(uri, whole=whole, began=began)

    def run(self, pieces: Iterator[Piece], *, max_in_flight: int, tasks: int) -> None:
        """Run all pieces. Returns when all have ended; raises the first error.

        Args:
            pieces: taken as room permits.
            max_in_flight: pieces at a time.
            tasks: how many there are at least, so that few do not start many threads.
        """
        with ReadAhead(
            (_Group(self, piece) for piece in itertools.takewhile(lambda _: not self._stopped, pieces)),
            threads=max(1, min(max_in_flight, tasks)),
            budget=_BUDGET_BYTES,
            max_groups=_AHEAD * max_in_flight,
            name="transfer",
        ) as ahead:
            try:
                for _ in ahead:
                    if self._error is not None:
                        break
            finally:  # before the threads are waited for: they look at this
                self._stop()
        if self._error is not None:
            error, self._error = self._error, None
            try:
                raise error
            finally:
                del error  # its traceback refers to this frame: break the cycle

    def attempt(self, action: Callable[[], None]) -> None:
        """Run one piece's action; an error stops the transfer."""
        if self._stopped:
            return
        try:
            action()
        except Stopped:
            return
        except BaseException as error:  # noqa: BLE001 - raised by ``run``
            with self._lock:
                if self._error is None and not self._stopped:
                    self._error = error
            self._stop()

    def _stop(self) -> None:
        self._stopped = True
        for reading in tuple(self._readings):
            reading.stop()

    def _tell(self, uri: str, *, whole: bool, began: float) -> None:
        if self._callback is not None:
            self._callback(
                TransferProgress(
                    objects_done=self._objects_done,
                    objects_total=self._totals[0],
                    bytes_done=self._bytes_done,
                    bytes_total=self._totals[1],
                    current=uri,
                    current_whole=whole,
                    current_s=time.perf_counter() - began if uri else 0.0,
                )
            )


class _Group:
    """A piece as a group of one task."""

    __slots__ = ("_conveyor", "_piece")

    def __init__(self, conveyor: Conveyor, piece: Piece) -> None:
        self._conveyor = conveyor
        self._piece = piece

    @property
    def cost(self) -> int:
        return self._piece.cost

    def __len__(self) -> int:
        return 1

    def run(self, _task: int) -> None:
        self._conveyor.attempt(self._piece.action)


def check_in_flight(operation: str, max_in_flight: int) -> None:
    """Raise OptionError unless ``max_in_flight`` is a whole number >= 1."""
    if not isinstance(max_in_flight, int) or isinstance(max_in_flight, bool) or max_in_flight < 1:
        raise OptionError(
            f"{operation}: max_in_flight is {max_in_flight!r}, expected a whole number >= 1.", field="max_in_flight"
        )
