"""The table at the end of a test run: what passed on which store, engine and server, and what those cannot do.

Counted are the conformance suites that ``s3dlio.testing`` ships and the fault tests (``test_faults_*.py``). Where a
test ran is read from its fixtures: a store, a server, a bucket behind faults. It travels with the test's report, so
that the processes of pytest-xdist need to share nothing.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from s3dlio.testing import FormatSuite, StoreSuite
from s3dlio.testing.limits import limits

from .server import Server

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Counts"]

_PROPERTY = "counted"
_KINDS = {"s3": "S3", "az": "Azure", "gs": "Google"}
_ENGINES = {"remote", "native", "arrow"}
"""Stores that say nothing besides their engine."""

_OUTCOMES = ("passed", "failed", "error", "skipped")


class Place(NamedTuple):
    """One line of the table, but for its numbers."""

    suite: str
    store: str
    engine: str
    server: str


class Counts:
    """The plugin."""

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Any:
        """Note in words what a test's fixture says of where it runs; what it gave is not kept."""
        value = yield
        if request.scope == "function" and isinstance(request.node, pytest.Function):
            found = request.node.stash.setdefault(_FOUND, {})
            if isinstance(value, Server):
                found.update(_server(value))
            elif hasattr(value, "proxy") and hasattr(value, "backend"):  # a bucket behind faults
                found.update(_server(value.proxy), engine=value.backend)
            elif request.fixturename == "store":
                found.update(_store(value, request.cls))
            elif request.fixturename == "backend":
                found.setdefault("engine", value)
        return value

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        """Put the notes into the report of the test itself, or of a setup that failed."""
        if call.when == "call" or (call.when == "setup" and call.excinfo is not None):
            suite = _suite(item)
            if suite is not None:
                item.user_properties.append((_PROPERTY, {"suite": suite, **item.stash.get(_FOUND, {})}))
        return (yield)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the table, if there is something in it."""
        lines, cannot = _gathered(
            (outcome, report) for outcome in _OUTCOMES for report in terminalreporter.stats.get(outcome, ())
        )
        if not lines:
            return
        terminalreporter.section("conformance and faults")
        rows: list[tuple[str, ...]] = [(*Place._fields, *_OUTCOMES)]
        rows += [(*place, *(str(lines[place][outcome]) for outcome in _OUTCOMES)) for place in sorted(lines)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            terminalreporter.line(
                "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            )
        if cannot:
            terminalreporter.line("\nWhat they cannot do (asserted in its weaker form, or left out by name):")
        for what, where in sorted(cannot.items()):
            terminalreporter.line(f"- {what}: {', '.join(sorted(where))}")


_FOUND = pytest.StashKey[Any]()


def _suite(item: pytest.Item) -> str | None:
    """What a test counts for; None if for nothing."""
    cls: Any = getattr(item, "cls", None) or object
    if issubclass(cls, FormatSuite):
        return f"format {cls.format.name}"
    if issubclass(cls, StoreSuite):
        return "conformance"
    return "faults" if item.path.name.startswith("test_faults_") else None


def _server(server: Server) -> dict[str, Any]:
    """Notes of a server; a proxy in front of one says the same."""
    return {"kind": _KINDS[server.scheme], "server": server.name, "server_cannot": list(server.cannot)}


def _store(store: Any, suite: type | None) -> dict[str, Any]:
    """Notes of a store: its class says where it keeps objects, or by what way it reaches them."""
    name = type(store).__name__.removesuffix("Store").lower()
    engine = getattr(store, "backend", None) or ("arrow" if name == "arrow" else None)
    noted: dict[str, Any] = {"engine": engine} if engine in {"native", "arrow"} else {}
    if name not in _ENGINES:
        noted["store"] = name
    if suite is not None and issubclass(suite, StoreSuite):
        noted["store_cannot"] = limits(suite, store)
    return noted


def _place(said: dict[str, Any]) -> Place:
    kinds = [said[name] for name in ("kind", "store") if name in said]
    return Place(said["suite"], ", ".join(kinds) or "files", said.get("engine", "-"), said.get("server", "-"))


def _gathered(reports: Iterable[tuple[str, Any]]) -> tuple[dict[Place, Counter[str]], dict[str, set[str]]]:
    lines: dict[Place, Counter[str]] = {}
    cannot: dict[str, set[str]] = {}
    for outcome, report in reports:
        for said in (value for name, value in getattr(report, "user_properties", ()) if name == _PROPERTY):
            place = _place(said)
            lines.setdefault(place, Counter())[outcome] += 1
            for what in said.get("store_cannot", ()):
                cannot.setdefault(what, set()).add(" ".join(word for word in place[1:] if word != "-"))
            for what in said.get("server_cannot", ()):
                cannot.setdefault(what, set()).add(place.server)
    return lines, cannot
