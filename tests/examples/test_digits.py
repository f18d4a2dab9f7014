"""What the trainers share, without a trainer."""

import json
import signal

import pytest

from s3dlio.checkpoint import save_state, steps
from s3dlio.errors import NotFoundError


@pytest.fixture
def digits(script):
    return script("digits")


@pytest.fixture
def command(digits, monkeypatch):
    """Runs a training function behind the command line that is given."""

    def run(train, *arguments):
        monkeypatch.setattr("sys.argv", ["train.py", *arguments])
        digits.main(train, digits.option_parser("what it does", framework="torch"))

    return run


class Loader:
    def __init__(self, epoch, position):
        self.position = {"epoch": epoch, "position": position, "samples": 100}

    def state_dict(self):
        return self.position


def test_checkpoints_lie_below_the_data_unless_told_otherwise(command):
    found = []
    command(lambda options: found.append((options.uri, options.checkpoint)), "s3://bucket/digits/")
    command(lambda options: found.append(options.checkpoint), "s3://bucket/digits", "--checkpoint", "s3://other/run/")
    assert found == [("s3://bucket/digits", "s3://bucket/digits/checkpoints/torch"), "s3://other/run"]


def test_fresh_removes_the_checkpoints_and_nothing_else(command, tmp_path):
    root = tmp_path / "checkpoints" / "torch"
    for step in (10, 20):
        save_state(root, {"model": {"weight": 1.0}}, step=step)
    others = [root / "notes.txt", root / "kept" / "manifest.json", tmp_path / "train" / "step_0000000001" / "x.npz"]
    for other in others:
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_text("mine")
    seen = []
    command(lambda _options: seen.append(steps(root)), str(tmp_path))
    command(lambda _options: seen.append(steps(root)), str(tmp_path), "--fresh")
    assert seen == [[10, 20], []]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(others)


def test_an_error_is_one_line(command):
    def train(_options):
        raise NotFoundError("list s3://bucket/x: found no objects, expected at least one. Check the prefix.")

    with pytest.raises(SystemExit) as ended:
        command(train, "s3://bucket/x")
    assert ended.value.code == "error: list s3://bucket/x: found no objects, expected at least one. Check the prefix."


def test_ctrl_c_says_how_to_go_on(command, capsys):
    def train(_options):
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        command(train, "s3://bucket/x")
    assert ended.value.code == 128 + signal.SIGINT
    assert capsys.readouterr().out == "Stopped. The same command goes on from the last checkpoint.\n"


@pytest.mark.parametrize("option", ["--epochs", "--batch-size", "--checkpoint-every", "--kill-at"])
@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_numbers_are_positive(option, value, command, capsys):
    with pytest.raises(SystemExit) as ended:
        command(lambda _options: None, "uri", option, value)
    assert ended.value.code == 2
    assert f"argument {option}: invalid number value: '{value}'" in capsys.readouterr().err


def test_a_step_is_in_the_log_before_the_next_one_begins(command, digits, tmp_path, capsys):
    import numpy as np

    log = tmp_path / "log.jsonl"
    images = np.arange(3 * 64, dtype=np.float32).reshape(3, 8, 8)
    seen = []

    def train(options):
        with digits.Run(options) as run:
            for _epoch in run.epochs(Loader(epoch=1, position=94), step=7):
                for step in (8, 9):
                    run.step(step, 0.5 / step, images)
                    seen.append([json.loads(line) for line in log.read_text().splitlines()][-1])
        run.report(correct=345, total=360)

    command(train, "uri", "--epochs", "2", "--losses", str(log))
    assert [(line["step"], line["epoch"], line["loss"]) for line in seen] == [(8, 2, 0.0625), (9, 2, 0.5 / 9)]
    assert len(set(seen[0]["samples"])) == 3
    assert seen[0]["samples"] == seen[1]["samples"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Resuming after step 7 (epoch 2, sample 94 of 100)."
    assert lines[1].startswith("epoch 2/2  loss 0.0590  6 samples in ")
    assert lines[2:] == [
        "test accuracy        95.8% (345 of 360 samples)",
        "checkpoint           uri/checkpoints/torch/step_0000000009/",
    ]


def test_a_log_goes_on_where_it_was(command, digits, tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 1}\n')

    def train(options):
        with digits.Run(options):
            pass

    command(train, "uri", "--losses", str(log))
    assert log.read_text() == '{"step": 1}\n'
