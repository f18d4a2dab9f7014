"""Connections to web servers: kept alive, through proxies, over redirects. One request, one answer, no retries.

Owns: sockets, TLS, ``http_proxy`` and its kin. Must not know: objects, ranges, what a status means.

Guarantees:
- a connection is used by one request at a time, and again only after its answer was read to the end, if nothing else
  came: an answer never reaches a request that it was not for
- a kept connection that the server had closed meanwhile costs a new one, not an error
- a redirect is followed a few times, never from https to http, and takes no password to another server
- nothing is shared over a fork: the owner makes one of these for each process
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import http.client
import re
import select
import ssl
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from s3dlio.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from s3dlio.storage.configuration.options import StorageOptions

__all__ = ["Connections", "RedirectError", "Url"]

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 5

_MAX_IDLE = 64
"""Connections to one server that are kept: as many as readers usually have requests in flight."""

_DRAINED_BYTES = 64 << 10
"""What is read of an answer that nobody wants, to keep its connection. A new one costs about as much."""


class RedirectError(Exception):
    """A redirect that is not followed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Url:
    """Where a request goes. The path is as it was typed, with what no URL may hold escaped; a fragment is not sent."""

    scheme: str
    server: str
    path: str
    authorization: str = ""

    @classmethod
    def parse(cls, text: str) -> Url:
        """Parse an ``http://`` or ``https://`` URL.

        Raises:
            OptionError: it has no host, or a port that is none.
        """
        scheme, _, rest = text.partition("://")
        end = re.search(r"[/?#]|$", rest)
        assert end is not None  # the pattern matches the empty end
        userinfo, _, server = rest[: end.start()].rpartition("@")
        path = quote(rest[end.start() :].partition("#")[0], safe="/?%:@!$&'()*+,;=~[]")
        try:
            parts = urlsplit(f"{scheme}://{server}")
            legal = bool(parts.hostname) and parts.port != 0 and not re.search(r"[\x00-\x20\x7f]", server)
        except ValueError:
            legal = False
        if not legal:
            raise OptionError(f"open {scheme}://{server!r}: got no host and port, expected host[:port].", field="uri")
        return cls(scheme, server, path if path.startswith("/") else f"/{path}", _basic(userinfo))

    def redirected(self, location: str) -> Url:
        """The URL that ``location`` names here.

        Raises:
            RedirectError: it leads out of TLS, away from the web, or nowhere.
        """
        try:
            target = urljoin(f"{self.scheme}://{self.server}{self.path}", location)
        except ValueError as error:
            raise RedirectError(f"redirected to what is no URL ({error})") from error
        if not target.startswith(("https://", "http://") if self.scheme == "http" else "https://"):
            raise RedirectError(f"redirected from {self.scheme}:// to {target.partition(':')[0]}:")
        try:
            url = Url.parse(target)
        except OptionError as error:
            raise RedirectError("redirected to a URL without a host and port that can be") from error
        same = (url.scheme, url.server) == (self.scheme, self.server)
        return dataclasses.replace(url, authorization=self.authorization) if same and not url.authorization else url


class Connections:
    """The open connections of one store in one process.

    Threads: any. No lock: a list's ``append`` and ``pop`` are atomic.

    Args:
        options: ``connect_timeout_s``, ``read_timeout_s``, ``ca_bundle``.
    """

    def __init__(self, options: StorageOptions) -> None:
        self._options = options
        self._idle: dict[tuple[str, str], list[http.client.HTTPConnection]] = {}
        self._proxies: dict[tuple[str, str], Url | None] = {}
        self._context: ssl.SSLContext | None = None
        self._closed = False

    @contextlib.contextmanager
    def answer(self, method: str, url: Url, headers: Mapping[str, str]) -> Iterator[http.client.HTTPResponse]:
        """The server's answer, whose body is to be read inside the block.

        Raises:
            OSError: no connection, or it broke; a TimeoutError after ``read_timeout_s`` without a byte.
            http.client.HTTPException: what came is not HTTP.
            RedirectError: too many redirects, or one that is not followed.
        """
        for _ in range(_MAX_REDIRECTS + 1):
            origin = url.scheme, url.server
            connection, answer = self._ask(method, url, headers)
            try:
                location = answer.getheader("Location") if answer.status in _REDIRECTS else None
                if location is None:
                    yield answer
                    return
                url = url.redirected(location)
                answer.read(_DRAINED_BYTES)
            finally:
                self._end(origin, connection, answer)
        raise RedirectError(f"redirected more than {_MAX_REDIRECTS} times")

    def close(self) -> None:
        """Close what is idle; what is in use closes when its answer ends. Idempotent."""
        self._closed = True
        for origin in [*self._idle]:
            while (connection := self._pop(origin)) is not None:
                connection.close()

    def _ask(
        self, method: str, url: Url, headers: Mapping[str, str]
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        while (kept := self._pop((url.scheme, url.server))) is not None:
            if not _is_quiet(kept):
                kept.close()
                continue
            try:
                return kept, self._send(kept, method, url, headers)
            except (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
                kept.close()  # the server has closed it just now; ask again on another one
            except BaseException:
                kept.close()
                raise
        connection = self._connection(url)
        try:
            connection.connect()
            connection.sock.settimeout(self._options.read_timeout_s)
            return connection, self._send(connection, method, url, headers)
        except BaseException:
            connection.close()
            raise

    def _send(
        self, connection: http.client.HTTPConnection, method: str, url: Url, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        proxy = self._proxy(url)
        sent = {"User-Agent": "s3dlio", "Accept": "*/*", **headers}  # http.client adds Host, and asks for no encoding
        if url.authorization:
            sent["Authorization"] = url.authorization
        if proxy is not None and url.scheme == "http" and proxy.authorization:
            sent["Proxy-Authorization"] = proxy.authorization
        target = f"http://{url.server}{url.path}" if proxy is not None and url.scheme == "http" else url.path
        connection.request(method, target, headers=sent)
        return connection.getresponse()

    def _connection(self, url: Url) -> http.client.HTTPConnection:
        """A connection that is not yet open."""
        timeout_s = self._options.connect_timeout_s
        proxy = self._proxy(url)
        server = url.server if proxy is None else proxy.server
        if url.scheme == "http":
            plain = http.client.HTTPConnection(server, timeout=timeout_s)
            plain.response_class = _Answer
            return plain
        connection = http.client.HTTPSConnection(server, timeout=timeout_s, context=self._tls())
        connection.response_class = _Answer
        if proxy is not None:
            headers = {"Proxy-Authorization": proxy.authorization} if proxy.authorization else {}
            connection.set_tunnel(url.server, headers=headers)
        return connection

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            context = ssl.create_default_context()
            bundle = self._options.ca_bundle
            if bundle is not None:
                try:
                    context.load_verify_locations(bundle)
                except OSError as error:  # an SSLError is one
                    raise OptionError(
                        f"open https://: ca_bundle {bundle}: {error.strerror or error}, expected a file of PEM "
                        "certificates. Check the path.",
                        field="ca_bundle",
                    ) from error
            self._context = context
        return self._context

    def _proxy(self, url: Url) -> Url | None:
        """The proxy that the environment named for the server of ``url`` when it was first asked; None for none."""
        origin = url.scheme, url.server
        if origin not in self._proxies:
            named = getproxies()
            found = named.get(url.scheme) or named.get("all")
            self._proxies[origin] = _proxy_url(found) if found and not proxy_bypass(url.server) else None
        return self._proxies[origin]

    def _pop(self, origin: tuple[str, str]) -> http.client.HTTPConnection | None:
        try:
            return self._idle[origin].pop()  # the newest, so that in quiet times the others grow old and go
        except LookupError:
            return None

    def _end(
        self, origin: tuple[str, str], connection: http.client.HTTPConnection, answer: http.client.HTTPResponse
    ) -> None:
        idle = self._idle.setdefault(origin, [])
        reusable = answer.isclosed() and not answer.will_close and len(idle) < _MAX_IDLE
        answer.close()
        if not reusable or self._closed:
            connection.close()
            return
        idle.append(connection)
        if self._closed and (late := self._pop(origin)) is not None:  # close came in between
            late.close()


class _Answer(http.client.HTTPResponse):
    """An answer whose forerunners, such as 103 Early Hints, are passed over (RFC 9110, section 15.2).

    The class above knows 100 alone. It takes another one for the answer, and the answer for that of the next request.
    """

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]  # typeshed leaves it out
        return version, http.client.CONTINUE if 101 < status < 200 else status, reason


def _is_quiet(connection: http.client.HTTPConnection) -> bool:
    """Whether a kept connection may be used: an end of it, or bytes that nobody asked for, would be read next."""
    if connection.sock is None:
        return False
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return not poll.poll(0)


def _proxy_url(text: str) -> Url:
    url = Url.parse(text if "://" in text else f"http://{text}")
    if url.scheme != "http":
        raise OptionError(
            f"open {url.scheme}://{url.server}: the environment's proxy is reached by {url.scheme}, expected http. "
            "Name another one in http_proxy and https_proxy, or list the server in no_proxy.",
            field="uri",
        )
    # The class that tunnels would take 443 for the port that is left out.
    return url if urlsplit(f"//{url.server}").port else dataclasses.replace(url, server=f"{url.server}:80")


def _basic(userinfo: str) -> str:
    return "Basic " + base64.b64encode(unquote(userinfo).encode()).decode() if userinfo else ""
