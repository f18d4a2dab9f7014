"""Every variable and option, seen from the server: what arrives there, from both engines."""

import json
import stat

import pytest

from s3dlio.errors import AccessError, OptionError, StorageError
from s3dlio.storage import StorageOptions, open_store
from s3dlio.storage.configuration.credentials import Credentials
from s3dlio.storage.native.client import make_client
from s3dlio.uri import Uri

from .recording_server import BODY, RecordingServer


@pytest.fixture
def server():
    with RecordingServer() as running:
        yield running


@pytest.fixture
def environ(monkeypatch, clean_environment):
    """Set variables: environ(NAME="value")."""
    return lambda **values: [monkeypatch.setenv(name, value) for name, value in values.items()]


@pytest.fixture
def aws_files(tmp_path, environ):
    """Write the two AWS files: aws_files(credentials="...", config="...")."""

    def write(*, credentials="", config=""):
        (tmp_path / "credentials").write_text(credentials)
        (tmp_path / "config").write_text(config)
        environ(AWS_SHARED_CREDENTIALS_FILE=str(tmp_path / "credentials"), AWS_CONFIG_FILE=str(tmp_path / "config"))

    return write


def read(backend, uri="s3://bucket", **options):
    with open_store(uri, backend=backend, **options) as store:
        assert store.get("key").to_pybytes() == BODY


def test_keys_token_and_region(backend, server, environ):
    environ(
        AWS_ACCESS_KEY_ID="KEY1",
        AWS_SECRET_ACCESS_KEY="secret",
        AWS_SESSION_TOKEN="token1",
        AWS_DEFAULT_REGION="eu-south-7",
        AWS_ENDPOINT_URL=server.endpoint_url,
    )
    read(backend)
    assert server.keys == {"KEY1"}
    assert {request.headers["x-amz-security-token"] for request in server.requests} == {"token1"}
    assert {request.region for request in server.requests} == {"eu-south-7"}
    environ(AWS_REGION="eu-north-8")
    server.requests.clear()
    read(backend)
    assert {request.region for request in server.requests} == {"eu-north-8"}


def test_keys_that_are_given_do_not_mix_with_the_environments(backend, server, environ):
    environ(
        AWS_ACCESS_KEY_ID="KEY1", AWS_SECRET_ACCESS_KEY="s", AWS_SESSION_TOKEN="t", AWS_ENDPOINT_URL=server.endpoint_url
    )
    read(backend, access_key_id="GIVEN", secret_access_key="s")
    assert server.keys == {"GIVEN"}
    assert {request.headers["x-amz-security-token"] for request in server.requests} == {None}


def test_anonymous(backend, server, environ):
    environ(AWS_ACCESS_KEY_ID="KEY1", AWS_SECRET_ACCESS_KEY="s", AWS_ENDPOINT_URL=server.endpoint_url)
    read(backend, anonymous=True)
    assert server.keys == {None}


def test_the_more_special_endpoint_wins(backend, server, environ):
    keys = {"access_key_id": "K", "secret_access_key": "s", "connect_timeout_s": 0.5, "max_attempts": 1}
    nobody = "http://127.0.0.1:1"
    environ(AWS_ENDPOINT_URL=nobody, AWS_ENDPOINT_URL_S3=server.endpoint_url)
    read(backend, **keys)
    environ(AWS_ENDPOINT_URL_S3=nobody)
    with pytest.raises(StorageError):
        read(backend, **keys)
    seen = len(server.requests)
    read(backend, endpoint_url=server.endpoint_url, **keys)
    assert len(server.requests) > seen


def test_obstores_own_variables_do_not_get_in(server, environ):
    """Complete options: what obstore would fill its gaps from plays no part."""
    environ(
        AWS_ENDPOINT="http://127.0.0.1:1",
        AWS_ENDPOINT_URL_S3="http://127.0.0.1:1",
        AWS_SKIP_SIGNATURE="true",
        AWS_TOKEN="foreign",
        AWS_SESSION_TOKEN="foreign",
        AWS_REGION="foreign",
        AWS_VIRTUAL_HOSTED_STYLE_REQUEST="true",
    )
    fields = {"access_key_id": "K", "secret_access_key": "s", "region": "r-1"}
    read("native", storage_options=StorageOptions(endpoint_url=server.endpoint_url, **fields))
    (request,) = server.requests
    assert (request.key, request.region, request.target) == ("K", "r-1", "/bucket/key")
    assert request.headers["x-amz-security-token"] is None


PROFILES = {
    "credentials": "[default]\naws_access_key_id=DEFAULT\naws_secret_access_key=s\n"
    "[other]\naws_access_key_id=OTHER\naws_secret_access_key=s%s\naws_session_token=t\n",
    "config": "[default]\nregion=r-1\nendpoint_url={0}\n[profile other]\nregion=r-2\nservices=mine\n"
    "[services mine]\ns3 =\n  endpoint_url = {0}\n",
}


@pytest.mark.parametrize(
    ("variables", "options", "key", "region"),
    [
        ({}, {}, "DEFAULT", "r-1"),
        ({"AWS_PROFILE": "other"}, {}, "OTHER", "r-2"),
        ({}, {"profile": "other"}, "OTHER", "r-2"),
        ({"AWS_PROFILE": "default"}, {"profile": "other"}, "OTHER", "r-2"),
        ({"AWS_ACCESS_KEY_ID": "KEY1", "AWS_SECRET_ACCESS_KEY": "s"}, {}, "KEY1", "r-1"),
        ({"AWS_ACCESS_KEY_ID": "KEY1", "AWS_SECRET_ACCESS_KEY": "s"}, {"profile": "other"}, "OTHER", "r-2"),
        ({"AWS_PROFILE": "other", "AWS_REGION": "r-3"}, {}, "OTHER", "r-3"),
        ({"AWS_PROFILE": "other"}, {"region": "r-4"}, "OTHER", "r-4"),
    ],
)
def test_profiles(backend, server, environ, aws_files, variables, options, key, region):
    aws_files(**{name: text.replace("{0}", server.endpoint_url) for name, text in PROFILES.items()})
    environ(**variables)
    read(backend, **options)
    assert server.keys == {key}
    assert {request.region for request in server.requests} == {region}
    assert {request.headers["x-amz-security-token"] for request in server.requests} == {"t" if key == "OTHER" else None}


def test_the_files_in_the_home_directory(backend, server, environ, monkeypatch, tmp_path):
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.delenv(name)
    (tmp_path / ".aws").mkdir()
    (tmp_path / ".aws" / "credentials").write_text("[default]\naws_access_key_id=HOME\naws_secret_access_key=s\n")
    environ(HOME=str(tmp_path), AWS_ENDPOINT_URL=server.endpoint_url)
    read(backend)
    assert server.keys == {"HOME"}


def test_a_variable_wins_over_the_profiles_endpoint(backend, server, environ, aws_files):
    aws_files(**{name: text.replace("{0}", "http://127.0.0.1:1") for name, text in PROFILES.items()})
    environ(AWS_ENDPOINT_URL=server.endpoint_url, AWS_PROFILE="other")
    read(backend)
    assert server.keys == {"OTHER"}


def test_configured_endpoints_can_be_ignored(environ, aws_files):
    aws_files(**{name: text.replace("{0}", "http://127.0.0.1:1") for name, text in PROFILES.items()})
    environ(
        AWS_ENDPOINT_URL="http://127.0.0.1:2",
        AWS_ENDPOINT_URL_S3="http://127.0.0.1:3",
        AWS_IGNORE_CONFIGURED_ENDPOINT_URLS="true",
        AWS_REGION="eu-west-1",
    )
    options = StorageOptions.from_env("s3")
    assert options.endpoint_url is None
    # obstore must not find them by itself, either
    config = make_client(Uri.parse("s3://bucket"), options).config
    assert {value for name, value in config.items() if "endpoint" in name} == {
        "https://bucket.s3.eu-west-1.amazonaws.com"
    }
    dotted = make_client(Uri.parse("s3://a.bucket"), options).config
    assert {value for name, value in dotted.items() if "endpoint" in name} == {"https://s3.eu-west-1.amazonaws.com"}


def process(tmp_path, text, code=0):
    script = tmp_path / "process"
    script.write_text(f"#!/bin/sh\necho run >> {tmp_path / 'runs'}\ncat <<'END'\n{text}\nEND\nexit {code}\n")
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return f"[default]\ncredential_process = '{script}' --account x\n"


def test_credential_process(backend, server, environ, aws_files, tmp_path):
    said = {
        "Version": 1,
        "AccessKeyId": "FROMPROCESS",
        "SecretAccessKey": "s",
        "SessionToken": "t",
        "Expiration": "2999-01-01T00:00:00Z",
    }
    aws_files(config=process(tmp_path, json.dumps(said)))
    environ(AWS_ENDPOINT_URL=server.endpoint_url)
    with open_store("s3://bucket", backend=backend) as store:
        assert not (tmp_path / "runs").exists(), "opening runs nothing"
        store.get("key")
        store.get("key")
    assert server.keys == {"FROMPROCESS"}
    assert (tmp_path / "runs").read_text() == "run\n", "once"


@pytest.mark.parametrize(
    ("text", "code", "why"),
    [
        ("{}", 0, "something else"),
        ("no json", 0, "something else"),
        ("", 3, "ended with 3"),
        ('{"Version": 2}', 0, "else"),
    ],
)
def test_a_credential_process_that_fails(backend, server, environ, aws_files, tmp_path, text, code, why):
    aws_files(config=process(tmp_path, text, code))
    environ(AWS_ENDPOINT_URL=server.endpoint_url)
    with pytest.raises(AccessError, match=f"credential_process.*{why}.*Run it in a shell"):
        read(backend)
    assert server.requests == []


def test_a_profile_that_only_the_aws_command_understands(aws_files):
    aws_files(config="[default]\nrole_arn=arn:aws:iam::1:role/x\nsource_profile=base\n")
    with pytest.raises(OptionError, match="aws configure export-credentials --profile default"):
        open_store("s3://bucket")
    open_store("s3://bucket", anonymous=True).close()


def test_no_credentials_and_no_machine_to_ask(backend, server):
    with pytest.raises(AccessError, match="AWS_EC2_METADATA_DISABLED"):
        read(backend, endpoint_url=server.endpoint_url)
    assert server.requests == []


@pytest.fixture
def sts_url():
    """moto's security token service."""
    import threading

    from moto.moto_server.werkzeug_app import create_backend_app
    from werkzeug.serving import make_server

    with make_server("127.0.0.1", 0, create_backend_app("sts"), threaded=True) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.port}"
        running.shutdown()
        thread.join()


def test_web_identity(backend, server, environ, tmp_path, sts_url):
    (tmp_path / "token").write_text("a.b.c\n")
    environ(
        AWS_WEB_IDENTITY_TOKEN_FILE=str(tmp_path / "token"),
        AWS_ROLE_ARN="arn:aws:iam::123456789012:role/reader",
        AWS_ENDPOINT_URL_STS=sts_url,
        AWS_ENDPOINT_URL_S3=server.endpoint_url,
    )
    with open_store("s3://bucket", backend=backend) as store:
        store.get("key")
        store.get("key")
    (key,) = server.keys
    assert key.startswith("ASIA"), "of a temporary kind"
    assert len({request.headers["x-amz-security-token"] for request in server.requests} - {None}) == 1
    assert len({request.headers["x-amz-security-token"] for request in server.requests}) == 1


def test_web_identity_of_a_profile(backend, server, environ, aws_files, tmp_path, sts_url):
    (tmp_path / "token").write_text("a.b.c\n")
    aws_files(
        config=f"[profile pod]\nweb_identity_token_file={tmp_path / 'token'}\n"
        "role_arn=arn:aws:iam::123456789012:role/reader\nservices=mine\n"
        f"[services mine]\nsts =\n  endpoint_url={sts_url}\ns3=\n  endpoint_url={server.endpoint_url}\n"
    )
    read(backend, profile="pod")
    (key,) = server.keys
    assert key.startswith("ASIA")


def test_web_identity_that_is_refused(backend, server, environ, tmp_path):
    refusal = (
        b"<ErrorResponse><Error><Code>InvalidIdentityToken</Code><Message>too old</Message></Error></ErrorResponse>"
    )
    (tmp_path / "token").write_text("thetoken")
    with RecordingServer(lambda _: (400, refusal)) as sts:
        environ(
            AWS_WEB_IDENTITY_TOKEN_FILE=str(tmp_path / "token"),
            AWS_ROLE_ARN="arn:role",
            AWS_ENDPOINT_URL_STS=sts.endpoint_url,
            AWS_ENDPOINT_URL=server.endpoint_url,
        )
        with pytest.raises(AccessError, match="HTTP 400 InvalidIdentityToken too old") as caught:
            read(backend)
        assert "thetoken" not in str(caught.value)
        (tmp_path / "token").unlink()
        with pytest.raises(AccessError, match="no token in"):
            read(backend)
    assert server.requests == []


@pytest.mark.parametrize(
    ("variables", "engine"),
    [
        ({}, "native"),
        ({"S3DLIO_BACKEND": "arrow"}, "arrow"),
        ({"S3DLIO_USE_OPTIMIZED_HTTP": "false"}, "arrow"),
        ({"S3DLIO_USE_OPTIMIZED_HTTP": "On"}, "native"),
        ({"S3DLIO_USE_OPTIMIZED_HTTP": "0", "S3DLIO_BACKEND": "native"}, "native"),
    ],
)
def test_the_engine(server, environ, variables, engine):
    environ(**variables)
    keys = {"access_key_id": "K", "secret_access_key": "s"}
    with open_store("s3://bucket", endpoint_url=server.endpoint_url, **keys) as store:
        store.get("key")
    # The arrow engine's SDK looks before it reads.
    assert [request.method for request in server.requests] == (["GET"] if engine == "native" else ["HEAD", "GET"])


def test_attempts(backend, environ):
    environ(AWS_MAX_ATTEMPTS="2", AWS_ACCESS_KEY_ID="K", AWS_SECRET_ACCESS_KEY="s")
    with (
        RecordingServer(lambda _: (503, b"")) as server,
        pytest.raises(StorageError) as caught,
        open_store("s3://bucket", backend=backend, endpoint_url=server.endpoint_url) as store,
    ):
        store.get("key")
    assert len(server.requests) == 2
    assert caught.value.attempts == 2


@pytest.mark.parametrize(("variables", "shares"), [({}, {4}), ({"S3DLIO_BALANCE": "rank", "RANK": "1"}, {0, 8})])
def test_several_endpoints(backend, server, environ, variables, shares):
    environ(AWS_ACCESS_KEY_ID="K", AWS_SECRET_ACCESS_KEY="s", AWS_ENDPOINT_URL="http://127.0.0.1:1", **variables)
    with RecordingServer() as other:
        environ(S3DLIO_ENDPOINT_URLS=f"{other.endpoint_url},{server.endpoint_url}")
        with open_store("s3://bucket", backend=backend) as store:
            for _ in range(8):
                store.get("key")
    gets = [[r for r in each.requests if r.method == "GET"] for each in (other, server)]
    assert {len(requests) for requests in gets} == shares


def test_a_provider_is_asked_once_and_not_before_it_is_needed(backend, server):
    asked = []

    def provider():
        asked.append(1)
        return Credentials(access_key_id="PROVIDED", secret_access_key="s", session_token="t")

    with open_store(
        "s3://bucket", backend=backend, endpoint_url=server.endpoint_url, credential_provider=provider
    ) as store:
        assert asked == []
        store.get("key")
        store.get("key")
    assert server.keys == {"PROVIDED"}
    assert asked == [1]
