"""``s3://``, ``az://`` and ``gs://``: one store over both engines, and the rule of fork.

The rule: the engine that was asked for (``native`` unless said otherwise), except where this process was forked
from one that had used it in a way that a fork does not survive (``inheritance``); then the other one, said
in one warning a process. So no order of opening, listing, reading and forking hangs or mixes up answers.
Owns: the choice of engine at every call, and of its credentials. Must not know: how an engine does a verb, or
when a request is repeated (``resilient``, ``policy``).
"""

from __future__ import annotations

import os
import time
import warnings
from typing import TYPE_CHECKING, Any, Literal

from s3dlio.concurrency import Lock
from s3dlio.errors import ClosedError
from s3dlio.storage.arguments import payload
from s3dlio.storage.arrow.store import ArrowStore
from s3dlio.storage.configuration.container import Container
from s3dlio.storage.configuration.credentials import due, may_wait, renewed, renewed_early
from s3dlio.storage.native.store import NativeStore
from s3dlio.storage.native.writer import PART_BYTES
from s3dlio.storage.requests.inheritance import lost
from s3dlio.storage.requests.resilient import ResilientStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3dlio.errors import AccessError
    from s3dlio.storage.configuration.options import StorageOptions
    from s3dlio.storage.protocol import BufferLike, ObjectMeta, ObjectWriter, PutMode, Store
    from s3dlio.uri import Uri

__all__ = ["ForkWarning", "RemoteStore"]

_ENGINES: dict[str, Callable[[Uri, StorageOptions], Store]] = {"native": NativeStore, "arrow": ArrowStore.of}

_ASK_EVERY_S = 60.0
"""Least seconds between two questions for new credentials after refusals without a reason: a provider may be slow."""

_warned_pid: int | None = None
# Which process has given the warning: a DataLoader worker says it once, however many stores it opens.


class ForkWarning(RuntimeWarning):
    """A forked process uses another engine than the one asked for, which its parent had used."""


class RemoteStore(ResilientStore):
    """One container on an object server. What ``open_store`` returns; opening makes no request.

    Pickles as its URI and options (``spawn``); connections are made anew in the other process.

    Args:
        uri: of the container; its key plays no part.
        options: how to reach it.
    """

    def __init__(self, uri: Uri, options: StorageOptions) -> None:
        super().__init__(options)
        self._uri = uri.with_key("")
        self._container = Container.of(uri, options)
        # By engine and process: a child inherits this dict and must not use the parent's connections.
        self._engines: dict[tuple[str, int], Store] = {}
        self._making: dict[int, Lock] = {}
        self._asked_at = self._in_vain_at = float("-inf")  # for new credentials

    @property
    def backend(self) -> Literal["native", "arrow"]:
        """The engine that the next call uses."""
        wanted = self._wanted
        other: Literal["native", "arrow"] = "arrow" if wanted == "native" else "native"
        return other if self._lost(wanted) and not self._lost(other) else wanted

    @property
    def options(self) -> StorageOptions:
        """How the container is reached."""
        return self._options

    @property
    def atomic_create(self) -> bool:
        """Whether ``put(mode="create")`` is decided by the server; true on ``native``."""
        return self.backend == "native"

    @property
    def filesystem(self) -> Any:
        """The pyarrow filesystem of the arrow engine."""
        return self._engine("arrow").filesystem

    def path(self, key: str) -> str:
        """``container/key``."""
        return f"{self._uri.container}/{key}"

    def uri(self, key: str) -> str:
        """``scheme://container/key``."""
        return self._container.uri(key)

    def put(self, key: str, data: BufferLike, *, mode: PutMode = "overwrite") -> ObjectMeta:
        """As ``Store.put``. What native sends in parts it repeats part by part, and aborts if it is interrupted."""
        view = payload(data, "put", self.uri(key))
        if mode == "overwrite" and view.size > PART_BYTES and isinstance(engine := self._engine(), NativeStore):
            return engine.put(key, view)
        return super().put(key, view, mode=mode)

    @property
    def deletes_at_once(self) -> int:
        """1,000 on S3 and 256 on Azure by the native engine, else 1."""
        return getattr(self._engine(), "deletes_at_once", 1)

    def open_writer(self, key: str, *, size_hint: int | None = None) -> ObjectWriter:
        """As ``Store.open_writer``. The writer belongs to this process: a child must open its own."""
        engine = self._engine()
        if isinstance(engine, ArrowStore):
            return engine.writer(key, self.put, size_hint=size_hint)
        return engine.open_writer(key, size_hint=size_hint)

    def close(self) -> None:
        """Give up connections, and wake who waits to repeat a request. Idempotent; later verbs raise ClosedError."""
        super().close()
        engines, self._engines = self._engines, {}
        for engine in [*engines.values()]:  # a thread that came late may add one
            engine.close()

    @property
    def _wanted(self) -> Literal["native", "arrow"]:
        return self._options.backend or "native"

    def _lost(self, name: Literal["native", "arrow"]) -> bool:
        if name == "native":
            return lost("native")
        return (self._uri.scheme == "az" and lost("azure")) or (self._uri.scheme == "s3" and lost("s3"))

    def _engine(self, name: Literal["native", "arrow"] | None = None) -> Store:
        if self._closed:
            raise ClosedError(f"use {self._uri}: the store is closed, expected an open one. Open it again.")
        if self._asks():
            with self._requests.renewing:
                if self._asks():
                    self._ask_for_credentials(renewed_early)
        return self._chosen(name)

    def _asks(self) -> bool:
        """Whether new credentials are wanted before the next request."""
        options = self._options
        if not due(options):
            return False
        return options.access_key_id is None or not may_wait(options.credentials_expire_at, self._in_vain_at)

    def _chosen(self, name: Literal["native", "arrow"] | None = None) -> Store:
        if name is None:
            name = self.backend
            if name != self._wanted:
                _warn_once(name)
        engines = self._engines  # before the options, in case another thread renews them
        found = engines.get((name, os.getpid()))
        if found is None:
            # One thread makes it, not each that comes first: pyarrow waits with a second S3 filesystem until no request
            # of the first is under way. A lock a process, since a child may inherit one that a lost thread holds.
            with self._making.setdefault(os.getpid(), Lock()):
                found = engines.get((name, os.getpid()))
                if found is None:
                    found = engines[name, os.getpid()] = _ENGINES[name](self._uri, self._options)
        return found

    def _renew(self, engine: Store, error: AccessError, refused_at: float) -> bool:
        """Whether there are other credentials than those of ``engine``, by asking for them once.

        Only obstore says for sure that credentials have expired. To a HEAD a server gives no reason, and pyarrow loses
        it about every second time; then they are asked for, too, but not again and again.
        """
        if engine is not self._chosen():
            return True  # another thread was here before
        if self._in_vain_at >= refused_at:
            return False  # another thread was, and got nothing
        if not error.expired:
            if not (error.unexplained or isinstance(engine, ArrowStore)):
                return False
            if time.monotonic() - self._asked_at < _ASK_EVERY_S:
                return False
        return self._ask_for_credentials(renewed)

    def _ask_for_credentials(self, ask: Callable[[Uri, StorageOptions], StorageOptions | None]) -> bool:
        self._asked_at = time.monotonic()
        fresh = None
        try:
            fresh = ask(self._uri, self._options)
        finally:
            if fresh is None:
                self._in_vain_at = time.monotonic()  # the end: the answer is also for those who came meanwhile
        if fresh is None:
            return False
        self._options = fresh  # before the engines, which are made with them
        self._engines = {}  # not closed: other threads are inside; the last one drops the connections
        return True

    def _silence(self) -> tuple[float, int] | None:
        if self.backend == "native":
            return None
        # Two requests for most verbs. pyarrow's Azure and Google clients never notice silence, its S3 client does,
        # late, and so is only backed up.
        return 2 * self._options.read_timeout_s, 128 << 10 if self._uri.scheme == "s3" else 1 << 20

    def __repr__(self) -> str:
        return f"RemoteStore({str(self._uri)!r}, {self._options!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return RemoteStore, (self._uri, self._options)


def _warn_once(engine: str) -> None:
    global _warned_pid  # noqa: PLW0603 - see there
    if _warned_pid != os.getpid():
        _warned_pid = os.getpid()  # first, so that a warning turned into an error is raised once
        other = "native" if engine == "arrow" else "arrow"
        warnings.warn(
            f"This process was forked after its parent had used the {other} engine, which does not survive a fork: "
            f"it goes on with the {engine} engine. To choose the engine yourself start workers by 'spawn' or "
            "'forkserver', or fork before the first request.",
            ForkWarning,
            stacklevel=4,
        )
