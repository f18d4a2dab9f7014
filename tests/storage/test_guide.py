"""What the Python guide of the Rust s3dlio shows of objects, as it stands there, against a real S3 API.

Left out: its ``put``, which generates objects, and which this library does not have yet.
"""

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
    assert "old.bin" not in keys(moto_environment, bucket)


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
