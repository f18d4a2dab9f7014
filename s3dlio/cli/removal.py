"""``rm``: objects, trees, patterns."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from s3dlio.cli.arguments import object_uri
from s3dlio.cli.session import Session  # noqa: TC001 - typer reads annotations when it runs
from s3dlio.cli.sizes import human
from s3dlio.errors import NotFoundError, OptionError

if TYPE_CHECKING:
    from s3dlio.transfer.selection import Item
    from s3dlio.transfer.side import Side

__all__ = ["delete_objects"]


def delete_objects(
    session: Session,
    uris: Annotated[list[str], typer.Argument(metavar="URI", help="objects, or with -r directories; patterns")],
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="everything below directories")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="only say what would be deleted")] = False,
    max_in_flight: Annotated[int, typer.Option(min=1, help="requests at a time")] = 64,
) -> None:
    """Delete objects. What is not there is no error.

    Trees and patterns ask first, and go only on y or yes; where nobody can answer they need --yes. What symbolic links
    to local directories lead to stays.
    """
    # The library takes 0.2 s to load, which no help and no completion need.
    from s3dlio.storage.delete import delete_keys  # noqa: PLC0415
    from s3dlio.transfer.patterns import is_pattern  # noqa: PLC0415
    from s3dlio.transfer.selection import Item  # noqa: PLC0415
    from s3dlio.transfer.side import Side  # noqa: PLC0415

    for uri in uris:
        session.describe(uri)
        with Side.of(uri, storage_options=session.storage_options, filesystem=None) as side:
            several = recursive or is_pattern(side.key)
            if several:
                items = _listed(side, recursive=recursive)
            else:
                object_uri(uri, "delete")
                items = [Item(side.key, side.key, 0, None, None)]
            if dry_run:
                for item in items:
                    print(side.uri(item.key))
                continue
            if several and items and not yes:
                _ask(side, items)
            delete_keys(side.store, [item.key for item in items], max_in_flight=max_in_flight)
            for item in items:
                session.say(f"deleted {side.uri(item.key)}")


def _listed(side: Side, *, recursive: bool) -> list[Item]:
    from s3dlio.storage.delete import LOCAL_ROOTS, beyond_a_link  # noqa: PLC0415 - as above
    from s3dlio.transfer.patterns import is_pattern, split_pattern  # noqa: PLC0415
    from s3dlio.transfer.selection import select  # noqa: PLC0415

    pattern = is_pattern(side.key) and not side.key.endswith("/")
    root = split_pattern(side.key)[0] if pattern else side.key.rstrip("/")
    here = side.store.uri("") in LOCAL_ROOTS
    if here and not root and (recursive or "**" in side.key):
        raise OptionError(
            f"delete {side.uri(side.key)}: this would remove every file of this machine, expected a directory below /.",
            field="uri",
        )
    try:
        selection = select(side, "delete", trees=recursive)
    except NotFoundError:
        return []
    if selection.single or not here:
        return selection.items
    beyond = beyond_a_link(root)
    return [item for item in selection.items if not beyond(item.key.rpartition("/")[0])]


def _ask(side: Side, items: list[Item]) -> None:
    """Return if the answer is yes.

    Raises:
        Exit: with 1 if it is another one, with 130 on Ctrl-C.
        OptionError: there is nobody to ask.
    """
    objects = f"{len(items)} object{'' if len(items) == 1 else 's'}, {human(sum(item.size for item in items))}"
    where = side.uri(side.key)
    if not sys.stdin.isatty():
        raise OptionError(
            f"delete {where}: {objects}, and nobody to ask, expected --yes. Look first with --dry-run.", field="yes"
        )
    try:
        print(f"Delete {objects}, at {where}? [y/N] ", end="", file=sys.stderr, flush=True)
        answer = sys.stdin.readline()
    except KeyboardInterrupt as error:
        print(f"\ns3dlio: interrupted; nothing of {where} was deleted.", file=sys.stderr)
        raise typer.Exit(130) from error
    if answer.strip().lower() not in {"y", "yes"}:
        begun = "" if answer.endswith("\n") else "\n"  # the end of input leaves the cursor in the question's line
        print(f"{begun}s3dlio: nothing of {where} was deleted.", file=sys.stderr)
        raise typer.Exit(1)
