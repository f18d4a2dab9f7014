"""``ls``, ``stat``, ``buckets``, ``mkdir``, ``steps``: what is there."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s3dlio.cli.arguments import object_uri
from s3dlio.cli.session import Session  # noqa: TC001 - typer reads annotations when it runs
from s3dlio.cli.sizes import human
from s3dlio.cli.tables import listing
from s3dlio.errors import NotFoundError, OptionError
from s3dlio.uri import Uri

if TYPE_CHECKING:
    import datetime as dt

__all__ = ["buckets", "list_objects", "list_steps", "make_directory", "stat_objects"]


@dataclasses.dataclass(slots=True)
class _Row:
    """One line of a listing: an object, or a directory with the sums of what is below it."""

    key: str
    uri: str
    size: int
    etag: str | None
    mtime: dt.datetime | None
    objects: int | None = None

    def json(self) -> str:
        shown: dict[str, Any] = {"uri": self.uri, "size": self.size}
        if self.objects is None:
            return json.dumps({**shown, "etag": self.etag, "last_modified": _iso(self.mtime)})
        return json.dumps({**shown, "objects": self.objects})


def list_objects(
    session: Session,
    uri: Annotated[str, typer.Argument(metavar="URI", help="s3://bucket/prefix, az://container, a path; s3:// alone")],
    pattern: Annotated[str | None, typer.Option(help="regular expression that keys must contain")] = None,
    recursive: Annotated[
        bool,
        typer.Option(
            "--recursive/--no-recursive", "-r/-d", help="all below, or directories as one line with their sum"
        ),
    ] = True,
    long: Annotated[bool, typer.Option("--long", "-l", help="time and ETag, too")] = False,
    human_sizes: Annotated[bool, typer.Option("--human", "-H", help="sizes as 1.5 MB; on a terminal always")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document a line, for programs")] = False,
) -> None:
    """List the objects below URI: as a table on a terminal, elsewhere a line of size, tab and URI for each.

    s3:// and az:// alone list the buckets.
    """
    if uri.endswith("://"):
        buckets(session, uri, as_json=as_json)
        return
    rows = _rows(session, uri, pattern, recursive=recursive)
    if as_json:
        for row in rows:
            print(row.json())
    elif sys.stdout.isatty():
        if rows:
            print(*listing([(row.size, row.mtime, row.etag, row.uri) for row in rows], long=long), sep="\n")
        objects = sum(1 if row.objects is None else row.objects for row in rows)
        print(f"{objects} object{'' if objects == 1 else 's'}, {human(sum(row.size for row in rows))}")
    else:
        for row in rows:
            shown = human(row.size) if human_sizes else row.size
            print(shown, *([_iso(row.mtime) or "-", row.etag or "-"] if long else []), row.uri, sep="\t")


def stat_objects(
    session: Session,
    uris: Annotated[list[str], typer.Argument(metavar="URI", help="objects")],
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document a line")] = False,
) -> None:
    """Show key, size, ETag and time of objects, as JSON."""
    from s3dlio.storage.translate import naming  # noqa: PLC0415 - as Session.locate

    session.describe(*uris)
    for uri in uris:
        store, key = session.locate(object_uri(uri, "stat"))
        with store, naming("stat"):
            meta = store.head(key)
        fields = {"key": meta.key, "size": meta.size, "etag": meta.etag, "last_modified": _iso(meta.mtime)}
        print(json.dumps(fields) if as_json else json.dumps(fields, indent=2))


def buckets(
    session: Session,
    uri: Annotated[
        str, typer.Argument(metavar="SCHEME", help="s3:// or az://; or a bucket for the next two")
    ] = "s3://",
    create: Annotated[bool, typer.Option("--create", help="make this bucket")] = False,
    delete: Annotated[bool, typer.Option("--delete", help="remove this bucket, which must be empty")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document a line")] = False,
) -> None:
    """List the buckets (containers) that the credentials may see; make or remove one."""
    from s3dlio.storage.buckets import create_bucket, delete_bucket, list_buckets  # noqa: PLC0415 - few need it

    if create and delete:
        raise typer.BadParameter("--create and --delete together, expected one of them.")
    if create:
        create_bucket(uri, storage_options=session.storage_options)
        return
    if delete:
        delete_bucket(uri, storage_options=session.storage_options)
        return
    scheme = uri.partition(":")[0]
    for name in list_buckets(uri, storage_options=session.storage_options):
        print(json.dumps({"uri": f"{scheme}://{name}"}) if as_json else f"{scheme}://{name}")


def make_directory(
    session: Session,
    uri: Annotated[str, typer.Argument(metavar="URI", help="s3://new-bucket, or a directory")],
) -> None:
    """Make a bucket, or a directory where stores have them; one that exists is no error."""
    from s3dlio.storage.buckets import mkdir  # noqa: PLC0415 - few commands need it

    mkdir(uri, storage_options=session.storage_options)


def list_steps(
    session: Session,
    uri: Annotated[str, typer.Argument(metavar="URI", help="a root of checkpoints")],
    as_json: Annotated[bool, typer.Option("--json", help="one JSON document a line")] = False,
) -> None:
    """List the committed checkpoints below URI, one step a line."""
    from s3dlio.checkpoint import steps  # noqa: PLC0415 - no other command needs it

    for step in steps(uri, storage_options=session.storage_options):
        print(json.dumps({"step": step}) if as_json else step)


def _rows(session: Session, uri: str, pattern: str | None, *, recursive: bool) -> list[_Row]:
    session.describe(uri)
    wanted = _expression(pattern)
    store, prefix = session.locate(uri)
    rows: dict[str, _Row] = {}
    with store:
        skip = len(prefix.rstrip("/")) + 1 if prefix else 0
        for batch in store.list(prefix):
            columns = (batch.column(name).to_pylist() for name in ("key", "size", "etag", "mtime"))
            for key, size, etag, mtime in zip(*columns, strict=True):
                if not wanted.search(key):
                    continue
                directory, below, _ = key[skip:].partition("/")
                if recursive or not below:
                    rows[key] = _Row(key, store.uri(key), size, etag, mtime)
                    continue
                name = f"{key[:skip]}{directory}/"
                row = rows.setdefault(name, _Row(name, store.uri(name), 0, None, None, 0))
                row.size += size
                row.objects = (row.objects or 0) + 1
        if not rows and prefix and not prefix.endswith("/") and wanted.search(prefix):
            try:
                meta = store.head(prefix)
            except NotFoundError:
                _check_directory(uri)
                return []
            return [_Row(prefix, store.uri(prefix), meta.size, meta.etag, meta.mtime)]
    if not rows:
        _check_directory(uri)
    return [row for _, row in sorted(rows.items())]


def _check_directory(uri: str) -> None:
    """Raise NotFoundError for a path of this machine that leads nowhere. A bucket's prefixes are there or not alike."""
    parsed = Uri.parse(uri)
    if parsed.scheme in {"file", "direct"} and not Path(parsed.path).exists():
        raise NotFoundError(
            f"list {parsed}: no such file or directory, expected one. Check the path; a bucket is s3://name.",
            uri=str(parsed),
            operation="list",
        )


def _expression(pattern: str | None) -> re.Pattern[str]:
    try:
        return re.compile(pattern or "")
    except re.error as error:
        raise OptionError(
            f"list: pattern {pattern!r} is no regular expression ({error}), expected one. "
            r"For all .npz files write '\.npz$'.",
            field="pattern",
        ) from error


def _iso(time: dt.datetime | None) -> str | None:
    return None if time is None else time.isoformat(sep=" ", timespec="seconds")
