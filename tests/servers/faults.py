"""A proxy in front of any test server that counts the requests and breaks those that a test names.

    def test_a_reset(fault_proxy):                              # moto behind it, the environment points at it
        fault_proxy.fail(reset_in_body(after=100), method="GET", path="/key$")      # the first such request
        fault_proxy.fail(status(503), method="PUT", times=None)                     # every PUT, for ever
        ...
        assert fault_proxy.count("GET", "/key$") == 2

The actions are in ``fault_actions``. Owns: the count and the order of rules. Must not know: what a fault does.

Guarantees:
- what no rule matches is passed on byte for byte, ``Host`` included, so signatures stay valid
- rules are tried in the order in which they were made; matches are counted in the order of arrival, under one lock
- a fault that waits ends when its rule is released, the rules are cleared or the proxy stops: no test waits for it
- a request is in ``requests`` before anything is done with it, so also one that never gets an answer
- an error of the proxy itself is raised by ``stop``
"""

from __future__ import annotations

import re
import ssl
import threading
from typing import TYPE_CHECKING, NamedTuple

from .exchange import Connection, Exchange, Listener
from .server import Server

if TYPE_CHECKING:
    from pathlib import Path

    from .fault_actions import Action
    from .http_wire import Head

__all__ = ["FaultProxy", "Rule", "Seen"]


class Seen(NamedTuple):
    """One request that arrived."""

    method: str
    path: str
    """As the client sent it: with its escapes, without the query."""
    query: str
    status: int
    """Of the answer that the client was sent; 0 while there is none, and if there never was one."""


class Rule:
    """What ``FaultProxy.fail`` returns: which requests an action is for, and what has become of it."""

    def __init__(self, action: Action, method: str | None, path: str, query: str, skip: int, times: int | None) -> None:
        self._action = action
        self._method, self._path, self._query = method, re.compile(path), re.compile(query)
        self._skip, self._left = skip, times
        self._ended = threading.Event()
        self.reached = threading.Event()
        """Set when the action first got to its fault: a stall has sent its bytes, a delay begins, ..."""
        self.applied = 0
        """Requests that the action was applied to."""

    def release(self) -> None:
        """End the action's waiting, now and for later requests: a stall and a delay go on with the answer."""
        self._ended.set()

    def _take(self, seen: Seen) -> Action | None:
        """The action if it is this request's turn. Called under the proxy's lock."""
        matches = (
            (self._method is None or self._method == seen.method)
            and self._path.search(seen.path)
            and self._query.search(seen.query)
        )
        if not matches or self._left == 0:
            return None
        if self._skip:
            self._skip -= 1
            return None
        if self._left is not None:
            self._left -= 1
        self.applied += 1
        return self._action


class FaultProxy(Server):
    """A ``Server`` that is another one seen through faults. See the module; a context manager.

    Args:
        upstream: a running server: moto, radosgw, Azurite or any other. It stays its owner's.
        certificate: speak TLS with this file (certificate and key, PEM; ``certificates.make_certificate``). The
            upstream is still asked in plain HTTP.
        latency_s: every answer comes so much later than the request, as on a network.

    ``upstream`` itself is the side channel: what a test does there is neither counted nor broken.
    """

    def __init__(self, upstream: Server, *, certificate: Path | None = None, latency_s: float = 0.0) -> None:
        self.upstream = upstream
        self._latency_s = latency_s
        self._stopping = threading.Event()
        self.name, self.cannot = upstream.name, upstream.cannot
        self.scheme, self.region, self.container = upstream.scheme, upstream.region, upstream.container
        self.access_key, self.secret_key = upstream.access_key, upstream.secret_key
        self.requests: list[Seen] = []
        self._rules: list[Rule] = []
        self._lock = threading.Lock()
        self._listener: Listener | None = None
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)

    @property
    def environment(self) -> dict[str, str]:
        """The upstream's variables, pointing here."""
        return {
            name: value.replace(self.upstream.endpoint_url, self.endpoint_url)
            for name, value in self.upstream.environment.items()
        }

    def start(self) -> None:
        _, slashes, rest = self.upstream.endpoint_url.partition("://")
        authority, slash, path = rest.partition("/")
        host, _, port = authority.partition(":")
        self._listener = Listener(self._handle, (host, int(port or 80)), self._tls)
        scheme = "https" if self._tls else "http"
        self.endpoint_url = f"{scheme}{slashes}127.0.0.1:{self._listener.server_address[1]}{slash}{path}"
        self._listener.start()

    def stop(self) -> None:
        """Close every connection. Idempotent.

        Raises:
            BaseException: what went wrong in the proxy itself, if something did.
        """
        self._stopping.set()
        self.clear()
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()
            if listener.errors:
                raise listener.errors[0]

    def make_container(self, name: str) -> None:
        """Make an empty bucket or container, uncounted."""
        self.upstream.make_container(name)

    def fail(
        self,
        action: Action,
        *,
        method: str | None = None,
        path: str = "",
        query: str = "",
        skip: int = 0,
        times: int | None = 1,
    ) -> Rule:
        """Apply ``action`` to requests to come; the first rule whose turn it is wins.

        Args:
            action: ``status(503)``, ``reset_in_body(100)``, ...: a function of the ``Exchange``.
            method: ``"GET"``, ...; None: any.
            path: a regular expression that must match somewhere in the path as sent (``/bucket/some%20key``).
            query: one that must match somewhere in the query (``uploads``, ``partNumber=2``, ``list-type=2``).
            skip: matching requests that pass before the first that fails. The nth alone: ``skip=n - 1, times=1``.
            times: matching requests that fail; None: all.
        """
        rule = Rule(action, method, path, query, skip, times)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Drop and release all rules, and forget the requests seen."""
        with self._lock:
            rules, self._rules = self._rules, []
            self.requests = []
        for rule in rules:
            rule.release()

    def count(self, method: str | None = None, path: str = "", query: str = "") -> int:
        """How many requests like that have arrived; patterns as in ``fail``."""
        return sum(
            (method is None or seen.method == method)
            and bool(re.search(path, seen.path))
            and bool(re.search(query, seen.query))
            for seen in list(self.requests)
        )

    def _handle(self, connection: Connection, request: Head) -> bool:
        """Take one request to its end; whether another may follow on the connection."""
        method, target, _ = request.first_line.split(" ", 2)
        path, _, query = target.partition("?")
        seen = Seen(method, path, query, 0)
        with self._lock:
            log, number = self.requests, len(self.requests)
            log.append(seen)
            action, rule = next(
                ((action, rule) for rule in self._rules if (action := rule._take(seen)) is not None), (None, None)
            )

        def record(status: int) -> None:
            log[number] = seen._replace(status=status)

        if self._latency_s:
            self._stopping.wait(self._latency_s)
        exchange = Exchange(method, path, query, request, connection, record)
        if action is not None and rule is not None:
            exchange.reached, exchange.released = rule.reached, rule._ended
            action(exchange)
        if not exchange.ended:
            exchange.answer(exchange.forward())
        return not connection.closed and request.get("Connection").lower() != "close"
