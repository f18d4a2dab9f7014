"""One connection to a proxy, and one request on it in the hands of an action.

Owns: sockets, threads, and how a connection can end. Must not know: which requests go wrong (``faults``), or how
(``fault_actions``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import socketserver
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any

from .http_wire import Head, Response, WireError, read_head, read_request_body, read_response

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

__all__ = ["Connection", "Exchange", "Listener"]


@dataclasses.dataclass
class Exchange:
    """One request in the hands of an action, which is a function of it.

    An action ends the exchange by one of ``answer``, ``reset`` and ``close``; one that returns without has its request
    passed on as if there were no rule.
    """

    method: str
    path: str
    query: str
    request: Head
    connection: Connection
    record: Callable[[int], None]
    reached: threading.Event = dataclasses.field(default_factory=threading.Event)
    released: threading.Event = dataclasses.field(default_factory=threading.Event)
    ended: bool = False
    _body: bytes | None = None

    def body(self) -> bytes:
        """The request's body as it stood on the wire; the client is told to go on if it asked whether to."""
        if self._body is None:
            if self.request.get("Expect").lower() == "100-continue":
                self.connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._body = read_request_body(self.connection.stream, self.request)
        return self._body

    def forward(self) -> Response:
        """The upstream server's answer to the request."""
        return self.connection.ask_upstream(self.method, self.request.encode() + self.body())

    def answer(self, response: Response) -> None:
        """Send ``response``, whole; the connection stays open if both sides allow it."""
        refused = self._body is None and self.request.get("Expect").lower() == "100-continue"
        if refused:  # as servers refuse a body that they were asked about: without reading it
            self._body = b""
            response = dataclasses.replace(response, headers=[*response.headers, ("Connection", "close")])
        self.begin(response)
        self.connection.send(b"" if self.method == "HEAD" else response.body)
        if refused:
            self.connection.close()
        self.ended = True

    def begin(self, response: Response) -> None:
        """Send the head of ``response``, which announces all of its body; ``send`` and an end must follow."""
        self.body()
        self.record(response.status)  # first: a client that has its answer finds it counted
        self.connection.send(response.head(self.method))

    def send(self, data: bytes) -> None:
        """Send some of the body."""
        self.connection.send(data)

    def reset(self) -> None:
        """End by a TCP reset: the client's next read or write fails (ECONNRESET)."""
        self.connection.close(reset=True)
        self.ended = True

    def close(self) -> None:
        """End by an orderly close: the client's next read finds the end."""
        self.connection.close()
        self.ended = True

    def reach(self) -> None:
        """Set the rule's ``reached``; for actions that do not ``wait``, right before their fault."""
        self.reached.set()

    def wait(self, seconds: float | None = None) -> None:
        """Wait until the rule is released, at most ``seconds``; ``reached`` is set."""
        self.reach()
        self.released.wait(seconds)


class Connection:
    """A client's connection, and the one to the upstream server that serves it."""

    def __init__(self, client: socket.socket, upstream_address: tuple[str, int]) -> None:
        self._client = client
        self._address = upstream_address
        self._upstream: socket.socket | None = None
        self._upstream_stream: Any = None
        self.stream: Any = client.makefile("rb")
        self.closed = False

    def send(self, data: bytes) -> None:
        self._client.sendall(data)

    def ask_upstream(self, method: str, message: bytes) -> Response:
        reused = self._upstream is not None
        try:
            return self._ask(method, message)
        except ConnectionError:
            self.drop_upstream()
            if not reused:
                raise
        return self._ask(method, message)  # the server had closed the connection since the last request

    def _ask(self, method: str, message: bytes) -> Response:
        if self._upstream is None:
            self._upstream = socket.create_connection(self._address)
            self._upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._upstream_stream = self._upstream.makefile("rb")
        self._upstream.sendall(message)
        response = read_response(self._upstream_stream, method)
        if not response.keep_alive:
            self.drop_upstream()
        return response

    def drop_upstream(self) -> None:
        if self._upstream is not None:
            self._upstream_stream.close()
            self._upstream.close()
            self._upstream = None

    def wake(self) -> None:
        """End a read or write that another thread is in."""
        for end in (self._client, self._upstream):
            if end is not None:
                with contextlib.suppress(OSError):  # closed already
                    socket.socket.shutdown(end, socket.SHUT_RDWR)  # not that of TLS, which is no matter of two threads

    def close(self, *, reset: bool = False) -> None:
        if self.closed:
            return
        self.closed = True
        if reset:  # close with a linger time of zero drops what is unsent and sends a reset
            self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            self.wake()
        self.stream.close()
        self._client.close()


_TLS_HANDSHAKE = b"\x16"  # RFC 8446, section 5.1: the content type that every TLS connection begins with
_HANDSHAKE_LIMIT_S = 10.0  # or a client that connects and says nothing would keep ``stop`` from ending


class Listener(socketserver.ThreadingTCPServer):
    """Accepts connections, one thread each; joined by ``stop``.

    Args:
        handle: takes one request to its end, and says whether another may follow on the connection.
        upstream_address: host and port of the server behind.
        tls: the certificate to speak TLS with; None: plain.
    """

    daemon_threads = False
    request_queue_size = 128

    def __init__(
        self, handle: Callable[[Connection, Head], bool], upstream_address: tuple[str, int], tls: ssl.SSLContext | None
    ) -> None:
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self._handle = handle
        self._upstream_address = upstream_address
        self._tls = tls
        self._open: set[Connection] = set()
        self._stopped = False
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, name="fault-proxy")
        self.errors: list[BaseException] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self.shutdown()
        self._thread.join()
        for connection in list(self._open):
            connection.wake()
        self.server_close()  # joins the connections' threads

    def finish_request(self, request: Any, client_address: Any) -> None:
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            request.settimeout(_HANDSHAKE_LIMIT_S)
            request = self._tls.wrap_socket(request, server_side=True)
            request.settimeout(None)
        connection = Connection(request, self._upstream_address)
        self._open.add(connection)
        try:
            if self._stopped:
                return
            if self._tls is None and request.recv(1, socket.MSG_PEEK) == _TLS_HANDSHAKE:
                connection.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return  # as nginx does when it is spoken to in TLS on its plain port
            while (head := read_head(connection.stream)) is not None and self._handle(connection, head):
                pass
        finally:
            self._open.discard(connection)
            connection.drop_upstream()
            connection.close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        assert error is not None
        # Clients give up and break the connection: that is what faults are for.
        if not isinstance(error, WireError | OSError):
            self.errors.append(error)
