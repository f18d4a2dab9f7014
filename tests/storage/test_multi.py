"""One store over several endpoints: the suite, and what happens when endpoints fail. Two or three doors to one moto."""

import contextlib
import multiprocessing
import pickle
import signal
import socket
import threading
import time
import uuid

import pyarrow as pa
import pyarrow.compute as pc
import pytest

import s3dlio
from s3dlio.errors import (
    ClosedError,
    ExistsError,
    NotFoundError,
    OptionError,
    PreconditionError,
    ShortReadError,
    StorageError,
    StorageTimeoutError,
    ThrottledError,
)
from s3dlio.storage import LIST_SCHEMA, RemoteStore, StorageOptions, open_store
from s3dlio.storage.multi.failover import Failover
from s3dlio.storage.multi.store import MultiEndpointStore
from s3dlio.storage.operation_log.format import read_op_log
from s3dlio.storage.operation_log.log import op_log
from s3dlio.storage.operation_log.store import LoggedStore
from s3dlio.testing import StoreSuite

from ..servers.fault_actions import close_before_answer, delay_first_byte, lose_answer, reset_in_body, status
from ..servers.faults import FaultProxy
from .raw_objects import RawS3

BACKENDS = pytest.mark.parametrize("backend", ["native", "arrow"])
PATIENCE_S = 30
COLUMNS = ("op", "endpoint", "error")


def dead_url():
    """A port that was free a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture
def doors(moto_environment, monkeypatch):
    """Two ways to the one server."""
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    with FaultProxy(moto_environment) as first, FaultProxy(moto_environment) as second:
        yield first, second


@pytest.fixture
def prefix():
    return f"multi-{uuid.uuid4().hex}"


def opened(doors, container="bucket", **options):
    urls = [door if isinstance(door, str) else door.endpoint_url for door in doors]
    return open_store(f"s3://{container}", endpoint_urls=urls, **{"retry_deadline_s": 5.0, **options})


def errors(store):
    return [one.errors for one in store.endpoint_statistics]


def requests(store):
    return [one.requests for one in store.endpoint_statistics]


class MultiSuite(StoreSuite):
    options = {}

    @pytest.fixture
    def server(self, moto_environment):
        return moto_environment

    @pytest.fixture
    def store(self, doors):
        with opened(doors, **self.options) as store:
            assert isinstance(store, MultiEndpointStore)
            yield store

    @pytest.fixture
    def missing(self, doors):
        urls = [door.endpoint_url for door in doors]
        with open_store("s3://no-such-container", endpoint_urls=urls, **self.options) as store:
            yield store

    @pytest.fixture
    def raw(self, server):
        raw = RawS3(server, server.container)
        yield raw
        raw.close()


class TestRoundRobin(MultiSuite):
    options = {"backend": "native"}
    paging_keys = 3  # as TestMotoNative, which has many


class TestLeastConnectionsArrow(MultiSuite):
    options = {"backend": "arrow", "balance": "least_connections"}
    lists_etags = False
    paging_keys = 3


class TestWithADeadEndpoint(MultiSuite):
    """Every test of the suite, while one of three endpoints refuses connections."""

    options = {"backend": "native"}
    paging_keys = 3

    @pytest.fixture
    def store(self, doors):
        with opened([dead_url(), *doors], **self.options) as store:
            yield store


class TestLogged(MultiSuite):
    """Every endpoint's store is a logged one."""

    paging_keys = 3

    @pytest.fixture
    def store(self, doors, tmp_path):
        with op_log(tmp_path / "ops.tsv"), opened(doors) as store:
            yield store


@pytest.mark.servers
class TestRadosgw(MultiSuite):
    """Two doors to a real server."""

    options = {"balance": "least_connections"}
    paging_keys = 3

    @pytest.fixture
    def server(self, radosgw_environment):
        return radosgw_environment

    @pytest.fixture
    def doors(self, server, monkeypatch):
        monkeypatch.delenv("AWS_ENDPOINT_URL")
        with FaultProxy(server) as first, FaultProxy(server) as second:
            yield first, second

    @pytest.fixture
    def store(self, doors, server):
        with opened(doors, server.container, **self.options) as store:
            yield store


def test_even_distribution(doors, prefix):
    with opened(doors) as store:
        store.put(f"{prefix}/x", b"12345")
        for _ in range(21):
            store.get(f"{prefix}/x")
        found = store.endpoint_statistics
    assert requests(store) == [11, 11]
    assert sum(one.bytes_read for one in found) == 21 * 5
    assert sum(one.bytes_written for one in found) == 5
    assert [one.errors + one.in_flight for one in found] == [0, 0]
    assert all(0 < one.latency_s < 10 for one in found)
    assert [one.endpoint_url for one in found] == [door.endpoint_url for door in doors]
    assert sum(door.count() for door in doors) == 22
    assert abs(doors[0].count() - doors[1].count()) == 0
    assert store.statistics.requests == 22


@pytest.mark.parametrize(("rank", "door"), [(0, 0), (1, 1), (6, 0)])
def test_by_rank(doors, prefix, rank, door, monkeypatch):
    monkeypatch.setenv("RANK", str(rank))
    with opened(doors, balance="rank") as store:
        for n in range(5):
            store.put(f"{prefix}/{n}", b"1")
    assert doors[door].count() == 5
    assert doors[1 - door].count() == 0


def test_rank_is_needed(doors):
    with pytest.raises(OptionError, match="no launcher") as caught:
        opened(doors, balance="rank")
    assert caught.value.field == "endpoint_rank"


def test_least_connections(doors, prefix):
    """The endpoint that hangs gets one request, the other one all that come meanwhile."""
    with opened(doors, balance="least_connections") as store:
        store.put(f"{prefix}/x", b"1")
        slow = [door.fail(delay_first_byte(), method="GET", times=1) for door in doors]
        threads = [threading.Thread(target=store.get, args=(f"{prefix}/x",), daemon=True) for _ in range(2)]
        for thread in threads:
            thread.start()
        for rule in slow:
            assert rule.reached.wait(PATIENCE_S), "two requests under way go to two endpoints"
        slow[0].release()
        deadline = time.monotonic() + PATIENCE_S
        while [one.in_flight for one in store.endpoint_statistics] != [0, 1]:  # until its request has come back
            assert time.monotonic() < deadline
        before = doors[1].count("GET")
        for _ in range(6):
            store.get(f"{prefix}/x")
        assert doors[1].count("GET") == before
        slow[1].release()
        for thread in threads:
            thread.join(PATIENCE_S)


def kill(door):
    door.stop()


def hang(door):
    return door.fail(delay_first_byte(), times=None)


def throttle(door):
    return door.fail(status(503), times=None)


def reset(door):
    return door.fail(reset_in_body(1), method="GET", times=None)


def hang_up(door):
    return door.fail(close_before_answer(), times=None)


@BACKENDS
@pytest.mark.parametrize("fault", [kill, hang, throttle, reset, hang_up])
def test_an_endpoint_fails_in_mid_run(doors, prefix, backend, fault):
    """16 threads read and write; after some requests one door breaks. Nobody notices, and it is soon left alone."""
    with opened(doors, backend=backend, read_timeout_s=3.0, retry_deadline_s=30.0) as store:
        for n in range(16):
            store.put(f"{prefix}/{n}", bytes([n]) * 3000)
        broken = threading.Event()
        failures = []

        def work(number):
            try:
                for turn in range(10):
                    if turn == 3 and number == 0:
                        fault(doors[0])
                        broken.set()
                    if turn == 5:
                        assert broken.wait(PATIENCE_S)
                    assert store.get(f"{prefix}/{number}").to_pybytes() == bytes([number]) * 3000
                    store.put(f"{prefix}/{number}.copy", b"1")
            except BaseException as error:  # noqa: BLE001 - shown by the test
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        assert not failures, failures
        found = store.endpoint_statistics
    assert found[0].errors > 0
    assert found[1].errors == 0
    assert sum(one.requests - one.errors for one in found) == 16 + 16 * 20
    assert [one.in_flight for one in found] == [0, 0]
    assert sum(one.bytes_read for one in found) == 16 * 10 * 3000
    assert found[0].set_aside


def test_it_comes_back(doors, prefix, monkeypatch):
    monkeypatch.setattr("s3dlio.storage.multi.balance._FIRST_S", 0.0)
    with opened(doors) as store:
        store.put(f"{prefix}/x", b"1")
        doors[0].fail(status(503), times=1)
        for _ in range(20):
            store.get(f"{prefix}/x")
        found = store.endpoint_statistics
    assert found[0].errors == 1
    assert not found[0].set_aside
    assert found[0].requests >= 9


@BACKENDS
def test_all_are_down(backend):
    urls = [dead_url(), dead_url()]
    keys = {"access_key_id": "id", "secret_access_key": "hidden"}
    with opened(urls, backend=backend, max_attempts=4, retry_deadline_s=2.0, **keys) as store:
        with pytest.raises(StorageTimeoutError) as caught:
            store.get("k")
        for url in urls:
            assert f"{url}: no connection (refused)" in str(caught.value)
        assert "get s3://bucket/k: none of 2 endpoints answered" in str(caught.value)
        assert (caught.value.uri, caught.value.operation, caught.value.retryable) == ("s3://bucket/k", "get", True)
        assert caught.value.attempts == 4
        assert isinstance(caught.value.__cause__, StorageTimeoutError)
        assert errors(store) == [2, 2]
        with pytest.raises(StorageTimeoutError, match="list s3://bucket/p: none of 2"):
            list(store.list("p"))


def test_all_ask_for_less(doors):
    for door in doors:
        throttle(door)
    with opened(doors, max_attempts=2) as store, pytest.raises(ThrottledError, match="none of 2 endpoints"):
        store.get("k")


def test_a_pause_that_all_ask_for():
    """The shortest one, if every endpoint asks for one."""
    failover = Failover(StorageOptions(endpoint_urls="http://a http://b", retry_deadline_s=60.0), "get", "s3://b/k")
    for number, seconds in enumerate((20.0, 10.0)):
        error = ThrottledError("get s3://b/k: slow down, expected an answer.", uri="s3://b/k", operation="get")
        error.retry_after_s = seconds
        failover.note(number, error)
    assert 10 <= failover.pause_s() <= 10.1
    failover.note(0, StorageError("get s3://b/k: HTTP 500, expected success.", uri="s3://b/k", operation="get"))
    assert failover.pause_s() <= 0.2
    for _ in range(10):
        failover.note(1, error)
    with pytest.raises(ThrottledError, match=r"\(http://a: HTTP 500; http://b: slow down\)") as caught:
        failover.pause_s()
    assert caught.value.attempts == 13
    assert caught.value.__cause__ is error


def test_a_storm_is_ridden_out(doors, prefix):
    """More rounds, while attempts and time allow."""
    with opened(doors, max_attempts=6) as store:
        store.put(f"{prefix}/x", b"1")
        for door in doors:
            door.fail(status(503), times=2)
        assert store.get(f"{prefix}/x").to_pybytes() == b"1"
        assert errors(store) == [2, 2]


def test_an_answer_is_an_answer(doors, prefix):
    """What any endpoint would say is not asked twice."""
    with opened(doors) as store:
        store.put(f"{prefix}/x", b"123")
        for door in doors:
            door.clear()
        with pytest.raises(NotFoundError):
            store.get(f"{prefix}/none")
        with pytest.raises(ShortReadError):
            store.get_range(f"{prefix}/x", 10, 20)
        with pytest.raises(PreconditionError):
            store.get_range(f"{prefix}/x", 0, 1, etag="another")
        with pytest.raises(ExistsError):
            store.put(f"{prefix}/x", b"", mode="create")
        assert requests(store) == [3, 2]
        assert errors(store) == [0, 0]
        with pytest.raises(OptionError):
            store.get("a//b")
        assert sum(requests(store)) == 5, "nobody was asked"


def test_create_goes_on(doors, prefix):
    with opened(doors) as store:
        doors[0].fail(close_before_answer(), method="PUT")
        store.put(f"{prefix}/x", b"mine", mode="create")
        assert errors(store) == [1, 0]
        assert store.get(f"{prefix}/x").to_pybytes() == b"mine"


def test_create_whose_answer_is_lost(doors, prefix):
    """The first door makes the object. The second one says that it exists, which is so because it is ours."""
    with opened(doors) as store:
        doors[0].fail(lose_answer(), method="PUT")
        assert store.put(f"{prefix}/x", b"mine", mode="create").size == 4
        assert errors(store) == [1, 0]
        doors[1].clear()


@pytest.mark.parametrize("fault", [close_before_answer(), status(503)])
def test_create_where_others_were_first(doors, prefix, fault):
    with opened(doors) as store:
        store.put(f"{prefix}/x", b"theirs")
        for door in doors:
            door.fail(fault, method="PUT", times=1)
        with pytest.raises(ExistsError):
            store.put(f"{prefix}/x", b"mine!!", mode="create")
        assert store.get(f"{prefix}/x").to_pybytes() == b"theirs"


def test_a_small_writer_goes_where_it_can(doors, prefix):
    with opened(doors) as store:
        with store.open_writer(f"{prefix}/w") as writer:
            writer.write(b"123")
            writer.flush()
            doors[0].stop()
            writer.write(memoryview(b"45"))
        result = writer.close()
        assert (result.size, result.parts, result.checksum) == (5, 1, "crc32c:18d12335")
        assert errors(store) == [1, 0]
        writer = store.open_writer(f"{prefix}/aborted")
        writer.write(b"1")
        writer.abort()
        assert [one.in_flight for one in store.endpoint_statistics] == [0, 0]


LARGE = bytes(range(256)) * (20 << 12)


@BACKENDS
def test_a_large_writer_stays(doors, prefix, backend):
    """It begins where an endpoint works, however new the store is, and ends there."""
    with opened([dead_url(), *doors], backend=backend) as store:
        with store.open_writer(f"{prefix}/w") as writer:
            writer.write(LARGE)
            assert sorted(one.in_flight for one in store.endpoint_statistics) == [0, 0, 1]
        assert writer.close().size == len(LARGE)
        found = [one for one in store.endpoint_statistics if one.bytes_written]
        assert [(one.bytes_written, one.in_flight) for one in found] == [(len(LARGE), 0)]
        assert errors(store) == [1, 0, 0]
        assert store.get(f"{prefix}/w").equals(pa.py_buffer(LARGE))
        writer = store.open_writer(f"{prefix}/aborted")
        writer.write(LARGE)
        writer.abort()
        assert [one.in_flight for one in store.endpoint_statistics] == [0, 0, 0]


@BACKENDS
@pytest.mark.parametrize("way", ["writer", "put"])
def test_parts_are_repeated_where_they_were(doors, prefix, backend, way):
    """One refusal among the parts of a large object does not cost the object."""
    with opened(doors, backend=backend) as store:
        rules = [door.fail(status(503), method="PUT", query="partNumber=2", times=1) for door in doors]
        if way == "put":
            store.put(f"{prefix}/w", LARGE)
        else:
            with store.open_writer(f"{prefix}/w") as writer:
                writer.write(LARGE)
        assert sum(rule.applied for rule in rules) == 1, "sent in parts"
        assert errors(store) == [0, 0]
        assert store.get(f"{prefix}/w").equals(pa.py_buffer(LARGE))


@BACKENDS
def test_a_large_writer_fails_with_its_endpoint(doors, prefix, backend):
    with opened(doors, retry_deadline_s=0.5, backend=backend) as store:
        writer = store.open_writer(f"{prefix}/w")
        writer.write(LARGE[:1])
        writer.write(LARGE)
        (busy,) = [number for number, one in enumerate(store.endpoint_statistics) if one.in_flight]
        doors[busy].stop()
        with pytest.raises(StorageError):
            writer.close()
        assert errors(store)[busy] == 1
        assert store.endpoint_statistics[busy].set_aside
        assert not sum(one.in_flight for one in store.endpoint_statistics)
        with pytest.raises(NotFoundError):
            store.head(f"{prefix}/w")
        with store.open_writer(f"{prefix}/w") as writer:
            writer.write(LARGE)
        assert store.head(f"{prefix}/w").size == len(LARGE)


def test_a_listing_goes_on(doors, prefix):
    """Broken off after its first page, a listing of 2,100 keys goes on elsewhere: each key once."""
    keys = [f"{prefix}/{n:04}" for n in range(2100)]
    with opened(doors, read_timeout_s=5.0, max_attempts=4) as store:
        raw = RawS3(doors[0].upstream, "bucket")
        with contextlib.closing(raw):
            for key in keys:
                raw.write(key, b"")
            listing = store.list(prefix)
            found = next(listing).column("key").to_pylist()
            assert 0 < len(found) < 2100
            doors[0].stop()
            for batch in listing:
                found += batch.column("key").to_pylist()
            assert found == keys
            assert errors(store) == [1, 0]


@pytest.mark.parametrize("broken_after", [0, 1, 2])
def test_a_listing_without_order_does_not_go_on(doors, monkeypatch, broken_after):
    """As of S3's directory buckets: the keys before the last one that was given may be still to come."""
    pages = [["a/x", "a/y"], ["a.b", "c"]]
    broken = StorageError("list: injected", uri="s3://bucket/", operation="list", retryable=True)
    calls = []

    def listing(prefix):
        calls.append(prefix)
        for number, keys in enumerate(pages):
            if len(calls) == 1 and number == broken_after:
                raise broken
            columns = [keys, [1] * len(keys), [None] * len(keys), [None] * len(keys)]
            yield pa.record_batch([pa.array(c, f.type) for c, f in zip(columns, LIST_SCHEMA, strict=True)], LIST_SCHEMA)
        if len(calls) == 1 and broken_after == len(pages):
            raise broken

    found = []
    with opened(doors) as store:
        for one in store._stores:
            monkeypatch.setattr(one, "list", listing)
        if broken_after == 0:  # nothing was given: any order will do
            assert [key for batch in store.list() for key in batch["key"].to_pylist()] == [*pages[0], *pages[1]]
            return
        with pytest.raises(StorageError) as caught:
            for batch in store.list():
                found += batch["key"].to_pylist()
        assert caught.value is broken
        assert found == [key for page in pages[:broken_after] for key in page]
        assert not sum(one.in_flight for one in store.endpoint_statistics)


def test_a_listing_given_up_is_no_failure(doors, prefix):
    with opened(doors) as store:
        store.put(f"{prefix}/1", b"")
        listing = store.list(prefix)
        next(listing)
        assert sum(one.in_flight for one in store.endpoint_statistics) == 1
        listing.close()
        assert sum(one.in_flight for one in store.endpoint_statistics) == 0
        assert errors(store) == [0, 0]


def test_pickles(doors, prefix):
    with opened(doors, balance="least_connections") as store:
        store.put(f"{prefix}/x", b"1")
        with pickle.loads(pickle.dumps(store)) as other:
            assert other.options == store.options
            assert requests(other) == [0, 0], "counts are of one process and handle"
            assert other.get(f"{prefix}/x").size == 1


def read_in_child(store, key, results):
    store.get(key)
    results.put([one.requests for one in store.endpoint_statistics])


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_counts_of_a_child_are_its_own(doors, prefix, method):
    context = multiprocessing.get_context(method)
    with opened(doors, backend="arrow") as store:
        for n in range(4):
            store.put(f"{prefix}/{n}", b"1")
        results = context.Queue()
        child = context.Process(target=read_in_child, args=(store, f"{prefix}/0", results))
        child.start()
        assert results.get(timeout=PATIENCE_S) == [1, 0]
        child.join(PATIENCE_S)
        results.close()
        results.join_thread()
        assert requests(store) == [2, 2]


def test_close_wakes_who_pauses(doors):
    for door in doors:
        throttle(door)
    store = opened(doors, max_attempts=10_000, retry_deadline_s=1000.0)
    caught = []

    def work():
        try:
            store.get("k")
        except BaseException as error:  # noqa: BLE001 - shown by the test
            caught.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE_S
    while doors[0].count() < 4:  # by then it pauses between rounds, as good as always
        assert time.monotonic() < deadline
    store.close()
    thread.join(PATIENCE_S)
    assert isinstance(caught[0], ClosedError)
    with pytest.raises(ClosedError):
        store.get("k")
    store.close()


def test_what_is_logged(doors, prefix, tmp_path):
    """A line for each endpoint that was asked, with its error."""
    doors[0].fail(status(503), method="GET", times=1)
    with op_log(tmp_path / "ops.tsv"), opened(doors) as store:
        assert isinstance(store._stores[0], LoggedStore)
        store.put(f"{prefix}/x", b"123")
        store.head(f"{prefix}/x")
        for _ in range(2):
            assert store.get(f"{prefix}/x").size == 3
        other = pickle.loads(pickle.dumps(store))
        other.delete(f"{prefix}/x")
    log = read_op_log(tmp_path / "ops.tsv")
    first, second = (door.endpoint_url for door in doors)
    found = [(op, url, bool(said)) for op, url, said in zip(*(log[name].to_pylist() for name in COLUMNS), strict=True)]
    assert found == [
        ("PUT", first, False), ("STAT", second, False), ("GET", first, True), ("GET", second, False),
        ("GET", second, False), ("DELETE", first, False),
    ]  # fmt: skip


@BACKENDS
def test_interrupt(doors, prefix, backend):
    """Ctrl-C ends a verb that waits for a silent endpoint; it is no verdict, and no other endpoint is asked."""
    with opened(doors, backend=backend) as store:
        store.put(f"{prefix}/x", b"1")
        rules = [door.fail(delay_first_byte(), times=None) for door in doors]
        main = threading.get_ident()
        thread = threading.Thread(
            target=lambda: (rules[1].reached.wait(PATIENCE_S), signal.pthread_kill(main, signal.SIGINT)), daemon=True
        )
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            store.get(f"{prefix}/x")
        thread.join(PATIENCE_S)
        for rule in rules:
            rule.release()
        assert requests(store) == [1, 0]
        assert [one.in_flight + one.errors for one in store.endpoint_statistics] == [0, 0]


@pytest.mark.parametrize("spelling", ["list", "text", "template", "file", "environment", "url"])
def test_every_spelling(doors, prefix, spelling, tmp_path, monkeypatch):
    urls = [door.endpoint_url for door in doors]
    options = {}
    if spelling == "list":
        options = {"endpoint_urls": urls}
    elif spelling == "text":
        options = {"storage_options": {"endpoint_urls": ", ".join(urls)}}
    elif spelling == "template":
        ports = [int(url.rpartition(":")[2]) for url in urls]
        template = f"http://127.0.0.1:{{{min(ports)}...{min(ports)}}}"
        options = {"endpoint_urls": [template, f"http://127.0.0.{{1...1}}:{max(ports)}"]}
    elif spelling == "file":
        (tmp_path / "endpoints").write_text("# two doors\n" + "\n".join(urls))
        options = {"endpoint_urls": f"@{tmp_path}/endpoints"}
    elif spelling == "environment":
        monkeypatch.setenv("S3DLIO_ENDPOINT_URLS", " ".join(urls))
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL", ",".join(urls))
    with open_store("s3://bucket", **options) as store:
        store.put(f"{prefix}/1", b"1")
        store.put(f"{prefix}/2", b"1")
        assert sorted(one.endpoint_url for one in store.endpoint_statistics) == sorted(urls)
        assert requests(store) == [1, 1]


def test_one_url_is_no_multi_endpoint_store(doors):
    with open_store("s3://bucket", endpoint_url=doors[0].endpoint_url) as store:
        assert isinstance(store, RemoteStore)


@pytest.mark.parametrize("balance", ["round_robin", "least_connections"])
def test_an_epoch_while_an_endpoint_dies(doors, prefix, balance, tmp_path):
    """A loader over the store reads each object once, whatever the endpoints do; the log tells who served it."""
    with contextlib.closing(RawS3(doors[0].upstream, "bucket")) as raw:
        for n in range(60):
            raw.write(f"{prefix}/{n:03}", bytes([n]) * 1000)
    options = {"endpoint_urls": [door.endpoint_url for door in doors], "balance": balance, "read_timeout_s": 2.0}
    with op_log(tmp_path / "ops.tsv"):
        data = s3dlio.dataset(f"s3://bucket/{prefix}", storage_options=options)
        seen = []
        with s3dlio.DataLoader(data, batch_size=4, max_in_flight=4, prefetch_bytes=16_000) as loader:
            for number, batch in enumerate(loader):
                if number == 3:
                    doors[0].stop()
                seen += [bytes(memoryview(sample))[:1] for sample in batch["data"]]
    assert sorted(seen) == [bytes([n]) for n in range(60)]
    log = read_op_log(tmp_path / "ops.tsv").filter(pc.field("op") == "GET")
    served = log.filter(pc.field("error") == "")
    assert sorted(served["file"].to_pylist()) == [f"bucket/{prefix}/{n:03}" for n in range(60)]
    assert set(served["endpoint"].to_pylist()) == {door.endpoint_url for door in doors}
    assert 0 < log.num_rows - served.num_rows < 60
