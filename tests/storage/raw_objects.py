"""Containers reached without the store under test: the side channels of the conformance suite."""

from pathlib import Path

import boto3
import botocore.exceptions
import obstore
import pyarrow as pa
import pyarrow.fs as pafs
from obstore.store import AzureStore

from s3dlio.storage.memory import _STORES, _Object


class RawMemory:
    """The dict inside."""

    def __init__(self, name):
        self.objects = _STORES[name]

    def write(self, key, data):
        import datetime as dt

        self.objects[key] = _Object(data, -len(self.objects) - 1, dt.datetime.now(dt.UTC))

    def read(self, key):
        found = self.objects.get(key)
        return None if found is None else found.data

    def unfinished(self, prefix):
        return []


class RawFiles:
    """``open``. Keys are paths below ``root``."""

    def __init__(self, root):
        self.root = Path(root)

    def write(self, key, data):
        path = self.root / key
        if key.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def read(self, key):
        path = self.root / key
        return path.read_bytes() if path.is_file() else None

    def unfinished(self, prefix):
        return [str(path) for path in (self.root / prefix).rglob(".s3dlio-*")]


class RawS3:
    """boto3, which shares no code with either engine."""

    def __init__(self, server, bucket):
        self.bucket = bucket
        self.client = boto3.client(
            "s3",
            endpoint_url=server.endpoint_url,
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
            region_name=server.region,
        )

    def write(self, key, data):
        self.client.put_object(Bucket=self.bucket, Key=key, Body=data)

    def read(self, key):
        try:
            with self.client.get_object(Bucket=self.bucket, Key=key)["Body"] as body:
                return body.read()
        except botocore.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return None
            raise

    def delete(self, keys):
        for start in range(0, len(keys), 900):
            objects = [{"Key": key} for key in keys[start : start + 900]]
            self.client.delete_objects(Bucket=self.bucket, Delete={"Objects": objects})

    def unfinished(self, prefix):
        found = self.client.list_multipart_uploads(Bucket=self.bucket).get("Uploads", [])
        return [upload["Key"] for upload in found if upload["Key"].startswith(prefix)]

    def close(self):
        self.client.close()


class RawGoogle:
    """Google's own client for Python, which shares no code with either engine."""

    def __init__(self, server, bucket):
        self.client = server.client()
        self.bucket = self.client.bucket(bucket)

    def write(self, key, data):
        self.bucket.blob(key).upload_from_string(data, content_type="application/octet-stream")

    def read(self, key):
        blob = self.bucket.blob(key)
        return blob.download_as_bytes() if blob.exists() else None

    def delete(self, keys):
        for key in keys:
            self.bucket.delete_blob(key)

    def unfinished(self, prefix):
        url = f"{self.client._connection.API_BASE_URL}/uploads?bucket={self.bucket.name}"
        answer = self.client._http.get(url)
        return [key for key in answer.json() if key.startswith(prefix)]

    def close(self):
        self.client.close()


class RawAzureByArrow:
    """pyarrow, for the store on obstore."""

    def __init__(self, server, container):
        authority = server.endpoint_url.removeprefix("http://").partition("/")[0]
        self.container = container
        self.filesystem = pafs.AzureFileSystem(
            server.access_key,
            account_key=server.secret_key,
            blob_storage_authority=authority,
            blob_storage_scheme="http",
            dfs_storage_authority=authority,
            dfs_storage_scheme="http",
        )

    def write(self, key, data):
        if key.endswith("/"):
            self.filesystem.create_dir(f"{self.container}/{key}")
            return
        with self.filesystem.open_output_stream(f"{self.container}/{key}", compression=None) as stream:
            stream.write(data)

    def read(self, key):
        if not self.filesystem.get_file_info(f"{self.container}/{key}").is_file:
            return None
        with self.filesystem.open_input_stream(f"{self.container}/{key}", compression=None) as stream:
            return stream.read()

    def unfinished(self, prefix):
        return []  # Azure drops uncommitted blocks by itself


class RawAzureByObstore:
    """obstore, for the store on pyarrow."""

    def __init__(self, server, container):
        self.client = AzureStore(
            container,
            account_name=server.access_key,
            account_key=server.secret_key,
            endpoint=server.endpoint_url,
            client_options={"allow_http": True},
        )
        self.directories = RawAzureByArrow(server, container)

    def write(self, key, data):
        if key.endswith("/"):
            self.directories.write(key, data)
        else:
            obstore.put(self.client, key, data)

    def read(self, key):
        try:
            return pa.py_buffer(obstore.get(self.client, key).bytes()).to_pybytes()
        except FileNotFoundError:
            return None

    def unfinished(self, prefix):
        return []
