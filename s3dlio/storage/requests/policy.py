"""One policy for every request of a store: repeat, slow down, give up on what hangs, hedge.

Owns: what happens between a verb and its requests. Must not know: engines, or what a verb does.

Guarantees, for every engine:
- only an error that is ``retryable`` is repeated, at most ``max_attempts`` requests in all, none started after
  ``retry_deadline_s``; pauses have full jitter: uniform between 0 and min(cap, base * 2**n)
- ``error.attempts`` is the number of requests made, and the message says it
- a pause that the server asks for (Retry-After) is kept where the error shows it (``ThrottledError.retry_after_s``).
  Neither obstore nor pyarrow does; there the throttle does the job: a refusal halves the requests at a time
- a verb called in the main thread is left at once by Ctrl-C, and one that hangs on an engine that does not notice
  (``limit``) is given up; its thread does not count
- a call that was left never touches the caller's memory: it delivers to nobody
- ``close`` wakes those who pause or wait for their turn (ClosedError); requests under way end by themselves
Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from __future__ import annotations

import contextlib
import dataclasses
import random
import time
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from s3dlio.concurrency import Detached, Event, Lock, Race, Tally, Throttle, TooManyLeftError, in_main_thread, wait_for
from s3dlio.errors import AccessError, ClosedError, StorageError, StorageTimeoutError, ThrottledError
from s3dlio.storage.requests.latencies import Latencies

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3dlio.storage.configuration.options import StorageOptions
    from s3dlio.storage.protocol import Store

__all__ = ["Limit", "RequestStatistics", "Requests", "Verb"]

T = TypeVar("T")

_BASE_S = 0.1
_CAP_S = 5.0
"""Longest pause: several rounds of it fit the default deadline."""
_HEDGE_BURST = 8
"""Hedges admitted beyond the share that the percentile gives."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RequestStatistics:
    """What a store has asked its server for, in this process, since it was opened."""

    requests: int
    """Requests started, repeated and hedged ones included; what an engine sends for one verb counts as one."""
    retries: int
    """Requests that repeated a failed one."""
    throttled: int
    """Answers that asked for fewer requests (429, 503)."""
    hedged: int
    """Reads that were sent a second time because the first was slow."""
    hedge_wins: int
    """Hedged reads whose second request answered first."""
    timeouts: int
    """Requests that got no answer in time, or no connection."""


class Limit(NamedTuple):
    """How long a request may take on an engine that does not notice silence."""

    silent_s: float
    """Seconds for a request that moves no bytes."""
    slowest: int
    """Bytes a second; those that a request moves get their time on top."""
    size: int = 0
    """Bytes it moves."""
    find_size: Callable[[], int] | None = None
    """Asks for the size; called when a request of unknown size is late."""

    def seconds(self, size: int) -> float:
        """For ``size`` bytes."""
        return self.silent_s + size / self.slowest


class Verb(NamedTuple, Generic[T]):
    """One verb on one object or prefix. A named tuple, because one is made for each: a frozen dataclass costs more."""

    operation: str
    """Its name, for errors."""
    uri: str
    """What it is about, for errors."""
    call: Callable[[Store], T]
    """Makes the request on the engine it is given. Called for each attempt, maybe on another thread, maybe twice at a
    time (``hedge_size``), so what it returns must be its own."""
    engine: Callable[[], Store]
    """Chooses the engine of an attempt."""
    renew: Callable[[Store, AccessError, float], bool]
    """Asked after a refusal, and told its ``time.monotonic``: whether ``engine`` now gives one with other credentials.
    One thread asks at a time."""
    limit: Limit | None = None
    """How long one attempt may take; None where the engine notices silence itself."""
    hedge_size: int | None = None
    """Bytes to read, -1 if not known; None for what must not be sent twice."""


class Requests:
    """The policy of one store in one process.

    Args:
        options: ``max_attempts``, ``retry_deadline_s``, ``hedge_percentile``.

    Threads: any.
    """

    def __init__(self, options: StorageOptions) -> None:
        self._options = options
        self.renewing = Lock()
        # Held while credentials are renewed: one asks for new ones, the others find them there.
        self._closed = Event()
        self._throttle = Throttle()
        self._threads = Detached("request")
        self._tally = Tally()
        percentile = options.hedge_percentile
        self._latencies = None if percentile is None else Latencies(percentile)

    @property
    def statistics(self) -> RequestStatistics:
        """The counts so far."""
        return RequestStatistics(
            **{field.name: self._tally.total(field.name) for field in dataclasses.fields(RequestStatistics)}
        )

    def detaches(self, limit: Limit | None) -> bool:
        """Whether a call with this limit, made here, runs on another thread, and may outlive the verb."""
        return limit is not None or in_main_thread()

    def close(self) -> None:
        """Wake those who wait; no further attempt is started. Idempotent."""
        self._closed.set()
        self._throttle.close()
        self._threads.close()

    def run(self, verb: Verb[T]) -> T:
        """The verb's result, by as many requests as it takes.

        Raises:
            StorageError: as the engine says, after the last attempt.
            ClosedError: the store was closed meanwhile.
        """
        began = time.monotonic()
        attempts = 0
        renewed = False
        while True:
            engine = None
            self._throttle.enter(max(0.0, self._options.retry_deadline_s - (time.monotonic() - began)))
            try:
                self._check_open(verb)
                engine = verb.engine()  # which may ask for credentials, and fail like any request
                result = self._attempt(verb, engine)
            except StorageError as error:
                attempts += error.attempts
                self._count(error)
                if isinstance(error, AccessError):
                    if renewed or engine is None or not self._renews(verb, error, engine):
                        self._give_up(error, attempts, began)
                        raise
                    renewed = True
                    pause_s = 0.0
                elif (pause := self._pause(error, attempts, began)) is None:
                    self._give_up(error, attempts, began)
                    raise
                else:
                    pause_s = pause
            else:
                self._throttle.succeeded()
                return result
            finally:
                self._throttle.leave()
            if wait_for(self._closed, pause_s):
                self._check_open(verb)
            self._tally.add("retries")

    def _attempt(self, verb: Verb[T], engine: Store) -> T:
        self._tally.add("requests")
        size = verb.hedge_size
        if self._latencies is not None and size is not None:
            began = time.monotonic()
            result = self._detached(verb, engine, self._latencies.threshold(size))
            self._latencies.note(size, time.monotonic() - began)
            return result
        if self.detaches(verb.limit):
            return self._detached(verb, engine, None)
        return verb.call(engine)

    def _detached(self, verb: Verb[T], engine: Store, slow_s: float | None) -> T:
        """The verb on a thread that can be left; once more on another one if it takes longer than ``slow_s``."""
        call = verb.call
        with Race[T](self._threads) as race:
            try:
                race.start(lambda: call(engine))
            except TooManyLeftError as error:
                raise self._timeout(verb, f"no request, because {error} already") from error
            began = time.monotonic()
            running = 1
            answer = None
            if slow_s is not None:
                answer = race.next(slow_s)
                if answer is None and self._may_hedge():
                    with contextlib.suppress(TooManyLeftError):
                        race.start(lambda: call(engine))
                        running = 2
                        self._tally.add("requests")
                        self._tally.add("hedged")
            if answer is None:
                answer = race.next(self._remaining(verb, began))
            if answer is None and verb.limit is not None and verb.limit.find_size is not None:
                answer = race.next(self._time_of_size(verb.limit, began))
            if answer is not None and answer.error is not None and running == 2:
                answer = race.next(self._remaining(verb, began)) or answer  # a failure loses to an answer
            if answer is None:
                taken_s = time.monotonic() - began
                raise self._timeout(verb, f"no answer in time ({taken_s:.3g} s)")
            if answer.number == 1:
                self._tally.add("hedge_wins")
            return answer.result()

    def _remaining(self, verb: Verb[T], began: float) -> float | None:
        if verb.limit is None:
            return None
        return max(0.0, verb.limit.seconds(verb.limit.size) - (time.monotonic() - began))

    def _time_of_size(self, limit: Limit, began: float) -> float:
        """Seconds more for a late request, once its size is known; none if even that cannot be found out."""
        assert limit.find_size is not None
        with Race[int](self._threads) as race:
            try:
                race.start(limit.find_size)
            except TooManyLeftError:
                return 0.0
            answer = race.next(limit.silent_s / 2)  # in all 3 read timeouts for a server that is silent
            if answer is None or answer.error is not None:
                return 0.0
            return max(0.0, limit.seconds(answer.result()) - (time.monotonic() - began))

    def _may_hedge(self) -> bool:
        """Whether there is room for a second request: a slow server must not get twice the load for it."""
        if self._throttle.limit is not None or self._threads.left > _HEDGE_BURST:
            return False
        share = 2 * (1 - (self._options.hedge_percentile or 100) / 100)
        return self._tally.total("hedged") < _HEDGE_BURST + share * self._tally.total("requests")

    def _timeout(self, verb: Verb[T], found: str) -> StorageTimeoutError:
        return StorageTimeoutError(
            f"{verb.operation} {verb.uri}: {found}, expected one. The server or the network is stuck; retry "
            "later, or raise read_timeout_s.",
            uri=verb.uri,
            operation=verb.operation,
        )

    def _renews(self, verb: Verb[T], error: AccessError, engine: Store) -> bool:
        refused_at = time.monotonic()
        with self.renewing:
            return verb.renew(engine, error, refused_at)

    def _count(self, error: StorageError) -> None:
        if isinstance(error, ThrottledError):
            self._tally.add("throttled")
            self._throttle.refused()
        elif isinstance(error, StorageTimeoutError):
            self._tally.add("timeouts")

    def _pause(self, error: StorageError, attempts: int, began: float) -> float | None:
        """Seconds until the next attempt; None if there is none."""
        if not error.retryable or attempts >= self._options.max_attempts:
            return None
        pause_s = random.uniform(0, min(_CAP_S, _BASE_S * 2 ** max(0, attempts - 1)))  # noqa: S311 - no secret
        if isinstance(error, ThrottledError) and error.retry_after_s is not None:
            pause_s += error.retry_after_s
        left_s = self._options.retry_deadline_s - (time.monotonic() - began)
        return pause_s if pause_s < left_s else None

    def _give_up(self, error: StorageError, attempts: int, began: float) -> None:
        error.attempts = attempts
        if attempts > 1:
            error.args = (f"{error} Gave up after {attempts} attempts in {time.monotonic() - began:.1f} s.",)

    def _check_open(self, verb: Verb[T]) -> None:
        if self._closed.is_set():
            raise ClosedError(f"{verb.operation} {verb.uri}: the store was closed meanwhile, expected an open one.")
