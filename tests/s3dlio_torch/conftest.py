"""A directory of NPZ files, and readers of batches that know nothing of how they came."""

import numpy as np
import pytest


@pytest.fixture
def labelled(tmp_path):
    """samples -> the path of that many NPZ, of which sample i holds x = i everywhere (2, 3) and label i."""

    def fill(samples):
        folder = tmp_path / "labelled"
        folder.mkdir(exist_ok=True)
        for n in range(samples):
            np.savez(folder / f"{n:04d}.npz", x=np.full((2, 3), n, "<f4"), label=np.int64(n))
        return str(folder)

    return fill


@pytest.fixture
def labels():
    """batch -> its labels, after checking that x belongs to them."""

    def read(batch):
        assert (batch["x"] == batch["label"][:, None, None]).all()
        return batch["label"].tolist()

    return read
