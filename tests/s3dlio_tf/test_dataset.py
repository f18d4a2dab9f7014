import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import s3dlio
import s3dlio_tf
from s3dlio.errors import FormatError, NotFoundError, OptionError, StateError

from ..threads import all_ended, threads_begun

ORDER = {"batch_size": 4, "shuffle": True, "seed": 1}


def loader_threads():
    return [thread.name for thread in threads_begun("s3dlio-loader")]


def numbers(batches):
    return [[int(number) for number in batch["index"]] for batch in batches]


def test_order_is_the_core_loops(digits, digest):
    ours, core = s3dlio_tf.dataset(digits, **ORDER), s3dlio.DataLoader(digits, **ORDER)
    epochs = [digest(ours) for _ in range(2)]
    assert epochs == [digest(core) for _ in range(2)]
    assert epochs[0] != epochs[1]


@pytest.mark.parametrize("change", [
    lambda found: found.map(lambda batch: batch),
    lambda found: found.prefetch(5),
    lambda found: found.map(lambda batch: batch, num_parallel_calls=2).prefetch(tf.data.AUTOTUNE),
])  # fmt: skip
def test_order_survives_map_and_prefetch(change, digits, digest):
    ours, core = change(s3dlio_tf.dataset(digits, **ORDER)), s3dlio.DataLoader(digits, **ORDER)
    assert [digest(ours) for _ in range(2)] == [digest(core) for _ in range(2)]


def test_repeat_goes_through_the_epochs(digits):
    core = s3dlio.DataLoader(digits, **ORDER)
    expected = numbers(core) + numbers(core) + numbers(core)
    assert numbers(s3dlio_tf.dataset(digits, **ORDER).repeat().take(15)) == expected[:15]
    assert numbers(s3dlio_tf.dataset(digits, **ORDER).repeat(2)) == expected[:12]


def test_a_pass_that_ends_early_counts(digits):
    ours, core = s3dlio_tf.dataset(digits, **ORDER), s3dlio.DataLoader(digits, **ORDER)
    first, second = numbers(core), numbers(core)
    assert numbers(ours.take(2)) == first[:2]
    assert numbers(ours) == second


def test_ranks_share_the_epoch(digits):
    shares = [s3dlio_tf.dataset(digits, batch_size=4, rank=rank, world_size=2, last="short") for rank in range(2)]
    seen = [number for share in shares for batch in numbers(share) for number in batch]
    assert sorted(seen) == list(range(23))


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        ({"batch_size": 4}, None),
        ({"batch_size": 4, "drop_last": True}, 4),
        ({"batch_size": 4, "last": "pad"}, 4),
        ({"batch_size": 23}, 23),
    ],
)
def test_element_spec_is_exact(digits, options, rows):
    ours = s3dlio_tf.dataset(digits, **options)
    assert ours.element_spec == {
        "image": tf.TensorSpec((rows, 8, 8), tf.float32),
        "index": tf.TensorSpec((rows,), tf.int64),
        "label": tf.TensorSpec((rows,), tf.int64),
    }
    for batch in ours:
        for field, spec in ours.element_spec.items():
            assert spec.is_compatible_with(batch[field])


def test_cardinality_is_that_of_an_epoch(digits):
    ours = s3dlio_tf.dataset(digits, **ORDER)
    assert ours.cardinality().numpy() == len(ours) == 6
    middle = ours.loader.state_dict(batches=2)
    end = ours.loader.state_dict(batches=6)
    assert s3dlio_tf.dataset(digits, **ORDER, state=end).cardinality().numpy() == 6
    rest = s3dlio_tf.dataset(digits, **ORDER, state=middle)
    assert rest.cardinality().numpy() == tf.data.UNKNOWN_CARDINALITY
    assert [len(numbers(rest)), len(numbers(rest))] == [4, 6]


def test_the_batch_size_of_a_resumed_epoch_is_not_promised(digits):
    state = s3dlio_tf.dataset(digits, batch_size=4).loader.state_dict(batches=1)
    rest = s3dlio_tf.dataset(digits, batch_size=23, state=state)
    assert rest.element_spec["index"].shape.as_list() == [None]
    assert [len(batch) for batch in numbers(rest)] == [19]


def test_no_other_sharding(digits):
    policy = s3dlio_tf.dataset(digits, **ORDER).options().experimental_distribute.auto_shard_policy
    assert policy == tf.data.experimental.AutoShardPolicy.OFF


@pytest.mark.parametrize("cut", range(7))
def test_resume_at_every_batch_twice_in_a_row_across_loops(digits, cut):
    """tf, saved; core, saved again; tf: together every sample of both epochs once, in order."""
    core = s3dlio.DataLoader(digits, **ORDER)
    expected = numbers(core) + numbers(core)
    ours = s3dlio_tf.dataset(digits, **ORDER)
    seen = numbers(ours.prefetch(4).take(cut)) if cut else []
    state = json.loads(json.dumps(ours.loader.state_dict(batches=cut)))
    core = s3dlio.DataLoader(digits, **ORDER)
    core.load_state_dict(state)
    seen.append([int(number) for number in next(iter(core))["index"]])
    ours = s3dlio_tf.dataset(digits, **ORDER, state=core.state_dict())
    first = numbers(ours)
    seen += first
    if len(seen) < 12:
        seen += numbers(ours)
    assert seen[:12] == expected


def test_prefetch_to_the_end_does_not_move_the_position(digits):
    ours = s3dlio_tf.dataset(digits, **ORDER)
    iterator = iter(ours.prefetch(100))
    first = next(iterator)
    list(iterator)  # all are taken; a training loop may still be at the first
    state = ours.loader.state_dict(batches=1)
    assert (state["epoch"], state["position"]) == (0, len(first["index"]))


def test_raw_objects_of_unequal_sizes_are_ragged(tmp_path):
    sizes = [0, 3, 6, 9, 9, 9, 1]
    for number, size in enumerate(sizes):
        (tmp_path / f"{number}.bin").write_bytes(bytes([number]) * size)
    ours = s3dlio_tf.dataset(f"{tmp_path}/", batch_size=3, format="raw")
    assert ours.element_spec == {"data": tf.RaggedTensorSpec((None, None), tf.uint8, 1, tf.int64)}
    assert [row for batch in ours for row in batch["data"].to_list()] == [[n] * size for n, size in enumerate(sizes)]
    lengths = [int(length) for batch in ours.map(lambda batch: batch["data"].row_lengths()) for length in batch]
    assert lengths == sizes


def test_raw_objects_of_equal_sizes_are_not(tmp_path):
    for number in range(4):
        (tmp_path / f"{number}.bin").write_bytes(bytes([number]) * 5)
    ours = s3dlio_tf.dataset(f"{tmp_path}/", batch_size=2, format="raw")
    assert ours.element_spec == {"data": tf.TensorSpec((2, 5), tf.uint8)}
    assert [batch["data"].numpy().tolist() for batch in ours] == [[[0] * 5, [1] * 5], [[2] * 5, [3] * 5]]


def test_text_fields(tmp_path):
    for number, name in enumerate(["a", "bcd", "é"]):
        np.savez(tmp_path / f"{number}.npz", name=np.array(name), raw=np.bytes_(name.encode()))
    (batch,) = s3dlio_tf.dataset(f"{tmp_path}/", batch_size=3)
    assert batch["name"].numpy().tolist() == batch["raw"].numpy().tolist() == [b"a", b"bcd", "é".encode()]


def test_batches_live_without_the_dataset(tmp_path):
    for number in range(32):
        np.save(tmp_path / f"{number:02}.npy", np.full((64, 1024), number, np.int32))
    kept = [batch["data"] for batch in s3dlio_tf.dataset(f"{tmp_path}/", batch_size=2)]
    gc.collect()
    for number, batch in enumerate(kept):
        assert (batch.numpy() == np.array([2 * number, 2 * number + 1])[:, None, None]).all()


def test_wrong_options_are_errors_at_construction(digits, tmp_path):
    with pytest.raises(OptionError, match="batch_size"):
        s3dlio_tf.dataset(digits, batch_size=0)
    with pytest.raises(NotFoundError, match="nothing-here"):
        s3dlio_tf.dataset(f"{tmp_path}/nothing-here/", batch_size=4)
    state = s3dlio_tf.dataset(digits, **ORDER).loader.state_dict()
    with pytest.raises(StateError, match="seed"):
        s3dlio_tf.dataset(digits, batch_size=4, shuffle=True, seed=2, state=state)
    np.savez(tmp_path / "when.npz", when=np.datetime64("2020-01-01"))
    with pytest.raises(FormatError, match=r"when\.npz: field 'when' is datetime64\[D\]"):
        s3dlio_tf.dataset(f"{tmp_path}/when.npz", batch_size=1)


@pytest.mark.parametrize(
    ("arrays", "found"),
    [
        ({"data": np.zeros((2, 3), np.float32)}, r"field 'data' is float32 \(2, 3\), expected float32 \(2, 2\)"),
        ({"data": np.zeros((2, 2), np.float64)}, r"field 'data' is float64"),
        ({"other": np.zeros((2, 2), np.float32)}, "other"),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_an_object_unlike_the_first_is_named_in_the_first_line(tmp_path, arrays, found, batch_size):
    for number in range(7):
        np.savez(tmp_path / f"{number}.npz", data=np.zeros((2, 2), np.float32))
    np.savez(tmp_path / "4.npz", **arrays)
    ours = s3dlio_tf.dataset(f"{tmp_path}/", batch_size=batch_size, shuffle=True, seed=1)
    with pytest.raises(tf.errors.OpError, match=rf"\A[^\n]*FormatError: read [^\n]*({found})") as caught:
        list(ours.map(lambda batch: batch).prefetch(2))
    assert "4.npz" in str(caught.value).partition("\n")[0]


def test_an_object_that_vanished_is_named_in_the_first_line(digits):
    ours = s3dlio_tf.dataset(digits, batch_size=4)
    Path(f"{digits}009.npz").unlink()
    batches = iter(ours)
    next(batches), next(batches)
    with pytest.raises(tf.errors.OpError, match=r"\A[^\n]*NotFoundError: [^\n]*009\.npz"):
        next(batches)


def test_two_iterators_at_once_are_an_error(digits):
    ours = s3dlio_tf.dataset(digits, batch_size=4)
    first, second = iter(ours), iter(ours)
    next(first), next(second)
    with pytest.raises(tf.errors.OpError, match=r"\A[^\n]*ClosedError: [^\n]*another iterator of this dataset"):
        list(first)  # tf.data may have taken some batches ahead
    assert len(list(second)) == 5


def test_an_abandoned_pass_ends_with_the_next_one_or_the_dataset(digits):
    ours = s3dlio_tf.dataset(digits, batch_size=1, prefetch_bytes=1)
    next(iter(ours.prefetch(2)))
    first = loader_threads()
    assert first
    next(iter(ours))
    assert len(loader_threads()) == len(first)
    del ours
    gc.collect()
    assert all_ended("s3dlio-loader")


def test_the_interpreter_ends_with_a_pass_under_way(digits):
    code = f"""
import s3dlio_tf
batches = iter(s3dlio_tf.dataset({digits!r}, batch_size=1, prefetch_bytes=1).repeat().prefetch(3))
next(batches)
print("ok")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, timeout=120, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_a_mirrored_strategy_takes_each_batch_once(digits):
    code = f"""
import json
import s3dlio_tf, tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
seen = []
for batch in strategy.experimental_distribute_dataset(s3dlio_tf.dataset({digits!r}, batch_size=4)):
    for part in strategy.experimental_local_results(batch["index"]):
        seen += part.numpy().tolist()
print(json.dumps(seen))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ, timeout=120, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == list(range(23))


def test_from_s3(moto_environment, tmp_path):
    import boto3

    name = moto_environment.new_container()
    client = boto3.client(
        "s3",
        endpoint_url=moto_environment.endpoint_url,
        region_name=moto_environment.region,
        aws_access_key_id=moto_environment.access_key,
        aws_secret_access_key=moto_environment.secret_key,
    )
    for number in range(5):
        np.save(tmp_path / "one.npy", np.full(3, number, np.float32))
        client.put_object(Bucket=name, Key=f"train/{number}.npy", Body=(tmp_path / "one.npy").read_bytes())
    client.close()
    ours = s3dlio_tf.dataset(f"s3://{name}/train/", batch_size=2)
    assert [batch["data"].numpy()[:, 0].tolist() for batch in ours] == [[0, 1], [2, 3], [4]]
