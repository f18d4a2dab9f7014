"""The command called in this process, as a process of its own, and on a terminal."""

from __future__ import annotations

import os
import re
import signal
import struct
import subprocess
import sys
from fcntl import ioctl
from termios import TIOCSWINSZ
from typing import TYPE_CHECKING, NamedTuple

import pytest

from s3dlio.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

COMMAND = [sys.executable, "-W", "error", "-c", "from s3dlio.cli import main; main()"]


class Done(NamedTuple):
    code: int
    out: bytes
    err: bytes


@pytest.fixture
def command() -> list[str]:
    """The first words of a process that is the command; warnings are errors in it."""
    return COMMAND


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Iterator[Callable[..., Done]]:
    """Calls the command in this process; what it writes and its exit code come back."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object) -> Done:
        monkeypatch.setattr(sys, "argv", ["s3dlio", *map(str, arguments)])
        capfdbinary.readouterr()
        with pytest.raises(SystemExit) as left:
            main()
        sys.stderr.flush()
        out, err = capfdbinary.readouterr()
        return Done(left.value.code or 0, out, err)

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def output(call: Callable[..., Done]) -> Callable[..., bytes]:
    """Standard output of a call that succeeds and has nothing to complain of."""

    def run(*arguments: object) -> bytes:
        done = call(*arguments)
        assert (done.code, done.err) == (0, b"")
        return done.out

    return run


@pytest.fixture
def refused(call: Callable[..., Done]) -> Callable[..., str]:
    """What a call says that ends with this code, prints nothing else and shows no traceback."""

    def run(code: int, *arguments: object) -> str:
        done = call(*arguments)
        assert done.code == code
        assert done.out == b""
        assert b"Traceback" not in done.err
        return done.err.decode()

    return run


@pytest.fixture
def on_terminal() -> Callable[..., tuple[int, str]]:
    """Calls the command as a process on a terminal; exit code and all it showed, uncoloured.

    ``answer`` is typed when ``question`` is shown; b"\\x03" is Ctrl-C.
    """

    def run(*arguments: object, question: str = "", answer: bytes = b"", columns: int = 80) -> tuple[int, str]:
        master, slave = os.openpty()
        ioctl(slave, TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm"}
        environment.pop("COLUMNS", None)
        words = [*COMMAND, *map(str, arguments)]
        with os.fdopen(master, "r+b", buffering=0) as terminal:
            # A session of its own, whose terminal this is: only so does Ctrl-C become a signal.
            words = ["setsid", "--ctty", "--wait", *words]
            with subprocess.Popen(words, stdin=slave, stdout=slave, stderr=slave, env=environment) as process:
                os.close(slave)
                shown = b""
                while True:
                    try:
                        piece = terminal.read(1 << 16)
                    except OSError:  # Linux says EIO when the other side has closed
                        break
                    if not piece:
                        break
                    shown += piece
                    if answer and question.encode() in shown:
                        terminal.write(answer)
                        answer = b""
            return process.returncode, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())

    return run


@pytest.fixture
def root(tmp_path):
    """A directory with a name longer than the 80 columns of a table, and two files."""
    root = tmp_path / ("long name, " * 12).strip()
    root.mkdir()
    (root / "a.bin").write_bytes(b"abc")
    (root / "b.txt").write_bytes(b"")
    return root
