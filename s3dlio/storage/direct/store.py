"""``direct://``: local files past the page cache, by O_DIRECT.

For data that is read once, or is larger than memory: nothing is kept in the page cache, nothing is evicted from it,
and the processor copies nothing. Objects that are read again soon are faster through ``file://``.

Owns: which verbs go which way. Must not know: blocks and parts (``direct.io``), memory (``aligned``).

Guarantees beyond ``LocalStore``, whose keys, ETags, listings and order of publishing it shares:
- reads and writes leave no pages in the cache; what others have cached is neither used up nor dropped by a read
- a filesystem that refuses O_DIRECT is a StorageError, unless the fallback is asked for
- a buffer that a read returned is the caller's for as long as anything refers to it; then its memory is reused
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from s3dlio.storage.arrow.filesystem import store_filesystem
from s3dlio.storage.direct.io import DirectAccess
from s3dlio.storage.local import LocalStore

if TYPE_CHECKING:
    import contextlib

    from s3dlio.storage.posix import OpenFile, PendingFile

__all__ = ["DirectStore"]


class DirectStore(LocalStore):
    """All files that this process may reach, as objects of one container, read and written by O_DIRECT.

    Memory: up to 256 MiB of free buffers are kept for reuse until ``close``; a writer holds 16 MiB.

    Args:
        fallback: go through the page cache where a filesystem refuses O_DIRECT, with one DirectFallbackWarning.
    """

    _scheme = "direct"

    def __init__(self, *, fallback: bool = False) -> None:
        super().__init__()
        self._access = DirectAccess(fallback=fallback)

    @property
    def filesystem(self) -> object:
        """A ``pyarrow.fs.PyFileSystem`` over this store, so that Parquet is read by O_DIRECT too."""
        return store_filesystem(self)

    def close(self) -> None:
        """Refuse further verbs, and free the memory that was kept for reuse."""
        super().close()
        self._access.memory.clear()

    def _opened(self, path: str) -> contextlib.AbstractContextManager[OpenFile]:
        return self._access.opened(path, self.uri(path.lstrip("/")))

    def _pending(self, path: str) -> PendingFile:
        return self._access.pending(path, self.uri(path.lstrip("/")))

    def __repr__(self) -> str:
        return f"DirectStore(fallback={self._access.fallback})"

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (self._access.fallback,)


def _restore(fallback: bool) -> DirectStore:
    return DirectStore(fallback=fallback)
