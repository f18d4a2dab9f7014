"""What the tests know of a server, and how they wait for one. One module beside this for each kind of server.

Guarantees: a server that was asked for and cannot start is an error with its log and the remedy, never a skip.
"""

from __future__ import annotations

import abc
import contextlib
import os
import shutil
import socket
import time
import urllib.error
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Self


class Server(abc.ABC):
    """A running server, used as a context manager; attributes are valid inside the block."""

    name: str
    """What reports call it."""
    cannot: tuple[str, ...] = ()
    """What is not tested on it because it, or a client on it, cannot do it: a phrase each, for the report."""
    scheme: str
    endpoint_url: str
    access_key: str
    secret_key: str
    region: str
    container: str
    """A bucket or container that exists."""

    @abc.abstractmethod
    def start(self) -> None:
        """Start, and return once the server answers and ``container`` exists."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Stop what ``start`` started. Idempotent, also after a ``start`` that failed."""

    @abc.abstractmethod
    def make_container(self, name: str) -> None:
        """Make an empty bucket or container."""

    @property
    @abc.abstractmethod
    def environment(self) -> dict[str, str]:
        """The variables that point a client at this server."""

    def new_container(self) -> str:
        """Make an empty bucket or container that no other test knows, and return its name."""
        name = f"test-{uuid.uuid4().hex[:12]}"
        self.make_container(name)
        return name

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()


class S3Server(Server):
    """What all S3 servers share."""

    scheme = "s3"
    region = "us-east-1"
    container = "bucket"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL": self.endpoint_url,
        }

    def make_container(self, name: str) -> None:
        with self.client() as client:
            client.create_bucket(Bucket=name)

    def client(self) -> AbstractContextManager[Any]:
        """A boto3 client: it shares no code with the library, and starts no thread."""
        import boto3
        import botocore.config

        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            # Older gateways refuse the checksums that boto3 has added to every upload since 2025.
            config=botocore.config.Config(
                s3={"addressing_style": "path"}, request_checksum_calculation="when_required"
            ),
        )
        return contextlib.closing(client)


def free_port() -> int:
    """A TCP port on loopback that nobody listens on now; somebody may take it before the server does."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def find_programs(*names: str, install: str, folder: Path | None = None) -> list[str]:
    """Full paths of ``names``, looked up on PATH and, if given, in ``folder`` first."""
    path = os.pathsep.join([*([str(folder)] if folder else []), os.environ.get("PATH", os.defpath), "/usr/sbin"])
    found = [shutil.which(name, path=path) for name in names]
    missing = [name for name, where in zip(names, found, strict=True) if where is None]
    if missing:
        raise FileNotFoundError(f"start server: no program {', '.join(missing)}, expected it on PATH. Run: {install}")
    return [where for where in found if where]


def wait_for_answer(url: str, *, limit_s: float, died: Callable[[], str], log: Callable[[], str]) -> None:
    """Return once ``url`` answers over HTTP, with whatever status.

    Args:
        url: asked every 0.1 s.
        limit_s: when to give up.
        died: says why there is no hope any more; empty while there is.
        log: the server's words, for the error.
    """
    deadline = time.monotonic() + limit_s
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback, whatever proxy is configured
    while True:
        try:
            opener.open(url, timeout=5).close()
        except urllib.error.HTTPError as answer:
            answer.close()
        except OSError as error:
            reason = died()
            if not reason and time.monotonic() < deadline:
                time.sleep(0.1)
                continue
            raise RuntimeError(
                f"start server at {url}: {reason or error}, expected an answer within {limit_s:.0f} s. "
                f"The server wrote:\n{log()}"
            ) from error
        return
