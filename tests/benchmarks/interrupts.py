"""Seconds from Ctrl-C to the end of the process: python -m tests.benchmarks.interrupts [pytest's arguments].

Runs the tests of interrupted transfers one after the other and holds each to a second, which needs a machine with
nothing else to do; in the suite they are only told from hangs. ``--servers`` adds the real servers.
"""

from __future__ import annotations

import statistics
import sys

import pytest

_WHERE = ["tests/storage", "tests/transfer", "tests/cli"]


class Times:
    """Picks the tests that measure, and keeps what they measured."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        others = [item for item in items if "ends_at_once" not in getattr(item, "fixturenames", ())]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == "ended_after_s" and isinstance(value, float):
                self.seconds[report.nodeid.removeprefix("tests/")] = value


def main() -> int:
    times = Times()
    status = pytest.main(["--quiet-machine", "-q", *_WHERE, *sys.argv[1:]], plugins=[times])
    for name, seconds in sorted(times.seconds.items(), key=lambda item: -item[1]):
        print(f"{seconds:6.2f} s  {name}")
    if times.seconds:
        print(f"{len(times.seconds)} interrupts: median {statistics.median(times.seconds.values()):.2f} s, ", end="")
        print(f"longest {max(times.seconds.values()):.2f} s")
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
