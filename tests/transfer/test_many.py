import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from s3dlio.errors import ExistsError, NotFoundError, OptionError, StorageError
from s3dlio.storage import ObjectMeta, objects
from s3dlio.storage.object_read import PART_BYTES
from s3dlio.storage.objects import ObjectBytes
from s3dlio.testing.faults import fail_at
from s3dlio.transfer.many import get_many, put_many, stat_many
from s3dlio.uri import Uri

from ..threads import all_ended

THREADS = "s3dlio-get", "s3dlio-put", "s3dlio-stat"


def test_over_containers_and_schemes_in_the_order_asked_for(memory, tmp_path, moto_environment):
    bucket = moto_environment.new_container()
    uris = [
        base.format(n)
        for n in range(10)
        for base in ("memory://many/{}", f"s3://{bucket}/d/{{}}", tmp_path.as_uri() + "/{}", f"{tmp_path}/x/{{}}")
    ]
    data = {uri: uri.encode() * n for n, uri in enumerate(uris)}
    metas = put_many(data)
    assert [meta.size for meta in metas] == [len(piece) for piece in data.values()]
    assert all(isinstance(meta, ObjectMeta) for meta in metas)
    asked = [*uris, *uris[::-1], uris[3]]
    found = get_many(asked, max_in_flight=7)
    assert found == [(uri, data[uri]) for uri in asked]
    assert all(type(content) is ObjectBytes for _, content in found)
    stats = stat_many(iter(asked))
    assert [info["size"] for info in stats] == [len(data[uri]) for uri in asked]
    assert [info["etag"] for info in stats] == [objects.stat(uri)["etag"] for uri in asked]
    assert all_ended(*THREADS)


def test_large_objects_are_not_in_memory_twice(tmp_path):
    for n in range(10):
        (tmp_path / str(n)).write_bytes(bytes(20 << 20))
    script = """if True:
        import sys
        from pathlib import Path
        import s3dlio

        def peak():
            status = Path("/proc/self/status").read_text()
            return int(status.partition("VmHWM:")[2].split()[0]) // 1024

        s3dlio.get_many(s3dlio.list(sys.argv[1])[:0])  # imports what it needs
        before = peak()
        found = s3dlio.get_many(s3dlio.list(sys.argv[1]), max_in_flight=4)
        assert sum(len(data) for _, data in found) == 200 << 20
        print(peak() - before)
    """
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, capture_output=True, text=True)
    assert int(done.stdout) < 320, "200 MiB, and twice of it if the pool kept what it had"


def test_nothing_asked_for():
    assert get_many([]) == put_many([]) == put_many({}) == stat_many([]) == []


def test_large_objects_come_as_parts(memory, misbehave):
    content = np.random.default_rng(0).integers(0, 256, 3 * PART_BYTES + 5, np.uint8).tobytes()
    memory.put("large", content)
    memory.put("small", b"1")
    faulty = misbehave()
    found = get_many(["memory://many/large", "memory://many/small", "memory://many/large"])
    assert [data for _, data in found] == [content, b"1", content]
    parts = [call for call in faulty.calls if call.verb == "get_into"]
    assert sorted(call.start for call in parts) == sorted([PART_BYTES, 2 * PART_BYTES, 3 * PART_BYTES] * 2)
    assert {call.etag for call in parts} == {memory.head("large").etag}


def test_no_more_requests_at_a_time_than_allowed(memory, misbehave):
    changed, inside, most, leave = threading.Condition(), set(), [], threading.Event()

    def before(call):
        with changed:
            inside.add(call.number)
            most.append(len(inside))
            changed.notify_all()
        assert leave.wait(30)
        with changed:
            inside.discard(call.number)

    uris = [f"memory://many/{n}" for n in range(40)]
    put_many((uri, b"1") for uri in uris)
    misbehave(before=before)

    def release():
        with changed:
            changed.wait_for(lambda: len(inside) == 3, 30)
        leave.set()

    thread = threading.Thread(target=release)
    thread.start()
    assert len(get_many(uris, max_in_flight=3)) == 40
    thread.join()
    assert max(most) == 3


def test_the_first_failure_names_its_object_and_ends_the_call(memory, misbehave):
    uris = [f"memory://many/{n}" for n in range(1000)]
    put_many((uri, b"1") for uri in uris)
    late = threading.Event()
    injected = StorageError("read memory://many/5: injected", uri="memory://many/5", operation="get")

    def before(call):
        if call.key == "0":
            assert late.wait(30)  # the failure does not wait for a slower one
        if call.key == "5":
            raise injected

    faulty = misbehave(before=before)
    with pytest.raises(StorageError) as caught:
        get_many(uris, max_in_flight=4)
    assert caught.value is injected
    late.set()
    assert all_ended(*THREADS)
    assert len(faulty.calls) < 100

    with pytest.raises(NotFoundError, match="memory://many/none"):
        get_many([*uris[:3], "memory://many/none"])
    misbehave(before=fail_at(2, injected))
    with pytest.raises(StorageError, match="injected"):
        stat_many(uris)


def test_a_put_that_fails_ends_the_call(memory):
    put_many([("memory://many/taken", b"old")])
    taken = []

    def items():
        for n in range(1000):
            taken.append(n)
            yield ("memory://many/taken" if n == 3 else f"memory://many/{n}"), b"new"

    with pytest.raises(ExistsError, match="memory://many/taken"):
        put_many(items(), max_in_flight=2, mode="create")
    assert objects.get("memory://many/taken") == b"old"
    assert len(taken) < 20
    assert objects.get("memory://many/0") == b"new", "what was stored before stays"


def test_items_are_taken_in_the_callers_thread(memory):
    threads = set()

    def items():
        for n in range(20):
            threads.add(threading.get_ident())
            yield f"memory://many/{n}", np.full(3, n, np.uint8)

    put_many(items())
    assert threads == {threading.get_ident()}
    assert objects.get("memory://many/7") == b"\7\7\7"


def test_any_buffer_can_be_put(memory):
    array = np.arange(6, dtype="<u2").reshape(2, 3)
    put_many({"memory://many/a": array, "memory://many/b": pa.py_buffer(b"x"), "memory://many/c": bytearray(b"y")})
    assert objects.get("memory://many/a") == array.tobytes()
    assert objects.get("memory://many/b") + objects.get("memory://many/c") == b"xy"
    with pytest.raises(OptionError, match="memory://many/d"):
        put_many([("memory://many/d", 5)])


@pytest.mark.parametrize("count", [0, -1, 1.5, True, None])
def test_an_illegal_bound(count):
    for call in (get_many, put_many, stat_many, lambda uris, n: objects.delete(uris, max_in_flight=n)):
        with pytest.raises(OptionError, match="max_in_flight") as caught:
            call([], count)
        assert caught.value.field == "max_in_flight"


@pytest.mark.parametrize("one", ["memory://many/x", b"memory://many/x", Path("/x"), Uri.parse("memory://many/x"), None])
def test_one_uri_is_no_list_of_them(memory, one):
    """A string would be taken letter by letter."""
    for call in (get_many, stat_many, put_many):
        with pytest.raises(OptionError, match=f"^{call.__name__}: got .* Pass a list of ") as caught:
            call(one)
        assert caught.value.field == ("items" if call is put_many else "uris")


@pytest.mark.parametrize("item", ["https://h/x?sig=word", ("https://h/x?sig=word",), "ab", 5])
def test_an_item_that_is_no_pair(memory, item):
    with pytest.raises(OptionError, match=r"^put_many: got the item 1, a .* expected a pair") as caught:
        put_many([("memory://many/1", b"1"), item])
    assert "word" not in str(caught.value)


def test_errors_name_the_operation(memory, tmp_path, moto_environment):
    """And not the verb of the store that does it."""
    for base in ("memory://many", tmp_path.as_uri(), f"s3://{moto_environment.new_container()}"):
        for call, name in ((get_many, "get"), (stat_many, "stat")):
            with pytest.raises(NotFoundError, match=f"^{name} {base}/none: ") as caught:
                call([f"{base}/none"])
            assert caught.value.operation == name


def test_a_container_is_no_object(memory):
    memory.put("x", b"1")
    for call in (get_many, stat_many, lambda uris: put_many((uri, b"1") for uri in uris)):
        with pytest.raises(OptionError, match="names a container"):
            call(["memory://many/x", "memory://many/"])
