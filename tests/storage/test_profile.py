import pytest

from s3dlio.errors import OptionError
from s3dlio.storage import StorageOptions
from s3dlio.storage.profile import read_profile


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
    assert read_profile(home) == {"access_key_id": "a", "secret_access_key": "b", "region": "r1"}


def test_named_profile(home):
    found = StorageOptions.from_env("s3", {**home, "AWS_PROFILE": "other"})
    assert found == StorageOptions(
        access_key_id="c", secret_access_key="d%d", session_token="e", region="r2", endpoint_url="http://h:1"
    )


def test_variables_win_over_profiles(home):
    keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
    assert StorageOptions.from_env("s3", {**home, **keys}).region is None, "a profile belongs to its own keys"
    assert StorageOptions.from_env("s3", {**home, "AWS_REGION": "z"}).region == "z"
    assert StorageOptions.from_env("s3", home, anonymous=True).access_key_id is None


def test_other_files(home, tmp_path):
    path = tmp_path / "elsewhere"
    path.write_text("[default]\naws_access_key_id = q\naws_secret_access_key = w\n")
    assert read_profile({**home, "AWS_SHARED_CREDENTIALS_FILE": str(path)})["access_key_id"] == "q"


def test_no_files(tmp_path):
    assert read_profile({"HOME": str(tmp_path)}) == {}
    assert read_profile({}) == {}
    assert read_profile({"AWS_SHARED_CREDENTIALS_FILE": "/dev/null", "AWS_CONFIG_FILE": "/dev/null"}) == {}


def test_a_file_of_another_format(home, tmp_path):
    (tmp_path / ".aws" / "credentials").write_text("no section\n")
    with pytest.raises(OptionError, match="credentials: not an AWS profile file"):
        read_profile(home)
