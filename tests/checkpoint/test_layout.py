"""Names of directories and files."""

import pytest

from s3dlio.checkpoint.layout import piece_path, shard_path, step_directory, step_number
from s3dlio.errors import OptionError
from s3dlio.uri import Uri


@pytest.mark.parametrize(
    ("uri", "step", "prefix", "named"),
    [
        ("s3://bucket/run", 100, "run/step_0000000100/", 100),
        ("s3://bucket/run/", 0, "run/step_0000000000/", 0),
        ("s3://bucket", 9_999_999_999, "step_9999999999/", 9_999_999_999),
        ("s3://bucket/checkpoints/epoch_0010/", None, "checkpoints/epoch_0010/", None),
        ("s3://bucket/run/step_0000000100", None, "run/step_0000000100/", 100),
        ("s3://bucket/run/step_0000000100/", 100, "run/step_0000000100/", 100),
        ("s3://bucket", None, "", None),
    ],
)
def test_step_directory(uri, step, prefix, named):
    found = step_directory(Uri.parse(uri), step)
    assert (found.prefix, found.step) == (prefix, named)
    assert found.manifest == prefix + "manifest.json"


@pytest.mark.parametrize("step", [-1, 10**10, True, 1.0, "1"])
def test_illegal_steps(step):
    with pytest.raises(OptionError, match="step"):
        step_directory(Uri.parse("s3://bucket/run"), step)


@pytest.mark.parametrize(
    "name", ["", "step_1", "step_00000000001", "step_000000001x", "xstep_0000000001", "step_٠٠٠٠٠٠٠٠٠١"]
)
def test_what_is_no_steps_directory(name):
    assert step_number(name) is None


def test_paths():
    assert shard_path("a1", 3, 7) == "data/a1/r00003-007.safetensors"
    assert piece_path("a1", 3) == "data/a1/r00003.json"
