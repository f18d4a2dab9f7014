"""Small datasets in local directories, for the JAX adapter."""

import hashlib
import os

import numpy as np
import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # read when JAX is imported
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # read when TensorFlow is imported

SAMPLES = 23  # no multiple of any batch size used here


@pytest.fixture
def digits(tmp_path):
    """A directory of SAMPLES objects with image (8, 8), label and index."""
    root = tmp_path / "digits"
    root.mkdir()
    rng = np.random.default_rng(0)
    for number in range(SAMPLES):
        np.savez(
            root / f"{number:03}.npz",
            image=rng.random((8, 8), np.float32),
            label=np.int64(number % 3),
            index=np.int64(number),
        )
    return f"{root}/"


@pytest.fixture
def digest():
    """Batches -> sha256 of sample numbers, batch by batch."""

    def of(batches):
        text = "|".join(",".join(str(int(number)) for number in batch["index"]) for batch in batches)
        return hashlib.sha256(text.encode()).hexdigest()

    return of
