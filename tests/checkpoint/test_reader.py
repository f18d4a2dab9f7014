"""Loading: what comes back, from where, and what damage looks like."""

import numpy as np
import pytest

import s3dlio.checkpoint.blocks
from s3dlio.checkpoint import CheckpointOptions, create_checkpoint_reader, create_checkpoint_writer
from s3dlio.errors import CheckpointError, ClosedError, OptionError, StorageError


@pytest.fixture
def saved(place):
    """A checkpoint of several files, each with several blocks, and what it holds."""
    generator = np.random.default_rng(1)
    arrays = {f"w{index}": generator.integers(0, 255, 900, np.uint8) for index in range(6)}
    arrays["big"] = generator.standard_normal((70, 11))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(s3dlio.checkpoint.blocks, "BLOCK_BYTES", 2048)
        with create_checkpoint_writer(
            place.uri, step=1, options=CheckpointOptions(buffer_bytes=0, shard_bytes=3000)
        ) as writer:
            writer.save_arrays(arrays)
            writer.save_object("loader", {"position": 3})
        yield arrays


def _equal(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_loads_what_was_saved(place, saved):
    with create_checkpoint_reader(place.uri) as reader:
        assert reader.names() == sorted(saved)
        _equal(reader.load_arrays(), saved)
        _equal({name: reader.load_array(name) for name in saved}, saved)
        _equal(reader.load_arrays(["w3", "w3", "big"]), {"w3": saved["w3"], "big": saved["big"]})
        assert reader.load_arrays([]) == {}
        reader.verify()


def test_an_array_is_the_callers_own(place, saved):
    with create_checkpoint_reader(place.uri) as reader:
        first, second = reader.load_array("big"), reader.load_array("big")
    assert first.flags.writeable
    assert first.flags.c_contiguous
    assert first.ctypes.data % 64 == 0
    first[:] = 0
    np.testing.assert_array_equal(second, saved["big"])


def test_an_unknown_name_is_told_with_near_ones(place, saved):
    with create_checkpoint_reader(place.uri) as reader:
        with pytest.raises(CheckpointError, match=r"load_array 'bigg' .*'big'"):
            reader.load_array("bigg")
        with pytest.raises(CheckpointError, match=r"load_object 'x' .*'loader'"):
            reader.load_object("x")
        with pytest.raises(CheckpointError, match=r"load_tree 'x' .*it has none"):
            reader.load_tree("x")


def test_a_closed_reader_refuses(place, saved):
    reader = create_checkpoint_reader(place.uri)
    reader.close()
    reader.close()
    for call in (reader.load_arrays, reader.verify, lambda: reader.load_object("loader")):
        with pytest.raises(ClosedError):
            call()


def test_a_store_that_was_passed_in_stays_open(place, saved):
    with create_checkpoint_reader(place.uri, store=place.store) as reader:
        reader.load_array("w0")
    assert place.files()


def test_neighbouring_small_arrays_share_a_request(memory_place):
    class Counting:
        def __init__(self, store):
            self._store, self.requests = store, 0

        def get_range(self, *args):
            self.requests += 1
            return self._store.get_range(*args)

        def get_into(self, *args):
            self.requests += 1
            return self._store.get_into(*args)

        def __getattr__(self, name):
            return getattr(self._store, name)

    with create_checkpoint_writer(memory_place.uri, step=1) as writer:
        for index in range(1000):
            writer.save_array(f"w{index}", np.full(10, index))
    store = Counting(memory_place.store)
    with create_checkpoint_reader(memory_place.uri, store=store) as reader:
        arrays = reader.load_arrays()
    assert all((arrays[f"w{index}"] == index).all() for index in range(1000))
    assert store.requests == 1


def _offsets(size, count=25):
    return sorted({*np.linspace(0, size - 1, count).astype(int).tolist(), *range(min(size, 10))})


def _damaged(place, path, data):
    """Load and verify the damaged checkpoint; the texts of the two errors, None where there was none."""
    good = place.files()[path]
    place.put(path, data)
    errors = []
    try:
        for action in (lambda reader: reader.load_arrays(), lambda reader: reader.verify()):
            try:
                with create_checkpoint_reader(place.uri) as reader:
                    action(reader)
                errors.append(None)
            except CheckpointError as error:
                errors.append(str(error))
    finally:
        place.put(path, good)
    return errors


def test_every_flipped_bit_is_found(place, saved):
    files = place.files()
    assert len(files) > 4
    for path, good in files.items():
        header = 8 + int.from_bytes(good[:8], "little") if path.endswith(".safetensors") else 0
        for offset in _offsets(len(good)):
            bad = bytearray(good)
            bad[offset] ^= 1 << (offset % 8)
            load, verify = _damaged(place, path, bytes(bad))
            assert verify is not None, (path, offset)
            assert path in verify
            if path.endswith("manifest.json"):
                assert load is not None
            elif path.endswith(".safetensors") and offset >= header:
                assert path in load
                assert "at block" in load
                assert any(f"'{name}'" in load for name in saved)


def test_every_truncation_is_found(place, saved):
    for path, good in place.files().items():
        for size in [0, *_offsets(len(good))]:
            load, verify = _damaged(place, path, good[:size])
            assert verify is not None, (path, size)
            assert path in verify
            if not path.endswith("r00000.json"):
                assert load is not None, (path, size)
                assert path in load


def test_appended_bytes_are_found(place, saved):
    for path, good in place.files().items():
        assert _damaged(place, path, good + b"\0")[1] is not None, path


def test_a_missing_file_is_named_with_its_arrays(place, saved):
    path = next(path for path in place.files() if path.endswith("000.safetensors"))
    place.delete(path)
    with create_checkpoint_reader(place.uri) as reader:
        with pytest.raises(CheckpointError, match="the file is missing") as caught:
            reader.load_arrays()
        assert path in str(caught.value)
        assert "'w0', 'w1'" in str(caught.value)
        with pytest.raises(CheckpointError, match="the file is missing"):
            reader.verify()


def test_uncommitted_data_is_no_checkpoint(place, saved):
    place.delete("step_0000000001/manifest.json")
    for arguments in ({}, {"step": 1}, {"step": "latest"}):
        with pytest.raises(CheckpointError, match="never committed"):
            create_checkpoint_reader(place.uri, **arguments)
    with pytest.raises(CheckpointError, match="never committed"):
        create_checkpoint_reader(place.uri + "/step_0000000001")


def test_a_short_transfer_of_a_whole_file_is_the_stores_error(place, saved):
    from s3dlio.errors import ShortReadError

    class Short:
        def __init__(self, store):
            self._store = store

        def get_into(self, *args):
            raise ShortReadError("cut")

        def get_range(self, *args):
            raise ShortReadError("cut")

        def __getattr__(self, name):
            return getattr(self._store, name)

    with (
        create_checkpoint_reader(place.uri, store=Short(place.store)) as reader,
        pytest.raises(ShortReadError, match="cut"),
    ):
        reader.load_arrays()


@pytest.mark.parametrize("verb", ["get", "list"])
def test_errors_of_the_store_are_never_no_checkpoint(place, saved, faulty, injected_error, verb):
    with pytest.raises(injected_error):
        create_checkpoint_reader(place.uri, store=faulty(place.store, fail_at=0, verbs=(verb,)))


def test_an_illegal_step_is_refused(place, saved):
    for step in ("newest", -1, 1.5):
        with pytest.raises(OptionError, match="step"):
            create_checkpoint_reader(place.uri, step=step)
    assert not issubclass(OptionError, StorageError)
