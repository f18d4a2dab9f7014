"""What all commands share: the options of every command, and how a function becomes a command that has them.

Shared options stand before or after the command's name; after wins.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import importlib.metadata
import inspect
import sys
import time
import typing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from s3dlio.storage.protocol import Store
    from s3dlio.uri import Uri

__all__ = ["Session", "command", "shared_options"]


class _Backend(enum.StrEnum):
    """What older releases of typer take for a choice."""

    native = "native"
    arrow = "arrow"


_PANEL = "Options of every command"
_SHARED: dict[str, tuple[Any, Any]] = {
    "endpoint_url": (
        Annotated[
            str | None,
            typer.Option("--endpoint-url", metavar="URL", help="server to talk to", rich_help_panel=_PANEL),
        ],
        None,
    ),
    "region": (
        Annotated[str | None, typer.Option("--region", metavar="NAME", help="S3 region", rich_help_panel=_PANEL)],
        None,
    ),
    "ca_bundle": (
        Annotated[
            Path | None,
            typer.Option("--ca-bundle", metavar="FILE", help="certificates to trust (PEM)", rich_help_panel=_PANEL),
        ],
        None,
    ),
    "anonymous": (
        Annotated[
            bool,
            typer.Option("--anonymous", help="unsigned requests, for what is public", rich_help_panel=_PANEL),
        ],
        False,
    ),
    "backend": (
        Annotated[
            _Backend | None,
            typer.Option("--backend", help="engine for object servers", rich_help_panel=_PANEL),
        ],
        None,
    ),
    "op_log": (
        Annotated[
            Path | None,
            typer.Option("--op-log", metavar="FILE", help="log every operation to FILE", rich_help_panel=_PANEL),
        ],
        None,
    ),
    "verbose": (
        Annotated[
            bool,
            typer.Option("--verbose", "-v", help="say what is done, on standard error", rich_help_panel=_PANEL),
        ],
        False,
    ),
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The shared options of one call."""

    endpoint_url: str | None = None
    region: str | None = None
    ca_bundle: Path | None = None
    anonymous: bool = False
    backend: str | None = None
    op_log: Path | None = None
    verbose: bool = False

    @property
    def storage_options(self) -> dict[str, Any] | None:
        """What the functions of the library take; None if nothing was given."""
        given = {
            "endpoint_url": self.endpoint_url,
            "region": self.region,
            "ca_bundle": None if self.ca_bundle is None else str(self.ca_bundle),
            "anonymous": self.anonymous or None,
            "backend": self.backend and str(self.backend),
        }
        return {name: value for name, value in given.items() if value is not None} or None

    def locate(self, uri: str | Uri) -> tuple[Store, str]:
        """The store of ``uri``, which is the caller's to close, and the key in it."""
        from s3dlio.storage.open import locate  # noqa: PLC0415 - 0.2 s, which no help and no completion need

        return locate(uri, storage_options=self.storage_options)

    def say(self, text: str) -> None:
        """A line on standard error with ``-v``."""
        if self.verbose:
            print(text, file=sys.stderr)

    def describe(self, *uris: str) -> None:
        """With ``-v``, how each URI is reached. Makes no request."""
        for uri in uris if self.verbose else ():
            store, key = self.locate(uri)
            with store:
                engine = getattr(store, "backend", None)
                self.say(f"{store.uri(key)}: {type(store).__name__}" + (f", {engine} engine" if engine else ""))

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """The command's own time: log, and with ``-v`` the duration."""
        began = time.perf_counter()
        with contextlib.ExitStack() as stack:
            if self.op_log is not None:
                from s3dlio.storage.operation_log.log import op_log  # noqa: PLC0415 - few commands need it

                stack.enter_context(op_log(self.op_log))
            yield
        self.say(f"done in {time.perf_counter() - began:.3f} s")


def shared_options(app: typer.Typer) -> None:
    """Let ``app`` take the shared options before the command's name."""

    def remember(ctx: typer.Context, **given: Any) -> None:
        given.pop("version")
        ctx.obj = given

    option = typer.Option("--version", help="say the version and leave", is_eager=True, callback=_say_version)
    keyword = inspect.Parameter.KEYWORD_ONLY
    _declare(remember, [inspect.Parameter("version", keyword, default=False, annotation=Annotated[bool, option])])
    app.callback()(remember)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"s3dlio {importlib.metadata.version('s3dlio-arrow')}")
        raise typer.Exit


def command(app: typer.Typer, name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function of (session, its own parameters) as the command ``name``."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        def run(ctx: typer.Context, **given: Any) -> None:
            before = ctx.obj or {}
            after = {shared: given.pop(shared) for shared in _SHARED}
            merged: dict[str, Any] = {shared: value or before.get(shared) for shared, value in after.items()}
            session = Session(**merged)
            try:
                with session.running():
                    function(session, **given)
            except KeyboardInterrupt as error:
                raise typer.Exit(130) from error

        hints = typing.get_type_hints(function, include_extras=True)
        own = [*inspect.signature(function).parameters.values()][1:]
        _declare(run, [parameter.replace(annotation=hints[parameter.name]) for parameter in own])
        run.__doc__ = function.__doc__
        app.command(name)(run)
        return function

    return register


def _declare(function: Any, own: list[inspect.Parameter]) -> None:
    """Give ``function`` the signature that typer makes options from: ``ctx``, its own, the shared ones."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
        *(parameter.replace(kind=keyword) for parameter in own),
        *(
            inspect.Parameter(name, keyword, default=default, annotation=annotation)
            for name, (annotation, default) in _SHARED.items()
        ),
    ]
    function.__signature__ = inspect.Signature(parameters)
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
