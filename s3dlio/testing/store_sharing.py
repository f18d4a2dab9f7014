"""The part of the conformance suite that shares a store between threads and processes."""

from __future__ import annotations

import concurrent.futures
import pickle
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from s3dlio.errors import ExistsError, PreconditionError, StorageError

if TYPE_CHECKING:
    from s3dlio.storage import Store
    from s3dlio.testing.stores import RawObjects

__all__ = ["SharingSuite"]

FORK_SCRIPT = """
import faulthandler, os, pickle, sys, threading
store, key, before = pickle.load(sys.stdin.buffer)
going = True
started = threading.Barrier(5)
def read_on():
    store.get(key)
    started.wait()
    while going:
        store.get(key)
threads = [threading.Thread(target=read_on) for _ in range(4)] if before == "threads" else []
for thread in threads:
    thread.start()
if threads:
    started.wait()
if before == "list":
    list(store.list(key.rpartition("/")[0]))
if before == "get":
    store.get(key)
for number in range(2):
    child = os.fork()
    if child == 0:
        faulthandler.dump_traceback_later(60, exit=True)  # a hang ends with its stack, and the parent reports it
        names = [name for batch in store.list(key.rpartition("/")[0]) for name in batch.column("key").to_pylist()]
        assert key in names, names
        assert store.get(key).to_pybytes() == b"content"
        assert store.get_range(key, 1, 3).to_pybytes() == b"on"
        store.put(key + ".child", b"child")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if status:
        break
going = False
for thread in threads:
    thread.join()
assert store.get(key).to_pybytes() == b"content"
sys.exit(f"child {number}: status {status}" if status else 0)
"""
"""Forks in a process of its own: what was used before the fork decides whether the child can go on."""


class SharingSuite:
    """Tests of threads and processes; a part of ``StoreSuite``, which has the fixtures."""

    threads = 16

    replaces_atomically = True
    """Whether a reader sees the old or the new version while ``put`` overwrites. pyarrow on local files and on
    Azure writes in place; then only the end is asserted."""

    def test_threads(self, store: Store, raw: RawObjects, prefix: str) -> None:
        """Every verb from many threads at a time."""
        raw.write(f"{prefix}/shared", b"shared" * 1000)

        def work(number: int) -> None:
            for turn in range(5):
                key, content = f"{prefix}/{number}-{turn}", f"{number} {turn}".encode() * (1 + 1000 * turn)
                store.put(key, content)
                assert store.get(key).to_pybytes() == content
                assert store.get(f"{prefix}/shared").to_pybytes() == b"shared" * 1000
                assert store.get_range(f"{prefix}/shared", 6, 12).to_pybytes() == b"shared"
                if turn % 2:
                    store.delete(key)

        with concurrent.futures.ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(work, range(self.threads)))
        left = sum(batch.num_rows for batch in store.list(prefix))
        assert left == 1 + 3 * self.threads

    def test_racing_creators(self, store: Store, raw: RawObjects, key: str) -> None:
        """One of eight wins, or at least one where the server does not decide."""
        barrier = threading.Barrier(8)

        def create(number: int) -> int | None:
            barrier.wait()
            try:
                store.put(key, bytes([number]) * 1000, mode="create")
            except ExistsError:
                return None
            return number

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            winners = [number for number in pool.map(create, range(8)) if number is not None]
        assert winners
        if store.atomic_create:
            assert len(winners) == 1
        assert raw.read(key) in {bytes([number]) * 1000 for number in winners}

    def test_readers_see_one_version(self, store: Store, key: str) -> None:
        """While an object is overwritten, readers get one version or an error, never a mixture."""
        versions = [bytes([number]) * 50_000 for number in range(6)]
        store.put(key, versions[0])
        done = threading.Event()

        def read() -> set[bytes]:
            seen: set[bytes] = set()
            while not done.is_set():
                try:
                    seen.add(store.get(key).to_pybytes())
                except PreconditionError:
                    pass  # opened, and then overwritten: an error where the engine notices, never a mixture
                except StorageError as error:
                    if self.replaces_atomically and not error.retryable:
                        raise
            return seen

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            readers = [pool.submit(read) for _ in range(4)]
            try:
                for version in versions * 3:
                    store.put(key, version)
            finally:
                done.set()
        for reader in readers:
            assert reader.result() <= {*versions} or not self.replaces_atomically
        assert store.get(key).to_pybytes() == versions[-1]

    @pytest.mark.parametrize("before", ["nothing", "list", "get", "threads"])
    def test_fork(self, store: Store, raw: RawObjects, key: str, before: str) -> None:
        """A forked child lists, reads and writes, whatever its parent did before or does meanwhile."""
        raw.write(key, b"content")
        done = subprocess.run(
            [sys.executable, "-c", FORK_SCRIPT],
            input=pickle.dumps((store, key, before)),
            capture_output=True,
            timeout=150,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
