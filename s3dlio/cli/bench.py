"""``bench read`` and ``bench write``: what a store gives at a concurrency."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from s3dlio.cli.session import Session  # noqa: TC001 - typer reads annotations when it runs
from s3dlio.cli.sizes import parse_duration, parse_size

if TYPE_CHECKING:
    from s3dlio.cli.measurement import Measurement

__all__ = ["bench_read", "bench_write"]

_Concurrency = Annotated[int, typer.Option("--concurrency", "-c", min=1, help="requests at a time")]
_Duration = Annotated[
    float | None,
    typer.Option(parser=parse_duration, metavar="TIME", help="go on for so long (30s, 2m), over and over"),
]
_Json = Annotated[bool, typer.Option("--json", help="the figures as one JSON document")]


def bench_read(
    session: Session,
    uri: Annotated[str, typer.Argument(metavar="URI", help="what to read: everything below it")],
    objects: Annotated[int | None, typer.Option(min=1, help="as many of the objects; all if left out")] = None,
    concurrency: _Concurrency = 32,
    duration: _Duration = None,
    as_json: _Json = False,
) -> None:
    """Read the objects below URI once, or again and again for a time. Nothing is kept."""
    from s3dlio.cli.benchmark import read  # noqa: PLC0415 - as Session.locate

    _print(*read(session, uri, objects=objects, concurrency=concurrency, duration_s=duration), as_json=as_json)


def bench_write(
    session: Session,
    uri: Annotated[str, typer.Argument(metavar="URI", help="directory to write below")],
    objects: Annotated[int, typer.Option(min=1, help="how many; with --duration, at most")] = 1000,
    size: Annotated[int, typer.Option(parser=parse_size, metavar="SIZE", help="of each: 64k, 1MiB")] = 1 << 20,
    concurrency: _Concurrency = 32,
    duration: _Duration = None,
    keep: Annotated[bool, typer.Option("--keep", help="leave the objects there")] = False,
    as_json: _Json = False,
) -> None:
    """Write objects of incompressible bytes below URI, and delete them afterwards unless --keep."""
    from s3dlio.cli.benchmark import write  # noqa: PLC0415 - as Session.locate

    done = write(session, uri, objects=objects, size=size, concurrency=concurrency, duration_s=duration, keep=keep)
    _print(*done, as_json=as_json)


def _print(measurement: Measurement, title: str, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(measurement.json()))
        return
    from s3dlio.cli.measurement import report  # noqa: PLC0415 - as Session.locate

    print(title)
    blocks = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    for line in report(measurement, width=shutil.get_terminal_size().columns, blocks=blocks):
        print(line)
