"""``direct://`` and ``file://`` against fio: one large file, written and read in turns.

    python -m tests.benchmarks.direct --size 2GiB --rounds 5 --directory /mnt/nvme

Every contender does the same job in every round, in another order each round. Writes end with an fsync. Reads are cold:
the file's pages are dropped from the page cache before each, for all contenders. fio has the block size and the depth
of ``direct://``; its buffered job has a depth of one, because a buffered read is synchronous whatever the depth. fio's
memory is of small pages, which costs it some of the rate where the kernel offers huge ones.
Nothing is left out: the table shows the median of all rounds and every round behind it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from s3dlio.storage.direct.aligned import AlignedMemory
from s3dlio.storage.direct.lanes import LANES, PART_BYTES
from s3dlio.storage.direct.store import DirectStore
from s3dlio.storage.local import LocalStore

if TYPE_CHECKING:
    from collections.abc import Callable

    from s3dlio.storage.protocol import Store

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
PIECE_BYTES = 64 << 20
"""What get_into and a writer move at a time."""


def size_of(text: str) -> int:
    """``2GiB``, ``512M``, ``4096``."""
    found = re.fullmatch(r"(\d+)\s*([KMG]?)(?:iB|B)?", text.strip(), re.IGNORECASE)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 2GiB")
    return int(found[1]) * UNITS[found[2].upper()]


def cpu_s() -> float:
    """Processor time of this process and of those it waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def drop_from_cache(path: Path) -> None:
    """Make the next read of ``path`` a cold one."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)


def put(store: Store, key: str, data: memoryview) -> None:
    """The whole file by one call."""
    store.put(key, data)


def write(store: Store, key: str, data: memoryview) -> None:
    """The file in pieces."""
    with store.open_writer(key) as writer:
        for at in range(0, len(data), PIECE_BYTES):
            writer.write(data[at : at + PIECE_BYTES])


def get(store: Store, key: str, size: int) -> None:
    """The whole file into new memory."""
    assert store.get(key).size == size


def get_into(store: Store, key: str, size: int, memory: memoryview) -> None:
    """The file in pieces into the same memory."""
    for at in range(0, size, PIECE_BYTES):
        store.get_into(key, memory[: min(PIECE_BYTES, size - at)], at)


def fio(path: Path, size: int, job: str, *, direct: bool) -> tuple[float, float]:
    """Seconds and processor seconds of fio's own account of one job, without its start."""
    command = [
        "fio", "--name=job", f"--filename={path}", f"--rw={job}", f"--bs={PART_BYTES}", f"--size={size}",
        f"--direct={int(direct)}", "--ioengine=libaio" if direct else "--ioengine=psync",
        f"--iodepth={LANES if direct else 1}", "--end_fsync=1", "--thread", "--output-format=json",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"fio failed: {done.stderr or done.stdout}")
    found = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    seconds = found["job_runtime"] / 1000
    return seconds, seconds * (found["usr_cpu"] + found["sys_cpu"]) / 100


def timed(job: Callable[[], tuple[float, float] | None]) -> tuple[float, float]:
    """Seconds and processor seconds of ``job``, or what it says itself."""
    began, before = time.perf_counter(), cpu_s()
    return job() or (time.perf_counter() - began, cpu_s() - before)


def show(title: str, size: int, rounds: dict[str, list[tuple[float, float]]]) -> None:
    """One table: medians, the ratio to fio with direct=1, and every round."""
    rate = {name: [size / 1e9 / seconds for seconds, _ in results] for name, results in rounds.items()}
    base = statistics.median(rate["fio direct=1"])
    print(f"\n{title}\n| | GB/s | of fio direct=1 | CPU s/GB | GB/s in each round |\n|---|---|---|---|---|")
    for name, results in rounds.items():
        middle = statistics.median(rate[name])
        cpu = statistics.median(spent / (size / 1e9) for _, spent in results)
        each = " ".join(f"{value:.2f}" for value in rate[name])
        print(f"| {name} | {middle:.2f} | {middle / base:.2f} | {cpu:.3f} | {each} |")


def main() -> None:
    """Parse the arguments, take turns, print two tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", type=size_of, default=size_of("2GiB"), help="of the file (default: 2GiB)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--directory", type=Path, default=Path.cwd(), help="on the device to measure")
    arguments = parser.parse_args()
    if shutil.which("fio") is None:
        sys.exit("fio is not installed, expected it in the path. Install it: apt-get install fio")
    size = arguments.size
    block = np.random.default_rng(0).integers(0, 256, min(size, PIECE_BYTES), np.uint8)
    payload = memoryview(np.resize(block, size))
    memory = AlignedMemory().take(min(size, PIECE_BYTES))
    memory[:] = bytes(len(memory))
    print(f"{size:,} bytes, {PART_BYTES:,} a request, {LANES} in flight, {arguments.rounds} rounds")
    with (
        tempfile.TemporaryDirectory(dir=arguments.directory) as folder,
        DirectStore() as direct,
        LocalStore() as local,
    ):
        new, there = Path(folder, "new"), Path(folder, "there")
        new_key, there_key = str(new)[1:], str(there)[1:]
        local.put(there_key, payload)
        stores: dict[str, Store] = {"direct://": direct, "file://": local}
        writes: dict[str, Callable[[], tuple[float, float] | None]] = {}
        reads: dict[str, Callable[[], tuple[float, float] | None]] = {}
        for name, store in stores.items():
            writes[f"{name} put"] = lambda store=store: put(store, new_key, payload)  # type: ignore[misc]
            writes[f"{name} open_writer"] = lambda store=store: write(store, new_key, payload)  # type: ignore[misc]
            reads[f"{name} get"] = lambda store=store: get(store, there_key, size)  # type: ignore[misc]
            reads[f"{name} get_into"] = lambda store=store: get_into(store, there_key, size, memory)  # type: ignore[misc]
        for flag in (True, False):
            writes[f"fio direct={int(flag)}"] = lambda flag=flag: fio(new, size, "write", direct=flag)  # type: ignore[misc]
            reads[f"fio direct={int(flag)}"] = lambda flag=flag: fio(there, size, "read", direct=flag)  # type: ignore[misc]
        for title, jobs in (("Writing, fsync included", writes), ("Reading, cold", reads)):
            results: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
            for turn in range(arguments.rounds):
                names = [*jobs]
                for name in names[turn % len(names) :] + names[: turn % len(names)]:
                    new.unlink(missing_ok=True)
                    drop_from_cache(there)
                    results[name].append(timed(jobs[name]))
            show(title, size, results)


if __name__ == "__main__":
    main()
