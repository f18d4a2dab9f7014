"""The whole example on one machine: an S3 server in memory, the digits in it, training that is killed and resumed.

    make demo        or: python examples/digits/demo.py --framework jax

It leaves nothing behind. Everything that it runs is printed, so that it can be run by hand on a real bucket.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).resolve().parent
KILL_AT = 77  # with 23 steps an epoch: in the middle of the fourth, seven steps after a checkpoint
LOG = "log.jsonl"
BARS = "▁▂▃▄▅▆▇█"

console = Console(highlight=False)


def demo(framework: str) -> None:
    """Run it, from the server's start to its end."""
    sys.path.append(str(HERE.parent))
    from embedded_s3 import EmbeddedS3  # type: ignore[import-not-found]  # noqa: PLC0415  # one directory up

    for name in [name for name in os.environ if name.startswith(("AWS_", "S3DLIO_"))]:
        del os.environ[name]  # nothing here may reach a real bucket, or stumble over the settings for one

    title(1, "An S3 server in memory")
    with EmbeddedS3() as server, tempfile.TemporaryDirectory() as scratch:
        uri = f"s3://{server.bucket}/digits/"
        say(f"{server.endpoint_url}, bucket {server.bucket!r}")
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}  # TensorFlow greets at length
        environment = {**os.environ, **server.environment, **quiet}
        run = functools.partial(python, cwd=scratch, environment=environment)

        title(2, "Handwritten digits into the bucket")
        run("prepare.py", uri)

        trainer = f"train_{framework}.py"
        title(3, f"Train with {framework}, and kill -9 it in the middle of an epoch")
        run(trainer, uri, "--losses", LOG, "--kill-at", str(KILL_AT), expected=-signal.SIGKILL)
        console.show_cursor()  # the killed process could not
        say(f"\nKilled after step {KILL_AT}." if console.is_terminal else f"Killed after step {KILL_AT}.")

        title(4, "The same command again")
        run(trainer, uri, "--losses", LOG)
        say()
        compare([json.loads(line) for line in (Path(scratch) / LOG).read_text().splitlines()])
    say("The server and the data are gone. The same commands train from your own bucket.")


def title(number: int, text: str) -> None:
    """A heading."""
    say()
    say(f"{number}. {text}", style="bold")


def say(text: str = "", *, style: str = "") -> None:
    """Print a line; never wrapped."""
    console.print(text, style=style, markup=False, soft_wrap=True)


def python(script: str, *arguments: str, cwd: str, environment: dict[str, str], expected: int = 0) -> None:
    """Run a script of this directory in a process of its own."""
    path = HERE / script
    say(f"$ python {os.path.relpath(path)} {' '.join(arguments)}", style="dim")
    # A session of its own, because Ctrl-C goes to every process of the terminal's: this one answers it for all. One
    # that comes while the process is being started waits until there is something to stop.
    command = [sys.executable, str(path), *arguments]
    interrupts: list[int] = []
    answer = signal.signal(signal.SIGINT, lambda number, _frame: interrupts.append(number))
    process: subprocess.Popen[bytes] | None = None
    try:
        try:
            process = subprocess.Popen(command, cwd=cwd, env=environment, start_new_session=True)  # noqa: S603 -- ours
        finally:
            signal.signal(signal.SIGINT, answer)
        if interrupts:
            signal.raise_signal(signal.SIGINT)
        status = process.wait()
    except BaseException:
        if process is not None:
            with contextlib.suppress(ProcessLookupError):  # Popen.wait gave it a moment, and it has ended in that
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        raise
    if status != expected:
        raise SystemExit(f"{script}: exit status {status}, expected {expected}.")


def compare(steps: list[dict[str, Any]]) -> None:
    """Show the losses of both processes as one curve, and whether the steps that both made are the same."""
    begin = next(at for at in range(1, len(steps)) if steps[at]["step"] <= steps[at - 1]["step"])
    first, second = steps[:begin], steps[begin:]
    twice = list(zip(first[second[0]["step"] - 1 :], second, strict=False))
    apart = max(abs(x["loss"] - y["loss"]) for x, y in twice)
    if any(x["samples"] != y["samples"] for x, y in twice) or apart > 1e-6:
        raise SystemExit(f"Steps {second[0]['step']} to {first[-1]['step']}: not the same after the kill as before.")
    losses = "same losses to the last bit" if apart == 0 else f"losses at most {apart:.1e} apart"
    curve([step["loss"] for step in first[: -len(twice)]], [step["loss"] for step in second])
    say(f"Steps {second[0]['step']} to {first[-1]['step']} were made twice: same samples, {losses}.")


def curve(before: list[float], after: list[float], width: int = 40) -> None:
    """The losses on one line, on a logarithmic scale; in another colour from the resume on."""
    if console.options.ascii_only:
        return
    losses = [math.log(loss) for loss in before + after]
    low, high = min(losses), max(losses)
    line = Text(f"loss {before[0]:.2f} ")
    for column in range(width):
        part = losses[column * len(losses) // width : (column + 1) * len(losses) // width]
        height = (sum(part) / len(part) - low) / (high - low)
        resumed = column * len(losses) // width >= len(before)
        line.append(BARS[round(height * (len(BARS) - 1))], "green" if resumed else "blue")
    line.append(f" {after[-1]:.2f}  ")
    line.append("before", "blue").append("/").append("after", "green").append(" the kill")
    console.print(line, soft_wrap=True)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--framework", choices=["torch", "keras", "jax"], default="torch", help="(default: torch)")
    try:
        demo(parser.parse_args().framework)
    except KeyboardInterrupt:
        console.show_cursor()
        say("\nStopped.")
        sys.exit(128 + signal.SIGINT)


if __name__ == "__main__":
    main()
