"""``cp``: objects and trees between any two places."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from typing import Annotated

import typer

from s3dlio.cli.progress import shown_progress, summary
from s3dlio.cli.session import Session  # noqa: TC001 - typer reads annotations when it runs
from s3dlio.errors import OptionError

__all__ = ["copy_objects"]


def copy_objects(
    session: Session,
    sources: Annotated[list[str], typer.Argument(metavar="SOURCE", help="objects, files, patterns; trees with -r")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="an object, file or directory")],
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="everything below SOURCE")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="leave alone what is there in the same size and not older")
    ] = False,
    skip_existing: Annotated[bool, typer.Option("--skip-existing", help="leave alone whatever is there")] = False,
    max_in_flight: Annotated[int, typer.Option(min=1, help="requests at a time")] = 64,
    source_endpoint_url: Annotated[
        str | None, typer.Option(metavar="URL", help="server of SOURCE, if it is another than that of TARGET")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="the numbers as one JSON document")] = False,
) -> None:
    """Copy objects, files and trees, in any direction.

    The content of a directory lands below TARGET; one object becomes TARGET itself unless that ends in / or is a
    directory. Patterns: *, ?, [...], and ** for any directories (quote them, or the shell expands them first).
    """
    from s3dlio.transfer.copy import copy  # noqa: PLC0415 - as Session.locate
    from s3dlio.transfer.result import TransferResult  # noqa: PLC0415

    if len(sources) > 1 and not target.endswith("/"):
        target += "/"
    if not recursive:
        _check_apart(sources, target)
    options = session.storage_options
    source_options = None
    if source_endpoint_url is not None:
        source_options = {**(options or {}), "endpoint_url": source_endpoint_url}
    session.describe(*sources, target)
    with shown_progress(session) as progress:
        results = [
            copy(
                source,
                target,
                recursive=recursive,
                resume=resume,
                skip_existing=skip_existing,
                max_in_flight=max_in_flight,
                progress=progress,
                source_options=source_options,
                storage_options=options,
            )
            for source in sources
        ]
    total = TransferResult(
        objects=sum(result.objects for result in results),
        bytes=sum(result.bytes for result in results),
        skipped=sum(result.skipped for result in results),
        seconds=sum(result.seconds for result in results),
    )
    if as_json:
        print(json.dumps(dataclasses.asdict(total)))
    elif session.verbose or sys.stderr.isatty():
        print(summary(total), file=sys.stderr)


def _check_apart(sources: list[str], target: str) -> None:
    """Raise OptionError if two objects would get one name, and the second overwrite the first."""
    from s3dlio.transfer.patterns import is_pattern  # noqa: PLC0415
    from s3dlio.uri import shown  # noqa: PLC0415

    seen: dict[str, str] = {}
    for source in sources:
        path = re.split("[?#]", source, maxsplit=1)[0] if source.startswith(("http://", "https://")) else source
        name = path.rpartition("/")[2]
        if name and not is_pattern(path) and seen.setdefault(name, source) != source:
            raise OptionError(
                f"copy {shown(source)}: its target {target}{name} is that of {shown(seen[name])}, too, expected a name "
                "for each. Copy them in two steps.",
                field="target",
            )
