"""The ``s3dlio`` command: objects of any store from the shell.

Owns: wiring, errors and exit codes: 0 is success, 1 an error of the store, the data or a local file, 2 a wrong call,
130 Ctrl-C, 143 a SIGTERM.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from typing import TYPE_CHECKING

import typer

from s3dlio.cli import bench, content, listing, removal, transfer
from s3dlio.cli.session import command, shared_options
from s3dlio.cli.wording import lines
from s3dlio.errors import OptionError, S3dlioError

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["main"]

_INTERRUPTED, _TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM

app = typer.Typer(
    name="s3dlio",
    help="Objects in S3, Azure and Google storage and local files. Credentials and endpoint come from the usual "
    "AWS_* and AZURE_STORAGE_* variables.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
shared_options(app)
command(app, "ls")(listing.list_objects)
command(app, "stat")(listing.stat_objects)
command(app, "get")(content.get_object)
command(app, "cat")(content.show_objects)
command(app, "put")(content.put_object)
command(app, "cp")(transfer.copy_objects)
command(app, "rm")(removal.delete_objects)
command(app, "mkdir")(listing.make_directory)
command(app, "buckets")(listing.buckets)
command(app, "steps")(listing.list_steps)
_bench = typer.Typer(no_args_is_help=True, help="Measure reading or writing: rates, percentiles, a histogram.")
command(_bench, "read")(bench.bench_read)
command(_bench, "write")(bench.bench_write)
app.add_typer(_bench, name="bench")


def main() -> None:
    """Run the command that the process was started with, and exit."""
    signal.signal(signal.SIGTERM, _terminated)  # unwind as on Ctrl-C: temporary files and half uploads go
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _say_warning
            try:
                app()
            finally:
                sys.stdout.flush()
    except S3dlioError as error:
        for line in lines(error):
            print(f"s3dlio: {line}", file=sys.stderr)
        sys.exit(2 if isinstance(error, OptionError) else 1)
    except SystemExit as left:
        if left.code in {_INTERRUPTED, _TERMINATED}:
            # Everything of ours is cleaned up. An exit in the usual way would wait for threads that are stuck in a
            # request: pyarrow's are joined by the interpreter.
            sys.stderr.flush()
            os._exit(left.code)
        raise
    except BrokenPipeError:  # the reader of our output has what it wanted, e.g. `s3dlio ls URI | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's own last flush
        sys.exit(1)
    except OSError as error:
        print(f"s3dlio: {error}", file=sys.stderr)
        sys.exit(1)


def _say_warning(message: Warning | str, *_category_and_place: object, **_file_and_line: object) -> None:
    """A line, without the place in the source that means nothing to who types commands."""
    print(f"s3dlio: warning: {message}", file=sys.stderr)


def _terminated(_number: int, _frame: FrameType | None) -> None:
    sys.exit(_TERMINATED)
