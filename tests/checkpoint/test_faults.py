"""A save that fails or dies at any point leaves the checkpoint before it whole, and itself invisible."""

import contextlib
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest

import s3dlio.checkpoint.writer
from s3dlio.checkpoint import CheckpointOptions, create_checkpoint_reader, create_checkpoint_writer, steps
from s3dlio.errors import CheckpointError, StorageError

_SMALL = CheckpointOptions(buffer_bytes=3000, shard_bytes=2000)


def _save(uri, step, value, **arguments):
    with create_checkpoint_writer(uri, step=step, options=_SMALL, **arguments) as writer:
        writer.save_tree("model", {"a": np.full(300, value), "b": [np.full(100, value), None]})
        writer.save_array("late", np.full(20, value))
        writer.save_object("loader", value)


def _whole(uri, step):
    """The value that all of a checkpoint was saved with; fails if it is mixed."""
    with create_checkpoint_reader(uri, step=step) as reader:
        reader.verify()
        tree = reader.load_tree("model")
        value = reader.load_object("loader")
        assert (tree["a"] == value).all()
        assert (tree["b"][0] == value).all()
        assert (reader.load_array("late") == value).all()
        return value


def _writes(place, faulty):
    counting = faulty(place.store)
    _save(place.uri, 99, 0, store=counting)
    for path in place.files():
        place.delete(path)
    return counting.count


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("again", [False, True], ids=["new step", "same step"])
def test_a_failure_at_every_write(place, faulty, injected_error, after, again):
    count = _writes(place, faulty)
    assert count > 10
    _save(place.uri, 1, 10)
    step = 1 if again else 2
    for k in range(count):
        store = faulty(place.store, fail_at=k, after=after)
        if after and k == count - 1:  # the commit took effect, and reading it back says so
            _save(place.uri, step, 20, store=store)
            assert _whole(place.uri, step) == 20
        else:
            before = set(place.files())
            with pytest.raises(injected_error):
                _save(place.uri, step, 20, store=store)
            assert steps(place.uri) == [1]
            assert _whole(place.uri, 1) == 10
            left = set(place.files()) - before
            assert not left or k == count - 1, left  # files stay only where the commit was tried
    _save(place.uri, step, 30)
    assert _whole(place.uri, step) == 30


def test_a_failed_commit_can_be_tried_again(place, faulty, injected_error):
    store = faulty(place.store, fail_at=_writes(place, faulty) - 1)
    writer = create_checkpoint_writer(place.uri, step=1, options=_SMALL, store=store)
    writer.save_tree("model", {"a": np.full(300, 5), "b": [np.full(100, 5), None]})
    writer.save_array("late", np.full(20, 5))
    writer.save_object("loader", 5)
    with pytest.raises(injected_error):
        writer.finalize()
    assert steps(place.uri) == []
    writer.finalize()
    assert _whole(place.uri, 1) == 5


def test_a_failed_array_can_never_be_committed(place, faulty, injected_error):
    store = faulty(place.store, fail_at=1)
    writer = create_checkpoint_writer(place.uri, step=1, store=store, options=CheckpointOptions(buffer_bytes=0))
    with pytest.raises(injected_error):
        writer.save_array("w", np.ones(10))
    for call in (writer.finalize, lambda: writer.save_array("x", np.ones(1)), writer.finalize):
        with pytest.raises(CheckpointError, match="an earlier write failed"):
            call()
    writer.abort()
    assert place.files() == {}


def test_a_commit_whose_outcome_is_unknown_says_so_and_keeps_its_files(memory_place, faulty):
    class Gone(faulty):
        """The manifest arrives, the answer does not, and the store cannot be reached afterwards."""

        failed = False

        def put(self, key, data, **options):
            self._store.put(key, data, **options)
            if key.endswith("manifest.json"):
                self.failed = True
                raise StorageError("no answer")

        def get(self, key):
            if self.failed:
                raise StorageError("no route")
            return self._store.get(key)

    with pytest.raises(StorageError, match="no answer") as caught:
        _save(memory_place.uri, 1, 7, store=Gone(memory_place.store))
    assert any("not known: no route" in note for note in caught.value.__notes__)
    assert _whole(memory_place.uri, 1) == 7


class _LostAnswer:
    """A store whose first put of a manifest arrives, but its answer does not, nor that of the next read."""

    def __init__(self, store, *, broken_puts=1):
        self._store = store
        self._broken_puts = broken_puts
        self._unreachable = False

    def put(self, key, data, **options):
        if key.endswith("manifest.json") and self._broken_puts:
            self._broken_puts -= 1
            if not self._unreachable:
                self._store.put(key, data, **options)
            self._unreachable = True
            raise StorageError("no answer")
        return self._store.put(key, data, **options)

    def get(self, key):
        if self._unreachable:
            self._unreachable = False
            raise StorageError("no route")
        return self._store.get(key)

    def __getattr__(self, name):
        return getattr(self._store, name)


def _writer(uri, value, store):
    writer = create_checkpoint_writer(uri, step=1, options=_SMALL, store=store)
    writer.save_tree("model", {"a": np.full(300, value), "b": [np.full(100, value), None]})
    writer.save_array("late", np.full(20, value))
    writer.save_object("loader", value)
    return writer


def test_finalizing_again_keeps_what_the_first_commit_did_unseen(place):
    _save(place.uri, 1, 10)
    writer = _writer(place.uri, 20, _LostAnswer(place.store))
    with pytest.raises(StorageError, match="no answer"):
        writer.finalize()
    assert _whole(place.uri, 1) == 20
    info = writer.finalize()
    assert _whole(place.uri, 1) == 20
    with create_checkpoint_reader(place.uri, step=1) as reader:
        assert reader.attempt == info.attempt


def test_a_commit_done_unseen_stays_whole_when_the_next_one_fails(place):
    writer = _writer(place.uri, 20, _LostAnswer(place.store, broken_puts=2))
    with pytest.raises(StorageError, match="no answer"):
        writer.finalize()
    before = place.files()
    for call in (
        lambda: writer.save_array("more", np.ones(3)),
        lambda: writer.save_object("more", 1),
        lambda: writer.save_tree("more", {}),
    ):
        with pytest.raises(CheckpointError, match="the commit was begun"):
            call()
    with pytest.raises(StorageError, match="no route"):  # it asks what it would replace
        writer.finalize()
    writer.abort()
    assert place.files() == before
    assert _whole(place.uri, 1) == 20


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_while_removing_the_old_files_leaves_the_commit(place, error):
    class Interrupted(_LostAnswer):
        deletes = 0
        commits = 0

        def put(self, key, data, **options):
            self.commits += key.endswith("manifest.json")
            return super().put(key, data, **options)

        def delete(self, key):
            self.deletes += 1
            raise error

    _save(place.uri, 1, 10)
    store = Interrupted(place.store, broken_puts=0)
    writer = _writer(place.uri, 20, store)
    with writer:
        with pytest.raises(error):
            writer.finalize()
        assert _whole(place.uri, 1) == 20
    assert (store.commits, store.deletes) == (1, 1)  # leaving the block did not do it once more
    assert _whole(place.uri, 1) == 20


def test_an_interrupt_while_removing_gives_up_a_store_of_its_own(memory_place, monkeypatch):
    closed = []

    @contextlib.contextmanager
    def own(*_):
        yield memory_place.store
        closed.append(True)

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(s3dlio.checkpoint.writer, "opened", own)
    monkeypatch.setattr(s3dlio.checkpoint.writer, "remove_replaced", interrupted)
    writer = _writer(memory_place.uri, 20, None)
    with pytest.raises(KeyboardInterrupt):
        writer.finalize()
    assert closed == [True]
    assert _whole(memory_place.uri, 1) == 20


def test_a_commit_that_could_not_begin_leaves_no_files(place, faulty, injected_error):
    _save(place.uri, 1, 10)
    before = place.files()
    with pytest.raises(injected_error):  # the read of the manifest that it would replace
        _save(place.uri, 1, 20, store=faulty(place.store, fail_at=0, verbs=("get",)))
    assert place.files() == before


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_ranks_piece_that_failed_is_removed(place, faulty, injected_error, after):
    with pytest.raises(injected_error):
        _save(place.uri, 1, 20, store=faulty(place.store, fail_at=0, after=after, verbs=("put",)))
    assert place.files() == {}


def test_files_that_cannot_be_removed_do_not_undo_a_commit(place, faulty):
    _save(place.uri, 1, 1)
    with pytest.warns(RuntimeWarning, match="committed, but files"):
        _save(place.uri, 1, 2, store=faulty(place.store, fail_at=0, verbs=("delete",)))
    assert _whole(place.uri, 1) == 2


def test_files_that_cannot_be_removed_do_not_hide_the_users_error(place, faulty):
    with (
        pytest.raises(ZeroDivisionError) as caught,
        create_checkpoint_writer(
            place.uri,
            step=1,
            options=CheckpointOptions(buffer_bytes=0),
            store=faulty(place.store, fail_at=0, verbs=("delete",)),
        ) as writer,
    ):
        writer.save_array("w", np.ones(10))
        1 / 0  # noqa: B018
    assert any("left behind" in note for note in caught.value.__notes__)
    assert steps(place.uri) == []


# Saves over and over in forked children, each of which kills itself at another line of the package.
_KILLED = textwrap.dedent("""
    import os, pathlib, signal, sys
    import numpy as np
    import s3dlio.checkpoint
    from s3dlio.checkpoint import CheckpointOptions, create_checkpoint_writer

    root, step, points = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    package = str(pathlib.Path(s3dlio.checkpoint.__file__).parents[1])

    def save(uri, step, value):
        options = CheckpointOptions(buffer_bytes=3000, shard_bytes=2000)
        with create_checkpoint_writer(uri, step=step, options=options) as writer:
            writer.save_tree("model", {"a": np.full(300, value), "b": [np.full(100, value), None]})
            writer.save_array("late", np.full(20, value))
            writer.save_object("loader", value)

    def traced(stop_at):
        lines = 0
        def on_line(frame, event, arg):
            nonlocal lines
            if event == "line":
                lines += 1
                if lines == stop_at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return on_line
        sys.settrace(lambda frame, event, arg: on_line if frame.f_code.co_filename.startswith(package) else None)
        save(uri, step, 20)
        sys.settrace(None)
        return lines

    uri = os.path.join(root, "whole")
    save(uri, 1, 10)
    total = traced(-1)
    for index in range(points):
        uri = os.path.join(root, f"{index:03d}")
        save(uri, 1, 10)
        child = os.fork()
        if not child:
            traced(1 + index * total // points)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    print("killed", points, "of", total)
""")


@pytest.mark.parametrize("step", [1, 2], ids=["same step", "new step"])
def test_a_killed_save_leaves_the_checkpoint_before_it(tmp_path, step):
    points = 60
    done = subprocess.run(
        [sys.executable, "-c", _KILLED, str(tmp_path), str(step), str(points)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"killed {points} of")
    outcomes = []
    for index in range(points):
        uri = str(tmp_path / f"{index:03d}")
        assert steps(uri) in ([1], [1, step])
        outcomes.append(_whole(uri, "latest"))
        if step == 2:
            assert _whole(uri, 1) == 10
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _save(uri, step, 30)  # what a killed save left is in nobody's way
        assert _whole(uri, step) == 30
    assert outcomes[0] == 10
    assert outcomes[-1] == 20  # killed after the commit
    assert outcomes == sorted(outcomes)
