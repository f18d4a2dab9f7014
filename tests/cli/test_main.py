"""Exit codes, signals, pipes, options that every command has."""

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from s3dlio.checkpoint import save_state
from s3dlio.storage import open_store

from ..servers.fault_actions import stall


def test_steps(output, tmp_path):
    for step in (3, 20):
        save_state(tmp_path, {"model": {"w": np.arange(3)}}, step=step)
    assert output("steps", tmp_path) == b"3\n20\n"
    assert [json.loads(line) for line in output("steps", tmp_path, "--json").splitlines()] == [
        {"step": 3},
        {"step": 20},
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", "{root}/none"),
        ("get", "{root}/none", "{root}/new"),
        ("get", "{root}/a.bin", "/no/dir/x"),
        ("cat", "{root}/a.bin/", "--length", "1"),
        ("stat", "{root}/none"),
        ("cp", "{root}/none", "{root}/new"),
        ("put", "{root}/a.bin", "{root}/a.bin/below"),
        ("put", "--create", "{root}/a.bin", "{root}/a.bin/below"),
        ("put", "--create", "{root}/a.bin", "{root}/b.txt"),
        ("bench", "read", "{root}/none"),
    ],
)
def test_an_error_of_the_store_is_1(refused, root, arguments):
    arguments = [argument.format(root=root) for argument in arguments]
    code = 2 if arguments[1].endswith("/") else 1
    said = refused(code, *arguments)
    assert said.startswith("s3dlio: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("get",),
        ("copy", "a", "b"),
        ("ls", "ftp://host/x"),
        ("ls", "{root}", "--pattern", "("),
        ("ls", "{root}", "--no-such-option"),
        ("stat", "memory://name"),
        ("get", "memory://name"),
        ("cat", "memory://name/x/"),
        ("cat", "{root}/a.bin", "--length", "many"),
        ("put", "{root}/none", "memory://name/x"),
        ("put", "{root}", "memory://name/x"),
        ("put", "-", "memory://name"),
        ("put", "-", "memory://name/x", "--create"),
        ("cp", "{root}", "memory://name/x"),
        ("cp", "{root}/a.bin", "{root}/a.bin"),
        ("cp", "{root}/a.bin", "memory://name/x", "--max-in-flight", "0"),
        ("rm", "memory://name"),
        ("rm", "memory://name/x/"),
        ("buckets", "memory://"),
        ("mkdir", "ftp://x"),
        ("bench", "write", "{root}", "--size", "x"),
        ("--backend", "quantum", "ls", "{root}"),
        ("ls", "s3://bucket", "--endpoint-url", "ftp://x"),
    ],
)
def test_a_wrong_call_is_2(call, root, arguments):
    done = call(*(argument.format(root=root) for argument in arguments))
    assert done.code == 2
    assert b"Traceback" not in done.err


def test_the_options_of_every_command_stand_before_or_after_it(call, moto_environment, monkeypatch):
    uri = f"s3://{moto_environment.container}/options/x"
    with open_store(uri) as store:
        store.put("options/x", b"content")
    url = moto_environment.endpoint_url
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert call("--endpoint-url", url, "cat", uri).out == b"content"
    assert call("cat", uri, "--endpoint-url", url).out == b"content"
    assert call("--endpoint-url", "http://127.0.0.1:9", "cat", "--endpoint-url", url, uri).out == b"content"
    said = call("-v", "--backend", "arrow", "cat", uri, "--endpoint-url", url).err.decode()
    assert "arrow engine" in said
    assert re.search(r"done in \d", said)
    assert "native engine" in call("cat", uri, "--endpoint-url", url, "--verbose").err.decode()


@pytest.mark.parametrize("before", [True, False])
def test_op_log(output, root, tmp_path, before):
    log = ["--op-log", tmp_path / "ops.tsv.zst"]
    command = ["cat", root / "a.bin"]
    assert output(*(log + command if before else command + log)) == b"abc"
    assert (tmp_path / "ops.tsv.zst").stat().st_size > 0


def test_help_names_every_command(output):
    shown = output("--help").decode()
    for name in ("ls", "stat", "get", "cat", "put", "cp", "rm", "mkdir", "buckets", "steps", "bench"):
        assert re.search(rf"\b{name}\b", shown)
    assert "--install-completion" in shown
    assert "--endpoint-url" in output("cp", "--help").decode()


@pytest.mark.parametrize("words", [["--help"], ["cp", "--help"], ["bench", "read", "--help"]])
def test_help_loads_no_library(words):
    """Nor does completion, which runs at every press of the key."""
    code = (
        "import sys\n"
        "from s3dlio.cli.main import app\n"
        "app(sys.argv[1:], standalone_mode=False)\n"
        "print(*{'pyarrow', 'numpy', 'obstore', 's3dlio.storage'}.intersection(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "\n"


def test_a_warning_is_one_line(root):
    command = [sys.executable, "-m", "s3dlio.cli", "ls", root]
    environment = {**os.environ, "S3DLIO_BACKNED": "native"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("3\tfile:")
    assert done.stderr.startswith("s3dlio: warning: environment: S3DLIO_BACKNED is not read")
    assert done.stderr.count("\n") == 1


def test_anonymous(refused, call, moto_environment, monkeypatch):
    uri = f"s3://{moto_environment.container}/options/x"
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert "pass --anonymous for public objects" in refused(1, "stat", uri)
    for words in (["--anonymous", "stat", uri], ["stat", uri, "--anonymous"]):
        assert "get credentials" not in refused(1, *words), "a request was sent, which moto refuses"


def test_completion_of_commands(command):
    environment = {**os.environ, "__S3DLIO_COMPLETE": "complete_bash", "COMP_WORDS": "s3dlio be", "COMP_CWORD": "1"}
    words = [sys.executable, "-c", "import sys; sys.argv[0] = 's3dlio'; from s3dlio.cli import main; main()"]
    environment["_S3DLIO_COMPLETE"] = environment.pop("__S3DLIO_COMPLETE")
    done = subprocess.run(words, env=environment, capture_output=True, timeout=60, check=False)
    assert done.stdout.split() == [b"bench"]


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize("objects", [1, 3000])
def test_a_reader_that_leaves_is_no_traceback(command, tmp_path, options, objects):
    for number in range(objects):
        (tmp_path / f"{number:050}").touch()
    reading, writing = os.pipe()
    os.close(reading)  # as `| head -1` does, but surely before the first line
    done = subprocess.run(
        [*command, "ls", str(tmp_path), *options], stdout=writing, stderr=subprocess.PIPE, timeout=60, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_reader_of_bytes_that_leaves(command, tmp_path):
    (tmp_path / "f").write_bytes(bytes(32 << 20))
    with subprocess.Popen([*command, "cat", tmp_path / "f"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.read(10) == bytes(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def interrupted(command, arguments, rule, number, proxy):
    """The command's exit code, its words and the seconds it took, after a signal in the middle of the fault."""
    words = [*command, *map(str, arguments)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert rule.reached.wait(30), process.poll()
        began = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        seconds = time.monotonic() - began
    return process.returncode, out + err, seconds


def everything_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_download_that_is_interrupted(command, fault_proxy, tmp_path, number, code, ends_at_once):
    bucket = fault_proxy.upstream.new_container()
    with open_store(f"s3://{bucket}") as store:
        store.put("t/big", bytes(40 << 20))
        store.put("t/small", b"small")
    rule = fault_proxy.fail(stall(after=1000), method="GET", path="/t/big", skip=2, times=None)
    words = ["cp", "-r", f"s3://{bucket}/t", tmp_path]
    left, said, seconds = interrupted(command, words, rule, number, fault_proxy)
    assert (left, said) == (code, b"")
    ends_at_once(seconds)
    assert set(everything_in(tmp_path)) <= {"small"}


def test_an_upload_that_is_interrupted(command, fault_proxy, tmp_path, ends_at_once):
    """Nothing is visible. The part that hangs keeps the engine from aborting in time, so parts may stay."""
    bucket = fault_proxy.upstream.new_container()
    (tmp_path / "big").write_bytes(bytes(160 << 20))
    rule = fault_proxy.fail(stall(), method="PUT", query="partNumber=", times=None)
    left, said, seconds = interrupted(
        command, ["put", tmp_path / "big", f"s3://{bucket}/big"], rule, signal.SIGINT, fault_proxy
    )
    assert (left, said) == (130, b"")
    ends_at_once(seconds)
    with fault_proxy.upstream.client() as client:
        assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_listing_that_is_interrupted(command, fault_proxy, ends_at_once):
    rule = fault_proxy.fail(stall(), method="GET", times=None)
    left, said, seconds = interrupted(command, ["ls", "s3://bucket/x"], rule, signal.SIGINT, fault_proxy)
    assert (left, said) == (130, b"")
    ends_at_once(seconds)


def test_an_interrupted_standard_input_publishes_nothing(command, tmp_path):
    words = [*command, "put", "-", str(tmp_path / "new")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdin.write(bytes(9 << 20))  # more than a piece and the pipe: it has been read when this returns
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, b"", b"")
    assert everything_in(tmp_path) == []


def test_without_a_script():
    """``python -m s3dlio.cli``."""
    command = [sys.executable, "-m", "s3dlio.cli", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "bench" in done.stdout


def test_version(output):
    assert output("--version").decode() == f"s3dlio {importlib.metadata.version('s3dlio-arrow')}\n"
