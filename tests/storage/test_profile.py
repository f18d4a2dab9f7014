import traceback

import pytest

from s3dlio.errors import AccessError, OptionError
from s3dlio.storage import StorageOptions
from s3dlio.storage.configuration.profile import ProfileCredentials, read_profile


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / ".aws"
    folder.mkdir()
    (folder / "credentials").write_text(
        "[default]\naws_access_key_id = a\naws_secret_access_key = b\n"
        "[other]\naws_access_key_id = c\naws_secret_access_key = d%d\naws_session_token = e\n"
    )
    (folder / "config").write_text(
        "[default]\nregion = r1\n[profile other]\nregion = r2\nendpoint_url = http://h:1\noutput = json\n"
    )
    return {"HOME": str(tmp_path)}


def test_default_profile(home):
    found = StorageOptions.from_env("s3", home)
    assert (found.access_key_id, found.secret_access_key, found.session_token, found.region) == ("a", "b", None, "r1")


def test_named_profile(home, tmp_path):
    found = StorageOptions.from_env("s3", {**home, "AWS_PROFILE": "other"})
    folder = tmp_path / ".aws"
    assert found == StorageOptions(
        access_key_id="c",
        secret_access_key="d%d",
        session_token="e",
        region="r2",
        endpoint_url="http://h:1",
        credential_provider=ProfileCredentials("other", str(folder / "config"), str(folder / "credentials")),
    )
    assert StorageOptions.from_env("s3", home, profile="other") == found


def test_what_wins_over_profiles(home):
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
    found = StorageOptions.from_env("s3", {**home, **keys})
    assert (found.access_key_id, found.region) == ("x", "r1"), "as the aws command does"
    assert StorageOptions.from_env("s3", {**home, **keys, "AWS_REGION": "z"}).region == "z"
    assert StorageOptions.from_env("s3", {**home, **keys}, profile="other").access_key_id == "c"
    assert StorageOptions.from_env("s3", home, anonymous=True).access_key_id is None
    given = StorageOptions.from_env("s3", {**home, "AWS_PROFILE": "other"}, access_key_id="x", secret_access_key="y")
    assert (given.access_key_id, given.session_token, given.credential_provider) == ("x", None, None)


def test_other_files(home, tmp_path):
    path = tmp_path / "elsewhere"
    path.write_text("[default]\naws_access_key_id = q\naws_secret_access_key = w\n")
    environ = {**home, "AWS_SHARED_CREDENTIALS_FILE": "~/elsewhere"}
    assert read_profile(environ).static.access_key_id == "q"


def test_keys_of_the_two_files_do_not_mix(home, tmp_path):
    (tmp_path / ".aws" / "config").write_text(
        "[default]\naws_access_key_id = x\naws_secret_access_key = y\naws_session_token = z\n"
    )
    assert read_profile(home).static.session_token is None
    (tmp_path / ".aws" / "credentials").unlink()
    assert read_profile(home).static.session_token == "z"


def test_services_and_nested_settings(home, tmp_path):
    (tmp_path / ".aws" / "config").write_text(
        "[profile other]\nendpoint_url = http://all\nservices = my servers\ns3 =\n    addressing_style = virtual\n"
        "max_attempts = 9\nca_bundle = /ca.pem\nrequest_checksum_calculation = when_supported\n"
        "[services my servers]\ns3 =\n    endpoint_url = http://s3\nother =\n    endpoint_url = http://x\n"
    )
    profile = read_profile(home, "other")
    assert (profile.endpoint_url("s3"), profile.endpoint_url("sts")) == ("http://s3", "http://all")
    found = StorageOptions.from_env("s3", home, profile="other")
    assert (found.endpoint_url, found.addressing, found.max_attempts) == ("http://s3", "virtual", 9)
    assert (found.ca_bundle, found.request_checksum) == ("/ca.pem", "when_supported")


def test_no_files(tmp_path):
    nowhere = {"AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_CONFIG_FILE": "/dev/null"}
    for environ in ({"HOME": str(tmp_path)}, {}, nowhere):
        profile = read_profile(environ)
        assert (profile.name, profile.settings, profile.static) == ("default", {}, None)


def test_a_profile_that_is_not_there(home):
    for environ, name in ((home, "nobody"), ({**home, "AWS_PROFILE": "nobody"}, None)):
        with pytest.raises(OptionError, match=r"profile 'nobody': it is neither in .*config nor in .*credentials"):
            read_profile(environ, name)


def test_a_profile_without_credentials(home, tmp_path):
    (tmp_path / ".aws" / "config").write_text("[profile bare]\nregion = r\n")
    assert StorageOptions.from_env("s3", {**home, "AWS_PROFILE": "bare"}).region == "r", "the machine may have some"
    with pytest.raises(OptionError, match="profile 'bare': found no credentials in it"):
        StorageOptions.from_env("s3", home, profile="bare")


@pytest.mark.parametrize("setting", ["sso_session = x", "sso_start_url = http://x", "role_arn = x\nsource_profile = y"])
def test_credentials_that_only_the_aws_command_gets(home, tmp_path, setting):
    (tmp_path / ".aws" / "config").write_text(f"[profile far]\n{setting}\n")
    with pytest.raises(OptionError, match=r"credential_process = aws configure export-credentials --profile far"):
        StorageOptions.from_env("s3", home, profile="far")
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
    assert StorageOptions.from_env("s3", {**home, **keys, "AWS_PROFILE": "far"}).access_key_id == "x"


def test_a_credential_process_that_is_no_command_line(home, tmp_path):
    (tmp_path / ".aws" / "config").write_text("[profile p]\ncredential_process = get 'half\n")
    found = StorageOptions.from_env("s3", home, profile="p")
    with pytest.raises(OptionError, match=r"profile 'p': its credential_process cannot be split .*Mend the quotes"):
        found.credential_provider()


def test_a_credential_process_whose_key_has_a_line_break(home, tmp_path):
    (tmp_path / ".aws" / "keys").write_text(
        '{"Version": 1, "AccessKeyId": "id", "SecretAccessKey": "hidden\\n", "SessionToken": "hidden"}'
    )
    (tmp_path / ".aws" / "config").write_text(f"[profile p]\ncredential_process = cat {tmp_path}/.aws/keys\n")
    found = StorageOptions.from_env("s3", home, profile="p")
    with pytest.raises(AccessError, match=r"'cat' gave unusable credentials: secret_.* a line break") as caught:
        found.credential_provider()
    assert "hidden" not in "".join(traceback.format_exception(caught.value))


def test_what_a_process_prints_is_not_in_the_traceback(home, tmp_path):
    (tmp_path / ".aws" / "config").write_text(
        '[profile p]\ncredential_process = echo \'{"SecretAccessKey": "hidden", \'\n'
    )
    with pytest.raises(AccessError, match="said something else") as caught:
        StorageOptions.from_env("s3", home, profile="p").credential_provider()
    assert caught.value.__cause__ is None
    assert "hidden" not in str(caught.value)


def test_a_file_of_another_format(home, tmp_path):
    (tmp_path / ".aws" / "credentials").write_text("no section\n")
    with pytest.raises(OptionError, match="credentials: not an AWS profile file"):
        read_profile(home)


def test_nothing_secret_is_shown(home):
    profile = read_profile(home, "other")
    assert "d%d" not in repr(profile)
    assert "d%d" not in repr(profile.provider("https://sts", None))
