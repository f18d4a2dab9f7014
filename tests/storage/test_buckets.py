"""Buckets made, listed and removed, on every provider."""

import contextlib
import os
import subprocess
import sys
import traceback
import warnings

import pytest

from s3dlio.errors import (
    AccessError,
    ExistsError,
    NotFoundError,
    OptionError,
    StorageError,
    StorageTimeoutError,
    ThrottledError,
)
from s3dlio.storage.buckets import create_bucket, delete_bucket, list_buckets, mkdir
from s3dlio.storage.objects import delete, get, put_bytes

from ..servers.fault_actions import close_before_answer, lose_answer, run_before, status


@pytest.fixture(
    params=[
        "moto_environment",
        "google_environment",
        pytest.param("radosgw_environment", marks=pytest.mark.servers),
        pytest.param("azurite_environment", marks=pytest.mark.servers),
    ]
)
def provider(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def uri(provider):
    return f"{provider.scheme}://made-by-{provider.scheme}-test"


def test_life_of_a_bucket(provider, uri):
    create_bucket(uri)
    put_bytes(f"{uri}/a/b", b"1")
    assert get(f"{uri}/a/b") == b"1"
    with pytest.raises(ExistsError, match="it exists, expected a free name"):
        create_bucket(uri)
    create_bucket(uri, exist_ok=True)
    assert get(f"{uri}/a/b") == b"1"
    with pytest.raises(StorageError, match="found objects in it"):
        delete_bucket(uri)
    assert get(f"{uri}/a/b") == b"1"
    delete(f"{uri}/a/b")
    if provider.scheme != "gs":
        assert {uri.partition("://")[2], provider.container} <= set(list_buckets(f"{provider.scheme}://"))
    delete_bucket(uri)
    with pytest.raises(NotFoundError, match="does not exist"):
        delete_bucket(uri)
    with pytest.raises(NotFoundError, match="does not exist"):
        mkdir(f"{uri}/prefix/")


def test_mkdir_of_a_bucket_makes_it_and_of_a_prefix_nothing(provider, uri):
    mkdir(uri)
    mkdir(uri)
    mkdir(f"{uri}/prefix/")
    delete_bucket(uri)


def test_an_object_written_at_the_last_moment_is_not_lost(fault_proxy):
    """The server decides that a bucket is empty; a listing of ours would be too old."""
    bucket = fault_proxy.upstream.new_container()

    def write():
        put_bytes(f"s3://{bucket}/precious", b"1", storage_options={"endpoint_url": fault_proxy.upstream.endpoint_url})

    fault_proxy.fail(run_before(write), method="DELETE", path=f"^/{bucket}/?$")
    with pytest.raises(StorageError, match=r"found objects in it.*whole_container=True"):
        delete_bucket(f"s3://{bucket}")
    assert get(f"s3://{bucket}/precious") == b"1"
    delete(f"s3://{bucket}/precious")
    seen = len(fault_proxy.requests)
    delete_bucket(f"s3://{bucket}")
    assert [request.method for request in fault_proxy.requests[seen:]] == ["DELETE"]


def test_a_bucket_with_directory_markers_alone_goes_with_them(fault_proxy):
    bucket = fault_proxy.upstream.new_container()
    with fault_proxy.upstream.client() as client:
        client.put_object(Bucket=bucket, Key="marker/", Body=b"")
    delete_bucket(f"s3://{bucket}")
    with pytest.raises(NotFoundError, match="does not exist"):
        delete_bucket(f"s3://{bucket}")


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        (status(403, "AccessDenied"), AccessError, "access denied"),
        (status(503, "SlowDown"), ThrottledError, "fewer requests"),
        (status(500, "InternalError"), StorageError, "in trouble"),
        (close_before_answer(), StorageTimeoutError, "the connection broke"),
    ],
)
def test_a_bucket_that_the_server_does_not_remove(fault_proxy, answer, error, said):
    bucket = fault_proxy.upstream.new_container()
    rule = fault_proxy.fail(answer, method="DELETE", path=f"^/{bucket}/?$", times=None)
    with pytest.raises(error, match=f"delete bucket s3://{bucket}/: .*{said}") as caught:
        delete_bucket(f"s3://{bucket}", storage_options={"max_attempts": 2})
    assert caught.value.attempts == (1 if error is AccessError else 2)
    assert "X-Amz" not in "".join(traceback.format_exception(caught.value))
    rule.release()


@pytest.mark.parametrize(
    "answer", [status(503, "SlowDown"), status(500, "InternalError"), close_before_answer(), lose_answer()]
)
def test_a_bucket_is_removed_at_the_second_attempt(fault_proxy, answer):
    """Also where the first has removed it, and its answer is lost."""
    bucket = fault_proxy.upstream.new_container()
    fault_proxy.fail(answer, method="DELETE", path=f"^/{bucket}/?$")
    delete_bucket(f"s3://{bucket}")
    with pytest.raises(NotFoundError, match="does not exist"):
        delete_bucket(f"s3://{bucket}")


def test_the_arrow_engine_alone_removes_a_bucket(moto_environment):
    """Who wants no native engine has not used it then, for the children that he forks."""
    script = """
from s3dlio.storage.buckets import create_bucket, delete_bucket
from s3dlio.storage.requests.inheritance import _first_user
create_bucket("s3://made-by-arrow-test")
delete_bucket("s3://made-by-arrow-test", storage_options={"backend": "arrow"})
print("native" in _first_user)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_bucket_removed_by_a_forked_child(fault_proxy):
    """Which must not use what its parent has of the native engine."""
    bucket = fault_proxy.upstream.new_container()
    put_bytes(f"s3://{bucket}/k", b"1")
    delete(f"s3://{bucket}/k")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        code = 1
        with contextlib.suppress(BaseException):
            warnings.simplefilter("ignore")
            delete_bucket(f"s3://{bucket}")
            code = 0
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    with pytest.raises(NotFoundError, match="does not exist"):
        delete_bucket(f"s3://{bucket}")


def test_mkdir_of_a_path(tmp_path):
    mkdir(tmp_path / "a" / "b")
    mkdir(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ExistsError):
        mkdir(tmp_path / "file")
    mkdir("memory://buckets-test/a")


@pytest.mark.parametrize("call", [create_bucket, delete_bucket])
@pytest.mark.parametrize("uri", ["s3://bucket/key", "/tmp/x", "memory://name"])
def test_not_a_bucket(call, uri):
    with pytest.raises(OptionError, match="expected the URI of a bucket"):
        call(uri)


@pytest.mark.parametrize("uri", ["gs://", "file:///", "", "x"])
def test_no_listing(uri):
    with pytest.raises(OptionError, match="no listing of buckets"):
        list_buckets(uri)


def test_no_server(nobody_listens):
    options = {"endpoint_url": nobody_listens, "max_attempts": 1, "access_key_id": "a", "secret_access_key": "b"}
    with pytest.raises(StorageError, match="create bucket s3://refused"):
        create_bucket("s3://refused", storage_options=options)


@pytest.fixture
def nobody_listens():
    """A port that nobody listens on."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"


def test_several_endpoints_with_the_same_buckets(moto_environment):
    url = moto_environment.endpoint_url
    options = {"endpoint_urls": (url, url.replace("127.0.0.1", "localhost"))}
    create_bucket("s3://made-by-endpoints-test", storage_options=options)
    assert "made-by-endpoints-test" in list_buckets(storage_options=options)
    delete_bucket("s3://made-by-endpoints-test", storage_options=options)
