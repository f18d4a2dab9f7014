"""Which of several endpoints a request goes to, and what is known of each.

Owns: the choice, setting aside, and the counts. Must not know: requests, stores, URLs but as names.

Guarantees:
- ``round_robin``: of the endpoints that are not set aside, none gets two requests more than another
- ``least_connections``: one with the fewest requests under way; those that are equal take turns
- ``rank``: the endpoint of this process's rank; while that is set aside, the ranks of it spread over the others
- an endpoint that fails is set aside for ``_FIRST_S``, twice as long at each further failure, up to ``_LONGEST_S``;
  then one request tries it, while the others still avoid it. Requests that were under way together count as one failure
- a request that has nowhere else to go tries even endpoints that are set aside, those with the fewest under way first
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Literal

from s3dlio.concurrency import RLock

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

__all__ = ["Balancer", "EndpointStatistics", "Ticket"]

_FIRST_S = 1.0
"""Short enough for a restarting gateway, long enough that a dead one costs a request a second and no more."""

_LONGEST_S = 60.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class EndpointStatistics:
    """What this process has asked of one endpoint since the store was opened."""

    endpoint_url: str
    requests: int
    """Verbs that were sent there, a writer counting as one. A verb that goes on elsewhere counts at each endpoint."""
    errors: int
    """Of these, the ones that it did not answer: no connection, nothing in time, or that it is overloaded or broken.
    That an object does not exist is an answer."""
    in_flight: int
    """Of these, the ones under way now."""
    bytes_read: int
    bytes_written: int
    busy_s: float
    """Seconds that the answered ones took, added up."""
    set_aside: bool
    """Whether requests avoid it now, because it failed."""

    @property
    def latency_s(self) -> float:
        """Mean seconds of an answered verb; 0 if there was none."""
        answered = self.requests - self.errors - self.in_flight
        return self.busy_s / answered if answered else 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class Ticket:
    """Permission for one request to one endpoint, given back when it ends."""

    number: int
    """Of the endpoint, from 0."""
    began: float
    probe: bool


class _Endpoint:
    __slots__ = ("busy_s", "errors", "failed_at", "in_flight", "number", "penalty_s", "probed", "read", "requests",
                 "until", "url", "written")  # fmt: skip

    def __init__(self, number: int, url: str) -> None:
        self.number = number
        self.url = url
        self.requests = self.errors = self.in_flight = self.read = self.written = 0
        self.busy_s = 0.0
        self.penalty_s = 0.0  # 0: not set aside
        self.failed_at = self.until = float("-inf")
        self.probed = False


class Balancer:
    """Chooses endpoints for the requests of one store in one process.

    Args:
        urls: of the endpoints.
        balance: how to choose.
        rank: of this process; for "rank" only.
        clock: seconds that only grow.

    Threads: any. The lock is held for microseconds.
    """

    def __init__(
        self,
        urls: Sequence[str],
        balance: Literal["round_robin", "least_connections", "rank"],
        *,
        rank: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._endpoints = [_Endpoint(number, url) for number, url in enumerate(urls)]
        self._balance = balance
        self._rank = rank
        self._clock = clock
        self._turn = 0
        self._lock = RLock()  # a garbage collection inside of it may end a listing, which gives its ticket back

    @property
    def statistics(self) -> tuple[EndpointStatistics, ...]:
        """The counts of each endpoint, in order, at one moment."""
        with self._lock:
            return tuple(
                EndpointStatistics(
                    endpoint_url=one.url,
                    requests=one.requests,
                    errors=one.errors,
                    in_flight=one.in_flight,
                    bytes_read=one.read,
                    bytes_written=one.written,
                    busy_s=one.busy_s,
                    set_aside=one.penalty_s > 0,
                )
                for one in self._endpoints
            )

    def take(self, tried: Collection[int] = ()) -> Ticket | None:
        """Where the next request goes; None if all were ``tried``. The ticket goes back by one of the methods below."""
        with self._lock:
            free = [one for one in self._endpoints if one.number not in tried]
            if not free:
                return None
            now = self._clock()
            return self._issued(self._choose(free, now, again=bool(tried)), now)

    def take_at(self, number: int) -> Ticket:
        """As ``take``, for the endpoint that the caller names."""
        with self._lock:
            return self._issued(self._endpoints[number], self._clock())

    def answered(self, ticket: Ticket, *, read: int = 0, written: int = 0) -> None:
        """The endpoint did its work, whatever it said."""
        with self._lock:
            one = self._return(ticket)
            one.busy_s += self._clock() - ticket.began
            one.read += read
            one.written += written
            if ticket.began >= one.failed_at:
                one.penalty_s = 0.0

    def failed(self, ticket: Ticket) -> None:
        """The endpoint did not answer, or said that it cannot work: set it aside."""
        with self._lock:
            one = self._return(ticket)
            one.errors += 1
            if ticket.began >= one.failed_at:
                one.penalty_s = min(2 * one.penalty_s or _FIRST_S, _LONGEST_S)
                one.failed_at = self._clock()
                one.until = one.failed_at + one.penalty_s

    def left(self, ticket: Ticket) -> None:
        """The request was given up by its caller, which says nothing of the endpoint. It does not count."""
        with self._lock:
            self._return(ticket).requests -= 1

    def _issued(self, one: _Endpoint, now: float) -> Ticket:
        probe = one.penalty_s > 0
        one.probed = one.probed or probe
        one.requests += 1
        one.in_flight += 1
        return Ticket(one.number, now, probe)

    def _return(self, ticket: Ticket) -> _Endpoint:
        one = self._endpoints[ticket.number]
        one.in_flight -= 1
        if ticket.probe:
            one.probed = False
        return one

    def _choose(self, free: list[_Endpoint], now: float, *, again: bool) -> _Endpoint:
        well = [one for one in free if not one.penalty_s]
        due = [one for one in free if one.penalty_s and one.until <= now and not one.probed]
        if self._balance == "rank":
            own = self._endpoints[self._rank % len(self._endpoints)]
            if own in well or own in due:
                return own
            if well:
                return well[self._rank // len(self._endpoints) % len(well)]
        elif due and not (again and well):  # what has failed once already is no probe
            return due[0]
        if not well:
            return min(free, key=lambda one: (one.probed, one.in_flight, one.until))
        if self._balance == "least_connections":
            fewest = min(one.in_flight for one in well)
            well = [one for one in well if one.in_flight == fewest]
        self._turn += 1
        return well[(self._turn - 1) % len(well)]
