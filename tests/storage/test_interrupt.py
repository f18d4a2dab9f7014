"""Ctrl-C in a real process, while a server that accepted the connection says nothing."""

import signal
import socket
import subprocess
import sys
import time

import pytest

WAITING = """
import sys, threading
from s3dlio.storage import open_store
backend, verb, url = sys.argv[1:]
store = open_store(
    "s3://bucket", backend=backend, endpoint_url=url, access_key_id="i", secret_access_key="s", read_timeout_s=60
)
verbs = {
    "get": lambda: store.get("k"),
    "get_range": lambda: store.get_range("k", 0, 10),
    "get_into": lambda: store.get_into("k", bytearray(10)),
    "head": lambda: store.head("k"),
    "put": lambda: store.put("k", b"1" * 100),
    "create": lambda: store.put("k", b"1" * 100, mode="create"),
    "list": lambda: [*store.list()],
    "delete": lambda: store.delete("k"),
    "copy": lambda: store.copy("k", "l"),
}
"""
IN_MAIN = "verbs[verb]()\n"
IN_THREAD = """
thread = threading.Thread(target=verbs[verb], daemon=True)
thread.start()
thread.join()
"""
CAUGHT = """
try:
    verbs[verb]()
except KeyboardInterrupt:
    sys.stderr.write("said\\n")
    sys.exit(3)
"""
VERBS = ["get", "get_range", "get_into", "head", "put", "create", "list", "delete", "copy"]


def interrupted(script, backend, verb):
    """Seconds from SIGINT to the end, the exit status and what was written to stderr."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-c", WAITING + script, backend, verb, url], stderr=subprocess.PIPE, text=True
        )
        with process:
            connection, _ = silent.accept()
            with connection:
                connection.settimeout(60)
                assert connection.recv(1), "the request is on its way"
                began = time.monotonic()
                process.send_signal(signal.SIGINT)
                err = process.communicate(timeout=60)[1]
                return time.monotonic() - began, process.returncode, err


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("backend", ["native", "arrow"])
def test_ctrl_c_ends_a_verb_and_the_process(backend, verb, ends_at_once):
    seconds, returned, err = interrupted(IN_MAIN, backend, verb)
    ends_at_once(seconds)
    assert returned == -signal.SIGINT, err
    assert err.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize("backend", ["native", "arrow"])
def test_ctrl_c_while_another_thread_reads(backend, ends_at_once):
    seconds, returned, err = interrupted(IN_THREAD, backend, "get")
    ends_at_once(seconds)
    assert returned == -signal.SIGINT, err


@pytest.mark.parametrize("verb", ["get", "put", "list"])
@pytest.mark.parametrize("backend", ["native", "arrow"])
def test_a_process_that_catches_it_ends_as_it_says(backend, verb, ends_at_once):
    seconds, returned, err = interrupted(CAUGHT, backend, verb)
    ends_at_once(seconds)
    assert (returned, err) == (3, "said\n")
