"""The Google emulator by Google's own client, which shares nothing with it or with the library."""

import io

import pytest
from google.api_core import exceptions


@pytest.fixture
def bucket(google_server):
    client = google_server.client()
    bucket = client.bucket(google_server.new_container())
    yield bucket
    client.close()


def test_objects(bucket):
    blob = bucket.blob("a/x y%+é.bin")
    blob.upload_from_string(b"0123456789")
    assert blob.download_as_bytes(start=3, end=5) == b"345"
    assert blob.download_as_bytes() == b"0123456789"
    assert [found.name for found in bucket.list_blobs(prefix="a/")] == ["a/x y%+é.bin"]
    bucket.copy_blob(blob, bucket, "copy")
    blob.delete()
    assert [found.name for found in bucket.list_blobs()] == ["copy"]
    with pytest.raises(exceptions.NotFound):
        blob.download_as_bytes()


def test_preconditions(bucket):
    blob = bucket.blob("key")
    blob.upload_from_string(b"1", if_generation_match=0)
    with pytest.raises(exceptions.PreconditionFailed):
        blob.upload_from_string(b"2", if_generation_match=0)
    assert blob.download_as_bytes() == b"1"
    blob.upload_from_string(b"2", if_generation_match=blob.generation)
    assert blob.download_as_bytes() == b"2"


def test_resumable_upload_in_chunks(bucket):
    data = bytes(range(256)) * 4096
    blob = bucket.blob("large", chunk_size=1 << 18)
    blob.upload_from_file(io.BytesIO(data))
    assert blob.download_as_bytes() == data  # whose checksum the client compares


def test_pages_and_prefixes(bucket):
    keys = [f"d{n // 5}/{n:02d}" for n in range(25)] + ["top"]
    for key in keys:
        bucket.blob(key).upload_from_string(b"")
    assert [found.name for found in bucket.list_blobs(page_size=4)] == keys
    listing = bucket.list_blobs(delimiter="/", page_size=2)
    assert [found.name for found in listing] == ["top"]
    assert listing.prefixes == {f"d{n}/" for n in range(5)}


def test_buckets(google_server, bucket):
    with pytest.raises(exceptions.Conflict):
        google_server.make_container(bucket.name)
    bucket.blob("key").upload_from_string(b"")
    with pytest.raises(exceptions.Conflict):
        bucket.delete()
    bucket.blob("key").delete()
    bucket.delete()
    with pytest.raises(exceptions.NotFound):
        list(bucket.list_blobs())
