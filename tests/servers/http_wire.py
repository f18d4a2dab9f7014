"""HTTP/1.1 messages as they come over a socket: just enough for a proxy between a client and a test server.

Owns: the framing of heads and bodies. Must not know: sockets' lives, faults, S3.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["Head", "Response", "read_head", "read_request_body", "read_response"]


class WireError(ConnectionError):
    """The peer closed in the middle of a message, or does not speak HTTP/1.1."""


@dataclasses.dataclass(slots=True)
class Head:
    """The first line and the headers of a message, in their order and spelling."""

    first_line: str
    headers: list[tuple[str, str]]

    def get(self, name: str) -> str:
        """The value of a header, whatever its spelling; empty if it is not there."""
        return next((value for found, value in self.headers if found.lower() == name.lower()), "")

    def encode(self) -> bytes:
        """The bytes on the wire, with the empty line."""
        lines = [self.first_line, *(f"{name}: {value}" for name, value in self.headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


@dataclasses.dataclass(slots=True)
class Response:
    """An answer with its body whole and not chunked."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes
    reason: str = "-"
    keep_alive: bool = True

    def head(self, method: str, *, announced: int | None = None) -> bytes:
        """Status line and headers for an answer to ``method``; they announce the body's length, or ``announced``."""
        headers = self.headers
        if method != "HEAD" and self.status not in {204, 304}:
            headers = [(name, value) for name, value in headers if name.lower() not in _FRAMING]
            headers = [*headers, ("Content-Length", str(len(self.body) if announced is None else announced))]
        return Head(f"HTTP/1.1 {self.status} {self.reason}", headers).encode()


_FRAMING = {"content-length", "transfer-encoding"}
_MAX_LINE = 1 << 16


def read_head(stream: BinaryIO) -> Head | None:
    """The next message's head; None if the peer has closed instead of beginning one."""
    first = stream.readline(_MAX_LINE)
    if not first:
        return None
    headers = []
    while (line := stream.readline(_MAX_LINE)) not in {b"\r\n", b"\n"}:
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise WireError(f"read head: got {line!r}, expected a header.")
        headers.append((name, value.strip()))
    return Head(first.decode("latin-1").rstrip("\r\n"), headers)


def read_request_body(stream: BinaryIO, head: Head) -> bytes:
    """The body as it stands on the wire, chunk framing included: signatures may cover what it says."""
    if "chunked" in head.get("Transfer-Encoding").lower():
        return _read_chunked(stream)[0]
    return _read_exactly(stream, int(head.get("Content-Length") or 0))


def read_response(stream: BinaryIO, method: str) -> Response:
    """The answer to ``method``, past the interim ones (100 Continue)."""
    while True:
        head = read_head(stream)
        if head is None:
            raise WireError("read answer: the server closed the connection, expected an answer.")
        version, status, *reason = head.first_line.split(" ", 2)
        if not status.startswith("1"):
            break
    ends = version == "HTTP/1.0" or head.get("Connection").lower() == "close"
    if method == "HEAD" or status in {"204", "304"}:
        body = b""
    elif "chunked" in head.get("Transfer-Encoding").lower():
        body = _read_chunked(stream)[1]
    elif head.get("Content-Length"):
        body = _read_exactly(stream, int(head.get("Content-Length")))
    else:
        body, ends = stream.read(), True
    return Response(int(status), head.headers, body, " ".join(reason), keep_alive=not ends)


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise WireError(f"read body: got {len(data)} bytes, expected {size}.")
    return data


def _read_chunked(stream: BinaryIO) -> tuple[bytes, bytes]:
    """The body with its framing, and without."""
    wire, decoded = [], []
    while True:
        line = stream.readline(_MAX_LINE)
        if not line:
            raise WireError("read chunk: the peer closed the connection, expected a size.")
        size = int(line.partition(b";")[0], 16)
        if size == 0:
            break
        data = _read_exactly(stream, size)
        wire += [line, data, _read_exactly(stream, 2)]
        decoded.append(data)
    while line not in {b"\r\n", b"\n", b""}:
        wire.append(line)
        line = stream.readline(_MAX_LINE)
    return b"".join([*wire, line]), b"".join(decoded)
