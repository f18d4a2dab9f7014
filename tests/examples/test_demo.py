"""``make demo``'s script, from the server's start to its end, and Ctrl-C."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "digits" / "demo.py"


@pytest.mark.framework("torch")
def test_demo(tmp_path):
    foreign = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_PROFILE": "nobody"}
    done = subprocess.run(
        [sys.executable, str(DEMO)],
        env={**os.environ, **foreign},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert all(line.isprintable() for line in done.stdout.splitlines()), done.stdout
    assert [line for line in done.stdout.splitlines() if re.match(r"\d\. ", line)] == [
        "1. An S3 server in memory",
        "2. Handwritten digits into the bucket",
        "3. Train with torch, and kill -9 it in the middle of an epoch",
        "4. The same command again",
    ]
    assert "Resuming after step 70 (epoch 4, sample 64 of 1,437)." in done.stdout
    assert "Steps 71 to 77 were made twice: same samples, same losses to the last bit." in done.stdout
    accuracy = re.search(r"test accuracy +([\d.]+)%", done.stdout)
    assert accuracy
    assert float(accuracy[1]) >= 95
    assert list(tmp_path.iterdir()) == []


def test_interrupt_stops_everything(tmp_path):
    # A session of its own, as a terminal has; Ctrl-C goes to all processes of the foreground group.
    with subprocess.Popen(
        [sys.executable, str(DEMO)],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as demo:
        for line in demo.stdout:
            if line.startswith("$ python"):
                break
        os.killpg(demo.pid, signal.SIGINT)
        output, errors = demo.communicate(timeout=60)  # ends when the last process that holds the pipes has ended
    assert demo.returncode == 130
    assert output.splitlines()[-1] == "Stopped."
    assert errors == ""


ENDING = """
import os, signal, sys
from pathlib import Path
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
Path("pid").write_text(str(os.getpid()))
os.kill(os.getppid(), signal.SIGINT)
if sys.argv[1] == "goes on":
    signal.pause()
"""


@pytest.mark.parametrize("end", ["ends", "goes on"])
def test_interrupt_while_a_script_ends(tmp_path, monkeypatch, end):
    """It may have ended by the time that it is to be stopped; what is heard of is the interrupt."""
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    monkeypatch.setattr(demo, "HERE", tmp_path)
    (tmp_path / "script.py").write_text(ENDING)
    with pytest.raises(KeyboardInterrupt):
        demo.python("script.py", end, cwd=str(tmp_path), environment=dict(os.environ))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
