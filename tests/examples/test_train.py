"""The three trainers: accuracy, and kill -9 in the middle of an epoch.

A killed process goes back to its last checkpoint, so it makes some steps twice. What must hold: each step, the
first or the second time, is the step of a run that nothing interrupted, with the same samples and the same loss. The
losses are compared bit for bit in all three frameworks: one seed, one machine, sums in one order.
"""

import re
import signal
from collections import Counter

import pytest

FRAMEWORKS = [pytest.param(name, marks=pytest.mark.framework(mark)) for name, mark in
              {"torch": "torch", "keras": "tf", "jax": "jax"}.items()]  # fmt: skip
EPOCHS = 4
STEPS = 23  # of an epoch: 1,437 samples in batches of 64
KILL_AT = 33  # in the middle of the second epoch, three steps after a checkpoint
BACK_TO = 30
ACCURACY = re.compile(r"test accuracy        (?P<percent>[\d.]+)% \((?P<correct>\d+) of (?P<total>\d+) samples\)")


class WholeRun:
    """A run that nothing interrupted."""

    def __init__(self, scripts, framework, uri):
        self.checkpoint = f"{uri}/checkpoints/whole-{framework}"
        log = f"whole-{framework}.jsonl"
        options = ["--epochs", str(EPOCHS), "--checkpoint", self.checkpoint, "--losses", log]
        self.finished = scripts.run(f"train_{framework}.py", uri, *options)
        self.steps = scripts.steps(log)


@pytest.fixture(scope="module")
def whole_run(scripts, digits_uri):
    """Framework -> its run, made once."""
    runs = {}

    def find(framework):
        if framework not in runs:
            runs[framework] = WholeRun(scripts, framework, digits_uri)
        return runs[framework]

    return find


def correct(output):
    found = ACCURACY.search(output)
    assert found, output
    assert int(found["total"]) == 360  # each test sample once
    return int(found["correct"])


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_it_learns(framework, whole_run):
    run = whole_run(framework)
    assert correct(run.finished.output) >= 0.95 * 360
    assert run.steps[-1]["loss"] < 0.2 < run.steps[0]["loss"]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_epoch_is_every_sample_once_in_a_new_order(framework, whole_run):
    epochs = {}
    for number, step in enumerate(whole_run(framework).steps, 1):
        assert (step["step"], step["epoch"]) == (number, (number - 1) // STEPS + 1)
        epochs.setdefault(step["epoch"], []).extend(step["samples"])
    assert len(epochs) == EPOCHS
    for samples in epochs.values():
        assert len(samples) == 1437
        assert Counter(samples) == Counter(dict.fromkeys(epochs[1], 1))
    assert len({tuple(samples) for samples in epochs.values()}) == EPOCHS


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_output_without_a_terminal_is_plain(framework, whole_run):
    run = whole_run(framework)
    lines = run.finished.output.splitlines()
    assert all(line.isprintable() for line in lines), run.finished.output
    for epoch, line in enumerate(lines[:EPOCHS], 1):
        assert re.fullmatch(
            rf"epoch {epoch}/{EPOCHS}  loss \d\.\d{{4}}  1,437 samples in [\d.]+ s  [\d,]+ samples/s", line
        )
    assert [line[:21].rstrip() for line in lines[EPOCHS:]] == [
        "test accuracy", "time to first batch", "samples/s", "checkpoint",
    ]  # fmt: skip
    assert lines[-1].endswith(f"{run.checkpoint}/step_{EPOCHS * STEPS:010d}/")
    assert "Traceback" not in run.finished.errors
    assert "ResourceWarning" not in run.finished.errors


WITHOUT, WITH_2 = [], ["--workers", "2"]


@pytest.mark.parametrize(
    ("framework", "killed_with", "resumed_with"),
    [
        pytest.param("torch", WITHOUT, WITH_2, marks=pytest.mark.framework("torch"), id="torch-0-then-2-workers"),
        pytest.param("torch", WITH_2, WITHOUT, marks=pytest.mark.framework("torch"), id="torch-2-then-0-workers"),
        pytest.param("keras", WITHOUT, WITHOUT, marks=pytest.mark.framework("tf"), id="keras"),
        pytest.param("jax", WITHOUT, WITHOUT, marks=pytest.mark.framework("jax"), id="jax"),
    ],
)
def test_killed_and_resumed_is_the_uninterrupted_run(
    framework, killed_with, resumed_with, whole_run, scripts, digits_uri, request
):
    name = request.node.callspec.id
    options = [digits_uri, "--checkpoint", f"{digits_uri}/checkpoints/{name}", "--losses", f"{name}.jsonl"]
    options += ["--epochs", "2"]
    script = f"train_{framework}.py"

    scripts.run(script, *options, *killed_with, "--kill-at", str(KILL_AT), status=-signal.SIGKILL)
    killed = scripts.steps(f"{name}.jsonl")
    assert [step["step"] for step in killed] == list(range(1, KILL_AT + 1))

    resumed = scripts.run(script, *options, *resumed_with)
    assert f"Resuming after step {BACK_TO} (epoch 2, sample {(BACK_TO - STEPS) * 64} of 1,437)." in resumed.output
    after = scripts.steps(f"{name}.jsonl")[KILL_AT:]
    assert [step["step"] for step in after] == list(range(BACK_TO + 1, 2 * STEPS + 1))

    whole = whole_run(framework).steps
    assert killed == whole[:KILL_AT]
    assert after == whole[BACK_TO : 2 * STEPS]


@pytest.mark.framework("torch")
def test_a_finished_run_is_only_evaluated(whole_run, scripts, digits_uri):
    run = whole_run("torch")
    options = ["--epochs", str(EPOCHS), "--checkpoint", run.checkpoint, "--losses", "again.jsonl"]
    again = scripts.run("train_torch.py", digits_uri, *options)
    assert again.output.startswith(f"Trained before: {EPOCHS} epochs, {EPOCHS * STEPS} steps.")
    assert correct(again.output) == correct(run.finished.output)
    assert scripts.steps("again.jsonl") == []


@pytest.mark.framework("torch", "jax")
def test_jax_evaluates_what_torch_trained(whole_run, scripts, digits_uri):
    run = whole_run("torch")
    evaluated = scripts.run("train_jax.py", digits_uri, "--evaluate", run.checkpoint)
    assert correct(evaluated.output) == correct(run.finished.output)
    assert len(evaluated.output.splitlines()) == 1
