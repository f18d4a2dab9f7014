"""pyarrow.fs exceptions in the terms of the error tree: the one place for the arrow engine.

Nearly everything arrives as ``OSError`` with the cloud SDK's words in the message, so the words decide.
"""

from __future__ import annotations

import contextlib
import http
import re
from typing import TYPE_CHECKING

import pyarrow as pa

from s3dlio.errors import S3dlioError
from s3dlio.storage.requests.failure import Failure, storage_error

if TYPE_CHECKING:
    from collections.abc import Iterator

    from s3dlio.storage.configuration.container import Container
    from s3dlio.storage.requests.failure import Network

__all__ = ["read_failure", "translating_arrow"]

_AWS = re.compile(r"AWS Error (\w+)(?: \(HTTP status (\d+)\))?")
_AWS_UNKNOWN = re.compile(r"Unable to parse ExceptionName: (\w+)")
_AWS_STATUS = {
    "INTERNAL_FAILURE": 500, "SERVICE_UNAVAILABLE": 503, "SLOW_DOWN": 503, "THROTTLING": 429, "REQUEST_TIMEOUT": 408,
    "ACCESS_DENIED": 403, "NO_SUCH_KEY": 404, "RESOURCE_NOT_FOUND": 404,
}  # fmt: skip
"""Statuses that the SDK replaces by a name of its own, which is no code of the server's where there was no body: after
a HEAD, and about every second failed GET, whose body the SDK parses together with what lies behind it in memory."""
_AWS_NO_BODY = re.compile(r"during \w+ operation: (No response body\.)?\s*$")
_AZURE = re.compile(r"Azure Error: \[(\w*)\](?: (\d{3})\b)?")
_GOOGLE = re.compile(r"google::cloud::Status\((\w+): ")
_GOOGLE_STATUS = {
    "INVALID_ARGUMENT": 400, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 412, "OUT_OF_RANGE": 416, "RESOURCE_EXHAUSTED": 429,
}  # fmt: skip
"""What is left of an answer's status where its body is not Google's JSON, that of a proxy for example."""
_GOOGLE_SAID = re.compile(r"http_status_code=(\d{3})")
_GOOGLE_REASON = re.compile(r"error_info=\{reason=(\w+), domain=(?!gcloud-cpp)")  # which is the client itself
_GOOGLE_UNSIGNED = "Could not create a OAuth2 access token"
_GOOGLE_NO_BUCKET = "The specified bucket does not exist"
_GOOGLE_NOT_SENT = "exhausted before first request attempt"
_CURL = re.compile(r"curlCode: (\d+)|CURL error \[(\d+)\]")
_TRUST = (
    "Set SSL_CERT_FILE to a PEM file with its authority before Python starts; or use backend='native', which takes "
    "ca_bundle."
)
"""For pyarrow's Azure and Google clients, which have no option for it."""
_URL = re.compile(r"https?://\S+")
_QUERY = re.compile(r"(?<=\S)\?\w+=[^\s']*")
_CURL_CODES: dict[str, Network] = {"6": "dns", "7": "refused", "28": "timeout", "35": "tls", "60": "untrusted"}
_WORDS: tuple[tuple[str, Network], ...] = (
    ("Could not resolve", "dns"),
    ("Couldn't resolve", "dns"),
    ("Could not connect", "refused"),
    ("Couldn't connect", "refused"),
    ("peer certificate", "untrusted"),
    ("Fail to get a new connection", "refused"),
    ("Timeout was reached", "timeout"),
    ("timed out", "timeout"),
    ("SSL", "tls"),
)


@contextlib.contextmanager
def translating_arrow(
    operation: str, uri: str, container: Container, *, etag: str | None = None, create: bool = False
) -> Iterator[None]:
    """Turn what pyarrow.fs raises into the error tree."""
    try:
        yield
    except S3dlioError:
        raise
    except (OSError, pa.ArrowException, ValueError) as error:
        translated = storage_error(read_failure(error), operation, uri, container, etag=etag, create=create)
        raise translated from _without_queries(error)


def read_failure(error: BaseException) -> Failure:
    """What pyarrow's exception says."""
    text = str(error)
    google = _GOOGLE.search(text)
    if google is not None:
        return _google_failure(google[1], text)
    if isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError):
        return Failure(status=404)
    if isinstance(error, PermissionError):
        return Failure(status=403)
    if text.endswith("is a directory") or text.startswith("Not a regular file"):  # which is not an object
        return Failure(status=404)
    aws, azure = _AWS.search(text), _AZURE.search(text)
    if "NETWORK_CONNECTION" in text or (azure is not None and not azure[1] and not azure[2]):
        return Failure(network=_network(text), remedy="" if azure is None else _TRUST)
    if aws is not None:
        named = _AWS_UNKNOWN.search(text)
        code = named[1] if named else aws[1] if aws[1] != "UNKNOWN" else ""
        status = int(aws[2] or _AWS_STATUS.get(code, 0))
        if code in _AWS_STATUS and _AWS_NO_BODY.search(text):
            code = ""
        return Failure(status=status, code=code, text=_phrase(status) or _one_line(text))
    if azure is not None:
        status = int(azure[2] or 0)
        return Failure(status=status, code=azure[1], text=_phrase(status) or _one_line(text))
    return Failure(text=_one_line(text))


def _google_failure(name: str, text: str) -> Failure:
    """What Google's client says; ``name`` is gRPC's for it, which does not tell HTTP 429, 500 and 503 apart."""
    if _GOOGLE_UNSIGNED in text:
        return Failure(code="NoCredentials", text=_one_line(text))
    if _GOOGLE_NOT_SENT in text:
        return Failure(network="timeout", attempts=0)
    if _CURL.search(text):
        return Failure(network=_network(text), remedy=_TRUST)
    said, reason = _GOOGLE_SAID.search(text), _GOOGLE_REASON.search(text)
    status = int(said[1]) if said else _GOOGLE_STATUS.get(name, 0)
    code = reason[1] if reason else "" if status else name
    if _GOOGLE_NO_BUCKET in text:
        code = "NoSuchBucket"
    return Failure(status=status, code=code, text=_phrase(status) or _one_line(text))


def _phrase(status: int) -> str:
    """What the status is called; empty for one that has no name."""
    return http.HTTPStatus(status).phrase if status in set(http.HTTPStatus) else ""


def _network(text: str) -> Network:
    curl = _CURL.search(text)
    if "unexpected eof" in text:
        return "broken"  # in the middle of a handshake: a server that restarts, not one without TLS
    if curl is not None and (code := curl[1] or curl[2]) in _CURL_CODES:
        return _CURL_CODES[code]
    return next((network for word, network in _WORDS if word in text), "broken")


def _without_queries(error: Exception) -> Exception:
    """The error without what follows "?" in its URLs: a traceback must not show an Azure signature."""
    text = str(error)
    masked = _QUERY.sub("?...", text)
    return error if masked == text else OSError(masked)


def _one_line(text: str) -> str:
    """The first line, without URLs, whose query may hold a signature."""
    return _URL.sub("...", text.strip().partition("\n")[0])[:200].rstrip(". ")
