"""How long a listing takes and what memory it costs a key, on both engines.

    python -m tests.benchmarks.listing [--keys 200000] [--directories 1000] [--empty]

The server is one of its own, in a process of its own, with answers of 1,000 keys that were made beforehand: what is
measured is the client. Each engine lists in a process of its own, which keeps the batches; memory is the growth of its
resident set. ``--empty``: objects without bytes, each of which could be a directory marker.
"""

from __future__ import annotations

import argparse
import http.server
import itertools
import json
import multiprocessing
import os
import subprocess
import sys
import time
import urllib.parse
from typing import Any

PAGE_KEYS = 1000
ENGINES = ("native", "arrow")

CHILD = """
import json, os, sys, time
import pyarrow as pa
from s3dlio.storage import open_store

def resident():
    with open("/proc/self/status") as status:
        found = dict(line.split(":", 1) for line in status)
    return int(found["VmRSS"].split()[0]) << 10, int(found["VmHWM"].split()[0]) << 10

with open_store("s3://bucket", backend=sys.argv[1]) as store:
    for batch in store.list("warm-up"):
        pass
    before, _ = resident()
    began = time.perf_counter()
    first = None
    batches = []
    for batch in store.list("data"):
        first = first or time.perf_counter() - began
        batches.append(batch)
    seconds = time.perf_counter() - began
    kept, peak = resident()
    table = pa.Table.from_batches(batches)
    print(json.dumps({
        "keys": table.num_rows, "seconds": seconds, "first_s": first, "cpu_s": time.process_time(),
        "arrow_bytes": table.nbytes, "kept_bytes": kept - before, "peak_bytes": peak - before,
    }))
"""


def page(start: int, end: int, total: int, directories: int, size: int) -> bytes:
    """One answer of ListObjectsV2, with the keys of these numbers."""
    per_directory = -(-total // directories)
    rows = "".join(
        f"<Contents><Key>data/{number // per_directory:05d}/sample-{number:08d}.npz</Key>"
        "<LastModified>2026-01-02T03:04:05.000Z</LastModified>"
        f"<ETag>&quot;{number:032x}&quot;</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
        for number in range(start, end)
    )
    more = (
        f"<IsTruncated>true</IsTruncated><NextContinuationToken>{end}</NextContinuationToken>"
        if end < total
        else ("<IsTruncated>false</IsTruncated>")
    )
    return (
        "<?xml version='1.0' encoding='UTF-8'?><ListBucketResult xmlns='http://s3.amazonaws.com/doc/2006-03-01/'>"
        f"<Name>bucket</Name><KeyCount>{end - start}</KeyCount><MaxKeys>1000</MaxKeys>{more}{rows}</ListBucketResult>"
    ).encode()


def serve(connection: Any, total: int, directories: int, size: int) -> None:
    """Answer listings for ever; says its port and, asked, how many requests there were."""
    pages = {
        start: page(start, min(start + PAGE_KEYS, total), total, directories, size)
        for start in range(0, total, PAGE_KEYS)
    }
    nothing = page(0, 0, 0, 1, 0)
    count = itertools.count()
    per_directory = -(-total // directories)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True  # or each small answer takes 40 ms
        wbufsize = -1

        def log_message(self, *_: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(b"")

        def do_GET(self) -> None:
            query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
            prefix = query.get("prefix", "")
            if not prefix.startswith("data/"):
                self.answer(nothing)
            elif "delimiter" in query and prefix != "data/":
                start = int(prefix.split("/")[1]) * per_directory
                self.answer(page(start, start + per_directory, start + per_directory, directories, size))
            else:
                self.answer(pages[int(query.get("continuation-token", 0))])

        def answer(self, body: bytes) -> None:
            next(count)
            self.send_response(200)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
            self.wfile.flush()

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    connection.send(server.server_address[1])
    import threading

    threading.Thread(target=server.serve_forever, daemon=True).start()
    while connection.recv() == "count":
        connection.send(next(count))


def main() -> None:
    parser = argparse.ArgumentParser(description="Listing: seconds and bytes of memory a key, on both engines.")
    parser.add_argument("--keys", type=int, default=200_000)
    parser.add_argument("--directories", type=int, default=1000, help="that the keys are spread over (default: 1000)")
    parser.add_argument("--empty", action="store_true", help="objects of no bytes instead of 1 MB")
    arguments = parser.parse_args()
    here, there = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(
        target=serve, args=(there, arguments.keys, arguments.directories, 0 if arguments.empty else 1_000_000)
    )
    server.start()
    try:
        port = here.recv()
        environment = {
            **os.environ,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        kind = "empty objects" if arguments.empty else "objects"
        print(f"{arguments.keys:,} {kind} in {arguments.directories:,} directories; {os.cpu_count()} CPUs")
        print(f"{'engine':8}{'seconds':>9}{'first':>8}{'CPU s':>8}{'keys/s':>11}{'requests':>10}"
              f"{'B/key kept':>12}{'peak':>7}{'Arrow':>7}")  # fmt: skip
        for engine in ENGINES:
            here.send("count")
            before = here.recv()
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", CHILD, engine], env=environment, capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(f"{engine}: failed after {time.perf_counter() - began:.1f} s:\n{done.stderr}")
            here.send("count")
            requests = here.recv() - before - 1
            found = json.loads(done.stdout)
            keys = found["keys"]
            print(
                f"{engine:8}{found['seconds']:9.2f}{found['first_s']:8.2f}{found['cpu_s']:8.2f}"
                f"{keys / found['seconds']:11,.0f}{requests:10,}{found['kept_bytes'] / keys:12.0f}"
                f"{found['peak_bytes'] / keys:7.0f}{found['arrow_bytes'] / keys:7.0f}"
            )
            if keys != arguments.keys:
                sys.exit(f"{engine}: {keys} keys, expected {arguments.keys}")
    finally:
        here.send("end")
        server.join()


if __name__ == "__main__":
    main()
