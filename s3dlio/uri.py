"""The Uri value object: where an object, a prefix or a store is.

Owns: parsing and printing of every scheme. Must not know: engines, credentials, the network.
A key never starts with a slash; a prefix is a directory whether or not it ends in one. The key of an ``http`` URL
is all that follows ``host/``, as it was typed: escapes and query stay, because a signature may cover them.
"""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path
from urllib.parse import unquote

from s3dlio.errors import OptionError

__all__ = ["CONTROL", "SCHEMES", "Uri", "shown"]

SCHEMES = ("s3", "gs", "az", "abfss", "file", "direct", "memory", "http", "https")

_SCHEME = re.compile(r"^([a-zA-Z][a-zA-Z0-9+.-]*):/{0,2}")
CONTROL = re.compile(r"[\0-\x1f\x7f]")
"""A control character: no key, bucket or header may hold one."""
_LOCAL = ("file", "direct")
_WEB = ("http", "https")

_SECRETS = re.compile(
    r"(?<=[?&])((?:x-amz-|x-goog-)?(?:signature|credential|security-token)|sig|[a-z_-]*(?:token|password|secret|key))=[^&#]+",
    re.IGNORECASE,
)
"""Parameters of presigned URLs (S3, Google, Azure), and what services of others call such a thing."""
_PASSWORD = re.compile(r"(?<=://)([^/?#@:]*):[^/?#]*@")
_TOKEN = re.compile(r"(?<=://)[^/?#:]*@")
"""What stands alone before the host of a web server: more often a token than a name."""


@dataclasses.dataclass(frozen=True, slots=True)
class Uri:
    """A parsed URI.

    Args:
        scheme: one of ``SCHEMES``; ``abfss`` becomes ``az``.
        container: bucket, container or memory store name; ``[user:password@]host[:port]`` of the web; empty for
            local files.
        key: the rest, without a leading slash; for local files the absolute path without its slash.
        account: Azure storage account when the URI names it (``abfss://c@account.dfs...``), else empty.
    """

    scheme: str
    container: str
    key: str
    account: str = ""

    @classmethod
    def parse(cls, text: str | os.PathLike[str] | Uri) -> Uri:
        """Parse ``s3://bucket/key``, ``az://container/key``, ``https://host/path``, ``file:///path``, a plain path, ...

        ``s3:/bucket`` (what ``pathlib`` makes of a URI) is repaired. Plain and relative paths become
        absolute ``file`` URIs.

        Raises:
            OptionError: nothing, an unknown scheme, a bucket or host that is missing, a bucket with a line break or
                the like.
        """
        if isinstance(text, Uri):
            return text
        raw = os.fspath(text)
        if not raw:  # the working directory, if it were a path; but most of the time a variable that is not set
            raise OptionError("parse '': the URI is empty, expected one, or a path. This directory is '.'", field="uri")
        match = _SCHEME.match(raw)
        if match is None:
            return cls._local("file", raw)
        scheme = match[1].lower()
        if scheme not in SCHEMES:
            raise OptionError(
                f"parse {_masked(raw)!r}: unknown scheme {scheme!r}, expected one of {', '.join(SCHEMES)} or a path.",
                field="uri",
            )
        if scheme in _LOCAL:
            rest = raw[len(scheme) + 1 :]
            return cls._local(scheme, unquote(re.sub(r"^/*", "/", rest) if rest.startswith("/") else rest))
        if scheme in _WEB:
            return cls._web(scheme, raw[match.end() :])
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
        if CONTROL.search(container + account):  # the line break of a file's line, most of the time
            raise OptionError(
                f"parse {raw!r}: a control character in the bucket's name, expected none. Strip the line's end.",
                field="uri",
            )
        return cls(scheme, container, key.lstrip("/"), account)

    @classmethod
    def _web(cls, scheme: str, rest: str) -> Uri:
        end = re.search(r"[/?#]|$", rest)
        assert end is not None  # the pattern matches the empty end
        container, key = rest[: end.start()], rest[end.start() :]
        if not container.rpartition("@")[2]:
            raise OptionError(
                f"parse {_masked(f'{scheme}://{rest}')!r}: no host, expected {scheme}://host/path. "
                "Add the server's name.",
                field="uri",
            )
        return cls(scheme, container, key.removeprefix("/"))

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
        """The child ``name`` below this URI taken as a directory; a query stays at the end."""
        path, query = self.key, ""
        if self.scheme in _WEB:
            begin = min((at for at in map(path.find, "?#") if at >= 0), default=len(path))
            path, query = path[:begin], path[begin:]
        base = path.rstrip("/")
        return dataclasses.replace(self, key=(f"{base}/{name.lstrip('/')}" if base else name.lstrip("/")) + query)

    def with_key(self, key: str) -> Uri:
        """The object ``key`` of the same container."""
        return dataclasses.replace(self, key=key if self.scheme in _WEB else key.lstrip("/"))

    def masked(self) -> str:
        """The URI for people and logs: with ``***`` for passwords, tokens and signatures."""
        text = _masked(str(self))
        return _TOKEN.sub("***@", text) if self.scheme in _WEB else text

    @property
    def prefix(self) -> str:
        """The key as a directory prefix: empty, or ending in exactly one slash."""
        base = self.key.rstrip("/")
        return f"{base}/" if base else ""

    @property
    def path(self) -> str:
        """The absolute path of a local URI, the key of any other."""
        return f"/{self.key}" if self.scheme in _LOCAL else self.key


def shown(uri: str) -> str:
    """``uri`` for messages: that of a web server as ``Uri.masked``, any other as it is."""
    return Uri.parse(uri).masked() if uri.startswith(("http://", "https://")) else uri


def _masked(text: str) -> str:
    return _SECRETS.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", text))
