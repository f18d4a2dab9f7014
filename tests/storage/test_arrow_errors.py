import errno

import pyarrow as pa
import pytest

from s3dlio.errors import AccessError, NotFoundError, ShortReadError, StorageError, StorageTimeoutError, ThrottledError
from s3dlio.storage.arrow.errors import read_failure, translating_arrow
from s3dlio.storage.configuration.container import Container

S3 = Container("s3://bucket", "bucket", "http://h:1")
AZURE = Container("az://box", "box")
GOOGLE = Container("gs://bucket", "bucket")


def aws(code, more=""):
    return OSError(f"When getting key 'k' in bucket 'bucket': AWS Error {code} during HeadObject operation: {more}")


def google(name, more="", reason="", domain="global", status=None):
    said = "" if status is None else f", http_status_code={status}"
    metadata = f"{{gcloud-cpp.retry.function=ReadObject{said}}}"
    info = f"error_info={{reason={reason}, domain={domain}, metadata={metadata}}}"
    return OSError(f"google::cloud::Status({name}: Retry policy exhausted, with a last message of {more} {info})")


def azure(code, more=""):
    return OSError(
        f"GetProperties failed for 'https://a.blob/box/k?sig=s3cr3t'. Azure Error: [{code}] {more}\n\nRequest ID: 7"
    )


@pytest.mark.parametrize(
    ("container", "error", "expected", "words"),
    [
        (S3, FileNotFoundError(errno.ENOENT, "Path does not exist"), NotFoundError, "no such object, or no bucket"),
        (S3, IsADirectoryError(errno.EISDIR, "Is a directory"), NotFoundError, "no such object"),
        (S3, OSError("Cannot open for reading: path 'x' is a directory"), NotFoundError, "no such object"),
        (S3, aws("NO_SUCH_BUCKET"), NotFoundError, "bucket 'bucket' does not exist"),
        (S3, aws("NO_SUCH_KEY", "No such key."), NotFoundError, "no such object, expected one"),
        (S3, aws("RESOURCE_NOT_FOUND"), NotFoundError, "no such object, or no bucket"),
        (S3, aws("ACCESS_DENIED", "No response body."), AccessError, "AWS_ACCESS_KEY_ID"),
        (S3, aws("SIGNATURE_DOES_NOT_MATCH"), AccessError, "SIGNATURE_DOES_NOT_MATCH"),
        (S3, PermissionError(errno.EACCES, "no"), AccessError, "access denied"),
        (
            GOOGLE,
            OSError("google::cloud::Status(INVALID_ARGUMENT: Could not create a OAuth2 access token to authenticate"),
            AccessError,
            "GOOGLE_APPLICATION_CREDENTIALS",
        ),
        (GOOGLE, google("UNAVAILABLE", "no", "backendError", status=503), ThrottledError, r"\(backendError\)"),
        (GOOGLE, google("UNAVAILABLE", "no", "rateLimitExceeded", status=429), ThrottledError, "fewer requests"),
        (GOOGLE, google("UNAVAILABLE", "", "internalError", status=500), StorageError, "HTTP 500 .*retry later"),
        (GOOGLE, google("UNAVAILABLE", "<html>"), StorageError, "UNAVAILABLE, expected success.*retry later"),
        (GOOGLE, google("DATA_LOSS", "", "DATA_LOSS", "gcloud-cpp"), StorageError, "DATA_LOSS, .*retry later"),
        (GOOGLE, google("INVALID_ARGUMENT", "", "required", status=400), StorageError, "HTTP 400 required"),
        (GOOGLE, google("INVALID_ARGUMENT", "<html>"), StorageError, "HTTP 400 Bad Request, expected success.$"),
        (GOOGLE, google("PERMISSION_DENIED", "", "forbidden", status=403), AccessError, "GOOGLE_APPLICATION"),
        (GOOGLE, google("UNAUTHENTICATED", "<html>"), AccessError, "GOOGLE_APPLICATION"),
        (GOOGLE, google("NOT_FOUND", "No such object: bucket/k", "notFound", status=404), NotFoundError, "no such obj"),
        (
            GOOGLE,
            google("NOT_FOUND", "The specified bucket does not exist.", "notFound", status=404),
            NotFoundError,
            "bucket 'bucket' does not exist.*STORAGE_EMULATOR_HOST",
        ),
        (GOOGLE, google("UNAVAILABLE", "CURL error [6]=Couldn't resolve"), StorageTimeoutError, "no such host"),
        (GOOGLE, google("UNAVAILABLE", "CURL error [7]=Couldn't connect"), StorageTimeoutError, "refused"),
        (GOOGLE, google("UNAVAILABLE", "CURL error [18]=Transferred a partial file"), StorageTimeoutError, "broke"),
        (GOOGLE, google("UNAVAILABLE", "CURL error [60]=SSL peer"), StorageTimeoutError, "trusted.* SSL_CERT_FILE"),
        (S3, aws("SLOW_DOWN"), ThrottledError, "fewer requests"),
        (S3, aws("UNKNOWN (HTTP status 503)"), ThrottledError, "503"),
        (S3, aws("UNKNOWN (HTTP status 416)"), ShortReadError, "ends before"),
        (
            S3,
            aws("UNKNOWN (HTTP status 411)", "Unable to parse ExceptionName: MissingContentLength Message: "),
            StorageError,
            "HTTP 411 MissingContentLength",
        ),
        (S3, aws("UNKNOWN (HTTP status 500)"), StorageError, "HTTP 500 Internal Server Error.*retry later"),
        (S3, aws("UNKNOWN (HTTP status 599)"), StorageError, "HTTP 599.*retry later"),
        (S3, aws("INTERNAL_FAILURE", "We know."), StorageError, "HTTP 500 INTERNAL_FAILURE, .*retry later"),
        (S3, aws("INTERNAL_FAILURE"), StorageError, "HTTP 500 Internal Server Error, .*retry later"),
        (S3, aws("REQUEST_TIMEOUT", "Too slow."), StorageError, "HTTP 408 REQUEST_TIMEOUT, .*retry later"),
        (S3, aws("THROTTLING", "Slower."), ThrottledError, "THROTTLING"),
        (
            S3,
            aws("NETWORK_CONNECTION", "curlCode: 7, Could not connect to server"),
            StorageTimeoutError,
            "refused.*http://h:1.*AWS_ENDPOINT_URL",
        ),
        (S3, aws("NETWORK_CONNECTION", "curlCode: 6, Could not resolve hostname"), StorageTimeoutError, "no such host"),
        (
            S3,
            aws("NETWORK_CONNECTION", "curlCode: 60, SSL peer certificate or SSH remote key was not OK"),
            StorageTimeoutError,
            "certificate of http://h:1 is not trusted.*ca_bundle",
        ),
        (S3, aws("NETWORK_CONNECTION", "curlCode: 35, SSL connect error"), StorageTimeoutError, "no TLS connection"),
        (
            S3,
            aws("NETWORK_CONNECTION", "curlCode: 35, SSL connect error; Details: SSL routines::unexpected eof"),
            StorageTimeoutError,
            "the connection broke",
        ),
        (
            AZURE,
            azure("", "Fail to get a new connection for: https://h. SSL peer certificate or SSH remote key was not OK"),
            StorageTimeoutError,
            "is not trusted.* SSL_CERT_FILE",
        ),
        (S3, aws("NETWORK_CONNECTION", "curlCode: 28, Timeout was reached"), StorageTimeoutError, "no answer in time"),
        (S3, aws("NETWORK_CONNECTION", "curlCode: 56, Failure when receiving"), StorageTimeoutError, "broke"),
        (AZURE, azure("ContainerNotFound", "404 no"), NotFoundError, "container 'box' does not exist"),
        (AZURE, azure("BlobNotFound", "404 no"), NotFoundError, "no such object"),
        (AZURE, azure("AuthorizationFailure", "403 no"), AccessError, "AZURE_STORAGE_KEY"),
        (AZURE, azure("ServerBusy", "503 no"), ThrottledError, "ServerBusy"),
        (
            AZURE,
            azure("", "Fail to get a new connection for: http://127.0.0.1:1. Could not connect to server"),
            StorageTimeoutError,
            "refused.*AZURE_STORAGE_ENDPOINT",
        ),
        (AZURE, OSError("something https://a.blob/x?sig=s3cr3t\nelse"), StorageError, "something, expected"),
        (S3, pa.ArrowInvalid("Empty path component"), StorageError, "Empty path component"),
    ],
)
def test_what_the_user_reads(container, error, expected, words):
    with pytest.raises(expected, match=words) as caught, translating_arrow("get", container.uri("k"), container):
        raise error
    assert type(caught.value) is expected
    assert str(caught.value.__cause__) == str(error).replace("sig=s3cr3t", "...")
    assert caught.value.uri == container.uri("k")
    assert "\n" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)


def test_errors_of_the_tree_pass_through():
    with pytest.raises(ShortReadError, match=r"^mine$"), translating_arrow("get", "s3://b/k", S3):
        raise ShortReadError("mine")


def test_a_request_that_googles_client_did_not_send():
    """Its time was up before it began: repeated, and no attempt."""
    failure = read_failure(
        OSError("google::cloud::Status(DEADLINE_EXCEEDED: Retry policy exhausted before first request attempt)")
    )
    assert (failure.network, failure.attempts) == ("timeout", 0)


def test_a_name_of_the_sdk_is_no_code_of_the_server():
    """A HEAD has no body, so nobody knows why: it may be an expired token."""
    named = read_failure(aws("ACCESS_DENIED", "Access Denied"))
    assert (named.status, named.code) == (403, "ACCESS_DENIED")
    for more in ("No response body.", ""):
        unnamed = read_failure(aws("ACCESS_DENIED", more))
        assert (unnamed.status, unnamed.code) == (403, "")
    assert (
        read_failure(aws("UNKNOWN (HTTP status 403)", "Unable to parse ExceptionName: ExpiredToken Message: x")).code
        == "ExpiredToken"
    )
