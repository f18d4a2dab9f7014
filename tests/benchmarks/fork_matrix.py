"""What a parent did before x how workers start x how many: python -m tests.benchmarks.fork_matrix [--objects 64].

Every case is a process of its own: it does something with s3dlio, then reads a dataset through torch's DataLoader with
workers and prints which engine each worker read by. A case that does not finish in the limit is reported as hung.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import s3dlio
from tests.servers.moto import MotoServer

LIMIT_S = 180.0
LEAST_OBJECTS = 32
_CASE = """
import json, os, sys, warnings
import torch
import s3dlio
from s3dlio_torch import S3IterableDataset

before, method, workers, uri = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]


class Telling(S3IterableDataset):
    '''Hands out, with every batch, the engine and the process that read it.'''

    def __iter__(self):
        for batch in super().__iter__():
            yield {"rows": len(batch["data"]), "engine": self.data.store.backend, "pid": os.getpid()}


def main():
    if before == "list":
        s3dlio.list(uri)
    elif before == "read":
        for entry in s3dlio.list(uri)[:8]:
            s3dlio.get(entry)
    warnings.simplefilter("ignore", s3dlio.ForkWarning)
    data = Telling(uri, batch_size=4, format="npy")
    loader = torch.utils.data.DataLoader(
        data, batch_size=None, num_workers=workers, multiprocessing_context=method, collate_fn=unchanged
    )
    batches = list(loader)
    print(json.dumps({
        "rows": sum(batch["rows"] for batch in batches),
        "engines": sorted({batch["engine"] for batch in batches}),
        "workers": len({batch["pid"] for batch in batches}),
    }))


def unchanged(batch):
    return batch


if __name__ == "__main__":
    main()
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=64, help=f"at least {LEAST_OBJECTS} (default: 64)")
    count = parser.parse_args().objects
    if count < LEAST_OBJECTS:
        parser.error(f"--objects is {count}, expected {LEAST_OBJECTS} at least: a batch of 4 for each of 8 workers.")
    failures = 0
    with MotoServer() as server, tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "case.py"  # spawned workers import it
        script.write_text(_CASE)
        os.environ.update(server.environment)
        with s3dlio.open_store(f"s3://{server.container}", backend="arrow") as store:
            for number in range(count):
                store.put(f"fork/{number:04d}.npy", _npy(number))
        print(
            f"{'parent did':<10} {'start':<11} {'workers':>7}  {'result':<8} {'rows':>5} {'engine':<8} {'seconds':>7}"
        )
        for before, method, workers in itertools.product(
            ("nothing", "list", "read"), ("fork", "forkserver", "spawn"), (2, 8)
        ):
            began = time.perf_counter()
            try:
                done = subprocess.run(
                    [sys.executable, str(script), before, method, str(workers), f"s3://{server.container}/fork/"],
                    capture_output=True, text=True, timeout=LIMIT_S, check=True,
                )  # fmt: skip
                said = json.loads(done.stdout)
                result = "finished" if said["rows"] == count and said["workers"] == workers else "WRONG"
            except subprocess.TimeoutExpired:
                said, result = {"rows": 0, "engines": []}, "HUNG"
            except subprocess.CalledProcessError as error:
                print(error.stderr[-2000:], file=sys.stderr)
                said, result = {"rows": 0, "engines": []}, "FAILED"
            failures += result != "finished"
            seconds = time.perf_counter() - began
            engines = "+".join(said["engines"])
            numbers = f"{said['rows']:>5} {engines:<8} {seconds:>7.1f}"
            print(f"{before:<10} {method:<11} {workers:>7}  {result:<8} {numbers}", flush=True)
    return 1 if failures else 0


def _npy(number: int) -> bytes:
    out = io.BytesIO()
    np.save(out, np.full(16, number, np.float32))
    return out.getvalue()


if __name__ == "__main__":
    sys.exit(main())
