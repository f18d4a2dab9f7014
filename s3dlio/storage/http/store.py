"""``http://`` and ``https://``: objects of a web server, read-only.

Owns: one engine a process. Must not know: requests (``http.engine``), when to repeat them (``requests.resilient``).

Guarantees beyond ``Store``'s for reading:
- the key is the URL behind ``host/`` as it was typed, query included: presigned URLs work
- connections are kept alive and never shared over a fork
- writing, listing, deleting and copying are StorageErrors that say "read-only"
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from s3dlio.errors import ClosedError
from s3dlio.storage.arrow.filesystem import store_filesystem
from s3dlio.storage.http.engine import HttpEngine
from s3dlio.storage.requests.resilient import ResilientStore

if TYPE_CHECKING:
    from s3dlio.storage.configuration.options import StorageOptions
    from s3dlio.uri import Uri

__all__ = ["HttpStore"]


class HttpStore(ResilientStore):
    """The objects of one web server. Opening makes no request; pickles as its URI and options.

    ``http_proxy``, ``https_proxy``, ``all_proxy`` and ``no_proxy`` are respected, ``user:password@host`` is sent as
    Basic authorization. Bytes arrive as the server stores them: none are asked to be compressed for the way, and what
    is stored compressed is not unpacked.

    Args:
        uri: of the server; its key plays no part.
        options: ``connect_timeout_s``, ``read_timeout_s``, ``ca_bundle``, and the limits of retries.

    Raises:
        OptionError: the URI names no host, or a port that is none.
    """

    atomic_create = False

    def __init__(self, uri: Uri, options: StorageOptions) -> None:
        super().__init__(options)
        self._uri = uri.with_key("")
        # By process: a child inherits this dict and must not use the parent's connections.
        self._engines: dict[int, HttpEngine] = {os.getpid(): HttpEngine(self._uri, options)}

    @property
    def filesystem(self) -> object:
        """A ``pyarrow.fs.PyFileSystem`` over this store, to read from."""
        return store_filesystem(self)

    def path(self, key: str) -> str:
        """The key itself."""
        return key

    def uri(self, key: str) -> str:
        """The whole URL, as it was typed."""
        return str(self._uri.with_key(key))

    def close(self) -> None:
        """Close the connections. Idempotent; verbs called afterwards raise ClosedError."""
        super().close()
        self._end_engines()

    def _engine(self) -> HttpEngine:
        if self._closed:
            raise ClosedError(f"use {self._uri.masked()}: the store is closed, expected an open one. Open it again.")
        found = self._engines.get(os.getpid())
        if found is None:
            self._end_engines()  # the parent's: that closes only this process's copies of its sockets
            found = self._engines.setdefault(os.getpid(), HttpEngine(self._uri, self._options))
        return found

    def _end_engines(self) -> None:
        for engine in [*self._engines.values()]:
            engine.close()

    def _silence(self) -> None:
        """None: sockets notice silence by themselves."""

    def __repr__(self) -> str:
        return f"HttpStore({self._uri.masked()!r}, {self._options!r})"

    def __reduce__(self) -> tuple[object, ...]:
        return HttpStore, (self._uri, self._options)
