"""From a URI to a store: the only dispatch by scheme.

Must not know: what a store does. Opening makes no request and starts no thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from s3dlio.errors import OptionError
from s3dlio.storage.local import LocalStore
from s3dlio.storage.memory import MemoryStore
from s3dlio.storage.options import StorageOptions
from s3dlio.storage.remote import RemoteStore
from s3dlio.uri import Uri

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from s3dlio.storage.protocol import Store

__all__ = ["open_store"]


def open_store(
    uri: str | os.PathLike[str] | Uri, *, options: StorageOptions | Mapping[str, Any] | None = None, **overrides: Any
) -> Store:
    """The store of the container that ``uri`` names; the key in it plays no part.

    Args:
        uri: of the container or anything in it, or a local path.
        options: how to reach it: complete ``StorageOptions``, or a dict of some of its fields. What the dict, or None,
            leaves open comes from the environment (``StorageOptions.from_env``).
        overrides: single fields of ``StorageOptions``, which win over ``options`` and the environment.

    Raises:
        OptionError: an unknown scheme or option, or an illegal value.
    """
    parsed = Uri.parse(uri)
    if options is None or isinstance(options, Mapping):
        options = StorageOptions.from_env(parsed.scheme, **{**(options or {}), **overrides})
    elif overrides:
        options = options.replace(**overrides)
    return _STORES[parsed.scheme](parsed, options)


def _memory(uri: Uri, _options: StorageOptions) -> Store:
    return MemoryStore(uri.container)


def _local(_uri: Uri, _options: StorageOptions) -> Store:
    return LocalStore()


def _direct(uri: Uri, _options: StorageOptions) -> Store:
    raise OptionError(
        f"open {uri}: direct:// (O_DIRECT) has no store yet, expected another scheme. Use file://{uri.path}.",
        field="uri",
    )


_STORES: dict[str, Callable[[Uri, StorageOptions], Store]] = {
    "s3": RemoteStore,
    "az": RemoteStore,
    "gs": RemoteStore,
    "file": _local,
    "direct": _direct,
    "memory": _memory,
}
