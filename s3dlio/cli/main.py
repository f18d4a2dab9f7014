"""The ``s3dlio`` command: objects of any store from the shell.

Owns: printing and exit codes; the only module that does either. Exit code 1 is an error of the store,
the data or a local file, 2 a wrong call.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
from pathlib import Path  # noqa: TC003  # typer reads annotations when it runs
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from s3dlio.checkpoint import steps
from s3dlio.errors import OptionError, S3dlioError
from s3dlio.storage import objects, open_store
from s3dlio.uri import Uri

__all__ = ["main"]

_PIECE = 8 << 20
"""Bytes of a file that are read and sent at a time."""

app = typer.Typer(
    name="s3dlio",
    help="Objects in S3, Azure and Google storage and local files. Credentials and endpoint come from the usual "
    "AWS_* and AZURE_STORAGE_* variables.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

_Uri = Annotated[str, typer.Argument(metavar="URI", help="s3://bucket/key, az://container/key, or a path")]
_Json = Annotated[bool, typer.Option("--json", help="one JSON document a line, for programs")]


@app.command("ls")
def list_objects(
    uri: _Uri,
    pattern: Annotated[str | None, typer.Option(help="regular expression that keys must contain")] = None,
    as_json: _Json = False,
) -> None:
    """List the objects below URI: as a table on a terminal, elsewhere a line of size, tab and URI for each."""
    entries = objects.list(uri, pattern=pattern)
    if as_json:
        for entry in entries:
            print(json.dumps({"uri": str(entry), "size": entry["size"], "etag": entry["etag"]}))
        return
    if not sys.stdout.isatty():
        for entry in entries:
            print(entry["size"], entry, sep="\t")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("size", justify="right")
    table.add_column("uri", overflow="fold")
    for entry in entries:
        table.add_row(decimal(entry["size"]), str(entry))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"{len(entries)} objects, {decimal(sum(entry['size'] for entry in entries))}")


@app.command("stat")
def stat_object(uri: _Uri) -> None:
    """Show size, ETag and time of one object, as JSON."""
    print(json.dumps(objects.stat(uri), default=str, indent=2))


@app.command("get")
def get_object(
    uri: _Uri,
    file: Annotated[Path | None, typer.Argument(help="where to; standard output if left out")] = None,
) -> None:
    """Write one object to FILE or to standard output."""
    data = objects.get_buffer(uri)
    if file is None:
        sys.stdout.buffer.write(memoryview(data))
    else:
        file.write_bytes(memoryview(data))


@app.command("put")
def put_object(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="what to upload")],
    uri: _Uri,
    create: Annotated[bool, typer.Option("--create", help="fail if the object exists")] = False,
) -> None:
    """Upload FILE as one object."""
    if create:  # a writer only overwrites, so this is one request, of memory that the file's pages back
        with file.open("rb") as source:
            empty = os.fstat(source.fileno()).st_size == 0  # which cannot be mapped
            data = b"" if empty else mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
        objects.put_bytes(uri, data, mode="create")
        return
    target = Uri.parse(uri)
    with file.open("rb") as source, open_store(target) as store, store.open_writer(target.key) as writer:
        while piece := source.read(_PIECE):
            writer.write(piece)


@app.command("rm")
def delete_object(uri: _Uri) -> None:
    """Delete one object."""
    objects.delete(uri)


@app.command("steps")
def list_steps(uri: Annotated[str, typer.Argument(metavar="URI", help="a root of checkpoints")]) -> None:
    """List the committed checkpoints below URI, one step a line."""
    for step in steps(uri):
        print(step)


def main() -> None:
    """Run the command that the process was started with, and exit."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except S3dlioError as error:
        print(f"s3dlio: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, OptionError) else 1)
    except BrokenPipeError:  # the reader of our output has what it wanted, e.g. `s3dlio ls URI | head -1`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's own last flush
        sys.exit(1)
    except OSError as error:
        print(f"s3dlio: {error}", file=sys.stderr)
        sys.exit(1)
