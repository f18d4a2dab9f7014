"""The emulator of Google Cloud Storage beside this, in a process of its own."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

from .process import Processes
from .server import Server, free_port

_PROGRAM = Path(__file__).with_name("google_emulator.py")
_START_LIMIT_S = 60.0  # under 1 s on an idle machine


class GoogleServer(Server):
    """It accepts every token, so there are no keys."""

    name = "google emulator"
    cannot = (
        "buckets cannot be listed: neither engine has the request",
        "access is not checked: the emulator takes every token",
        "arrow: a range that begins beyond 8 MiB waits for its first byte with Python's lock held",
        "arrow: a listing or a copy that is never answered ends after 20 times read_timeout_s",
        "arrow: no ca_bundle, but SSL_CERT_FILE",
    )
    scheme = "gs"
    region = ""
    container = "bucket"
    access_key = ""
    secret_key = ""

    def __init__(self) -> None:
        self._processes = Processes("google")

    @property
    def environment(self) -> dict[str, str]:
        return {"STORAGE_EMULATOR_HOST": self.endpoint_url, "GOOGLE_CLOUD_PROJECT": "project"}

    def start(self) -> None:
        port = free_port()
        self._processes.spawn([sys.executable, str(_PROGRAM), str(port)])
        self.endpoint_url = f"http://127.0.0.1:{port}"
        self._processes.wait(self.endpoint_url, limit_s=_START_LIMIT_S)
        self.make_container(self.container)

    def stop(self) -> None:
        self._processes.stop()

    def make_container(self, name: str) -> None:
        with contextlib.closing(self.client()) as client:
            client.create_bucket(name)

    def client(self) -> Any:
        """Google's own client: it shares no code with the library."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud import storage

        return storage.Client(
            project="project",
            credentials=AnonymousCredentials(),
            client_options={"api_endpoint": self.endpoint_url},
        )
