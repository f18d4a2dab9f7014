"""A web server of objects for the tests of ``http://``, whose behaviour a test chooses. HTTP/1.1.

It counts what it is asked: ``requests`` as (method, path, headers), ``connections`` as their number.
"""

from __future__ import annotations

import contextlib
import email.utils
import hashlib
import http.server
import re
import socket
import socketserver
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import Self

    Behaviour = Callable[["WebHandler"], bool]

MODIFIED = 1_700_000_000


class WebHandler(http.server.BaseHTTPRequestHandler):
    """Answers GET and HEAD of ``server.web.objects``, by path as it was sent, query included."""

    protocol_version = "HTTP/1.1"
    server: _Listener
    timeout = 60

    def setup(self) -> None:
        super().setup()
        self.server.web.connections += 1
        self.server.web.sockets.add(self.connection)

    def finish(self) -> None:
        self.server.web.sockets.discard(self.connection)
        with contextlib.suppress(OSError):
            super().finish()

    def do_GET(self) -> None:
        web = self.server.web
        web.requests.append((self.command, self.path, dict(self.headers)))
        if any(behaviour(self) for behaviour in web.behaviours):
            return
        body = web.objects.get(self.path)
        if body is None:
            self.answer(404, b"<html>not found</html>")
            return
        etag = web.etag(body)
        headers = {"Last-Modified": email.utils.formatdate(MODIFIED, usegmt=True)}
        if etag is not None:
            headers["ETag"] = etag
        wanted = self.headers.get("If-Match")
        if wanted is not None and wanted != etag:
            self.answer(412, b"")
            return
        asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if asked is None or web.ignores_range:
            self.answer(200, body, headers)
            return
        start, end = int(asked[1]), min(int(asked[2]) + 1, len(body))
        if start >= len(body):
            self.answer(416, b"", {"Content-Range": f"bytes */{len(body)}"})
            return
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(body)}"
        self.answer(206, body[start:end], headers)

    do_HEAD = do_GET  # noqa: N815 - the standard library's name

    def answer(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        *,
        announce: int | None = None,
        chunked: bool = False,
    ) -> None:
        """Answer with ``body``; ``announce``: another Content-Length than its own, -1 for none."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            if self.command != "HEAD":
                for at in range(0, len(body), 1000):
                    piece = body[at : at + 1000]
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
                self.wfile.write(b"0\r\n\r\n")
            return
        if announce is None or announce >= 0:
            self.send_header("Content-Length", str(len(body) if announce is None else announce))
        if announce is not None:
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing: requests are counted."""


class _Listener(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = False
    block_on_close = True
    request_queue_size = 128

    def __init__(self, web: WebServer) -> None:
        self.web = web
        super().__init__(("127.0.0.1", 0), WebHandler)

    def handle_error(self, *args: object) -> None:
        """Nothing: clients break connections on purpose."""


class WebServer:
    """A running server, used as a context manager."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.objects: dict[str, bytes] = {}
        self.requests: list[tuple[str, str, dict[str, Any]]] = []
        self.connections = 0
        self.sockets: set[Any] = set()
        self.behaviours: list[Behaviour] = []
        """Asked before the objects; the first that returns true has answered."""
        self.ignores_range = False
        self.etag: Callable[[bytes], str | None] = lambda body: f'"{hashlib.md5(body).hexdigest()}"'
        self._listener = _Listener(self)
        if tls is not None:
            self._listener.socket = tls.wrap_socket(self._listener.socket, server_side=True)
        self.address = f"127.0.0.1:{self._listener.server_address[1]}"
        self.url = f"{'http' if tls is None else 'https'}://{self.address}"
        self._thread = threading.Thread(target=self._listener.serve_forever, kwargs={"poll_interval": 0.01})

    def times(self, count: int, behaviour: Callable[[WebHandler], object]) -> None:
        """``behaviour`` answers the next ``count`` requests."""
        left = [None] * count

        def maybe(handler: WebHandler) -> bool:
            try:
                left.pop()
            except IndexError:
                return False
            behaviour(handler)
            return True

        self.behaviours.append(maybe)

    def drop_connections(self) -> None:
        """Close what clients keep open, as a server does with idle connections."""
        for connection in [*self.sockets]:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown()
        self._thread.join()
        self.drop_connections()
        self._listener.server_close()
