"""``s3://``, ``az://`` and ``gs://``: one store over both engines, and the rule of fork.

The rule: the engine that was asked for (``native`` unless said otherwise), except where this process was forked
from one that had used it in a way that a fork does not survive (``storage.inheritance``); then the other one, said
in one warning a process. So no order of opening, listing, reading and forking hangs or mixes up answers.
Owns: the choice of engine at every call. Must not know: how an engine does a verb.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any, Literal

from s3dlio.errors import ClosedError
from s3dlio.storage.arrow import ArrowStore
from s3dlio.storage.container import Container
from s3dlio.storage.inheritance import lost
from s3dlio.storage.native import NativeStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    import pyarrow as pa

    from s3dlio.storage.options import StorageOptions
    from s3dlio.storage.protocol import BufferLike, ObjectMeta, ObjectWriter, PutMode, Store
    from s3dlio.uri import Uri

__all__ = ["ForkWarning", "RemoteStore"]

_ENGINES: dict[str, Callable[[Uri, StorageOptions], Store]] = {"native": NativeStore, "arrow": ArrowStore.of}

_warned_pid: int | None = None
# Which process has given the warning: a DataLoader worker says it once, however many stores it opens.


class ForkWarning(RuntimeWarning):
    """A forked process uses another engine than the one asked for, which its parent had used."""


class RemoteStore:
    """One container on an object server. What ``open_store`` returns; opening makes no request.

    Pickles as its URI and options (``spawn``); connections are made anew in the other process.

    Args:
        uri: of the container; its key plays no part.
        options: how to reach it.
    """

    def __init__(self, uri: Uri, options: StorageOptions) -> None:
        self._uri = uri.with_key("")
        self._options = options
        self._container = Container.of(uri, options)
        # By engine and process: a child inherits this dict and must not use the parent's connections.
        self._engines: dict[tuple[str, int], Store] = {}
        self._closed = False

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

    def head(self, key: str) -> ObjectMeta:
        """As ``Store.head``."""
        return self._engine().head(key)

    def get(self, key: str) -> pa.Buffer:
        """As ``Store.get``."""
        return self._engine().get(key)

    def get_range(self, key: str, start: int, end: int, *, etag: str | None = None) -> pa.Buffer:
        """As ``Store.get_range``."""
        return self._engine().get_range(key, start, end, etag=etag)

    def get_into(self, key: str, buffer: BufferLike, start: int = 0, *, etag: str | None = None) -> None:
        """As ``Store.get_into``."""
        self._engine().get_into(key, buffer, start, etag=etag)

    def put(self, key: str, data: BufferLike, *, mode: PutMode = "overwrite") -> ObjectMeta:
        """As ``Store.put``."""
        return self._engine().put(key, data, mode=mode)

    def open_writer(self, key: str) -> ObjectWriter:
        """As ``Store.open_writer``. The writer belongs to this process: a child must open its own."""
        return self._engine().open_writer(key)

    def list(self, prefix: str = "") -> Iterator[pa.RecordBatch]:
        """As ``Store.list``. The iterator belongs to this process."""
        return self._engine().list(prefix)

    def delete(self, key: str) -> None:
        """As ``Store.delete``."""
        self._engine().delete(key)

    def copy(self, source: str, target: str) -> None:
        """As ``Store.copy``."""
        self._engine().copy(source, target)

    def close(self) -> None:
        """Give up connections. Idempotent; verbs called afterwards raise ClosedError."""
        self._closed = True
        for engine in self._engines.values():
            engine.close()
        self._engines = {}

    @property
    def _wanted(self) -> Literal["native", "arrow"]:
        return self._options.backend or "native"

    def _lost(self, name: Literal["native", "arrow"]) -> bool:
        return lost("native") if name == "native" else self._uri.scheme == "az" and lost("azure")

    def _engine(self, name: Literal["native", "arrow"] | None = None) -> Store:
        if self._closed:
            raise ClosedError(f"use {self._uri}: the store is closed, expected an open one. Open it again.")
        if name is None:
            name = self.backend
            if name != self._wanted:
                _warn_once(name)
        found = self._engines.get((name, os.getpid()))
        if found is None:
            # Two threads may both get here and make one each; setdefault lets one of them win.
            made = _ENGINES[name](self._uri, self._options)
            found = self._engines.setdefault((name, os.getpid()), made)
        return found

    def __repr__(self) -> str:
        return f"RemoteStore({str(self._uri)!r}, {self._options!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return RemoteStore, (self._uri, self._options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


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
