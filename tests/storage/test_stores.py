"""The conformance suite, on every store and engine; the state machine, where a request costs little."""

import uuid

import pyarrow.fs as pafs
import pytest
from hypothesis import HealthCheck, settings

from s3dlio.storage import ArrowStore, LocalStore, MemoryStore, NativeStore, RemoteStore, open_store
from s3dlio.storage.direct.store import DirectStore
from s3dlio.testing import StoreSuite, store_machine

from .raw_objects import RawAzureByArrow, RawAzureByObstore, RawFiles, RawGoogle, RawMemory, RawS3


class TestMemory(StoreSuite):
    @pytest.fixture
    def name(self):
        return f"suite-{uuid.uuid4().hex}"

    @pytest.fixture
    def store(self, name):
        with open_store(f"memory://{name}") as store:
            assert isinstance(store, MemoryStore)
            yield store
            store.clear()

    @pytest.fixture
    def raw(self, name, store):
        return RawMemory(name)


class TestLocal(StoreSuite):
    @pytest.fixture
    def prefix(self, tmp_path):
        return str(tmp_path).strip("/")

    @pytest.fixture
    def store(self, tmp_path):
        with open_store(tmp_path) as store:
            assert isinstance(store, LocalStore)
            yield store

    @pytest.fixture
    def raw(self):
        return RawFiles("/")


class TestDirect(StoreSuite):
    @pytest.fixture
    def prefix(self, tmp_path):
        return str(tmp_path).strip("/")

    @pytest.fixture
    def store(self):
        with DirectStore() as store:
            yield store

    @pytest.fixture
    def raw(self):
        return RawFiles("/")


class TestArrowOnAnyFilesystem(StoreSuite):
    """A filesystem that the user passes in: local files, through pyarrow."""

    lists_etags = False
    replaces_atomically = False

    @pytest.fixture
    def store(self, tmp_path):
        with ArrowStore(pafs.LocalFileSystem(), str(tmp_path)) as store:
            yield store

    @pytest.fixture
    def raw(self, tmp_path):
        return RawFiles(tmp_path)


class TestArrowOnAStore(StoreSuite):
    """A store as a filesystem as a store: what ``MemoryStore.filesystem`` does."""

    lists_etags = False

    @pytest.fixture
    def name(self):
        return f"suite-{uuid.uuid4().hex}"

    @pytest.fixture
    def store(self, name):
        with MemoryStore(name) as memory, ArrowStore(memory.filesystem, "", root=f"memory://{name}") as store:
            yield store
            memory.clear()

    @pytest.fixture
    def raw(self, name, store):
        return RawMemory(name)


class S3Suite(StoreSuite):
    """Both engines of a ``RemoteStore`` on one server, which a subclass names."""

    backend = ""
    server_fixture = ""

    @pytest.fixture
    def server(self, request):
        return request.getfixturevalue(self.server_fixture)

    def open(self, server, container):
        """Patiently: on a busy machine Azurite breaks connections off, which pyarrow's client takes its time to say."""
        return open_store(f"{server.scheme}://{container}", backend=self.backend, retry_deadline_s=120)

    @pytest.fixture
    def store(self, server):
        with self.open(server, server.container) as store:
            assert isinstance(store, RemoteStore)
            assert store.backend == self.backend
            yield store

    @pytest.fixture
    def missing(self, server):
        with self.open(server, "no-such-container") as store:
            yield store

    @pytest.fixture
    def raw(self, server):
        raw = RawS3(server, server.container)
        yield raw
        raw.close()


class TestMotoNative(S3Suite):
    backend, server_fixture = "native", "moto_environment"


class TestMotoArrow(S3Suite):
    backend, server_fixture, lists_etags = "arrow", "moto_environment", False


class TestMotoAutomatic(S3Suite):
    """What users have: no ``backend``, so the fork tests go by the rule of fork."""

    backend, server_fixture = "native", "moto_environment"
    paging_keys = 3  # as TestMotoNative, which has many

    @pytest.fixture
    def store(self, server):
        with open_store(f"{server.scheme}://{server.container}") as store:
            yield store


class GoogleSuite(S3Suite):
    server_fixture = "google_environment"

    @pytest.fixture
    def raw(self, server):
        raw = RawGoogle(server, server.container)
        yield raw
        raw.close()


class TestGoogleNative(GoogleSuite):
    backend = "native"


class TestGoogleArrow(GoogleSuite):
    backend, lists_etags = "arrow", False


@pytest.mark.servers
class TestRadosgwNative(S3Suite):
    backend, server_fixture = "native", "radosgw_environment"


@pytest.mark.servers
class TestRadosgwArrow(S3Suite):
    backend, server_fixture, lists_etags = "arrow", "radosgw_environment", False


@pytest.mark.servers
class TestAzuriteNative(S3Suite):
    backend, server_fixture = "native", "azurite_environment"
    keeps_parts_of_others = False

    @pytest.fixture
    def raw(self, server):
        return RawAzureByArrow(server, server.container)


@pytest.mark.servers
class TestAzuriteArrow(S3Suite):
    backend, server_fixture, lists_etags = "arrow", "azurite_environment", False
    replaces_atomically = keeps_parts_of_others = False

    @pytest.fixture
    def raw(self, server):
        return RawAzureByObstore(server, server.container)


TestMemoryMachine = store_machine(lambda: MemoryStore("machine")).TestCase
TestMemoryMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


def test_machine_on_local_files(tmp_path):
    run_machine(lambda: open_store(tmp_path), str(tmp_path), examples=40)


def test_machine_on_direct(tmp_path):
    run_machine(DirectStore, str(tmp_path).strip("/"), examples=20)


def test_machine_on_arrow_over_local_files(tmp_path):
    run_machine(lambda: ArrowStore(pafs.LocalFileSystem(), str(tmp_path)), examples=20)


@pytest.mark.parametrize("backend", ["native", "arrow"])
def test_machine_on_moto(moto_environment, backend):
    run_machine(lambda: open_store(f"s3://{moto_environment.container}", backend=backend), "machine", examples=4)


def run_machine(open_one, root="", *, examples):
    machine = store_machine(open_one, root)
    machine.TestCase.settings = settings(
        max_examples=examples, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
    )
    machine.TestCase().runTest()


def test_native_store_by_itself(moto_environment):
    """The engine without the switch: pickles, and names itself without secrets."""
    with open_store("s3://bucket", backend="native") as remote, NativeStore(remote._uri, remote.options) as store:
        store.put("by-itself", b"1")
        assert remote.get("by-itself").to_pybytes() == b"1"
        assert moto_environment.secret_key not in repr(store)
