"""The digits in a bucket, and the example's scripts run as a user runs them: each in a process of its own."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
LIMIT_S = 150  # importing TensorFlow alone takes 20 s on two busy cores


@dataclasses.dataclass(frozen=True)
class Finished:
    """What a script left: exit status (negative: killed by that signal), what it printed."""

    status: int
    output: str
    errors: str


class Scripts:
    """Runs the scripts of ``examples/digits`` against the embedded server."""

    def __init__(self, environment: dict[str, str], directory: Path) -> None:
        self.environment, self.directory = environment, directory

    def run(self, script: str, *arguments: str, status: int = 0) -> Finished:
        """Run to the end, also of the processes that it started: they hold the pipes open until they end."""
        done = subprocess.run(
            [sys.executable, "-W", "always::ResourceWarning", str(DIGITS / script), *arguments],
            env=self.environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == status, f"{script} {arguments}\n{done.stdout}\n{done.stderr}"
        return Finished(done.returncode, done.stdout, done.stderr)

    def steps(self, log: str) -> list[dict]:
        """The lines of a log of losses."""
        return [json.loads(line) for line in (self.directory / log).read_text().splitlines()]


@pytest.fixture(scope="session")
def scripts(moto_server, tmp_path_factory):
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "-1"}
    environment = {**os.environ, **moto_server.environment, **quiet}
    return Scripts(environment, tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="session")
def prepared(scripts, moto_server):
    """URI of the digits, and what prepare.py printed."""
    uri = f"s3://{moto_server.container}/examples/digits"
    return uri, scripts.run("prepare.py", f"{uri}/").output


@pytest.fixture(scope="session")
def digits_uri(prepared):
    return prepared[0]


@pytest.fixture
def script():
    """Name -> a script of the example as a module, for what needs no process of its own."""

    def load(name):
        spec = importlib.util.spec_from_file_location(name, DIGITS / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
