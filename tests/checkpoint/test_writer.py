"""Saving: names, lifetimes, ownership, memory, re-saving."""

import tracemalloc

import numpy as np
import pytest

from s3dlio.checkpoint import (
    CheckpointInfo,
    CheckpointOptions,
    create_checkpoint_reader,
    create_checkpoint_writer,
    steps,
)
from s3dlio.checkpoint.manifest import sealed, unsealed
from s3dlio.errors import CheckpointError, ClosedError, OptionError


def _save(place, value, step=1, **arguments):
    with create_checkpoint_writer(place.uri, step=step, **arguments) as writer:
        writer.save_array("w", np.full(1000, value, np.float32))
    return writer


def _load(place, **arguments):
    with create_checkpoint_reader(place.uri, **arguments) as reader:
        return reader.load_array("w")


def test_the_guides_example(place):
    np_array = np.arange(12.0).reshape(3, 4)
    uri = place.uri + "/checkpoints/epoch_0010/"

    writer = create_checkpoint_writer(uri=uri)
    writer.save_array("model_weights", np_array)
    info = writer.finalize()

    reader = create_checkpoint_reader(uri=uri)
    np.testing.assert_array_equal(reader.load_array("model_weights"), np_array)
    assert info == CheckpointInfo(uri=reader.uri, step=None, arrays=1, bytes=96, attempt=reader.attempt)
    assert set(place.files()) == {
        "checkpoints/epoch_0010/manifest.json",
        f"checkpoints/epoch_0010/data/{info.attempt}/r00000-000.safetensors",
        f"checkpoints/epoch_0010/data/{info.attempt}/r00000.json",
    }


def test_step_directory_below_a_root(place):
    _save(place, 1, step=100)
    assert "step_0000000100/manifest.json" in place.files()
    with create_checkpoint_reader(place.uri + "/step_0000000100") as reader:
        assert reader.step == 100


def test_nothing_is_visible_before_finalize(place):
    writer = create_checkpoint_writer(place.uri, step=1, options=CheckpointOptions(buffer_bytes=0))
    writer.save_array("w", np.ones(10))
    assert steps(place.uri) == []
    writer.finalize()
    assert steps(place.uri) == [1]


def test_leaving_the_block_finalizes(place):
    writer = _save(place, 3)
    assert _load(place)[0] == 3
    assert writer.finalize() is writer.finalize()


def test_an_exception_in_the_block_commits_nothing_and_removes_the_files(place):
    with (
        pytest.raises(ZeroDivisionError),
        create_checkpoint_writer(place.uri, step=1, options=CheckpointOptions(buffer_bytes=0)) as writer,
    ):
        writer.save_array("w", np.ones(10))
        assert place.files()
        1 / 0  # noqa: B018
    assert place.files() == {}
    with pytest.raises(ClosedError, match="aborted"):
        writer.finalize()


def test_abort_in_the_block_commits_nothing(place):
    with create_checkpoint_writer(place.uri, step=1) as writer:
        writer.save_array("w", np.ones(10))
        writer.abort()
        writer.abort()
    assert place.files() == {}


def test_an_error_after_finalize_keeps_the_checkpoint(place):
    with pytest.raises(ZeroDivisionError), create_checkpoint_writer(place.uri, step=1) as writer:
        writer.save_array("w", np.ones(10))
        writer.finalize()
        1 / 0  # noqa: B018
    writer.abort()
    assert _load(place)[0] == 1


def test_a_finalized_writer_takes_nothing_more(place):
    writer = _save(place, 1)
    for call in (
        lambda: writer.save_array("x", np.ones(1)),
        lambda: writer.save_object("x", 1),
        lambda: writer.save_tree("x", 1),
    ):
        with pytest.raises(ClosedError, match="finalized"):
            call()


def test_an_empty_checkpoint_is_refused(place):
    writer = create_checkpoint_writer(place.uri, step=1)
    with pytest.raises(CheckpointError, match="nothing was saved"):
        writer.finalize()
    writer.abort()
    with pytest.raises(CheckpointError, match="nothing was saved"), create_checkpoint_writer(place.uri, step=1):
        pass
    assert place.files() == {}


def test_a_writer_that_is_dropped_warns(memory_place):
    writer = create_checkpoint_writer(memory_place.uri, step=1)
    with pytest.warns(ResourceWarning, match="nothing was saved"):
        del writer  # the last reference: collected at once


@pytest.mark.parametrize("name", ["", None, 3, "\ud800", "__metadata__"])
def test_illegal_array_names(memory_place, name):
    with create_checkpoint_writer(memory_place.uri, step=1) as writer:
        with pytest.raises(CheckpointError, match="expected"):
            writer.save_array(name, np.ones(1))
        writer.save_array("w", np.ones(1))
    with create_checkpoint_reader(memory_place.uri) as reader:
        assert reader.names() == ["w"]


def test_names_are_unique_in_their_kind(memory_place):
    with create_checkpoint_writer(memory_place.uri, step=1) as writer:
        writer.save_array("a", np.ones(1))
        writer.save_object("a", 1)
        writer.save_tree("a", {"b": np.zeros(1)})
        with pytest.raises(CheckpointError, match="save_array 'a': the name is taken"):
            writer.save_array("a", np.ones(1))
        with pytest.raises(CheckpointError, match="save_array 'a/b'"):
            writer.save_array("a/b", np.ones(1))
        with pytest.raises(CheckpointError, match="save_object 'a'"):
            writer.save_object("a", 2)
        with pytest.raises(CheckpointError, match="save_tree 'a'"):
            writer.save_tree("a", 2)
    with create_checkpoint_reader(memory_place.uri) as reader:
        assert (reader.names(), reader.objects(), reader.trees()) == (["a", "a/b"], ["a"], ["a"])
        assert reader.load_array("a")[0] == 1
        assert reader.load_array("a/b")[0] == 0


@pytest.mark.parametrize("buffer_bytes", [0, 1 << 20])
def test_the_caller_may_reuse_its_memory(place, buffer_bytes):
    array, value = np.arange(100), {"at": [1]}
    with create_checkpoint_writer(place.uri, step=1, options=CheckpointOptions(buffer_bytes=buffer_bytes)) as writer:
        writer.save_array("w", array)
        writer.save_object("o", value)
        array[:] = -1
        value["at"].append(2)
    with create_checkpoint_reader(place.uri) as reader:
        np.testing.assert_array_equal(reader.load_array("w"), np.arange(100))
        assert reader.load_object("o") == {"at": [1]}


def test_saving_a_step_again_replaces_it_and_removes_only_its_files(place):
    first = _save(place, 1)
    place.put("step_0000000001/notes.txt", b"mine")
    place.put("step_0000000001/data/other/r00000-000.safetensors", b"another attempt")
    second = _save(place, 2)
    assert _load(place)[0] == 2
    files = "\n".join(place.files())
    assert first.finalize().attempt not in files
    assert second.finalize().attempt in files
    assert "notes.txt" in files
    assert "data/other/" in files


def test_files_outside_its_own_attempt_outlive_the_manifest_that_names_them(place):
    _save(place, 1)
    path = "step_0000000001/manifest.json"
    document = unsealed(place.files()[path], path)
    document["files"]["data/shared/r00000-000.safetensors"] = {"size": 0, "ends": [], "crc32c": []}
    place.put(path, sealed(document))
    place.put("step_0000000001/data/shared/r00000-000.safetensors", b"used by others")
    _save(place, 2)
    assert "step_0000000001/data/shared/r00000-000.safetensors" in place.files()


def test_a_damaged_manifest_is_replaced_and_its_files_are_left(place):
    attempt = _save(place, 1).finalize().attempt
    place.put("step_0000000001/manifest.json", b"{")
    _save(place, 2)
    assert _load(place)[0] == 2
    assert attempt in "\n".join(place.files())


def test_metadata_and_objects_travel_in_the_commit(place):
    with create_checkpoint_writer(place.uri, step=7, metadata={"epoch": 2, "tags": ["a"]}) as writer:
        writer.save_object("loader", {"version": 1, "position": 12345678901234567890, "seed": None})
    with create_checkpoint_reader(place.uri) as reader:
        metadata = reader.metadata
        assert metadata["step"] == 7
        assert metadata["created"].endswith("+00:00")
        assert (metadata["epoch"], metadata["tags"]) == (2, ["a"])
        metadata["tags"].append("changed by the caller")
        assert reader.metadata["tags"] == ["a"]
        assert reader.load_object("loader") == {"version": 1, "position": 12345678901234567890, "seed": None}
        assert reader.names() == []


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"step": -1}, "step"),
        ({"step": 10**10}, "step"),
        ({"step": True}, "step"),
        ({"step": "latest"}, "step"),
        ({"rank": 1}, "rank"),
        ({"world_size": 2}, "world_size"),
        ({"metadata": {"x": {1, 2}}}, "metadata"),
        ({"metadata": 3}, "metadata"),
    ],
)
def test_illegal_options(memory_place, arguments, field):
    with pytest.raises(OptionError) as caught:
        create_checkpoint_writer(memory_place.uri, **arguments)
    assert caught.value.field == field


@pytest.mark.parametrize("options", [{"shard_bytes": 0}, {"buffer_bytes": -1}, {"shard_bytes": 1.5}])
def test_illegal_sizes(options):
    with pytest.raises(OptionError) as caught:
        CheckpointOptions(**options)
    assert caught.value.field in options


class _Void:
    """A store that keeps nothing and counts what it is given."""

    def __init__(self, store):
        self._store = store
        self.written = 0

    def open_writer(self, key):
        return self

    def write(self, data):
        self.written += len(data)
        return len(data)

    def close(self):
        return type("Meta", (), {"size": self.written})

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __getattr__(self, name):
        return getattr(self._store, name)


@pytest.mark.parametrize(("transposed", "bound"), [(False, 1 << 20), (True, 24 << 20)])
def test_a_large_array_is_written_without_a_copy_of_it(memory_place, transposed, bound):
    array = np.zeros((4096, 4096), np.float32)  # 64 MiB
    store = _Void(memory_place.store)
    writer = create_checkpoint_writer(
        memory_place.uri, step=1, store=store, options=CheckpointOptions(buffer_bytes=1 << 20)
    )
    tracemalloc.start()
    try:
        writer.save_array("w", array.T if transposed else array)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        writer.abort()
    assert store.written > array.nbytes
    assert peak < bound


def test_waiting_copies_stay_within_the_buffer(memory_place):
    store = _Void(memory_place.store)
    writer = create_checkpoint_writer(
        memory_place.uri, step=1, store=store, options=CheckpointOptions(buffer_bytes=4 << 20)
    )
    array = np.zeros(1 << 18, np.float32)  # 1 MiB
    tracemalloc.start()
    try:
        for index in range(40):
            store.written = 0  # each file is of its own
            writer.save_array(f"w{index}", array)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        writer.abort()
    assert peak < 5 << 20


def test_a_store_that_keeps_fewer_bytes_is_found_out(memory_place):
    class Lossy(_Void):
        def close(self):
            return type("Meta", (), {"size": self.written - 1})

    writer = create_checkpoint_writer(
        memory_place.uri, step=1, store=Lossy(memory_place.store), options=CheckpointOptions(buffer_bytes=0)
    )
    with pytest.raises(CheckpointError, match="the store has"):
        writer.save_array("w", np.ones(10))
    with pytest.raises(CheckpointError, match="an earlier write failed"):
        writer.finalize()
    writer.abort()
