"""Data sets in memory, and readers of what loaders give that know nothing of how."""

import io
import itertools

import numpy as np
import pytest

import s3dlio
from s3dlio.storage import MemoryStore

from ..threads import all_ended

_NAMES = itertools.count()


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


class Place:
    """A directory of a memory store."""

    def __init__(self):
        name = f"loader-{next(_NAMES)}"
        self.store = MemoryStore(name)
        self.store.clear()
        self.uri = f"memory://{name}/d/"

    def put(self, name, data):
        """``data`` is bytes, an array (NPY), or a dict of arrays (NPZ)."""
        if isinstance(data, dict):
            data = npz(**data)
        elif isinstance(data, np.ndarray):
            file = io.BytesIO()
            np.save(file, data)
            data = file.getvalue()
        self.store.put(f"d/{name}", data)

    def dataset(self, store=None, **options):
        """With ``store`` in place of the memory itself."""
        data = s3dlio.dataset(self.uri, **options)
        if store is None:
            return data
        return s3dlio.Dataset(store=store, manifest=data.manifest, format=data.format, fields=data.fields)


@pytest.fixture
def place():
    return Place()


@pytest.fixture
def labelled(place):
    """samples -> a place of that many NPZ, of which sample i holds x = i everywhere (4, 3) and label i."""

    def fill(samples):
        place.store.clear()
        for n in range(samples):
            place.put(f"{n:04d}.npz", {"x": np.full((4, 3), n, "<f4"), "label": np.int64(n)})
        return place

    return fill


@pytest.fixture
def labels():
    """batch -> its labels, after checking that x belongs to them."""

    def read(batch):
        assert (batch["x"] == batch["label"][:, None, None]).all()
        return batch["label"].tolist()

    return read


@pytest.fixture(autouse=True)
def no_thread_is_left(threads_of_this_test):
    yield
    assert all_ended()
