"""An emulator of Google Cloud Storage in memory, as a script: python google_emulator.py PORT.

Both of Google's interfaces over the same objects, as far as storage clients use them:
- JSON (``/storage/v1``, ``/upload/storage/v1``): what Google's own clients speak, pyarrow's in C++ and
  ``google-cloud-storage`` in Python, by which ``tests/test_servers.py`` checks this emulator
- XML (``/bucket/object``): what obstore speaks

Sources: cloud.google.com/storage/docs/json_api/v1 and /docs/xml-api. What is there behaves as written there:
generations, preconditions, paging, resumable and multipart uploads, ranges, the codes of errors. Not there: access
control (every token is accepted), changes of metadata, versions, composition.

A process of its own and one lock around every request: a conditional put has one winner.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import email.utils
import hashlib
import http.server
import json
import re
import sys
import threading
import uuid
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import google_crc32c

_PAGE = 1000
_COUNT = iter(range(1, 1 << 62))


@dataclasses.dataclass(frozen=True)
class Stored:
    """One generation of an object."""

    data: bytes
    content_type: str
    metadata: dict[str, str]
    generation: int = dataclasses.field(default_factory=lambda: next(_COUNT))
    time: dt.datetime = dataclasses.field(default_factory=lambda: dt.datetime.now(dt.UTC))

    @property
    def md5(self) -> bytes:
        return hashlib.md5(self.data, usedforsecurity=False).digest()

    @property
    def etag(self) -> str:
        return f'"{self.md5.hex()}"'


@dataclasses.dataclass
class Upload:
    """A resumable or multipart upload that has not ended."""

    bucket: str
    key: str
    content_type: str = "application/octet-stream"
    condition: str | None = None
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)
    received: bytearray = dataclasses.field(default_factory=bytearray)
    parts: dict[int, bytes] = dataclasses.field(default_factory=dict)


class RefusedError(Exception):
    """An answer that is not a success."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code


BUCKETS: dict[str, dict[str, Stored]] = {}
UPLOADS: dict[str, Upload] = {}
LOCK = threading.Lock()


def bucket(name: str) -> dict[str, Stored]:
    if name not in BUCKETS:
        raise RefusedError(404, "NoSuchBucket")
    return BUCKETS[name]


def stored(name: str, key: str) -> Stored:
    found = bucket(name).get(key)
    if found is None:
        raise RefusedError(404, "NoSuchKey")
    return found


def store(
    name: str, key: str, data: bytes, content_type: str, condition: str | None, metadata: dict[str, str] | None = None
) -> Stored:
    """Put an object, if its generation is the one that ``condition`` names (0: there is none)."""
    objects = bucket(name)
    there = objects[key].generation if key in objects else 0
    if condition is not None and int(condition) != there:
        raise RefusedError(412, "PreconditionFailed")
    objects[key] = Stored(bytes(data), content_type, metadata or {})
    return objects[key]


def page(
    name: str, prefix: str, delimiter: str, token: str, limit: int, *, trailing: bool = False
) -> tuple[list[str], list[str], str]:
    """Keys, common prefixes and the token of the next page; the two count together."""
    keys: list[str] = []
    prefixes: list[str] = []
    for key in sorted(bucket(name)):
        if not key.startswith(prefix):
            continue
        rest = key[len(prefix) :]
        cut = rest.find(delimiter) if delimiter else -1
        common = prefix + rest[: cut + len(delimiter)] if cut >= 0 else ""
        position = common or key
        if position <= token or (common and prefixes[-1:] == [common] and not (trailing and common == key)):
            continue
        if len(keys) + len(prefixes) == limit:
            return keys, prefixes, max(keys[-1:] + prefixes[-1:])
        if common:
            prefixes.append(common)
        if not common or (trailing and common == key):
            keys.append(key)
    return keys, prefixes, ""


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    def handle_any(self) -> None:
        self.body = self.read_body()
        parts = urlsplit(self.path)
        self.query = {name: values[0] for name, values in parse_qs(parts.query, keep_blank_values=True).items()}
        path = parts.path
        try:
            with LOCK:
                self.route(path)
        except RefusedError as refusal:
            self.refuse(refusal, as_json="storage/v1" in path)
        status, body, headers = self.prepared  # sent outside of the lock: a client may not read it for long
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do_PATCH = handle_any  # noqa: N815 - http.server's names

    def route(self, path: str) -> None:
        if path == "/":
            self.answer(200, b"")
            return
        if path == "/uploads":  # for tests: the keys of a bucket's uploads that have not ended
            self.json([upload.key for upload in UPLOADS.values() if upload.bucket == self.query["bucket"]])
            return
        for pattern, handler in _ROUTES:
            if match := pattern.fullmatch(path):
                handler(self, *[unquote(group) for group in match.groups()])
                return
        raise RefusedError(501, "NotImplemented")

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    # -- JSON

    def json_buckets(self) -> None:
        if self.command == "GET":
            self.json({"kind": "storage#buckets", "items": [_bucket_resource(name) for name in sorted(BUCKETS)]})
        else:
            name = json.loads(self.body)["name"]
            if name in BUCKETS:
                raise RefusedError(409, "BucketAlreadyOwnedByYou")
            BUCKETS[name] = {}
            self.json(_bucket_resource(name))

    def json_bucket(self, name: str) -> None:
        objects = bucket(name)
        if self.command == "DELETE":
            if objects:
                raise RefusedError(409, "BucketNotEmpty")
            del BUCKETS[name]
            self.answer(204, b"")
        else:
            self.json(_bucket_resource(name))

    def json_list(self, name: str) -> None:
        limit = min(int(self.query.get("maxResults") or _PAGE), _PAGE)
        trailing = self.query.get("includeTrailingDelimiter") == "true"
        keys, prefixes, token = page(
            name, self.query.get("prefix", ""), self.query.get("delimiter", ""), self.query.get("pageToken", ""), limit,
            trailing=trailing,
        )  # fmt: skip
        items = [self.resource(name, key, BUCKETS[name][key]) for key in keys]
        answer: dict[str, Any] = {"kind": "storage#objects", "items": items, "prefixes": prefixes}
        self.json({**answer, "nextPageToken": token} if token else answer)

    def json_object(self, name: str, key: str) -> None:
        if self.command == "GET" and self.query.get("alt") == "media":
            self.send_object(stored(name, key))
        elif self.command == "DELETE":
            stored(name, key)
            del BUCKETS[name][key]
            self.answer(204, b"")
        else:
            self.json(self.resource(name, key, stored(name, key)))

    def json_copy(self, name: str, key: str, to_name: str, to_key: str) -> None:
        source = stored(name, key)
        condition = self.query.get("ifGenerationMatch")
        made = store(to_name, to_key, source.data, source.content_type, condition, source.metadata)
        size = str(len(source.data))
        self.json({
            "kind": "storage#rewriteResponse", "done": True, "objectSize": size, "totalBytesRewritten": size,
            "resource": self.resource(to_name, to_key, made),
        })  # fmt: skip

    def json_upload(self, name: str) -> None:
        if upload_id := self.query.get("upload_id"):
            self.resume(upload_id)
            return
        bucket(name)
        condition = self.query.get("ifGenerationMatch")
        kind = self.query["uploadType"]
        if kind == "resumable":
            said = json.loads(self.body or b"{}")
            key = self.query.get("name") or said["name"]
            upload_id = uuid.uuid4().hex
            content_type = said.get("contentType", "application/octet-stream")
            UPLOADS[upload_id] = Upload(name, key, content_type, condition, said.get("metadata") or {})
            url = (
                f"http://{self.headers['Host']}/upload/storage/v1/b/{name}/o?uploadType=resumable&upload_id={upload_id}"
            )
            self.answer(200, b"", Location=url)
            return
        metadata: dict[str, str] = {}
        if kind == "multipart":
            key, data, content_type, metadata = self.related_parts()
        else:
            key, data = self.query["name"], self.body
            content_type = self.headers.get("Content-Type", "application/octet-stream")
        self.json(self.resource(name, key, store(name, key, data, content_type, condition, metadata)))

    def related_parts(self) -> tuple[str, bytes, str, dict[str, str]]:
        match = re.search(r"boundary=\"?([^\";]+)", self.headers["Content-Type"])
        assert match is not None
        _, described, sent, _ = self.body.split(b"--" + match[1].encode())
        said = json.loads(described.partition(b"\r\n\r\n")[2])
        head, _, data = sent.partition(b"\r\n\r\n")
        declared = re.search(rb"(?i)content-type:\s*(\S+)", head)
        content_type = said.get("contentType") or (declared[1].decode() if declared else "application/octet-stream")
        key = self.query.get("name") or said["name"]
        return key, data.removesuffix(b"\r\n"), content_type, said.get("metadata") or {}

    def resume(self, upload_id: str) -> None:
        if upload_id not in UPLOADS:
            raise RefusedError(404, "NoSuchUpload")
        upload = UPLOADS[upload_id]
        if self.command == "DELETE":
            del UPLOADS[upload_id]
            self.answer(499, b"")
            return
        said = self.headers.get("Content-Range", "")
        total = said.rpartition("/")[2]
        start = re.match(r"bytes (\d+)-", said)
        at = int(start[1]) if start else len(upload.received)
        upload.received[at:] = self.body
        if said and (total == "*" or len(upload.received) < int(total)):
            held = len(upload.received)
            self.answer(308, b"", **({"Range": f"bytes=0-{held - 1}"} if held else {}))
            return
        del UPLOADS[upload_id]
        made = store(upload.bucket, upload.key, upload.received, upload.content_type, upload.condition, upload.metadata)
        self.json(self.resource(upload.bucket, upload.key, made))

    def resource(self, name: str, key: str, found: Stored) -> dict[str, Any]:
        time = found.time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        crc = google_crc32c.value(found.data).to_bytes(4, "big")
        return {
            "kind": "storage#object", "id": f"{name}/{key}/{found.generation}", "name": key, "bucket": name,
            "generation": str(found.generation), "metageneration": "1", "contentType": found.content_type,
            "timeCreated": time, "updated": time, "storageClass": "STANDARD", "size": str(len(found.data)),
            "md5Hash": base64.b64encode(found.md5).decode(), "crc32c": base64.b64encode(crc).decode(),
            "etag": found.etag, "metadata": found.metadata,
        }  # fmt: skip

    # -- XML

    def xml_bucket(self, name: str) -> None:
        if self.command == "HEAD":
            bucket(name)
            self.answer(200, b"")
            return
        limit = min(int(self.query.get("max-keys") or _PAGE), _PAGE)
        after = max(self.query.get("continuation-token", ""), self.query.get("start-after", ""))
        keys, prefixes, token = page(name, self.query.get("prefix", ""), self.query.get("delimiter", ""), after, limit)
        lines = ["<?xml version='1.0' encoding='UTF-8'?><ListBucketResult>"]
        lines.append(f"<Name>{name}</Name><IsTruncated>{str(bool(token)).lower()}</IsTruncated>")
        if token:
            lines.append(f"<NextContinuationToken>{escape(token)}</NextContinuationToken>")
        for key in keys:
            found = BUCKETS[name][key]
            lines.append(
                f"<Contents><Key>{escape(key)}</Key><Generation>{found.generation}</Generation><LastModified>"
                f"{found.time.strftime('%Y-%m-%dT%H:%M:%S.%fZ')}</LastModified><ETag>{escape(found.etag)}</ETag>"
                f"<Size>{len(found.data)}</Size></Contents>"
            )
        lines += [f"<CommonPrefixes><Prefix>{escape(prefix)}</Prefix></CommonPrefixes>" for prefix in prefixes]
        self.xml("".join(lines) + "</ListBucketResult>")

    def xml_object(self, name: str, key: str) -> None:
        condition = self.headers.get("x-goog-if-generation-match")
        content_type = self.headers.get("Content-Type", "application/octet-stream")
        if "uploads" in self.query or "uploadId" in self.query:
            self.xml_multipart(name, key, content_type)
        elif self.command in {"GET", "HEAD"}:
            self.send_object(stored(name, key))
        elif self.command == "DELETE":
            stored(name, key)
            del BUCKETS[name][key]
            self.answer(204, b"")
        elif source := self.headers.get("x-goog-copy-source"):
            from_name, _, from_key = source.lstrip("/").partition("/")
            found = stored(unquote(from_name), unquote(from_key))
            made = store(name, key, found.data, found.content_type, condition)
            self.xml(f"<CopyObjectResult><ETag>{escape(made.etag)}</ETag></CopyObjectResult>")
        else:
            made = store(name, key, self.body, content_type, condition)
            self.answer(200, b"", ETag=made.etag, **{"x-goog-generation": str(made.generation)})

    def xml_multipart(self, name: str, key: str, content_type: str) -> None:
        bucket(name)
        if "uploads" in self.query:
            upload_id = uuid.uuid4().hex
            UPLOADS[upload_id] = Upload(name, key, content_type)
            self.xml(
                f"<InitiateMultipartUploadResult><Bucket>{name}</Bucket><Key>{escape(key)}</Key>"
                f"<UploadId>{upload_id}</UploadId></InitiateMultipartUploadResult>"
            )
            return
        upload = UPLOADS.get(self.query["uploadId"])
        if upload is None:
            raise RefusedError(404, "NoSuchUpload")
        if self.command == "PUT":
            upload.parts[int(self.query["partNumber"])] = self.body
            self.answer(200, b"", ETag=f'"{hashlib.md5(self.body, usedforsecurity=False).hexdigest()}"')
            return
        if self.command == "POST":
            numbers = [int(number) for number in re.findall(rb"<PartNumber>(\d+)</PartNumber>", self.body)]
            if not numbers or not set(numbers) <= set(upload.parts):
                raise RefusedError(400, "InvalidPart")
            data = b"".join(upload.parts[number] for number in numbers)
            made = store(name, key, data, upload.content_type, None)
            del UPLOADS[self.query["uploadId"]]
            self.xml(
                f"<CompleteMultipartUploadResult><Bucket>{name}</Bucket><Key>{escape(key)}</Key>"
                f"<ETag>{escape(made.etag)}</ETag></CompleteMultipartUploadResult>"
            )
            return
        del UPLOADS[self.query["uploadId"]]
        self.answer(204, b"")

    # -- answers

    def send_object(self, found: Stored) -> None:
        wanted = self.query.get("generation")
        if wanted is not None and int(wanted) != found.generation:
            raise RefusedError(404, "NoSuchKey")
        if (match := self.headers.get("If-Match")) and match not in {"*", found.etag}:
            raise RefusedError(412, "PreconditionFailed")
        crc = google_crc32c.value(found.data).to_bytes(4, "big")
        headers = {
            "ETag": found.etag,
            "Last-Modified": email.utils.format_datetime(found.time, usegmt=True),
            "Content-Type": found.content_type,
            "x-goog-generation": str(found.generation),
            "x-goog-metageneration": "1",
            "x-goog-hash": f"crc32c={base64.b64encode(crc).decode()}",
            "x-goog-stored-content-length": str(len(found.data)),
        }
        size = len(found.data)
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked is None or asked[0] == "bytes=-":
            self.answer(200, found.data, **headers)
            return
        if asked[1]:
            start, end = int(asked[1]), min(int(asked[2] or size - 1) + 1, size)
        else:
            start, end = max(0, size - int(asked[2])), size
        if start >= size:
            raise RefusedError(416, "InvalidRange")
        self.answer(206, found.data[start:end], **headers, **{"Content-Range": f"bytes {start}-{end - 1}/{size}"})

    def json(self, value: Any) -> None:
        self.answer(200, json.dumps(value).encode(), **{"Content-Type": "application/json; charset=UTF-8"})

    def xml(self, text: str) -> None:
        self.answer(200, text.encode(), **{"Content-Type": "application/xml; charset=UTF-8"})

    def refuse(self, refusal: RefusedError, *, as_json: bool) -> None:
        if as_json:
            error = {"domain": "global", "reason": refusal.code, "message": refusal.code}
            body = {"error": {"code": refusal.status, "message": refusal.code, "errors": [error]}}
            self.answer(refusal.status, json.dumps(body).encode(), **{"Content-Type": "application/json"})
        else:
            body_text = f"<?xml version='1.0' encoding='UTF-8'?><Error><Code>{refusal.code}</Code></Error>"
            self.answer(refusal.status, body_text.encode(), **{"Content-Type": "application/xml"})

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        """What is sent once the request has been dealt with."""
        self.prepared = status, body, headers

    def log_message(self, format: str, *args: Any) -> None:
        """Silence."""


def _bucket_resource(name: str) -> dict[str, Any]:
    time = "2026-01-01T00:00:00.000Z"
    return {
        "kind": "storage#bucket", "id": name, "name": name, "location": "US", "storageClass": "STANDARD",
        "timeCreated": time, "updated": time, "metageneration": "1", "projectNumber": "1", "etag": "CAE=",
    }  # fmt: skip


_API = r"(?:/storage/v1)"
_ROUTES = [
    (re.compile(rf"{_API}/b"), Handler.json_buckets),
    (re.compile(rf"{_API}/b/([^/]+)"), Handler.json_bucket),
    (re.compile(rf"{_API}/b/([^/]+)/o"), Handler.json_list),
    (re.compile(rf"{_API}/b/([^/]+)/o/(.+?)/(?:rewriteTo|copyTo)/b/([^/]+)/o/(.+)"), Handler.json_copy),
    (re.compile(rf"(?:/download)?{_API}/b/([^/]+)/o/(.+)"), Handler.json_object),
    (re.compile(rf"/(?:resumable/)?upload{_API}/b/([^/]+)/o"), Handler.json_upload),
    (re.compile(r"/([^/]+)/?"), Handler.xml_bucket),
    (re.compile(r"/([^/]+)/(.+)"), Handler.xml_object),
]


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Silence about clients that leave in the middle of an answer; all else is a fault of this program."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


if __name__ == "__main__":
    _Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
