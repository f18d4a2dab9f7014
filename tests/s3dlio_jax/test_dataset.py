import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import s3dlio
import s3dlio_jax
from s3dlio.errors import ClosedError, FormatError, NotFoundError, OptionError, StateError

from ..threads import all_ended, threads_begun

CORE = {"batch_size": 4, "shuffle": True, "seed": 1}
OURS = {"global_batch_size": 4, "shuffle": True, "seed": 1}


def numbers(batches):
    return [[int(number) for number in batch["index"]] for batch in batches]


def loader_threads():
    return [thread.name for thread in threads_begun("s3dlio-loader")]


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment},
        timeout=200,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_order_is_the_core_loops(digits, digest):
    ours, core = s3dlio_jax.sharded_iterator(digits, **OURS), s3dlio.DataLoader(digits, **CORE)
    epochs = [digest(ours) for _ in range(2)]
    assert epochs == [digest(core) for _ in range(2)]
    assert epochs[0] != epochs[1]


def test_length_is_what_is_left(digits):
    ours = s3dlio_jax.sharded_iterator(digits, **OURS)
    assert len(ours) == 6
    rest = s3dlio_jax.sharded_iterator(digits, **OURS, state={**ours.state_dict(), "position": 8})
    assert [len(rest), len(list(rest)), len(rest), len(list(rest))] == [4, 4, 6, 6]


def test_the_state_advances_when_a_batch_is_handed_over(digits):
    ours = s3dlio_jax.sharded_iterator(digits, **OURS)
    assert ours.state_dict()["position"] == 0
    positions = [(ours.state_dict()["epoch"], ours.state_dict()["position"]) for _ in ours]
    assert positions == [(0, 4), (0, 8), (0, 12), (0, 16), (0, 20), (1, 0)]
    assert (ours.state_dict()["epoch"], ours.state_dict()["position"]) == (1, 0)


def test_a_pass_that_ends_early_counts(digits):
    ours, core = s3dlio_jax.sharded_iterator(digits, **OURS), s3dlio.DataLoader(digits, **CORE)
    first, second = numbers(core), numbers(core)
    assert [int(number) for number in next(iter(ours))["index"]] == first[0]
    assert ours.state_dict()["position"] == 4
    assert numbers(ours) == second


@pytest.mark.parametrize("cut", range(1, 7))
def test_resume_at_every_batch_twice_in_a_row_across_loops(digits, cut):
    """jax, saved; core, saved again; jax: together every sample of both epochs once, in order."""
    core = s3dlio.DataLoader(digits, **CORE)
    expected = numbers(core) + numbers(core)
    ours = s3dlio_jax.sharded_iterator(digits, **OURS)
    seen = [[int(number) for number in batch["index"]] for batch, _ in zip(ours, range(cut), strict=False)]
    # zip takes one batch more than it gives, unless the epoch ended: say what was used
    state = json.loads(json.dumps(ours.loader.state_dict(batches=cut) if cut < 6 else ours.state_dict()))
    core = s3dlio.DataLoader(digits, **CORE)
    core.load_state_dict(state)
    seen.append([int(number) for number in next(iter(core))["index"]])
    ours = s3dlio_jax.sharded_iterator(digits, **OURS, state=core.state_dict())
    seen += numbers(ours)
    if len(seen) < 12:
        seen += numbers(ours)
    assert seen[:12] == expected


def test_get_state_and_set_state(digits):
    ours = s3dlio_jax.sharded_iterator(digits, **OURS)
    batches = iter(ours)
    next(batches)
    state, rest = ours.get_state(), numbers(batches)
    ours.set_state(state)
    assert numbers(ours) == rest


def test_set_epoch(digits):
    ours, core = s3dlio_jax.sharded_iterator(digits, **OURS), s3dlio.DataLoader(digits, **CORE)
    core.set_epoch(5)
    ours.set_epoch(5)
    assert numbers(ours) == numbers(core)


def test_an_older_pass_is_ended(digits):
    ours = s3dlio_jax.sharded_iterator(digits, **OURS)
    first, second = iter(ours), iter(ours)
    next(first), next(second)
    state = ours.state_dict()
    with pytest.raises(ClosedError, match="another pass"):
        next(first)
    assert ours.state_dict() == state
    assert len(list(second)) == 5


def test_close(digits):
    with s3dlio_jax.sharded_iterator(digits, global_batch_size=1, prefetch_bytes=1) as ours:
        batches = iter(ours)
        next(batches)
        assert loader_threads()
    assert all_ended("s3dlio-loader")
    assert ours.state_dict()["position"] == 1
    with pytest.raises(ClosedError):
        next(batches)
    with pytest.raises(ClosedError):
        list(ours)


def test_leaving_the_loop_ends_its_threads(digits):
    ours = s3dlio_jax.sharded_iterator(digits, global_batch_size=1, prefetch_bytes=1)
    for _ in ours:
        assert loader_threads()
        break
    gc.collect()
    assert all_ended("s3dlio-loader")


@pytest.mark.parametrize(("options", "sizes"), [
    ({}, [4, 4, 4, 4, 4, 3]),
    ({"last": "pad"}, [4] * 6),
    ({"last": "drop"}, [4] * 5),
    ({"drop_last": True}, [4] * 5),
])  # fmt: skip
def test_the_last_batch(digits, options, sizes):
    assert [len(batch) for batch in numbers(s3dlio_jax.sharded_iterator(digits, **OURS, **options))] == sizes


def test_wrong_options_are_errors_at_construction(digits, tmp_path):
    with pytest.raises(OptionError, match="global_batch_size"):
        s3dlio_jax.sharded_iterator(digits, global_batch_size=0)
    with pytest.raises(OptionError, match="last"):
        s3dlio_jax.sharded_iterator(digits, **OURS, drop_last=True, last="pad")
    with pytest.raises(NotFoundError, match="nothing-here"):
        s3dlio_jax.sharded_iterator(f"{tmp_path}/nothing-here/", **OURS)
    state = s3dlio_jax.sharded_iterator(digits, **OURS).state_dict()
    with pytest.raises(StateError, match="seed"):
        s3dlio_jax.sharded_iterator(digits, global_batch_size=4, shuffle=True, seed=2, state=state)


def test_ragged_objects_are_an_error_that_names_one(tmp_path):
    for number in range(6):
        (tmp_path / f"{number}.bin").write_bytes(bytes(3 + (number == 4)))
    with pytest.raises(FormatError, match=r"4\.bin: field 'data' is uint8 \(4,\), expected uint8 \(3,\)"):
        list(s3dlio_jax.sharded_iterator(f"{tmp_path}/", global_batch_size=3, format="raw", shuffle=True, seed=1))


def test_an_object_that_vanished_is_named_at_its_place(digits):
    ours = s3dlio_jax.sharded_iterator(digits, global_batch_size=4)
    Path(f"{digits}017.npz").unlink()
    batches = iter(ours)
    for _ in range(3):
        next(batches)
    with pytest.raises(NotFoundError, match=r"017\.npz"):
        next(batches), next(batches)


def test_batches_live_without_the_iterator(tmp_path):
    for number in range(32):
        np.save(tmp_path / f"{number:02}.npy", np.full((64, 1024), number, np.int32))
    kept = [batch["data"] for batch in s3dlio_jax.sharded_iterator(f"{tmp_path}/", global_batch_size=2)]
    gc.collect()
    for number, batch in enumerate(kept):
        assert (np.asarray(batch) == np.array([2 * number, 2 * number + 1])[:, None, None]).all()


def test_a_jitted_step(digits):
    @jax.jit
    def step(batch):
        return jnp.sum(batch["image"]), batch["index"] * 2

    total, doubled = 0.0, []
    for batch in s3dlio_jax.sharded_iterator(digits, **OURS, last="pad"):
        one, twice = step(batch)
        total += float(one)
        doubled += np.asarray(twice).tolist()
    assert step._cache_size() == 1
    expected = sum(float(np.asarray(batch["image"]).sum()) for batch in s3dlio.DataLoader(digits, **CORE, last="pad"))
    assert total == pytest.approx(expected, rel=1e-5)
    assert set(doubled) == {2 * number for number in range(23)}


EIGHT = """
import json, sys
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
import s3dlio, s3dlio_jax
from s3dlio.errors import OptionError, StateError

data = {data!r}
mesh = Mesh(np.array(jax.devices()).reshape(4, 2), ("data", "model"))
sharding = NamedSharding(mesh, P("data", None, "model"))
found = {{"devices": len(jax.devices())}}

@jax.jit
def step(batch):
    return batch["image"].sum(0), batch["index"]

ours = s3dlio_jax.sharded_iterator(data, global_batch_size=8, sharding=sharding, shuffle=True, seed=1)
core = s3dlio.DataLoader(data, batch_size=8, shuffle=True, seed=1, last="pad")
order = []
for batch in ours:
    total, index = step(batch)
    order += np.asarray(index).tolist()
    image, label = batch["image"], batch["label"]
    assert image.sharding == sharding and image.shape == (8, 8, 8), image.sharding
    assert label.sharding.spec == P("data") and label.shape == (8,)
    assert {{tuple(shard.data.shape) for shard in image.addressable_shards}} == {{(2, 8, 4)}}
found["order"] = order == [int(i) for batch in core for i in batch["index"]]
found["last"] = ours.loader.plan.last
found["compiled"] = step._cache_size()

# pmap: the batch axis split by hand
ours = s3dlio_jax.sharded_iterator(data, global_batch_size=8, last="drop")
sums = [jax.pmap(lambda x: x.sum())(b["image"].reshape(8, 1, 8, 8)).shape for b in ours]
found["pmap"] = sums == [(8,)] * 2

# 7 of 23 do not divide over 4; everywhere they fit
found["short"] = s3dlio_jax.sharded_iterator(
    data, global_batch_size=8, sharding=NamedSharding(mesh, P())).loader.plan.last
try:
    s3dlio_jax.sharded_iterator(data, global_batch_size=8, sharding=sharding, last="short")
except OptionError as error:
    found["refused"] = str(error)
try:
    s3dlio_jax.sharded_iterator(data, global_batch_size=6, sharding=sharding)
except OptionError as error:
    found["indivisible"] = str(error)
print(json.dumps(found))
"""


def test_eight_devices(digits):
    found = run(EIGHT.format(data=digits), XLA_FLAGS="--xla_force_host_platform_device_count=8", JAX_PLATFORMS="cpu")
    refused, indivisible = found.pop("refused"), found.pop("indivisible")
    assert found == {"devices": 8, "order": True, "last": "pad", "compiled": 1, "pmap": True, "short": "short"}
    assert "field 'image' of shape (7, 8, 8) does not divide" in refused
    assert "field 'image' of shape (6, 8, 8) does not divide" in indivisible


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
    ours = s3dlio_jax.sharded_iterator(f"s3://{name}/train/", global_batch_size=2)
    assert [np.asarray(batch["data"])[:, 0].tolist() for batch in ours] == [[0, 1], [2, 3], [4]]


@pytest.mark.framework("tf")
@pytest.mark.parametrize("at", range(6))
def test_a_state_travels_through_all_loops(digits, at):
    """core -> tf -> jax -> core, each for two batches, across the end of an epoch."""
    import s3dlio_tf

    core = s3dlio.DataLoader(digits, **CORE)
    expected = numbers(core) + numbers(core) + numbers(core)
    core = s3dlio.DataLoader(digits, **CORE)
    seen = [[int(number) for number in batch["index"]] for _, batch in zip(range(at), core, strict=False)]
    state = core.state_dict()
    for kind in ("tf", "jax", "core"):
        for _ in range(2):  # one at a time: the second may be in the next epoch
            if kind == "tf":
                loop = s3dlio_tf.dataset(digits, **CORE, state=state)
            elif kind == "jax":
                loop = s3dlio_jax.sharded_iterator(digits, **OURS, state=state)
            else:
                loop = s3dlio.DataLoader(digits, **CORE)
                loop.load_state_dict(state)
            seen.append([int(number) for number in next(iter(loop))["index"]])
            state = json.loads(json.dumps(loop.loader.state_dict(batches=1) if kind == "tf" else loop.state_dict()))
    assert seen == expected[: at + 6]
