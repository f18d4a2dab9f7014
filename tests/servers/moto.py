"""moto's S3 in a process of its own: the server that every test run has. Behaviour, not speed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from .server import S3Server

_LAUNCHER = Path(__file__).parents[2] / "examples" / "embedded_s3.py"


class MotoServer(S3Server):
    """``examples/embedded_s3.py``, as the demo starts it."""

    name = "moto"
    cannot = ("access is not checked: moto takes whatever keys",)
    access_key = "testing"
    secret_key = "testing"

    def __init__(self) -> None:
        spec = importlib.util.spec_from_file_location("embedded_s3", _LAUNCHER)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        self._embedded: Any = module.EmbeddedS3(self.container)

    def start(self) -> None:
        self.endpoint_url = self._embedded.__enter__().endpoint_url

    def stop(self) -> None:
        self._embedded.close()
