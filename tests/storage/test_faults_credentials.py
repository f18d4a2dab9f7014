"""Credentials that end during a run: a server that refuses the old ones, and a provider that has new ones."""

import pytest

from s3dlio.errors import AccessError
from s3dlio.reading import FetchOptions, Request, fetch
from s3dlio.storage.configuration.credentials import Credentials

from ..servers.fault_actions import status
from .conftest import make
from .test_faults_answers import BODY, EXPECTED, VERBS, check_effect, every_verb

SECRET = "a-secret-that-no-message-may-show"


class Provider:
    """Gives the keys that the server takes now; counts how often it was asked."""

    def __init__(self, proxy):
        self.asked = 0
        self.given = self.valid = "KEY1"
        self.refusal = status(403, "ExpiredToken")
        proxy.fail(self.refuse, times=None)

    def __call__(self):
        self.asked += 1
        return Credentials(access_key_id=self.given, secret_access_key=SECRET, session_token=f"token-of-{self.given}")

    def expire(self):
        """From now on the server takes the next keys only."""
        self.given = self.valid = f"KEY{int(self.valid[3:]) + 1}"

    def refuse(self, exchange):
        if f"Credential={self.valid}/" not in exchange.request.get("Authorization"):
            self.refusal(exchange)


@pytest.fixture
def bucket(faulty):
    faulty.raw.write("k", BODY)
    return faulty


@pytest.fixture
def faulty(fault_proxy, backend, monkeypatch):
    """On moto alone: it takes whatever keys the provider makes up.

    To a HEAD no server says why it refuses; the provider is then asked, but only now and then. Here it always is.
    """
    monkeypatch.setattr("s3dlio.storage.requests.remote._ASK_EVERY_S", 0.0)
    bucket = make(fault_proxy, backend)
    yield bucket
    bucket.close()


@every_verb
def test_every_verb_goes_on_with_new_credentials(bucket, verb):
    provider = Provider(bucket.proxy)
    with bucket.open(credential_provider=provider) as store:
        assert store.get("k").to_pybytes() == BODY
        assert provider.asked == 1
        provider.expire()
        assert VERBS[verb](store) == EXPECTED[verb]
        assert provider.asked == 2
    check_effect(bucket, verb)


def test_many_readers_at_once(bucket):
    """None of them fails, whichever of them notices first."""
    for number in range(40):
        bucket.raw.write(f"data/{number:02d}", BODY)
    provider = Provider(bucket.proxy)
    requests = [Request(key=f"data/{number:02d}", end=len(BODY), whole=True) for number in range(40)]
    with bucket.open(credential_provider=provider) as store:
        for index, buffer in fetch(store, requests, FetchOptions(max_in_flight=8, max_ahead=8)):
            assert buffer.to_pybytes() == BODY
            if index == 10:
                provider.expire()
    assert 2 <= provider.asked <= 2 + 8, "at most once a reader"


def test_a_provider_with_nothing_newer(bucket):
    provider = Provider(bucket.proxy)
    with bucket.open(credential_provider=provider) as store:
        store.get("k")
        provider.valid = "OTHER"
        with pytest.raises(AccessError) as caught:
            store.put("new", BODY)
    assert caught.value.expired
    assert SECRET not in str(caught.value)
    assert bucket.raw.read("new") is None


def test_denied_asks_nobody_for_ever(bucket):
    """A refusal that new credentials do not help is told after at most one try with them."""
    provider = Provider(bucket.proxy)
    with bucket.open(credential_provider=provider) as store:
        store.get("k")
        bucket.proxy.clear()
        bucket.proxy.fail(status(403, "ExpiredToken"), times=None)
        with pytest.raises(AccessError):
            store.put("new", BODY)
    assert bucket.proxy.count("PUT") <= 2
    assert provider.asked <= 2
