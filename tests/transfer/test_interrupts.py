"""Ctrl-C while requests are stuck: the process ends within a second, by KeyboardInterrupt, and publishes nothing."""

import os
import signal
import subprocess
import sys
import time

import pytest

PROGRAM = """
import os, sys, threading
from s3dlio.storage import MemoryStore, objects
from s3dlio.storage.object_read import PART_BYTES
from s3dlio.transfer.files import open as open_object
from s3dlio.transfer.many import get_many, put_many

store = MemoryStore("stuck")
store.put("large", bytes(6 * PART_BYTES))
uris = ["memory://stuck/large"] * 4

def stuck(*_args, **_options):
    os.write(1, b"begun\\n")  # whole, whoever else writes
    threading.Event().wait()

def read_file():
    with open_object(uris[0]) as file:
        while file.read(1 << 20):
            pass

def write_file():
    with open_object("memory://stuck/new", "wb") as file:
        file.write(b"half")
        stuck()

CALLS = {
    "get": ("get_into", lambda: objects.get(uris[0])),
    "get_many": ("get_into", lambda: get_many(uris)),
    "put_many": ("put", lambda: put_many((f"memory://stuck/{n}", b"1") for n in range(100))),
    "delete": ("delete", lambda: objects.delete([f"memory://stuck/{n}" for n in range(100)])),
    "read": ("get_range", read_file),
    "write": ("nothing", write_file),
}
verb, call = CALLS[sys.argv[1]]
setattr(MemoryStore, verb, stuck)
try:
    call()
finally:
    print("left", sorted(store._objects), flush=True)
"""


@pytest.mark.parametrize("name", ["get", "get_many", "put_many", "delete", "read", "write"])
def test_ctrl_c(name, ends_at_once):
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", PROGRAM, name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout.readline() == "begun\n"
            began = time.monotonic()
            os.kill(process.pid, signal.SIGINT)
            *_, left = process.stdout.read().splitlines()
            errors = process.stderr.read()
            process.wait(30)
            took = time.monotonic() - began
        finally:
            process.kill()
    assert left == "left ['large']"
    assert errors.rstrip().endswith("KeyboardInterrupt"), errors
    assert process.returncode in {1, -signal.SIGINT}
    ends_at_once(took)
