"""How many requests the server sees: each costs latency and money, and a silent HEAD per object doubles both."""

import collections

import pytest

import s3dlio
from s3dlio.storage import open_store

COUNT = 60
BODY = b"x" * 1000


@pytest.fixture
def full(faulty):
    """``COUNT`` objects below "data", and nothing counted yet."""
    for number in range(COUNT):
        faulty.raw.write(f"data/{number:04d}.bin", BODY)
    faulty.proxy.clear()
    return faulty


def seen(bucket):
    """Requests by method; listings as LIST."""
    return collections.Counter(
        "LIST" if "list-type" in request.query else request.method for request in bucket.proxy.requests
    )


READING = {"native": {"LIST": 1, "GET": COUNT}, "arrow": {"LIST": 1, "HEAD": COUNT, "GET": COUNT}}
"""arrow looks at each object before it reads it: pyarrow has no other way. A directory is listed once on both."""


def test_an_epoch_of_a_loader(full):
    dataset = s3dlio.dataset(full.uri("data"), format="raw", storage_options={"backend": full.backend})
    assert seen(full) == {"LIST": 1}, "one listing when the dataset is made"
    with s3dlio.DataLoader(dataset, batch_size=7, shuffle=True) as loader:
        assert sum(len(batch["data"]) for batch in loader) == COUNT
        assert seen(full) == READING[full.backend]
        full.proxy.clear()
        assert sum(len(batch["data"]) for batch in loader) == COUNT
        assert seen(full) == {name: n for name, n in READING[full.backend].items() if name != "LIST"}, "none later"


def test_listing_and_reading(full):
    with full.open_patiently() as store:
        keys = [key for page in store.list("data") for key in page.column("key").to_pylist()]
        assert all(store.get(key).to_pybytes() == BODY for key in keys)
    assert seen(full) == READING[full.backend]


def test_functions(full):
    options = {"backend": full.backend}
    entries = s3dlio.list(full.uri("data"), storage_options=options)
    assert len(entries) == COUNT
    assert seen(full) == {"LIST": 1}
    assert all(s3dlio.get(entry, storage_options=options) == BODY for entry in entries)
    assert seen(full) == READING[full.backend]


ONE_VERB = {
    "head": (lambda store: store.head("k"), {"HEAD": 1}, {"HEAD": 1}),
    "get": (lambda store: store.get("k"), {"GET": 1}, {"HEAD": 1, "GET": 1}),
    "get_range": (lambda store: store.get_range("k", 1, 5), {"GET": 1}, {"HEAD": 1, "GET": 1}),
    "get_into": (lambda store: store.get_into("k", bytearray(5), 2), {"GET": 1}, {"HEAD": 1, "GET": 1}),
    "put": (lambda store: store.put("new", BODY), {"PUT": 1}, {"PUT": 1}),
    "create": (lambda store: store.put("new", BODY, mode="create"), {"PUT": 1}, {"HEAD": 1, "LIST": 1, "PUT": 1}),
    "delete": (lambda store: store.delete("k"), {"POST": 1}, {"HEAD": 1, "DELETE": 1}),
    "copy": (lambda store: store.copy("k", "new"), {"PUT": 1}, {"PUT": 1}),
    "list nothing": (lambda store: [*store.list("none")], {"LIST": 1}, {"LIST": 1, "HEAD": 1}),
}
"""Each verb once on a bucket of one object: the requests on native, and on arrow."""


@pytest.mark.parametrize("verb", [*ONE_VERB])
def test_requests_of_one_verb(faulty, verb):
    faulty.raw.write("k", BODY)
    call, native, arrow = ONE_VERB[verb]
    with open_store(faulty.uri(), backend=faulty.backend) as store:
        assert seen(faulty) == {}, "opening makes none"
        call(store)
        assert seen(faulty) == (native if faulty.backend == "native" else arrow)


def test_a_small_object_by_a_writer(faulty):
    with faulty.open_patiently() as store, store.open_writer("new") as writer:
        writer.write(BODY)
        writer.write(BODY)
    assert seen(faulty) == {"PUT": 1}


def test_a_large_object_by_a_writer(faulty):
    """Of two parts: begun, sent, ended; at most one request more, to look at the result."""
    if faulty.backend == "arrow":
        return  # one stream of pyarrow, whose parts are its own
    with faulty.open_patiently() as store, store.open_writer("new") as writer:
        for _ in range(20):
            writer.write(bytes(1 << 20))
    counted = seen(faulty)
    assert counted["PUT"] == 2
    assert counted["POST"] == 2
    assert counted.total() <= 5
