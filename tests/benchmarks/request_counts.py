"""Requests that a server sees for listing and reading small objects, on both engines: each costs latency and money.

    python -m tests.benchmarks.request_counts [--objects 1000] [--server moto|radosgw]

With S3DLIO_TEST_S3_ENDPOINT and its two keys set, the server is that one. Counted at a proxy in front of it, by the
verb of HTTP, with listings as LIST. ``list and get`` is a store's own verbs one after another, ``get_many`` the
function over all URIs, ``first epoch`` a dataset and a loader, ``later epochs`` the same loader once more. A read of
the arrow engine in 256 has a second GET, by chance (``storage.arrow.read``). The table is Markdown.
"""

from __future__ import annotations

import argparse
import collections
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import s3dlio
from s3dlio.storage import open_store
from tests.servers.external import ExternalServer
from tests.servers.faults import FaultProxy
from tests.servers.moto import MotoServer
from tests.servers.radosgw import RadosGateway

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.server import S3Server

BODY = bytes(range(250)) * 4
ENGINES = ("native", "arrow")
VERBS = ("LIST", "HEAD", "GET")


def _server(name: str) -> S3Server:
    external = ExternalServer.from_environment(os.environ)
    if external is not None:
        return external
    return {"radosgw": RadosGateway, "moto": MotoServer}[name]()


def _fill(server: S3Server, bucket: str, objects: int) -> None:
    with server.client() as client, ThreadPoolExecutor(8) as pool:
        list(
            pool.map(
                lambda number: client.put_object(Bucket=bucket, Key=f"data/{number:06d}", Body=BODY), range(objects)
            )
        )


def _steps(uri: str, engine: str) -> Iterator[tuple[str, int]]:
    """Do a step, and say its name and how many objects it read."""
    options = {"backend": engine}
    with open_store(uri, storage_options=options) as store:
        keys = [key for batch in store.list("data") for key in batch.column("key").to_pylist()]
        yield "list and get", sum(store.get(key).size == len(BODY) for key in keys)
    found = s3dlio.get_many(list(s3dlio.list(f"{uri}/data/", storage_options=options)), storage_options=options)
    yield "list and get_many", sum(len(data) == len(BODY) for _, data in found)
    dataset = s3dlio.dataset(f"{uri}/data", format="raw", storage_options=options)
    with s3dlio.DataLoader(dataset, batch_size=50, shuffle=True) as loader:
        yield "first epoch", sum(len(batch["data"]) for batch in loader)
        yield "later epochs", sum(len(batch["data"]) for batch in loader)


def main() -> None:
    parser = argparse.ArgumentParser(description="Requests for listing and reading small objects.")
    parser.add_argument("--objects", type=int, default=1000)
    parser.add_argument("--server", choices=["moto", "radosgw"], default="moto")
    arguments = parser.parse_args()
    with _server(arguments.server) as server, FaultProxy(server) as proxy:
        os.environ.update({**proxy.environment, "AWS_EC2_METADATA_DISABLED": "true"})
        bucket = server.new_container()
        _fill(server, bucket, arguments.objects)
        print(f"{arguments.objects:,} objects of {len(BODY):,} bytes, {server.name}\n")
        print(f"| engine | step | {' | '.join(VERBS)} | other | requests per object |")
        print("|---|---|" + "---|" * (len(VERBS) + 2))
        for engine in ENGINES:
            proxy.clear()
            for step, read in _steps(f"s3://{bucket}", engine):
                if read != arguments.objects:
                    raise SystemExit(f"{engine}, {step}: {read} objects, expected {arguments.objects}")
                seen = collections.Counter(
                    "LIST" if "list-type" in request.query else request.method for request in proxy.requests
                )
                proxy.clear()
                counts = [seen.pop(verb, 0) for verb in VERBS]
                other = ", ".join(f"{n} {verb}" for verb, n in seen.items()) or "0"
                each = (sum(counts) + seen.total()) / arguments.objects
                print(f"| {engine} | {step} | {' | '.join(map(str, counts))} | {other} | {each:.3f} |", flush=True)


if __name__ == "__main__":
    main()
