"""The processes of one server: started, watched, and stopped by their ids, never by name.

Guarantees: ``stop`` ends every process that ``spawn`` started and no other, and returns when they are gone.
"""

from __future__ import annotations

import subprocess
from contextlib import ExitStack
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_STOP_LIMIT_S = 5.0  # the servers keep nothing that is worth more patience
_LOG_TAIL = 4000  # characters


class Processes:
    """Long-running processes of one server, each with a log file in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[subprocess.Popen[bytes]] = []

    def spawn(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> None:
        """Start ``command`` in the background, in a session of its own: Ctrl-C reaches pytest alone."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f"process-{len(self._running)}.out").open("wb") as out:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=folder,
                start_new_session=True,
            )
        self._running.append(process)

    def run(self, command: Sequence[str], *, limit_s: float) -> str:
        """Run ``command`` to its end and return its output; an error shows the command's and the servers' words."""
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit_s, check=True, text=True
            )
        except subprocess.SubprocessError as error:
            raise RuntimeError(
                f"start server: {error}, expected success within {limit_s:.0f} s. It wrote: {error.stderr or ''}\n"
                f"{self.died()}\n{self.log()}"
            ) from error
        return done.stdout

    def died(self) -> str:
        """Which process has ended by itself; empty while all run."""
        ended = [f"{p.args} ended with {p.returncode}" for p in self._running if p.poll() is not None]
        return "; ".join(ended)

    def log(self) -> str:
        """The last words of each log."""
        files = sorted(self._folder.glob("*")) if self._folder.exists() else []
        return "\n".join(f"--- {f.name}\n{f.read_text(errors='replace')[-_LOG_TAIL:]}" for f in files)

    def stop(self) -> None:
        """End all processes, the last one first. Idempotent."""
        with ExitStack() as stack:
            for process in self._running:
                stack.callback(_end, process)
            self._running = []


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
