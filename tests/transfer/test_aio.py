import asyncio
import functools
import subprocess
import sys
import threading

import numpy as np
import pytest

from s3dlio.errors import ExistsError, NotFoundError, OptionError, StorageError
from s3dlio.storage import objects
from s3dlio.storage.object_read import PART_BYTES
from s3dlio.testing.faults import fail_at
from s3dlio.transfer.aio import (
    exists_async,
    get_async,
    get_many_async,
    put_bytes_async,
    put_many_async,
    stat_async,
)
from s3dlio.transfer.many import put_many

from ..threads import all_ended, threads_begun

URIS = [f"memory://many/{n}" for n in range(500)]


THREADS = "s3dlio-async", "s3dlio-get", "s3dlio-put"


@pytest.fixture
def five_hundred(memory):
    put_many((uri, uri.encode()) for uri in URIS)
    return memory


@pytest.fixture(params=["memory", "file", "s3"])
def base(request, tmp_path, memory):
    if request.param == "memory":
        return "memory://many/base"
    if request.param == "file":
        return tmp_path.as_uri()
    return f"s3://{request.getfixturevalue('moto_environment').new_container()}/base"


def test_as_the_functions(base):
    async def run():
        uri = f"{base}/x"
        assert not await exists_async(uri)
        assert (await put_bytes_async(uri, b"content")).size == 7
        assert await get_async(uri) == b"content"
        assert await exists_async(uri)
        assert await stat_async(uri) == objects.stat(uri)
        with pytest.raises(ExistsError):
            await put_bytes_async(uri, b"other", mode="create")
        with pytest.raises(NotFoundError, match=f"^get {base}/none"):
            await get_async(f"{base}/none")
        with pytest.raises(NotFoundError, match=f"^stat {base}/none"):
            await stat_async(f"{base}/none")
        uris = [f"{base}/many/{n}" for n in range(20)]
        metas = await put_many_async({uri: b"1" * n for n, uri in enumerate(uris)}, max_in_flight=3)
        assert [meta.size for meta in metas] == [*range(20)]
        assert await get_many_async(uris[::-1], 3) == [(uri, b"1" * n) for n, uri in enumerate(uris)][::-1]
        with pytest.raises(NotFoundError, match="/many/none"):
            await get_many_async([*uris, f"{base}/many/none"])
        assert await get_many_async([]) == await put_many_async([]) == []

    asyncio.run(run())


def test_a_large_object_comes_as_parts(memory, misbehave):
    content = np.random.default_rng(0).integers(0, 256, 2 * PART_BYTES + 5, np.uint8).tobytes()
    memory.put("large", content)
    faulty = misbehave()
    assert asyncio.run(get_async("memory://many/large")) == content
    assert sorted(call.start for call in faulty.calls if call.verb == "get_into") == [PART_BYTES, 2 * PART_BYTES]


def test_five_hundred_at_once_on_a_bounded_number_of_threads(five_hundred, misbehave):
    changed, leave, most = threading.Condition(), threading.Event(), []

    def before(_call):
        with changed:
            most.append(len(threads_begun(*THREADS)))
            changed.notify_all()
        assert leave.wait(30)

    def all_are_inside():
        with changed:
            return changed.wait_for(lambda: len(most) == 64, 30)

    misbehave(before=before)

    async def run():
        everything = asyncio.gather(*(get_async(uri) for uri in URIS))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(all_are_inside), "the loop goes on meanwhile"
        leave.set()
        return await everything

    assert asyncio.run(run()) == [uri.encode() for uri in URIS]
    assert max(most) <= 64
    assert all_ended(*THREADS)


def test_cancelling_takes_effect_at_once_and_begins_nothing_more(five_hundred, misbehave):
    begun, leave = threading.Event(), threading.Event()

    def before(_call):
        begun.set()
        assert leave.wait(30)

    faulty = misbehave(before=before)

    async def run(start):
        task = asyncio.ensure_future(start())
        await asyncio.to_thread(begun.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def gathered():
        return await asyncio.gather(*(get_async(uri) for uri in URIS))

    for start in (gathered, functools.partial(get_many_async, URIS), functools.partial(get_async, URIS[0])):
        begun.clear()
        leave.clear()
        faulty.calls.clear()
        asyncio.run(run(start))
        leave.set()
        assert all_ended(*THREADS)
        assert len(faulty.calls) <= 2 * 64, "those under way ended (a head and a range each), no other began"


def test_a_timeout_leaves_the_loop_usable(five_hundred, misbehave):
    leave = threading.Event()
    misbehave(before=lambda call: call.key != "0" or leave.wait(30))

    async def run():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(get_async(URIS[0]), 0.05)
        return await get_async(URIS[1])

    assert asyncio.run(run()) == URIS[1].encode()
    leave.set()
    assert all_ended(*THREADS)


def test_the_first_error_ends_the_call(five_hundred, misbehave):
    injected = StorageError("injected")
    faulty = misbehave(before=fail_at(5, injected))
    with pytest.raises(StorageError) as caught:
        asyncio.run(get_many_async(URIS, max_in_flight=2))
    assert caught.value is injected
    assert len(faulty.calls) < 50


def test_the_process_ends_although_a_request_is_stuck():
    program = """
import asyncio, threading
from s3dlio.storage import MemoryStore
from s3dlio.transfer.aio import get_async
MemoryStore.head = MemoryStore.get = MemoryStore.get_clipped = lambda *_: threading.Event().wait()
async def run():
    try:
        await asyncio.wait_for(get_async("memory://many/x"), .2)
    except TimeoutError:
        print("timeout")
asyncio.run(run())
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "timeout\n", "")


def test_two_event_loops_in_two_threads(five_hundred):
    results = []

    def run():
        async def all_of_them():
            return await asyncio.gather(*(get_async(uri) for uri in URIS))

        results.append(asyncio.run(all_of_them()))

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[uri.encode() for uri in URIS]] * 2


def test_an_illegal_bound():
    for call in (get_many_async, put_many_async):
        with pytest.raises(OptionError, match="max_in_flight"):
            asyncio.run(call([], 0))


def test_one_uri_is_no_list_of_them():
    for call in (get_many_async, put_many_async):
        with pytest.raises(OptionError, match=f"^{call.__name__.removesuffix('_async')}: got one str"):
            asyncio.run(call("memory://many/x"))
