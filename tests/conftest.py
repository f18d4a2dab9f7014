"""Servers, options and a clean environment for every test.

Options:
- ``--servers``: also run the tests marked ``servers`` (real servers). Without it they are deselected, and the
  header says so; with it a server that is not installed is an error.
- ``--frameworks=torch,tf,jax``: run the tests of these. One that is not installed stops the run.
- ``--quiet-machine``: hold what Ctrl-C ends to a second, in which it must have cleaned up. Without it a loaded
  machine's limit holds, and what it could not clean up it must have said.

Guarantees: no test sees the developer's credentials or s3dlio settings, nor leaves its own to the next test.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import hypothesis
import pytest

from .servers.azurite import AzuriteServer
from .servers.counts import Counts
from .servers.external import ExternalServer
from .servers.faults import FaultProxy
from .servers.google import GoogleServer
from .servers.moto import MotoServer
from .servers.radosgw import RadosGateway
from .threads import forget_older

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .servers.server import Server

AnyServer = TypeVar("AnyServer", bound="Server")

_SCRUBBED = ("AWS_", "AZURE_", "GOOGLE_", "S3DLIO_")
_NOBODY = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}
"""Without these a client that finds no variables would read the home directory and ask the cloud's metadata."""

hypothesis.settings.register_profile(
    "suite",
    deadline=None,  # times say more about the machine
    derandomize=True,  # what fails, fails for all; --hypothesis-profile=default looks for new examples
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("suite")

EXTERNAL = ExternalServer.from_environment(os.environ)
S3_SERVERS = [
    "moto_server",
    pytest.param("radosgw_server", marks=pytest.mark.servers),
    *([pytest.param("external_server", marks=pytest.mark.servers)] if EXTERNAL else []),
]
"""Names of fixtures. The environment is read here because ``pytest_configure`` clears it."""

_MODULES = {"torch": "torch", "tf": "tensorflow", "jax": "jax"}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--servers", action="store_true", help="also run the tests that need real servers")
    parser.addoption("--quiet-machine", action="store_true", help="nothing else runs: what Ctrl-C ends, ends in 1 s")
    parser.addoption("--frameworks", default="torch,tf,jax", help="frameworks whose tests run (default: torch,tf,jax)")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Counts(), "counts")
    config.addinivalue_line("markers", "servers: needs a real server; runs with --servers only")
    config.addinivalue_line("markers", "framework(*names): needs these frameworks; see --frameworks")
    for name in _frameworks(config):
        if name not in _MODULES:
            raise pytest.UsageError(f"--frameworks: unknown name {name!r}, expected some of {', '.join(_MODULES)}.")
        if importlib.util.find_spec(_MODULES[name]) is None:
            raise pytest.UsageError(
                f"--frameworks: {_MODULES[name]} is not installed. Run: pip install -e '.[{name}]', or name fewer."
            )
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell starts background jobs so, and every process that a test interrupts would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in _foreign_variables():
        del os.environ[name]  # for the session's fixtures and their processes; clean_environment does it per test
    os.environ.update(_NOBODY)


def pytest_report_header(config: pytest.Config) -> list[str]:
    named = f" and {EXTERNAL.endpoint_url}" if EXTERNAL else ""
    servers = (
        f"on: radosgw, azurite{named}"
        if config.getoption("--servers")
        else "off; tests that need real servers are deselected"
    )
    return [f"servers: {servers}", f"frameworks: {', '.join(_frameworks(config)) or 'none'}"]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    left_out = set(_MODULES) - set(_frameworks(config))
    if any(collection_path == Path(__file__).parent / f"s3dlio_{name}" for name in left_out):
        return True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    frameworks = set(_frameworks(config))

    def wanted(item: pytest.Item) -> bool:
        if item.get_closest_marker("servers") and not config.getoption("--servers"):
            return False
        needed = {name for marker in item.iter_markers("framework") for name in marker.args}
        if unknown := needed - set(_MODULES):
            raise pytest.UsageError(f"{item.nodeid}: unknown framework {unknown}, expected {', '.join(_MODULES)}.")
        return needed <= frameworks

    # TensorFlow and JAX start threads for the life of the process; tests that fork it come before them.
    late = {Path(__file__).parent / f"s3dlio_{name}" for name in ("tf", "jax")}
    items.sort(
        key=lambda item: (
            not late.isdisjoint(item.path.parents)
            or any({"tf", "jax"} & set(marker.args) for marker in item.iter_markers("framework"))
        )
    )
    left_out = [item for item in items if not wanted(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if wanted(item)]


def _frameworks(config: pytest.Config) -> list[str]:
    return [name.strip() for name in config.getoption("--frameworks").split(",") if name.strip()]


def _foreign_variables() -> list[str]:
    return [name for name in os.environ if name.startswith(_SCRUBBED)]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials, endpoints or s3dlio settings but those that the test sets."""
    for name in _foreign_variables():
        monkeypatch.delenv(name)
    for name, value in _NOBODY.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(autouse=True)
def threads_of_this_test() -> None:
    """What ``tests.threads`` counts."""
    forget_older()


@pytest.fixture
def ends_at_once(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None]
) -> Callable[[float], None]:
    """Assert that so many seconds from Ctrl-C to the end are soon: 1, and on a loaded machine less than any hang."""
    limit_s = 1.0 if request.config.getoption("--quiet-machine") else 10.0

    def check(seconds: float) -> None:
        record_property("ended_after_s", seconds)
        assert seconds < limit_s, f"ended after {seconds:.2f} s"

    return check


@pytest.fixture
def may_be_late(request: pytest.FixtureRequest) -> bool:
    """Whether other work may keep a process from cleaning up in the time that it has after Ctrl-C. Then it says so."""
    return not request.config.getoption("--quiet-machine")


@pytest.fixture
def open_files() -> Callable[[], list[str]]:
    """The files and directories that this process has open. Connections come and go with the threads of other tests."""

    def find() -> list[str]:
        found = []
        for descriptor in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                found.append(str(descriptor.readlink()))
        return sorted(name for name in found if name.startswith("/") and not name.startswith(("/proc/", "/dev/")))

    return find


@pytest.fixture(scope="session")
def moto_server() -> Iterator[Server]:
    """An S3 server in memory; always there."""
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="session")
def radosgw_server() -> Iterator[Server]:
    """A real S3 server. Tests that use it are marked ``servers``."""
    with RadosGateway() as server:
        yield server


@pytest.fixture(scope="session")
def azurite_server() -> Iterator[Server]:
    """An Azure Blob Storage server. Tests that use it are marked ``servers``."""
    with AzuriteServer() as server:
        yield server


@pytest.fixture(scope="session")
def google_server() -> Iterator[Server]:
    """An emulator of Google Cloud Storage; always there."""
    with GoogleServer() as server:
        yield server


@pytest.fixture(scope="session")
def external_server() -> Iterator[Server]:
    """The S3 server that the variables ``S3DLIO_TEST_S3_*`` name."""
    if EXTERNAL is None:
        raise pytest.UsageError("external_server: none named, expected S3DLIO_TEST_S3_ENDPOINT and its two keys.")
    with EXTERNAL as server:
        yield server


@pytest.fixture(params=[*S3_SERVERS, pytest.param("azurite_server", marks=pytest.mark.servers)])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> Server:
    """Every server in turn, with the environment pointing at it: moto always, the real ones with ``--servers``."""
    return _point_at(request.getfixturevalue(request.param), monkeypatch)


@pytest.fixture(params=S3_SERVERS)
def s3_server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> Server:
    """Every S3 server in turn, as ``server``."""
    return _point_at(request.getfixturevalue(request.param), monkeypatch)


@pytest.fixture
def moto_environment(moto_server: Server, monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> Server:
    """The environment points at ``moto_server``, which is returned."""
    return _point_at(moto_server, monkeypatch)


@pytest.fixture
def radosgw_environment(radosgw_server: Server, monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> Server:
    """The environment points at ``radosgw_server``, which is returned."""
    return _point_at(radosgw_server, monkeypatch)


@pytest.fixture
def azurite_environment(azurite_server: Server, monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> Server:
    """The environment points at ``azurite_server``, which is returned."""
    return _point_at(azurite_server, monkeypatch)


@pytest.fixture
def fault_proxy(moto_server: Server, monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> Iterator[FaultProxy]:
    """``moto_server`` behind a new proxy without rules (``servers/faults.py``); the environment points at the proxy."""
    with FaultProxy(moto_server) as proxy:
        yield _point_at(proxy, monkeypatch)


@pytest.fixture(params=[*S3_SERVERS, pytest.param("azurite_server", marks=pytest.mark.servers)])
def proxied_server(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, clean_environment: None
) -> Iterator[FaultProxy]:
    """Every server in turn as ``server``, each behind a new proxy as ``fault_proxy``. ``.upstream`` is the server."""
    with FaultProxy(request.getfixturevalue(request.param)) as proxy:
        yield _point_at(proxy, monkeypatch)


@pytest.fixture(params=S3_SERVERS)
def proxied_s3_server(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, clean_environment: None
) -> Iterator[FaultProxy]:
    """Every S3 server in turn, as ``proxied_server``."""
    with FaultProxy(request.getfixturevalue(request.param)) as proxy:
        yield _point_at(proxy, monkeypatch)


@pytest.fixture
def google_environment(google_server: Server, monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> Server:
    """The environment points at ``google_server``, which is returned."""
    return _point_at(google_server, monkeypatch)


def _point_at(server: AnyServer, monkeypatch: pytest.MonkeyPatch) -> AnyServer:
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return server
