"""``get``, ``cat``, ``put``: the bytes of single objects, to and from files and pipes."""

from __future__ import annotations

import errno
import mmap
import os
import sys
from pathlib import Path  # noqa: TC003 - typer reads annotations when it runs
from typing import TYPE_CHECKING, Annotated

import typer

from s3dlio.cli.arguments import object_uri
from s3dlio.cli.progress import shown_progress
from s3dlio.cli.session import Session  # noqa: TC001 - typer reads annotations when it runs
from s3dlio.cli.sizes import parse_size
from s3dlio.errors import OptionError

if TYPE_CHECKING:
    from s3dlio.storage.protocol import Store
    from s3dlio.uri import Uri

__all__ = ["get_object", "put_object", "show_objects"]

_PIECE_BYTES = 8 << 20
"""What is read from standard input, or of an object, at a time."""


def get_object(
    session: Session,
    uri: Annotated[str, typer.Argument(metavar="URI", help="the object")],
    file: Annotated[Path | None, typer.Argument(help="a file or directory; standard output if left out")] = None,
) -> None:
    """Write one object to FILE or to standard output. FILE appears when it is whole."""
    if file is None:
        show_objects(session, [uri])
        return
    if not file.is_dir() and not file.absolute().parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "The directory does not exist", str(file))
    from s3dlio.transfer.copy import copy  # noqa: PLC0415 - as Session.locate

    source = object_uri(uri, "get")
    session.describe(uri)
    _check_literal(session, source)
    with shown_progress(session) as progress:
        try:
            copy(source, file.absolute(), storage_options=session.storage_options, progress=progress)
        except OptionError as error:
            if error.field != "recursive":
                raise
            raise OptionError(
                f"get {source}: got a directory, expected one object. For directories use cp -r.", field="uri"
            ) from error


def show_objects(
    session: Session,
    uris: Annotated[list[str], typer.Argument(metavar="URI", help="objects")],
    offset: Annotated[
        int, typer.Option(parser=parse_size, metavar="SIZE", help="first byte of each object", show_default=False)
    ] = 0,
    length: Annotated[
        int | None, typer.Option(parser=parse_size, metavar="SIZE", help="bytes of each object; all if left out")
    ] = None,
) -> None:
    """Write objects to standard output, one after the other. Large ones are read in parallel parts."""
    session.describe(*uris)
    for uri in uris:
        store, key = session.locate(object_uri(uri, "get"))
        with store:
            _show(store, key, offset, length)
    sys.stdout.flush()


def put_object(
    session: Session,
    file: Annotated[Path, typer.Argument(help="what to upload; - for standard input")],
    uri: Annotated[str, typer.Argument(metavar="URI", help="the object; ending in / a directory that FILE goes to")],
    create: Annotated[bool, typer.Option("--create", help="fail if the object exists")] = False,
) -> None:
    """Upload FILE as one object. It appears when all of it is there."""
    session.describe(uri)
    if str(file) == "-":
        if create:
            raise typer.BadParameter("--create needs a file, expected no '-': the whole object is one request.")
        _put_input(session, uri)
    elif not file.is_file():
        raise typer.BadParameter(f"{str(file)!r} is no file, expected one, or '-'. For directories use cp -r.")
    elif create:
        _create(session, file, uri)
    else:
        from s3dlio.transfer.upload import upload  # noqa: PLC0415 - as Session.locate

        with shown_progress(session) as progress:
            upload(file.absolute(), uri, storage_options=session.storage_options, progress=progress)


def _check_literal(session: Session, uri: Uri) -> None:
    """Raise NotFoundError for what would be a pattern to ``copy``, and is no object's key."""
    from s3dlio.storage.translate import naming  # noqa: PLC0415 - as Session.locate
    from s3dlio.transfer.patterns import is_pattern  # noqa: PLC0415

    store, key = session.locate(uri)
    with store:
        if is_pattern(key):
            with naming("get"):
                store.head(key)


def _show(store: Store, key: str, offset: int, length: int | None) -> None:
    from s3dlio.reading import FetchOptions, Request, fetch, part_ranges  # noqa: PLC0415 - as Session.locate
    from s3dlio.storage.translate import naming  # noqa: PLC0415

    with naming("get"):
        meta = store.head(key)
    end = meta.size if length is None else min(meta.size, offset + length)
    if offset >= end:
        return
    # Each part is a request of its own, so that they are written, and freed, one by one.
    requests = [
        Request(key=key, start=a, end=b, etag=meta.etag) for a, b in part_ranges(offset, end, part_bytes=_PIECE_BYTES)
    ]
    options = FetchOptions(max_in_flight=8, budget_bytes=8 * _PIECE_BYTES, part_bytes=_PIECE_BYTES)
    with fetch(store, requests, options) as parts:
        for _, part in parts:
            sys.stdout.buffer.write(memoryview(part))


def _put_input(session: Session, uri: str) -> None:
    store, key = session.locate(object_uri(uri, "put"))
    with store, store.open_writer(key) as writer:
        while piece := sys.stdin.buffer.read(_PIECE_BYTES):
            writer.write(piece)


def _create(session: Session, file: Path, uri: str) -> None:
    store, key = session.locate(uri)
    if not key or key.endswith("/"):
        key += file.name
    with store, file.open("rb") as source:
        # A writer only overwrites, so this is one request, of memory that the file's pages back.
        empty = os.fstat(source.fileno()).st_size == 0  # which cannot be mapped
        store.put(key, b"" if empty else mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ), mode="create")
