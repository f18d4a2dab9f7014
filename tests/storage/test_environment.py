"""What the variables say, without a server; ``test_configuration.py`` has their effects."""

import dataclasses
import re
from pathlib import Path

import pytest

from s3dlio.errors import OptionError
from s3dlio.storage import StorageOptions
from s3dlio.storage.configuration.container_role import ContainerRole
from s3dlio.storage.configuration.credentials import NoCredentials
from s3dlio.storage.configuration.environment import ENVIRONMENT
from s3dlio.storage.configuration.web_identity import WebIdentity

ROOT = Path(__file__).parents[2]
KEYS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "s"}


def options(scheme, environ, **given):
    return StorageOptions.from_env(scheme, environ, **given)


@pytest.mark.parametrize(
    ("variables", "backend"),
    [
        ({}, None),
        ({"S3DLIO_USE_OPTIMIZED_HTTP": "true"}, "native"),
        ({"S3DLIO_USE_OPTIMIZED_HTTP": "1"}, "native"),
        ({"S3DLIO_USE_OPTIMIZED_HTTP": "False"}, "arrow"),
        ({"S3DLIO_USE_OPTIMIZED_HTTP": "no"}, "arrow"),
        ({"S3DLIO_USE_OPTIMIZED_HTTP": "OFF"}, "arrow"),
        ({"S3DLIO_USE_OPTIMIZED_HTTP": "0"}, "arrow"),
        ({"S3DLIO_USE_OPTIMIZED_HTTP": ""}, None),
        ({"S3DLIO_USE_OPTIMIZED_HTTP": "true", "S3DLIO_BACKEND": "arrow"}, "arrow"),
    ],
)
@pytest.mark.parametrize("scheme", ["s3", "az", "gs"])
def test_engine(scheme, variables, backend):
    assert options(scheme, variables).backend == backend


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("S3DLIO_USE_OPTIMIZED_HTTP", "maybe"),
        ("AWS_MAX_ATTEMPTS", "0"),
        ("AWS_MAX_ATTEMPTS", "many"),
        ("AWS_REQUEST_CHECKSUM_CALCULATION", "never"),
        ("S3DLIO_BALANCE", "random"),
        ("S3DLIO_BACKEND", "Native"),
        ("AWS_ENDPOINT_URL", "localhost:9000"),
        ("AWS_ENDPOINT_URL_S3", "ftp://h"),
    ],
)
def test_illegal_values_name_the_variable(name, value):
    with pytest.raises(OptionError, match=f"{name} is '{value}'") as caught:
        options("s3", {name: value})
    assert caught.value.field == name


@pytest.mark.parametrize(
    ("scheme", "name", "value"),
    [
        ("az", "AZURE_STORAGE_ENDPOINT", "h:1"),
        ("az", "AZURE_ENDPOINT_URL", "h:1"),
        ("gs", "STORAGE_EMULATOR_HOST", "ftp://h"),
        ("s3", "S3DLIO_ENDPOINT_URLS", "http://h{1..3}"),
        ("s3", "AWS_ENDPOINT_URL", "name:hidden@h"),
    ],
)
def test_illegal_endpoints_name_the_variable(scheme, name, value):
    with pytest.raises(OptionError, match=f"environment: {name}") as caught:
        options(scheme, {name: value})
    assert caught.value.field == name
    assert "hidden" not in str(caught.value)
    assert options(scheme, {name: value}, endpoint_url="http://given").endpoint_url == "http://given"


def test_attempts():
    assert options("s3", {"AWS_MAX_ATTEMPTS": "3"}).max_attempts == 3
    assert options("s3", {"AWS_MAX_ATTEMPTS": "3"}, max_attempts=2).max_attempts == 2
    assert options("s3", {}).max_attempts == StorageOptions().max_attempts


def test_several_endpoints():
    several = {"S3DLIO_ENDPOINT_URLS": "http://h{1...3}:9", "S3DLIO_BALANCE": "rank", "RANK": "2"}
    found = options("s3", {**several, "AWS_ENDPOINT_URL": "http://one"})
    assert found.endpoint_urls == ("http://h1:9", "http://h2:9", "http://h3:9")
    assert (found.endpoint_url, found.balance, found.endpoint_rank) == (None, "rank", 2)
    given = options("s3", several, endpoint_url="http://given")
    assert (given.endpoint_url, given.endpoint_urls) == ("http://given", ())
    given = options("s3", {"AWS_ENDPOINT_URL": "http://one", "RANK": "x"}, endpoint_urls=["http://a", "http://b"])
    assert (given.endpoint_url, given.endpoint_urls) == (None, ("http://a", "http://b"))
    assert options("memory", several).endpoint_urls == ()


def test_the_order_of_credentials():
    web = {"AWS_WEB_IDENTITY_TOKEN_FILE": "/token", "AWS_ROLE_ARN": "arn", "AWS_REGION": "r-1"}
    found = options("s3", web).credential_provider
    assert found == WebIdentity(
        token_file="/token", role_arn="arn", session_name="s3dlio", endpoint_url="https://sts.r-1.amazonaws.com"
    )
    named = options(
        "s3", {**web, "AWS_ROLE_SESSION_NAME": "job", "AWS_ENDPOINT_URL": "http://all", "AWS_CA_BUNDLE": "/c"}
    )
    assert named.credential_provider == WebIdentity(
        token_file="/token", role_arn="arn", session_name="job", endpoint_url="http://all", ca_bundle="/c"
    )
    assert options("s3", {**web, **KEYS}).credential_provider is None, "keys come first"
    assert options("s3", {**web, **KEYS}).access_key_id == "id"

    def mine():
        """Nothing."""

    given = options("s3", {**web, **KEYS}, credential_provider=mine)
    assert (given.access_key_id, given.credential_provider) == (None, mine)
    assert options("s3", {**web, **KEYS}, anonymous=True).credential_provider is None
    with pytest.raises(OptionError, match="AWS_ENDPOINT_URL_STS"):
        options("s3", {**web, "AWS_ENDPOINT_URL_STS": "file:///etc/passwd"})


def test_keys_that_are_given_as_none_are_not_given():
    found = options("s3", {**KEYS, "AWS_SESSION_TOKEN": "t"}, access_key_id=None, session_token=None)
    assert (found.access_key_id, found.secret_access_key, found.session_token) == ("id", "s", "t")


def test_a_token_that_is_given_needs_its_keys():
    with pytest.raises(OptionError, match="got session_token without keys"):
        options("s3", KEYS, session_token="of other keys")


def test_the_machine_is_asked_unless_forbidden():
    disabled = {"AWS_EC2_METADATA_DISABLED": "true"}
    assert options("s3", {}).credential_provider is None
    assert options("s3", disabled).credential_provider == NoCredentials()
    near = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials"}
    assert options("s3", {**disabled, **near}).credential_provider is None
    assert options("s3", disabled, anonymous=True).credential_provider is None


def test_the_containers_role():
    url, file = "http://169.254.170.23/v1/credentials", {"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": "/token"}
    container = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "t"}
    for more in ({}, {"AWS_EC2_METADATA_DISABLED": "true"}):
        assert options("s3", {**container, **more}).credential_provider == ContainerRole(url=url, token="t")
    assert options("s3", {**container, **file}).credential_provider == ContainerRole(
        url=url, token_file="/token", token="t"
    )
    assert options("s3", {**container, **KEYS}).credential_provider is None
    near = {"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials"}
    assert options("s3", {**container, **near}).credential_provider is None, "which the engines ask"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"account_name": "acc", "account_key": "a2V5"}),
        ({"sas_token": "sig"}, {"account_name": "acc", "sas_token": "sig"}),
        ({"account_key": "x"}, {"account_name": "acc", "account_key": "x"}),
        ({"anonymous": True}, {"account_name": "acc", "anonymous": True}),
    ],
)
def test_azure_credentials_do_not_mix(given, expected):
    environ = {"AZURE_STORAGE_ACCOUNT": "acc", "AZURE_STORAGE_KEY": "a2V5", "AZURE_STORAGE_SAS_TOKEN": "env"}
    assert options("az", environ, **given) == StorageOptions(**expected)


def test_azure_credentials_of_another_account():
    environ = {"AZURE_STORAGE_ACCOUNT": "acc", "AZURE_STORAGE_KEY": "a2V5"}
    with pytest.raises(OptionError, match="those of account 'acc', expected those of 'other'"):
        options("az", environ, account_name="other")
    assert options("az", environ, account_name="acc").account_key == "a2V5"
    assert options("az", environ, account_name="other", anonymous=True).account_name == "other"
    assert options("az", {"AZURE_STORAGE_KEY": "a2V5"}, account_name="other").account_key == "a2V5"


@pytest.mark.parametrize(
    ("text", "account", "endpoint"),
    [
        ("accountname=acc;ACCOUNTKEY=a2V5\n", "acc", None),
        ("DefaultEndpointsProtocol=http;AccountName=acc;AccountKey=a2V5", "acc", "http://acc.blob.core.windows.net"),
        ("BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;SharedAccessSignature=sig", "devstoreaccount1", ...),
        ("BlobEndpoint=https://acc.blob.core.windows.net/;SharedAccessSignature=sig", "acc", ...),
        (
            "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://azurite",
            "devstoreaccount1",
            "http://azurite:10000/devstoreaccount1",
        ),
        (
            "UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://[::1]",
            "devstoreaccount1",
            "http://[::1]:10000/devstoreaccount1",
        ),
    ],
)
def test_azure_connection_strings_of_many_kinds(text, account, endpoint):
    found = StorageOptions(connection_string=text)
    assert found.account_name == account
    assert found.account_key in {None, "a2V5"} or account == "devstoreaccount1"
    if endpoint is not ...:
        assert found.endpoint_url == endpoint


@pytest.mark.parametrize("url", ["azurite", "http://", "http://[azurite"])
def test_an_emulator_behind_no_url(url):
    with pytest.raises(OptionError, match="DevelopmentStorageProxyUri is no URL"):
        StorageOptions(connection_string=f"UseDevelopmentStorage=true;DevelopmentStorageProxyUri={url}")


@pytest.mark.parametrize("account", ["AccountName=acc;", ""])
def test_a_connection_string_with_no_url_in_it(account):
    with pytest.raises(OptionError, match="endpoint_url is"):
        StorageOptions(connection_string=f"{account}BlobEndpoint=https://[h;AccountKey=a2V5")


def test_azure_connection_strings():
    text = "AccountName=acc;AccountKey=a2V5"
    environ = {"AZURE_STORAGE_CONNECTION_STRING": text, "AZURE_STORAGE_KEY": "other", "AZURE_STORAGE_ACCOUNT": "other"}
    assert options("az", environ) == StorageOptions(connection_string=text)
    assert options("az", environ, connection_string="AccountName=given").account_key is None
    for given in ({"anonymous": True}, {"sas_token": "mine"}, {"account_key": "bWluZQ=="}):
        china = {**environ, "AZURE_STORAGE_CONNECTION_STRING": f"{text};EndpointSuffix=core.chinacloudapi.cn"}
        mine = StorageOptions(account_name="acc", endpoint_url="https://acc.blob.core.chinacloudapi.cn", **given)
        assert options("az", china, **given) == mine
        assert options("az", china, account_name="acc", **given) == mine
        assert options("az", china, **given, account_name="x").endpoint_url is None
    emulator = StorageOptions(connection_string="UseDevelopmentStorage=true")
    assert emulator.endpoint_url == "http://127.0.0.1:10000/devstoreaccount1"
    assert (emulator.account_name, bool(emulator.account_key)) == ("devstoreaccount1", True)
    china = StorageOptions(connection_string=f"{text};EndpointSuffix=core.chinacloudapi.cn")
    assert china.endpoint_url == "https://acc.blob.core.chinacloudapi.cn"
    assert StorageOptions(connection_string=f"{text};EndpointSuffix=core.windows.net").endpoint_url is None
    sas = StorageOptions(
        connection_string="BlobEndpoint=https://acc.blob.core.windows.net/;SharedAccessSignature=sv=1&sig=a="
    )
    assert (sas.account_name, sas.sas_token) == ("acc", "sv=1&sig=a=")
    assert sas.endpoint_url == "https://acc.blob.core.windows.net"
    both = StorageOptions(connection_string=f"{text};SharedAccessSignature=sig")
    assert (both.account_key, both.sas_token) == ("a2V5", None)


def test_google():
    file = {"GOOGLE_APPLICATION_CREDENTIALS": "/c.json"}
    assert options("gs", file) == StorageOptions(service_account_file="/c.json")
    assert options("gs", file, anonymous=True).service_account_file is None
    for host in ("127.0.0.1:4443", "http://127.0.0.1:4443"):
        found = options("gs", {**file, "STORAGE_EMULATOR_HOST": host, "GOOGLE_CLOUD_PROJECT": "p"})
        assert found == StorageOptions(endpoint_url="http://127.0.0.1:4443", anonymous=True, project_id="p")
    elsewhere = options("gs", {**file, "STORAGE_EMULATOR_HOST": "h"}, endpoint_url="https://g")
    assert elsewhere == StorageOptions(endpoint_url="https://g", service_account_file="/c.json")
    assert not options("gs", {"STORAGE_EMULATOR_HOST": "h"}, service_account_file="/d.json").anonymous


def test_every_variable_and_every_option_is_on_the_page():
    page = (ROOT / "docs" / "reference" / "environment.md").read_text()
    source = "".join(path.read_text() for path in (ROOT / "s3dlio").rglob("*.py"))
    read = set(re.findall(r"\b(?:AWS|AZURE|GOOGLE|GCLOUD|STORAGE|S3DLIO)_[A-Z0-9_]*[A-Z0-9]\b", source))
    read -= {"AWS_ENDPOINT_URL_", "S3DLIO_"}
    read |= {"AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS", *ENVIRONMENT}
    read |= {field.name for field in dataclasses.fields(StorageOptions)}
    missing = {name for name in read if f"`{name}`" not in page}
    assert not missing
