"""Azurite, Microsoft's own emulator of Azure Blob Storage, with its blobs in memory."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from .process import Processes
from .server import Server, find_programs, free_port

INSTALL = "npm install --no-save --prefix .servers azurite@3.37"
_BIN = Path(__file__).parents[2] / ".servers" / "node_modules" / ".bin"
_START_LIMIT_S = 60.0  # 2 s on an idle machine


class AzuriteServer(Server):
    """``access_key`` is the account's name, ``secret_key`` its shared key, ``endpoint_url`` ends in the account."""

    name = "azurite"
    cannot = (
        "left out of the faults on every server, arrow engine: pyarrow's client repeats by itself, for 6 s",
        "left out of the faults, arrow engine: errors with an empty XML body, which end the process in pyarrow",
    )
    scheme = "az"
    region = ""
    container = "container"
    access_key = "devstoreaccount1"
    secret_key = base64.b64encode(b"a key that only this server knows").decode()

    def __init__(self) -> None:
        self._processes = Processes(self.name)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AZURE_STORAGE_ACCOUNT": self.access_key,
            "AZURE_STORAGE_ACCOUNT_NAME": self.access_key,
            "AZURE_STORAGE_KEY": self.secret_key,
            "AZURE_STORAGE_ACCOUNT_KEY": self.secret_key,
            "AZURE_STORAGE_ENDPOINT": self.endpoint_url,
        }

    @property
    def authority(self) -> str:
        """``host:port``, as pyarrow wants it."""
        return self.endpoint_url.removeprefix("http://").partition("/")[0]

    def start(self) -> None:
        (program,) = find_programs("azurite-blob", install=INSTALL, folder=_BIN)
        port = free_port()
        switches = ["--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
        switches += ["--blobKeepAliveTimeout", "120"]  # its 5 s would close connections under a client that reuses them
        self._processes.spawn(
            [program, *switches, "--blobHost", "127.0.0.1", "--blobPort", str(port)],
            environment={**os.environ, "AZURITE_ACCOUNTS": f"{self.access_key}:{self.secret_key}"},
        )
        self.endpoint_url = f"http://127.0.0.1:{port}/{self.access_key}"
        self._processes.wait(self.endpoint_url, limit_s=_START_LIMIT_S)
        self.make_container(self.container)

    def stop(self) -> None:
        self._processes.stop()

    def make_container(self, name: str) -> None:
        import pyarrow.fs  # Azure's SDK in C++: no code in common with the engine that is the default

        pyarrow.fs.AzureFileSystem(
            self.access_key,
            account_key=self.secret_key,
            blob_storage_authority=self.authority,
            blob_storage_scheme="http",
            dfs_storage_authority=self.authority,
            dfs_storage_scheme="http",
        ).create_dir(name)
