"""The main job as a user does it, on an S3 API: one order everywhere, forks that finish, errors that say what is wrong.

Every case is a script of its own, as a user's would be.
"""

import io
import json
import os
import re
import subprocess
import sys

import boto3
import numpy as np
import pytest

SAMPLES = 333  # not a multiple of the batch: the last one is short
BATCH = 20
URI = "s3://{bucket}/main-job/train/"


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def sample(number):
    return npz(image=np.full((8, 8), number, np.float32), label=np.int64(number % 10), index=np.int64(number))


@pytest.fixture(scope="module")
def bucket(moto_server):
    """A bucket with ``SAMPLES`` samples, and some broken ones, written past the library."""
    name = moto_server.new_container()
    client = boto3.client(
        "s3",
        endpoint_url=moto_server.endpoint_url,
        region_name=moto_server.region,
        aws_access_key_id=moto_server.access_key,
        aws_secret_access_key=moto_server.secret_key,
    )
    for number in range(SAMPLES):
        client.put_object(Bucket=name, Key=f"main-job/train/{number:05d}.npz", Body=sample(number))
    for number in range(30):
        whole = sample(number)
        cut = whole[: len(whole) // 2] if number == 13 else whole
        unlabelled = npz(image=np.zeros((8, 8), np.float32), index=np.int64(13)) if number == 13 else whole
        client.put_object(Bucket=name, Key=f"main-job/cut/{number:02d}.npz", Body=cut)
        client.put_object(Bucket=name, Key=f"main-job/unlabelled/{number:02d}.npz", Body=unlabelled)
    client.close()
    return name


def script(code, *, server, bucket, timeout=120, **environment):
    """Run ``code`` as a script; its last line of output is JSON."""
    code = f"BATCH, URI = {BATCH}, {URI.format(bucket=bucket)!r}\n" + code
    variables = {**os.environ, **server.environment, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    variables |= {"JAX_PLATFORMS": "cpu", **environment}
    variables = {name: value for name, value in variables.items() if value is not None}
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, timeout=timeout, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


EPOCHS = """
import hashlib, json
def digest(loop):  # sha256 of the sample numbers of two epochs, and the batch sizes of the first
    epochs = [[[int(i) for i in batch["index"]] for batch in loop] for _ in range(2)]
    text = json.dumps(epochs)
    print(json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "sizes": [len(b) for b in epochs[0]],
                      "samples": [sorted(sum(epoch, [])) for epoch in epochs], "same": epochs[0] == epochs[1]}))
"""
CORE = (
    EPOCHS
    + """
import s3dlio
digest(s3dlio.DataLoader(s3dlio.dataset(URI), batch_size=BATCH, shuffle=True, seed=1))
"""
)
LOOPS = {
    "torch-0": """
from s3dlio_torch import S3IterableDataset
from torch.utils.data import DataLoader
digest(DataLoader(S3IterableDataset(URI, batch_size=BATCH, shuffle=True, seed=1), batch_size=None, num_workers=0))
""",
    "tf": """
import s3dlio_tf
digest(s3dlio_tf.dataset(URI, batch_size=BATCH, shuffle=True, seed=1))
""",
    "jax": """
import jax, s3dlio_jax
sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
digest(s3dlio_jax.sharded_iterator(URI, global_batch_size=BATCH, sharding=sharding, shuffle=True, seed=1))
""",
    "core-arrow": """
import s3dlio
digest(s3dlio.DataLoader(
    s3dlio.dataset(URI, storage_options={"backend": "arrow"}), batch_size=BATCH, shuffle=True, seed=1))
""",
}
LOOPS |= {f"torch-{workers}": LOOPS["torch-0"].replace("num_workers=0", f"num_workers={workers}") for workers in (2, 5)}
LOOPS |= {
    f"ranks-{ranks}": f"""
import s3dlio
class Merged:
    loaders = [s3dlio.DataLoader(URI, batch_size=BATCH // {ranks}, shuffle=True, seed=1, rank=r, world_size={ranks},
                                 last="short") for r in range({ranks})]
    def __iter__(self):
        for batches in zip(*self.loaders, strict=True):
            yield {{"index": [i for batch in batches for i in batch["index"]]}}
digest(Merged())
"""
    for ranks in (1, 2)
}
LOOPS["ranks-3"] = LOOPS["ranks-2"].replace("BATCH // 2", "BATCH // 3").replace("world_size=2", "world_size=3")
LOOPS["ranks-3"] = LOOPS["ranks-3"].replace("range(2)", "range(3)")


def framework_of(name):
    framework = name.partition("-")[0]
    return [pytest.mark.framework(framework)] if framework in {"torch", "tf", "jax"} else []


@pytest.fixture(scope="module")
def core(moto_server, bucket):
    found, _ = script(CORE, server=moto_server, bucket=bucket)
    assert found["samples"] == [list(range(SAMPLES))] * 2
    assert found["sizes"] == [BATCH] * (SAMPLES // BATCH) + [SAMPLES % BATCH]
    assert not found["same"], "every epoch has an order of its own"
    return found


@pytest.mark.parametrize("name", [pytest.param(name, marks=framework_of(name)) for name in LOOPS if name != "ranks-3"])
def test_every_loop_gives_the_same_batches(name, core, moto_server, bucket):
    found, _ = script(EPOCHS + LOOPS[name], server=moto_server, bucket=bucket)
    assert found["sha256"] == core["sha256"]


def test_three_ranks_give_the_same_samples_in_the_same_order(moto_server, bucket):
    """Three ranks of 6 make steps of 18, so the batches differ, but not the sequence."""
    flat = EPOCHS.replace("text = json.dumps(epochs)", "text = json.dumps([sum(epoch, []) for epoch in epochs])")
    one = CORE.replace(EPOCHS, flat)
    single, _ = script(one, server=moto_server, bucket=bucket)
    three, _ = script(flat + LOOPS["ranks-3"], server=moto_server, bucket=bucket)
    assert three["sha256"] == single["sha256"]
    assert three["samples"] == [list(range(SAMPLES))] * 2


FORK = """
import json, os, time, warnings
from torch.utils.data import DataLoader
import s3dlio
from s3dlio_torch import S3IterableDataset

if __name__ == "__main__":
    parent = s3dlio.DataLoader(s3dlio.dataset(URI), batch_size=BATCH, shuffle=True, seed=1)   # lists, native
    expected = [batch["index"].tolist() for batch in parent]                                  # reads, native
    began = time.monotonic()
    dataset = S3IterableDataset(URI, batch_size=BATCH, shuffle=True, seed=1)
    loader = DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=os.environ["METHOD"])
    found = [batch["index"].tolist() for batch in loader]
    print(json.dumps({"same": found == expected, "seconds": time.monotonic() - began}))
"""


@pytest.mark.framework("torch")
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_finish_whatever_the_parent_did(method, moto_server, bucket, tmp_path):
    """List and read through the native engine in the parent, then two workers: done within 60 s, and the same."""
    path = tmp_path / "main.py"  # a file: spawned workers import it
    path.write_text(f"BATCH, URI = {BATCH}, {URI.format(bucket=bucket)!r}\n" + FORK)
    done = subprocess.run(
        [sys.executable, str(path)],
        env={**os.environ, **moto_server.environment, "METHOD": method},
        timeout=100,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["same"]
    assert found["seconds"] < 60
    assert ("ForkWarning" in done.stderr) == (method == "fork"), "told once, and only where it is slower"


READ = """
from s3dlio_torch import S3IterableDataset
import json
try:
    for batch in S3IterableDataset(URI, batch_size=BATCH):
        pass
    print(json.dumps("no error"))
except Exception as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""
BAD = {
    "missing bucket": ({"uri": "s3://no-such-bucket/x/"}, "NotFoundError", r"no-such-bucket.*does not exist"),
    "empty prefix": ({"uri": "s3://{bucket}/nothing/"}, "NotFoundError", r"s3://{bucket}/nothing/: found no objects"),
    "unreachable endpoint": (
        {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
        "StorageTimeoutError",
        r"http://127.0.0.1:9.*AWS_ENDPOINT_URL",
    ),
    "no credentials": (
        {"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None},
        "AccessError",
        r"AWS_ACCESS_KEY_ID",
    ),
    "NPZ cut in half": ({"uri": "s3://{bucket}/main-job/cut/"}, "FormatError", r"cut/13\.npz.*truncated"),
    "label missing": (
        {"uri": "s3://{bucket}/main-job/unlabelled/"},
        "FormatError",
        r"unlabelled/13\.npz: found fields image, index, expected label",
    ),
}


@pytest.mark.framework("torch")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(case, moto_server, bucket):
    changes, kind, text = BAD[case]
    uri = changes.get("uri", URI).format(bucket=bucket)
    variables = {name: value for name, value in changes.items() if name != "uri"}
    found, _ = script(f"URI = {uri!r}\n{READ}", server=moto_server, bucket=bucket, **variables)
    assert found[0] == kind
    assert "\n" not in found[1]
    assert re.search(text.replace("{bucket}", bucket), found[1]), found[1]


@pytest.mark.servers
@pytest.mark.framework("torch")
def test_a_wrong_key_is_one_clear_line(radosgw_server):
    """On a server that checks signatures."""
    bucket = radosgw_server.container
    found, _ = script(READ, server=radosgw_server, bucket=bucket, AWS_SECRET_ACCESS_KEY="wrong")
    assert found[0] == "AccessError"
    assert "\n" not in found[1]
    assert "AWS_SECRET_ACCESS_KEY" in found[1]
