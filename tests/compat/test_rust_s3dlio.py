import asyncio
import dataclasses
import subprocess
import sys
import threading
from contextlib import aclosing

import pytest

import s3dlio
from s3dlio.compat.rust_s3dlio import AsyncLoaderOptions
from s3dlio.errors import NotFoundError, OptionError, StorageError
from s3dlio.testing.faults import FaultyStore, fail_at

from ..threads import all_ended, threads_begun

OBJECTS = [f"object {n:02}".encode() * (n + 1) for n in range(10)]


@pytest.fixture
def uri(tmp_path):
    for number, data in enumerate(OBJECTS):
        (tmp_path / f"{number:02}.bin").write_bytes(data)
    return f"file://{tmp_path}/"


def faulty(uri, opts, **faults):
    source = s3dlio.create_dataset(uri, opts)
    store = FaultyStore(source.objects.store, **faults)
    source = dataclasses.replace(source, objects=dataclasses.replace(source.objects, store=store))
    return s3dlio.create_async_loader_from_dataset(source), store


def fetching():
    return threads_begun("s3dlio-fetch")


def collect(loader):
    async def run():
        return [batch async for batch in loader]

    return asyncio.run(run())


def flat(batches):
    return [data for batch in batches for data in batch]


@pytest.mark.parametrize("read", [list, collect])
def test_batches_of_plain_bytes_in_order_the_last_one_short(uri, read):
    loader = s3dlio.create_async_loader(uri, {"batch_size": 4})
    batches = read(loader)
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert len(loader) == 3
    assert flat(batches) == OBJECTS
    assert all(type(batch) is list for batch in batches)
    assert all(type(data) is bytes for data in flat(batches))
    assert all_ended("s3dlio-fetch")


def test_a_dataset_is_as_long_as_its_objects(uri):
    assert len(s3dlio.create_dataset(uri)) == len(OBJECTS)
    with pytest.raises(NotFoundError):
        s3dlio.create_dataset(uri + "nothing/")


def test_passes_are_shuffled_anew_and_repeat_with_the_seed(uri):
    def passes(seed, read):
        loader = s3dlio.create_async_loader(uri, {"batch_size": 3, "shuffle": True, "seed": seed})
        return [flat(read(loader)) for _ in range(2)]

    first, second = passes(7, list)
    assert sorted(first) == sorted(second) == sorted(OBJECTS)
    assert first != OBJECTS
    assert first != second
    assert passes(7, collect) == [first, second]
    assert passes(8, list)[0] != first
    assert passes(None, list) == passes(0, list)


def test_leaving_for_early_ends_the_threads(uri):
    for batch in s3dlio.create_async_loader(uri, {"batch_size": 1, "prefetch": 1}):
        assert batch == OBJECTS[:1]
        break
    assert all_ended("s3dlio-fetch")


def test_leaving_async_for_early_ends_the_threads(uri):
    async def run(loader):
        async with aclosing(aiter(loader)) as batches:
            async for batch in batches:
                assert batch == OBJECTS[:1]
                assert fetching() != []
                break
        assert all_ended("s3dlio-fetch")
        async for _ in loader:  # closed by the event loop
            break

    asyncio.run(run(s3dlio.create_async_loader(uri, {"batch_size": 1, "prefetch": 1})))
    assert all_ended("s3dlio-fetch")


def test_cancelling_a_wait_is_a_timeout_and_stops_the_reading(uri):
    release = threading.Event()
    loader, store = faulty(uri, {"batch_size": 2, "prefetch": 1}, before=lambda _call: release.wait(60))

    async def run():
        batches = aiter(loader)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(batches), 0.1)
        with pytest.raises(StopAsyncIteration):
            await anext(batches)

    asyncio.run(run())  # it joins the threads of the executor: none of them waits any more
    assert not release.is_set()
    left, begun = fetching(), len(store.calls)
    release.set()
    for thread in left:
        thread.join(10)
    assert all_ended("s3dlio-fetch")
    assert len(store.calls) == begun, "nothing was asked for after the cancellation"


def test_a_program_ends_after_a_cancellation_though_a_request_hangs(uri):
    program = f"""
import asyncio, dataclasses, threading, time
import s3dlio
from s3dlio.testing.faults import FaultyStore

async def run():
    source = s3dlio.create_dataset({uri!r})
    store = FaultyStore(source.objects.store, before=lambda _call: threading.Event().wait())
    objects = dataclasses.replace(source.objects, store=store)
    loader = s3dlio.create_async_loader_from_dataset(dataclasses.replace(source, objects=objects))
    try:
        await asyncio.wait_for(anext(aiter(loader)), .5)
    except TimeoutError:
        print("timeout")

asyncio.run(run())
"""
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "timeout\n", "")


@pytest.mark.parametrize("asynchronous", [False, True])
def test_an_error_ends_the_pass_where_it_happened(uri, asynchronous):
    injected = StorageError("injected", uri=uri, operation="get")
    loader, _ = faulty(uri, {"batch_size": 2, "max_concurrency": 1}, before=fail_at(5, injected))
    seen = []

    async def run():
        async for batch in loader:
            seen.extend(batch)

    def loop():
        for batch in loader:
            seen.extend(batch)

    with pytest.raises(StorageError) as caught:
        asyncio.run(run()) if asynchronous else loop()
    assert caught.value is injected
    assert seen == OBJECTS[:4]
    assert all_ended("s3dlio-fetch")


def test_prefetch_bounds_the_objects_read_ahead(uri):
    changed, begun = threading.Condition(), []

    def count(call):
        with changed:
            begun.append(call)
            changed.notify_all()

    loader, _ = faulty(uri, {"batch_size": 2, "prefetch": 2, "max_concurrency": 8}, before=count)
    batches = iter(loader)
    for handed_over in (2, 4, 6):
        next(batches)
        with changed:
            assert changed.wait_for(lambda bound=handed_over + 4: len(begun) >= bound, 10)
            assert len(begun) == handed_over + 4


def test_a_large_prefetch_has_a_budget_of_bytes():
    options = AsyncLoaderOptions(batch_size=100, prefetch=1000, part_size=5)
    fetch = options.fetch_options([1 << 30] * 3)
    assert (fetch.max_ahead, fetch.budget_bytes, fetch.part_bytes) == (100_000, 1 << 30, 5)


@pytest.mark.parametrize(
    ("sizes", "given", "expected"),
    [
        ([1 << 30], {}, 16),
        ([100], {"adaptive": {"mode": "enabled"}}, 64),
        ([2 << 20], {"adaptive": {"mode": "enabled"}}, 16),
        ([65 << 20], {"adaptive": {"mode": "enabled"}}, 8),
        ([], {"adaptive": {"workload_type": "large"}}, 8),
        ([100], {"adaptive": {"mode": "disabled"}}, 16),
        ([100], {"adaptive": {"mode": "enabled"}, "max_concurrency": 3}, 3),
    ],
)
def test_concurrency(sizes, given, expected):
    assert AsyncLoaderOptions.from_dict(given).fetch_options(sizes).max_in_flight == expected


@pytest.mark.parametrize(
    ("opts", "field", "match"),
    [
        ({"batchsize": 3}, "batchsize", "expected one of batch_size"),
        ({"batch_size": 0}, "batch_size", "whole number"),
        ({"prefetch": True}, "prefetch", "whole number"),
        ({"max_concurrency": 1.5}, "max_concurrency", "whole number"),
        ({"shuffle": 1}, "shuffle", "True or False"),
        ({"adaptive": {"mode": "on"}}, "adaptive", "enabled, disabled"),
        ({"adaptive": {"workload": "small"}}, "adaptive", "mode, workload_type"),
    ],
)
def test_options_are_checked(uri, opts, field, match):
    with pytest.raises(OptionError, match=match) as caught:
        s3dlio.create_async_loader(uri, opts)
    assert caught.value.field == field
