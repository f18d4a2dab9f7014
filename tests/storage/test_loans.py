import multiprocessing
import threading

import pytest

from s3dlio.errors import ClosedError, OptionError
from s3dlio.storage import StorageOptions, loans, objects
from s3dlio.storage.loans import KeptStores, Loans
from s3dlio.storage.operation_log.log import op_log
from s3dlio.uri import Uri

OPTIONS = StorageOptions()


class CountedStore:
    """Only what loans need of a store."""

    def __init__(self, uri, options):
        self.uri, self.options, self.closed = uri, options, 0

    def close(self):
        self.closed += 1


@pytest.fixture
def opened(monkeypatch):
    """The stores that were opened, in order; none is kept from before."""
    stores = []

    def open_store(uri, *, storage_options):
        stores.append(CountedStore(uri, storage_options))
        return stores[-1]

    monkeypatch.setattr(loans, "open_store", open_store)
    monkeypatch.setattr(loans, "_lender", KeptStores(limit=3))
    return stores


def lent(uri, **reach):
    with Loans(**reach) as found:
        return found.find(uri)


def test_one_store_for_all_calls_on_a_container(opened):
    assert lent("s3://a/x/y")[1] == "x/y"
    assert lent("s3://a/z")[0] is opened[0]
    assert lent("s3://b/z")[0] is opened[1]
    with Loans() as found:
        assert found.find("s3://a/1")[0] is found.find("s3://a/2")[0] is opened[0]
        assert found.find("s3://b/1")[0] is opened[1]
    assert len(opened) == 2
    assert [store.closed for store in opened] == [0, 0]


def test_what_is_lent_is_reached_as_the_environment_says_now(opened, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://one")
    one, _ = lent("s3://a/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://two")
    two, _ = lent("s3://a/x")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://one")
    assert lent("s3://a/x")[0] is one
    assert (one.options.endpoint_url, two.options.endpoint_url) == ("http://one", "http://two")


def test_options_of_the_call_are_part_of_what_is_lent(opened):
    plain, _ = lent("s3://a/x")
    west, _ = lent("s3://a/x", storage_options={"region": "west"})
    assert west is not plain
    assert west.options.region == "west"
    assert lent("s3://a/x", storage_options={"region": "west"})[0] is west
    assert lent("s3://a/x", storage_options=west.options)[0] is west
    with pytest.raises(OptionError, match="regoin"):
        lent("s3://a/x", storage_options={"regoin": "west"})


def test_a_provider_without_a_hash_is_no_error(opened):
    class Provider:
        __hash__ = None

        def __call__(self):
            raise AssertionError

    options = OPTIONS.replace(credential_provider=Provider())
    assert lent("s3://a/x", storage_options=options)[0] is not lent("s3://a/x", storage_options=options)[0]


def test_an_operation_log_sees_the_calls_inside_it_and_no_others(opened, tmp_path):
    before, _ = lent("memory://a/x")
    with op_log(tmp_path / "ops.tsv.zst"):
        inside, _ = lent("memory://a/x")
    assert inside is not before
    assert lent("memory://a/x")[0] is before


def test_the_store_unused_for_longest_is_closed(opened):
    for name in "abc":
        lent(f"s3://{name}/x")
    lent("s3://a/x")
    lent("s3://d/x")
    assert [store.uri.container for store in opened if store.closed] == ["b"]
    lent("s3://b/x")
    assert [store.uri.container for store in opened if store.closed] == ["b", "c"]
    assert len(loans._lender) == 3


def test_a_store_is_not_closed_while_it_is_lent(opened):
    held = [Loans() for _ in range(6)]
    for number, found in enumerate(held):
        found.find(f"s3://bucket-{number}/x")
    assert not any(store.closed for store in opened)
    for found in held:
        found.close()
        found.close()
    assert [store.closed for store in opened] == [1, 1, 1, 0, 0, 0]
    assert len(loans._lender) == 3


def test_giving_back_in_the_middle_of_borrowing(opened):
    """As a garbage collection does that drops a file in a thread that holds the lock."""
    found = Loans()
    for name in "abcd":
        found.find(f"s3://{name}/x")
    with loans._lender._lock:
        found.close()
    assert not any(store.closed for store in opened)
    lent("s3://d/x")
    assert [store.uri.container for store in opened if store.closed] == ["a"]


def test_a_call_given_up_finds_nothing_more(opened):
    found = Loans()
    found.find("s3://a/x")
    found.close()
    with pytest.raises(ClosedError):
        found.find("s3://b/x")


def test_threads_share_one_store(opened):
    start, seen = threading.Barrier(8), []

    def run():
        start.wait()
        seen.extend(lent("s3://a/x")[0] for _ in range(50))

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 400
    assert set(seen) == {opened[0]}
    assert next(iter(loans._lender._stores.values())).borrowers == 0


def test_a_forked_child_waits_for_no_lock_and_closes_nothing_of_its_parents(opened):
    found = Loans()
    found.find("s3://a/x")

    def child():
        found.close()
        assert len(loans._lender) == 0
        lent("s3://a/x")
        assert [store.closed for store in opened] == [0, 0], "a new one, and the parent's is left alone"

    with loans._lender._lock, found._lock:  # as another thread may have at the time
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(60)
    assert process.exitcode == 0
    found.close()


def test_functions_survive_a_fork(moto_environment):
    uri = f"s3://{moto_environment.new_container()}/x"
    objects.put_bytes(uri, b"1")

    def child():
        import warnings

        from s3dlio.storage import ForkWarning

        warnings.simplefilter("ignore", ForkWarning)
        assert objects.get(uri) == b"1"

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert objects.get(uri) == b"1"


def test_a_filesystem_of_the_callers_is_not_kept(tmp_path):
    import pyarrow.fs as pafs

    (tmp_path / "x").write_bytes(b"1")
    before = len(loans._lender)
    with Loans(filesystem=pafs.LocalFileSystem()) as found:
        store, key = found.find(str(tmp_path / "x"))
        assert found.find(str(tmp_path / "y"))[0] is store
        assert store.get(key).to_pybytes() == b"1"
        assert found.find("relative")[0] is not store
    assert len(loans._lender) == before
    with pytest.raises(ClosedError):
        found.find("relative")


def test_the_account_of_azure_is_part_of_the_container(opened):
    one, _ = lent(Uri.parse("abfss://c@one.dfs.core.windows.net/x"))
    two, _ = lent(Uri.parse("abfss://c@two.dfs.core.windows.net/x"))
    assert one is not two
