"""One large object written in pieces and read back as parts: GB/s and memory, both engines.

    python -m tests.benchmarks.round_trip [--gib 6] [--engines native,arrow] [--server radosgw|moto]

With S3DLIO_TEST_S3_ENDPOINT and its two keys set, the server is that one. Every step is a process of its own:
``write`` makes pieces of 4 MiB and hands them to ``open_writer``, ``fetch`` reads the parts in order through
``reading.fetch``, ``download`` writes them into a file. Each compares the CRC-32C. Memory is the process's peak:
``RSS`` with mapped files, of which the arrow engine has one when it sends what it had put aside (the system may drop
those pages at any time), ``anon`` without. The table is Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from tests.servers.external import ExternalServer
from tests.servers.moto import MotoServer
from tests.servers.radosgw import RadosGateway

if TYPE_CHECKING:
    from tests.servers.server import Server

_STEP = """
import json, os, sys, threading, time
import google_crc32c
import numpy as np
from s3dlio.reading import FetchOptions, Request, fetch
from s3dlio.storage import open_store
from s3dlio.storage.writing import open_writer
from s3dlio.transfer.download import download

step, engine, uri, size, folder = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5]
options = {"backend": engine, "read_timeout_s": 300.0, "retry_deadline_s": 1200.0}
PIECE = 4 << 20


def status(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name + ":"))


anon, ended = [0], threading.Event()


def watch():
    while not ended.wait(0.02):
        anon[0] = max(anon[0], status("RssAnon"))


watcher = threading.Thread(target=watch)
watcher.start()
before = status("VmRSS")
began, cpu = time.perf_counter(), time.process_time()
if step == "write":
    piece = np.random.default_rng(1).integers(0, 256, PIECE, np.uint8)
    with open_writer(uri, size_hint=size, storage_options=options) as writer:
        for number, start in enumerate(range(0, size, PIECE)):
            piece[:8].view(np.int64)[0] = number  # no two alike: a part in the wrong place changes the checksum
            writer.write(piece[: min(PIECE, size - start)])
    result = writer.close()
    said = {"checksum": result.checksum, "parts": result.parts, "size": result.size}
elif step == "fetch":
    value = 0
    with open_store(uri, storage_options=options) as store:
        key = uri.split("/", 3)[3]
        meta = store.head(key)
        parts = [
            Request(key=key, start=start, end=min(start + 2 * PIECE, meta.size), etag=meta.etag)
            for start in range(0, meta.size, 2 * PIECE)
        ]
        with fetch(store, parts, FetchOptions(max_in_flight=16, budget_bytes=128 << 20)) as fetched:
            for _, buffer in fetched:
                value = google_crc32c.extend(value, buffer)
    said = {"checksum": f"crc32c:{value:08x}", "parts": len(parts), "size": meta.size}
else:
    download(uri, folder + "/", storage_options=options)
    seconds = time.perf_counter() - began
    name = os.path.join(folder, os.listdir(folder)[0])
    value = 0
    with open(name, "rb") as file:
        while data := file.read(PIECE):
            value = google_crc32c.extend(value, data)
    said = {"checksum": f"crc32c:{value:08x}", "parts": 0, "size": os.path.getsize(name)}
said.setdefault("seconds", seconds if step == "download" else time.perf_counter() - began)
said.update(cpu_s=time.process_time() - cpu, before=before, peak=status("VmHWM"), anon=anon[0])
ended.set()
watcher.join()
print(json.dumps(said))
"""


def _server(name: str) -> Server:
    external = ExternalServer.from_environment(os.environ)
    if external is not None:
        return external
    return {"radosgw": RadosGateway, "moto": MotoServer}[name]()


def _run(step: str, engine: str, uri: str, size: int, server: Server) -> dict[str, float]:
    environment = {**os.environ, **server.environment, "AWS_EC2_METADATA_DISABLED": "true"}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", _STEP, step, engine, uri, str(size), folder],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        sys.exit(f"{step} on {engine} failed:\n{done.stderr[-4000:]}")
    said: dict[str, float] = json.loads(done.stdout)
    return said


def main() -> None:
    parser = argparse.ArgumentParser(description="One large object, written and read back: GB/s and memory.")
    parser.add_argument("--gib", type=float, default=6.0, help="size of the object (default: 6)")
    parser.add_argument("--engines", default="native,arrow")
    parser.add_argument("--server", choices=["radosgw", "moto"], default="radosgw")
    parser.add_argument("--limit-mib", type=int, default=512, help="of anonymous memory; more fails (default: 512)")
    arguments = parser.parse_args()
    size = int(arguments.gib * (1 << 30))
    failed = []
    with _server(arguments.server) as server:
        print(f"{size:,} bytes, {type(server).__name__}, {os.cpu_count()} CPUs\n")
        print("| engine | step | parts | seconds | GB/s | CPU s | start MiB | peak RSS MiB | peak anon MiB |")
        print("|---|---|---|---|---|---|---|---|---|")
        for engine in arguments.engines.split(","):
            uri = f"s3://{server.container}/round-trip-{engine}"
            expected = None
            for step in ("write", "fetch", "download"):
                said = _run(step, engine, uri, size, server)
                expected = expected or said["checksum"]
                mib = {name: said[name] / (1 << 20) for name in ("before", "peak", "anon")}
                print(
                    f"| {engine} | {step} | {said['parts'] or ''} | {said['seconds']:.1f} "
                    f"| {size / said['seconds'] / 1e9:.3f} | {said['cpu_s']:.1f} "
                    f"| {mib['before']:.0f} | {mib['peak']:.0f} | {mib['anon']:.0f} |",
                    flush=True,
                )
                if said["checksum"] != expected or said["size"] != size:
                    failed.append(f"{engine} {step}: {said['size']} bytes, {said['checksum']}, expected {expected}")
                if mib["anon"] > arguments.limit_mib:
                    failed.append(f"{engine} {step}: {mib['anon']:.0f} MiB, expected {arguments.limit_mib} at most")
            with server.client() as client:  # type: ignore[attr-defined] # all of them speak S3
                client.delete_object(Bucket=server.container, Key=f"round-trip-{engine}")
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
