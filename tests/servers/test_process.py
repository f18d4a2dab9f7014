"""The processes of a server end with whoever started them, however that ends."""

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from .process import Processes

SERVER = "import socket, sys; socket.create_connection(('127.0.0.1', int(sys.argv[1]))).recv(1)"
"""Connects, and stays until the other side closes."""

RUN = f"""
import sys
from tests.servers.process import Processes
Processes("server").spawn([sys.executable, "-c", {SERVER!r}, sys.argv[1]])
sys.stdin.read()
"""
LIMIT_S = 30.0


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT_S)
        yield listener


def accepted(listener):
    connection = listener.accept()[0]
    connection.settimeout(LIMIT_S)
    return connection


def test_a_killed_run_takes_its_servers_along(listener, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # nobody is left to remove the server's folder
    command = [sys.executable, "-c", RUN, str(listener.getsockname()[1])]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, cwd=Path(__file__).parents[2]) as run,
        accepted(listener) as connection,
    ):
        run.kill()
        assert connection.recv(1) == b"", "the server is gone"
    assert run.returncode == -signal.SIGKILL


def test_stop_ends_it_and_removes_its_folder(listener):
    processes = Processes("server")
    processes.spawn([sys.executable, "-c", SERVER, str(listener.getsockname()[1])])
    with accepted(listener) as connection:
        assert processes.folder.is_dir()
        assert processes.died() == ""
        processes.stop()
        assert connection.recv(1) == b""
    assert not processes.folder.exists()
    processes.stop()
