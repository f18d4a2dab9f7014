import inspect

import obstore.exceptions as foreign
import pytest

from s3dlio.errors import (
    AccessError,
    ExistsError,
    NotFoundError,
    PreconditionError,
    ShortReadError,
    StorageError,
    StorageTimeoutError,
    ThrottledError,
)
from s3dlio.storage.configuration.container import Container
from s3dlio.storage.native.errors import CLASSES, read_failure, translating_native

CONTAINER = Container("s3://bucket", "bucket", "http://h:1")


def answer(status, code="", more=""):
    """A failure as obstore words it, with the server's answer on several lines."""
    return (
        f"Generic S3 error: Error performing GET http://h:1/bucket/k?X-Sig=s3cr3t in 2ms, after 2 retries, "
        f"max_retries: 5, retry_timeout: 12s  - Server returned non-2xx status code: {status}: "
        f'<?xml version="1.0"?>\n<Error><Code>{code}</Code>{more}</Error>\n\nDebug source:\nGeneric {{\n'
        f'    uri: Some("http://h:1/bucket/k?X-Sig=s3cr3t"),\n}}'
    )


def no_answer(inner):
    return (
        "Generic S3 error: Error performing GET http://h:1/bucket/k in 2ms, after 5 retries, max_retries: 5, "
        "retry_timeout: 12s  - HTTP error: error sending request\n\nDebug source:\nGeneric {\n"
        f"    inner: Http(\n        HttpError {{\n            kind: Connect,\n            source: {inner},\n"
        "        },\n    ),\n}"
    )


def translate(error, **keywords):
    with pytest.raises(StorageError) as caught, translating_native("get", "s3://bucket/k", CONTAINER, **keywords):
        raise error
    assert caught.value.__cause__ is error
    assert "\n" not in str(caught.value)
    assert "s3cr3t" not in str(caught.value)
    assert str(caught.value).startswith("get s3://bucket/k: ")
    assert (caught.value.uri, caught.value.operation) == ("s3://bucket/k", "get")
    return caught.value


def test_the_table_is_complete():
    there = {cls for _, cls in inspect.getmembers(foreign, inspect.isclass) if issubclass(cls, Exception)}
    there -= {foreign.NotFoundError} if hasattr(foreign, "NotFoundError") else set()  # never raised: the builtin is
    assert there <= set(CLASSES)
    assert set(CLASSES) - there == {FileNotFoundError}
    assert foreign.GenericError in CLASSES


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_class_becomes_one_of_the_tree(cls):
    translate(cls("Some words: SECRETLESS\nand more\n\nDebug source:\nX".replace("s3cr3t", "")))


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (FileNotFoundError(answer(404, "NoSuchKey")), NotFoundError, "no such object, expected one"),
        (FileNotFoundError(answer(404)), NotFoundError, "no such object, or no bucket 'bucket'"),
        (FileNotFoundError(answer(404, "NoSuchBucket")), NotFoundError, "bucket 'bucket' does not exist"),
        (foreign.GenericError(answer(404, "NoSuchBucket")), NotFoundError, "AWS_ENDPOINT_URL"),
        (foreign.GenericError(answer(404, "ContainerNotFound")), NotFoundError, "does not exist"),
        (foreign.PermissionDeniedError(answer(403, "AccessDenied")), AccessError, "AWS_ACCESS_KEY_ID"),
        (foreign.GenericError(answer(403, "InvalidAccessKeyId")), AccessError, "InvalidAccessKeyId"),
        (foreign.GenericError(answer(400, "ExpiredToken")), AccessError, "AWS_SESSION_TOKEN"),
        (foreign.UnauthenticatedError(answer(401)), AccessError, "access denied"),
        (
            foreign.GenericError(
                "Generic S3 error: Error performing PUT http://169.254.169.254/latest/api/token in 1ms - HTTP error"
            ),
            AccessError,
            "NoCredentials",
        ),
        (
            foreign.GenericError("Generic MicrosoftAzure error: Invalid Access Key: Invalid symbol"),
            AccessError,
            "Check",
        ),
        (foreign.PreconditionError(answer(412, "PreconditionFailed")), PreconditionError, "another version"),
        (foreign.GenericError(answer(416, "InvalidRange")), ShortReadError, "ends before the range"),
        (foreign.GenericError(answer(503, "SlowDown")), ThrottledError, "SlowDown"),
        (foreign.GenericError(answer(429)), ThrottledError, "429"),
        (foreign.GenericError(answer(400, "AuthorizationHeaderMalformed")), StorageError, "AWS_REGION"),
        (foreign.GenericError(answer(500, "InternalError")), StorageError, "HTTP 500 InternalError"),
        (
            foreign.GenericError(
                "Generic S3 error: Error performing GET http://h:1/b/k in 1ms - Server returned non-2xx status code: "
                "502 Bad Gateway: <html>nginx</html>"
            ),
            StorageError,
            "HTTP 502 Bad Gateway, expected success",
        ),
        (foreign.GenericError(no_answer("ConnectionRefused")), StorageTimeoutError, "refused.*http://h:1"),
        (foreign.GenericError(no_answer('"dns error"')), StorageTimeoutError, "no such host"),
        (foreign.GenericError(no_answer("TimedOut")), StorageTimeoutError, "no answer in time"),
        (foreign.GenericError(no_answer("InvalidData, error: InvalidMessage")), StorageTimeoutError, "no TLS"),
        (
            foreign.GenericError(no_answer("InvalidData, error: InvalidCertificate(UnknownIssuer)")),
            StorageTimeoutError,
            "certificate of http://h:1 is not trusted.*ca_bundle",
        ),
        (foreign.GenericError(no_answer("BrokenPipe")), StorageTimeoutError, "connection broke"),
        (
            foreign.InvalidPathError('Encountered object with invalid path: Path "a//b" contained empty path segment'),
            StorageError,
            "found the key 'a//b'.*Rename",
        ),
    ],
)
def test_what_the_user_reads(error, expected, words):
    translated = translate(error)
    assert type(translated) is expected
    with pytest.raises(expected, match=words):
        raise translated


def test_a_create_that_finds_something():
    assert type(translate(foreign.AlreadyExistsError(answer(409, "BlobAlreadyExists")), create=True)) is ExistsError
    assert type(translate(foreign.AlreadyExistsError(answer(412)), create=True)) is ExistsError


def test_attempts_are_counted():
    assert translate(foreign.GenericError(answer(500))).attempts == 3
    assert translate(foreign.GenericError(no_answer("TimedOut"))).attempts == 6


def test_what_may_be_retried():
    assert translate(foreign.GenericError(answer(500))).retryable
    assert translate(foreign.GenericError(answer(503))).retryable
    assert not translate(foreign.GenericError(answer(403))).retryable


def test_the_dump_is_not_taken_for_the_answer():
    """The dump repeats the server's words; a code quoted there must not decide."""
    error = foreign.GenericError(
        "Generic S3 error: something else\n\nDebug source:\n<Code>NoSuchBucket</Code> status code: 404"
    )
    assert read_failure(error).code == ""
    assert read_failure(error).status == 0


def test_errors_of_the_tree_pass_through():
    with pytest.raises(ShortReadError, match=r"^mine$"), translating_native("get", "s3://b/k", CONTAINER):
        raise ShortReadError("mine")
    with pytest.raises(KeyError), translating_native("get", "s3://b/k", CONTAINER):
        raise KeyError


def test_a_panic_is_an_error_of_the_tree():
    """obstore's are no Exception, and would pass everything that looks after failures; its module is no module."""

    class PanicException(BaseException):
        pass

    said = r"^get s3://bucket/k: obstore panicked \(request valid: InvalidUri\), expected an answer\. Use backend='"
    with pytest.raises(StorageError, match=said), translating_native("get", "s3://bucket/k", CONTAINER):
        raise PanicException("request valid: InvalidUri\nstack backtrace:")


def test_what_is_no_failure_of_obstore_passes():
    with pytest.raises(KeyboardInterrupt), translating_native("get", "s3://bucket/k", CONTAINER):
        raise KeyboardInterrupt
