"""Places to save checkpoints to, and stores that fail on demand."""

import contextlib
import itertools

import pytest

from s3dlio.errors import StorageError
from s3dlio.storage import open_store
from s3dlio.uri import Uri

_NAMES = itertools.count()


class Place:
    """A root in a store, with raw access to what is below it."""

    def __init__(self, uri):
        self.uri = uri
        self.root = Uri.parse(uri)
        self.store = open_store(uri)

    def files(self):
        """Path below the root -> content."""
        prefix = self.root.prefix
        keys = [key for batch in self.store.list(prefix) for key in batch.column("key").to_pylist()]
        return {key[len(prefix) :]: self.store.get(key).to_pybytes() for key in sorted(keys)}

    def put(self, path, data):
        self.store.put(self.root.prefix + path, data)

    def delete(self, path):
        self.store.delete(self.root.prefix + path)


@pytest.fixture(params=["memory", "local"])
def place(request, tmp_path):
    uri = f"memory://checkpoint-{next(_NAMES)}/run" if request.param == "memory" else str(tmp_path / "run")
    found = Place(uri)
    with contextlib.closing(found.store):
        yield found


@pytest.fixture
def memory_place():
    found = Place(f"memory://checkpoint-{next(_NAMES)}/run")
    with contextlib.closing(found.store):
        yield found


class InjectedError(StorageError):
    """What a FaultyStore raises."""


class FaultyStore:
    """A store whose k-th write fails, before or after it took effect.

    ``count`` is how many there were: puts, and of writers the openings, writes and closings.
    """

    def __init__(self, store, *, fail_at=None, after=False, verbs=("put", "open", "write", "close")):
        self._store = store
        self._fail_at = fail_at
        self._after = after
        self._verbs = verbs
        self.count = 0

    def step(self, verb, action):
        if verb not in self._verbs:
            return action()
        index, self.count = self.count, self.count + 1
        if index != self._fail_at:
            return action()
        if self._after:
            action()
        raise InjectedError(f"injected at {verb} {index}")

    def put(self, key, data, **options):
        return self.step("put", lambda: self._store.put(key, data, **options))

    def delete(self, key):
        return self.step("delete", lambda: self._store.delete(key))

    def get(self, key):
        return self.step("get", lambda: self._store.get(key))

    def list(self, prefix=""):
        return self.step("list", lambda: self._store.list(prefix))

    def open_writer(self, key):
        writer = self._store.open_writer(key)
        try:
            return self.step("open", lambda: _FaultyWriter(self, writer))
        except InjectedError:
            writer.abort()
            raise

    def __getattr__(self, name):
        return getattr(self._store, name)


class _FaultyWriter:
    def __init__(self, faulty, writer):
        self._faulty = faulty
        self._writer = writer

    def write(self, data):
        return self._faulty.step("write", lambda: self._writer.write(data))

    def close(self):
        return self._faulty.step("close", self._writer.close)

    def __enter__(self):
        self._writer.__enter__()
        return self

    def __exit__(self, *exc):
        return self._writer.__exit__(*exc)


@pytest.fixture
def faulty():
    return FaultyStore


@pytest.fixture
def injected_error():
    return InjectedError
