"""Credentials that end: known beforehand, or by a server's refusal. Functions alone first, then whole stores."""

import datetime as dt
import pickle

import pytest

from s3dlio.errors import AccessError, OptionError
from s3dlio.storage import StorageOptions, open_store
from s3dlio.storage.configuration.credentials import Credentials, EnvironmentCredentials, due, in_use, renewed

from .recording_server import BODY, RecordingServer

KEYS = {"access_key_id": "OLD", "secret_access_key": "s"}
EXPIRED = (
    b"<?xml version='1.0'?><Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>"
)


def after(seconds):
    return dt.datetime.now(dt.UTC) + dt.timedelta(seconds=seconds)


def fresh():
    return Credentials(access_key_id="NEW", secret_access_key="s", session_token="t")


class Series:
    """A provider that gives NEW1, NEW2, ... which live for so many seconds each."""

    def __init__(self, *lives):
        self.lives = [*lives]
        self.asked = 0

    def __call__(self):
        life = self.lives[min(self.asked, len(self.lives) - 1)]
        self.asked += 1
        return Credentials(
            access_key_id=f"NEW{self.asked}", secret_access_key="s", expires_at=None if life is None else after(life)
        )


@pytest.fixture(params=["native", "arrow"])
def backend(request):
    return request.param


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, False),
        ({"credential_provider": fresh}, True),
        ({"credential_provider": fresh, "anonymous": True}, False),
        ({"credential_provider": fresh, **KEYS}, False),
        ({"credential_provider": fresh, **KEYS, "credentials_expire_at": after(3600)}, False),
        ({"credential_provider": fresh, **KEYS, "credentials_expire_at": after(10)}, True),
        ({"credential_provider": fresh, **KEYS, "credentials_expire_at": after(-10)}, True),
        ({**KEYS, "credentials_expire_at": after(-10)}, False),
    ],
)
def test_due(fields, expected):
    assert due(StorageOptions(**fields)) is expected


def test_renewed():
    options = StorageOptions(**KEYS, region="r", credential_provider=fresh)
    found = renewed("s3://bucket", options)
    assert found == options.replace(access_key_id="NEW", session_token="t")
    assert renewed("s3://bucket", found) is None, "the same again is nothing new"
    assert renewed("s3://bucket", StorageOptions(**KEYS)) is None
    assert renewed("s3://bucket", options.replace(credential_provider=lambda: None)) is None


def test_keys_without_a_provider_stay_in_use_when_they_expire():
    options = StorageOptions(**KEYS, credentials_expire_at=after(-1))
    assert in_use("s3://bucket", options).access_key_id == "OLD"
    assert in_use("s3://bucket", options.replace(credential_provider=fresh)).access_key_id == "NEW"
    assert in_use("s3://bucket", options.replace(anonymous=True)) is None
    assert in_use("s3://bucket", StorageOptions()) is None


def test_a_provider_that_fails_or_returns_something_else():
    def broken():
        raise RuntimeError("no network")

    with pytest.raises(
        AccessError, match=r"credentials for s3://b: the provider failed \(RuntimeError: no net"
    ) as caught:
        renewed("s3://b", StorageOptions(credential_provider=broken))
    assert isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(OptionError, match=r"returned dict, expected s3dlio\.Credentials"):
        renewed("s3://b", StorageOptions(credential_provider=dict))


def test_from_the_environment(monkeypatch, clean_environment):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OLD")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    options = StorageOptions.from_env("s3")
    assert renewed("s3://bucket", options) is None, "nothing new"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NEW")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "t")
    found = renewed("s3://bucket", options)
    assert (found.access_key_id, found.session_token) == ("NEW", "t")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert renewed("s3://bucket", options) is None
    given = StorageOptions.from_env("s3", access_key_id="GIVEN", secret_access_key="s")
    assert renewed("s3://bucket", given) is None, "the environment's keys are somebody else's"


def test_from_a_profile(monkeypatch, clean_environment, tmp_path):
    path = tmp_path / "credentials"
    path.write_text("[default]\naws_access_key_id=OLD\naws_secret_access_key=s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    options = StorageOptions.from_env("s3")
    assert options.access_key_id == "OLD"
    assert renewed("s3://bucket", options) is None
    path.write_text("[default]\naws_access_key_id=NEW\naws_secret_access_key=s\n")
    there = pickle.loads(pickle.dumps(options))
    assert renewed("s3://bucket", there).access_key_id == "NEW", "also in another process"
    path.write_text("")
    assert renewed("s3://bucket", options) is None


def test_credentials_are_checked_and_masked():
    assert "NEW" not in repr(fresh())
    for fields in ({"access_key_id": ""}, {"secret_access_key": ""}, {"expires_at": dt.datetime(2999, 1, 1)}):  # noqa: DTZ001
        with pytest.raises(OptionError) as caught:
            Credentials(**{"access_key_id": "a", "secret_access_key": "s", **fields})
        assert caught.value.field == next(iter(fields))
    assert EnvironmentCredentials() == EnvironmentCredentials()


def refusing(*refused):
    """A server to which these keys have expired."""

    def answer(request):
        return (403, EXPIRED) if request.key in refused else None

    return RecordingServer(answer)


def test_known_expiry_is_renewed_without_a_failed_request(backend):
    provider = Series(3600, 3600)
    with refusing("OLD") as server:
        options = {"endpoint_url": server.endpoint_url, "credential_provider": provider}
        with open_store("s3://bucket", backend=backend, **options, **KEYS, credentials_expire_at=after(30)) as store:
            for _ in range(3):
                assert store.get("key").to_pybytes() == BODY
    assert server.keys == {"NEW1"}
    assert provider.asked == 1


def test_a_store_that_outlives_its_credentials(backend, monkeypatch):
    """The end comes while the store is open: no request fails, and the provider is asked just once more."""
    provider = Series(3600, 7200)
    now = 0.0
    from s3dlio.storage.configuration import credentials

    real = credentials.time.time
    with refusing() as server:
        options = {"endpoint_url": server.endpoint_url, "credential_provider": provider}
        with open_store("s3://bucket", backend=backend, **options) as store:
            store.get("key")
            assert server.keys == {"NEW1"}
            now = 3600 - 30
            monkeypatch.setattr(credentials.time, "time", lambda: real() + now)
            server.requests.clear()
            store.get("key")
            store.get("key")
            assert server.keys == {"NEW2"}
    assert provider.asked == 2


def test_refused_credentials_are_renewed(backend):
    provider = Series(None)
    with refusing("OLD") as server:
        options = {"endpoint_url": server.endpoint_url, "credential_provider": provider}
        with open_store("s3://bucket", backend=backend, **options, **KEYS) as store:
            assert store.get("key").to_pybytes() == BODY
            store.put("key", b"x")
            assert server.requests[-1].key == "NEW1"
    assert provider.asked == 1


def test_refused_credentials_with_nothing_newer(backend):
    with refusing("OLD") as server:
        with (
            open_store("s3://bucket", backend=backend, endpoint_url=server.endpoint_url, **KEYS) as store,
            pytest.raises(AccessError),
        ):
            store.get("key")
        assert len(server.requests) <= 2, "no retries"


def test_refused_credentials_of_a_profile_that_was_rewritten(backend, monkeypatch, clean_environment, tmp_path):
    path = tmp_path / "credentials"
    path.write_text("[default]\naws_access_key_id=OLD\naws_secret_access_key=s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    expired = []
    with (
        RecordingServer(lambda request: (403, EXPIRED) if request.key in expired else None) as server,
        open_store("s3://bucket", backend=backend, endpoint_url=server.endpoint_url) as store,
    ):
        store.get("key")
        expired.append("OLD")
        path.write_text("[default]\naws_access_key_id=NEW\naws_secret_access_key=s\n")
        assert store.get("key").to_pybytes() == BODY
    assert server.requests[-1].key == "NEW"
