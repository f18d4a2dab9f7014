"""The command as a process: what a shell sees."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from s3dlio.checkpoint import save_state

COMMAND = [sys.executable, "-W", "error", "-c", "from s3dlio.cli import main; main()"]


def call(*arguments):
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, timeout=60, check=False)


def output(*arguments):
    done = call(*arguments)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def refused(code, *arguments):
    done = call(*arguments)
    assert done.returncode == code
    assert done.stdout == b""
    assert b"Traceback" not in done.stderr
    return done.stderr.decode()


@pytest.fixture
def root(tmp_path):
    root = tmp_path / ("long name, " * 12).strip()  # longer than the 80 columns of a table
    root.mkdir()
    (root / "a.bin").write_bytes(b"abc")
    (root / "b.txt").write_bytes(b"")
    return root


def test_ls_in_a_pipe_is_a_line_an_object(root):
    lines = [f"3\tfile://{root}/a.bin", f"0\tfile://{root}/b.txt"]
    assert output("ls", root).decode().splitlines() == lines
    assert output("ls", root, "--pattern", r"\.txt$").decode().splitlines() == lines[1:]
    assert output("ls", root / "nothing") == b""


def test_ls_on_a_terminal_is_a_table(root):
    master, slave = os.openpty()
    with os.fdopen(master, "rb", buffering=0) as terminal:
        done = subprocess.run([*COMMAND, "ls", str(root)], stdout=slave, timeout=60, check=False)
        os.close(slave)
        shown = terminal.read(1 << 16)
    assert done.returncode == 0
    assert b"2 objects, 3 bytes" in shown


def test_ls_json(root):
    entries = [json.loads(line) for line in output("ls", root, "--json").splitlines()]
    assert [(entry["uri"], entry["size"]) for entry in entries] == [
        (f"file://{root}/a.bin", 3),
        (f"file://{root}/b.txt", 0),
    ]


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("objects", [1, 3000])
def test_a_reader_that_leaves_is_no_traceback(tmp_path, options, objects):
    for number in range(objects):
        (tmp_path / f"{number:050}").touch()
    reading, writing = os.pipe()
    os.close(reading)  # as `| head -1` does, but surely before the first line
    done = subprocess.run(
        [*COMMAND, "ls", str(tmp_path), *options], stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_stat(root):
    shown = json.loads(output("stat", root / "a.bin"))
    assert shown["size"] == 3
    assert set(shown) == {"key", "size", "etag", "last_modified"}


def test_get_to_standard_output_and_to_a_file(root, tmp_path):
    assert output("get", root / "a.bin") == b"abc"
    assert output("get", root / "a.bin", tmp_path / "copy") == b""
    assert (tmp_path / "copy").read_bytes() == b"abc"


def test_get_into_no_directory_is_one_line(root):
    said = refused(1, "get", root / "a.bin", "/no/dir/x")
    assert said.startswith("s3dlio: ")
    assert "/no/dir/x" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize("size", [0, 5, (8 << 20) + 3])
@pytest.mark.parametrize("options", [[], ["--create"]])
def test_put(root, tmp_path, size, options):
    data = np.random.default_rng(0).bytes(size)
    source = tmp_path / "source"
    source.write_bytes(data)
    assert output("put", source, root / "new", *options) == b""
    assert (root / "new").read_bytes() == data


def test_put_overwrites_but_create_does_not(root, tmp_path):
    source = tmp_path / "source"
    source.write_bytes(b"new")
    said = refused(1, "put", "--create", source, root / "a.bin")
    assert said.startswith("s3dlio: ")
    assert (root / "a.bin").read_bytes() == b"abc"
    output("put", source, root / "a.bin")
    assert (root / "a.bin").read_bytes() == b"new"


def test_put_to_moto_in_parts(moto_environment, tmp_path):
    data = np.random.default_rng(0).bytes((17 << 20) + 1)
    source = tmp_path / "source"
    source.write_bytes(data)
    uri = f"s3://{moto_environment.container}/cli/put"
    output("put", source, uri)
    assert output("get", uri) == data
    assert "exists" in refused(1, "put", "--create", source, uri)


def test_rm(root):
    assert output("rm", root / "a.bin") == b""
    assert not (root / "a.bin").exists()
    assert output("rm", root / "a.bin") == b"", "none there is no error, as on S3"


def test_steps(tmp_path):
    for step in (3, 20):
        save_state(tmp_path, {"model": {"w": np.arange(3)}}, step=step)
    assert output("steps", tmp_path) == b"3\n20\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", "{root}/none"),
        ("stat", "{root}/none"),
        ("put", "{root}/a.bin", "{root}/a.bin/below"),
        ("put", "--create", "{root}/a.bin", "{root}/a.bin/below"),
    ],
)
def test_an_error_of_the_store_is_1(root, arguments):
    said = refused(1, *(argument.format(root=root) for argument in arguments))
    assert said.startswith("s3dlio: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("get",),
        ("copy", "a", "b"),
        ("ls", "ftp://host/x"),
        ("ls", "{root}", "--pattern", "("),
        ("stat", "memory://name"),
        ("put", "{root}/a.bin", "memory://name"),
        ("put", "--create", "{root}/a.bin", "memory://name"),
        ("put", "{root}/none", "memory://name/x"),
    ],
)
def test_a_wrong_call_is_2(root, arguments):
    refused(2, *(argument.format(root=root) for argument in arguments))
