"""What the three trainers share: their options, what they show while they train, and the log of losses.

Must not know: torch, TensorFlow, JAX. The trainers show how s3dlio is used; this file only keeps them short.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import time
import zlib
from typing import TYPE_CHECKING, Any, Protocol, TextIO, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from rich.text import Text

import s3dlio
from s3dlio.errors import S3dlioError
from s3dlio.uri import Uri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

    from rich.progress import Task

__all__ = ["HIDDEN", "LABELS", "PIXELS", "Run", "accuracy_line", "main", "option_parser", "say"]

PIXELS, HIDDEN, LABELS = 64, 512, 10
"""The classifier of all three trainers: 8 x 8 pixels -> hidden layer -> digit. Some 38,000 weights."""

_STEP = re.compile(r"step_\d{10}/")  # what s3dlio names the directory of a checkpoint
_console = Console(highlight=False)
_Batch = TypeVar("_Batch")


def say(text: str = "", **style: Any) -> None:
    """Print a line. Never wrapped: lines of a log file stay lines."""
    _console.print(text, soft_wrap=True, markup=False, **style)


def option_parser(description: str, *, framework: str) -> argparse.ArgumentParser:
    """The options that all trainers have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.set_defaults(framework=framework)
    add = parser.add_argument
    add("uri", help="where prepare.py has written the digits, e.g. s3://bucket/digits/")
    add("--epochs", type=_count, default=8, help="passes over the training data (default: %(default)s)")
    add("--batch-size", type=_count, default=64, help="samples in a step (default: %(default)s)")
    add("--seed", type=int, default=0, help="of the first weights and of the order (default: %(default)s)")
    add("--checkpoint", metavar="URI", help=f"root of the checkpoints (default: URI/checkpoints/{framework})")
    add("--checkpoint-every", type=_count, default=10, metavar="STEPS", help="(default: %(default)s)")
    add("--fresh", action="store_true", help="remove the checkpoints of an earlier run, and do not resume it")
    add("--losses", metavar="FILE", help="append a line of JSON for each step: step, epoch, loss, samples")
    add("--kill-at", type=_count, metavar="STEP", help="kill -9 this process after the step, to see it resume")
    return parser


def _count(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


_count.__name__ = "number"  # argparse names it when the value is not one


def main(train: Callable[[argparse.Namespace], None], parser: argparse.ArgumentParser) -> None:
    """Parse the command line and train. An error is one line, and so is Ctrl-C."""
    options = parser.parse_args()
    options.uri = options.uri.rstrip("/")
    options.checkpoint = (options.checkpoint or f"{options.uri}/checkpoints/{options.framework}").rstrip("/")
    try:
        if options.fresh:
            _remove_checkpoints(options.checkpoint)
        train(options)
    except S3dlioError as error:
        raise SystemExit(f"error: {error}") from error
    except KeyboardInterrupt:
        say("Stopped. The same command goes on from the last checkpoint.")
        sys.exit(128 + signal.SIGINT)


def _remove_checkpoints(root: str) -> None:
    """The manifests go first: what is left of a checkpoint without its manifest is never loaded."""
    where = Uri.parse(root)
    with s3dlio.open_store(where) as store:
        keys = [key for batch in store.list(where.prefix) for key in batch.column("key").to_pylist()]
        for key in sorted(keys, key=lambda key: not key.endswith("/manifest.json")):
            if _STEP.match(key, len(where.prefix)):
                store.delete(key)


class _Loader(Protocol):
    """Any of the loaders: only its position is asked for."""

    def state_dict(self) -> dict[str, Any]: ...


class Run:
    """The progress bar, the line for each epoch, and the log of losses of one run.

    Args:
        options: of the command line.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._log: TextIO | None = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            _Rate(),
            TextColumn("{task.fields[loss]}"),
            console=_console,
            transient=True,
            disable=not _console.is_terminal or _console.is_dumb_terminal,
        )
        self._first_batch: float | None = None

    def epochs(self, loader: _Loader, *, step: int) -> Iterator[int]:
        """The epochs that are left to train, from 0. Args: as ``begin``."""
        for epoch in range(self.begin(loader, step=step), self._options.epochs):
            self.begin_epoch(epoch)
            yield epoch
            self.end_epoch()

    def batches(self, loader: Iterable[_Batch]) -> Iterator[_Batch]:
        """The batches of the loader as they are; the first one is timed."""
        for batch in loader:
            self.batch_arrived()
            yield batch

    def begin(self, loader: _Loader, *, step: int) -> int:
        """Say where the run goes on.

        Args:
            loader: at the position where training begins.
            step: training steps that were made before.

        Returns: the first epoch, from 0.
        """
        position, epochs = loader.state_dict(), self._options.epochs
        epoch, size = int(position["epoch"]), int(position["samples"])
        self._step, self._done = step, epoch * size + int(position["position"])
        self._bar = self._progress.add_task("starting ", total=epochs * size, completed=self._done, loss="")
        if epoch >= epochs:
            say(f"Trained before: {epoch} epochs, {step} steps. --epochs for more, --fresh to begin anew.")
        elif step:
            say(f"Resuming after step {step} (epoch {epoch + 1}, sample {position['position']:,} of {size:,}).")
        self._start, self._begun = self._done, time.perf_counter()
        return epoch

    def begin_epoch(self, epoch: int) -> None:
        """Count from 0 for the line of this epoch."""
        self._epoch, self._losses = epoch, list[float]()
        self._epoch_begun, self._epoch_start = time.perf_counter(), self._done

    def batch_arrived(self) -> None:
        """Note when the first batch was there."""
        self._first_batch = self._first_batch or time.perf_counter()

    def step(self, step: int, loss: float, images: Any) -> None:
        """Show and record a training step.

        Args:
            step: its number, from 1.
            loss: mean over the batch.
            images: NumPy array (batch, 8, 8) that it was trained on.
        """
        self._step = step
        self._done += len(images)
        self._losses.append(loss)
        self._progress.update(self._bar, description=self._epoch_of_all, completed=self._done, loss=f"loss {loss:.4f}")
        if self._log is not None:
            # No two scans are the same, so a checksum of its pixels names a sample.
            samples = [f"{zlib.crc32(image.tobytes()):08x}" for image in images]
            record = {"step": step, "epoch": self._epoch + 1, "loss": loss, "samples": samples}
            self._log.write(json.dumps(record) + "\n")
        if step == self._options.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def end_epoch(self, loss: float | None = None) -> None:
        """Print the line of the epoch. Args: loss: by default the mean of the steps'."""
        samples, seconds = self._done - self._epoch_start, time.perf_counter() - self._epoch_begun
        loss = sum(self._losses) / max(1, len(self._losses)) if loss is None else loss
        rate = f"{samples:,} samples in {seconds:.2f} s  {samples / seconds:,.0f} samples/s"
        say(f"{self._epoch_of_all}  loss {loss:.4f}  {rate}")

    @property
    def _epoch_of_all(self) -> str:
        epochs = str(self._options.epochs)
        return f"epoch {self._epoch + 1:>{len(epochs)}}/{epochs}"

    def report(self, correct: int, total: int) -> None:
        """Print what came of the run: of ``total`` test samples, ``correct`` were recognised."""
        say(accuracy_line(correct, total))
        if self._first_batch is not None:
            samples, seconds = self._done - self._start, self._ended - self._begun
            say(f"time to first batch  {self._first_batch - self._begun:.2f} s")
            say(f"samples/s            {samples / seconds:,.0f} ({samples:,} samples in {seconds:.1f} s)")
        say(f"checkpoint           {self._options.checkpoint}/step_{self._step:010d}/")

    def __enter__(self) -> Self:
        if self._options.losses:
            # A line leaves this process as soon as it is whole: a kill loses none.
            self._log = open(self._options.losses, "a", buffering=1, encoding="utf-8")  # noqa: PTH123 -- as the user gave it
        self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended = time.perf_counter()
        self._progress.stop()
        if self._log is not None:
            self._log.close()


class _Rate(ProgressColumn):
    """Samples trained on, and how fast."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.completed:>6,.0f}/{task.total or 0:,.0f} {task.speed or 0:>6,.0f} samples/s")


def accuracy_line(correct: int, total: int) -> str:
    """The line that the trainers and ``train_jax.py --evaluate`` end with."""
    return f"test accuracy        {correct / total:.1%} ({correct} of {total} samples)"
