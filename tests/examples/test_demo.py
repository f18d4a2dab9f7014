"""``make demo``'s script, from the server's start to its end, and Ctrl-C."""

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
        output, errors = demo.communicate(timeout=20)  # ends when the last process that holds the pipes has ended
    assert demo.returncode == 130
    assert output.splitlines()[-1] == "Stopped."
    assert errors == ""
