"""The processes of one server and their folder: started, awaited, and stopped by their ids, never by name.

Guarantees: ``stop`` ends every process that ``spawn`` started and no other, and returns when they and the folder are
gone.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from .server import wait_for_answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_STOP_LIMIT_S = 5.0  # the servers keep nothing that is worth more patience
_LOG_TAIL = 4000  # characters
_PAUSE_S = 0.2


class Processes:
    """Long-running processes of the server ``name``, each with a log file in ``folder / "log"``."""

    def __init__(self, name: str) -> None:
        self._temporary = tempfile.TemporaryDirectory(prefix=f"{name}-")
        self.folder = Path(self._temporary.name)
        """Working directory of all of them; what they write goes in here."""
        self._logs = self.folder / "log"
        self._logs.mkdir()
        self._running: list[subprocess.Popen[bytes]] = []

    def spawn(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start ``command`` in the background, in a session of its own: Ctrl-C reaches pytest alone."""
        with (self._logs / f"process-{len(self._running)}.out").open("wb") as out:
            process = subprocess.Popen(
                [*_with_us(), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self.folder,
                start_new_session=True,
            )
        self._running.append(process)

    def run(self, command: Sequence[str], *, limit_s: float, not_yet: str | None = None) -> str:
        """Run ``command`` to its end and return its output; an error shows the command's and the servers' words.

        Where it fails with the words ``not_yet``, it is run again until ``limit_s`` is over.
        """
        deadline = time.monotonic() + limit_s
        while True:
            try:
                done = subprocess.run(
                    command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=True, text=True
                )
            except subprocess.SubprocessError as error:
                if not_yet is not None and not_yet in (error.stderr or "") and time.monotonic() < deadline:
                    time.sleep(_PAUSE_S)
                    continue
                raise RuntimeError(
                    f"start server: {error}, expected success within {limit_s:.0f} s. It wrote: {error.stderr or ''}\n"
                    f"{self.died()}\n{self.log()}"
                ) from error
            return done.stdout

    def wait(self, url: str, *, limit_s: float) -> None:
        """Return once ``url`` answers; raise with the logs if a process ends before, or after ``limit_s``."""
        wait_for_answer(url, limit_s=limit_s, died=self.died, log=self.log)

    def died(self) -> str:
        """Which process has ended by itself; empty while all run."""
        ended = [f"{p.args} ended with {p.returncode}" for p in self._running if p.poll() is not None]
        return "; ".join(ended)

    def log(self) -> str:
        """The last words of each log."""
        files = sorted(self._logs.glob("*")) if self._logs.exists() else []
        return "\n".join(f"--- {f.name}\n{f.read_text(errors='replace')[-_LOG_TAIL:]}" for f in files)

    def stop(self) -> None:
        """End all processes, the last one first, and remove their folder. Idempotent."""
        with ExitStack() as stack:
            stack.callback(self._temporary.cleanup)
            for process in self._running:
                stack.callback(_end, process)
            self._running = []


def _with_us() -> list[str]:
    """What makes the system end the command when this process is killed, where there is such a thing: Linux."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL"] if setpriv else []


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
