"""What of a verb is repeated, and what may outlive it: over an engine that fails as it is told."""

import random
import threading

import pyarrow as pa
import pyarrow.fs as pafs
import pytest

from s3dlio.errors import AccessError, ExistsError, NotFoundError, StorageError, StorageTimeoutError, ThrottledError
from s3dlio.storage import ArrowStore, MemoryStore, StorageOptions
from s3dlio.storage.listing import columns
from s3dlio.storage.requests.resilient import Create, ForeignStore, ResilientStore


class Engine:
    """A memory store whose verbs first do what ``script`` says: an error to raise before, or after (``Late``)."""

    def __init__(self, name):
        self.memory = MemoryStore(name)
        self.script = []
        self.calls = []

    def __getattr__(self, name):
        verb = getattr(self.memory, name)

        def call(*args, **kwargs):
            self.calls.append(name)
            step = self.script.pop(0) if self.script else None
            if isinstance(step, Exception):
                raise step
            if isinstance(step, Late):
                verb(*args, **kwargs)
                raise step.error
            if isinstance(step, Refused):
                step.before()
                raise ThrottledError("slow down")
            if step is not None:
                step(*args)
            return verb(*args, **kwargs)

        return call


class Late:
    """The verb is done, and then the connection breaks."""

    def __init__(self, error):
        self.error = error


class Refused:
    """Something happens, and then the verb is refused."""

    def __init__(self, before):
        self.before = before


class Held:
    """The verb waits until it may leave; ``thread`` is the one that it holds."""

    def __init__(self, leave):
        self.leave = leave
        self.thread = None

    def __call__(self, *args):
        self.thread = threading.current_thread()
        self.leave.wait(30)


def create_late(create, engine):
    engine.script = [Late(broken())]
    with pytest.raises(StorageError, match="broke"):
        create(engine)


class Over(ResilientStore):
    def __init__(self, engine, silence=None, **options):
        super().__init__(StorageOptions(**options))
        self.engine = engine
        self.silence = silence

    def _engine(self):
        return self.engine

    def _silence(self):
        return self.silence

    def uri(self, key):
        return f"x://c/{key}"


def broken():
    return StorageError("the connection broke.", operation="put", retryable=True)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(random, "uniform", lambda low, high: 0.0)


@pytest.fixture
def engine(request):
    made = Engine(request.node.name)
    yield made
    made.memory.clear()


@pytest.fixture
def store(engine):
    with Over(engine) as made:
        yield made


@pytest.fixture
def leave():
    event = threading.Event()
    yield event
    event.set()


def test_every_verb_is_repeated(engine, store):
    store.put("a", b"12345")
    buffer = bytearray(3)
    for verb in (
        lambda: store.put("b", b"1"),
        lambda: store.head("a"),
        lambda: store.get("a"),
        lambda: store.get_range("a", 1, 3),
        lambda: store.get_into("a", buffer, 1),
        lambda: store.get_clipped("a", 1, 99),
        lambda: store.copy("a", "c"),
        lambda: store.delete("b"),
    ):
        engine.script = [broken(), broken()]
        verb()
        assert engine.script == []
    assert buffer == b"234"
    assert store.statistics.retries == 2 * 8
    assert store.get_clipped("a", 1, 99)[1].to_pybytes() == b"2345"
    assert [key for batch in store.list() for key in batch.column("key").to_pylist()] == ["a", "c"]


class TestCreate:
    def test_a_lost_answer_is_no_false_exists(self, engine, store):
        engine.script = [Late(broken())]
        meta = store.put("k", b"x" * 100, mode="create")
        assert (meta.key, meta.size) == ("k", 100)
        assert engine.calls.count("put") == 2
        assert store.get("k").to_pybytes() == b"x" * 100

    @pytest.mark.parametrize("theirs", [b"y" * 100, b"x" * 99, b""])
    def test_what_another_wrote_meanwhile_exists(self, engine, store, theirs):
        engine.script = [broken(), lambda *args: engine.memory.put("k", theirs)]
        with pytest.raises(ExistsError) as caught:
            store.put("k", b"x" * 100, mode="create")
        assert caught.value.attempts == 2
        assert store.get("k").to_pybytes() == theirs

    def test_the_first_attempt_is_not_unsure(self, engine, store):
        engine.memory.put("k", b"same")
        with pytest.raises(ExistsError):
            store.put("k", b"same", mode="create")
        assert engine.calls == ["put"]

    def test_a_refused_attempt_has_stored_nothing(self, engine, store):
        """So the same bytes there are another's."""
        engine.memory.put("k", b"same")
        engine.script = [ThrottledError("slow down")]
        with pytest.raises(ExistsError):
            store.put("k", b"same", mode="create")

    def test_gone_again_still_exists(self, engine, store):
        engine.memory.put("k", b"same")
        engine.script = [broken(), None, engine.memory.delete]
        with pytest.raises(ExistsError):
            store.put("k", b"same", mode="create")

    @pytest.mark.parametrize("error", [AccessError("expired"), ThrottledError("slow down")])
    def test_so_has_one_without_a_right_to_it(self, engine, error):
        class Renewing(Over):
            def _renew(self, engine, error, refused_at):
                return True

        engine.memory.put("k", b"same")
        engine.script = [error]
        with Renewing(engine) as store, pytest.raises(ExistsError):
            store.put("k", b"same", mode="create")

    def test_a_late_refusal_says_nothing_of_other_attempts(self, engine):
        """An attempt that was given up is refused after another one has stored the object."""
        create = Create("k", pa.py_buffer(b"same"))
        engine.script = [Refused(lambda: create_late(create, engine))]
        with pytest.raises(ThrottledError):
            create(engine)
        assert create(engine).size == 4

    def test_replaced_while_it_is_compared(self, engine, store):
        """By another writer: what is there is not ours."""

        def replace(*args, **kwargs):
            engine.memory.put("k", b"else")

        engine.memory.put("k", b"same")
        engine.script = [broken(), None, None, replace]
        with pytest.raises(ExistsError):
            store.put("k", b"same", mode="create")

    def test_finding_out_is_repeated(self, engine, store):
        engine.script = [Late(broken()), None, None, broken()]  # put, put, head, get_range
        assert store.put("k", b"same", mode="create").size == 4
        assert engine.calls == ["put", "put", "head", "get_range", "put", "head", "get_range"]


class TestMemory:
    """What is left never touches the caller's memory."""

    def test_get_into(self, engine, leave):
        engine.memory.put("k", b"new")
        held = Held(leave)
        engine.script = [held]
        buffer = bytearray(b"old")
        hung = pytest.raises(StorageTimeoutError, match="get_into x://c/k")
        with Over(engine, (0.01, 1000), max_attempts=1) as store, hung:
            store.get_into("k", buffer)
        leave.set()
        held.thread.join(30)
        assert not held.thread.is_alive()
        assert buffer == b"old"

    def test_put(self, engine, leave):
        """The caller may reuse the buffer of a put that was given up."""
        held = Held(leave)
        engine.script = [held]
        buffer = bytearray(b"first")
        with Over(engine, (0.01, 1000), max_attempts=1) as store, pytest.raises(StorageTimeoutError):
            store.put("k", buffer)
        buffer[:] = b"other"
        leave.set()
        held.thread.join(30)
        assert engine.memory.get("k").to_pybytes() == b"first"

    def test_bytes_are_not_copied(self, engine, store):
        seen = []
        engine.script = [lambda key, data: seen.append(data.address)]
        data = b"1" * 1000
        store.put("k", data)
        assert seen == [pa.py_buffer(data).address]

    def test_errors_of_get_into_name_it(self, store):
        with pytest.raises(NotFoundError, match=r"^get_into") as caught:
            store.get_into("missing", bytearray(3))
        assert caught.value.operation == "get_into"


def pages(*names):
    return [columns([*keys], [1] * len(keys), [None] * len(keys), [None] * len(keys)) for keys in names]


class Lists:
    """An engine whose listings have these pages, and fail as ``failures`` says: numbers of pages for each listing."""

    def __init__(self, listed, failures):
        self.listed = listed
        self.failures = list(failures)
        self.error = None
        self.listings = 0

    def list(self, prefix):
        self.listings += 1
        return self.pages(self.failures.pop(0) if self.failures else None)

    def pages(self, failure):
        for number, page in enumerate(self.listed):
            if number == failure:
                raise self.error or broken()
            yield page
        if failure == len(self.listed):
            raise broken()


def keys_of(batches):
    return [key for batch in batches for key in batch.column("key").to_pylist()]


class TestList:
    @pytest.mark.parametrize("failures", [[0], [1], [2], [3], [1, 1], [0, 0, 0], [2, 1, 3, 3]])
    def test_nothing_twice_and_nothing_lost(self, failures):
        engine = Lists(pages("ab", "cd", "ef"), failures)
        with Over(engine) as store:
            assert keys_of(store.list()) == [*"abcdef"]
        assert engine.listings == 1 + len(failures)

    def test_what_was_deleted_or_added_meanwhile(self):
        engine = Lists(pages("bd", "fh"), [1])
        with Over(engine) as store:
            listing = store.list()
            assert keys_of([next(listing)]) == ["b", "d"]
            engine.listed = pages("ace", "fgh")
            assert keys_of(listing) == ["e", "f", "g", "h"]

    def test_utf8_order(self):
        """Servers order by bytes, where U+FFFF comes before U+10000; so do Arrow and Python."""
        names = ["a", "\uffff", "\U00010000"]
        engine = Lists(pages(names[:2], names[2:]), [1])
        with Over(engine) as store:
            assert keys_of(store.list()) == names

    @pytest.mark.parametrize("listed", [pages("ba", "cd"), pages("ab", "ad", "x"), pages("cd", "ab", "x")])
    def test_without_an_order_nothing_is_guessed(self, listed):
        engine = Lists(listed, [len(listed) - 1])
        with Over(engine) as store:
            listing = store.list()
            for page in listed[:-1]:
                assert next(listing) == page
            with pytest.raises(StorageError, match="broke"):
                next(listing)
        assert engine.listings == 1

    def test_without_an_order_the_beginning_is_repeated(self):
        engine = Lists(pages("ba", "cd"), [0])
        with Over(engine) as store:
            assert keys_of(store.list()) == [*"bacd"]

    def test_a_page_that_always_fails_ends_the_listing(self):
        """What was delivered before counts as no progress when it is listed again."""
        engine = Lists(pages("ab", "cd", "ef"), [2] * 50)
        with Over(engine, max_attempts=5) as store:
            listing = store.list()
            assert keys_of([next(listing), next(listing)]) == [*"abcd"]
            with pytest.raises(StorageError, match="Gave up after 5 attempts"):
                next(listing)
        assert engine.listings == 5

    @pytest.mark.parametrize("listed", [pages("da", "bc"), pages("ad", "bc"), pages("ab", "df", "ce")])
    def test_renewed_credentials_do_not_go_on_without_an_order(self, listed):
        """Rows would get lost, also where only a later page shows it."""

        class Renewing(Over):
            def _renew(self, engine, error, refused_at):
                return True

        engine = Lists(listed, [1])
        engine.error = AccessError("list x://c/: expired.")
        with Renewing(engine) as store:
            listing = store.list()
            assert next(listing) == listed[0]
            with pytest.raises(StorageError, match=r"^list x://c/: .*List it again"):
                list(listing)

    def test_renewed_credentials_go_on_in_order(self):
        class Renewing(Over):
            def _renew(self, engine, error, refused_at):
                return True

        engine = Lists(pages("ab", "cd"), [1])
        engine.error = AccessError("list x://c/: expired.")
        with Renewing(engine) as store:
            assert keys_of(store.list()) == [*"abcd"]

    def test_a_page_that_hangs(self, leave):
        hung = []

        class Hangs(Lists):
            def pages(self, failure):
                for page in super().pages(None):
                    if failure is not None and keys_of([page]) == ["c"]:
                        hung.append(1)
                        leave.wait(30)
                    yield page

        engine = Hangs(pages("a", "b", "c", "d"), [2])
        with Over(engine, (0.01, 1000)) as store:
            assert keys_of(store.list()) == [*"abcd"]
        assert hung == [1]
        assert store.statistics.timeouts == 1


class TestForeign:
    def test_a_filesystem_of_the_user(self, tmp_path):
        with ForeignStore(ArrowStore(pafs.LocalFileSystem(), str(tmp_path)), StorageOptions()) as store:
            store.put("d/a", b"12345")
            with store.open_writer("b") as writer:
                writer.write(b"678")
            assert sorted(keys_of(store.list())) == ["b", "d/a"]
            assert store.get("d/a").to_pybytes() == b"12345"
            assert store.filesystem.type_name == "local"
            assert store.statistics.requests == 5, "two puts, a get, a batch and the end of the listing"

    def test_what_hangs_is_given_up(self, leave):
        class Hangs(pafs.FileSystemHandler):
            def open_input_file(self, path):
                leave.wait(30)
                raise FileNotFoundError(path)

            def get_type_name(self):
                return "hangs"

            def __getattr__(self, name):
                raise AssertionError(name)

        Hangs.__abstractmethods__ = frozenset()
        filesystem = pafs.PyFileSystem(Hangs())
        options = StorageOptions(read_timeout_s=0.05, max_attempts=1)
        with (
            ForeignStore(ArrowStore(filesystem, "c"), options) as store,
            pytest.raises(StorageTimeoutError, match="no answer in time"),
        ):
            store.get("k")
        leave.set()
