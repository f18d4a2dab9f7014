"""The arrow engine on Azure, whose client has a mind of its own.

pyarrow 26 gives no means to set its retries (three, after 0.8, 1.6 and 3.2 s), its time limits or its certificates.
What s3dlio adds is the limit on a stuck request: an error in time, or the right bytes.
"""

import time

import pytest

from s3dlio.errors import StorageError

from ..servers.fault_actions import close_before_answer, delay_first_byte, reset_in_body, short_body, stall, status
from ..servers.faults import FaultProxy
from .conftest import make

BODY = bytes(range(256)) * 400

pytestmark = pytest.mark.servers


@pytest.fixture
def bucket(azurite_server, monkeypatch, clean_environment):
    with FaultProxy(azurite_server) as proxy:
        for name, value in proxy.environment.items():
            monkeypatch.setenv(name, value)
        bucket = make(proxy, "arrow")
        bucket.raw.write("k", BODY)
        yield bucket


@pytest.mark.parametrize(
    "fault",
    [
        status(503),
        close_before_answer(),
        delay_first_byte(),
        reset_in_body(after=5000),
        short_body(by=1),
        stall(after=5000),
    ],
    ids=["503", "closed", "no-answer", "reset", "short", "stall"],
)
@pytest.mark.parametrize("times", [1, None])
def test_an_error_in_time_or_the_right_bytes(bucket, fault, times):
    bucket.proxy.fail(fault, method="GET", times=times)
    began = time.monotonic()
    with bucket.open(retry_deadline_s=1) as store:
        found, failure = None, None
        try:
            found = store.get("k").to_pybytes()
        except StorageError as error:
            failure = error
    assert found == BODY if failure is None else failure.retryable
    assert failure is None or times is None or time.monotonic() - began > 1, "one fault is ridden out, if time is left"
    assert time.monotonic() - began < 20


def test_refusals_are_told(bucket):
    bucket.proxy.fail(status(403, "AuthorizationFailure"), times=None)
    with bucket.open() as store, pytest.raises(PermissionError, match=r"access denied \(AuthorizationFailure\)"):
        store.get("k")
