"""Deleting many objects: how many requests that is, and whose error comes out. What is removed: test_objects."""

import pytest

import s3dlio
from s3dlio.errors import AccessError, NotFoundError, OptionError, StorageTimeoutError, ThrottledError
from s3dlio.storage import objects, open_store
from s3dlio.storage.delete import delete_keys
from s3dlio.storage.native import store as native
from s3dlio.storage.operation_log.format import read_op_log
from s3dlio.storage.operation_log.log import op_log

from ..servers.fault_actions import close_before_answer, lose_answer, status
from ..servers.faults import FaultProxy


@pytest.fixture
def bucket(fault_proxy):
    return fault_proxy.upstream.new_container()


@pytest.fixture
def fill(fault_proxy, bucket):
    """Objects, made past the proxy."""

    def make(count):
        with fault_proxy.upstream.client() as client:
            for n in range(count):
                client.put_object(Bucket=bucket, Key=f"d/{n:05}&<é>", Body=b"1")
        fault_proxy.clear()
        return [f"s3://{bucket}/d/{n:05}&<é>" for n in range(count)]

    return make


def deletes(proxy):
    return proxy.count("POST", query="delete")


def refuse(keys, code):
    """Answer a DeleteObjects as a server does that refuses some of its keys, and removes none."""

    def act(exchange):
        body = exchange.body().decode()
        found = [key for key in keys if f"<Key>{key}</Key>" in body]
        if found:
            errors = "".join(
                f"<Error><Key>{key}</Key><Code>{code}</Code><Message>no</Message></Error>" for key in found
            )
            status(200, body=f"<?xml version='1.0'?><DeleteResult>{errors}</DeleteResult>".encode())(exchange)

    return act


def test_a_thousand_by_one_request(fault_proxy, bucket, monkeypatch, fill):
    monkeypatch.setitem(native._DELETES_AT_ONCE, "s3", 10)
    uris = fill(25)
    assert objects.delete(uris) == 25
    assert deletes(fault_proxy) == 3
    assert objects.list(f"s3://{bucket}") == []
    fill(25)
    assert objects.delete(f"s3://{bucket}/d", recursive=True) == 25
    assert deletes(fault_proxy) == 3
    assert objects.list(f"s3://{bucket}") == []
    fault_proxy.clear()
    assert objects.delete([*uris, uris[0]]) == 26, "what is not there is no error"
    assert deletes(fault_proxy) == 3


def test_the_limit_is_that_of_the_server(moto_environment):
    with open_store("s3://bucket", backend="native") as store:
        assert store.deletes_at_once == 1000
    with open_store("s3://bucket", backend="arrow") as store:
        assert store.deletes_at_once == 1
    with open_store("s3://bucket", endpoint_urls=[moto_environment.endpoint_url], backend="native") as store:
        assert store.deletes_at_once == 1000


def test_the_arrow_engine_removes_one_by_one(fault_proxy, bucket, fill):
    uris = fill(5)
    assert objects.delete(uris, storage_options={"backend": "arrow"}) == 5
    assert fault_proxy.count("DELETE") == 5
    assert objects.list(f"s3://{bucket}") == []


@pytest.mark.parametrize("fault", [status(503), status(500), close_before_answer(), lose_answer()])
def test_it_is_repeated(fault_proxy, bucket, fill, fault):
    uris = fill(5)
    fault_proxy.fail(fault, method="POST")
    assert objects.delete(uris) == 5
    assert deletes(fault_proxy) == 2
    assert objects.list(f"s3://{bucket}") == []


@pytest.mark.parametrize(("code", "kind"), [("SlowDown", ThrottledError), ("InternalError", None)])
def test_a_key_that_is_refused_for_now(fault_proxy, bucket, fill, code, kind):
    """The answer is a 200, and tells in its body that one key was not removed."""
    uris = fill(5)
    with fault_proxy.upstream.client() as client:
        client.put_object(Bucket=bucket, Key="plain", Body=b"1")
    fault_proxy.fail(refuse(["plain"], code), method="POST", times=2)
    assert objects.delete([*uris, f"s3://{bucket}/plain"]) == 6
    assert deletes(fault_proxy) == 3
    assert objects.list(f"s3://{bucket}") == []
    if kind is not None:
        fault_proxy.fail(refuse(["plain"], code), method="POST", times=None)
        with pytest.raises(kind, match=rf"^delete s3://{bucket}/d/00000.*one request for 6 objects, .* the first"):
            objects.delete([*uris, f"s3://{bucket}/plain"], storage_options={"retry_deadline_s": 0.5})


def test_the_error_is_of_the_object_that_cannot_be_removed(fault_proxy, bucket, fill):
    uris = fill(5)
    bad = f"s3://{bucket}/kept"
    fault_proxy.fail(refuse(["kept"], "AccessDenied"), method="POST", times=None)
    with pytest.raises(AccessError, match=f"^delete {bad}: access denied .*a right to delete") as caught:
        objects.delete([*uris[:2], bad, *uris[2:]])
    assert (caught.value.uri, caught.value.operation) == (bad, "delete")
    fault_proxy.clear()
    fault_proxy.fail(refuse(["kept"], "AccessDenied"), method="POST", times=None)
    with pytest.raises(AccessError, match=f"^delete {bad}: "):
        objects.delete(bad)


def test_a_server_that_cannot_do_it_for_all(fault_proxy, bucket, monkeypatch, fill):
    """Then one by one, all of them."""
    monkeypatch.setitem(native._DELETES_AT_ONCE, "s3", 10)
    uris = fill(35)

    def only_one(exchange):
        if exchange.body().count(b"<Key>") > 1:
            status(501, "NotImplemented")(exchange)

    fault_proxy.fail(only_one, method="POST", times=None)
    assert objects.delete(uris, max_in_flight=2) == 35
    assert objects.list(f"s3://{bucket}") == []


def test_a_missing_bucket(fault_proxy):
    with pytest.raises(NotFoundError, match=r"^delete s3://no-such-bucket-here/[ab]: bucket .* does not exist"):
        objects.delete(["s3://no-such-bucket-here/a", "s3://no-such-bucket-here/b"])


def test_no_server(fault_proxy, bucket, fill):
    uris = fill(3)
    fault_proxy.fail(close_before_answer(), method="POST", times=None)
    with pytest.raises(StorageTimeoutError, match=f"^delete s3://{bucket}/d/00000"):
        objects.delete(uris, storage_options={"retry_deadline_s": 0.5})
    assert len(objects.list(f"s3://{bucket}")) == 3


def test_many_over_several_containers_and_endpoints(fault_proxy, bucket, fill, tmp_path):
    uris = fill(4)
    (tmp_path / "x").write_bytes(b"1")
    objects.put_bytes("memory://deleted/1", b"1")
    mixed = [uris[0], f"{tmp_path}/x", uris[1], "memory://deleted/1", uris[2], uris[3]]
    assert objects.delete(mixed) == 6
    assert not objects.exists(f"{tmp_path}/x")
    assert not objects.exists("memory://deleted/1")
    assert objects.list(f"s3://{bucket}") == []
    uris = fill(4)
    urls = [fault_proxy.endpoint_url, fault_proxy.endpoint_url + "/"]
    fault_proxy.fail(status(503), method="POST")
    with op_log(tmp_path / "log.tsv"):
        assert objects.delete(uris, storage_options={"endpoint_urls": urls}) == 4
    assert objects.list(f"s3://{bucket}") == []
    assert deletes(fault_proxy) == 2
    log = read_op_log(tmp_path / "log.tsv")
    assert log.select(["op", "n_objects"]).to_pylist() == [{"op": "DELETE", "n_objects": 4}] * 2


@pytest.mark.servers
def test_azure(azurite_environment):
    """Blob Batch refuses keys that are not there: those go one by one, and are no error."""
    base = f"az://{azurite_environment.new_container()}"
    uris = [f"{base}/d/{n}" for n in range(20)]
    s3dlio.put_many(dict.fromkeys(uris, b"1"))
    with FaultProxy(azurite_environment) as proxy, pytest.MonkeyPatch.context() as patch:
        for name, value in proxy.environment.items():
            patch.setenv(name, value)
        assert objects.delete([*uris[:10], f"{base}/none"]) == 11
        assert proxy.count("POST", query="comp=batch") == 1 + 11, "one for all, then one each"
        proxy.clear()
        proxy.fail(status(503), method="POST")
        assert objects.delete(base, recursive=True, whole_container=True) == 10
        assert proxy.count("POST", query="comp=batch") == 2
        assert proxy.count("DELETE") == 0
        assert objects.list(base) == []


def test_a_directory_without_recursive():
    s3dlio.put_bytes("memory://test-delete/a", b"1")
    with pytest.raises(OptionError, match=r"tree/: this names a directory.* Pass recursive=True for all below\.$"):
        s3dlio.delete(["memory://test-delete/a", "memory://test-delete/tree/"])
    assert s3dlio.exists("memory://test-delete/a"), "nothing was removed by then"


def test_a_key_stands_once_in_a_request():
    """S3 takes one twice; the gateway of Ceph 16 died of it."""
    requests = []

    class Bulk:
        deletes_at_once = 1000

        def delete_many(self, keys):
            requests.append(keys)

    assert delete_keys(Bulk(), ["b", "a", "b"]) == 3
    assert requests == [["b", "a"]]
