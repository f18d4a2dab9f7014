"""What the Python guide of the Rust s3dlio shows of objects, as it stands there, against a real S3 API."""

import os
import re
import subprocess
import sys

import pytest

QUICK_START = """
import s3dlio

# Read file from S3
data = s3dlio.get("s3://my-bucket/data.bin")
print(f"Read {len(data)} bytes")

# Write file to S3
s3dlio.put(
    prefix="s3://my-bucket/output/",
    num=1,
    template="result.bin",
    object_type='random',
    size=1024 * 1024  # 1 MB
)

# List files
files = s3dlio.list("s3://my-bucket/data/")
for f in files:
    print(f"{f['key']}: {f['size']} bytes")

# Delete file
s3dlio.delete("s3://my-bucket/old.bin")

# Get metadata
info = s3dlio.stat("s3://my-bucket/data.bin")
print(f"Size: {info['size']} bytes")
"""

GET = """
import s3dlio

# Read entire file
data = s3dlio.get("s3://bucket/file.bin")  # Returns bytes

# Works with any URI scheme
local_data = s3dlio.get("file:///tmp/data.bin")

# Use data
import numpy as np
import io

# Load NPZ
npz = np.load(io.BytesIO(data))
array = npz['data']
print(array, local_data)
"""

PUT = """
import s3dlio

# Generate multiple files
s3dlio.put(
    prefix="s3://bucket/training/",
    num=1000,                    # Generate 1000 files
    template="sample_{:06d}.npz",  # Naming pattern
    object_type='npz',           # NPZ format
    size=1024 * 1024,            # 1 MB each
    max_in_flight=16             # Parallel uploads
)
"""

TYPES = """
import s3dlio
# Generate different data types
s3dlio.put(
    prefix="s3://bucket/data/",
    num=100,
    template="data_{:03d}.npz",
    object_type='npz',      # NumPy compressed
    size=10 * 1024 * 1024,  # 10 MB
    compress_factor=2,       # Compression ratio
    dedup_factor=1          # No deduplication
)

# HDF5 format
s3dlio.put(
    prefix="s3://bucket/hdf5/",
    num=50,
    template="data_{:03d}.h5",
    object_type='hdf5',
    size=50 * 1024 * 1024
)

# TFRecord format
s3dlio.put(
    prefix="s3://bucket/tfrecords/",
    num=200,
    template="train_{:05d}.tfrecord",
    object_type='tfrecord',
    size=5 * 1024 * 1024
)
"""

WEIGHTS = """
import s3dlio
import numpy as np
import io

array = np.zeros((100, 100))

# Or generate NPZ directly
s3dlio.put(
    prefix="s3://bucket/data/",
    num=1,
    template="weights.npz",
    object_type='npz',
    size=array.nbytes
)

# Load NPZ
data = s3dlio.get("s3://bucket/data/weights.npz")
npz = np.load(io.BytesIO(data))
print(npz.files)
"""

PIPELINE = """
import s3dlio
import numpy as np

def generate_training_data():
    \"""Generate synthetic training data efficiently\"""

    # Generate 10,000 NPZ files with random data
    s3dlio.put(
        prefix="s3://bucket/synthetic/train/",
        num=10000,
        template="train_{:06d}.npz",
        object_type='npz',
        size=512 * 1024,  # 512 KB each
        max_in_flight=32
    )

    # Generate validation set
    s3dlio.put(
        prefix="s3://bucket/synthetic/val/",
        num=1000,
        template="val_{:05d}.npz",
        object_type='npz',
        size=512 * 1024,
        max_in_flight=32
    )

    print("Generated 11,000 training files")

generate_training_data()
"""

LIST = """
import s3dlio
# List all files under prefix
files = s3dlio.list("s3://bucket/data/")

for f in files:
    print(f"Key: {f['key']}")
    print(f"Size: {f['size']} bytes")
    print(f"ETag: {f.get('etag', 'N/A')}")
    print()
"""

DELETE = """
import s3dlio
# Delete single file
s3dlio.delete("s3://bucket/old.bin")

# Delete multiple files (via list + delete)
files = s3dlio.list("s3://bucket/temp/")
for f in files:
    s3dlio.delete(f"s3://bucket/{f['key']}")
"""

STAT = """
import s3dlio
# Get file info without downloading
info = s3dlio.stat("s3://bucket/large.bin")

print(f"Size: {info['size']} bytes")
print(f"ETag: {info.get('etag')}")
print(f"Modified: {info.get('last_modified')}")
"""

ENVIRONMENT = """
# AWS S3
export AWS_ENDPOINT_URL="https://s3.us-west-2.amazonaws.com"
export AWS_REGION="us-west-2"
export AWS_ACCESS_KEY_ID="your-access-key"
export AWS_SECRET_ACCESS_KEY="your-secret-key"

# Azure Blob Storage
export AZURE_STORAGE_ACCOUNT="myaccount"
export AZURE_STORAGE_KEY="key"

# Backend selection (for testing)
export S3DLIO_BACKEND="native"  # or "arrow"

# HTTP optimization
export S3DLIO_USE_OPTIMIZED_HTTP="true"
"""


@pytest.fixture
def bucket(moto_environment):
    """The name of an empty bucket, in the place of the guide's."""
    return moto_environment.new_container()


def run(code, bucket, environment=None):
    code = code.replace("my-bucket", "bucket").replace("s3://bucket", f"s3://{bucket}")
    return output([sys.executable, "-W", "error", "-c", code], environment)


def output(command, environment=None):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def put(moto_environment, bucket):
    def put(key, data):
        with moto_environment.client() as client:
            return client.put_object(Bucket=bucket, Key=key, Body=data)["ETag"].strip('"')

    return put


def keys(server, bucket):
    with server.client() as client:
        return [row["Key"] for row in client.list_objects_v2(Bucket=bucket).get("Contents", [])]


def test_quick_start(put, bucket, moto_environment):
    put("data.bin", b"12345")
    put("data/a", b"1")
    put("data/b", b"22")
    put("old.bin", b"1")
    assert run(QUICK_START, bucket) == "Read 5 bytes\ndata/a: 1 bytes\ndata/b: 2 bytes\nSize: 5 bytes\n"
    found = keys(moto_environment, bucket)
    assert "old.bin" not in found
    assert "output/result.bin" in found


# The guide makes some 10 GB; here each object is a hundredth of that, and there are a tenth as many.
FEWER = {"num=1000,": "num=100,", "num=10000,": "num=1000,", "1024 * 1024": "10 * 1024", "512 * 1024": "5 * 1024"}


def fewer(code):
    for many, few in FEWER.items():
        code = code.replace(many, few)
    return code


def sizes(server, bucket):
    with server.client() as client:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return {row["Key"]: row["Size"] for page in pages for row in page.get("Contents", [])}


def test_put(bucket, moto_environment):
    run(fewer(PUT), bucket)
    assert sizes(moto_environment, bucket) == {f"training/sample_{n:06d}.npz": 10_240 for n in range(100)}


def test_put_types(bucket, moto_environment):
    run(fewer(TYPES), bucket)
    expected = {f"data/data_{n:03d}.npz": 102_400 for n in range(100)}
    expected |= {f"hdf5/data_{n:03d}.h5": 512_000 for n in range(50)}
    expected |= {f"tfrecords/train_{n:05d}.tfrecord": 51_200 for n in range(200)}
    assert sizes(moto_environment, bucket) == expected


def test_put_weights(bucket):
    assert run(WEIGHTS, bucket) == "['data']\n"


def test_put_pipeline(bucket, moto_environment):
    assert run(fewer(PIPELINE), bucket) == "Generated 11,000 training files\n"
    assert len(sizes(moto_environment, bucket)) == 1100


def test_get(put, bucket, tmp_path):
    import io

    import numpy as np

    file = io.BytesIO()
    np.savez(file, data=np.arange(3))
    put("file.bin", file.getvalue())
    (tmp_path / "data.bin").write_bytes(b"local")
    assert run(GET.replace("/tmp", str(tmp_path)), bucket) == "[0 1 2] b'local'\n"


def test_list(put, bucket):
    etag = put("data/x/y", b"123")
    put("database", b"")
    assert run(LIST, bucket) == f"Key: data/x/y\nSize: 3 bytes\nETag: {etag}\n\n"


def test_delete(put, bucket, moto_environment):
    for key in ("old.bin", "temp/1", "temp/x/2", "temporary"):
        put(key, b"1")
    run(DELETE, bucket)
    assert keys(moto_environment, bucket) == ["temporary"]


def test_stat(put, bucket):
    etag = put("large.bin", b"123")
    assert re.fullmatch(
        rf"Size: 3 bytes\nETag: {etag}\nModified: \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00\n", run(STAT, bucket)
    )


@pytest.mark.parametrize("backend", ["native", "arrow"])
@pytest.mark.parametrize("optimized", ["true", "false"])
def test_environment(put, bucket, moto_environment, backend, optimized):
    put("x", b"123")
    exports = ENVIRONMENT.replace("https://s3.us-west-2.amazonaws.com", moto_environment.endpoint_url)
    exports = exports.replace('S3DLIO_BACKEND="native"', f'S3DLIO_BACKEND="{backend}"')
    exports = exports.replace('S3DLIO_USE_OPTIMIZED_HTTP="true"', f'S3DLIO_USE_OPTIMIZED_HTTP="{optimized}"')
    code = f"import s3dlio; print(s3dlio.get('s3://{bucket}/x'), s3dlio.open_store('s3://{bucket}').backend)"
    script = f'{exports}\nexec {sys.executable} -W error -c "{code}"\n'
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "AZURE_"))}
    assert output(["bash", "-c", script], environment) == f"b'123' {backend}\n"
