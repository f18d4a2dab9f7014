"""An S3 server in memory, in a process of its own: for the demo, for trying things out, for the tests.

    python examples/embedded_s3.py --port 9000 --bucket bucket     # until Ctrl-C
    with EmbeddedS3() as server: ...                               # from Python

Owns: the server process and its start and stop. Must not know: s3dlio.

The server is moto's S3 behind a small keep-alive handler. moto's own launcher opens a connection per request and
looks the service up on disk each time; without both it answers three times as many (1,090 instead of 370 GET/s
of 1 KB objects, 8 threads, 2 cores shared with the client). It checks no signature and keeps every object in
memory: put nothing there that must last.

Guarantees:
- one request at a time is inside moto, so ``If-None-Match: *`` has one winner, as on S3
- the server stops when the ``with`` block is left, and also when the process that started it dies
"""

from __future__ import annotations

import argparse
import io
import os
import selectors
import subprocess
import sys
import tempfile
import threading
import traceback
from typing import TYPE_CHECKING, Any

from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import Client

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

__all__ = ["EmbeddedS3"]

START_LIMIT_S = 60.0  # importing moto takes 2 s on an idle machine; the rest is for busy ones
ACCESS_KEY = "testing"
SECRET_KEY = "testing"  # noqa: S105 -- the server checks no signature; clients insist on sending one
REGION = "us-east-1"


def _plain_environment() -> dict[str, str]:
    """This process's variables without those for S3 clients: moto has one inside, and would follow a profile."""
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


class EmbeddedS3:
    """The server as a context manager; ``endpoint_url`` and ``environment`` are set inside the block.

    Args:
        bucket: made at the start; at least 3 characters, as S3 demands.
        port: TCP port on loopback; 0 takes a free one.
    """

    def __init__(self, bucket: str = "bucket", *, port: int = 0) -> None:
        self.bucket = bucket
        self.port = port
        self.endpoint_url = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables that point any S3 client, s3dlio included, at this server."""
        return {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def __enter__(self) -> Self:
        options = ["--bucket", self.bucket, "--port", str(self.port), "--until-stdin-ends"]
        command = [sys.executable, __file__, *options]
        with tempfile.TemporaryFile() as log:
            self._process = subprocess.Popen(  # noqa: S603 -- our own file, our own interpreter
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_plain_environment(),
                start_new_session=True,  # Ctrl-C goes to all of a terminal's group; clients would lose their server
            )
            try:
                self.endpoint_url = self._first_line()
            except BaseException:
                self.close()
                raise
            if self.endpoint_url:
                return self
            self.close()
            log.seek(0)
            wrote = log.read().decode(errors="replace")
        raise RuntimeError(
            f"start {' '.join(command)}: no address within {START_LIMIT_S:.0f} s, expected one line on standard "
            f"output. The server wrote:\n{wrote}"
        )

    def _first_line(self) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(START_LIMIT_S):
                return ""
        return self._process.stdout.readline().decode().strip()

    def close(self) -> None:
        """Stop the server. Idempotent."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()  # it holds nothing worth a farewell
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()

    def __exit__(self, *exc: object) -> None:
        self.close()


class _KeepAliveHandler(WSGIRequestHandler):
    """Reads each request whole and answers with a length, so that the connection can be used again."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # status, headers and body leave in one packet ...
    disable_nagle_algorithm = True  # ... at once: otherwise the peer's delayed ACK adds 40 ms
    one_at_a_time = threading.Lock()

    def run_wsgi(self) -> None:
        environ = self.make_environ()
        if environ.pop("HTTP_TRANSFER_ENCODING", ""):
            body = environ["wsgi.input"].read()
        else:
            body = self.rfile.read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        status, headers, answer = self._answer(environ)
        code, _, reason = status.partition(" ")
        self.send_response_only(int(code), reason)
        for name, value in headers:
            if not (name.lower() == "content-length" and self.command != "HEAD"):
                self.send_header(name, value)
        if self.command != "HEAD" and code not in {"204", "304"}:
            self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    def _answer(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: object = None) -> Any:  # noqa: ARG001 -- PEP 3333
            started.append((status, headers))

        try:
            with self.one_at_a_time:
                parts: Iterable[bytes] = self.server.app(environ, start_response)
                try:
                    answer = b"".join(parts)
                finally:
                    if hasattr(parts, "close"):
                        parts.close()
        except Exception:  # noqa: BLE001 -- a fault of the server is the client's 500 and the log's traceback
            traceback.print_exc()
            return "500 Internal Server Error", [("Content-Type", "text/plain")], traceback.format_exc().encode()
        return (*started[-1], answer)

    def handle_expect_100(self) -> bool:
        proceed = super().handle_expect_100()
        self.wfile.flush()
        return proceed

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log nothing: a line a request costs more than the request's share of the network."""


def _leave_at_end_of_stdin() -> None:
    while os.read(sys.stdin.fileno(), 1024):  # not through sys.stdin: its lock would be held at interpreter shutdown
        pass
    os._exit(0)


def serve(bucket: str, port: int) -> None:
    """Serve for ever, after one line on standard output with the endpoint's URL."""
    os.environ["MOTO_DISABLE_GLOBAL_CORS"] = "true"  # read when moto is imported
    from moto.server import create_backend_app  # noqa: PLC0415 -- after the variable, and only in the server

    app = create_backend_app("s3")
    made = Client(app).put(f"/{bucket}", base_url="http://127.0.0.1/")
    if made.status_code != 200:
        raise SystemExit(f"make bucket {bucket}: answer {made.status_code}, expected 200. {made.text}")
    with make_server("127.0.0.1", port, app, threaded=True, request_handler=_KeepAliveHandler) as server:
        print(f"http://127.0.0.1:{server.port}", flush=True)
        server.serve_forever()


def main() -> None:
    """Command line of the server."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="TCP port on loopback; 0, the default: a free one")
    parser.add_argument("--bucket", default="bucket", help="a bucket to make at the start")
    parser.add_argument("--until-stdin-ends", action="store_true", help="stop when standard input ends")
    options = parser.parse_args()
    if options.until_stdin_ends:
        threading.Thread(target=_leave_at_end_of_stdin, daemon=True).start()
    serve(options.bucket, options.port)


if __name__ == "__main__":
    main()
