"""One side of a transfer: a store, a key in it, and whether it is the local file tree."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from s3dlio.errors import OptionError
from s3dlio.storage.open import locate
from s3dlio.uri import Uri

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from typing import Self

    from s3dlio.storage.configuration.options import StorageOptions
    from s3dlio.storage.protocol import Store

__all__ = ["Side", "StorageOptionsLike", "UriLike"]

UriLike: TypeAlias = "str | os.PathLike[str] | Uri"
StorageOptionsLike: TypeAlias = "StorageOptions | Mapping[str, Any] | None"


@dataclasses.dataclass(frozen=True, slots=True)
class Side:
    """Source or target. Owns its store; a context manager."""

    store: Store
    key: str
    local: bool
    """Whether keys are paths of this machine, which need no store."""
    place: tuple[object, ...]
    """Equal for two sides whose objects one store can copy by itself."""
    scheme: str
    """Of the URI; empty with a filesystem of the caller's own."""

    @classmethod
    def of(cls, uri: UriLike, *, storage_options: StorageOptionsLike, filesystem: object | None) -> Self:
        """Open the store of ``uri``; arguments as ``open_store``."""
        store, key = locate(uri, storage_options=storage_options, filesystem=filesystem)
        if filesystem is not None:
            return cls(store, key, local=False, place=(id(filesystem),), scheme="")
        parsed = Uri.parse(uri)
        place = (parsed.scheme, parsed.container, parsed.account, storage_options)
        return cls(store, key, local=parsed.scheme == "file", place=place, scheme=parsed.scheme)

    @classmethod
    def of_files(cls, path: UriLike, operation: str, field: str) -> Self:
        """The local file tree.

        Raises:
            OptionError: ``path`` is a URI of another store.
        """
        parsed = Uri.parse(path)
        if parsed.scheme != "file":
            raise OptionError(
                f"{operation} {parsed}: the {field} is no local path, expected one. Use copy, which goes anywhere.",
                field=field,
            )
        return cls.of(parsed, storage_options=None, filesystem=None)

    def uri(self, key: str) -> str:
        """The full URI of ``key``."""
        return self.store.uri(key)

    def path(self, key: str) -> str:
        """The absolute path of ``key`` where ``local``."""
        return f"/{key}"

    def for_one(self, name: str) -> str:
        """The key that one object called ``name`` gets here: this one, or below it if it names a directory."""
        base = self.key.rstrip("/")
        if self.key != base or not base or (self.local and Path(self.path(base)).is_dir()):
            return self.below(name)
        return self.key

    def below(self, name: str) -> str:
        """The key of ``name`` below this one."""
        base = self.key.rstrip("/")
        return f"{base}/{name}" if base else name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.store.close()
