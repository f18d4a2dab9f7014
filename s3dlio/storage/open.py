"""From a URI to a store: the only dispatch by scheme.

Must not know: what a store does. Opening makes no request and starts no thread.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow.fs as pafs

from s3dlio.errors import OptionError
from s3dlio.storage.arrow.store import ArrowStore
from s3dlio.storage.configuration.options import StorageOptions
from s3dlio.storage.direct.store import DirectStore
from s3dlio.storage.local import LocalStore
from s3dlio.storage.memory import MemoryStore
from s3dlio.storage.operation_log.log import active_op_log
from s3dlio.storage.operation_log.store import LoggedStore
from s3dlio.storage.requests.remote import RemoteStore
from s3dlio.storage.requests.resilient import ForeignStore
from s3dlio.uri import Uri

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from s3dlio.storage.operation_log.log import OpLog
    from s3dlio.storage.protocol import Store

__all__ = ["locate", "open_store"]


def open_store(
    uri: str | os.PathLike[str] | Uri,
    *,
    storage_options: StorageOptions | Mapping[str, Any] | None = None,
    filesystem: object | None = None,
    **overrides: Any,
) -> Store:
    """The store of the container that ``uri`` names; the key in it plays no part.

    Args:
        uri: of the container or anything in it, or a local path.
        storage_options: how to reach it: complete ``StorageOptions``, or a dict of some of its fields. What the dict,
            or None, leaves open comes from the environment (``StorageOptions.from_env``).
        filesystem: a ``pyarrow.fs.FileSystem`` or fsspec filesystem of the caller's own. ``uri`` is then a path in it,
            and of the options only the limits of attempts and time play a part.
        overrides: single fields of ``StorageOptions``, which win over ``storage_options`` and the environment.

    Raises:
        OptionError: an unknown scheme or option, or an illegal value.
    """
    return locate(uri, storage_options=storage_options, filesystem=filesystem, **overrides)[0]


def locate(
    uri: str | os.PathLike[str] | Uri,
    *,
    storage_options: StorageOptions | Mapping[str, Any] | None = None,
    filesystem: object | None = None,
    **overrides: Any,
) -> tuple[Store, str]:
    """The store of ``uri`` and the key in it. Args, Raises: as ``open_store``."""
    parsed = None if filesystem is not None else Uri.parse(uri)
    if not isinstance(storage_options, StorageOptions | Mapping | None):
        raise OptionError(
            f"open {uri}: storage_options is {type(storage_options).__name__}, expected a dict of options or "
            "StorageOptions.",
            field="storage_options",
        )
    if storage_options is None or isinstance(storage_options, Mapping):
        scheme = "filesystem" if parsed is None else parsed.scheme
        storage_options = StorageOptions.from_env(scheme, **{**(storage_options or {}), **overrides})
    elif overrides:
        storage_options = storage_options.replace(**overrides)
    log = active_op_log()
    if parsed is None:
        path = str(uri)
        return _logged(_foreign(filesystem, path, storage_options), log), path.lstrip("/")
    make = _STORES[parsed.scheme]
    if storage_options.endpoint_urls and make is RemoteStore:
        return _several(parsed, storage_options, log), parsed.key
    return _logged(make(parsed, storage_options), log), parsed.key


def _logged(store: Store, log: OpLog | None) -> Store:
    return store if log is None else LoggedStore(store, log)


def _several(uri: Uri, options: StorageOptions, log: OpLog | None) -> Store:
    from s3dlio.storage.multi.store import MultiEndpointStore  # noqa: PLC0415 - few need it, and every import would cost more

    wrap = None if log is None else functools.partial(LoggedStore, log=log)  # so that a line says which endpoint it was
    return MultiEndpointStore(uri, options, wrap=wrap)


def _foreign(filesystem: object, path: str, options: StorageOptions) -> Store:
    if not isinstance(filesystem, pafs.FileSystem):
        if not hasattr(filesystem, "open") or not hasattr(filesystem, "protocol"):
            raise OptionError(
                f"open: got the filesystem {type(filesystem).__name__}, expected a pyarrow.fs.FileSystem or an "
                "fsspec filesystem.",
                field="filesystem",
            )
        filesystem = pafs.PyFileSystem(pafs.FSSpecHandler(filesystem))
    return ForeignStore(ArrowStore(filesystem, "/" if path.startswith("/") else ""), options)


def _memory(uri: Uri, _options: StorageOptions) -> Store:
    return MemoryStore(uri.container)


def _local(_uri: Uri, _options: StorageOptions) -> Store:
    return LocalStore()


def _direct(_uri: Uri, options: StorageOptions) -> Store:
    return DirectStore(fallback=options.direct_fallback)


def _web(uri: Uri, options: StorageOptions) -> Store:
    from s3dlio.storage.http.store import HttpStore  # noqa: PLC0415 - Python's HTTP client costs every import 13 ms

    return HttpStore(uri, options)


_STORES: dict[str, Callable[[Uri, StorageOptions], Store]] = {
    "s3": RemoteStore,
    "az": RemoteStore,
    "gs": RemoteStore,
    "file": _local,
    "direct": _direct,
    "memory": _memory,
    "http": _web,
    "https": _web,
}
