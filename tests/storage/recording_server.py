"""A server that keeps every request, headers and all, and answers as a test says: what does a client really send?"""

from __future__ import annotations

import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from email.message import Message
    from pathlib import Path
    from typing import Self

BODY = b"content"


class Recorded(NamedTuple):
    """One request."""

    method: str
    target: str
    headers: Message
    body: bytes

    @property
    def key(self) -> str | None:
        """The access key that signed it; None if it is unsigned."""
        found = re.search(r"Credential=([^/]+)/", self.headers.get("Authorization", ""))
        return found and found[1]

    @property
    def region(self) -> str | None:
        """The region that it is signed for."""
        found = re.search(r"Credential=[^/]+/\d+/([^/]+)/", self.headers.get("Authorization", ""))
        return found and found[1]


class RecordingServer:
    """Every object exists and holds ``BODY``; every upload succeeds. A context manager.

    Args:
        answer: (status, body) for a request, or None for the usual. The body of a redirect is the URL it leads to.
        certificate: speak TLS with this file.
    """

    def __init__(
        self, answer: Callable[[Recorded], tuple[int, bytes] | None] | None = None, *, certificate: Path | None = None
    ) -> None:
        self.requests: list[Recorded] = []
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length)
                if self.headers.get("Transfer-Encoding") == "chunked":
                    body = self._chunks()
                request = Recorded(self.command, self.path, self.headers, body)
                recorder.requests.append(request)
                status, content = (answer and answer(request)) or (
                    200,
                    BODY if self.command in {"GET", "HEAD"} else b"",
                )
                self.send_response_only(status)
                self.send_header("Content-Length", str(len(content)))
                if status in {301, 302, 303, 307, 308}:
                    self.send_header("Location", content.decode())
                self.send_header("ETag", '"etag"')
                self.send_header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(content)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815 - http.server looks for these names

            def _chunks(self) -> bytes:
                found = b""
                while size := int(self.rfile.readline(), 16):
                    found += self.rfile.read(size)
                    self.rfile.readline()
                while self.rfile.readline().strip():
                    pass
                return found

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme = "https" if certificate else "http"
        self.authority = f"127.0.0.1:{self._server.server_address[1]}"
        self.endpoint_url = f"{scheme}://{self.authority}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def keys(self) -> set[str | None]:
        """Who signed the requests."""
        return {request.key for request in self.requests}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
