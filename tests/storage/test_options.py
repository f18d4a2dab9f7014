import datetime as dt
import functools
import pickle
import traceback
from pathlib import Path

import pytest

from s3dlio.errors import OptionError
from s3dlio.storage import StorageOptions
from s3dlio.storage.configuration.credentials import Credentials

AWS_FIELDS = {"access_key_id", "secret_access_key", "session_token"}
AWS = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "hidden", "AWS_REGION": "eu-west-1"}


def test_defaults_reach_aws_unsigned_by_options():
    options = StorageOptions.from_env("s3", {})
    assert options == StorageOptions()


def test_s3_variables():
    found = StorageOptions.from_env("s3", {**AWS, "AWS_SESSION_TOKEN": "t", "AWS_ENDPOINT_URL": "http://h:1"})
    assert found == StorageOptions(
        access_key_id="id",
        secret_access_key="hidden",
        session_token="t",
        region="eu-west-1",
        endpoint_url="http://h:1",
    )


def test_the_more_special_variable_wins():
    environ = {
        "AWS_ENDPOINT_URL": "http://general",
        "AWS_ENDPOINT_URL_S3": "http://special",
        "AWS_REGION": "",
        "AWS_DEFAULT_REGION": "ap-south-1",
    }
    found = StorageOptions.from_env("s3", environ)
    assert found.endpoint_url == "http://special"
    assert found.region == "ap-south-1", "an empty variable counts as not set"


def test_azure_variables():
    environ = {
        "AZURE_STORAGE_ACCOUNT_NAME": "acc",
        "AZURE_STORAGE_ACCOUNT_KEY": "a2V5",
        "AZURE_STORAGE_ENDPOINT": "http://127.0.0.1:10000/acc",
    }
    found = StorageOptions.from_env("az", environ)
    assert found == StorageOptions(account_name="acc", account_key="a2V5", endpoint_url="http://127.0.0.1:10000/acc")


def test_azure_connection_string():
    text = "DefaultEndpointsProtocol=http;AccountName=acc;AccountKey=a2V5PQ==;BlobEndpoint=http://h:1/acc;"
    found = StorageOptions.from_env("az", {"AZURE_STORAGE_CONNECTION_STRING": text})
    assert (found.account_name, found.account_key, found.endpoint_url) == ("acc", "a2V5PQ==", "http://h:1/acc")
    with pytest.raises(OptionError, match="has the key of account 'acc', expected that of 'x'"):
        StorageOptions.from_env("az", {"AZURE_STORAGE_CONNECTION_STRING": text}, account_name="x")
    signed = "AccountName=acc;SharedAccessSignature=sig"
    with pytest.raises(OptionError, match="has the signature of account 'acc', expected that of 'x'"):
        StorageOptions(connection_string=signed, account_name="x")
    own_domain = StorageOptions(connection_string="BlobEndpoint=https://h;SharedAccessSignature=sig", account_name="x")
    assert (own_domain.account_name, own_domain.endpoint_url, own_domain.sas_token) == ("x", "https://h", "sig")
    given = StorageOptions(connection_string=text, account_name="x", account_key="b3RoZXI=")
    assert (given.account_name, given.account_key) == ("x", "b3RoZXI=")
    with pytest.raises(OptionError, match=r"connection_string") as caught:
        StorageOptions(connection_string="nonsense=secret1")
    assert "secret1" not in str(caught.value)


def test_what_is_given_wins_over_a_connection_string():
    text = "AccountName=acc;AccountKey=a2V5;BlobEndpoint=http://h:1/acc"
    found = StorageOptions(connection_string=text, sas_token="mine")
    assert (found.account_name, found.account_key, found.sas_token) == ("acc", None, "mine")
    found = StorageOptions(connection_string=text, endpoint_urls=["http://a", "http://b"])
    assert (found.endpoint_url, found.endpoint_urls) == (None, ("http://a", "http://b"))
    found = StorageOptions(connection_string=text, endpoint_url="http://b{1...2}")
    assert (found.endpoint_url, found.endpoint_urls) == (None, ("http://b1", "http://b2"))
    for endpoint in ("h:1/acc", "http://name:hidden@h/acc", "http://[h"):
        with pytest.raises(OptionError, match="endpoint_url is ") as caught:
            StorageOptions(connection_string=text.replace("http://h:1/acc", endpoint))
        assert "hidden" not in str(caught.value)


def test_schemes_read_their_own_variables():
    both = {**AWS, "AZURE_STORAGE_ACCOUNT": "acc", "STORAGE_EMULATOR_HOST": "http://g:1"}
    assert StorageOptions.from_env("az", both) == StorageOptions(account_name="acc")
    assert StorageOptions.from_env("gs", both) == StorageOptions(endpoint_url="http://g:1", anonymous=True)
    assert StorageOptions.from_env("file", both) == StorageOptions()


def test_overrides_win():
    found = StorageOptions.from_env("s3", {**AWS, "S3DLIO_BACKEND": "arrow"}, backend="native", region="r")
    assert (found.backend, found.region, found.access_key_id) == ("native", "r", "id")


def test_backend_variable():
    assert StorageOptions.from_env("s3", {"S3DLIO_BACKEND": "arrow"}).backend == "arrow"
    with pytest.raises(OptionError, match=r"'rust'.*native"):
        StorageOptions.from_env("s3", {"S3DLIO_BACKEND": "rust"})
    assert StorageOptions.from_env("memory", {"S3DLIO_BACKEND": "rust"}).backend is None


def test_unknown_variable_is_warned_about():
    with pytest.warns(UserWarning, match=r"S3DLIO_BACKENT is not read.*S3DLIO_BACKEND"):
        StorageOptions.from_env("s3", {"S3DLIO_BACKENT": "arrow"})


def test_no_option_is_taken_for_an_argument():
    for name in ("scheme", "environ"):
        with pytest.raises(OptionError, match=f"unknown option '{name}'"):
            StorageOptions.from_env("s3", {}, **{name: {}})


def test_a_profile_is_for_s3_alone():
    for scheme in ("file", "memory", "https", "az", "gs"):
        assert StorageOptions.from_env(scheme, {}, profile="any") == StorageOptions()


def test_unknown_option():
    with pytest.raises(OptionError, match=r"unknown option 'endpoint'.*region.*Did you mean 'endpoint_url'") as caught:
        StorageOptions.from_env("s3", {}, endpoint="http://x")
    assert caught.value.field == "endpoint"
    with pytest.raises(OptionError, match=r"unknown option"):
        StorageOptions().replace(nonsense=1)


NAIVE = dt.datetime(2999, 1, 1)  # noqa: DTZ001 - without a zone on purpose


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("backend", {"backend": "rust"}),
        ("addressing", {"addressing": "host"}),
        ("balance", {"balance": "random"}),
        ("balance", {"balance": None}),
        ("request_checksum", {"request_checksum": "always"}),
        ("max_attempts", {"max_attempts": 0}),
        ("max_attempts", {"max_attempts": 1.5}),
        ("max_attempts", {"max_attempts": True}),
        ("connect_timeout_s", {"connect_timeout_s": 0}),
        ("connect_timeout_s", {"connect_timeout_s": "5"}),
        ("read_timeout_s", {"read_timeout_s": -1}),
        ("retry_deadline_s", {"retry_deadline_s": float("nan")}),
        ("retry_deadline_s", {"retry_deadline_s": None}),
        ("retry_deadline_s", {"retry_deadline_s": float("inf")}),
        ("read_timeout_s", {"read_timeout_s": float("inf")}),
        ("connect_timeout_s", {"connect_timeout_s": 1e12}),
        ("hedge_percentile", {"hedge_percentile": 0}),
        ("hedge_percentile", {"hedge_percentile": 100}),
        ("hedge_percentile", {"hedge_percentile": "95"}),
        ("endpoint_rank", {"endpoint_rank": -1}),
        ("endpoint_rank", {"endpoint_rank": "0"}),
        ("region", {"region": 1}),
        ("account_key", {"account_key": b"key"}),
        ("anonymous", {"anonymous": "yes"}),
        ("anonymous", {"anonymous": None}),
        ("allow_http", {"allow_http": 1}),
        ("direct_fallback", {"direct_fallback": "no"}),
        ("ca_bundle", {"ca_bundle": b"PEM"}),
        ("service_account_file", {"service_account_file": 3}),
        ("service_account_file", {"service_account_file": '{"private_key": "hidden"}'}),
        ("secret_access_key", {"access_key_id": "a"}),
        ("access_key_id", {"secret_access_key": "a"}),
        ("session_token", {"session_token": "hidden"}),
        ("credentials_expire_at", {"credentials_expire_at": NAIVE}),
        ("credentials_expire_at", {"credentials_expire_at": "tomorrow"}),
        ("credential_provider", {"credential_provider": "me"}),
        ("sas_token", {"account_key": "a", "sas_token": "b"}),
        ("profile", {"profile": "mine"}),
        ("endpoint_url", {"endpoint_url": "localhost:9000"}),
        ("endpoint_url", {"endpoint_url": 9000}),
        ("endpoint_url", {"endpoint_url": "http://name:hidden@h"}),
        ("endpoint_url", {"endpoint_url": "http://h", "allow_http": False}),
        ("endpoint_url", {"endpoint_url": "http://"}),
        ("endpoint_url", {"endpoint_url": "http://[::1"}),
        ("endpoint_url", {"endpoint_url": "http://h:port"}),
        ("endpoint_url", {"endpoint_url": "https://h/?sv=1&sig=hidden"}),
        ("endpoint_url", {"endpoint_url": "s3://name:hidden@h"}),
        ("endpoint_url", {"endpoint_url": "name:hidden@h"}),
        ("endpoint_url", {"endpoint_url": "http://name:hidden/word@h"}),
        ("endpoint_url", {"endpoint_url": "http://name:word/hidden@h"}),
        ("endpoint_urls", {"endpoint_urls": ["ftp://h"]}),
        ("endpoint_urls", {"endpoint_urls": ["http://name:hidden@h{1..3}"]}),
        ("endpoint_urls", {"endpoint_urls": ["https://h/?sig=hidden"]}),
        ("endpoint_urls", {"endpoint_urls": ["name:hidden@h"]}),
        ("endpoint_urls", {"endpoint_urls": ["http://name:hidden/word@h{1...2}"]}),
        ("endpoint_urls", {"endpoint_urls": ["http://h", 3]}),
        ("endpoint_urls", {"endpoint_urls": 3}),
        ("endpoint_urls", {"endpoint_url": "http://name:hidden@h", "endpoint_urls": ["http://h"]}),
        ("endpoint_urls", {"endpoint_urls": ["http://h"], "allow_http": False}),
        ("endpoint_urls", {"endpoint_url": "http://h", "endpoint_urls": ["http://h"]}),
    ],
)
def test_illegal_values(field, values):
    with pytest.raises(OptionError) as caught:
        StorageOptions(**values)
    assert caught.value.field == field
    assert field in str(caught.value) or str(caught.value).startswith("endpoints: ")
    assert "hidden" not in "".join(traceback.format_exception(caught.value, limit=0))


def test_paths_become_text():
    options = StorageOptions(ca_bundle=Path("/a/b.pem"), service_account_file=Path("c.json"))
    assert (options.ca_bundle, options.service_account_file) == ("/a/b.pem", "c.json")


def test_several_endpoints():
    found = ("http://h1:9", "http://h2:9")
    assert StorageOptions(endpoint_urls="http://h{1...2}:9").endpoint_urls == found
    assert StorageOptions(endpoint_urls=[*found]).endpoint_urls == found
    moved = StorageOptions(endpoint_url="http://h1:9,http://h2:9")
    assert (moved.endpoint_url, moved.endpoint_urls) == (None, found)
    one = moved.replace(endpoint_url=found[1], endpoint_urls=())
    assert (one.endpoint_url, one.endpoint_urls) == (found[1], ())


def test_secrets_are_masked():
    def provider():
        """Nothing."""

    many = StorageOptions(
        access_key_id="SECRET1",
        secret_access_key="SECRET2",
        session_token="SECRET3",
        account_key="SECRET4",
        credential_provider=functools.partial(provider, "SECRET7"),
        region="shown",
    )
    for options in (
        many,
        StorageOptions(sas_token="SECRET5"),
        StorageOptions(connection_string="AccountName=a;AccountKey=SECRET6"),
    ):
        assert "SECRET" not in repr(options)
        assert "SECRET" not in str(options)
    assert "region='shown'" in repr(many)
    assert "credential_provider=partial" in repr(many)
    with pytest.raises(OptionError) as caught:
        StorageOptions(secret_access_key=["SECRET8"])
    assert "SECRET" not in str(caught.value)


def test_pickle():
    options = StorageOptions(region="r", backend="arrow")
    assert pickle.loads(pickle.dumps(options)) == options


@pytest.mark.parametrize("value", ["us-east-1\n", "a\tb", "\0", "x\x7f"])
@pytest.mark.parametrize(
    "field", ["region", "access_key_id", "secret_access_key", "session_token", "account_key", "sas_token"]
)
def test_control_characters(field, value):
    """The last line break of a file, most of the time. obstore panics at it, in a header."""
    fields = {"access_key_id": "id", "secret_access_key": "s"} if field in AWS_FIELDS else {}
    where = "at its end" if value.endswith("\n") else "inside"
    with pytest.raises(OptionError, match=rf"{field} has a line break or .* {where}, expected none\. Check") as caught:
        StorageOptions(**{**fields, field: value})
    assert caught.value.field == field
    assert value not in str(caught.value)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("url", ["http://127.0.0.1:9000", "https://host/account"])
def test_a_line_break_after_an_endpoint(url, end):
    """obstore panics at it, too."""
    with pytest.raises(OptionError, match=r"endpoint_url has a line break .* at its end") as caught:
        StorageOptions(endpoint_url=url + end)
    assert caught.value.field == "endpoint_url"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("AccountName=a\nb;AccountKey=aGlkZGVu", "account_name"),
        ("AccountName=acc;AccountKey=aGlk\nZGVu", "account_key"),
        ("AccountName=acc;SharedAccessSignature=sv=1&sig=hid\nden", "sas_token"),
    ],
)
def test_a_line_break_inside_a_part_of_a_connection_string(text, field):
    with pytest.raises(OptionError, match=f"{field} has a line break .* inside") as caught:
        StorageOptions(connection_string=text)
    assert caught.value.field == field
    assert "den" not in str(caught.value)


def test_line_breaks_between_the_parts_of_a_connection_string():
    options = StorageOptions(connection_string="AccountName=acc;\n AccountKey=aGlkZGVu;\n")
    assert (options.account_name, options.account_key) == ("acc", "aGlkZGVu")


@pytest.mark.parametrize("region", ["us east 1", "eu/west", "süd", "a:1"])
def test_a_region_that_is_none(region):
    with pytest.raises(OptionError, match=r"region is '.*', expected a name such as us-east-1") as caught:
        StorageOptions(region=region)
    assert caught.value.field == "region"


@pytest.mark.parametrize("field", sorted(AWS_FIELDS))
def test_a_provider_whose_keys_are_no_text(field):
    with pytest.raises(OptionError, match=f"credentials: {field} is bytes, expected text") as caught:
        Credentials(**{"access_key_id": "id", "secret_access_key": "s", field: b"hidden"})
    assert "hidden" not in str(caught.value)


def test_control_characters_from_a_provider():
    with pytest.raises(OptionError, match=r"credentials: session_token has a line break .* at its end"):
        Credentials(access_key_id="id", secret_access_key="s", session_token="hidden\n")


def test_a_connection_string_may_end_in_a_line_break():
    options = StorageOptions(connection_string="AccountName=acc;AccountKey=a2V5PQ==\n")
    assert options.account_key == "a2V5PQ=="
