"""The Uri value object: where an object, a prefix or a store is.

Owns: parsing and printing of every scheme. Must not know: engines, credentials, the network.
A key never starts with a slash; a prefix is a directory whether or not it ends in one.
"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from urllib.parse import unquote

from s3dlio.errors import OptionError

__all__ = ["SCHEMES", "Uri"]

SCHEMES = ("s3", "gs", "az", "abfss", "file", "direct", "memory")

_SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*):/{0,2}")
_LOCAL = ("file", "direct")


@dataclasses.dataclass(frozen=True, slots=True)
class Uri:
    """A parsed URI.

    Args:
        scheme: one of ``SCHEMES``; ``abfss`` becomes ``az``.
        container: bucket, container or memory store name; empty for local files.
        key: the rest, without a leading slash; for local files the absolute path without its slash.
        account: Azure storage account when the URI names it (``abfss://c@account.dfs...``), else empty.
    """

    scheme: str
    container: str
    key: str
    account: str = ""

    @classmethod
    def parse(cls, text: str | os.PathLike[str] | Uri) -> Uri:
        """Parse ``s3://bucket/key``, ``az://container/key``, ``file:///path``, a plain path, ...

        ``s3:/bucket`` (what ``pathlib`` makes of a URI) is repaired. Plain and relative paths become
        absolute ``file`` URIs.

        Raises:
            OptionError: an unknown scheme, or a bucket that is missing.
        """
        if isinstance(text, Uri):
            return text
        raw = os.fspath(text)
        match = _SCHEME.match(raw)
        if match is None:
            return cls._local("file", raw)
        scheme = match[1].lower()
        if scheme not in SCHEMES:
            raise OptionError(
                f"parse {raw!r}: unknown scheme {scheme!r}, expected one of {', '.join(SCHEMES)} or a path.",
                field="uri",
            )
        if scheme in _LOCAL:
            rest = raw[len(scheme) + 1 :]
            return cls._local(scheme, unquote(re.sub(r"^/*", "/", rest) if rest.startswith("/") else rest))
        container, _, key = raw[match.end() :].partition("/")
        account = ""
        if scheme == "abfss" or "@" in container:
            container, _, host = container.partition("@")
            account, scheme = host.partition(".")[0], "az"
        if not container:
            raise OptionError(
                f"parse {raw!r}: no bucket, expected {scheme}://bucket/key. Add the bucket's name.",
                field="uri",
            )
        return cls(scheme, container, key.lstrip("/"), account)

    @classmethod
    def _local(cls, scheme: str, path: str) -> Uri:
        trailing = "/" if path.endswith("/") else ""
        absolute = os.path.normpath(Path(path).expanduser().absolute())
        return cls(scheme, "", (absolute.lstrip("/") + trailing) if absolute != "/" else "")

    def __str__(self) -> str:
        if self.scheme in _LOCAL:
            return f"{self.scheme}:///{self.key.replace('%', '%25')}"  # parsed as an escape otherwise
        if self.account:
            return f"abfss://{self.container}@{self.account}.dfs.core.windows.net/{self.key}"
        return f"{self.scheme}://{self.container}/{self.key}"

    def __truediv__(self, name: str) -> Uri:
        """The child ``name`` below this URI taken as a directory."""
        base = self.key.rstrip("/")
        return dataclasses.replace(self, key=f"{base}/{name.lstrip('/')}" if base else name.lstrip("/"))

    def with_key(self, key: str) -> Uri:
        """The object ``key`` of the same container."""
        return dataclasses.replace(self, key=key.lstrip("/"))

    @property
    def prefix(self) -> str:
        """The key as a directory prefix: empty, or ending in exactly one slash."""
        base = self.key.rstrip("/")
        return f"{base}/" if base else ""

    @property
    def path(self) -> str:
        """The absolute path of a local URI, the key of any other."""
        return f"/{self.key}" if self.scheme in _LOCAL else self.key
