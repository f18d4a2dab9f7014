"""Every server keeps an object that is put there, for both clients that the library stands on.

These tests hold the servers to account, not the library: where they fail, no other failure means anything.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow.fs
import pytest

LAUNCHER = Path(__file__).parents[1] / "examples" / "embedded_s3.py"


def filesystem_of(server):
    host = server.endpoint_url.removeprefix("http://").partition("/")[0]
    if server.scheme == "az":
        return pyarrow.fs.AzureFileSystem(
            server.access_key,
            account_key=server.secret_key,
            blob_storage_authority=host,
            blob_storage_scheme="http",
            dfs_storage_authority=host,
            dfs_storage_scheme="http",
        )
    return pyarrow.fs.S3FileSystem(
        access_key=server.access_key,
        secret_key=server.secret_key,
        region=server.region,
        endpoint_override=host,
        scheme="http",
    )


def check(name, server, container):
    script = Path(__file__).parent / "servers" / "obstore_client.py"
    command = [sys.executable, script, name, server.scheme, container]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr


def test_round_trip_between_clients(server):
    container = server.new_container()
    filesystem = filesystem_of(server)
    with filesystem.open_output_stream(f"{container}/a/from-pyarrow") as stream:
        stream.write(b"other bytes")
    check("exchange", server, container)
    with filesystem.open_input_stream(f"{container}/a/from-obstore") as stream:
        assert stream.read() == b"some bytes"


def test_containers(server):
    first, second = server.new_container(), server.new_container()
    assert len({first, second, server.container}) == 3
    assert min(len(name) for name in (first, second, server.container)) >= 3
    with filesystem_of(server).open_output_stream(f"{first}/not-in-the-second") as stream:
        stream.write(b"1")
    check("empty", server, second)
    assert filesystem_of(server).get_file_info(server.container).type == pyarrow.fs.FileType.Directory


def test_create_has_one_winner(server):
    check("create", server, server.new_container())


def test_ranges_and_large_objects(server):
    check("ranges", server, server.new_container())


def test_environment_is_clean():
    assert {name for name in os.environ if name.startswith(("AWS_", "AZURE_", "GOOGLE_", "S3DLIO_"))} == {
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_EC2_METADATA_DISABLED",
    }


def test_embedded_server_keeps_connections_and_answers_head(moto_environment):
    import http.client

    with filesystem_of(moto_environment).open_output_stream(f"{moto_environment.container}/kept/alive") as stream:
        stream.write(b"x" * 1000)
    host = moto_environment.endpoint_url.removeprefix("http://")
    signed = {"Authorization": "AWS4-HMAC-SHA256 Credential=testing/20250101/us-east-1/s3/aws4_request, Signature=0"}
    connection = http.client.HTTPConnection(host, timeout=30)
    try:
        for method, length in (("HEAD", 0), ("GET", 1000), ("HEAD", 0), ("GET", 1000)):
            connection.request(method, f"/{moto_environment.container}/kept/alive", headers=signed)
            socket_before = connection.sock
            answer = connection.getresponse()
            assert answer.getheader("Content-Length") == "1000"
            assert len(answer.read()) == length
            assert connection.sock is socket_before is not None
    finally:
        connection.close()


def test_embedded_server_ends_with_its_parent():
    """A killed run leaves no server behind."""
    code = f"""
import importlib.util, os
spec = importlib.util.spec_from_file_location("embedded_s3", {str(LAUNCHER)!r})
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
server = module.EmbeddedS3().__enter__()
print(server.endpoint_url, flush=True)
os.kill(os.getpid(), {signal.SIGKILL:d})
"""
    parent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert parent.returncode == -signal.SIGKILL, parent.stderr
    host, port = parent.stdout.strip().removeprefix("http://").split(":")
    with pytest.raises((ConnectionRefusedError, ConnectionResetError)):  # gone, or going
        while True:  # bounded by the timeout of every test
            socket.create_connection((host, int(port)), timeout=30).close()


def test_embedded_server_says_why_it_does_not_start():
    code = f"""
import importlib.util
spec = importlib.util.spec_from_file_location("embedded_s3", {str(LAUNCHER)!r})
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
with module.EmbeddedS3("b"): pass
"""
    parent = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert parent.returncode == 1
    assert "make bucket b: answer 400, expected 200" in parent.stderr
